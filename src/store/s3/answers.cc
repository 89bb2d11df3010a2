#include "store/s3/answers.h"

#include <fmt/core.h>

#include <charconv>
#include <ctime>
#include <pugixml.hpp>

#include "base/time_text.h"
#include "net/url.h"

namespace kuramori {
namespace {

constexpr int64_t kSecondsMax = 9'000'000'000;  // since 1970; a Time ends in 2262
constexpr size_t kShownBytesMax = 120;          // of a body, in messages

// Elements by local name: stores differ in the namespace they declare, and in whether they do.
std::string_view local_name(const pugi::xml_node& node) {
  std::string_view name = node.name();
  size_t colon = name.find(':');
  return colon == name.npos ? name : name.substr(colon + 1);
}

pugi::xml_node child(const pugi::xml_node& parent, std::string_view name) {
  for (pugi::xml_node node : parent.children()) {
    if (local_name(node) == name) return node;
  }
  return {};
}

std::string text_of(const pugi::xml_node& parent, std::string_view name) {
  return child(parent, name).text().get();
}

Error unreadable(ByteView body, std::string_view what) {
  std::string shown;
  for (char c : as_text(body).substr(0, kShownBytesMax)) shown += c >= ' ' && c < 0x7f ? c : ' ';
  return fail(ErrorKind::kFailed, fmt::format("the store's answer is no {}", what),
              fmt::format("it begins: {}", shown), "check that the endpoint is that of an S3 store");
}

struct Document {
  pugi::xml_document document;
  pugi::xml_node root;
};

Result<void> load(Document& out, ByteView body, std::string_view root_name) {
  // Attributes, comments and declarations are of no use; entities of a document type are not expanded at all.
  unsigned flags = pugi::parse_escapes | pugi::parse_cdata | pugi::parse_ws_pcdata_single;
  auto parsed = out.document.load_buffer(body.data(), body.size(), flags, pugi::encoding_utf8);
  if (!parsed) return unreadable(body, root_name);
  out.root = out.document.document_element();
  if (local_name(out.root) != root_name) return unreadable(body, root_name);
  return {};
}

// Lists are asked for with encoding-type=url; a store that does not know it gives names as they are and says
// so by leaving <EncodingType> out.
struct Decoding {
  bool encoded = false;
  explicit Decoding(const pugi::xml_node& root) : encoded(text_of(root, "EncodingType") == "url") {}
  Result<std::string> operator()(const std::string& text) const {
    if (!encoded) return text;
    std::string spaced = text;  // S3 encodes a space as '+'
    for (char& c : spaced) {
      if (c == '+') c = ' ';
    }
    return percent_decode(spaced);
  }
};

Result<bool> truth_of(const pugi::xml_node& root, std::string_view name, ByteView body) {
  std::string text = text_of(root, name);
  if (text == "true") return true;
  if (text == "false") return false;
  return unreadable(body, fmt::format("list: it does not say {}", name));
}

Result<uint64_t> size_of(const pugi::xml_node& node, ByteView body) {
  std::string text = text_of(node, "Size");
  uint64_t size = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty())
    return unreadable(body, "list: an object has no size");
  return size;
}

}  // namespace

std::optional<S3ErrorAnswer> parse_s3_error(ByteView body) {
  Document xml;
  if (!load(xml, body, "Error")) return std::nullopt;
  S3ErrorAnswer error{.code = text_of(xml.root, "Code"),
                      .message = text_of(xml.root, "Message"),
                      .region = text_of(xml.root, "Region")};
  if (error.code.empty()) return std::nullopt;
  return error;
}

Result<S3ListAnswer> parse_list(ByteView body) {
  Document xml;
  TRY(load(xml, body, "ListBucketResult"));
  S3ListAnswer answer;
  Decoding decode(xml.root);
  TRY_ASSIGN(answer.truncated, truth_of(xml.root, "IsTruncated", body));
  for (pugi::xml_node node : xml.root.children()) {
    if (local_name(node) != "Contents") continue;
    ObjectInfo object;
    TRY_ASSIGN(object.name, decode(text_of(node, "Key")));
    if (object.name.empty()) return unreadable(body, "list: an object has no name");
    TRY_ASSIGN(object.size, size_of(node, body));
    object.stored_at = parse_s3_time(text_of(node, "LastModified"));
    object.storage_class = text_of(node, "StorageClass");
    answer.objects.push_back(std::move(object));
  }
  return answer;
}

Result<S3VersionsAnswer> parse_versions(ByteView body) {
  Document xml;
  TRY(load(xml, body, "ListVersionsResult"));
  S3VersionsAnswer answer;
  Decoding decode(xml.root);
  TRY_ASSIGN(answer.truncated, truth_of(xml.root, "IsTruncated", body));
  TRY_ASSIGN(answer.next_key, decode(text_of(xml.root, "NextKeyMarker")));
  answer.next_id = text_of(xml.root, "NextVersionIdMarker");
  for (pugi::xml_node node : xml.root.children()) {
    bool marker = local_name(node) == "DeleteMarker";
    if (!marker && local_name(node) != "Version") continue;
    ObjectVersion version{.id = text_of(node, "VersionId"),
                          .stored_at = parse_s3_time(text_of(node, "LastModified")),
                          .latest = text_of(node, "IsLatest") == "true",
                          .delete_marker = marker};
    TRY_ASSIGN(version.name, decode(text_of(node, "Key")));
    if (version.name.empty() || version.id.empty()) return unreadable(body, "list: a version has no name");
    if (!marker) {
      TRY_ASSIGN(version.size, size_of(node, body));
    }
    answer.versions.push_back(std::move(version));
  }
  return answer;
}

Result<S3BucketAnswer> parse_bucket_list(ByteView body) {
  Document xml;
  const bool has_versions = static_cast<bool>(load(xml, body, "ListVersionsResult"));
  if (!has_versions) TRY(load(xml, body, "ListBucketResult"));
  S3BucketAnswer answer;
  const Decoding decode(xml.root);
  TRY_ASSIGN(answer.truncated, truth_of(xml.root, "IsTruncated", body));
  TRY_ASSIGN(answer.next_key, decode(text_of(xml.root, "NextKeyMarker")));
  answer.next_version = text_of(xml.root, "NextVersionIdMarker");
  answer.next_token = text_of(xml.root, "NextContinuationToken");
  for (const pugi::xml_node node : xml.root.children()) {
    const std::string_view name = local_name(node);
    const bool marker = name == "DeleteMarker";
    if (!marker && name != (has_versions ? "Version" : "Contents")) continue;
    S3Listed entry{.version = text_of(node, "VersionId"),
                   .etag = text_of(node, "ETag"),
                   .storage_class = text_of(node, "StorageClass"),
                   .latest = !has_versions || text_of(node, "IsLatest") == "true",
                   .delete_marker = marker};
    TRY_ASSIGN(entry.key, decode(text_of(node, "Key")));
    std::erase(entry.etag, '"');
    const std::optional<Time> modified = parse_s3_time(text_of(node, "LastModified"));
    if (entry.key.empty() || !modified || (has_versions && entry.version.empty()))
      return unreadable(body, "list: an entry has no name, version or time");
    entry.modified = *modified;
    if (!marker) {
      TRY_ASSIGN(entry.size, size_of(node, body));
    }
    answer.entries.push_back(std::move(entry));
  }
  return answer;
}

Result<S3Tags> parse_tags(ByteView body) {
  Document xml;
  TRY(load(xml, body, "Tagging"));
  S3Tags tags;
  for (const pugi::xml_node node : child(xml.root, "TagSet").children()) {
    if (local_name(node) == "Tag") tags.emplace_back(text_of(node, "Key"), text_of(node, "Value"));
  }
  return tags;
}

Result<std::vector<S3LifecycleRule>> parse_lifecycle(ByteView body) {
  Document xml;
  TRY(load(xml, body, "LifecycleConfiguration"));
  const auto days_in = [](const pugi::xml_node& node, std::string_view name) -> std::optional<int> {
    const pugi::xml_node days = child(node, name);
    if (!days) return std::nullopt;
    return days.text().as_int();
  };
  std::vector<S3LifecycleRule> rules;
  for (const pugi::xml_node node : xml.root.children()) {
    if (local_name(node) != "Rule") continue;
    S3LifecycleRule rule{
        .id = text_of(node, "ID"),
        .enabled = text_of(node, "Status") == "Enabled",
        .days = days_in(child(node, "Expiration"), "Days"),
        .noncurrent_days = days_in(child(node, "NoncurrentVersionExpiration"), "NoncurrentDays")};
    const pugi::xml_node filter = child(node, "Filter");
    rule.prefix = text_of(child(filter, "And"), "Prefix");
    if (rule.prefix.empty()) rule.prefix = text_of(filter, "Prefix");
    if (rule.prefix.empty()) rule.prefix = text_of(node, "Prefix");
    struct Text final : pugi::xml_writer {
      std::string text;
      void write(const void* data, size_t size) override {
        text.append(static_cast<const char*>(data), size);
      }
    } writer;
    node.print(writer, "", pugi::format_raw, pugi::encoding_utf8);
    rule.xml = std::move(writer.text);
    rules.push_back(std::move(rule));
  }
  return rules;
}

Result<bool> grants_everybody(ByteView acl) {
  Document xml;
  TRY(load(xml, acl, "AccessControlPolicy"));
  for (const pugi::xml_node grant : child(xml.root, "AccessControlList").children()) {
    const std::string uri = text_of(child(grant, "Grantee"), "URI");
    if (uri.ends_with("/AllUsers") || uri.ends_with("/AuthenticatedUsers")) return true;
  }
  return false;
}

Result<S3UploadsAnswer> parse_uploads(ByteView body) {
  Document xml;
  TRY(load(xml, body, "ListMultipartUploadsResult"));
  S3UploadsAnswer answer;
  Decoding decode(xml.root);
  TRY_ASSIGN(answer.truncated, truth_of(xml.root, "IsTruncated", body));
  TRY_ASSIGN(answer.next_key, decode(text_of(xml.root, "NextKeyMarker")));
  answer.next_id = text_of(xml.root, "NextUploadIdMarker");
  for (pugi::xml_node node : xml.root.children()) {
    if (local_name(node) != "Upload") continue;
    S3Upload upload{.id = text_of(node, "UploadId"), .begun = parse_s3_time(text_of(node, "Initiated"))};
    TRY_ASSIGN(upload.key, decode(text_of(node, "Key")));
    if (upload.key.empty() || upload.id.empty()) return unreadable(body, "list: an upload has no name");
    answer.uploads.push_back(std::move(upload));
  }
  return answer;
}

Result<std::string> parse_upload_id(ByteView body) {
  Document xml;
  TRY(load(xml, body, "InitiateMultipartUploadResult"));
  std::string id = text_of(xml.root, "UploadId");
  if (id.empty()) return unreadable(body, "upload: it has no id");
  return id;
}

bool is_complete_result(ByteView body) {
  Document xml;
  return static_cast<bool>(load(xml, body, "CompleteMultipartUploadResult"));
}

Result<std::string> parse_versioning(ByteView body) {
  Document xml;
  TRY(load(xml, body, "VersioningConfiguration"));
  return text_of(xml.root, "Status");
}

Result<S3RetentionAnswer> parse_retention(ByteView body) {
  Document xml;
  TRY(load(xml, body, "Retention"));
  std::optional<Time> until = parse_s3_time(text_of(xml.root, "RetainUntilDate"));
  if (!until) return unreadable(body, "retention: it has no date");
  return S3RetentionAnswer{.mode = text_of(xml.root, "Mode"), .until = *until};
}

Result<bool> parse_legal_hold(ByteView body) {
  Document xml;
  TRY(load(xml, body, "LegalHold"));
  std::string status = text_of(xml.root, "Status");
  if (status != "ON" && status != "OFF") return unreadable(body, "legal hold: neither ON nor OFF");
  return status == "ON";
}

std::optional<Time> parse_s3_time(std::string_view text) {
  if (text.find('T') == text.npos) return std::nullopt;
  Result<Moment> moment = parse_moment(text, "UTC");
  return moment ? std::optional<Time>(moment->time) : std::nullopt;
}

std::optional<Time> parse_http_date(std::string_view text) {
  std::tm parts{};
  std::string owned(text);
  const char* end = ::strptime(owned.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  if (end == nullptr || *end != 0) return std::nullopt;
  int64_t seconds = ::timegm(&parts);
  if (seconds < 0 || seconds > kSecondsMax) return std::nullopt;
  return from_unix_ns(seconds * 1'000'000'000);
}

}  // namespace kuramori
