// A real S3 server for tests: Ceph's gateway on loopback (tools/test_ceph.sh), up in about a second, stopped
// and removed when this process ends, however it ends.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "os/file.h"

namespace kuramori {

struct RgwClusterOptions {
  bool bluestore = false;            // data outlives a killed OSD; slower
  bool tls = false;                  // the gateway speaks TLS alone
  unsigned lifecycle_day_s = 0;      // seconds a lifecycle rule's day lasts; 0: a day
  std::vector<std::string> classes;  // storage classes besides STANDARD
};

// What a conditional put does differs: in a plain bucket it is atomic, in the others it is silently ignored.
enum class RgwBucket { kPlain, kVersioned, kLocked };
enum class RgwPart { kMonitor, kOsd, kGateway };

struct RgwUser {
  std::string name, access_key, secret_key;
};

class RgwCluster {
 public:
  static Result<std::unique_ptr<RgwCluster>> start(const RgwClusterOptions& options = {});
  // One for the whole test program (plain HTTP, in memory), started when first asked for.
  static Result<RgwCluster*> shared();
  // The same with TLS.
  static Result<RgwCluster*> shared_tls();
  ~RgwCluster();
  RgwCluster(const RgwCluster&) = delete;
  RgwCluster& operator=(const RgwCluster&) = delete;

  // A fresh user. `policy`: a JSON policy document; without one it may do everything with what it owns.
  Result<RgwUser> create_user(std::string_view policy = {});
  // The user whose buckets create_bucket() makes; the first call makes it.
  Result<RgwUser> owner();
  // A fresh bucket of the owner's; its name.
  Result<std::string> create_bucket(RgwBucket kind = RgwBucket::kPlain);

  // The HTTP status of a listing of the bucket as this user, by a client that shares no code with the
  // store's; the kind of error where nobody answers.
  Result<std::string> status_of(const RgwUser& user, const std::string& bucket);

  // Answered by the gateway so far, of everybody, by its own log.
  Result<uint64_t> requests() const;

  // SIGSTOP: requests hang, and puts of clients that gave up are done on SIGCONT. SIGKILL: see restart().
  Result<void> signal(RgwPart part, int number);
  Result<void> restart();  // starts what does not run; in memory the data is gone

  const std::string& endpoint() const { return endpoint_; }  // "http://127.0.0.1:41755"
  std::string ca_file() const;                               // PEM; empty without TLS

 private:
  explicit RgwCluster(TemporaryFolder folder) : folder_(std::move(folder)) {}
  Result<RgwUser> make_user(const std::string& name, std::string_view policy);

  TemporaryFolder folder_;
  std::string endpoint_, tools_;
  RgwUser owner_;
  int made_ = 0;  // users and buckets
};

}  // namespace kuramori
