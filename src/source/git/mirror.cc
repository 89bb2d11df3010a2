// The order, and why a crash after each step is harmless:
//   1. what an earlier run left half done is removed        — nothing refers to it
//   2. git fetches                                          — `seen` still has the refs as they were
//   3. kept refs are written, then the new refs as `seen`    — between the two the same are found kept
//   already
//   4. packs are joined, LFS objects fetched, all described  — done again when it is not complete
#include "source/git/mirror.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "base/json_writer.h"
#include "net/url.h"
#include "source/git/layout.h"
#include "source/git/pack_sum.h"
#include "source/git/submodules.h"

namespace kuramori::git {
namespace {

constexpr size_t kDefectsNamedMax = 200;  // LFS objects that are named one by one
constexpr size_t kStateBytesMax = size_t{256} << 20;

// A git command of any age takes this for the end of its options, where what follows is not ours.
constexpr const char* kEndOfOptions = "--end-of-options";

std::string text_or_empty(const std::string& path) {
  const auto bytes = read_file(path, kStateBytesMax);
  return bytes ? std::string(as_text(*bytes)) : "";
}

std::string line_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == '=')
      return std::string(line.substr(name.size() + 1));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return "";
}

// What this key may not read, or nobody can, is not there for us; a vault that does not answer is another
// matter, and ends the backup.
bool is_out_of_reach(ErrorKind kind) {
  return kind == ErrorKind::kDenied || kind == ErrorKind::kRefused || kind == ErrorKind::kDamaged ||
         kind == ErrorKind::kUsage || kind == ErrorKind::kNotFound;
}

std::string said(const Error& error) {
  return error.why.empty() ? error.what : fmt::format("{}: {}", error.what, error.why);
}

size_t oid_bytes(std::string_view format) {
  return format == "sha256" ? 32 : 20;
}

}  // namespace

Mirror::Mirror(const GitSettings& settings, Place place, FileLock lock, Git git, Reporter& reporter,
               std::stop_token stop)
    : settings_(settings),
      folder_(settings.mirror),
      place_(std::move(place)),
      lock_(std::move(lock)),
      git_(std::move(git)),
      reporter_(reporter),
      stop_(std::move(stop)) {}

Result<void> Mirror::go_on() const {
  if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was asked to stop");
  return {};
}

Result<std::unique_ptr<Mirror>> Mirror::update(const GitSettings& settings, const OpenEarlierTree& earlier,
                                               Reporter& reporter, const std::stop_token& stop) {
  TRY_ASSIGN(Place place, place_of(settings));
  TRY(make_folders(settings.mirror));
  TRY_ASSIGN(FileLock lock, FileLock::acquire(join_path(settings.mirror, "lock"), kMirrorWait, stop));
  TRY_ASSIGN(Git git, Git::make(place.remote, place.access, join_path(settings.mirror, "home"), stop));
  std::unique_ptr<Mirror> mirror(
      new Mirror(settings, std::move(place), std::move(lock), std::move(git), reporter, stop));
  reporter.phase("asking the remote", 0);
  TRY_ASSIGN(const RemoteRefs remote, mirror->ask());
  TRY(mirror->prepare(remote, earlier));
  const bool as_before = remote.refs == mirror->seen_ && !mirror->rebuilt_ &&
                         (remote.head == mirror->head_ || (remote.head.empty() && !mirror->head_.empty()));
  if (!as_before) {
    reporter.phase("fetching", 0);
    TRY(mirror->fetch(remote, earlier));
    TRY(mirror->take_refs(remote));
    TRY(mirror->tidy());
  }
  TRY(mirror->look_after_lfs());
  TRY(mirror->describe());
  TRY(mirror->go_on());
  return mirror;
}

Result<RemoteRefs> Mirror::ask() {
  TRY(go_on());
  TRY_ASSIGN(const Finished finished,
             git_.run({.arguments = {"ls-remote", "--symref", kEndOfOptions, place_.remote.url},
                       .timeout = kAskTimeout}));
  if (!finished.exit.ok()) return git_.explain("asking", finished);
  return parse_ls_remote(finished.output);
}

// The mirror as the last run left it, or a new one.
Result<void> Mirror::prepare(const RemoteRefs& remote, const OpenEarlierTree& earlier) {
  TRY_ASSIGN(const bool loaded, load());
  if (!loaded) {
    TRY(begin(remote, earlier));
  } else {
    TRY(clear_leftovers());
    TRY_ASSIGN(const bool whole, has_whole_packs());
    if (!whole) TRY(replace_damaged(remote, earlier, "a pack is not what its name says"));
  }
  const std::string theirs = remote.refs.empty()               ? format_
                             : remote.refs[0].oid.size() == 64 ? "sha256"
                                                               : "sha1";
  if (theirs == format_) return {};
  if (seen_.empty() && kept_.empty()) {
    // An empty remote did not say which it would be.
    return begin(remote, {});
  }
  return fail(
      ErrorKind::kRefused,
      fmt::format("{} names its objects by {} now, and by {} until here", place_.remote.url, theirs, format_),
      "it is another repository: one cannot hold the objects of both",
      "declare it as a resource of its own; the snapshots of this one stay");
}

Result<bool> Mirror::load() {
  const std::string state = text_or_empty(at("state"));
  if (line_of(state, "version") != "1") return false;
  format_ = line_of(state, "format");
  head_ = line_of(state, "head");
  lenient_ = line_of(state, "lenient") == "yes";
  const std::string changed = line_of(state, "changed");
  std::from_chars(changed.data(), changed.data() + changed.size(), changed_ns_);
  auto seen = parse_refs(text_or_empty(at("seen")));
  auto kept = parse_refs(text_or_empty(at("kept")));
  auto lfs = Lfs::parse(text_or_empty(at("lfs")));
  const auto head = status_if_there(join_path(repository(), "HEAD"));
  if (!seen || !kept || !lfs || !head || !*head || changed_ns_ <= 0) return false;
  seen_ = std::move(*seen);
  kept_ = std::move(*kept);
  lfs_ = std::move(*lfs);
  about_ = text_or_empty(at("about"));
  return true;
}

Result<void> Mirror::begin(const RemoteRefs& remote, const OpenEarlierTree& earlier) {
  for (const char* name : {"state", "repository", "new", "seen", "kept", "lfs", "about"})
    TRY(remove_tree(at(name)));
  seen_.clear();
  kept_.clear();
  lfs_ = {};
  head_ = about_ = "";
  rebuilt_ = moved_ = true;
  changed_ns_ = to_unix_ns(system_clock().now());
  TRY_ASSIGN(const bool restored, restore_from(earlier));
  if (!restored) {
    format_ = !remote.refs.empty() && remote.refs[0].oid.size() == 64 ? "sha256" : "sha1";
    TRY(git_.checked({.arguments = {"init", "--quiet", "--bare", "--template=", "--object-format=" + format_,
                                    kEndOfOptions, at("new")}}));
    TRY(write_file_durably(at("new/config"), as_bytes(config_text(format_))));
  }
  if (::rename(at("new").c_str(), repository().c_str()) != 0)
    return system_error("put the mirror in place", errno);
  TRY(sync_folder(folder_));
  return write_state();
}

// `true`: the mirror is as the snapshot before, in new/.
Result<bool> Mirror::restore_from(const OpenEarlierTree& earlier) {
  if (!earlier) return false;
  const auto without = [&](const Error& error) -> Result<bool> {
    if (!is_out_of_reach(error.kind)) return error;
    reporter_.warning(
        fmt::format("the mirror is gone, and the snapshot before cannot be read here: {}", said(error)));
    defects_.push_back(
        {"packed-refs",
         "refs that the remote had once are in older snapshots alone: this machine's mirror was "
         "lost, and the snapshot before cannot be read here (" +
             said(error) + ")"});
    TRY(remove_tree(at("new")));
    return false;
  };
  auto tree = earlier();
  if (!tree) return without(tree.error());
  if (*tree == nullptr) return false;
  reporter_.note("the mirror is made again from the snapshot before");
  if (const auto written = write_repository(**tree, at("new"), reporter_, stop_); !written)
    return without(written.error());
  auto refs = parse_refs(text_or_empty(at("new/packed-refs")));
  if (!refs) return without(refs.error());
  SplitRefs split = split_refs(std::move(*refs));
  seen_ = std::move(split.seen);
  kept_ = std::move(split.kept);
  format_ = format_of(**tree);
  head_ = text_or_empty(at("new/HEAD"));
  while (head_.ends_with('\n')) head_.pop_back();
  // Git has the remote's alone: kept ones must not hold up what it prunes.
  TRY(write_file_durably(at("new/packed-refs"), as_bytes(packed_refs(seen_, {}))));
  TRY(remove_tree(at("new/kuramori")));
  return true;
}

// What a killed git leaves: half a pack, a lock. Nobody but us works here, and we hold the lock.
Result<void> Mirror::clear_leftovers() {
  TRY(remove_tree(at("new")));
  const auto clear = [&](const std::string& folder, auto&& is_left) -> Result<void> {
    const auto entries = list_folder(folder);
    if (!entries) return {};
    for (const FolderEntry& entry : *entries) {
      if (is_left(std::string_view(entry.name))) TRY(remove_tree(join_path(folder, entry.name)));
    }
    return {};
  };
  TRY(clear(repository(), [](std::string_view name) {
    return name.ends_with(".lock") || name == "packed-refs.new";  // which git makes under packed-refs.lock
  }));
  TRY(clear(join_path(repository(), "objects"),
            [](std::string_view name) { return name.starts_with("incoming-") || name.starts_with("tmp_"); }));
  TRY(clear(join_path(repository(), "objects/pack"), [](std::string_view name) {
    return name.starts_with("tmp_") || name.starts_with(".tmp-") || name.ends_with(".keep") ||
           name.ends_with(".lock");
  }));
  TRY(remove_tree(join_path(repository(), "lfs/tmp")));
  TRY(remove_tree(join_path(repository(), "lfs/incomplete")));
  // Locks of single refs, in whichever folder.
  const auto clear_refs = [&](auto&& self, const std::string& folder) -> Result<void> {
    const auto entries = list_folder(folder);
    if (!entries) return {};
    for (const FolderEntry& entry : *entries) {
      const std::string path = join_path(folder, entry.name);
      if (entry.type == FileType::kFolder) TRY(self(self, path));
      if (entry.type == FileType::kFile && entry.name.ends_with(".lock")) TRY(remove_file(path));
    }
    return {};
  };
  return clear_refs(clear_refs, join_path(repository(), "refs"));
}

Result<Finished> Mirror::fetch_once(bool lenient) {
  return git_.run(
      {.arguments = {"fetch", "--quiet", "--no-auto-maintenance", "--no-write-fetch-head", "--no-tags",
                     "--prune", "--force", "--no-recurse-submodules", "--no-show-forced-updates",
                     kEndOfOptions, place_.remote.url, "+refs/*:refs/*"},
       .repository = repository(),
       .timeout = settings_.timeout,
       .lenient = lenient});
}

// Whether all that its refs lead to is there.
Result<bool> Mirror::is_whole() {
  TRY_ASSIGN(const Finished finished,
             git_.run({.arguments = {"fsck", "--connectivity-only", "--no-dangling", "--no-progress"},
                       .repository = repository(),
                       .timeout = settings_.timeout}));
  return finished.exit.ok();
}

Result<void> Mirror::distrust() {
  return write_file_durably(at("distrusted"), {});
}

Result<bool> Mirror::has_whole_packs() {
  TRY_ASSIGN(const auto distrusted, status_if_there(at("distrusted")));
  if (distrusted) return false;
  const std::string folder = join_path(repository(), "objects/pack");
  TRY_ASSIGN(const auto entries, list_folder(folder));
  for (const FolderEntry& entry : entries) {
    if (!entry.name.ends_with(".pack")) continue;
    TRY_ASSIGN(const bool whole, has_its_end(join_path(folder, entry.name)));
    if (!whole) return false;
  }
  return true;
}

// Refs that the remote has no more go from git's list at once: git itself writes the whole list anew for
// each of them. `seen` still has them.
Result<void> Mirror::prune(const RemoteRefs& remote) {
  const bool some_are_gone =
      std::ranges::any_of(seen_, [&](const Ref& ref) { return find_ref(remote.refs, ref.name) == nullptr; });
  if (!some_are_gone) return {};
  TRY(git_.checked({.arguments = {"pack-refs", "--all"}, .repository = repository()}));
  const std::string path = join_path(repository(), "packed-refs");
  TRY_ASSIGN(Refs packed, parse_refs(text_or_empty(path)));
  std::erase_if(packed, [&](const Ref& ref) { return find_ref(remote.refs, ref.name) == nullptr; });
  return write_file_durably(path, as_bytes(packed_refs(packed, {})));
}

// From the snapshot before, or not at all: what was kept is nowhere else.
Result<void> Mirror::replace_damaged(const RemoteRefs& remote, const OpenEarlierTree& earlier,
                                     const std::string& why) {
  const std::string next = fmt::format(
      "rm -r '{}' and back up again: what the remote has is fetched; what it has no more is in "
      "older snapshots",
      folder_);
  const Error damaged =
      fail(ErrorKind::kDamaged, fmt::format("the mirror in \"{}\" is damaged", folder_), why, next);
  if (!earlier) return damaged;
  auto tree = earlier();
  if (!tree || *tree == nullptr) return damaged;
  reporter_.warning(
      fmt::format("{}: {}; it is made again from the snapshot before, and the damaged one is "
                  "in \"{}\" until it happens again",
                  damaged.what, why, at("damaged")));
  TRY(remove_tree(at("damaged")));
  if (::rename(repository().c_str(), at("damaged").c_str()) != 0)
    return system_error("set the damaged mirror aside", errno);
  const bool lenient = lenient_;
  TRY(begin(remote, earlier));
  lenient_ = lenient;
  return {};
}

Result<void> Mirror::fetch(const RemoteRefs& remote, const OpenEarlierTree& earlier) {
  TRY(go_on());
  moved_ = true;
  TRY(prune(remote));
  TRY_ASSIGN(Finished finished, fetch_once(lenient_));
  if (!finished.exit.ok() && !lenient_ && finished.errors.find("fsck error") != std::string::npos) {
    reporter_.warning(fmt::format(
        "{} holds objects that git fsck calls wrong ({}); they are kept as they are", place_.remote.url,
        last_words(std::string_view(finished.errors).substr(0, finished.errors.find('\n')))));
    lenient_ = true;
    TRY(clear_leftovers());
    TRY_ASSIGN(finished, fetch_once(true));
  }
  if (!finished.exit.ok()) {
    // A mirror that was damaged is the reason at times; the remote is not to blame then.
    TRY_ASSIGN(const bool whole, is_whole());
    if (!whole) {
      TRY(replace_damaged(remote, earlier, last_words(finished.errors)));
      TRY_ASSIGN(finished, fetch_once(lenient_));
    }
  }
  if (!finished.exit.ok()) {
    return git_.explain("fetching from", finished);
  }
  if (finished.errors.find("shallow") != std::string::npos && !remote.refs.empty()) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} is a shallow clone: its history ends somewhere", place_.remote.url),
                "what is before is not in it, so that it is no backup of the repository",
                "name the repository it was cloned from, or complete it there: git fetch --unshallow");
  }
  return {};
}

// What git now has becomes what was seen.
Result<void> Mirror::take_refs(const RemoteRefs& remote) {
  TRY(go_on());
  TRY_ASSIGN(const std::string listed,
             git_.checked({.arguments = {"for-each-ref", "--format=%(objectname) %(refname)"},
                           .repository = repository()}));
  TRY_ASSIGN(Refs now, parse_refs(listed));
  size_t left_out = 0;
  for (const Ref& ref : remote.refs) {
    if (find_ref(now, ref.name) != nullptr) continue;
    // Deleted between the list and the fetch, or a name git does not take.
    TRY_ASSIGN(const Finished valid, git_.run({.arguments = {"check-ref-format", ref.name}}));
    if (valid.exit.ok() || left_out++ >= kDefectsNamedMax) continue;
    defects_.push_back(
        {"packed-refs", fmt::format("the remote's \"{}\" has a name that git does not take", ref.name)});
  }
  size_t asked = 0;
  const auto went_forward = [&](const Ref& was, const Ref& is) {
    // A tag is not meant to move; of too many we do not ask, and keep them.
    if (was.name.starts_with("refs/tags/") || asked++ >= kAncestryAskedMax) return false;
    const auto answer =
        git_.run({.arguments = {"merge-base", "--is-ancestor", was.oid, is.oid}, .repository = repository()});
    return answer && answer->exit.ok();
  };
  TRY(go_on());
  Moves moves = moves_between(seen_, now, kept_, system_clock().now(), went_forward);
  TRY(go_on());
  if (moves.moved + moves.gone > 0) {
    const bool emptied = now.empty() || moves.moved + moves.gone == seen_.size();
    const std::string text = fmt::format(
        "{} refs were moved elsewhere than forward and {} are gone; what they were is kept below {}",
        moves.moved, moves.gone, kKeptBelow);
    if (emptied) {
      reporter_.warning(fmt::format("{}: every one of its {} refs was replaced or removed: {}",
                                    place_.remote.url, seen_.size(), text));
    } else {
      reporter_.note(text);
    }
  }
  facts_["refs_moved"] = std::to_string(moves.moved);
  facts_["refs_gone"] = std::to_string(moves.gone);
  const bool changed = rebuilt_ || now != seen_ || !moves.to_keep.empty();
  kept_ = merged(std::move(kept_), std::move(moves.to_keep));
  TRY(write_file_durably(at("kept"), as_bytes(refs_text(kept_))));
  seen_ = std::move(now);
  if (!remote.head.empty()) head_ = remote.head;
  if (head_.empty()) head_ = "ref: refs/heads/main";
  if (changed) changed_ns_ = to_unix_ns(system_clock().now());
  return write_state();
}

Result<void> Mirror::write_state() {
  TRY(write_file_durably(at("kept"), as_bytes(refs_text(kept_))));
  TRY(write_file_durably(at("seen"), as_bytes(refs_text(seen_))));
  TRY(write_file_durably(at("lfs"), as_bytes(lfs_.text())));
  // Last: without it nothing of the rest is looked at.
  return write_file_durably(
      at("state"), as_bytes(fmt::format("version=1\nformat={}\nhead={}\nlenient={}\nchanged={}\n", format_,
                                        head_, lenient_ ? "yes" : "no", changed_ns_)));
}

// Refs in one file, and not too many packs.
Result<void> Mirror::tidy() {
  TRY(go_on());
  TRY(git_.checked({.arguments = {"pack-refs", "--all"}, .repository = repository()}));
  TRY_ASSIGN(const auto entries, list_folder(join_path(repository(), "objects/pack")));
  const auto packs =
      std::ranges::count_if(entries, [](const FolderEntry& e) { return e.name.ends_with(".pack"); });
  if (static_cast<size_t>(packs) <= kPacksMax) return {};
  reporter_.phase("joining packs", 0);
  // Of the pointers every pack that goes away was looked at.
  TRY_ASSIGN(const bool added, lfs_.scan(git_, repository(), oid_bytes(format_)));
  (void)added;
  TRY_ASSIGN(const Finished joined,
             git_.run({.arguments = {"repack", "--quiet", "--geometric=2", "-d", "--no-write-bitmap-index"},
                       .repository = repository(),
                       .timeout = settings_.timeout}));
  TRY(go_on());
  if (!joined.exit.ok())
    reporter_.note(fmt::format("packs of the mirror could not be joined: {}", last_words(joined.errors)));
  return {};
}

Result<void> Mirror::look_after_lfs() {
  TRY(go_on());
  if (moved_ || lfs_.scanned.empty()) {
    TRY_ASSIGN(const bool added, lfs_.scan(git_, repository(), oid_bytes(format_)));
    moved_ = moved_ || added;
    TRY(write_file_durably(at("lfs"), as_bytes(lfs_.text())));
  }
  if (lfs_.pointers.empty() || settings_.lfs == LfsMode::kOff) return {};
  TRY_ASSIGN(std::vector<LfsPointer> missing, lfs_.missing(repository()));
  if (missing.empty()) return {};
  reporter_.phase("fetching LFS objects", 0);
  std::string why;
  const auto settings = lfs_settings(place_.remote, settings_.lfs_url);
  if (!settings) {
    why = "git:// has no LFS server: name one by lfs_url:";
  } else if (const auto version = Git::lfs_version(); !version) {
    why = "git-lfs is not installed here: apt-get install git-lfs";
  } else {
    TRY_ASSIGN(const Finished fetched, git_.run_lfs({.arguments = {"fetch", "--all", "origin"},
                                                     .repository = repository(),
                                                     .timeout = settings_.timeout,
                                                     .settings = *settings}));
    const size_t before = missing.size();
    TRY_ASSIGN(missing, lfs_.missing(repository()));
    if (missing.size() != before) moved_ = true;
    why = fetched.errors.empty() ? "the LFS server does not have it" : last_words(fetched.errors);
  }
  TRY(go_on());
  for (size_t i = 0; i < std::min(missing.size(), kDefectsNamedMax); ++i)
    defects_.push_back({lfs_path(missing[i].oid), fmt::format("an LFS object is missing: {}", why)});
  if (missing.size() > kDefectsNamedMax) {
    defects_.push_back({std::string(kLfsObjects),
                        fmt::format("{} more LFS objects are missing", missing.size() - kDefectsNamedMax)});
  }
  facts_["lfs_missing"] = std::to_string(missing.size());
  return {};
}

// repository.json, and the facts.
Result<void> Mirror::describe() {
  TRY(go_on());
  const bool keeps_lfs = settings_.lfs != LfsMode::kOff;
  const std::string lfs_word = lfs_.pointers.empty() ? "none" : keeps_lfs ? "kept" : "left out";
  const auto [missing_at, was_there] = facts_.emplace("lfs_missing", "0");
  (void)was_there;
  const auto count_below = [&](std::string_view below) {
    return std::to_string(
        std::ranges::count_if(seen_, [&](const Ref& ref) { return ref.name.starts_with(below); }));
  };
  facts_["object_format"] = format_;
  facts_["refs"] = std::to_string(seen_.size());
  facts_["refs_kept"] = std::to_string(kept_.size());
  facts_["branches"] = count_below("refs/heads/");
  facts_["tags"] = count_below("refs/tags/");
  facts_["lfs"] = lfs_word;
  facts_["lfs_pointers"] = std::to_string(lfs_.pointers.size());
  facts_["fsck_lenient"] = lenient_ ? "yes" : "no";
  facts_.emplace("refs_moved", "0");
  facts_.emplace("refs_gone", "0");
  // What is described moves only with the refs, and with what of LFS is there.
  const std::string stamp =
      fmt::format("{}/{}/{}/{}", changed_ns_, lfs_.pointers.size(), missing_at->second, lfs_word);
  const std::string kept_stamp = text_or_empty(at("about-of"));
  if (!moved_ && kept_stamp.substr(0, kept_stamp.find('\n')) == stamp && !about_.empty()) {
    facts_["submodules"] = line_of(kept_stamp, "submodules");
    return {};
  }
  TRY_ASSIGN(const Submodules submodules, find_submodules(git_, repository(), seen_, kSubmoduleHeadsMax));
  if (submodules.heads_left_out > 0) {
    reporter_.note(
        fmt::format("of {} more branches with submodules these are not recorded; they are in the history",
                    submodules.heads_left_out));
  }
  facts_["submodules"] = std::to_string(submodules.records.size());
  JsonWriter json(JsonWriter::Style::kIndented);
  json.begin_object().field("schema", "kuramori/git-repository/1");
  json.field("head", head_).field("object_format", format_);
  json.field("refs", seen_.size()).field("refs_kept", kept_.size());
  json.key("lfs").begin_object().field("state", lfs_word).field("pointers", lfs_.pointers.size());
  json.field("missing", missing_at->second).end_object();
  json.key("submodules").begin_array();
  for (const Submodule& one : submodules.records) {
    json.begin_object().field("ref", one.ref).field("path", one.path).field("url", masked_url(one.url));
    json.field("commit", one.commit).end_object();
  }
  json.end_array().end_object();
  about_ = json.take() + "\n";
  TRY(write_file_durably(at("about"), as_bytes(about_)));
  return write_file_durably(at("about-of"),
                            as_bytes(fmt::format("{}\nsubmodules={}\n", stamp, submodules.records.size())));
}

}  // namespace kuramori::git
