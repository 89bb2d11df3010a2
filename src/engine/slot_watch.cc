#include "engine/slot_watch.h"

#include <fmt/core.h>
#include <sys/socket.h>

#include <condition_variable>

#include "base/units.h"
#include "source/postgres/connection.h"

namespace kuramori {
namespace {

constexpr Duration kEvery = std::chrono::seconds(2);

constexpr const char* kSlotQuery =
    "SELECT coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()"
    " ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint, coalesce(wal_status, '')"
    " FROM pg_replication_slots WHERE slot_name = $1";
constexpr const char* kSyncQuery =
    "SELECT coalesce(sync_state, 'async') <> 'async' FROM pg_stat_replication WHERE pid = $1::int";

}  // namespace

SlotWatch::SlotWatch(std::string connect, std::string slot, int pid, uint64_t warn_bytes, Reporter& reporter)
    : connect_(std::move(connect)),
      slot_(std::move(slot)),
      pid_(pid),
      warn_bytes_(warn_bytes),
      reporter_(reporter),
      thread_([this](std::stop_token stop) { work(stop); }) {}

SlotWatch::~SlotWatch() {
  thread_.request_stop();
  const std::lock_guard lock(mutex_);
  if (line_.valid()) ::shutdown(line_.get(), SHUT_RDWR);
}

void SlotWatch::work(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool told_size = false, told_status = false;
  auto connection = postgres::Connection::open(connect_);
  if (connection) {
    const std::lock_guard lock(mutex_);
    line_ = connection->same_socket();
  }
  // The stream itself notices a server that is gone; without answers here it goes on as an asynchronous one.
  while (connection && !stop.stop_requested()) {
    auto sync = connection->query(kSyncQuery, {std::to_string(pid_)});
    auto slot = connection->query(kSlotQuery, {slot_});
    if (!sync || !slot) return;
    synchronous_ = sync->rows() > 0 && sync->is_true(0, 0);
    asynchronous_ = sync->rows() > 0 && !synchronous_;
    if (slot->rows() > 0) {
      const uint64_t kept = static_cast<uint64_t>(std::max<int64_t>(slot->number(0, 0).value_or(0), 0));
      kept_bytes_ = kept;
      if (kept > warn_bytes_ && !told_size) {
        reporter_.warning(
            fmt::format("slot {} keeps {} of WAL on the server: when its disk is full, it stops "
                        "(max_slot_wal_keep_size bounds it)",
                        slot_, format_size(kept)));
      }
      told_size = kept > warn_bytes_ || (told_size && kept > warn_bytes_ / 2);
      const bool in_danger = slot->text(0, 1) == "unreserved" || slot->text(0, 1) == "lost";
      if (in_danger && !told_status) {
        reporter_.warning(
            fmt::format("slot {} is behind max_slot_wal_keep_size: the server is about to remove "
                        "WAL that is not archived yet",
                        slot_));
      }
      told_status = in_danger;
    }
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop, kEvery, [] { return false; });
  }
}

}  // namespace kuramori
