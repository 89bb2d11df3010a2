#include "daemon/access.h"

#include <fmt/core.h>

#include <algorithm>

#include "crypto/digest.h"
#include "crypto/secret.h"

namespace kuramori {
namespace {

constexpr std::string_view kHash = "sha256:";

}  // namespace

std::string_view name_of(AskerRole role) {
  return token_roles()[static_cast<size_t>(role)];
}

std::optional<AskerRole> asker_role_of(std::string_view name) {
  const auto at = std::ranges::find(token_roles(), name);
  if (at == token_roles().end()) return std::nullopt;
  return static_cast<AskerRole>(at - token_roles().begin());
}

std::string hash_of_token(std::string_view token) {
  return std::string(kHash) + to_hex(sha256(as_bytes(token)).raw);
}

NewToken make_token(Random& random) {
  std::array<uint8_t, kTokenBytes> raw;
  random.fill(raw);
  NewToken made{.text = std::string(kTokenPrefix) + to_hex(raw), .hash = {}};
  wipe(raw);
  made.hash = hash_of_token(made.text);
  return made;
}

Result<Access> Access::of(const std::vector<TokenConfig>& tokens, const ConfigWorld& world) {
  Access access;
  for (const TokenConfig& token : tokens) {
    std::string hash = token.hash;
    if (token.token.is_set()) {
      TRY_ASSIGN(std::string text, token.token.fetch(world));
      if (text.size() < kTokenCharactersMin)
        return fail(
            ErrorKind::kUsage, fmt::format("the token \"{}\" is too short to be safe", token.name),
            fmt::format("it has {} characters, and at least {} are needed", text.size(), kTokenCharactersMin),
            fmt::format("make one: kuramori token new {}", token.name));
      hash = hash_of_token(text);
      wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    }
    TRY_ASSIGN(const Bytes raw, from_hex(std::string_view(hash).substr(std::min(kHash.size(), hash.size()))));
    Known known{.digest = {}, .asker = {token.name, asker_role_of(token.role).value_or(AskerRole::kViewer)}};
    if (raw.size() != known.digest.raw.size())
      return fail(ErrorKind::kUsage, fmt::format("the hash of the token \"{}\" is none", token.name));
    std::ranges::copy(raw, known.digest.raw.begin());
    access.known_.push_back(std::move(known));
  }
  return access;
}

std::optional<Asker> Access::find(std::string_view token) const {
  const Digest digest = sha256(as_bytes(token));
  std::optional<Asker> found;
  // All of them, always: how long it takes says nothing of which it was.
  for (const Known& known : known_)
    if (equal_secret(known.digest.raw, digest.raw)) found = known.asker;
  return found;
}

Duration Guesses::wait(const std::string& peer, Duration now) {
  return all_.with([&](auto& all) {
    const auto at = all.find(peer);
    return at == all.end() || at->second.until <= now ? Duration(0) : at->second.until - now;
  });
}

void Guesses::wrong(const std::string& peer, Duration now) {
  all_.with([&](auto& all) {
    std::erase_if(all, [&](const auto& one) { return now - one.second.last > kGuessesForgotten; });
    // An attacker with very many addresses is not slowed, and finds 256 bits no sooner for it.
    if (all.size() >= kGuessersMax && !all.contains(peer)) return;
    One& one = all[peer];
    one.last = now;
    if (++one.count <= kGuessesFree) return;
    const int doublings = std::min(one.count - kGuessesFree - 1, 10);
    one.until = now + std::min(kGuessPauseFirst * (1 << doublings), kGuessPauseMost);
  });
}

void Guesses::right(const std::string& peer) {
  all_.with([&](auto& all) { all.erase(peer); });
}

}  // namespace kuramori
