// Objects on their way into an S3 store: what every put says of itself, how a lost answer is settled, and the
// multipart upload of a large one.
#pragma once
#include <atomic>
#include <memory>

#include "store/s3/part_pool.h"
#include "store/s3/s3_client.h"
#include "store/store.h"

namespace kuramori {

class S3Objects {
 public:
  S3Objects(S3Client& client, Random& random, size_t part_bytes, size_t parts_in_flight)
      : client_(client), random_(random), part_bytes_(part_bytes), pool_(parts_in_flight) {
    versioned_ = client.location().lock.has_value();  // locks need versions
  }

  Result<void> put_if_absent(std::string_view name, ByteView bytes);
  std::unique_ptr<ObjectWriter> create(std::string_view name);

  // Sets the date, whatever it was: the caller knows that it is later. Refusals are the caller's to read.
  Result<S3Answer> put_retention(std::string_view name, Time until);

  // Whether `name` goes to a class that may be cold, unless what is put is to be read back first.
  bool goes_cold(std::string_view name) const;
  void put_readable() { readable_ = true; }
  // A copy onto itself in the place's class.
  Result<void> settle(std::string_view name);

  std::string key_of(std::string_view name) const;
  S3Client& client() { return client_; }
  // The bucket gave a version id to what was put: conditions may not be honoured there.
  void note_versions(const S3Answer& answer);

 private:
  friend class S3ObjectWriter;
  enum class Presence { kAbsent, kMine, kOther, kNotTold };
  // Who put what stands at `key`: the attempt `token`, another, nobody; or the store does not let us see.
  Result<Presence> look(const std::string& key, const std::string& token, std::optional<uint64_t> size);
  // What every new object carries, however it is put: the attempt's number, class, encryption, lock, owner.
  std::vector<HttpHeader> headers_of_new(std::string_view name, const std::string& token);
  void add_owner_and_encryption(std::vector<HttpHeader>& headers) const;
  Time locked_until() const;  // what is put now; only with a lock
  std::string new_token();
  Error refused(const S3Answer& answer, const std::string& what);
  Error exists(std::string_view name) const;

  S3Client& client_;
  Random& random_;
  size_t part_bytes_;
  PartPool pool_;
  std::atomic<bool> versioned_ = false;
  std::atomic<bool> readable_ = false;
};

}  // namespace kuramori
