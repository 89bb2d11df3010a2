// The suite must fail for sources that are broken the way real ones were: one planted fault each.
#include "testing/source_contract.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

#include "source/files/fixture_for_tests.h"

namespace kuramori {
namespace {

// The right source of files; each broken one does one thing of it wrong.
class DelegatingCapture : public TreeCapture {
 public:
  explicit DelegatingCapture(std::unique_ptr<TreeCapture> inner) : inner_(std::move(inner)) {}
  Result<std::optional<CaptureItem>> next() override { return inner_->next(); }
  Result<void> complete(CaptureItem& item) override { return inner_->complete(item); }
  Result<void> read(CaptureItem& item, ContentSink& sink) override { return inner_->read(item, sink); }
  Result<void> finish() override { return inner_->finish(); }
  std::vector<Defect> defects() const override { return inner_->defects(); }
  std::map<std::string, std::string> facts() const override { return inner_->facts(); }

 protected:
  std::unique_ptr<TreeCapture> inner_;
};

class Delegating : public Source {
 public:
  explicit Delegating(std::unique_ptr<Source> inner) : inner_(std::move(inner)) {}
  bool is_files() const override { return inner_->is_files(); }
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return inner_->capture(reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return inner_->restore(tree, request, reporter, std::move(stop));
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    return inner_->drill(tree, sandbox, reporter, std::move(stop));
  }
  Result<std::vector<SourceFinding>> doctor() override { return inner_->doctor(); }

 protected:
  std::unique_ptr<Source> inner_;
};

// A source whose captures are of type `Capture`.
template <class Capture>
class Capturing : public Delegating {
 public:
  static constexpr std::string_view kCaughtAs = Capture::kCaughtAs;
  using Delegating::Delegating;
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    TRY_ASSIGN(std::unique_ptr<TreeCapture> inner, inner_->capture(reporter, std::move(stop)));
    return std::unique_ptr<TreeCapture>(new Capture(std::move(inner)));
  }
};

// --- captures ----------------------------------------------------------------------------------------

// Collects all entries, and gives them in the order that `arrange` makes.
class Rearranged : public DelegatingCapture {
 public:
  using DelegatingCapture::DelegatingCapture;
  virtual void arrange(std::deque<CaptureItem>& items) = 0;
  Result<std::optional<CaptureItem>> next() override {
    if (!collected_) {
      for (;;) {
        TRY_ASSIGN(std::optional<CaptureItem> item, inner_->next());
        if (!item) break;
        items_.push_back(std::move(*item));
      }
      collected_ = true;
      arrange(items_);
    }
    TRY(stopped());
    if (items_.empty()) return std::optional<CaptureItem>();
    std::optional<CaptureItem> item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

 private:
  // The walk below is at its end and still says whether the capture was stopped.
  Result<void> stopped() {
    Result<std::optional<CaptureItem>> end = inner_->next();
    if (!end) return end.error();
    return {};
  }
  bool collected_ = false;
  std::deque<CaptureItem> items_;
};

struct RightlyRearranged : Rearranged {
  using Rearranged::Rearranged;
  void arrange(std::deque<CaptureItem>&) override {}
};

struct OrdersByWholePaths : Rearranged {  // "a.b" before "a/b"
  static constexpr std::string_view kCaughtAs = "entries come in tree order";
  using Rearranged::Rearranged;
  void arrange(std::deque<CaptureItem>& items) override {
    std::ranges::sort(items, {}, [](const CaptureItem& item) { return item.entry.path; });
  }
};

struct ChildrenFirst : Rearranged {  // as rm -r would
  static constexpr std::string_view kCaughtAs = "a folder comes before what it holds";
  using Rearranged::Rearranged;
  void arrange(std::deque<CaptureItem>& items) override {
    auto folder = std::ranges::find(items, "a", [](const CaptureItem& item) { return item.entry.path; });
    auto end = std::find_if(folder, items.end(), [](const CaptureItem& item) {
      return item.entry.path != "a" && !item.entry.path.starts_with("a/");
    });
    std::rotate(folder, folder + 1, end);
  }
};

struct FoldersForgotten : Rearranged {
  static constexpr std::string_view kCaughtAs = "a folder comes before what it holds";
  using Rearranged::Rearranged;
  void arrange(std::deque<CaptureItem>& items) override {
    std::erase_if(items, [](const CaptureItem& item) { return item.entry.path == "a/b"; });
  }
};

struct GivesTwice : Rearranged {
  static constexpr std::string_view kCaughtAs = "an entry comes once";
  using Rearranged::Rearranged;
  void arrange(std::deque<CaptureItem>& items) override {
    auto pipe = std::ranges::find(items, "pipe", [](const CaptureItem& item) { return item.entry.path; });
    items.insert(pipe, CaptureItem(*pipe));
  }
};

struct SilentAboutTheUnreadable : DelegatingCapture {  // V13
  static constexpr std::string_view kCaughtAs = "what cannot be read is named a defect";
  using DelegatingCapture::DelegatingCapture;
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    Result<void> done = inner_->read(item, sink);
    if (!done && done.error().kind == ErrorKind::kPartial) return fail(ErrorKind::kNotFound, "gone");
    return done;
  }
  std::vector<Defect> defects() const override { return {}; }
};

struct Through : ContentSink {
  explicit Through(ContentSink& to) : sink(to) {}
  Result<void> add(ByteView bytes) override { return sink.add(bytes); }
  Result<void> add_hole(uint64_t bytes) override { return sink.add_hole(bytes); }
  Result<void> restart() override { return sink.restart(); }
  ContentSink& sink;
};

struct ReadsShort : DelegatingCapture {  // one read(2) that gave less than was asked for
  static constexpr std::string_view kCaughtAs =
      "a content that was not whole is read again or named a defect";
  struct FirstOnly : Through {
    using Through::Through;
    Result<void> add(ByteView bytes) override {
      const ByteView taken = bytes.first(std::min<size_t>(bytes.size(), given > 0 ? 0 : 4096));
      given += taken.size();
      return sink.add(taken);
    }
    Result<void> restart() override {
      given = 0;
      return sink.restart();
    }
    uint64_t given = 0;
  };
  using DelegatingCapture::DelegatingCapture;
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (item.entry.path == "sparse") return inner_->read(item, sink);
    FirstOnly first(sink);
    TRY(inner_->read(item, first));
    item.entry.size = first.given;
    return {};
  }
};

struct ForgetsToSayTheSize : DelegatingCapture {  // keeps the size of the first look
  static constexpr std::string_view kCaughtAs = "an entry's size is that of what was read";
  using DelegatingCapture::DelegatingCapture;
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    const uint64_t size = item.entry.size;
    TRY(inner_->read(item, sink));
    item.entry.size = size;
    return {};
  }
};

struct ReadsOnAfterAChange : DelegatingCapture {  // without restart(): half old, half new
  static constexpr std::string_view kCaughtAs =
      "a content that was not whole is read again or named a defect";
  struct NoRestart : Through {
    using Through::Through;
    Result<void> add(ByteView bytes) override {
      given += bytes.size();
      return sink.add(bytes);
    }
    Result<void> add_hole(uint64_t bytes) override {
      given += bytes;
      return sink.add_hole(bytes);
    }
    Result<void> restart() override { return {}; }
    uint64_t given = 0;
  };
  using DelegatingCapture::DelegatingCapture;
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    NoRestart all(sink);
    TRY(inner_->read(item, all));
    item.entry.size = all.given;
    return {};
  }
};

struct FactsWithNames : DelegatingCapture {
  static constexpr std::string_view kCaughtAs = "facts tell no name, path or content";
  using DelegatingCapture::DelegatingCapture;
  std::map<std::string, std::string> facts() const override {
    std::map<std::string, std::string> facts = inner_->facts();
    facts["largest"] = "a/salaries.txt";
    return facts;
  }
};

// --- sources -----------------------------------------------------------------------------------------

struct Right : Delegating {
  using Delegating::Delegating;
};

struct DeafToStop : Delegating {
  static constexpr std::string_view kCaughtAs = "a capture that was asked to stop stops";
  using Delegating::Delegating;
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token) override {
    return inner_->capture(reporter, {});
  }
};

struct SecondDiffers : Delegating {  // what the capture itself does shows in the next
  static constexpr std::string_view kCaughtAs = "what did not change is the same in two captures";
  struct Later : DelegatingCapture {
    using DelegatingCapture::DelegatingCapture;
    Result<std::optional<CaptureItem>> next() override {
      TRY_ASSIGN(std::optional<CaptureItem> item, inner_->next());
      if (item && item->entry.path == "pipe") item->entry.mtime_ns += number;
      return item;
    }
    int number = 0;
  };
  using Delegating::Delegating;
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    TRY_ASSIGN(std::unique_ptr<TreeCapture> inner, inner_->capture(reporter, std::move(stop)));
    auto later = std::make_unique<Later>(std::move(inner));
    later->number = ++captures;
    return std::unique_ptr<TreeCapture>(std::move(later));
  }
  int captures = 0;
};

struct EscapesItsTarget : Delegating {  // V27: goes where the paths of a tree and its links lead
  static constexpr std::string_view kCaughtAs = "no tree leads a restore out of its target";
  using Delegating::Delegating;
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    TRY_ASSIGN(std::optional<FileStatus> there, status_if_there(request.to));
    Result<SourceRestoreOutcome> outcome = inner_->restore(tree, request, reporter, stop);
    if (outcome || there || stop.stop_requested()) return outcome;
    (void)tree.visit([&](const TreeEntry& entry) -> Result<void> {
      const std::string path = join_path(request.to, entry.path);
      if (entry.type == EntryType::kDirectory) (void)::mkdir(path.c_str(), 0755);
      if (entry.type == EntryType::kSymlink) (void)::symlink(entry.link.c_str(), path.c_str());
      if (entry.type == EntryType::kFile) (void)open_file(path, O_WRONLY | O_CREAT);
      return {};
    });
    return outcome;
  }
};

struct RestoresOverWhatIsThere : Delegating {
  static constexpr std::string_view kCaughtAs = "a restore refuses a target that holds something";
  using Delegating::Delegating;
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    TRY(remove_tree(request.to));
    return inner_->restore(tree, request, reporter, std::move(stop));
  }
};

// Restores a tree of which every entry was `changed`.
template <auto change>
struct RestoresChanged : Delegating {
  static constexpr std::string_view kCaughtAs = "a restore gives back what was captured";
  struct Tree : CapturedTree {
    explicit Tree(const CapturedTree& to) : inner(to) {}
    Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
      return inner.visit([&](TreeEntry entry) {
        change(entry);
        return visit(entry);
      });
    }
    Result<void> read(std::string_view path, ContentSink& sink) const override {
      return inner.read(path, sink);
    }
    const std::map<std::string, std::string>& facts() const override { return inner.facts(); }
    const CapturedTree& inner;
  };
  using Delegating::Delegating;
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return inner_->restore(Tree(tree), request, reporter, std::move(stop));
  }
};
using LosesAttributes = RestoresChanged<[](TreeEntry& entry) { entry.attributes.clear(); }>;
using LosesModes = RestoresChanged<[](TreeEntry& entry) { entry.mode &= 0777; }>;
using LosesOwners = RestoresChanged<[](TreeEntry& entry) { entry.uid = 0; }>;
using LosesTimes = RestoresChanged<[](TreeEntry& entry) { entry.mtime_ns -= entry.mtime_ns % 1000; }>;
using CopiesHardLinks = RestoresChanged<[](TreeEntry& entry) {
  if (entry.type == EntryType::kHardLink) entry.type = EntryType::kFile;
}>;

struct FailsDrills : Delegating {
  static constexpr std::string_view kCaughtAs = "a drill checks something";
  using Delegating::Delegating;
  Result<std::vector<CheckResult>> drill(const CapturedTree&, const std::string&, Reporter&,
                                         std::stop_token) override {
    return std::vector<CheckResult>();
  }
};

struct SeesProblemsEverywhere : Delegating {
  static constexpr std::string_view kCaughtAs = "doctor finds no problem where there is none";
  using Delegating::Delegating;
  Result<std::vector<SourceFinding>> doctor() override {
    return std::vector{SourceFinding{SourceFinding::Severity::kProblem, "paths", "something", "is", "wrong"}};
  }
};

// What the suite says of the right source made wrong.
template <class Broken>
std::vector<std::string> violations_of() {
  return check_source_contract([] {
    return std::make_unique<files::FilesFixture>(
        [](std::unique_ptr<Source> right) { return std::make_unique<Broken>(std::move(right)); });
  });
}

template <class Broken>
struct PlantedSource : testing::Test {};
using BrokenSources =
    testing::Types<Capturing<OrdersByWholePaths>, Capturing<ChildrenFirst>, Capturing<FoldersForgotten>,
                   Capturing<GivesTwice>, Capturing<SilentAboutTheUnreadable>, Capturing<ReadsShort>,
                   Capturing<ForgetsToSayTheSize>, Capturing<ReadsOnAfterAChange>, Capturing<FactsWithNames>,
                   DeafToStop, SecondDiffers, EscapesItsTarget, RestoresOverWhatIsThere, LosesAttributes,
                   LosesModes, LosesOwners, LosesTimes, CopiesHardLinks, FailsDrills, SeesProblemsEverywhere>;
TYPED_TEST_SUITE(PlantedSource, BrokenSources);

TYPED_TEST(PlantedSource, is_caught_by_the_contract_suite) {
  const std::vector<std::string> violations = violations_of<TypeParam>();
  EXPECT_TRUE(std::ranges::any_of(
      violations, [](const std::string& said) { return said.starts_with(TypeParam::kCaughtAs); }))
      << "not as \"" << TypeParam::kCaughtAs << "\", but with " << violations.size() << " others";
}

TEST(SourceContract, the_base_of_the_planted_sources_is_right) {
  EXPECT_EQ(violations_of<Right>(), std::vector<std::string>{});
  EXPECT_EQ(violations_of<Capturing<RightlyRearranged>>(), std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori
