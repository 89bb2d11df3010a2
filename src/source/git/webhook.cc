#include "source/git/webhook.h"

#include <fmt/core.h>

#include <optional>

#include "crypto/digest.h"
#include "crypto/secret.h"

namespace kuramori::git {
namespace {

constexpr std::string_view kSha256 = "sha256=";

// Whether `hex` is the HMAC of the body.
bool is_signed(std::string_view hex, const ServerRequest& request, std::string_view secret) {
  const std::string ours = hmac_sha256(as_bytes(secret), request.body).hex();
  std::string theirs(hex);
  for (char& c : theirs)
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  return equal_secret(as_bytes(ours), as_bytes(theirs));
}

// Nothing: the call brings no signature of a kind we know.
std::optional<bool> verdict(const ServerRequest& request, std::string_view secret) {
  for (const char* name : {"x-hub-signature-256", "x-hub-signature"}) {
    const std::string_view given = request.header(name);
    // Of "sha1=" GitHub sends one, too, beside the other.
    if (given.starts_with(kSha256)) return is_signed(given.substr(kSha256.size()), request, secret);
  }
  for (const char* name : {"x-gitea-signature", "x-gogs-signature"})
    if (const std::string_view given = request.header(name); !given.empty())
      return is_signed(given, request, secret);
  const std::string_view token = request.header("x-gitlab-token");
  if (token.empty()) return std::nullopt;
  // Digests: of two texts of unequal length the length would be told.
  return equal_secret(sha256(as_bytes(token)).raw, sha256(as_bytes(secret)).raw);
}

}  // namespace

ServerAnswer judge_hook(const ServerRequest& request, std::string_view secret) {
  const std::optional<bool> is_right = verdict(request, secret);
  if (!is_right) {
    return {.status = 401,
            .body = "not signed: X-Hub-Signature-256, X-Gitea-Signature or X-Gitlab-Token is needed\n"};
  }
  if (!*is_right) return {.status = 403, .body = "signed with another secret\n"};
  return {.status = 202, .body = "the remote is asked\n"};
}

Result<void> check_webhook(const WebhookSettings& settings) {
  if (settings.listen.empty()) {
    return fail(ErrorKind::kUsage, "the webhook does not say where it listens", "",
                "listen: \"127.0.0.1:8787\"");
  }
  if (settings.secret.size() < kHookSecretBytesMin) {
    return fail(ErrorKind::kUsage,
                settings.secret.empty()
                    ? "the webhook has no secret"
                    : fmt::format("the webhook's secret has less than {} bytes", kHookSecretBytesMin),
                "whoever reaches it could guess it",
                "openssl rand -hex 32 makes one; secret_file: says where it is");
  }
  if (!settings.path.starts_with('/') || settings.path.find_first_of("?# \r\n") != std::string::npos) {
    return fail(ErrorKind::kUsage, fmt::format("the webhook's path is \"{}\"", settings.path),
                "it begins with a slash and holds no query", "path: /hooks/app");
  }
  if (settings.certificate_file.empty() != settings.key_file.empty()) {
    return fail(ErrorKind::kUsage, "the webhook has a certificate without a key, or a key without one",
                "HTTPS takes both", "cert_file: and tls_key_file:");
  }
  return {};
}

Result<std::unique_ptr<Webhook>> Webhook::start(const WebhookSettings& settings,
                                                std::function<void()> on_push) {
  TRY(check_webhook(settings));
  ServerRoute route{
      .method = "POST", .path = settings.path, .handle = {}, .body_bytes_max = kHookBodyBytesMax};
  route.handle = [secret = settings.secret, told = std::move(on_push)](const ServerRequest& request) {
    ServerAnswer answer = judge_hook(request, secret);
    if (answer.status == 202) told();
    return answer;
  };
  TRY_ASSIGN(auto server, HttpServer::start({.listen = settings.listen,
                                             .certificate_file = settings.certificate_file,
                                             .key_file = settings.key_file,
                                             .connections_max = kHookConnectionsMax},
                                            {std::move(route)}));
  return std::unique_ptr<Webhook>(new Webhook(std::move(server), settings.path));
}

}  // namespace kuramori::git
