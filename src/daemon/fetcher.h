// WAL that recovery gets through the daemon: while the server replays one segment, those that follow it are
// fetched, several at once.
//
// What is fetched ahead is kept in memory alone, under vault, resource, promise and name, and only whole
// segments whose digest was checked: they can never be other bytes (P42). Everything else — the end of the
// archive, a gap, a history — is looked up when it is asked for, by the rule of a lone `wal get` (P44).
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <tuple>

#include "daemon/served_vaults.h"

namespace kuramori {

constexpr uint64_t kFetchedBytesMax = uint64_t{256} << 20;      // ahead of those who asked, of all recoveries
constexpr size_t kFetchAheadMax = 16;                           // segments ahead of one recovery
constexpr Duration kFetchedIdleMax = std::chrono::seconds(60);  // then what nobody came for is let go

class Fetcher {
 public:
  Fetcher(ServedVaults& vaults, size_t workers);
  ~Fetcher();

  // The bytes come with kFound. `still_working` as for Archiver::push.
  postgres::GetDecision get(size_t vault, const WalGetRequest& request, Bytes& content,
                            const std::function<void()>& still_working);

 private:
  struct Key {
    size_t vault = 0;
    std::string resource, promise, name;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    Key key;
    std::shared_ptr<const LoadedArchive> archive;
    postgres::SegmentSource source;
    uint64_t bytes = 0;  // counted in bytes_ while it is in entries_
    bool running = false, done = false;
    std::optional<Bytes> content;  // done and without: it could not be fetched
  };
  using EntryRef = std::shared_ptr<Entry>;

  void work(std::stop_token stop);
  void fetch_ahead(size_t vault, const WalGetRequest& request, const Key& key);
  void drop(const EntryRef& entry);  // with mutex_ held

  ServedVaults& vaults_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  std::map<Key, EntryRef> entries_;
  std::deque<EntryRef> order_;  // all of entries_, oldest first
  std::deque<EntryRef> queue_;
  uint64_t bytes_ = 0;
  Duration last_asked_{0};
  std::map<std::pair<size_t, std::string>, std::shared_ptr<const LoadedArchive>> archives_;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

}  // namespace kuramori
