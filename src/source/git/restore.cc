// Back into a bare repository in a new folder, or pushed to a remote that is empty.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "net/url.h"
#include "os/lock.h"
#include "source/git/git_source.h"
#include "source/git/layout.h"
#include "source/git/lfs.h"
#include "source/git/refs.h"
#include "source/tree/views.h"
#include "source/tree/write_file.h"

namespace kuramori::git {
namespace {

constexpr size_t kNamedMax = 10;     // refs that a note names
constexpr size_t kOidsAtOnce = 500;  // LFS objects a command line names
constexpr std::string_view kReplacedBelow = "refs/kuramori/replaced/";
constexpr const char* kUserVariable = "KURAMORI_GIT_USER";
constexpr const char* kPasswordVariable = "KURAMORI_GIT_PASSWORD";

Error stopped() {
  return fail(ErrorKind::kInterrupted, "the restore was stopped");
}

// A folder beside the mirrors for the time of one restore. One that was left by a killed run is removed: its
// lock is free.
class Workplace {
 public:
  static Result<std::unique_ptr<Workplace>> make(const std::string& parent) {
    TRY(make_folders(parent));
    TRY_ASSIGN(const auto entries, list_folder(parent));
    for (const FolderEntry& entry : entries) {
      if (!entry.name.starts_with(kPrefix)) continue;
      const std::string left = join_path(parent, entry.name);
      const auto lock = FileLock::try_acquire(left + "/lock");
      if (lock && *lock) TRY(remove_tree(left));
    }
    TRY_ASSIGN(TemporaryFolder folder, TemporaryFolder::make(kPrefix, parent));
    TRY_ASSIGN(auto lock, FileLock::try_acquire(folder / "lock"));
    if (!lock) return fail(ErrorKind::kFailed, "another restore took the folder of this one");
    return std::unique_ptr<Workplace>(new Workplace(std::move(folder), std::move(*lock)));
  }
  std::string operator/(std::string_view name) const { return folder_ / name; }

 private:
  static constexpr std::string_view kPrefix = "restore-";
  Workplace(TemporaryFolder folder, FileLock lock) : folder_(std::move(folder)), lock_(std::move(lock)) {}
  TemporaryFolder folder_;
  FileLock lock_;
};

// For git on folders of this machine alone.
Result<Git> local_git(const std::string& home, const std::stop_token& stop) {
  return Git::make({.way = Remote::Way::kFolder, .scheme = "file", .url = "/", .path = "/"}, {}, home, stop);
}

Result<Refs> refs_of(const CapturedTree& tree) {
  TRY_ASSIGN(const std::string text, text_of(tree, "packed-refs"));
  return parse_refs(text);
}

std::string names_of(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamedMax); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kNamedMax) text += fmt::format(" and {} more", names.size() - kNamedMax);
  return text;
}

// Those that `only` names, by name or by a folder of names.
Result<Refs> wanted_refs(const Refs& all, const std::vector<std::string>& only) {
  Refs wanted;
  for (const Ref& ref : all) {
    if (is_wanted(only, ref.name)) wanted.push_back(ref);
  }
  for (const std::string& one : only) {
    if (std::ranges::any_of(all, [&](const Ref& ref) { return is_wanted({one}, ref.name); })) continue;
    std::vector<std::string> names;
    for (const Ref& ref : all) names.push_back(ref.name);
    return fail(ErrorKind::kUsage, fmt::format("the snapshot has no ref \"{}\"", one),
                "it has " + names_of(names),
                "name one in full: --only refs/heads/main, or all below: --only refs/heads");
  }
  return wanted;
}

Result<void> must_be_new(const std::string& to) {
  TRY_ASSIGN(const auto status, status_if_there(to));
  if (!status) return {};
  if (status->type != FileType::kFolder) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" is there, and no folder", to), "",
                "name a new folder with --to");
  }
  TRY_ASSIGN(const auto there, list_folder(to));
  if (there.empty()) return {};
  return fail(ErrorKind::kRefused, fmt::format("\"{}\" is not empty", to),
              fmt::format("it holds \"{}\"", there.front().name), "name a new folder with --to");
}

// The refs that are wanted, what they lead to, and nothing else: of the rest no object comes along.
Result<SourceRestoreOutcome> restore_some(const GitSettings& settings, const CapturedTree& tree,
                                          const SourceRestoreRequest& request, Reporter& reporter,
                                          const std::stop_token& stop) {
  TRY(must_be_new(request.to));
  TRY_ASSIGN(const Refs all, refs_of(tree));
  TRY_ASSIGN(const Refs wanted, wanted_refs(all, request.only));
  TRY_ASSIGN(const auto work, Workplace::make(folder_of(settings.mirror)));
  const std::string whole = *work / "repository";
  TRY(write_repository(tree, whole, reporter, stop));
  TRY(write_file_durably(whole + "/packed-refs", as_bytes(packed_refs(wanted, {}))));
  TRY_ASSIGN(const Git git, local_git(*work / "home", stop));
  const std::string format = format_of(tree);
  reporter.phase("choosing", 0);
  TRY(make_folders(request.to));
  TRY(git.checked({.arguments = {"init", "--quiet", "--bare", "--template=", "--object-format=" + format,
                                 "--end-of-options", request.to}}));
  TRY(git.checked({.arguments = {"fetch", "--quiet", "--no-auto-maintenance", "--no-write-fetch-head",
                                 "--no-tags", "--end-of-options", whole, "+refs/*:refs/*"},
                   .repository = request.to,
                   .timeout = settings.timeout,
                   .lenient = true}));
  TRY(git.checked({.arguments = {"pack-refs", "--all"}, .repository = request.to}));
  TRY_ASSIGN(std::string head, text_of(tree, "HEAD"));
  while (head.ends_with('\n')) head.pop_back();
  const std::string target = head.starts_with("ref: ") ? head.substr(5) : "";
  SourceRestoreOutcome outcome{.target = request.to, .entries = wanted.size()};
  if (find_ref(wanted, target) == nullptr) {
    const std::string first = wanted.empty() ? "refs/heads/main" : wanted.front().name;
    outcome.notes.push_back(fmt::format("HEAD was {}, which is not restored: it is {} now", head, first));
    head = "ref: " + first;
  }
  TRY(write_file_durably(request.to + "/HEAD", as_bytes(head + "\n")));
  // Of LFS what the restored objects point to.
  Lfs lfs;
  TRY(lfs.scan(git, request.to, format == "sha256" ? 32 : 20));
  for (const auto& [oid, size] : lfs.pointers) {
    if (stop.stop_requested()) return stopped();
    TRY_ASSIGN(const auto there, status_if_there(join_path(whole, lfs_path(oid))));
    if (!there) continue;
    const std::string path = join_path(request.to, lfs_path(oid));
    TRY(write_file(tree, lfs_path(oid), path, 0600, stop));
    outcome.bytes += there->size;
  }
  TRY_ASSIGN(const auto packs, list_folder(request.to + "/objects/pack"));
  for (const FolderEntry& pack : packs) {
    TRY_ASSIGN(const FileStatus status, status_of(request.to + "/objects/pack/" + pack.name));
    outcome.bytes += status.size;
  }
  outcome.notes.push_back(fmt::format("{} of {} refs, with what they lead to", wanted.size(), all.size()));
  return outcome;
}

Result<SourceRestoreOutcome> restore_whole(const CapturedTree& tree, const SourceRestoreRequest& request,
                                           Reporter& reporter, const std::stop_token& stop) {
  TRY(must_be_new(request.to));
  TRY_ASSIGN(SourceRestoreOutcome outcome, write_repository(tree, request.to, reporter, stop));
  TRY_ASSIGN(const Refs all, refs_of(tree));
  const auto kept =
      std::ranges::count_if(all, [](const Ref& ref) { return ref.name.starts_with(kKeptBelow); });
  outcome.notes.push_back(fmt::format("a bare repository: git clone '{}'", request.to));
  if (kept > 0) {
    outcome.notes.push_back(
        fmt::format("{} of its {} refs are of what the remote had no more: git -C '{}' for-each-ref {}", kept,
                    all.size(), request.to, kKeptBelow));
  }
  return outcome;
}

// --- to a remote -------------------------------------------------------------------------------------------

// Credentials are for the site they were given for; another target takes them from the environment.
Result<Place> target_of(const GitSettings& settings, const std::string& to) {
  Place place;
  TRY_ASSIGN(place.remote, parse_remote(to));
  if (!place.remote.password.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" holds a password", masked_url(to)),
                "arguments are seen by everybody on this machine",
                fmt::format("leave it out, and set {} and {}", kUserVariable, kPasswordVariable));
  }
  place.access = {.user = place.remote.user,
                  .ca_file = settings.ca_file,
                  .ssh_key_file = settings.ssh_key_file,
                  .known_hosts_file = settings.known_hosts_file};
  if (!settings.url.empty()) {
    TRY_ASSIGN(const Place own, place_of(settings));
    if (own.remote.is_same_site(place.remote)) {
      if (place.access.user.empty()) place.access.user = own.access.user;
      if (place.access.user == own.access.user) place.access.password = own.access.password;
    }
  }
  if (const char* user = std::getenv(kUserVariable)) place.access.user = user;
  if (const char* password = std::getenv(kPasswordVariable)) place.access.password = password;
  return place;
}

// Lines of `git push --porcelain`: "!\tfrom:to\t[remote rejected] (why)".
struct Refused {
  std::string ref, why;
};
std::vector<Refused> refused_in(std::string_view said) {
  std::vector<Refused> refused;
  while (!said.empty()) {
    const size_t end = said.find('\n');
    const std::string_view line = said.substr(0, end);
    if (line.starts_with("!\t")) {
      const size_t tab = line.find('\t', 2);
      const std::string_view names = line.substr(2, tab - 2);
      refused.push_back({std::string(names.substr(names.find(':') + 1)),
                         tab == std::string_view::npos ? "" : std::string(line.substr(tab + 1))});
    }
    if (end == std::string_view::npos) break;
    said.remove_prefix(end + 1);
  }
  return refused;
}

class Push {
 public:
  Push(const GitSettings& settings, const CapturedTree& tree, const SourceRestoreRequest& request,
       Reporter& reporter, std::stop_token stop)
      : settings_(settings), tree_(tree), request_(request), reporter_(reporter), stop_(std::move(stop)) {}

  Result<SourceRestoreOutcome> run() {
    TRY_ASSIGN(place_, target_of(settings_, request_.to));
    TRY_ASSIGN(const auto work, Workplace::make(folder_of(settings_.mirror)));
    TRY_ASSIGN(Git git, Git::make(place_.remote, place_.access, *work / "home", stop_));
    TRY_ASSIGN(const RemoteRefs there, ask(git));
    if (!there.refs.empty() && !request_.overwrite) {
      return fail(ErrorKind::kRefused, fmt::format("{} is not empty", place_.remote.url),
                  fmt::format("it has {} refs, {} among them", there.refs.size(), there.refs.front().name),
                  "name an empty repository with --to, or give --overwrite: what it has is then kept below "
                  "refs/kuramori/replaced");
    }
    repository_ = *work / "repository";
    if (request_.only.empty()) {
      TRY_ASSIGN(outcome_, write_repository(tree_, repository_, reporter_, stop_));
    } else {
      SourceRestoreRequest some = request_;
      some.to = repository_;
      TRY_ASSIGN(outcome_, restore_some(settings_, tree_, some, reporter_, stop_));
    }
    outcome_.target = place_.remote.url;
    if (!there.refs.empty()) TRY(keep_what_is_there(git, there.refs));
    TRY(push_lfs(git));
    TRY(push_refs(git));
    TRY(look_at_head(git));
    return std::move(outcome_);
  }

 private:
  Result<RemoteRefs> ask(const Git& git) {
    TRY_ASSIGN(const Finished asked,
               git.run({.arguments = {"ls-remote", "--symref", "--end-of-options", place_.remote.url},
                        .timeout = kAskTimeout}));
    if (!asked.exit.ok()) return git.explain("asking", asked);
    return parse_ls_remote(asked.output);
  }

  // What the target has goes below a name of its own, there.
  Result<void> keep_what_is_there(const Git& git, const Refs& there) {
    std::string below =
        std::string(kReplacedBelow) + std::to_string(to_unix_ns(system_clock().now()) / 1'000'000'000);
    reporter_.phase("keeping what is there", 0);
    TRY_ASSIGN(const Finished fetched,
               git.run({.arguments = {"fetch", "--quiet", "--no-auto-maintenance", "--no-write-fetch-head",
                                      "--no-tags", "--end-of-options", place_.remote.url,
                                      fmt::format("+refs/*:{}/*", below)},
                        .repository = repository_,
                        .timeout = settings_.timeout,
                        .lenient = true}));
    if (!fetched.exit.ok()) return git.explain("reading what is in", fetched);
    outcome_.moved_aside = fmt::format("below {} of it ({} refs)", below, there.size());
    return {};
  }

  // Before the refs: nobody sees a pointer that leads nowhere.
  Result<void> push_lfs(const Git& git) {
    std::vector<std::string> oids;
    TRY(tree_.visit([&](const TreeEntry& entry) -> Result<void> {
      if (entry.type == EntryType::kFile && entry.path.starts_with(kLfsObjects))
        oids.push_back(entry.path.substr(entry.path.rfind('/') + 1));
      return {};
    }));
    if (!request_.only.empty()) {
      std::vector<std::string> here;
      for (const std::string& oid : oids) {
        TRY_ASSIGN(const auto status, status_if_there(join_path(repository_, lfs_path(oid))));
        if (status) here.push_back(oid);
      }
      oids = std::move(here);
    }
    if (oids.empty()) return {};
    reporter_.phase("pushing LFS objects", 0);
    const auto settings = lfs_settings(place_.remote, "");
    if (!settings) {
      return fail(
          ErrorKind::kUsage,
          fmt::format("{} takes no LFS objects, and the snapshot has {}", place_.remote.url, oids.size()),
          "git:// has no LFS server", "name the target by https:// or ssh://, or restore to a folder");
    }
    if (const auto version = Git::lfs_version(); !version) {
      return fail(ErrorKind::kFailed,
                  fmt::format("the snapshot has {} LFS objects, and git-lfs is not installed", oids.size()),
                  version.error().what, "apt-get install git-lfs");
    }
    for (size_t from = 0; from < oids.size(); from += kOidsAtOnce) {
      if (stop_.stop_requested()) return stopped();
      GitCall call{.arguments = {"push", "--object-id", "origin"},
                   .repository = repository_,
                   .timeout = settings_.timeout,
                   .settings = *settings};
      for (size_t i = from; i < std::min(oids.size(), from + kOidsAtOnce); ++i)
        call.arguments.push_back(oids[i]);
      TRY_ASSIGN(const Finished pushed, git.run_lfs(std::move(call)));
      if (!pushed.exit.ok()) return git.explain("pushing LFS objects to", pushed);
    }
    outcome_.notes.push_back(fmt::format("{} LFS objects were pushed", oids.size()));
    return {};
  }

  Result<void> push_refs(const Git& git) {
    reporter_.phase("pushing", 0);
    GitCall call{.arguments = {"push", "--porcelain", "--mirror", "--no-verify", "--end-of-options",
                               place_.remote.url},
                 .repository = repository_,
                 .timeout = settings_.timeout};
    TRY_ASSIGN(const Finished pushed, git.run(std::move(call)));
    const std::vector<Refused> refused = refused_in(pushed.output);
    if (!pushed.exit.ok() && refused.empty()) return git.explain("pushing to", pushed);
    std::vector<std::string> hidden, lost;
    for (const Refused& one : refused) {
      const bool is_main = one.ref.starts_with("refs/heads/") || one.ref.starts_with("refs/tags/");
      (is_main ? lost : hidden).push_back(fmt::format("{} {}", one.ref, one.why));
    }
    if (!lost.empty()) {
      return fail(
          ErrorKind::kPartial, fmt::format("{} refused {} branches and tags", place_.remote.url, lost.size()),
          names_of(lost), "allow them there (receive.*, protected branches), then again with --overwrite");
    }
    if (!hidden.empty()) {
      outcome_.notes.push_back(fmt::format(
          "{} refs that are no branches or tags were refused there: {}; a restore to a folder has them",
          hidden.size(), names_of(hidden)));
    }
    return {};
  }

  // No push moves a remote's HEAD.
  Result<void> look_at_head(const Git& git) {
    TRY_ASSIGN(const RemoteRefs now, ask(git));
    TRY_ASSIGN(std::string head, text_of(tree_, "HEAD"));
    while (head.ends_with('\n')) head.pop_back();
    if (now.head != head) {
      outcome_.notes.push_back(fmt::format("its HEAD is {}, and was {}: set the default branch there",
                                           now.head.empty() ? "nowhere yet" : now.head, head));
    }
    return {};
  }

  const GitSettings& settings_;
  const CapturedTree& tree_;
  const SourceRestoreRequest& request_;
  Reporter& reporter_;
  std::stop_token stop_;
  Place place_;
  std::string repository_;
  SourceRestoreOutcome outcome_;
};

}  // namespace

Result<SourceRestoreOutcome> restore_git(const GitSettings& settings, const CapturedTree& tree,
                                         const SourceRestoreRequest& request, Reporter& reporter,
                                         std::stop_token stop) {
  if (stop.stop_requested()) return stopped();
  if (request.delta) {
    return fail(ErrorKind::kUsage, "a repository is not restored in place",
                "git fetch takes what a repository lacks", "name a new folder, or a remote, with --to");
  }
  if (request.to.starts_with('/')) {
    if (request.overwrite) {
      return fail(ErrorKind::kRefused, "a folder is restored to when it is new", "",
                  "name a folder that does not exist with --to");
    }
    return request.only.empty() ? restore_whole(tree, request, reporter, stop)
                                : restore_some(settings, tree, request, reporter, stop);
  }
  return Push(settings, tree, request, reporter, std::move(stop)).run();
}

}  // namespace kuramori::git
