#include "source/postgres/remote_wal.h"

#include <algorithm>

#include "source/postgres/replication.h"

namespace kuramori::postgres {
namespace {

constexpr Duration kWaitSlice = std::chrono::milliseconds(500);  // between looks at the stop token
constexpr Duration kSilenceMax = std::chrono::minutes(2);        // without a byte of WAL the server has

Error gone(std::string_view name, std::string why) {
  return fail(
      ErrorKind::kNotFound, fmt::format("WAL segment {} is no longer on the server", name), std::move(why),
      "psql -c \"ALTER SYSTEM SET wal_keep_size = '1GB'\" -c 'SELECT pg_reload_conf()', or let WAL reach the "
      "vault by itself (wal push, wal stream: docs/postgres.md); then run the backup again");
}

}  // namespace

Result<Bytes> fetch_wal_segment(const std::string& connect, const SegmentName& segment,
                                uint32_t segment_bytes, WalWanted wanted, Clock& clock,
                                std::stop_token stop) {
  const std::string name = segment_name(segment.timeline, segment.start, segment_bytes);
  TRY_ASSIGN(Replication server, Replication::open(connect, "kuramori"));
  TRY_ASSIGN(const SystemIdentity now, server.identify());
  const Lsn whole = segment.start + segment_bytes;
  if (wanted == WalWanted::kWhole && now.timeline == segment.timeline && now.flushed < whole) {
    return fail(ErrorKind::kPartial, fmt::format("WAL segment {} is not whole on this server yet", name),
                fmt::format("it has WAL up to {}", format_lsn(now.flushed)),
                "on the primary, psql -c 'SELECT pg_switch_wal()' ends the segment");
  }
  const Lsn until = now.timeline == segment.timeline ? std::min(whole, now.flushed) : whole;
  Bytes bytes(segment_bytes);
  if (until <= segment.start) return bytes;
  auto begun = server.start("", segment.start, segment.timeline);
  if (!begun && begun.error().kind == ErrorKind::kNotFound) return gone(name, begun.error().why);
  if (!begun) return std::move(begun).error();
  if (!*begun) return gone(name, fmt::format("timeline {} ended before it", segment.timeline));
  Lsn reached = segment.start;
  Duration silent_since = clock.steady();
  while (reached < until) {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
    auto arrival = server.receive();
    if (!arrival && arrival.error().kind == ErrorKind::kNotFound) return gone(name, arrival.error().why);
    if (!arrival) return std::move(arrival).error();
    if (arrival->kind == Arrival::Kind::kWal) {
      if (arrival->from != reached)
        return fail(ErrorKind::kFailed, fmt::format("the server skipped WAL at {}", format_lsn(reached)));
      const size_t part = std::min<uint64_t>(arrival->bytes.size(), whole - reached);
      std::copy_n(arrival->bytes.begin(), part,
                  bytes.begin() + static_cast<ptrdiff_t>(reached - segment.start));
      reached += part;
      silent_since = clock.steady();
    } else if (arrival->kind == Arrival::Kind::kEndOfTimeline) {
      break;
    } else if (arrival->kind == Arrival::Kind::kNothing) {
      if (clock.steady() - silent_since > kSilenceMax)
        return fail(ErrorKind::kFailed, fmt::format("the server sends no more of WAL segment {}", name),
                    "it has it, and was silent for two minutes", "run the backup again");
      TRY(server.wait(-1, kWaitSlice));
    }
  }
  if (wanted == WalWanted::kWhole && reached < whole) {
    return fail(ErrorKind::kPartial, fmt::format("WAL segment {} is not whole on this server yet", name),
                fmt::format("it ends at {}", format_lsn(reached)),
                "on the primary, psql -c 'SELECT pg_switch_wal()' ends the segment");
  }
  return bytes;
}

}  // namespace kuramori::postgres
