// A bucket of somebody's, as this source reads and fills it. What is generic of S3 (signing, pacing, retries,
// XML, multipart uploads) is store/s3's.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "source/bucket/object.h"
#include "source/source.h"
#include "store/s3/multipart.h"
#include "store/s3/s3_client.h"

namespace kuramori::bucket {

constexpr size_t kPieceBytes = size_t{4} << 20;      // of one ranged read
constexpr size_t kPartBytes = size_t{8} << 20;       // of a multipart upload; smaller objects are one PUT
constexpr size_t kPartBytesKept = size_t{32} << 20;  // an original's parts up to here are kept as they are
constexpr size_t kPartsMax = 10'000;                 // of an upload, by S3's rules
constexpr uint64_t kListPage = 1000;                 // entries

enum class Versioning { kNever, kOn, kSuspended };

// Memory that transfers share: whoever wants more than is left waits.
class ByteBudget {
 public:
  explicit ByteBudget(size_t bytes) : left_(bytes), all_(bytes) {}
  class Share {
   public:
    Share() = default;
    Share(ByteBudget& budget, size_t bytes) : budget_(&budget), bytes_(bytes) {}
    Share(Share&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
    Share& operator=(Share&& other) noexcept {
      give_back();
      budget_ = std::exchange(other.budget_, nullptr);
      bytes_ = other.bytes_;
      return *this;
    }
    ~Share() { give_back(); }

   private:
    void give_back();
    ByteBudget* budget_ = nullptr;
    size_t bytes_ = 0;
  };
  Share take(size_t bytes);

 private:
  std::mutex mutex_;
  std::condition_variable room_;
  size_t left_;
  const size_t all_;
};

// What a read object goes to. restart(): it changed while it was read, and comes again.
struct ReadTo {
  std::function<Result<void>(const ObjectFacts&)> begin;  // before its first byte
  std::function<Result<void>(ByteView)> add;
  std::function<Result<void>()> restart;
};

class Bucket {
 public:
  explicit Bucket(std::unique_ptr<S3Client> client) : client_(std::move(client)) {}

  S3Client& client() { return *client_; }
  // "photos/", "" for a whole bucket: what all its keys begin with.
  const std::string& root() const { return root_; }

  // All below `root() + below`, in byte order of keys, versions of one key newest first. `visit` gets whole
  // keys. A list that is out of order is refused.
  Result<void> list(std::string_view below, bool versions, const std::stop_token& stop,
                    const std::function<Result<void>(S3Listed&&)>& visit);
  // The same page by page, for whoever walks two lists at once.
  class Walk {
   public:
    Walk(Bucket& bucket, std::string below, bool versions);
    // The next entry, or nothing at the end; a reference until the next call.
    Result<const S3Listed*> next(const std::stop_token& stop);

   private:
    Bucket& bucket_;
    const std::string prefix_;
    const bool versions_;
    std::vector<S3Listed> page_;
    size_t at_ = 0;
    bool more_ = true;
    std::string key_, version_, token_, last_key_;
  };

  // kNotFound: it is not there (any more). kPartial: it is there and cannot be read. Bytes are checked by
  // size, and by the ETag where that is an MD5; one that changes while it is read is begun again.
  Result<ObjectFacts> read(const std::string& key, const std::string& version, uint64_t size,
                           const ReadTo& to, const std::stop_token& stop);
  // nullopt: there is none.
  Result<std::optional<ObjectFacts>> head(const std::string& key, const std::string& version = {});
  // The size of the first part of a multipart object; nothing where the store does not tell.
  std::optional<uint64_t> part_bytes(const std::string& key, const std::string& version);
  Result<S3Tags> tags(const std::string& key, const std::string& version);

  // A delete marker, or in a bucket without versions the end of the object. `version`: that version alone.
  Result<void> remove(const std::string& key, const std::string& version = {});
  // An older version as the newest again, within the bucket.
  Result<void> copy_back(const std::string& key, const std::string& version, uint64_t size);

  Result<Versioning> versioning();
  Result<bool> is_empty();

 private:
  Result<ObjectFacts> read_once(const std::string& key, const std::string& version, uint64_t size,
                                const ReadTo& to, const std::stop_token& stop, bool& again);
  Error read_error(const S3Answer& answer, const std::string& key);

  std::unique_ptr<S3Client> client_;
  const std::string root_ = client_->location().prefix.empty() ? "" : client_->location().prefix + "/";
};

// One object on its way into a bucket, of known size: one PUT, or a multipart upload.
class Upload {
 public:
  struct Words {
    std::vector<HttpHeader> headers;
    S3Tags tags;
  };
  // `part_bytes`: of a multipart upload; 0: as fits the size. Takes what it holds from `budget`.
  Upload(Bucket& bucket, std::string key, Words words, uint64_t size, size_t part_bytes, ByteBudget& budget);
  ~Upload();
  Result<void> add(ByteView bytes);
  // It stands when this returns. The version it became, "" where there are none.
  Result<std::string> finish();

 private:
  Result<void> send_part();

  Bucket& bucket_;
  const std::string key_;
  Words words_;
  const uint64_t size_;
  size_t part_bytes_;
  ByteBudget::Share share_;
  Bytes buffer_;
  size_t parts_ = 0;
  uint64_t given_ = 0;
  std::unique_ptr<MultipartUpload> upload_;
  bool finished_ = false;
};

}  // namespace kuramori::bucket
