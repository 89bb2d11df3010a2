#include "store/s3/multipart.h"

#include <fmt/core.h>

#include "base/text.h"

namespace kuramori {

std::string md5_of_etag(std::string_view etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  bool hex = etag.size() == 32 && etag.find_first_not_of("0123456789abcdef") == etag.npos;
  return hex ? std::string(etag) : "";
}

void MultipartUpload::expect_part() {
  std::lock_guard hold(mutex_);
  ++under_way_;
  etags_.emplace_back();
}

void MultipartUpload::send_part(size_t index, ByteView bytes) {
  Result<std::string> id = begin();
  Result<std::string> etag = id ? send(*id, index, bytes) : Result<std::string>(std::move(id).error());
  std::lock_guard hold(mutex_);
  if (!etag) {
    if (!error_) error_ = std::move(etag).error();
  } else {
    etags_[index] = std::move(*etag);
  }
  if (--under_way_ == 0) done_.notify_all();
}

std::optional<Error> MultipartUpload::error() {
  std::lock_guard hold(mutex_);
  return error_;
}

std::optional<Error> MultipartUpload::wait() {
  std::unique_lock hold(mutex_);
  done_.wait(hold, [&] { return under_way_ == 0; });
  return error_;
}

Result<S3Answer> MultipartUpload::complete(std::function<Result<bool>()> look, bool conditional) {
  std::string body = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < etags_.size(); ++i)
    body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1,
                        markup_escaped(etags_[i]));
  body += "</CompleteMultipartUpload>";
  S3Request request{.method = "POST",
                    .key = key_,
                    .query = {{"uploadId", id_}},
                    .headers = {{"Content-Type", "application/xml"}},
                    .body = as_bytes(body),
                    .look = std::move(look)};
  if (conditional) request.headers.push_back({"If-None-Match", "*"});
  return client_.send(request);
}

void MultipartUpload::abort() {
  {
    std::lock_guard hold(mutex_);
    if (!error_) error_ = fail(ErrorKind::kInterrupted, "the upload was given up");
  }
  (void)wait();
  if (!id_.empty())
    (void)client_.send({.method = "DELETE",
                        .key = key_,
                        .query = {{"uploadId", id_}},
                        .patience = S3Request::Patience::kNone});
}

Result<std::string> MultipartUpload::begin() {
  std::lock_guard only_one(begin_);
  if (std::optional<Error> failed = error()) return std::move(*failed);
  if (!id_.empty()) return id_;
  TRY_ASSIGN(S3Answer answer,
             client_.send({.method = "POST", .key = key_, .query = {{"uploads", ""}}, .headers = headers_}));
  if (!answer.ok()) return client_.error_of(answer, fmt::format("begin \"{}\"", key_));
  TRY_ASSIGN(id_, parse_upload_id(answer.http.body));
  return id_;
}

// A part may be sent twice: the same bytes under the same number are the same part.
Result<std::string> MultipartUpload::send(const std::string& id, size_t index, ByteView bytes) {
  if (std::optional<Error> failed = error()) return std::move(*failed);
  // The signed SHA-256 protects the bytes. An MD5 besides costs a fifth of a backup's time, and only locked
  // buckets ask for it.
  std::optional<Md5> md5;
  if (client_.location().lock) md5 = md5_of(bytes);
  TRY_ASSIGN(S3Answer answer,
             client_.send({.method = "PUT",
                           .key = key_,
                           .query = {{"partNumber", std::to_string(index + 1)}, {"uploadId", id}},
                           .body = bytes,
                           .content_md5 = md5}));
  std::string what = fmt::format("put part {} of \"{}\"", index + 1, key_);
  if (!answer.ok()) return client_.error_of(answer, what);
  std::string etag(answer.http.header("etag"));
  if (etag.empty())
    return fail(ErrorKind::kFailed, fmt::format("cannot {}", what), "the store gave it no ETag");
  std::string stored = md5_of_etag(etag);
  if (md5 && !stored.empty() && client_.location().sse_kms_key.empty() && stored != to_hex(*md5))
    return fail(ErrorKind::kDamaged, fmt::format("cannot {}", what), "the store's checksum differs");
  return etag;
}

}  // namespace kuramori
