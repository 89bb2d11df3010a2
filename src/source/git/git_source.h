// One kind of resource: a git repository, wherever it is. Its snapshot is a bare repository as plain files:
// every ref with all it leads to, and those the remote has no more; the objects of Git LFS beside them.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/world.h"
#include "source/git/git.h"
#include "source/source.h"

namespace kuramori::git {

enum class LfsMode : uint8_t {
  kAuto,  // where the history has pointers. Without git-lfs the snapshot is partial then
  kOn,    // the same; doctor wants git-lfs in any case
  kOff,   // pointers are kept, what they point to is not
};

constexpr Duration kFetchTimeout = std::chrono::hours(6);

// Where we are told of pushes (webhook.h).
struct WebhookSettings {
  std::string listen;                      // "127.0.0.1:8787"
  std::string path = "/";                  // of the URL that is called
  std::string secret;                      // which calls are signed with
  std::string certificate_file, key_file;  // PEM, both: HTTPS
};

struct GitSettings {
  std::string url;             // as of remote.h
  std::string user, password;  // over HTTP, instead of those in the URL
  std::string ssh_key_file, known_hosts_file, ca_file;
  std::string lfs_url;  // of the LFS server, where it is not the repository's own
  LfsMode lfs = LfsMode::kAuto;
  Duration timeout = kFetchTimeout;  // of a fetch, and of a push
  std::optional<WebhookSettings> webhook;
  // Where the mirror stands: a folder of this source's own. It may be lost: then everything is fetched once.
  std::string mirror;
};

// kUsage for settings that cannot be meant. Connects to nothing yet. Without a URL there is nothing to
// capture, and snapshots are restored and proven all the same.
Result<std::unique_ptr<Source>> open_git(GitSettings settings);

// --- what its parts share ------------------------------------------------------------------------------

struct Place {
  Remote remote;
  Access access;
};
// The URL with what was given beside it.
Result<Place> place_of(const GitSettings& settings);

Result<std::unique_ptr<TreeCapture>> capture_git(const GitSettings& settings, const OpenEarlierTree& earlier,
                                                 Reporter& reporter, std::stop_token stop);
Result<SourceRestoreOutcome> restore_git(const GitSettings& settings, const CapturedTree& tree,
                                         const SourceRestoreRequest& request, Reporter& reporter,
                                         std::stop_token stop);
Result<std::vector<CheckResult>> drill_git(const GitSettings& settings, const CapturedTree& tree,
                                           const std::string& sandbox, Reporter& reporter,
                                           std::stop_token stop);
Result<std::vector<SourceFinding>> examine_git(const GitSettings& settings);
std::vector<SourceClient> needed_clients(const GitSettings& settings);

}  // namespace kuramori::git
