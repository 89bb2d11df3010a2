// One multipart upload, part by part. Its parts may be sent by several threads; the first to fail is the
// upload's failure.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "store/s3/s3_client.h"

namespace kuramori {

// What the store says the object's MD5 is, where its ETag is one: not of multiparts, nor under KMS. Else "".
std::string md5_of_etag(std::string_view etag);

class MultipartUpload {
 public:
  // `headers`: of the object; they go with the request that begins it.
  MultipartUpload(S3Client& client, std::string key, std::vector<HttpHeader> headers)
      : client_(client), key_(std::move(key)), headers_(std::move(headers)) {}

  // Before each send_part(): one more is under way.
  void expect_part();
  // Begins the upload with the first part, so that the writer does not wait for it. What fails, error() says.
  void send_part(size_t index, ByteView bytes);
  std::optional<Error> error();
  // Waits until no part is under way.
  std::optional<Error> wait();
  // After wait() without an error. `look`: see S3Request.
  Result<S3Answer> complete(std::function<Result<bool>()> look, bool conditional);
  // Leaves nothing, if the store can be reached; what is left, remove_unfinished() finds.
  void abort();

 private:
  Result<std::string> begin();
  Result<std::string> send(const std::string& id, size_t index, ByteView bytes);

  S3Client& client_;
  const std::string key_;
  const std::vector<HttpHeader> headers_;
  std::mutex begin_;  // held while the upload is begun
  std::string id_;    // set under begin_, read by others only after wait()
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::string> etags_;  // guarded by mutex_, as is what follows
  size_t under_way_ = 0;
  std::optional<Error> error_;
};

}  // namespace kuramori
