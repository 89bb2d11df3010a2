// WAL that is pushed through the daemon: several files at once, and the segments that follow the one that was
// asked for before anybody asks for them.
//
// PostgreSQL asks for one segment after the other and waits for each. While the first is stored, those behind
// it that are ready already are stored too; when PostgreSQL comes to them, they are durable. What was done
// ahead is remembered in memory alone and under the file's identity — system, name, device, inode, size and
// change time — so nothing left over can ever make WAL look pushed (P42). Where the identity might lie, the
// file is pushed again, and the vault finds the same content there.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>

#include "base/reporter.h"
#include "daemon/served_vaults.h"
#include "source/postgres/control_file.h"

namespace kuramori {

constexpr uint64_t kArchiverBytesMax = uint64_t{512} << 20;      // of files held in memory; one always fits
constexpr size_t kArchiverQueueMax = 256;                        // files; what is ahead of more is not begun
constexpr Duration kArchiverIdleMax = std::chrono::seconds(10);  // then its memory is given back
constexpr size_t kRememberedMax = 256;                           // files stored and not yet asked for

// What a request hands over: shared, since records of one file may have begun in another.
struct PushFile {
  std::string name;
  std::shared_ptr<const Fd> file;
};
struct PushFiles {
  PushFile wanted;
  std::vector<PushFile> ahead, earlier;
};

class Archiver {
 public:
  Archiver(ServedVaults& vaults, Reporter& reporter, size_t workers);
  ~Archiver();  // what is under way ends first

  // Returns when the wanted file is durable; those ahead may be stored too. `still_working` is called now and
  // then while it waits.
  Result<WalPushOutcome> push(size_t vault, const postgres::ControlFile& control,
                              const WalPushRequest& request, PushFiles files,
                              const std::function<void()>& still_working);
  // From now on nothing is stored that nobody waits for.
  void stop_ahead();

 private:
  // Which bytes a name stands for, without reading them.
  struct Identity {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t changed_ns = 0;
    auto operator<=>(const Identity&) const = default;
  };
  struct Key {
    size_t vault = 0;
    uint64_t system_id = 0;
    std::string resource, name;
    Identity identity;
    auto operator<=>(const Key&) const = default;
  };
  struct Job {
    Key key;
    ResourceRecord resource;
    uint32_t segment_bytes = 0;
    PushFile file;
    std::vector<PushFile> earlier;  // whatever the request had
    size_t waiting = 0;             // requests
    bool running = false;
    std::optional<Result<WalPut>> result;
  };
  using JobRef = std::shared_ptr<Job>;

  static Result<Identity> identity_of(const Fd& file, const std::string& name);
  Result<ResourceRecord> resource_of(size_t vault, uint64_t system_id, const WalPushRequest& request);
  void work(std::stop_token stop);
  void run(const JobRef& job, WalPushTools& tools);
  bool may_run(const Job& job) const;

  ServedVaults& vaults_;
  Reporter& reporter_;
  const size_t workers_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  std::map<Key, JobRef> jobs_;  // waiting, running, and done but not yet asked for
  std::deque<JobRef> queue_;    // what is waited for stands before what is not
  std::deque<JobRef> stored_;   // done ahead, oldest first
  uint64_t bytes_ = 0;          // of running jobs
  size_t running_ = 0;
  bool ahead_stopped_ = false;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

}  // namespace kuramori
