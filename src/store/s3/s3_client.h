// One request to an S3 store, brought to an end: signed, paced, repeated where repeating is right, its answer
// read.
//
// What is repeated: what never reached the store; 429, 503 and "SlowDown", with a growing pause; other server
// errors and lost answers, after `look` (if there is one) has found out that it did not happen. A request
// that was lost is never taken for done or for undone.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "store/s3/answers.h"
#include "store/s3/credentials.h"
#include "store/s3/pace.h"
#include "store/s3/s3_location.h"

namespace kuramori {

struct S3Limits {
  HttpTimeouts timeouts;
  // A store that is restarted is back by then; one that hangs is given up after two or three time-outs.
  int attempts_max = 16;
  Duration give_up_after = std::chrono::seconds(75);  // no new attempt begins later than this after the first
  // How fast a connection must be at least, so that a long body gets a longer time-out.
  double bytes_per_second_min = 64 << 10;
};

using Md5 = std::array<uint8_t, 16>;  // not for secrecy: what S3 stores check a body by
Md5 md5_of(ByteView bytes);
// The same of bytes that come one after the other.
class Md5Stream {
 public:
  Md5Stream();
  ~Md5Stream();
  Md5Stream(const Md5Stream&) = delete;
  void add(ByteView bytes);
  Md5 finish();  // and starts anew

 private:
  void* state_;
};

struct S3Request {
  std::string_view method = "GET";
  std::string key;  // "": the bucket itself
  QueryParameters query;
  std::vector<HttpHeader> headers;  // besides what signing adds
  ByteView body;
  MutableByteView into;
  size_t body_bytes_max = kHttpBodyBytesMax;
  std::optional<Md5> content_md5;  // of the body
  bool hedge = false;              // reads only
  // Called when an attempt may have happened and its answer is lost. True: it did, with everything as wanted.
  std::function<Result<bool>()> look;
  enum class Patience {
    kFull,
    kLittle,
    kNone
  } patience = Patience::kFull;  // little, for looks: with silence, not with a busy store; none: one attempt
};

struct S3Answer {
  int status = 0;
  HttpAnswer http;
  std::optional<S3ErrorAnswer> error;  // of a status from 400 on, where the store says
  // It was done, as `look` found; there is no answer to read.
  bool found_done = false;
  // An earlier attempt may have happened too: a refusal may be about that one.
  bool repeated = false;

  bool ok() const { return found_done || (status >= 200 && status < 300); }
  bool is(std::string_view code) const { return error && error->code == code; }
};

class S3Client {
 public:
  S3Client(S3Location location, std::unique_ptr<HttpClient> http,
           std::unique_ptr<CredentialSource> credentials, std::string region, S3Limits limits, Clock& clock,
           Random& random);

  // Any answer that repeating does not change. kUnknown: no answer, and it may have happened. kFailed: no
  // answer, and it did not (or changes nothing anyway). kUsage: credentials or certificate are wrong.
  Result<S3Answer> send(const S3Request& request);

  // The error of an answer that is none of what the caller can use. `what`: "put \"a/b\"".
  Error error_of(const S3Answer& answer, std::string_view what);

  Time server_now();  // by the store's clock, as of its last answer
  const S3Location& location() const { return location_; }
  std::string place() const;  // "s3://bucket/prefix", for messages
  bool at_amazon() const { return location_.endpoint.empty(); }
  uint64_t requests() const { return requests_; }
  // The store's clock minus ours, as of its last answer: to a second, for that is what it tells.
  Duration clock_offset() const { return Duration(seen_offset_ns_.load()); }

 private:
  struct Attempt;
  Result<HttpAnswer> send_once(const S3Request& request, std::string_view body_sha256,
                               const S3Credentials& credentials);
  void take_clock(const HttpAnswer& answer);
  bool mend(const S3Answer& answer);
  std::string host() const;

  S3Location location_;
  HttpEndpoint endpoint_;  // given, or Amazon's
  bool virtual_host_;
  std::unique_ptr<HttpClient> http_;
  std::unique_ptr<CredentialSource> credentials_;
  S3Limits limits_;
  Clock& clock_;
  Random& random_;
  RequestWindow window_;
  ReadLatency latency_;
  std::atomic<int64_t> clock_offset_ns_ = 0;  // the store's clock minus ours, where it matters
  std::atomic<int64_t> seen_offset_ns_ = 0;   // likewise, as of the last answer
  std::atomic<uint64_t> requests_ = 0;
  mutable std::mutex mutex_;
  std::string region_;  // guarded by mutex_
};

struct S3ClientOptions {
  S3Limits limits;
  // Credentials that the location does not point to. Null: find_credentials().
  std::unique_ptr<CredentialSource> credentials;
  Clock* clock = nullptr;  // null: the machine's
  Random* random = nullptr;
};

// Sends nothing: a store that cannot be reached fails at the first request.
Result<std::unique_ptr<S3Client>> open_s3_client(const S3Location& location, S3ClientOptions options = {});

}  // namespace kuramori
