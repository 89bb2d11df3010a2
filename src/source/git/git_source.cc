#include "source/git/git_source.h"

#include <fmt/core.h>

#include "source/git/watch.h"
#include "source/git/webhook.h"

namespace kuramori::git {
namespace {

class GitSource final : public Source {
 public:
  explicit GitSource(GitSettings settings) : settings_(std::move(settings)) {}

  void set_earlier(OpenEarlierTree earlier) override { earlier_ = std::move(earlier); }
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return capture_git(settings_, earlier_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return restore_git(settings_, tree, request, reporter, std::move(stop));
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    return drill_git(settings_, tree, sandbox, reporter, std::move(stop));
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine_git(settings_); }
  std::vector<SourceClient> clients() override { return needed_clients(settings_); }
  Result<std::unique_ptr<Watch>> watch() override { return watch_git(settings_); }

 private:
  const GitSettings settings_;
  OpenEarlierTree earlier_;
};

}  // namespace

Result<Place> place_of(const GitSettings& settings) {
  Place place;
  TRY_ASSIGN(place.remote, parse_remote(settings.url));
  place.access = {.user = place.remote.user,
                  .password = place.remote.password,
                  .ca_file = settings.ca_file,
                  .ssh_key_file = settings.ssh_key_file,
                  .known_hosts_file = settings.known_hosts_file};
  if (!settings.user.empty()) place.access.user = settings.user;
  if (!settings.password.empty()) place.access.password = settings.password;
  for (const std::string* text : {&place.access.user, &place.access.password}) {
    if (text->find_first_of(std::string_view("\n\r\0", 3)) != std::string::npos) {
      return fail(ErrorKind::kUsage, "the user or the password holds the end of a line",
                  "git could not be told it", "password_file: a file of one line");
    }
  }
  const bool http = place.remote.way == Remote::Way::kHttp;
  if (!http && !place.access.password.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("a password is given for {}", place.remote.url),
                "only http:// and https:// take one", "over ssh: ssh_key_file");
  }
  if (http && place.access.user.empty() && !place.access.password.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("a password is given for {}, and no user", place.remote.url),
                "servers ask for both, also for a token", "user: x-access-token");
  }
  return place;
}

Result<std::unique_ptr<Source>> open_git(GitSettings settings) {
  if (settings.mirror.empty()) return fail(ErrorKind::kUsage, "a mirror has to stand somewhere");
  if (!settings.url.empty()) TRY(place_of(settings));
  if (!settings.lfs_url.empty()) TRY(parse_remote(settings.lfs_url));
  if (settings.webhook) TRY(check_webhook(*settings.webhook));
  return std::unique_ptr<Source>(new GitSource(std::move(settings)));
}

}  // namespace kuramori::git
