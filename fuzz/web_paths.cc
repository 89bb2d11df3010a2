// Any bytes as what stands in a request's path, query and token: percent-encoding, calls of other people's
// scripts, links that acknowledge, questions. The first byte says which. Nothing that this daemon did not
// make acknowledges anything; no name is another one's; and no word of a question is one that was sent,
// unless it is a name, a number or hexadecimal.
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "crypto/digest.h"
#include "daemon/access.h"
#include "daemon/ack_link.h"
#include "daemon/web_pages.h"
#include "net/url.h"
#include "policy/config.h"
#include "policy/pings.h"

namespace {

using namespace kuramori;

constexpr std::string_view kStore = "store";
const Time kNow = from_unix_ns(int64_t{1'795'000'000} * 1'000'000'000);

void encode_and_back(std::string_view text) {
  const auto back = percent_decode(percent_encode(text));
  CHECK(back && *back == text);
  if (auto query = parse_query(text)) {
    std::string again;
    for (const auto& [name, value] : *query)
      again += (again.empty() ? "" : "&") + percent_encode(name) + "=" + percent_encode(value);
    const auto same = parse_query(again);
    CHECK(same && (again.empty() || *same == *query));
  }
  if (auto endpoint = parse_endpoint(text)) {
    const auto same = parse_endpoint(endpoint->url());
    CHECK(same && same->host == endpoint->host && same->tls == endpoint->tls);
  }
}

void call_ping(std::string_view path) {
  const PingAddress address = ping_address(path);
  CHECK(path.starts_with(address.name) && address.name.find('/') == address.name.npos);
  if (!address.call) return;
  const std::string word(*address.call == PingCall::kDone ? "" : name_of(*address.call));
  CHECK(path == address.name + (word.empty() ? "" : "/" + word));
}

void acknowledge(std::string_view token, const Secret& key) {
  // Whoever hits 256 bits may have it.
  const auto alert = alert_of_token(key, kStore, token, kNow);
  CHECK(!alert && !alert.error().next.empty());
}

// One that was made, and then changed at one place.
void change_one(ByteView bytes, const Secret& key) {
  if (bytes.size() < 11) return;
  const int64_t alert = int64_t{1} + load_le<uint32_t>(bytes.data());
  const Duration ahead = std::chrono::seconds(1 + load_le<uint32_t>(bytes.data() + 4) % 1'000'000);
  std::string token = ack_token(key, kStore, alert, kNow + ahead);
  const auto whose = alert_of_token(key, kStore, token, kNow);
  CHECK(whose && *whose == alert);
  CHECK(!alert_of_token(key, "another", token, kNow));
  CHECK(!alert_of_token(key, kStore, token, kNow + ahead + std::chrono::seconds(1)));
  char& changed = token[load_le<uint16_t>(bytes.data() + 8) % token.size()];
  if (changed == static_cast<char>(bytes[10])) return;
  // Hexadecimal digits may be told in either case, or not; nothing else is the same.
  const bool same = std::tolower(static_cast<unsigned char>(changed)) == std::tolower(bytes[10]);
  changed = static_cast<char>(bytes[10]);
  CHECK(same || !alert_of_token(key, kStore, token, kNow));
}

void find_asker(std::string_view token) {
  static const Access access = [] {
    const ConfigWorld nothing;
    auto made =
        Access::of({{.name = "grafana", .role = "viewer", .hash = hash_of_token("the one")}}, nothing);
    CHECK(made.has_value());
    return std::move(*made);
  }();
  CHECK(access.find(token).has_value() == (token == "the one"));
}

const Config& some_config() {
  static const Config config = [] {
    auto read = parse_config(R"(vaults:
  here: { at: "file:///v", site: here, key_file: /k }
resources:
  orders/db: { kind: files, paths: ["/srv"] }
plans:
  p: { resources: [orders/db], vault: here, every: 1h }
)",
                             "kuramori.yaml", ConfigWorld());
    CHECK(read.has_value());
    return std::move(*read);
  }();
  return config;
}

void ask_question(uint8_t which, std::string_view text) {
  const auto query = parse_query(text);
  if (!query) return;
  std::vector<HttpHeader> given;
  for (const auto& [name, value] : *query) given.push_back({name, value});
  const WebPage& page = web_pages()[which % web_pages().size()];
  const auto words = words_of(page, given, some_config());
  if (!words) {
    CHECK(!words.error().what.empty());
    return;
  }
  for (size_t i = page.words.size(); i < words->size(); ++i) {
    const std::string& word = (*words)[i];
    const bool is_option =
        std::ranges::find(page.parameters, word, &WebParameter::option) != page.parameters.end();
    const bool is_name = word == "here" || word == "orders/db" || word == "p";
    CHECK(!word.empty() && (is_option || is_name || word.find_first_not_of("0123456789abcdef") == word.npos));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const Secret key = Secret::copy_of(Bytes(32, 7));
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      encode_and_back(text);
      break;
    case 1:
      call_ping(text);
      break;
    case 2:
      acknowledge(text, key);
      break;
    case 3:
      change_one({data + 1, size - 1}, key);
      break;
    case 4:
      if (!text.empty()) ask_question(static_cast<uint8_t>(text[0]), text.substr(1));
      break;
    default:
      find_asker(text);
      break;
  }
  return 0;
}
