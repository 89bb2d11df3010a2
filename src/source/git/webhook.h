// Being told of pushes: a small HTTP server that GitHub, GitLab, Gitea, Forgejo, Gogs, Bitbucket or a hook of
// the repository's own calls. What a call says is not believed, and not read: it only makes us ask the remote
// at once.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "net/http_server.h"
#include "source/git/git_source.h"

namespace kuramori::git {

// Of what a call says, and calls at once, signed or not: memory stays bounded. A push that says more is found
// when the remote is asked next.
constexpr size_t kHookBodyBytesMax = size_t{4} << 20;
constexpr unsigned kHookConnectionsMax = 8;
constexpr size_t kHookSecretBytesMin = 16;

// What a call is answered with: 202 for one that is signed by `secret`, 403 for one that is signed otherwise,
// 401 for one that is not. Compared in time that tells nothing.
//   X-Hub-Signature-256, X-Hub-Signature: sha256=HEX   the HMAC of the body (GitHub, Gitea, Forgejo,
//   Bitbucket) X-Gitea-Signature, X-Gogs-Signature: HEX           the same X-Gitlab-Token: SECRET
ServerAnswer judge_hook(const ServerRequest& request, std::string_view secret);

// Listens while it lives. `on_push` is called for each signed call, by threads of the server.
class Webhook {
 public:
  // kUsage: the settings cannot be meant.
  static Result<std::unique_ptr<Webhook>> start(const WebhookSettings& settings,
                                                std::function<void()> on_push);
  std::string url() const { return server_->url() + path_; }

 private:
  Webhook(std::unique_ptr<HttpServer> server, std::string path)
      : server_(std::move(server)), path_(std::move(path)) {}
  const std::unique_ptr<HttpServer> server_;
  const std::string path_;
};

// kUsage for what cannot be meant.
Result<void> check_webhook(const WebhookSettings& settings);

}  // namespace kuramori::git
