#include "source/bucket/bucket.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace kuramori::bucket {
namespace {

constexpr int kReadsMax = 5;  // of an object that changes under every one of them
constexpr std::string_view kXml = "application/xml";
constexpr uint64_t kCopyBytesMax = uint64_t{5} << 30;  // of one CopyObject, by S3's rules

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

QueryParameters of_version(const std::string& version) {
  return version.empty() ? QueryParameters{} : QueryParameters{{"versionId", version}};
}

Error stopped() {
  return fail(ErrorKind::kInterrupted, "it was asked to stop");
}

}  // namespace

void ByteBudget::Share::give_back() {
  if (budget_ == nullptr) return;
  const std::lock_guard hold(budget_->mutex_);
  budget_->left_ += bytes_;
  budget_->room_.notify_all();
  budget_ = nullptr;
}

ByteBudget::Share ByteBudget::take(size_t bytes) {
  bytes = std::min(bytes, all_);
  std::unique_lock hold(mutex_);
  room_.wait(hold, [&] { return left_ >= bytes; });
  left_ -= bytes;
  return Share(*this, bytes);
}

// --- lists -------------------------------------------------------------------------------------------

Bucket::Walk::Walk(Bucket& bucket, std::string below, bool versions)
    : bucket_(bucket), prefix_(bucket.root() + std::move(below)), versions_(versions) {}

Result<const S3Listed*> Bucket::Walk::next(const std::stop_token& stop) {
  while (at_ == page_.size()) {
    if (!more_) return nullptr;
    if (stop.stop_requested()) return stopped();
    S3Request request{.query = {{"encoding-type", "url"}, {"max-keys", std::to_string(kListPage)}}};
    if (!prefix_.empty()) request.query.emplace_back("prefix", prefix_);
    if (versions_) {
      request.query.emplace_back("versions", "");
      if (!key_.empty()) request.query.emplace_back("key-marker", key_);
      if (!version_.empty()) request.query.emplace_back("version-id-marker", version_);
    } else {
      request.query.emplace_back("list-type", "2");
      if (!token_.empty()) request.query.emplace_back("continuation-token", token_);
    }
    TRY_ASSIGN(const S3Answer answer, bucket_.client().send(request));
    if (!answer.ok()) return bucket_.client().error_of(answer, versions_ ? "list versions" : "list objects");
    TRY_ASSIGN(S3BucketAnswer page, parse_bucket_list(answer.http.body));
    more_ = page.truncated;
    const bool moves = versions_ ? page.next_key != key_ || page.next_version != version_
                                 : !page.next_token.empty() && page.next_token != token_;
    if (more_ && !moves) {
      return fail(ErrorKind::kFailed,
                  fmt::format("the store announced more names in {} and does not say where they begin",
                              bucket_.client().place()),
                  "", "this store's lists cannot be followed");
    }
    key_ = std::move(page.next_key);
    version_ = std::move(page.next_version);
    token_ = std::move(page.next_token);
    page_ = std::move(page.entries);
    at_ = 0;
  }
  const S3Listed& entry = page_[at_++];
  // That a name is missing is told by the order alone.
  if (!entry.key.starts_with(prefix_) || entry.key < last_key_ || (!versions_ && entry.key == last_key_)) {
    return fail(ErrorKind::kFailed, fmt::format("the list of {} is out of order", bucket_.client().place()),
                fmt::format("\"{}\" came after \"{}\"", entry.key, last_key_),
                "this store's lists cannot be followed");
  }
  last_key_ = entry.key;
  return &entry;
}

Result<void> Bucket::list(std::string_view below, bool versions, const std::stop_token& stop,
                          const std::function<Result<void>(S3Listed&&)>& visit) {
  Walk walk(*this, std::string(below), versions);
  for (;;) {
    TRY_ASSIGN(const S3Listed* entry, walk.next(stop));
    if (entry == nullptr) return {};
    S3Listed taken = *entry;
    TRY(visit(std::move(taken)));
  }
}

// --- reading -----------------------------------------------------------------------------------------

Error Bucket::read_error(const S3Answer& answer, const std::string& key) {
  if (answer.is("NoSuchKey") || answer.is("NoSuchVersion") || answer.status == 405)
    return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\"", key));
  if (answer.is("InvalidObjectState")) {
    return fail(ErrorKind::kPartial, fmt::format("\"{}\" cannot be read now", key),
                "it is in cold storage: ask the store for a readable copy first (RestoreObject)");
  }
  Error error = client_->error_of(answer, fmt::format("read \"{}\"", key));
  if (error.kind == ErrorKind::kDenied && !answer.is("NoSuchBucket")) error.kind = ErrorKind::kPartial;
  // SSE-C: only who has the key may read it.
  if (answer.status == 400 && answer.is("InvalidRequest")) error.kind = ErrorKind::kPartial;
  return error;
}

Result<ObjectFacts> Bucket::read_once(const std::string& key, const std::string& version, uint64_t size,
                                      const ReadTo& to, const std::stop_token& stop, bool& again) {
  again = false;
  ObjectFacts facts;
  Md5Stream md5;
  if (size == 0) {
    TRY_ASSIGN(const S3Answer answer,
               client_->send({.method = "HEAD", .key = key, .query = of_version(version)}));
    if (answer.status == 404 || answer.status == 405)
      return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\"", key));
    if (!answer.ok()) return read_error(answer, key);
    const std::optional<uint64_t> total = number(answer.http.header("content-length"));
    if (total && *total > 0) return read_once(key, version, *total, to, stop, again);
    facts = facts_of(answer.http, 0);
    TRY(to.begin(facts));
    return facts;
  }
  Bytes piece(std::min<uint64_t>(size, kPieceBytes));
  uint64_t at = 0;
  do {
    if (stop.stop_requested()) return stopped();
    const uint64_t wanted = at == 0 ? piece.size() : std::min<uint64_t>(piece.size(), facts.size - at);
    TRY_ASSIGN(const S3Answer answer,
               client_->send({.key = key,
                              .query = of_version(version),
                              .headers = {{"Range", fmt::format("bytes={}-{}", at, at + wanted - 1)}},
                              .into = MutableByteView(piece).first(wanted)}));
    if (answer.status == 416) {  // it became shorter
      if (at > 0) {
        again = true;
        return facts;
      }
      TRY_ASSIGN(const std::optional<ObjectFacts> now, head(key, version));
      if (!now) return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\"", key));
      return read_once(key, version, now->size, to, stop, again);
    }
    if (!answer.ok()) return read_error(answer, key);
    const std::string_view range = answer.http.header("content-range");
    const size_t slash = range.rfind('/');
    const std::optional<uint64_t> total =
        slash == range.npos
            ? (answer.status == 200 ? std::optional<uint64_t>(answer.http.into_bytes) : std::nullopt)
            : number(range.substr(slash + 1));
    const size_t got = answer.http.into_bytes;
    const bool fits = total && (range.empty() ? at == 0 && got == *total
                                              : range.starts_with(fmt::format("bytes {}-", at)) &&
                                                    got == std::min<uint64_t>(wanted, *total - at));
    if (!fits) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("the store gave other bytes of \"{}\" than were asked for", key),
                  fmt::format("asked for {} from {}, got {} of {}", wanted, at, got, range));
    }
    ObjectFacts now = facts_of(answer.http, *total);
    if (at == 0) {
      facts = std::move(now);
      TRY(to.begin(facts));
    } else if (now.etag != facts.etag || now.size != facts.size || now.version != facts.version) {
      again = true;
      return facts;
    }
    const ByteView bytes = ByteView(piece).first(got);
    md5.add(bytes);
    TRY(to.add(bytes));
    at += got;
  } while (at < facts.size);
  if (is_md5(facts.etag, facts.encryption) && to_hex(md5.finish()) != facts.etag) {
    return fail(ErrorKind::kDamaged, fmt::format("the bytes of \"{}\" are not those its checksum is of", key),
                fmt::format("the store says {}", facts.etag));
  }
  return facts;
}

Result<ObjectFacts> Bucket::read(const std::string& key, const std::string& version, uint64_t size,
                                 const ReadTo& to, const std::stop_token& stop) {
  std::optional<Error> damaged;
  for (int attempt = 0; attempt < kReadsMax; ++attempt) {
    if (stop.stop_requested()) return stopped();
    if (attempt > 0) TRY(to.restart());
    bool again = false;
    Result<ObjectFacts> facts = read_once(key, version, size, to, stop, again);
    // On its way it may have been spoilt; at the store it stays so.
    if (!facts && facts.error().kind == ErrorKind::kDamaged) {
      damaged = std::move(facts).error();
      continue;
    }
    if (!facts || !again) return facts;
    size = std::max<uint64_t>(facts->size, 1);
  }
  return fail(ErrorKind::kPartial, fmt::format("\"{}\" could not be read whole", key),
              damaged ? fmt::format("{}: {}", damaged->what, damaged->why)
                      : fmt::format("it changed during each of {} readings", kReadsMax));
}

Result<std::optional<ObjectFacts>> Bucket::head(const std::string& key, const std::string& version) {
  TRY_ASSIGN(const S3Answer answer,
             client_->send({.method = "HEAD", .key = key, .query = of_version(version)}));
  if (answer.status == 404 || answer.status == 405) return std::optional<ObjectFacts>();
  if (!answer.ok()) return client_->error_of(answer, fmt::format("look at \"{}\"", key));
  return std::optional(facts_of(answer.http, number(answer.http.header("content-length")).value_or(0)));
}

std::optional<uint64_t> Bucket::part_bytes(const std::string& key, const std::string& version) {
  QueryParameters query = of_version(version);
  query.emplace_back("partNumber", "1");
  const auto answer = client_->send({.method = "HEAD", .key = key, .query = query});
  if (!answer || !answer->ok()) return std::nullopt;
  return number(answer->http.header("content-length"));
}

Result<S3Tags> Bucket::tags(const std::string& key, const std::string& version) {
  QueryParameters query = of_version(version);
  query.emplace_back("tagging", "");
  TRY_ASSIGN(const S3Answer answer, client_->send({.key = key, .query = query}));
  if (answer.is("NoSuchTagSet") || answer.is("NoSuchTagSetError")) return S3Tags{};
  if (!answer.ok()) return read_error(answer, key);
  return parse_tags(answer.http.body);
}

// --- changing ----------------------------------------------------------------------------------------

Result<void> Bucket::remove(const std::string& key, const std::string& version) {
  TRY_ASSIGN(const S3Answer answer,
             client_->send({.method = "DELETE", .key = key, .query = of_version(version)}));
  if (answer.ok() || answer.status == 404) return {};
  return client_->error_of(answer, fmt::format("delete \"{}\"", key));
}

Result<void> Bucket::copy_back(const std::string& key, const std::string& version, uint64_t size) {
  if (size > kCopyBytesMax) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" is larger than a store copies at once", key),
                "5 GiB is the most", "restore it to a file and put it back with any S3 program");
  }
  const std::string from =
      percent_encode(fmt::format("{}/{}", client_->location().bucket, key), Slash::kKeep) +
      (version.empty() ? "" : "?versionId=" + percent_encode(version));
  TRY_ASSIGN(const S3Answer answer,
             client_->send({.method = "PUT", .key = key, .headers = {{"x-amz-copy-source", from}}}));
  const std::string what = fmt::format("bring back \"{}\"", key);
  if (!answer.ok()) return client_->error_of(answer, what);
  // A 200 may hold an error: the answer begins before the copying ends.
  if (!answer.found_done && parse_s3_error(answer.http.body))
    return fail(ErrorKind::kFailed, fmt::format("cannot {}", what),
                "the store answered with an error after it had begun", "repeat the command");
  return {};
}

Result<Versioning> Bucket::versioning() {
  TRY_ASSIGN(const S3Answer answer, client_->send({.query = {{"versioning", ""}}}));
  if (answer.status == 501 || answer.status == 405) return Versioning::kNever;
  if (!answer.ok()) return client_->error_of(answer, "ask whether versions are kept");
  TRY_ASSIGN(const std::string status, parse_versioning(answer.http.body));
  return status == "Enabled" ? Versioning::kOn : status.empty() ? Versioning::kNever : Versioning::kSuspended;
}

Result<bool> Bucket::is_empty() {
  S3Request request{.query = {{"list-type", "2"}, {"max-keys", "1"}}};
  if (!root_.empty()) request.query.emplace_back("prefix", root_);
  TRY_ASSIGN(const S3Answer answer, client_->send(request));
  if (!answer.ok()) return client_->error_of(answer, "list objects");
  TRY_ASSIGN(const S3BucketAnswer page, parse_bucket_list(answer.http.body));
  return page.entries.empty();
}

// --- uploads -----------------------------------------------------------------------------------------

Upload::Upload(Bucket& bucket, std::string key, Words words, uint64_t size, size_t part_bytes,
               ByteBudget& budget)
    : bucket_(bucket), key_(std::move(key)), words_(std::move(words)), size_(size), part_bytes_(part_bytes) {
  if (part_bytes_ == 0 && size_ > kPartBytes)
    part_bytes_ = std::max<uint64_t>(kPartBytes, size_ / (kPartsMax - 1) + 1);
  share_ = budget.take(part_bytes_ == 0 ? size_ : part_bytes_);
  buffer_.reserve(part_bytes_ == 0 ? size_ : std::min<uint64_t>(part_bytes_, size_));
  const S3Location& to = bucket_.client().location();
  if (!to.storage_class.empty()) words_.headers.push_back({"x-amz-storage-class", to.storage_class});
  if (!to.sse_kms_key.empty()) {
    words_.headers.push_back({"x-amz-server-side-encryption", "aws:kms"});
    if (to.sse_kms_key != "aws:kms")
      words_.headers.push_back({"x-amz-server-side-encryption-aws-kms-key-id", to.sse_kms_key});
  }
  if (to.grant_to_owner) words_.headers.push_back({"x-amz-acl", "bucket-owner-full-control"});
}

Upload::~Upload() {
  if (upload_ && !finished_) upload_->abort();
}

Result<void> Upload::send_part() {
  if (!upload_) upload_ = std::make_unique<MultipartUpload>(bucket_.client(), key_, words_.headers);
  upload_->expect_part();
  upload_->send_part(parts_++, buffer_);
  buffer_.clear();
  if (auto failed = upload_->error()) return std::move(*failed);
  return {};
}

Result<void> Upload::add(ByteView bytes) {
  given_ += bytes.size();
  if (given_ > size_)
    return fail(ErrorKind::kFailed, fmt::format("\"{}\" is longer than it was said to be", key_));
  while (!bytes.empty()) {
    const size_t room = part_bytes_ == 0 ? bytes.size() : part_bytes_ - buffer_.size();
    const size_t take = std::min(bytes.size(), room);
    append(buffer_, bytes.first(take));
    bytes = bytes.subspan(take);
    if (part_bytes_ != 0 && buffer_.size() == part_bytes_) TRY(send_part());
  }
  return {};
}

Result<std::string> Upload::finish() {
  if (given_ != size_)
    return fail(ErrorKind::kFailed, fmt::format("\"{}\" is shorter than it was said to be", key_),
                fmt::format("{} bytes of {}", given_, size_));
  const std::string what = fmt::format("put \"{}\"", key_);
  if (part_bytes_ == 0) {
    if (!words_.tags.empty()) words_.headers.push_back({"x-amz-tagging", encode_tags(words_.tags)});
    const Md5 md5 = md5_of(buffer_);
    TRY_ASSIGN(
        const S3Answer answer,
        bucket_.client().send(
            {.method = "PUT", .key = key_, .headers = words_.headers, .body = buffer_, .content_md5 = md5}));
    if (!answer.ok()) return bucket_.client().error_of(answer, what);
    if (parse_s3_error(answer.http.body))
      return fail(ErrorKind::kUnknown, fmt::format("cannot {}", what), "a 200 that holds an error",
                  "run it again");
    finished_ = true;
    return std::string(answer.http.header("x-amz-version-id"));
  }
  if (!buffer_.empty() || parts_ == 0) TRY(send_part());
  if (auto failed = upload_->wait()) return std::move(*failed);
  TRY_ASSIGN(const S3Answer answer, upload_->complete({}, false));
  // An upload that is gone was finished by an attempt whose answer was lost.
  const bool was_done = answer.repeated && answer.is("NoSuchUpload");
  if (!answer.ok() && !was_done) return bucket_.client().error_of(answer, what);
  if (answer.ok() && !is_complete_result(answer.http.body))
    return fail(ErrorKind::kUnknown, fmt::format("cannot {}", what), "a 200 that holds an error",
                "run it again");
  finished_ = true;
  const std::string version(answer.http.header("x-amz-version-id"));
  if (words_.tags.empty()) return version;
  // Not every store reads the tags that an upload was begun with.
  std::string body = "<Tagging><TagSet>";
  for (const auto& [name, value] : words_.tags)
    body +=
        fmt::format("<Tag><Key>{}</Key><Value>{}</Value></Tag>", markup_escaped(name), markup_escaped(value));
  body += "</TagSet></Tagging>";
  QueryParameters query = of_version(version);
  query.emplace_back("tagging", "");
  TRY_ASSIGN(const S3Answer tagged, bucket_.client().send({.method = "PUT",
                                                           .key = key_,
                                                           .query = query,
                                                           .headers = {{"Content-Type", std::string(kXml)}},
                                                           .body = as_bytes(body),
                                                           .content_md5 = md5_of(as_bytes(body))}));
  if (!tagged.ok()) return bucket_.client().error_of(tagged, fmt::format("tag \"{}\"", key_));
  return version;
}

}  // namespace kuramori::bucket
