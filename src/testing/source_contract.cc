#include "testing/source_contract.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

namespace kuramori {
namespace {

constexpr size_t kReaders = 4;
constexpr size_t kCallsMax = 400;  // of a capture that is stopped or changed at each of its calls in turn

// What one capture came to, as the engine would keep it.
struct Snapshot {
  MemoryTree tree;
  std::vector<Defect> defects;
  std::vector<std::string> left_out;  // deleted meanwhile, or kPartial
  std::optional<Error> error;
  size_t calls = 0;  // of next(), complete() and read()

  bool names(std::string_view path) const {
    return std::ranges::any_of(defects, [&](const Defect& defect) {
      return defect.path == path || defect.path.empty() || path.starts_with(defect.path + "/");
    });
  }
};

struct Taking {
  std::function<void(size_t call)> before_call;         // with the number of the call
  std::function<void(const TreeEntry&)> while_reading;  // when the first bytes of an entry came
  std::stop_source stop;
};

Snapshot take(SourceFixture& fixture, const Taking& taking = {}) {
  Snapshot snapshot;
  auto call = [&] {
    if (taking.before_call) taking.before_call(snapshot.calls);
    ++snapshot.calls;
  };
  // Whether it is to be kept.
  auto kept = [&](const TreeEntry& entry, const Result<void>& done) {
    if (done) return true;
    if (done.error().kind == ErrorKind::kPartial) {
      snapshot.defects.push_back({entry.path, done.error().why});
    } else if (done.error().kind != ErrorKind::kNotFound) {
      snapshot.error = done.error();
    }
    snapshot.left_out.push_back(entry.path);
    return false;
  };
  auto work = [&] {
    Result<std::unique_ptr<TreeCapture>> begun =
        fixture.source().capture(silent_reporter(), taking.stop.get_token());
    if (!begun) {
      snapshot.error = begun.error();
      return;
    }
    TreeCapture& capture = **begun;
    for (;;) {
      call();
      Result<std::optional<CaptureItem>> item = capture.next();
      if (!item) {
        snapshot.error = item.error();
        return;
      }
      if (!*item) break;
      call();
      Result<void> done = capture.complete(**item);
      MemoryTree::Node node;
      if (done && (*item)->entry.content == ContentKind::kBytes) {
        call();
        bool first = true;
        NodeSink sink(node, [&] {
          if (std::exchange(first, false) && taking.while_reading) taking.while_reading((*item)->entry);
        });
        done = capture.read(**item, sink);
      }
      const bool keep = kept((*item)->entry, done);
      if (snapshot.error) return;
      if (!keep) continue;
      node.entry = std::move((*item)->entry);
      snapshot.tree.nodes.push_back(std::move(node));
    }
    Result<void> finished = capture.finish();
    if (!finished) {
      snapshot.error = finished.error();
      return;
    }
    for (Defect& defect : capture.defects()) snapshot.defects.push_back(std::move(defect));
    snapshot.tree.told = capture.facts();
  };
  fixture.captured_by(work);
  return snapshot;
}

// The same by several threads, each reading what one thread meets.
Snapshot take_in_parallel(SourceFixture& fixture) {
  Snapshot snapshot;
  fixture.captured_by([&] {
    Result<std::unique_ptr<TreeCapture>> begun = fixture.source().capture(silent_reporter(), {});
    if (!begun) {
      snapshot.error = begun.error();
      return;
    }
    TreeCapture& capture = **begun;
    std::mutex mutex;
    std::map<size_t, MemoryTree::Node> nodes;
    size_t next = 0;
    {
      std::vector<std::jthread> readers;
      for (size_t i = 0; i < kReaders; ++i) {
        readers.emplace_back([&] {
          for (;;) {
            CaptureItem item;
            size_t number = 0;
            {
              std::lock_guard hold(mutex);
              if (snapshot.error) return;
              Result<std::optional<CaptureItem>> met = capture.next();
              if (!met) snapshot.error = met.error();
              if (!met || !*met) return;
              item = **std::move(met);
              number = next++;
            }
            MemoryTree::Node node;
            Result<void> done = capture.complete(item);
            NodeSink sink(node);
            if (done && item.entry.content == ContentKind::kBytes) done = capture.read(item, sink);
            node.entry = std::move(item.entry);
            std::lock_guard hold(mutex);
            if (!done) {
              snapshot.error = done.error();
              return;
            }
            nodes.emplace(number, std::move(node));
          }
        });
      }
    }
    if (snapshot.error) return;
    for (auto& [number, node] : nodes) snapshot.tree.nodes.push_back(std::move(node));
    if (Result<void> finished = capture.finish(); !finished) snapshot.error = finished.error();
  });
  return snapshot;
}

TreeEntry entry_of(EntryType type, std::string path, std::string link = {}) {
  return {.path = std::move(path),
          .type = type,
          .content = type == EntryType::kFile ? ContentKind::kBytes : ContentKind::kNone,
          .mode = 0755,
          .link = std::move(link)};
}

class Suite {
 public:
  explicit Suite(const SourceFixtureFactory& make_fixture) : make_fixture_(make_fixture) {}

  std::vector<std::string> run() {
    twice();
    in_parallel();
    stopped_at_every_call();
    changed_at_every_call();
    changed_while_read();
    unreadable();
    restored();
    occupied();
    hostile_trees();
    drilled();
    examined();
    return std::move(violations_);
  }

 private:
  // `what` says what the source must do. Each is said once.
  bool expect(bool holds, std::string what) {
    if (!holds && said_.insert(what).second) violations_.push_back(std::move(what));
    return holds;
  }
  bool whole(const Snapshot& snapshot, std::string_view what) {
    if (!snapshot.error) return true;
    return expect(
        false, fmt::format("{} (it said {}: {})", what, name_of(snapshot.error->kind), snapshot.error->what));
  }

  // What holds of every snapshot, whatever happened meanwhile.
  void check_shape(SourceFixture& fixture, const Snapshot& snapshot) {
    const std::string* before = nullptr;
    std::map<std::string, EntryType, std::less<>> met;
    for (const MemoryTree::Node& node : snapshot.tree.nodes) {
      const TreeEntry& entry = node.entry;
      expect(!entry.path.empty() || (before == nullptr && entry.type == EntryType::kDirectory),
             "the path \"\" is the first entry's alone, the root's");
      expect(before == nullptr || *before != entry.path, "an entry comes once");
      expect(before == nullptr || *before == entry.path || tree_order(*before, entry.path),
             "entries come in tree order");
      before = &entry.path;
      expect(plain(entry.path), fmt::format("a path has no empty, \".\" or \"..\" part"));
      if (size_t slash = entry.path.rfind('/'); slash != std::string::npos) {
        const std::string above = entry.path.substr(0, slash);
        const auto found = met.find(above);
        expect(
            (found != met.end() && found->second == EntryType::kDirectory) || was_left_out(snapshot, above),
            "a folder comes before what it holds");
      }
      if (entry.type == EntryType::kHardLink) {
        const auto first = met.find(entry.link);
        expect((first != met.end() && first->second != EntryType::kHardLink) ||
                   was_left_out(snapshot, entry.link),
               "a further name of a file comes after its first");
      }
      met.emplace(entry.path, entry.type);
      if (entry.content == ContentKind::kBytes) {
        expect(node.content.size() == entry.size, "an entry's size is that of what was read");
        expect(snapshot.names(entry.path) || fixture.was_ever(entry, node.content),
               "a content that was not whole is read again or named a defect");
      } else {
        expect(node.content.empty(), "only an entry with content is read");
      }
      expect((entry.content == ContentKind::kNone) || entry.type == EntryType::kFile,
             "only files have content");
    }
    for (const std::string& secret : fixture.secrets()) {
      for (const auto& [name, value] : snapshot.tree.told) {
        expect(name.find(secret) == std::string::npos && value.find(secret) == std::string::npos,
               "facts tell no name, path or content");
      }
    }
  }
  static bool was_left_out(const Snapshot& snapshot, const std::string& path) {
    return std::ranges::find(snapshot.left_out, path) != snapshot.left_out.end() || snapshot.names(path);
  }
  static bool plain(std::string_view path) {
    if (path.empty()) return true;
    for (;;) {
      const std::string_view part = path.substr(0, path.find('/'));
      if (part.empty() || part == "." || part == "..") return false;
      if (part.size() == path.size()) return true;
      path.remove_prefix(part.size() + 1);
    }
  }
  void expect_same(SourceFixture& fixture, const MemoryTree& a, const MemoryTree& b,
                   const std::string& what) {
    bool same = a.nodes.size() == b.nodes.size();
    for (size_t i = 0; same && i < a.nodes.size(); ++i) {
      MemoryTree::Node one = a.nodes[i], other = b.nodes[i];
      fixture.settle(one.entry, one.content);
      fixture.settle(other.entry, other.content);
      same = one.entry == other.entry && one.content == other.content;
    }
    expect(same, what);
  }

  void twice() {
    auto fixture = make_fixture_();
    const Snapshot first = take(*fixture), second = take(*fixture);
    if (!whole(first, "a capture succeeds") || !whole(second, "a second capture succeeds")) return;
    check_shape(*fixture, first);
    check_shape(*fixture, second);
    expect(!first.tree.nodes.empty(), "a resource with something in it has entries");
    expect(first.defects.empty(), "a resource that can be read has no defects");
    expect_same(*fixture, first.tree, second.tree, "what did not change is the same in two captures");
    expect(!first.tree.told.empty(), "a capture tells facts of itself");
  }

  void in_parallel() {
    auto fixture = make_fixture_();
    const Snapshot one = take(*fixture), several = take_in_parallel(*fixture);
    if (!whole(several, "several threads may read at once")) return;
    expect_same(*fixture, one.tree, several.tree, "several threads read what one reads");
  }

  void stopped_at_every_call() {
    auto fixture = make_fixture_();
    const Snapshot before = take(*fixture);
    if (!whole(before, "a capture succeeds")) return;
    for (size_t k = 0; k < std::min(before.calls, kCallsMax); ++k) {
      Taking taking;
      taking.before_call = [&](size_t number) {
        if (number == k) taking.stop.request_stop();
      };
      const Snapshot stopped = take(*fixture, taking);
      if (!expect(stopped.error.has_value(), "a capture that was asked to stop stops")) break;
      expect(stopped.error->kind == ErrorKind::kInterrupted, "a capture that was stopped says so");
    }
    const Snapshot after = take(*fixture);
    if (whole(after, "a capture after one that was stopped succeeds"))
      expect_same(*fixture, before.tree, after.tree,
                  "a capture that was stopped leaves the resource as it was");
  }

  void changed_at_every_call() {
    const size_t calls = take(*make_fixture_()).calls;
    for (size_t k = 1; k < std::min(calls, kCallsMax); ++k) {
      auto fixture = make_fixture_();
      Taking taking;
      taking.before_call = [&](size_t number) {
        if (number == k) fixture->change();
      };
      const Snapshot snapshot = take(*fixture, taking);
      if (snapshot.error) continue;  // it may refuse; what it gives must hold
      check_shape(*fixture, snapshot);
    }
  }

  void changed_while_read() {
    std::vector<std::string> paths;
    for (const MemoryTree::Node& node : take(*make_fixture_()).tree.nodes) {
      if (!node.content.empty()) paths.push_back(node.entry.path);
    }
    for (const std::string& path : paths) {
      for (const int changes : {1, 1000}) {  // once, and whenever it is read
        auto fixture = make_fixture_();
        int left = changes;
        Taking taking;
        taking.while_reading = [&](const TreeEntry& entry) {
          if (entry.path == path && left-- > 0) fixture->change();
        };
        const Snapshot snapshot = take(*fixture, taking);
        if (!snapshot.error) check_shape(*fixture, snapshot);
      }
    }
  }

  void unreadable() {
    auto fixture = make_fixture_();
    const Snapshot before = take(*fixture);
    const std::vector<std::string> lost = fixture->make_unreadable();
    if (lost.empty()) return;
    const Snapshot snapshot = take(*fixture);
    if (!whole(snapshot, "what cannot be read does not end the capture")) return;
    check_shape(*fixture, snapshot);
    for (const std::string& path : lost) {
      const bool there = snapshot.tree.find(path) != nullptr;
      expect(there || snapshot.names(path), "what cannot be read is named a defect");
    }
    expect(!snapshot.defects.empty(), "a capture that could not read all has defects");
    for (const MemoryTree::Node& node : before.tree.nodes) {
      expect(snapshot.tree.find(node.entry.path) != nullptr || snapshot.names(node.entry.path),
             "what can be read is there although something else cannot");
    }
    for (const Defect& defect : snapshot.defects) expect(!defect.why.empty(), "a defect says why");
  }

  void restored() {
    auto fixture = make_fixture_();
    const Snapshot snapshot = take(*fixture);
    if (!whole(snapshot, "a capture succeeds")) return;
    const std::string target = fixture->new_target();
    const std::string around = fixture->surroundings(target);
    Result<SourceRestoreOutcome> outcome =
        fixture->source().restore(snapshot.tree, {.to = target}, silent_reporter(), {});
    if (!outcome) {
      expect(false, fmt::format("a restore into something new succeeds (it said {}: {}: {})",
                                name_of(outcome.error().kind), outcome.error().what, outcome.error().why));
      return;
    }
    for (const std::string& difference : fixture->differences(target))
      expect(false, fmt::format("a restore gives back what was captured ({})", difference));
    expect(outcome->entries == snapshot.tree.nodes.size(), "a restore tells how many entries it restored");
    expect(fixture->surroundings(target) == around, "a restore writes its target and nothing else");
    std::stop_source stop;
    stop.request_stop();
    Result<SourceRestoreOutcome> stopped = fixture->source().restore(
        snapshot.tree, {.to = fixture->new_target()}, silent_reporter(), stop.get_token());
    expect(!stopped && stopped.error().kind == ErrorKind::kInterrupted,
           "a restore that was asked to stop stops");
  }

  void occupied() {
    auto fixture = make_fixture_();
    const Snapshot snapshot = take(*fixture);
    const std::string target = fixture->occupied_target();
    const std::string all = fixture->surroundings("");
    Result<SourceRestoreOutcome> outcome =
        fixture->source().restore(snapshot.tree, {.to = target}, silent_reporter(), {});
    if (expect(!outcome, "a restore refuses a target that holds something")) {
      expect(outcome.error().kind == ErrorKind::kRefused, "a target that holds something is a refusal");
      expect(!outcome.error().next.empty(), "a refusal says what to type next");
    }
    expect(fixture->surroundings("") == all, "a refused restore changes nothing");
  }

  // V27: no tree, however made, leads a restore out of its target.
  void hostile_trees() {
    auto fixture = make_fixture_();
    const std::string outside = fixture->outside();
    using Entries = std::vector<TreeEntry>;
    const auto file = [](std::string path) { return entry_of(EntryType::kFile, std::move(path)); };
    const auto folder = [](std::string path) { return entry_of(EntryType::kDirectory, std::move(path)); };
    const auto link = [](std::string path, std::string to) {
      return entry_of(EntryType::kSymlink, std::move(path), std::move(to));
    };
    std::vector<Entries> trees = {
        {file("../escaped")},
        {folder("a"), file("a/../../escaped")},
        {file("..")},
        {folder("a"), link("a/up", ".."), file("a/up/../escaped")},
        {folder("a"), folder("a/."), file("a/./../../escaped")},
        {entry_of(EntryType::kHardLink, "a", "../escaped")},
        {link("a", ".."), file("a/escaped")},
    };
    if (!outside.empty()) {
      trees.push_back({file(outside + "/escaped")});
      trees.push_back({link("a", outside), file("a/escaped")});
      trees.push_back({link("a", outside), folder("a/b"), file("a/b/escaped")});
      trees.push_back({folder("a"), link("a", outside), file("a/escaped")});
      trees.push_back({link("a", outside + "/escaped"), file("a")});
      trees.push_back({link("a", outside), folder("a")});
      trees.push_back({entry_of(EntryType::kHardLink, "a", outside + "/escaped")});
    }
    for (const Entries& entries : trees) {
      const std::string target = fixture->new_target();
      const std::string around = fixture->surroundings(target);
      MemoryTree tree;
      for (const TreeEntry& entry : entries) {
        MemoryTree::Node node{.entry = entry};
        if (entry.type == EntryType::kFile) node.content = "escaped", node.entry.size = node.content.size();
        tree.nodes.push_back(std::move(node));
      }
      (void)fixture->source().restore(tree, {.to = target}, silent_reporter(), {});
      expect(fixture->surroundings(target) == around, "no tree leads a restore out of its target");
    }
  }

  void drilled() {
    auto fixture = make_fixture_();
    const Snapshot snapshot = take(*fixture);
    if (!whole(snapshot, "a capture succeeds")) return;
    Result<std::vector<CheckResult>> checks =
        fixture->source().drill(snapshot.tree, fixture->sandbox(), silent_reporter(), {});
    if (!expect(checks.has_value(), "a drill of a good snapshot succeeds")) return;
    expect(!checks->empty(), "a drill checks something");
    for (const CheckResult& check : *checks) {
      expect(check.verdict == "passed" || check.verdict == "bounded" || check.verdict == "uncounted",
             fmt::format("the checks of a good snapshot pass ({}: {})", check.name, check.detail));
      expect(!check.name.empty() && !check.detail.empty(), "a check says what it is and what it saw");
    }
  }

  void examined() {
    auto fixture = make_fixture_();
    Result<std::vector<SourceFinding>> good = fixture->source().doctor();
    if (expect(good.has_value(), "doctor examines a good resource")) {
      expect(
          std::ranges::none_of(
              *good, [](const SourceFinding& f) { return f.severity == SourceFinding::Severity::kProblem; }),
          "doctor finds no problem where there is none");
    }
    std::unique_ptr<Source> broken = fixture->broken();
    Result<std::vector<SourceFinding>> findings = broken->doctor();
    if (expect(findings.has_value(), "doctor examines a resource that is not there")) {
      expect(std::ranges::any_of(
                 *findings,
                 [](const SourceFinding& f) { return f.severity == SourceFinding::Severity::kProblem; }),
             "doctor finds a problem where the resource is not there");
      for (const SourceFinding& finding : *findings) {
        expect(
            !finding.about.empty() && !finding.what.empty() && !finding.why.empty() && !finding.fix.empty(),
            "doctor says what is wrong, why, and what to type");
      }
    }
    Result<std::unique_ptr<TreeCapture>> capture = broken->capture(silent_reporter(), {});
    if (!capture) {
      expect(!capture.error().what.empty() && !capture.error().why.empty(),
             "a capture that fails says what and why");
      return;
    }
    bool ended = false;
    for (;;) {
      Result<std::optional<CaptureItem>> item = (*capture)->next();
      if (!item || !*item) {
        ended = !item;
        break;
      }
    }
    expect(ended || !(*capture)->finish() || !(*capture)->defects().empty(),
           "a resource that is not there is no empty snapshot");
  }

  const SourceFixtureFactory& make_fixture_;
  std::vector<std::string> violations_;
  std::set<std::string> said_;
};

}  // namespace

Result<void> MemoryTree::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  for (const Node& node : nodes) TRY(visit(node.entry));
  return {};
}

const MemoryTree::Node* MemoryTree::find(std::string_view path) const {
  auto found = std::ranges::find_if(nodes, [&](const Node& node) { return node.entry.path == path; });
  return found == nodes.end() ? nullptr : &*found;
}

Result<void> MemoryTree::read(std::string_view path, ContentSink& sink) const {
  const Node* node = find(path);
  if (node == nullptr) return fail(ErrorKind::kNotFound, fmt::format("\"{}\" is not in the tree", path));
  uint64_t at = 0;
  for (const auto& [offset, bytes] : node->holes) {
    TRY(sink.add(as_bytes(std::string_view(node->content).substr(at, offset - at))));
    TRY(sink.add_hole(bytes));
    at = offset + bytes;
  }
  return sink.add(as_bytes(std::string_view(node->content).substr(at)));
}

Result<void> NodeSink::add(ByteView bytes) {
  node_.content += as_text(bytes);
  if (on_bytes_) on_bytes_();
  return {};
}

Result<void> NodeSink::add_hole(uint64_t bytes) {
  node_.holes.emplace_back(node_.content.size(), bytes);
  node_.content.append(bytes, '\0');
  return {};
}

Result<void> NodeSink::restart() {
  node_.content.clear();
  node_.holes.clear();
  return {};
}

std::vector<std::string> check_source_contract(const SourceFixtureFactory& make_fixture) {
  return Suite(make_fixture).run();
}

}  // namespace kuramori
