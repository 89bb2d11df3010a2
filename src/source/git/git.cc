#include "source/git/git.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <cstdlib>

#include "os/file.h"

namespace kuramori::git {
namespace {

constexpr size_t kShownBytesMax = 600;

// What old histories hold and no program stumbles over; all else that git fsck calls an error is one.
constexpr const char* kHarmless[] = {"missingSpaceBeforeDate",
                                     "zeroPaddedDate",
                                     "badTimezone",
                                     "badDate",
                                     "badDateOverflow",
                                     "missingEmail",
                                     "badEmail",
                                     "missingNameBeforeEmail",
                                     "missingSpaceBeforeEmail",
                                     "multipleAuthors",
                                     "zeroPaddedFilemode",
                                     "badFilemode",
                                     "emptyName",
                                     "nullSha1",
                                     "missingTaggerEntry",
                                     "badTagName"};

// Objects are only added, packs never rewritten but by us, and nothing runs by itself. Packing is bounded in
// memory. A line that stands still for two minutes is dead.
constexpr std::string_view kConfiguration = R"([safe]
	directory = *
[protocol]
	allow = never
[core]
	hooksPath = /dev/null
	fsmonitor = false
	attributesFile = /dev/null
	excludesFile = /dev/null
	fsync = objects
	multiPackIndex = false
	commitGraph = false
	packedGitLimit = 256m
	packedGitWindowSize = 32m
	deltaBaseCacheLimit = 32m
	bigFileThreshold = 32m
[credential]
	helper =
[transfer]
	fsckObjects = true
	unpackLimit = 1
[fetch]
	unpackLimit = 1
	writeCommitGraph = false
	recurseSubmodules = false
[gc]
	auto = 0
[maintenance]
	auto = false
[repack]
	writeBitmaps = false
[pack]
	threads = 2
	windowMemory = 32m
	deltaCacheSize = 16m
	writeReverseIndex = false
[http]
	lowSpeedLimit = 1
	lowSpeedTime = 120
[init]
	defaultBranch = main
[submodule]
	recurse = false
[lfs]
	concurrenttransfers = 4
	activitytimeout = 120
	dialtimeout = 60
)";

// Answers git's prompts, and git-lfs's, which are worded otherwise.
constexpr std::string_view kAskPass = R"(#!/bin/sh
case "$1" in
"Username for '$KURAMORI_GIT_SITE': " | "Username for \"$KURAMORI_GIT_SITE\"" | "Username for \"$KURAMORI_GIT_SITE/"*\")
  printf '%s\n' "$KURAMORI_GIT_USER" ;;
"Password for '$KURAMORI_GIT_LOGIN': " | "Password for \"$KURAMORI_GIT_LOGIN\"" | "Password for \"$KURAMORI_GIT_LOGIN/"*\")
  printf '%s\n' "$KURAMORI_GIT_PASSWORD" ;;
*) exit 1 ;;
esac
)";

constexpr std::string_view kSsh = R"(#!/bin/sh
set -- -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o ClearAllForwardings=yes "$@"
[ -z "$KURAMORI_GIT_SSH_KEY" ] || set -- -o IdentitiesOnly=yes -i "$KURAMORI_GIT_SSH_KEY" "$@"
[ -z "$KURAMORI_GIT_KNOWN_HOSTS" ] || set -- -o UserKnownHostsFile="$KURAMORI_GIT_KNOWN_HOSTS" -o StrictHostKeyChecking=yes "$@"
exec ssh "$@"
)";

Result<void> keep_file(const std::string& path, std::string_view text, mode_t mode) {
  if (const auto there = read_file(path); there && as_text(*there) == text) return {};
  return write_file_durably(path, as_bytes(text), mode);
}

// As git writes a user into its prompt.
std::string encoded(std::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~')
      out += static_cast<char>(c);
    else
      out += fmt::format("%{:02x}", c);
  }
  return out;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::string last_words(std::string_view errors) {
  while (!errors.empty() && (errors.back() == '\n' || errors.back() == ' ')) errors.remove_suffix(1);
  if (errors.size() > kShownBytesMax) errors = errors.substr(errors.size() - kShownBytesMax);
  std::string line;
  for (const char c : errors) {
    if (c == '\n' || c == '\r') {
      if (!line.ends_with("; ")) line += "; ";
    } else if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
      line += c;
    }
  }
  return line;
}

Result<Git> Git::make(const Remote& remote, const Access& access, std::string home, std::stop_token stop) {
  TRY(find_program("git"));
  TRY(make_folders(home));
  std::string configuration(kConfiguration);
  configuration += fmt::format("[protocol \"{}\"]\n\tallow = always\n", remote.scheme);
  configuration += "[fsck]\n";
  for (const char* id : kHarmless) configuration += fmt::format("\t{} = warn\n", id);
  configuration += "[fetch \"fsck\"]\n";
  for (const char* id : kHarmless) configuration += fmt::format("\t{} = warn\n", id);
  const std::string gitconfig = join_path(home, fmt::format("gitconfig-{}", remote.scheme));
  TRY(keep_file(gitconfig, configuration, 0600));
  TRY(keep_file(join_path(home, "askpass"), kAskPass, 0700));
  TRY(keep_file(join_path(home, "ssh"), kSsh, 0700));

  std::vector<std::string> environment = {
      "GIT_CONFIG_NOSYSTEM=1",    "GIT_ATTR_NOSYSTEM=1",  "GIT_TERMINAL_PROMPT=0",
      "GIT_NO_LAZY_FETCH=1",      "GIT_OPTIONAL_LOCKS=0", "GIT_LFS_SKIP_SMUDGE=1",
      "GIT_PROTOCOL_FROM_USER=0", "GIT_SSH_VARIANT=ssh",  "LC_ALL=C"};
  const auto set = [&](std::string_view name, std::string_view value) {
    environment.push_back(fmt::format("{}={}", name, value));
  };
  // Of ours only what finds programs, keys' agents and the way out of a network.
  for (const char* name :
       {"PATH", "TMPDIR", "SSH_AUTH_SOCK", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY",
        "no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    if (const char* value = std::getenv(name)) set(name, value);
  }
  set("HOME", home);
  set("XDG_CONFIG_HOME", home);
  set("GIT_CONFIG_GLOBAL", gitconfig);
  set("GIT_ASKPASS", join_path(home, "askpass"));
  set("SSH_ASKPASS", "/bin/false");
  set("GIT_SSH", join_path(home, "ssh"));
  set("KURAMORI_GIT_SSH_KEY", access.ssh_key_file);
  set("KURAMORI_GIT_KNOWN_HOSTS", access.known_hosts_file);
  if (!access.ca_file.empty()) set("GIT_SSL_CAINFO", access.ca_file);
  if (remote.way == Remote::Way::kHttp && !access.password.empty()) {
    set("KURAMORI_GIT_SITE", remote.site);
    set("KURAMORI_GIT_USER", access.user);
    set("KURAMORI_GIT_PASSWORD", access.password);
    const size_t host = remote.site.find("://") + 3;
    set("KURAMORI_GIT_LOGIN",
        fmt::format("{}{}@{}", remote.site.substr(0, host), encoded(access.user), remote.site.substr(host)));
  } else {
    // Nothing is asked that nobody would answer.
    set("KURAMORI_GIT_SITE", "none");
    set("KURAMORI_GIT_LOGIN", "none");
  }
  return Git(remote, std::move(environment), std::move(stop));
}

Result<Finished> Git::run_program(std::vector<std::string> argv, GitCall call) const {
  Command command{.argv = std::move(argv), .environment = environment_};
  command.die_with_us = true;
  command.input = std::move(call.input);
  command.on_output = std::move(call.on_output);
  command.output_max = call.output_max;
  command.timeout = call.timeout.value_or(kLocalTimeout);
  command.stop = stop_;
  size_t count = 0;
  const auto configure = [&](std::string_view key, std::string_view value) {
    command.environment->push_back(fmt::format("GIT_CONFIG_KEY_{}={}", count, key));
    command.environment->push_back(fmt::format("GIT_CONFIG_VALUE_{}={}", count, value));
    ++count;
  };
  for (const auto& [key, value] : call.settings) configure(key, value);
  if (call.lenient) configure("transfer.fsckObjects", "false");
  command.environment->push_back(fmt::format("GIT_CONFIG_COUNT={}", count));
  if (!call.repository.empty()) command.environment->push_back("GIT_DIR=" + call.repository);
  command.folder = call.repository.empty() ? "/" : call.repository;
  TRY_ASSIGN(Finished finished, ::kuramori::run(command));
  if (finished.output_truncated) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} said more than {} bytes", command.argv[0], call.output_max),
                "lists of refs are held in memory", "report the size of this repository");
  }
  return finished;
}

Result<Finished> Git::run(GitCall call) const {
  std::vector<std::string> argv{"git"};
  argv.insert(argv.end(), call.arguments.begin(), call.arguments.end());
  return run_program(std::move(argv), std::move(call));
}

Result<Finished> Git::run_lfs(GitCall call) const {
  std::vector<std::string> argv{"git-lfs"};
  argv.insert(argv.end(), call.arguments.begin(), call.arguments.end());
  return run_program(std::move(argv), std::move(call));
}

Result<std::string> Git::checked(GitCall call) const {
  const std::string verb = call.arguments.empty() ? "" : call.arguments.front();
  TRY_ASSIGN(Finished finished, run(std::move(call)));
  if (finished.exit.ok()) return std::move(finished.output);
  return fail(ErrorKind::kFailed, fmt::format("git {} failed ({})", verb, finished.exit.describe()),
              last_words(finished.errors));
}

Result<std::string> Git::version() {
  TRY_ASSIGN(const std::string text, run_checked({.argv = {"git", "version"}, .timeout = kAskTimeout}));
  constexpr std::string_view kBefore = "git version ";
  std::string_view version = text;
  if (version.starts_with(kBefore)) version.remove_prefix(kBefore.size());
  return std::string(version.substr(0, version.find_first_of(" \n")));
}

Result<std::string> Git::lfs_version() {
  TRY(find_program("git-lfs"));
  TRY_ASSIGN(const std::string text, run_checked({.argv = {"git-lfs", "version"}, .timeout = kAskTimeout}));
  const std::string_view version = std::string_view(text).substr(0, text.find_first_of(" \n"));
  return std::string(version.substr(version.find('/') == std::string_view::npos ? 0 : version.find('/') + 1));
}

Error Git::explain(std::string_view doing, const Finished& finished) const {
  const std::string_view said = finished.errors;
  const std::string what = fmt::format("{} {} failed", doing, remote_.url);
  std::string why = last_words(said);
  if (why.empty()) why = finished.exit.describe();
  struct Known {
    const char* part;
    ErrorKind kind;
    const char* next;
  };
  static constexpr const char* kCredentials =
      "set user: and password_file: (over ssh: ssh_key_file:) of this resource to ones that may read it";
  static constexpr const char* kAddress = "look at url: of this resource; git ls-remote URL shows what it is";
  static constexpr const char* kReach = "see that the host answers from this machine, then again";
  static constexpr Known kKnown[] = {
      {"Host key verification failed", ErrorKind::kDenied,
       "ssh-keyscan HOST, compare its key, and name the file by known_hosts_file:"},
      {"SSL certificate", ErrorKind::kDenied, "name the authority's certificate by ca_file:"},
      {"certificate verif", ErrorKind::kDenied, "name the authority's certificate by ca_file:"},
      {"Authentication failed", ErrorKind::kDenied, kCredentials},
      {"could not read Username", ErrorKind::kDenied, kCredentials},
      {"could not read Password", ErrorKind::kDenied, kCredentials},
      {"unable to read askpass", ErrorKind::kDenied, kCredentials},
      {"Permission denied", ErrorKind::kDenied, kCredentials},
      {"error: 403", ErrorKind::kDenied, kCredentials},
      {"access denied", ErrorKind::kDenied, kAddress},
      {"does not appear to be a git repository", ErrorKind::kFailed, kAddress},
      {"not found", ErrorKind::kFailed, kAddress},
      {"Could not resolve host", ErrorKind::kFailed, kReach},
      {"unable to look up", ErrorKind::kFailed, kReach},
      {"Connection refused", ErrorKind::kFailed, kReach},
      {"timed out", ErrorKind::kFailed, kReach},
      {"No space left", ErrorKind::kNoSpace, "free some space below the state folder (KURAMORI_STATE)"},
  };
  for (const Known& known : kKnown) {
    if (has(said, known.part)) return fail(known.kind, what, why, known.next);
  }
  return fail(ErrorKind::kFailed, what, why, kAddress);
}

}  // namespace kuramori::git
