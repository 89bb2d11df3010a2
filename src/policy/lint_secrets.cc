// Secrets that stand in the file for everyone who may read it, and for its history in git.
#include <algorithm>
#include <array>
#include <cctype>

#include "policy/lint_rules.h"

namespace kuramori {
namespace {

// The text, if it stands in the file itself. From a variable, a file or a command it does not.
std::string in_clear(const Setting& setting) {
  if (setting.from() != Setting::From::kText) return "";
  const auto text = setting.fetch(ConfigWorld{});
  return text ? *text : "";
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// postgresql://user:secret@host, or password=secret in a connection string.
bool has_password(const std::string& text) {
  const size_t scheme = text.find("://");
  if (scheme != text.npos) {
    const size_t end = text.find_first_of("/?", scheme + 3), at = text.find('@', scheme + 3);
    const size_t colon = text.find(':', scheme + 3);
    if (at != text.npos && (end == text.npos || at < end) && colon != text.npos && colon + 1 < at)
      return true;
  }
  const size_t word = lower(text).find("password");
  if (word == text.npos) return false;
  const size_t is = text.find_first_not_of(" \t", word + 8);
  return is != text.npos && text[is] == '=' && text.find_first_not_of(" \t", is + 1) != text.npos;
}

bool is_secret_name(std::string_view name) {
  constexpr std::array<std::string_view, 5> kWords = {"password", "passwd", "secret", "token", "api_key"};
  const std::string small = lower(name);
  return std::ranges::any_of(kWords, [&](std::string_view word) { return small.find(word) != small.npos; });
}

class Secrets {
 public:
  explicit Secrets(Lint& lint) : lint_(lint) {}

  // A key that holds nothing but a secret.
  void whole(const std::string& who, std::string_view key, const Setting& setting) {
    if (!in_clear(setting).empty()) found(who, key, setting.line());
  }
  // One that may hold a password among other things.
  void within(const std::string& who, std::string_view key, const Setting& setting) {
    if (has_password(in_clear(setting))) found(who, key, setting.line());
  }
  void environment(const std::string& who, const std::vector<EnvironmentVariable>& variables) {
    for (const EnvironmentVariable& one : variables)
      if (is_secret_name(one.name)) whole(who, one.name, one.value);
  }
  void access(const std::string& who, const StoreAccess& access) {
    whole(who, "secret_key", access.secret_key);
    within(who, "endpoint", access.endpoint);
  }
  void target(const std::string& who, const Setting& to) {
    const std::string text = in_clear(to);
    const bool address = text.starts_with("slack:") || text.starts_with("pagerduty:");
    // An example's … is no secret, and is told of as what it is.
    if (text.find("…") == text.npos && (address || has_password(text))) found(who, "to", to.line());
  }

 private:
  void found(const std::string& who, std::string_view key, int line) {
    lint_.add(
        LintLevel::kRisk, "secret-in-clear", line, who, fmt::format("{} holds a secret in clear", key),
        "whoever may read this file, or its history in git, has it",
        fmt::format("write {}_file: PATH (0600), {}_command: … or {}: ${{VARIABLE}}, and change the secret",
                    key, key, key));
  }
  Lint& lint_;
};

}  // namespace

void lint_secrets(Lint& lint) {
  Secrets secrets(lint);
  for (const VaultConfig& vault : lint.config.vaults) {
    const std::string who = about("vault", vault.name);
    secrets.whole(who, "passphrase", vault.passphrase);
    secrets.access(who, vault.access);
  }
  for (const ResourceConfig& resource : lint.config.resources) {
    const std::string who = about("resource", resource.name);
    secrets.within(who, "connect", resource.connect);
    secrets.within(who, "url", resource.git.url);
    for (const Setting* password :
         {&resource.redis.password, &resource.dump.password, &resource.image.password,
          &resource.image.replicate.password, &resource.git.password})
      secrets.whole(who, "password", *password);
    if (resource.git.webhook) secrets.whole(who, "secret", resource.git.webhook->secret);
    secrets.access(who, resource.bucket.access);
    if (resource.bucket.replicate) secrets.access(who, resource.bucket.replicate->access);
    secrets.environment(who, resource.command.environment);
    secrets.environment(who, resource.secret.environment);
  }
  for (const NotifyConfig& entry : lint.config.notify) {
    secrets.target("notify", entry.to);
    secrets.whole("notify", "password", entry.access.password);
    for (const EscalationStep& step : entry.escalate) secrets.target("notify", step.to);
  }
}

}  // namespace kuramori
