#include "store/s3/s3_objects.h"

#include <fmt/core.h>

#include <mutex>

#include "base/time_text.h"
#include "net/url.h"
#include "store/s3/multipart.h"

namespace kuramori {
namespace {

constexpr std::string_view kTokenHeader = "x-amz-meta-kuramori-put";
constexpr size_t kTokenBytes = 16;
constexpr size_t kPartsMax = 10'000;       // of an upload, by S3's rules
constexpr size_t kPartsOfOneSize = 1'000;  // then parts are twice as large
constexpr size_t kPartBytesMost = 64 << 20;
constexpr size_t kFirstBufferBytes = 64 << 10;

}  // namespace

std::string S3Objects::key_of(std::string_view name) const {
  const std::string& prefix = client_.location().prefix;
  return prefix.empty() ? std::string(name) : fmt::format("{}/{}", prefix, name);
}

std::string S3Objects::new_token() {
  Bytes raw(kTokenBytes);
  random_.fill(raw);
  return to_hex(raw);
}

Error S3Objects::exists(std::string_view name) const {
  return fail(ErrorKind::kExists, fmt::format("\"{}\" exists in {}", name, client_.place()));
}

void S3Objects::note_versions(const S3Answer& answer) {
  std::string_view id = answer.http.header("x-amz-version-id");
  if (!id.empty() && id != "null") versioned_ = true;
}

Time S3Objects::locked_until() const {
  // The store keeps whole seconds; never less than asked.
  return std::chrono::ceil<std::chrono::seconds>(later(client_.server_now(), *client_.location().lock));
}

Result<S3Answer> S3Objects::put_retention(std::string_view name, Time until) {
  std::string body = fmt::format(
      "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode><RetainUntilDate>{}"
      "</RetainUntilDate></Retention>",
      client_.location().lock_governance ? "GOVERNANCE" : "COMPLIANCE",
      format_utc(std::chrono::ceil<std::chrono::seconds>(until)));
  return client_.send({.method = "PUT",
                       .key = key_of(name),
                       .query = {{"retention", ""}},
                       .headers = {{"Content-Type", "application/xml"}},
                       .body = as_bytes(body),
                       .content_md5 = md5_of(as_bytes(body))});
}

void S3Objects::add_owner_and_encryption(std::vector<HttpHeader>& headers) const {
  const S3Location& location = client_.location();
  if (location.grant_to_owner) headers.push_back({"x-amz-acl", "bucket-owner-full-control"});
  if (location.sse_kms_key.empty()) return;
  headers.push_back({"x-amz-server-side-encryption", "aws:kms"});
  if (location.sse_kms_key != "aws:kms")
    headers.push_back({"x-amz-server-side-encryption-aws-kms-key-id", location.sse_kms_key});
}

bool S3Objects::goes_cold(std::string_view name) const {
  const S3Location& location = client_.location();
  return !is_read_at_once(location.storage_class) && name.starts_with(location.class_prefix);
}

Result<void> S3Objects::settle(std::string_view name) {
  const S3Location& location = client_.location();
  if (!goes_cold(name) || location.lock) return {};
  const std::string key = key_of(name);
  std::vector<HttpHeader> headers{
      {"x-amz-copy-source", percent_encode(fmt::format("{}/{}", location.bucket, key), Slash::kKeep)},
      {"x-amz-metadata-directive", "COPY"},
      {"x-amz-storage-class", location.storage_class}};
  add_owner_and_encryption(headers);
  // Done twice it is done once: the same bytes onto the same name.
  TRY_ASSIGN(const S3Answer answer, client_.send({.method = "PUT", .key = key, .headers = headers}));
  const std::string what = fmt::format("move \"{}\" to {}", name, location.storage_class);
  if (!answer.ok()) return client_.error_of(answer, what);
  note_versions(answer);
  // A 200 may hold an error: the answer begins before the copying ends.
  if (!answer.found_done && parse_s3_error(answer.http.body))
    return fail(ErrorKind::kFailed, fmt::format("cannot {} in {}", what, client_.place()),
                "the store answered with an error after it had begun", "repeat the command");
  return {};
}

std::vector<HttpHeader> S3Objects::headers_of_new(std::string_view name, const std::string& token) {
  const S3Location& location = client_.location();
  std::vector<HttpHeader> headers{{"Content-Type", "application/octet-stream"},
                                  {std::string(kTokenHeader), token}};
  add_owner_and_encryption(headers);
  if (!location.storage_class.empty() && name.starts_with(location.class_prefix) &&
      !(readable_ && goes_cold(name)))
    headers.push_back({"x-amz-storage-class", location.storage_class});
  if (location.lock) {
    headers.push_back({"x-amz-object-lock-mode", location.lock_governance ? "GOVERNANCE" : "COMPLIANCE"});
    headers.push_back({"x-amz-object-lock-retain-until-date", format_utc(locked_until())});
  }
  return headers;
}

Result<S3Objects::Presence> S3Objects::look(const std::string& key, const std::string& token,
                                            std::optional<uint64_t> size) {
  TRY_ASSIGN(S3Answer answer,
             client_.send({.method = "HEAD", .key = key, .patience = S3Request::Patience::kLittle}));
  if (answer.status == 404) return Presence::kAbsent;
  if (answer.status == 403) return Presence::kNotTold;  // who may only put does not see what is there
  if (!answer.ok()) return client_.error_of(answer, fmt::format("look at \"{}\"", key));
  note_versions(answer);
  if (answer.http.header(kTokenHeader) != token) return Presence::kOther;
  if (size && answer.http.header("content-length") != std::to_string(*size))
    return fail(
        ErrorKind::kDamaged, fmt::format("\"{}\" has not the size it was sent with", key),
        fmt::format("{} bytes were sent, the store has {}", *size, answer.http.header("content-length")));
  return Presence::kMine;
}

// A refusal tells nothing of an attempt before it that was lost: that one may have been done, or may be yet.
Error S3Objects::refused(const S3Answer& answer, const std::string& what) {
  Error error = client_.error_of(answer, what);
  if (answer.repeated) {
    error.kind = ErrorKind::kUnknown;
    error.why += "; an attempt before was lost";
  }
  return error;
}

Result<void> S3Objects::put_if_absent(std::string_view name, ByteView bytes) {
  TRY(check_object_name(name));
  std::string key = key_of(name), token = new_token();
  bool conditional = client_.location().conditional;
  if (!conditional || versioned_) {
    TRY_ASSIGN(Presence there, look(key, token, {}));
    if (there == Presence::kOther) return exists(name);
  }
  bool other_stands = false;
  Md5 md5 = md5_of(bytes);
  S3Request request{.method = "PUT",
                    .key = key,
                    .headers = headers_of_new(name, token),
                    .body = bytes,
                    .content_md5 = md5,
                    .look = [&]() -> Result<bool> {
                      Result<Presence> there = look(key, token, bytes.size());
                      if (!there && there.error().kind == ErrorKind::kDamaged)
                        return std::move(there).error();
                      // What cannot be seen now is tried again, and refused if it happened.
                      if (!there) return false;
                      other_stands = *there == Presence::kOther;
                      return *there == Presence::kMine || other_stands;
                    }};
  if (conditional) request.headers.push_back({"If-None-Match", "*"});
  TRY_ASSIGN(S3Answer answer, client_.send(request));
  if (other_stands) return exists(name);
  if (answer.found_done) return {};
  if (answer.ok()) {
    note_versions(answer);
    // A 200 whose body is an error is an error; and bytes that changed on the way are not these bytes (V28).
    if (std::optional<S3ErrorAnswer> error = parse_s3_error(answer.http.body)) {
      answer.error = std::move(error);
      Error failed = client_.error_of(answer, fmt::format("put \"{}\"", name));
      failed.kind = ErrorKind::kUnknown;
      return failed;
    }
    std::string etag = md5_of_etag(answer.http.header("etag"));
    if (!etag.empty() && client_.location().sse_kms_key.empty() && etag != to_hex(md5))
      return fail(ErrorKind::kDamaged, fmt::format("\"{}\" was not stored as it was sent", name),
                  fmt::format("the store's checksum is {}", etag));
    return {};
  }
  if (answer.status != 412) return refused(answer, fmt::format("put \"{}\"", name));

  // Something stands. Whose? An attempt of ours may have been the one, and its answer lost on the way: by the
  // connection, or sent again by a library or a proxy that nobody asked to.
  TRY_ASSIGN(Presence there, look(key, token, bytes.size()));
  if (there == Presence::kMine) return {};
  if (there == Presence::kOther) return exists(name);
  if (there == Presence::kNotTold && !answer.repeated) return exists(name);
  return fail(ErrorKind::kUnknown, fmt::format("it is not known who put \"{}\" in {}", name, client_.place()),
              there == Presence::kAbsent ? "the store said it exists, then that it does not"
                                         : "an attempt was lost, and these credentials may not look");
}

// --- large objects -----------------------------------------------------------------------------------

class S3ObjectWriter final : public ObjectWriter {
 public:
  S3ObjectWriter(S3Objects& objects, std::string name) : objects_(objects), name_(std::move(name)) {}
  ~S3ObjectWriter() override {
    if (upload_ && !finished_) upload_->abort();
  }

  Result<void> append(ByteView bytes) override {
    if (ended_) return fail(ErrorKind::kUsage, fmt::format("\"{}\" was committed", name_));
    size_ += bytes.size();
    while (!bytes.empty()) {
      size_t want = part_size();
      size_t take = std::min(bytes.size(), want - buffer_.size());
      if (buffer_.capacity() < buffer_.size() + take)
        buffer_.reserve(
            std::min(want, std::max({buffer_.size() + take, buffer_.capacity() * 2, kFirstBufferBytes})));
      kuramori::append(buffer_, bytes.first(take));
      bytes = bytes.subspan(take);
      // A full part waits for the next byte: what ends with it is still one PUT.
      if (buffer_.size() == want && !bytes.empty()) TRY(send_buffer());
    }
    return {};
  }

  Result<void> commit() override {
    if (ended_) return fail(ErrorKind::kUsage, fmt::format("\"{}\" was committed", name_));
    ended_ = true;
    if (!upload_) {
      Bytes all = std::move(buffer_);
      return objects_.put_if_absent(name_, all);
    }
    TRY(send_buffer());
    if (std::optional<Error> failed = upload_->wait()) return std::move(*failed);
    return complete();
  }

 private:
  size_t part_size() const {
    size_t size = objects_.part_bytes_ << std::min<size_t>(parts_ / kPartsOfOneSize, 16);
    return std::min(size, std::max(objects_.part_bytes_, kPartBytesMost));
  }

  Result<void> send_buffer() {
    if (!upload_) {
      token_ = objects_.new_token();
      upload_ = std::make_shared<MultipartUpload>(objects_.client(), objects_.key_of(name_),
                                                  objects_.headers_of_new(name_, token_));
    }
    if (std::optional<Error> failed = upload_->error()) return std::move(*failed);
    if (parts_ == kPartsMax)
      return fail(ErrorKind::kFailed, fmt::format("\"{}\" is too large", name_),
                  fmt::format("an upload has at most {} parts", kPartsMax));
    upload_->expect_part();
    auto bytes = std::make_shared<Bytes>(std::move(buffer_));
    buffer_ = Bytes();
    // Shared: the writer may be destroyed while its last parts are under way.
    objects_.pool_.submit([upload = upload_, index = parts_, bytes] { upload->send_part(index, *bytes); });
    ++parts_;
    return {};
  }

  Result<void> complete() {
    std::string key = objects_.key_of(name_);
    TRY_ASSIGN(S3Objects::Presence before, objects_.look(key, token_, {}));
    if (before == S3Objects::Presence::kOther) return objects_.exists(name_);
    bool other_stands = false;
    auto look = [&]() -> Result<bool> {
      Result<S3Objects::Presence> there = objects_.look(key, token_, size_);
      if (!there && there.error().kind == ErrorKind::kDamaged) return std::move(there).error();
      if (!there) return false;
      other_stands = *there == S3Objects::Presence::kOther;
      return *there == S3Objects::Presence::kMine || other_stands;
    };
    // Only Amazon is known to honour a condition here, and others may refuse it.
    bool conditional = objects_.client().at_amazon() && objects_.client().location().conditional;
    TRY_ASSIGN(S3Answer answer, upload_->complete(look, conditional));
    if (other_stands || (answer.status == 412 && !answer.repeated)) return objects_.exists(name_);
    // A 200 that holds an error, an upload that is gone because an earlier attempt finished it: the object
    // tells.
    bool says_done = answer.ok() && (answer.found_done || is_complete_result(answer.http.body));
    Result<S3Objects::Presence> after = objects_.look(key, token_, size_);
    if (!after) return std::move(after).error();
    switch (*after) {
      case S3Objects::Presence::kMine:
        finished_ = true;
        return lock();
      case S3Objects::Presence::kOther:
        return objects_.exists(name_);
      case S3Objects::Presence::kNotTold:
        if (!says_done) break;
        finished_ = true;
        return lock();
      case S3Objects::Presence::kAbsent:
        break;
    }
    if (answer.ok()) {
      answer.error = parse_s3_error(answer.http.body);
      Error failed = objects_.client().error_of(answer, fmt::format("finish \"{}\"", name_));
      failed.kind = ErrorKind::kUnknown;
      return failed;
    }
    return objects_.refused(answer, fmt::format("finish \"{}\"", name_));
  }

  // Ceph's gateway does not read the lock an upload was begun with. Until here nobody was told that the
  // object exists, so nothing builds on it: what is confirmed is locked.
  Result<void> lock() {
    if (!objects_.client().location().lock || objects_.client().at_amazon()) return {};
    TRY_ASSIGN(S3Answer answer, objects_.put_retention(name_, objects_.locked_until()));
    if (!answer.ok()) return objects_.client().error_of(answer, fmt::format("lock \"{}\"", name_));
    return {};
  }

  S3Objects& objects_;
  const std::string name_;
  std::string token_;
  Bytes buffer_;
  size_t parts_ = 0;   // sent
  uint64_t size_ = 0;  // appended
  bool ended_ = false, finished_ = false;
  std::shared_ptr<MultipartUpload> upload_;
};

std::unique_ptr<ObjectWriter> S3Objects::create(std::string_view name) {
  return std::make_unique<S3ObjectWriter>(*this, std::string(name));
}

}  // namespace kuramori
