#include "daemon/ack_link.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>

#include "base/time_text.h"
#include "crypto/digest.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr size_t kKeyBytes = 32, kKeyFileMax = 200;
constexpr size_t kTokenMax = 120;
constexpr std::string_view kPurpose = "kuramori ack link 1:";  // the key signs nothing else

std::optional<int64_t> number_of(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 1) return std::nullopt;
  return number;
}

Digest mark_of(const Secret& key, std::string_view store, std::string_view claim) {
  return hmac_sha256(key.view(), as_bytes(fmt::format("{}{}:{}", kPurpose, store, claim)));
}

}  // namespace

Result<Secret> make_ack_key(const std::string& state_folder) {
  const std::string path = join_path(state_folder, kAckKeyFile);
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (!there) {
    const Secret made = Secret::random(kKeyBytes, system_random());
    // Beside it and moved there: a key is whole or not there.
    TRY(write_file_durably(path, as_bytes(to_hex(made.view()) + "\n"), 0600));
  }
  return read_ack_key(state_folder);
}

Result<Secret> read_ack_key(const std::string& state_folder) {
  const std::string path = join_path(state_folder, kAckKeyFile);
  TRY_ASSIGN(Bytes text, read_file(path, kKeyFileMax));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  auto decoded = from_hex(as_text(text));
  wipe(text);
  Bytes raw = decoded ? std::move(*decoded) : Bytes();
  Secret key = Secret::copy_of(raw);
  wipe(raw);
  if (key.size() != kKeyBytes)
    return fail(ErrorKind::kDamaged, fmt::format("{} is no key", path), "",
                "remove it: another is made, and links that were sent hold no longer");
  return key;
}

std::string ack_token(const Secret& key, std::string_view store, int64_t alert, Time until) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(until.time_since_epoch()).count();
  const std::string claim = fmt::format("{}.{}", alert, seconds);
  return fmt::format("{}.{}", claim, mark_of(key, store, claim).hex());
}

Result<int64_t> alert_of_token(const Secret& key, std::string_view store, std::string_view token, Time now) {
  const Error forged = fail(ErrorKind::kDenied, "this link acknowledges nothing",
                            "it is cut short or changed, or this daemon did not make it",
                            "open it as it stands in the message, or type: kuramori alerts, kuramori ack");
  const size_t last = token.rfind('.');
  if (token.size() > kTokenMax || last == token.npos) return forged;
  const std::string_view claim = token.substr(0, last);
  const auto mark = Digest::from_hex(token.substr(last + 1));
  if (!mark || !equal_secret(mark->raw, mark_of(key, store, claim).raw)) return forged;
  const size_t dot = claim.find('.');
  if (dot == claim.npos) return forged;
  const auto alert = number_of(claim.substr(0, dot)), until = number_of(claim.substr(dot + 1));
  if (!alert || !until) return forged;
  const Time end{std::chrono::seconds(*until)};
  if (now >= end)
    return fail(ErrorKind::kRefused, fmt::format("this link to acknowledge alert {} holds no longer", *alert),
                fmt::format("it did until {}", format_moment(end, "UTC")),
                fmt::format("open that of a newer message, or type: kuramori ack {}", *alert));
  return *alert;
}

}  // namespace kuramori
