#include "engine/mount.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <set>

#include "base/time_text.h"
#include "engine/backup_tree.h"
#include "engine/mounted_tree.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/thaw.h"
#include "os/file.h"
#include "os/fuse/fuse.h"
#include "vault/long_reading.h"

namespace kuramori {
namespace {

constexpr unsigned kTreeBits = 44;    // of a number: which of a tree's nodes; what is above says which tree
constexpr uint64_t kLatestLink = 2;   // the number of the link "latest"; no tree has it
constexpr size_t kOpenTreesMax = 12;  // snapshots that are open at once
constexpr size_t kWordsMax = 500;     // lines about what cannot be read
constexpr Duration kRetryFor = std::chrono::seconds(30);
constexpr Duration kRetryPause = std::chrono::milliseconds(500);
constexpr Duration kLookEvery = std::chrono::minutes(10);  // whether a session is to be renewed
constexpr std::string_view kLatest = "latest";
constexpr std::string_view kOwnFolder = ".kuramori";            // of a cluster's tree: what we say of it
constexpr std::string_view kConfigFolder = ".kuramori/config";  // and what was configured outside of it

uint64_t number_of(size_t tree, NodeId node) {
  return uint64_t{tree + 1} << kTreeBits | node;
}

mode_t type_bits(EntryType type) {
  switch (type) {
    case EntryType::kDirectory:
      return S_IFDIR;
    case EntryType::kFile:
    case EntryType::kHardLink:
      return S_IFREG;
    case EntryType::kSymlink:
      return S_IFLNK;
    case EntryType::kFifo:
      return S_IFIFO;
    case EntryType::kSocket:
      return S_IFSOCK;
    case EntryType::kCharDevice:
      return S_IFCHR;
    case EntryType::kBlockDevice:
      return S_IFBLK;
  }
  return S_IFREG;
}

timespec to_timespec(int64_t ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  int64_t seconds = ns / kSecond, rest = ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  return {.tv_sec = seconds, .tv_nsec = rest};
}

struct stat status_of(size_t tree, const MountedNode& node) {
  const TreeEntry& entry = node.entry();
  struct stat status{};
  status.st_ino = number_of(tree, node.id);
  status.st_mode = type_bits(entry.type) | (entry.mode & 07777u);
  if (entry.type == EntryType::kSymlink) status.st_mode = S_IFLNK | 0777u;
  status.st_nlink = node.links;
  status.st_uid = entry.uid;
  status.st_gid = entry.gid;
  status.st_rdev = entry.rdev;
  status.st_size = static_cast<off_t>(entry.type == EntryType::kSymlink ? entry.link.size() : entry.size);
  status.st_blksize = 4096;
  status.st_blocks = static_cast<blkcnt_t>((node.allocated() + 511) / 512);
  status.st_mtim = status.st_ctim = status.st_atim = to_timespec(entry.mtime_ns);
  return status;
}

// What the tree of a snapshot is shown as.
MountedTreeOptions shown_as(const Snapshot& snapshot, const SnapshotReader& reader) {
  const CommitRecord& commit = snapshot.commit;
  MountedTreeOptions options;
  options.bare_root = {.path = {},
                       .type = EntryType::kDirectory,
                       .mode = 0700,
                       .uid = ::getuid(),
                       .gid = ::getgid(),
                       .mtime_ns = commit.started_ns};
  if (reader.is_in_segments()) {
    options.root = kContentFolder;
    const auto links = commit.facts.find("hard_links");
    options.may_have_links = links == commit.facts.end() || links->second != "0";
    return options;
  }
  // A cluster: its data directory as it was captured, and its configuration if that lay elsewhere.
  options.may_have_links = false;
  const auto& nodes = reader.tree().nodes;
  bool has_config = false;
  for (const TreeNode& node : nodes) {
    if (node.entry.path == "PG_VERSION") {
      options.bare_root.uid = node.entry.uid;
      options.bare_root.gid = node.entry.gid;
    }
    has_config |= node.entry.path.starts_with(kConfigFolder);
  }
  options.shows = [has_config](const TreeEntry& entry) {
    const std::string& path = entry.path;
    const bool is_own =
        path == kOwnFolder || (path.starts_with(kOwnFolder) && path[kOwnFolder.size()] == '/');
    return !is_own || (has_config && (path == kOwnFolder || path.starts_with(kConfigFolder)));
  };
  return options;
}

// Answers FUSE from the snapshots of a vault.
class ShownSnapshots final : public FuseTree {
 public:
  ShownSnapshots(Vault& vault, std::vector<Snapshot> snapshots, bool all, const MountRequest& request,
                 Reporter& reporter)
      : vault_(vault),
        protocol_(protocol_of(vault)),
        snapshots_(std::move(snapshots)),
        all_(all),
        request_(request),
        reporter_(reporter),
        root_time_ns_(snapshots_.empty() ? 0 : snapshots_.back().commit.started_ns) {
    if (all_) names_ = folder_names(snapshots_);
  }

  // Opens the newest: whether it can be shown at all is found out before it is mounted.
  Result<void> begin() {
    TRY_ASSIGN(const auto tree, open_tree(snapshots_.size() - 1));
    is_protected_ = tree->reading.is_protected();
    renewer_ = std::jthread([this](const std::stop_token& stop) { renew(stop); });
    return {};
  }
  bool is_protected() const { return is_protected_; }

  Result<void> end() {
    renewer_.request_stop();
    if (renewer_.joinable()) renewer_.join();
    Result<void> ended;
    const std::lock_guard lock(mutex_);
    for (auto& [number, tree] : trees_) {
      if (auto done = tree->end(); !done) ended = std::move(done);
    }
    return ended;
  }

  // --- FuseTree ---------------------------------------------------------------------------------------
  OrErrno<struct stat> attributes(uint64_t number, const FuseCall& call) override {
    if (is_top(number)) return top_status();
    if (all_ && number == kLatestLink) return link_status();
    return with_node<struct stat>(
        number, call, [](size_t which, const MountedNode& node) { return status_of(which, node); });
  }

  OrErrno<struct stat> lookup(uint64_t folder, std::string_view name, const FuseCall& call) override {
    if (is_top(folder)) {
      if (name == kLatest) return link_status();
      const auto found = std::ranges::lower_bound(names_, name);
      if (found == names_.end() || *found != name) return std::unexpected(ENOENT);
      return attributes(number_of(static_cast<size_t>(found - names_.begin()), kRootNode), call);
    }
    const Place place = place_of(folder);
    std::string within;
    return answer<struct stat>(place, call, name, [&](MountedTree& tree) -> Result<struct stat> {
      TRY_ASSIGN(const std::optional<MountedNode> found, tree.lookup(place.node, name));
      if (!found) return fail(ErrorKind::kNotFound, "no such entry");
      return status_of(place.tree, *found);
    });
  }

  OrErrno<std::string> read_link(uint64_t number, const FuseCall& call) override {
    if (all_ && number == kLatestLink) return names_.back();
    return with_node<std::string>(number, call,
                                  [](size_t, const MountedNode& node) { return node.entry().link; });
  }

  OrErrno<void> list(uint64_t folder, uint64_t from, const FuseCall& call,
                     const std::function<bool(const Listed&)>& visit) override {
    if (is_top(folder)) return list_top(from, visit);
    const Place place = place_of(folder);
    // Told twice is told wrong: once something was handed out, what fails is left to the next question.
    bool any = false;
    auto done = answer<bool>(place, call, {}, [&](MountedTree& tree) -> Result<bool> {
      auto listed = tree.list(place.node, from, [&](const MountedTree::Listed& one) -> Result<bool> {
        Listed entry{.name = std::string(one.name), .status = {}, .is_complete = true, .next = one.next};
        auto file = tree.follow(one.node);
        if (file) {
          entry.status = status_of(place.tree, *file);
        } else {
          // Whoever asks for it is told.
          entry.status.st_ino = number_of(place.tree, one.node.id);
          entry.status.st_mode = S_IFREG;
          entry.is_complete = false;
        }
        const bool goes_on = visit(entry);
        any |= goes_on;
        return goes_on;
      });
      if (!listed && !any) return std::move(listed).error();
      return true;
    });
    if (!done) return std::unexpected(done.error());
    return {};
  }

  OrErrno<std::shared_ptr<Opened>> open(uint64_t number, const FuseCall& call) override;

  OrErrno<std::vector<std::string>> attribute_names(uint64_t number, const FuseCall& call) override {
    if (is_top(number) || number == kLatestLink) return std::vector<std::string>();
    return with_node<std::vector<std::string>>(number, call, [](size_t, const MountedNode& node) {
      std::vector<std::string> names;
      for (const auto& [name, value] : node.entry().attributes) names.push_back(name);
      return names;
    });
  }

  OrErrno<std::string> attribute(uint64_t number, std::string_view name, const FuseCall& call) override {
    if (is_top(number) || number == kLatestLink) return std::unexpected(ENODATA);
    auto value = with_node<std::optional<std::string>>(
        number, call, [&](size_t, const MountedNode& node) -> std::optional<std::string> {
          for (const auto& [known, held] : node.entry().attributes) {
            if (known == name) return held;
          }
          return std::nullopt;
        });
    if (!value) return std::unexpected(value.error());
    if (!*value) return std::unexpected(ENODATA);
    return std::move(**value);
  }

  Size size() override {
    Size size;
    for (const Snapshot& snapshot : snapshots_) size.bytes = std::max(size.bytes, snapshot.commit.size_bytes);
    const std::lock_guard lock(mutex_);
    for (const auto& [number, tree] : trees_) size.entries = std::max(size.entries, tree->tree->entries());
    return size;
  }

 private:
  friend class OpenedFile;
  struct Place {
    size_t tree = 0;
    NodeId node = 0;
  };
  // A snapshot that is open, and kept from being collected.
  struct OpenTree {
    std::unique_ptr<MountedTree> tree;
    LongReading reading;
    bool ended = false;
    Result<void> end() {
      if (std::exchange(ended, true)) return {};
      return reading.end();
    }
    ~OpenTree() { (void)end(); }
  };
  using HeldTree = std::shared_ptr<OpenTree>;

  bool is_top(uint64_t number) const { return all_ && number == kFuseRoot; }

  Place place_of(uint64_t number) const {
    if (number == kFuseRoot) return {.tree = 0, .node = kRootNode};
    return {.tree = static_cast<size_t>(number >> kTreeBits) - 1, .node = number & (kNodeIds - 1)};
  }

  struct stat top_status() const {
    struct stat status{};
    status.st_ino = kFuseRoot;
    status.st_mode = S_IFDIR | (request_.for_others ? 0755 : 0700);
    status.st_nlink = 1;
    status.st_uid = ::getuid();
    status.st_gid = ::getgid();
    status.st_mtim = status.st_ctim = status.st_atim = to_timespec(root_time_ns_);
    return status;
  }

  struct stat link_status() const {
    struct stat status = top_status();
    status.st_ino = kLatestLink;
    status.st_mode = S_IFLNK | 0777;
    status.st_size = static_cast<off_t>(names_.back().size());
    return status;
  }

  // Without opening them: what their folders are is known when somebody looks at one.
  OrErrno<void> list_top(uint64_t from, const std::function<bool(const Listed&)>& visit) {
    for (size_t i = from; i <= names_.size(); ++i) {
      Listed listed{
          .name = i == names_.size() ? std::string(kLatest) : names_[i], .status = {}, .next = i + 1};
      if (i == names_.size()) {
        listed.status = link_status();
        listed.is_complete = true;
      } else {
        listed.status.st_ino = number_of(i, kRootNode);
        listed.status.st_mode = S_IFDIR;
      }
      if (!visit(listed)) break;
    }
    return {};
  }

  // The most recently used stay open; whoever still reads from another goes on.
  Result<HeldTree> open_tree(size_t number) {
    std::unique_lock lock(mutex_);
    if (number >= snapshots_.size()) return fail(ErrorKind::kNotFound, "no such snapshot");
    opened_.wait(lock, [&] { return !opening_.contains(number); });
    const auto touch = [&] {
      recent_.remove(number);
      recent_.push_front(number);
    };
    if (const auto found = trees_.find(number); found != trees_.end()) {
      touch();
      return found->second;
    }
    opening_.insert(number);
    lock.unlock();
    auto made = make_tree(snapshots_[number]);
    HeldTree dropped;  // ended after the lock is let go
    lock.lock();
    opening_.erase(number);
    opened_.notify_all();
    if (!made) return made;
    trees_[number] = *made;
    touch();
    if (recent_.size() > kOpenTreesMax) {
      dropped = std::move(trees_.at(recent_.back()));
      trees_.erase(recent_.back());
      recent_.pop_back();
    }
    lock.unlock();
    return made;
  }

  Result<HeldTree> make_tree(const Snapshot& snapshot) {
    TRY(must_be_readable(vault_, snapshot, {}));
    TRY_ASSIGN(LongReading reading,
               LongReading::begin(protocol_, reader_of(snapshot.commit.resource, {snapshot.commit_name})));
    auto tree = [&]() -> Result<std::unique_ptr<MountedTree>> {
      // A listing of many snapshots may leave out what of a commit is long.
      TRY_ASSIGN(auto reader, SnapshotReader::open(vault_.store(), vault_.keys(), vault_.codec(),
                                                   snapshot.commit_name, snapshot.commit));
      MountedTreeOptions options = shown_as(snapshot, *reader);
      return MountedTree::open(std::move(reader), std::move(options), memory_);
    }();
    if (!tree) {
      (void)reading.end();
      return explain_read(protocol_, {snapshot.commit_name}, std::move(tree).error());
    }
    return HeldTree(new OpenTree{std::move(*tree), std::move(reading)});
  }

  template <class T, class Ask>
  OrErrno<T> answer(const Place& place, const FuseCall& call, std::string_view about, Ask&& ask) {
    return insist<T>(place, call, about, [&]() -> Result<T> {
      TRY_ASSIGN(const HeldTree held, open_tree(place.tree));
      return ask(*held->tree);
    });
  }

  // What goes wrong becomes an errno here, and words on the terminal. While the vault does not answer it is
  // tried again, as long as somebody waits for it, and not for ever.
  template <class T, class Ask>
  OrErrno<T> insist(const Place& place, const FuseCall& call, std::string_view about, Ask&& ask) {
    const Duration until = vault_.clock().steady() + kRetryFor;
    for (;;) {
      Result<T> got = ask();
      if (got) {
        answers_again();
        return std::move(*got);
      }
      const Error& error = got.error();
      if (error.kind == ErrorKind::kNotFound && error.what == "no such entry") return std::unexpected(ENOENT);
      const bool may_answer_later = error.kind == ErrorKind::kUnknown || is_away(error);
      if (may_answer_later) does_not_answer(error);
      if (call.is_cancelled()) return std::unexpected(EINTR);
      if (may_answer_later && vault_.clock().steady() < until) {
        vault_.clock().sleep(kRetryPause);
        continue;
      }
      if (!may_answer_later) complain(place, about, error);
      return std::unexpected(error.kind == ErrorKind::kNotFound ? ENOENT : EIO);
    }
  }

  template <class T, class Use>
  OrErrno<T> with_node(uint64_t number, const FuseCall& call, Use&& use) {
    const Place place = place_of(number);
    return answer<T>(place, call, {}, [&](MountedTree& tree) -> Result<T> {
      TRY_ASSIGN(const MountedNode node, tree.node(place.node));
      return use(place.tree, node);
    });
  }

  // A pack that is not there is damage; where nothing of the vault is there, its disk or its line is away.
  bool is_away(const Error& error) {
    if (error.kind != ErrorKind::kDamaged && error.kind != ErrorKind::kNotFound) return false;
    return std::ranges::none_of(
        vault_object_names(), [&](const std::string& name) { return vault_.store().head(name).has_value(); });
  }

  // --- words ------------------------------------------------------------------------------------------
  void does_not_answer(const Error& error) {
    if (silent_.exchange(true)) return;
    reporter_.warning(
        fmt::format("the vault does not answer: {}{}; who reads waits up to {} s for it, and then gets an "
                    "I/O error",
                    error.what, error.why.empty() ? "" : ": " + error.why,
                    std::chrono::duration_cast<std::chrono::seconds>(kRetryFor).count()));
  }
  void answers_again() {
    if (silent_.load(std::memory_order_relaxed) && silent_.exchange(false))
      reporter_.note("the vault answers again");
  }

  // What a snapshot and a path of it are to people.
  std::string shown(const Place& place, std::string_view about) {
    std::string text = fmt::format("{}@{}", request_.resource, snapshots_[place.tree].commit.snapshot.hex());
    HeldTree held;
    {
      const std::lock_guard lock(mutex_);
      if (const auto tree = trees_.find(place.tree); tree != trees_.end()) held = tree->second;
    }
    std::string path;
    if (held) {
      if (auto node = held->tree->node(place.node)) path = held->tree->shown_path(*node);
    }
    if (!path.empty()) text += "/" + path;
    if (!about.empty()) text += "/" + std::string(about);
    return text;
  }

  // Once for each file: whoever reads it asks many times.
  void complain(const Place& place, std::string_view about, const Error& error) {
    {
      const std::lock_guard lock(words_mutex_);
      if (said_.size() >= kWordsMax ||
          !said_.insert(fmt::format("{} {} {}", place.tree, place.node, about)).second)
        return;
    }
    std::string text = fmt::format("{} cannot be read: {}", shown(place, about), error.what);
    if (!error.why.empty()) text += ": " + error.why;
    if (!error.next.empty())
      text += "; " + error.next;
    else if (error.kind == ErrorKind::kDamaged)
      text +=
          fmt::format("; kuramori vault scrub --vault {} says what else is, and --heal mends it from a copy",
                      request_.vault_text);
    reporter_.warning(text);
  }

  // --- days -------------------------------------------------------------------------------------------
  void renew(const std::stop_token& stop) {
    std::mutex alone;
    std::condition_variable_any woken;
    std::unique_lock lock(alone);
    while (!woken.wait_for(lock, stop, kLookEvery, [] { return false; })) {
      if (stop.stop_requested()) return;
      std::vector<HeldTree> held;
      {
        const std::lock_guard trees_lock(mutex_);
        for (const auto& [number, tree] : trees_) held.push_back(tree);
      }
      for (const HeldTree& tree : held) {
        if (auto renewed = tree->reading.renew_if_due(); !renewed)
          reporter_.warning(fmt::format("the snapshot {} may be collected while it is mounted: {}",
                                        tree->tree->commit().snapshot.hex(), renewed.error().what));
      }
    }
  }

  Vault& vault_;
  const Protocol protocol_;
  const std::vector<Snapshot> snapshots_;
  const bool all_;
  const MountRequest& request_;
  Reporter& reporter_;
  const int64_t root_time_ns_;
  std::vector<std::string> names_;  // of the folders, beside the snapshots; sorted
  std::atomic<bool> silent_{false};
  bool is_protected_ = true;

  std::mutex words_mutex_;
  std::set<std::string> said_;

  MountMemory memory_;
  std::mutex mutex_;
  std::condition_variable opened_;
  std::map<size_t, HeldTree> trees_;
  std::list<size_t> recent_;  // most recently used first
  std::set<size_t> opening_;
  std::jthread renewer_;
};

// Keeps its snapshot open for as long as it is.
class OpenedFile final : public FuseTree::Opened {
 public:
  OpenedFile(ShownSnapshots& shown, ShownSnapshots::Place place, ShownSnapshots::HeldTree held,
             std::shared_ptr<MountedTree::File> file)
      : shown_(shown), place_(place), held_(std::move(held)), file_(std::move(file)) {}

  OrErrno<size_t> read(uint64_t offset, MutableByteView out, const FuseCall& call) override {
    return shown_.insist<size_t>(place_, call, {}, [&] { return held_->tree->read(*file_, offset, out); });
  }
  OrErrno<uint64_t> seek(uint64_t offset, int whence) override {
    const auto wanted = whence == SEEK_DATA ? MountedTree::Seek::kData : MountedTree::Seek::kHole;
    const auto found = held_->tree->seek(*file_, offset, wanted);
    if (!found) return std::unexpected(ENXIO);
    return *found;
  }

 private:
  ShownSnapshots& shown_;
  const ShownSnapshots::Place place_;
  const ShownSnapshots::HeldTree held_;
  const std::shared_ptr<MountedTree::File> file_;
};

OrErrno<std::shared_ptr<FuseTree::Opened>> ShownSnapshots::open(uint64_t number, const FuseCall& call) {
  const Place place = place_of(number);
  HeldTree held;
  auto file = insist<std::shared_ptr<MountedTree::File>>(place, call, {},
                                                         [&]() -> Result<std::shared_ptr<MountedTree::File>> {
                                                           TRY_ASSIGN(held, open_tree(place.tree));
                                                           return held->tree->open_file(place.node);
                                                         });
  if (!file) return std::unexpected(file.error());
  return std::make_shared<OpenedFile>(*this, place, std::move(held), std::move(*file));
}

// Which of them are wanted, oldest first.
Result<std::vector<Snapshot>> choose(ResourceSnapshots list, const MountRequest& request, bool& all) {
  if (list.snapshots.empty())
    return fail(ErrorKind::kRefused, fmt::format("{} has no snapshot to mount", request.resource), "",
                fmt::format("kuramori backup {}", request.resource));
  all = request.snapshot.empty() && !request.at;
  if (all) return std::move(list.snapshots);
  if (!request.at) {
    TRY_ASSIGN(const Snapshot* wanted, find_snapshot(list.snapshots, request.snapshot));
    return std::vector<Snapshot>{*wanted};
  }
  const Snapshot* newest = nullptr;
  for (const Snapshot& snapshot : list.snapshots) {
    if (snapshot.commit.started_ns <= *request.at) newest = &snapshot;
  }
  if (newest == nullptr)
    return fail(ErrorKind::kRefused,
                fmt::format("{} has no snapshot from before {}", request.resource,
                            format_moment(from_unix_ns(*request.at))),
                fmt::format("the oldest is of {}",
                            format_moment(from_unix_ns(list.snapshots.front().commit.started_ns))),
                fmt::format("kuramori snapshots {}", request.resource));
  return std::vector<Snapshot>{*newest};
}

// A mount must not hide anything, hang in itself, or stand in what it reads.
Result<void> prepare_place(const MountRequest& request, MountOutcome& outcome) {
  auto state = mount_state_of(request.path);
  if (!state && state.error().kind == ErrorKind::kNotFound)
    return fail(ErrorKind::kUsage, fmt::format("{} is not there", request.path),
                "a mount needs an empty folder", fmt::format("mkdir -p {}", request.path));
  if (!state) return std::move(state).error();
  if (*state == MountState::kDead) {
    TRY(unmount_dead(request.path));
    outcome.removed_dead = request.path;
  }
  if (*state == MountState::kOurs)
    return fail(ErrorKind::kRefused, fmt::format("{} is, or lies in, a mount of Kuramori", request.path), "",
                fmt::format("name another folder; or first: fusermount3 -u {}", request.path));
  TRY_ASSIGN(const std::optional<FileStatus> there, status_if_there(request.path));
  if (!there || there->type != FileType::kFolder)
    return fail(ErrorKind::kUsage, fmt::format("{} is no folder", request.path), "", "name an empty folder");
  TRY_ASSIGN(const auto entries, list_folder(request.path));
  if (!entries.empty())
    return fail(ErrorKind::kRefused, fmt::format("{} is not empty", request.path),
                "what is in it would be hidden", "name an empty folder");
  const std::string& vault = request.vault_folder;
  if (!vault.empty() && (request.path == vault || request.path.starts_with(vault + "/")))
    return fail(ErrorKind::kRefused, fmt::format("{} lies in the vault itself", request.path), "",
                "name an empty folder elsewhere");
  return {};
}

}  // namespace

std::vector<std::string> folder_names(const std::vector<Snapshot>& snapshots) {
  constexpr int64_t kSecond = 1'000'000'000;
  std::vector<std::string> names;
  for (size_t i = 0; i < snapshots.size(); ++i) {
    const auto second_of = [&](size_t k) { return snapshots[k].commit.started_ns / kSecond; };
    std::string name = format_utc(from_unix_ns(second_of(i) * kSecond));
    std::ranges::replace(name, ':', '-');
    // Several of one second stay in their order.
    const bool first = i == 0 || second_of(i - 1) != second_of(i);
    size_t number = 1;
    for (size_t k = i; !first && k > 0 && second_of(k - 1) == second_of(i); --k) ++number;
    if (!first) name += fmt::format("-{:03}-{}", number, snapshots[i].commit.snapshot.hex());
    names.push_back(std::move(name));
  }
  return names;
}

Result<void> mount_snapshots(Vault& vault, const MountRequest& request, Reporter& reporter,
                             std::stop_token stop, const std::function<void(const MountOutcome&)>& is_there) {
  TRY(may_mount());
  MountOutcome outcome;
  TRY(prepare_place(request, outcome));
  TRY_ASSIGN(ResourceSnapshots list, list_snapshots_of(vault, request.resource));
  bool all = false;
  TRY_ASSIGN(std::vector<Snapshot> wanted, choose(std::move(list), request, all));
  outcome.snapshots = wanted.size();
  if (!all) outcome.snapshot = wanted.front();
  for (const std::string& defect : all ? std::vector<std::string>() : wanted.front().commit.defects)
    reporter.note(fmt::format("the snapshot is partial: {}", defect));
  ShownSnapshots shown(vault, std::move(wanted), all, request, reporter);
  TRY(shown.begin());
  outcome.is_protected = shown.is_protected();
  const FuseMount mount{.path = request.path,
                        .source = fmt::format("kuramori:{}", request.resource),
                        .for_others = request.for_others,
                        .threads = request.threads};
  auto done = show_until_stopped(shown, mount, [&] { is_there(outcome); }, std::move(stop));
  if (auto ended = shown.end(); !ended)
    reporter.note(
        fmt::format("the reader's session stays until a collection ends it: {}", ended.error().what));
  return done;
}

}  // namespace kuramori
