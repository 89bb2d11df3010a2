// What an object is besides its bytes, as S3 tells it, as a tree's attributes keep it, and as a put says it.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/tree_entry.h"
#include "net/http.h"
#include "store/s3/answers.h"

namespace kuramori::bucket {

// Names of attributes begin with this: on a filesystem that has such attributes they are restored as they
// are.
constexpr std::string_view kAttributePrefix = "user.s3.";
constexpr std::string_view kEtagAttribute = "user.s3.etag";
constexpr std::string_view kVersionAttribute = "user.s3.version";
constexpr std::string_view kMarkerAttribute = "user.s3.delete-marker";
// Where a replicated object came from: version, ETag and time of its original.
constexpr std::string_view kOriginHeader = "x-amz-meta-kuramori-origin";

struct ObjectFacts {
  std::string etag, version;  // without quotes; "": none was told
  uint64_t size = 0;
  std::optional<Time> modified;  // to a second, as headers have it
  std::string storage_class;     // "": STANDARD
  std::string encryption;        // "AES256", "aws:kms"
  std::string lock_mode, locked_until, legal_hold;
  size_t tag_count = 0;
  std::vector<HttpHeader> headers;  // what a put of the same object says: type, caching, x-amz-meta-…
  std::string origin;               // the value of kOriginHeader, which is not among them
  std::string thaw;                 // of cold classes: what x-amz-restore says
};

// From the answer to a GET (of a range) or HEAD. `total`: the whole object's size.
ObjectFacts facts_of(const HttpAnswer& answer, uint64_t total);

// Whether the ETag is the MD5 of the bytes: not of multiparts, nor under a key of the customer or KMS.
bool is_md5(std::string_view etag, std::string_view encryption);

// As attributes of an entry, sorted by name.
std::vector<std::pair<std::string, std::string>> attributes_of(const ObjectFacts& facts, const S3Tags& tags);
// The headers of a put that makes it so again, and its tags. What is of the store alone (ETag, version) is
// not among them.
struct PutWords {
  std::vector<HttpHeader> headers;
  S3Tags tags;
};
PutWords put_words(const TreeEntry& entry);
std::string_view attribute(const TreeEntry& entry, std::string_view name);  // "": it has none
// "a=1&b=%2F", as x-amz-tagging wants it.
std::string encode_tags(const S3Tags& tags);

}  // namespace kuramori::bucket
