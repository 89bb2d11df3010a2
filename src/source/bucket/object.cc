#include "source/bucket/object.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "net/url.h"

namespace kuramori::bucket {
namespace {

constexpr std::string_view kMeta = "x-amz-meta-";
constexpr std::string_view kMetaAttribute = "user.s3.meta.", kTagAttribute = "user.s3.tag.";
// Headers that a GET answers and a PUT takes, under the same name.
constexpr std::string_view kKept[] = {"cache-control",
                                      "content-disposition",
                                      "content-encoding",
                                      "content-language",
                                      "content-type",
                                      "expires",
                                      "x-amz-website-redirect-location"};

}  // namespace

ObjectFacts facts_of(const HttpAnswer& answer, uint64_t total) {
  ObjectFacts facts{.etag = std::string(answer.header("etag")),
                    .version = std::string(answer.header("x-amz-version-id")),
                    .size = total,
                    .modified = parse_http_date(answer.header("last-modified")),
                    .storage_class = std::string(answer.header("x-amz-storage-class")),
                    .encryption = std::string(answer.header("x-amz-server-side-encryption")),
                    .lock_mode = std::string(answer.header("x-amz-object-lock-mode")),
                    .locked_until = std::string(answer.header("x-amz-object-lock-retain-until-date")),
                    .legal_hold = std::string(answer.header("x-amz-object-lock-legal-hold")),
                    .origin = std::string(answer.header(kOriginHeader)),
                    .thaw = std::string(answer.header("x-amz-restore"))};
  if (!answer.header("x-amz-server-side-encryption-customer-algorithm").empty())
    facts.encryption = "customer";
  std::erase(facts.etag, '"');
  const std::string_view tags = answer.header("x-amz-tagging-count");
  (void)std::from_chars(tags.data(), tags.data() + tags.size(), facts.tag_count);
  for (const HttpHeader& header : answer.headers) {
    const bool is_kept = header.name.starts_with(kMeta)
                             ? header.name != kOriginHeader
                             : std::ranges::find(kKept, header.name) != std::end(kKept);
    if (is_kept && !header.value.empty()) facts.headers.push_back(header);
  }
  return facts;
}

bool is_md5(std::string_view etag, std::string_view encryption) {
  return etag.size() == 32 && etag.find_first_not_of("0123456789abcdef") == etag.npos &&
         (encryption.empty() || encryption == "AES256");
}

std::vector<std::pair<std::string, std::string>> attributes_of(const ObjectFacts& facts, const S3Tags& tags) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&](std::string name, std::string_view value) {
    if (!value.empty()) out.emplace_back(std::move(name), value);
  };
  add(std::string(kEtagAttribute), facts.etag);
  // "null" is what an object is called that was put before there were versions, or while there were none.
  add(std::string(kVersionAttribute), facts.version);
  add("user.s3.class", facts.storage_class);
  add("user.s3.encryption", facts.encryption);
  add("user.s3.lock-mode", facts.lock_mode);
  add("user.s3.locked-until", facts.locked_until);
  add("user.s3.legal-hold", facts.legal_hold);
  for (const HttpHeader& header : facts.headers) {
    if (header.name.starts_with(kMeta))
      add(std::string(kMetaAttribute) + header.name.substr(kMeta.size()), header.value);
    else
      add(std::string(kAttributePrefix) + header.name, header.value);
  }
  for (const auto& [name, value] : tags) out.emplace_back(std::string(kTagAttribute) + name, value);
  std::ranges::sort(out);
  return out;
}

PutWords put_words(const TreeEntry& entry) {
  PutWords words;
  for (const auto& [name, value] : entry.attributes) {
    const std::string_view view = name;
    if (view.starts_with(kMetaAttribute)) {
      words.headers.push_back({std::string(kMeta) + name.substr(kMetaAttribute.size()), value});
    } else if (view.starts_with(kTagAttribute)) {
      words.tags.emplace_back(name.substr(kTagAttribute.size()), value);
    } else if (view.starts_with(kAttributePrefix)) {
      const std::string header = name.substr(kAttributePrefix.size());
      if (std::ranges::find(kKept, header) != std::end(kKept)) words.headers.push_back({header, value});
    }
  }
  return words;
}

std::string_view attribute(const TreeEntry& entry, std::string_view name) {
  for (const auto& [key, value] : entry.attributes)
    if (key == name) return value;
  return {};
}

std::string encode_tags(const S3Tags& tags) {
  std::string out;
  for (const auto& [name, value] : tags)
    out += fmt::format("{}{}={}", out.empty() ? "" : "&", percent_encode(name), percent_encode(value));
  return out;
}

}  // namespace kuramori::bucket
