// WAL that recovery gets through the daemon: while the server replays one segment, those that follow it are
// fetched, several at once.
//
// What is fetched ahead is kept under vault, resource, promise and name, and only whole segments whose digest
// was checked: they can never be other bytes (P42). Everything else — the end of the archive, a gap, a
// history — is looked up when it is asked for, by the rule of a lone `wal get` (P44).
//
// Each client brings spare files: of its own, in the folder where the server wants its segments, without a
// name. What is fetched ahead is written there, so that the server waits for no copy: the client that comes
// for it gets the descriptor back and gives it the name. A file without a name is gone with whoever holds it,
// so nothing is ever left over. Where there is no spare, memory holds the bytes.
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
constexpr size_t kFetchAheadMax = 8;                            // segments ahead of one recovery
constexpr size_t kSparesMax = 16;                               // of all clients; each is one open file
constexpr Duration kFetchedIdleMax = std::chrono::seconds(60);  // then what nobody came for is let go

// Where a client wants its files, and whose they are: a spare is given back only where it could have come
// from, since whoever made it may still write to it.
struct Place {
  uint64_t device = 0;
  uid_t uid = 0;
  bool operator==(const Place&) const = default;
};
struct Fetched {
  uint64_t bytes = 0;
  std::optional<Fd> file;  // that holds them; else:
  Bytes content;
};

class Fetcher {
 public:
  Fetcher(ServedVaults& vaults, size_t workers);
  ~Fetcher();

  // An empty file without a name, of the client's own; anything else, or one too many, is let go.
  void take_spare(const Place& place, Fd file);
  // The bytes come with kFound. `still_working` as for Archiver::push.
  postgres::GetDecision get(size_t vault, const WalGetRequest& request, const Place& place, Fetched& fetched,
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
    Place place;
    bool running = false, done = false;
    std::optional<Fetched> fetched;  // done and without: it could not be fetched
  };
  using EntryRef = std::shared_ptr<Entry>;

  void work(std::stop_token stop);
  std::optional<Fetched> fetch(const Entry& entry, std::optional<Fd> spare);
  std::optional<Fd> spare_of(const Place& place);  // with mutex_ held
  void fetch_ahead(size_t vault, const WalGetRequest& request, const Place& place, const Key& key);
  void drop(const EntryRef& entry);  // with mutex_ held

  ServedVaults& vaults_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  std::map<Key, EntryRef> entries_;
  std::deque<EntryRef> order_;  // all of entries_, oldest first
  std::deque<EntryRef> queue_;
  uint64_t bytes_ = 0;
  std::deque<std::pair<Place, Fd>> spares_;
  Duration last_asked_{0};
  std::map<std::pair<size_t, std::string>, std::shared_ptr<const LoadedArchive>> archives_;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

}  // namespace kuramori
