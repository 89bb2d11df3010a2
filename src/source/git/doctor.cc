#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "base/units.h"
#include "source/git/git_source.h"
#include "source/git/lfs.h"
#include "source/git/refs.h"

namespace kuramori::git {
namespace {

using Severity = SourceFinding::Severity;

// The oldest that has all that is used: --end-of-options, repack --geometric, core.fsync.
constexpr int kOldestMajor = 2, kOldestMinor = 36;
constexpr uint64_t kFreeAtLeastBytes = uint64_t{1} << 30;

bool is_new_enough(const std::string& version) {
  int major = 0, minor = 0;
  const char* end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ptr != end) std::from_chars(first.ptr + 1, end, minor);
  return major > kOldestMajor || (major == kOldestMajor && minor >= kOldestMinor);
}

class Examiner {
 public:
  explicit Examiner(const GitSettings& settings) : settings_(settings) {}

  std::vector<SourceFinding> run() {
    if (!program()) return std::move(findings_);
    auto place = place_of(settings_);
    if (!place) {
      away("url", place.error(), "the address cannot be used");
      return std::move(findings_);
    }
    files();
    transport(*place);
    webhook();
    remote(*place);
    lfs();
    space();
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const SourceFinding& a, const SourceFinding& b) { return a.severity < b.severity; });
    return std::move(findings_);
  }

 private:
  void tell(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix)});
  }
  void away(std::string about, const Error& error, std::string_view why) {
    tell(Severity::kProblem, std::move(about), error.what, error.why.empty() ? std::string(why) : error.why,
         error.next.empty() ? "kuramori backup, after that is mended" : error.next);
  }

  bool program() {
    const auto version = Git::version();
    if (!version) {
      tell(Severity::kProblem, "git", "git is not installed here",
           "it fetches, restores and checks repositories", "apt-get install git");
      return false;
    }
    if (!is_new_enough(*version)) {
      tell(Severity::kProblem, "git", fmt::format("git {} is too old", *version),
           fmt::format("{}.{} and newer are used", kOldestMajor, kOldestMinor), "upgrade git");
    }
    return true;
  }

  void files() {
    for (const auto& [key, path] :
         {std::pair("ca_file", settings_.ca_file), std::pair("ssh_key_file", settings_.ssh_key_file),
          std::pair("known_hosts_file", settings_.known_hosts_file)}) {
      if (path.empty()) continue;
      const auto status = status_of(path);
      if (!status) {
        away(key, status.error(), "it is named in the configuration");
      } else if (std::string_view(key) == "ssh_key_file" && (status->mode & 077) != 0) {
        tell(Severity::kProblem, key, fmt::format("\"{}\" may be read by others", path),
             "ssh does not use such a key", fmt::format("chmod 600 '{}'", path));
      }
    }
  }

  void transport(const Place& place) {
    if (place.remote.scheme == "http" && !place.access.password.empty()) {
      tell(Severity::kRisk, "url", "the password goes over the line in clear", "http:// is not encrypted",
           "url: https://…");
    }
    if (place.remote.way == Remote::Way::kGit) {
      tell(Severity::kHint, "url", "git:// neither encrypts nor knows who answers",
           "somebody on the way could give another history; what was kept stays",
           "url: https://… or ssh://…");
    }
  }

  void webhook() {
    if (!settings_.webhook || !settings_.webhook->certificate_file.empty()) return;
    const std::string_view listen = settings_.webhook->listen;
    for (const char* local : {"127.", "[::1]:", "localhost:"})
      if (listen.starts_with(local)) return;
    tell(Severity::kRisk, "webhook", fmt::format("calls to {} come in clear", listen),
         "a token that goes over the line can be read, and used by others",
         "listen: \"127.0.0.1:8787\" behind a proxy that has HTTPS, or cert_file: and tls_key_file:");
  }

  void remote(const Place& place) {
    auto git = Git::make(place.remote, place.access, join_path(settings_.mirror, "home"), {});
    if (!git) return away("state", git.error(), "the mirror needs a folder");
    const auto asked = git->run({.arguments = {"ls-remote", "--symref", "--end-of-options", place.remote.url},
                                 .timeout = kAskTimeout});
    if (!asked) return away("url", asked.error(), "the remote did not answer");
    if (!asked->exit.ok()) return away("url", git->explain("asking", *asked), "the remote did not answer");
    const auto refs = parse_ls_remote(asked->output);
    if (!refs) return away("url", refs.error(), "the remote's answer cannot be read");
    if (refs->refs.empty())
      tell(Severity::kHint, "url", "the repository is empty", "there is nothing to keep yet",
           "kuramori backup, once it is not");
    if (place.remote.way != Remote::Way::kFolder) return;
    for (const char* shallow : {"shallow", ".git/shallow"}) {
      const auto status = status_if_there(join_path(place.remote.path, shallow));
      if (status && *status)
        tell(Severity::kProblem, "url", "the repository is a shallow clone",
             "its history ends somewhere: it is no backup",
             fmt::format("git -C '{}' fetch --unshallow", place.remote.path));
    }
  }

  void lfs() {
    const auto version = Git::lfs_version();
    if (version) return;
    const auto known = read_file(join_path(settings_.mirror, "lfs"));
    const bool has_pointers = known && as_text(*known).find("pointer ") != std::string_view::npos;
    if (settings_.lfs == LfsMode::kOff) return;
    if (has_pointers || settings_.lfs == LfsMode::kOn) {
      tell(Severity::kProblem, "git-lfs", "git-lfs is not installed here",
           has_pointers ? "the history points to LFS objects, which are not kept" : "lfs: true is configured",
           "apt-get install git-lfs");
    }
  }

  void space() {
    const auto status = status_if_there(settings_.mirror);
    if (!status || !*status) return;
    const auto free = free_space(settings_.mirror);
    if (!free) return;
    uint64_t mirror = 0;
    if (const auto packs = list_folder(join_path(settings_.mirror, "repository/objects/pack"))) {
      for (const FolderEntry& pack : *packs) {
        if (const auto one = status_of(join_path(settings_.mirror, "repository/objects/pack/" + pack.name)))
          mirror += one->size;
      }
    }
    if (free->free >= mirror + kFreeAtLeastBytes) return;
    tell(Severity::kRisk, "mirror",
         fmt::format("{} are free for a mirror of {}", format_size(free->free), format_size(mirror)),
         "joining its packs takes as much again for a while",
         "free some space, or set KURAMORI_STATE to a larger disk");
  }

  const GitSettings& settings_;
  std::vector<SourceFinding> findings_;
};

}  // namespace

Result<std::vector<SourceFinding>> examine_git(const GitSettings& settings) {
  return Examiner(settings).run();
}

std::vector<SourceClient> needed_clients(const GitSettings& settings) {
  std::vector<SourceClient> clients;
  const auto at = [](const char* program) { return find_program(program).value_or(""); };
  SourceClient git{.program = "git",
                   .purpose = "fetches, restores and checks",
                   .needed = fmt::format("{}.{} or newer", kOldestMajor, kOldestMinor)};
  if (const auto version = Git::version()) {
    git.found = fmt::format("{} at {}", *version, at("git"));
    git.fits = is_new_enough(*version);
  }
  clients.push_back(std::move(git));
  if (settings.lfs != LfsMode::kOff) {
    SourceClient lfs{
        .program = "git-lfs",
        .purpose = settings.lfs == LfsMode::kOn ? "large files" : "large files, if there are any",
        .needed = "any version"};
    if (const auto version = Git::lfs_version()) {
      lfs.found = fmt::format("{} at {}", *version, at("git-lfs"));
      lfs.fits = true;
    }
    clients.push_back(std::move(lfs));
  }
  if (const auto place = place_of(settings); place && place->remote.way == Remote::Way::kSsh) {
    const std::string path = at("ssh");
    clients.push_back({.program = "ssh",
                       .purpose = "reaches the remote",
                       .needed = "any version",
                       .found = path,
                       .fits = !path.empty()});
  }
  return clients;
}

}  // namespace kuramori::git
