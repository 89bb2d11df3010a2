// Layouts of the records' data as the servers of 13 to 18 write them; where majors differ, the difference is
// named.
#include "source/postgres/wal_facts.h"

namespace kuramori::postgres {
namespace {

constexpr int64_t kPostgresEpochSeconds = 946'684'800;  // 2000-01-01 after 1970-01-01
constexpr size_t kRestorePointNameBytes = 64;

// What an rmgr's info byte says in its upper half (XACT: bits 4 to 6; bit 7 says that more follows).
enum XlogInfo : uint8_t {
  kCheckpointShutdown = 0x00,
  kCheckpointOnline = 0x10,
  kBackupEnd = 0x50,
  kParameterChange = 0x60,
  kRestorePoint = 0x70,
  kFullPageWritesChange = 0x80,
  kEndOfRecovery = 0x90,
  kOverwriteContrecord = 0xd0,
  kCheckpointRedo = 0xe0,
};
enum XactInfo : uint8_t { kCommit = 0x00, kAbort = 0x20, kCommitPrepared = 0x30, kAbortPrepared = 0x40 };
constexpr uint8_t kXactMask = 0x70, kXactHasMore = 0x80;
enum XactMore : uint32_t {
  kHasDatabase = 1 << 0,
  kHasSubtransactions = 1 << 1,
  kHasFiles = 1 << 2,
  kHasInvalidations = 1 << 3,
  kHasTwoPhase = 1 << 4,
  kHasDroppedStats = 1 << 8,
};
constexpr size_t kInvalidationBytes = 16;

// Reads fields; a read past the end makes everything after it zero and `ok` false.
class Data {
 public:
  explicit Data(ByteView bytes) : rest_(bytes) {}
  bool ok = true;

  template <class T>
  T get() {
    const ByteView raw = take(sizeof(T));
    return ok ? load_le<T>(raw.data()) : T{};
  }
  uint32_t u32() { return get<uint32_t>(); }
  Lsn lsn() { return get<uint64_t>(); }
  bool flag() { return get<uint8_t>() != 0; }
  Time time() { return time_of_postgres(get<int64_t>()); }
  RelationFile file() {
    RelationFile file;
    file.tablespace = u32();
    file.database = u32();
    file.number = u32();
    return file;
  }
  // How many items of `item_bytes` follow, as far as there is room for them.
  uint32_t count(size_t item_bytes) {
    const uint32_t items = u32();
    if (items > rest_.size() / item_bytes) ok = false;
    return ok ? items : 0;
  }
  void skip(size_t bytes) { take(bytes); }
  std::string text() {  // to its NUL, or to the end
    const std::string_view all = as_text(rest_);
    return std::string(all.substr(0, all.find('\0')));
  }

 private:
  ByteView rest_;
  ByteView take(size_t bytes) {
    if (!ok || rest_.size() < bytes) {
      ok = false;
      return {};
    }
    const ByteView taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }
};

RecoverySettings read_settings(Data& data) {
  RecoverySettings settings;
  settings.max_connections = data.u32();
  settings.max_worker_processes = data.u32();
  settings.max_wal_senders = data.u32();
  settings.max_prepared_transactions = data.u32();
  settings.max_locks_per_transaction = data.u32();
  const uint32_t level = data.u32();
  if (level > static_cast<uint32_t>(WalLevel::kLogical)) data.ok = false;
  settings.wal_level = static_cast<WalLevel>(data.ok ? level : 0);
  settings.wal_log_hints = data.flag();
  settings.track_commit_timestamp = data.flag();
  return settings;
}

Checkpoint read_checkpoint(Data& data, bool is_shutdown) {
  Checkpoint checkpoint{.is_shutdown = is_shutdown};
  checkpoint.redo = data.lsn();
  checkpoint.timeline = data.u32();
  checkpoint.previous_timeline = data.u32();
  checkpoint.full_page_writes = data.flag();
  data.skip(3 + 4);                                                   // padding (wal_level from 17 on)
  checkpoint.next_xid = static_cast<uint32_t>(data.get<uint64_t>());  // its upper half is the epoch
  data.skip(4 + 4 + 4);                                               // next oid, multixact, its offset
  data.skip(4 + 4 + 4 + 4 + 4);  // oldest xid and multixact with their databases, padding
  const auto seconds = data.get<int64_t>();
  constexpr int64_t kSecondsMax = INT64_MAX / 1'000'000'000;
  checkpoint.at = Time(std::chrono::seconds(std::clamp(seconds, -kSecondsMax, kSecondsMax)));
  return checkpoint;
}

std::optional<WalFact> read_xlog(const WalRecord& record, Data& data) {
  switch (record.info & 0xf0) {
    case kCheckpointShutdown:
      return read_checkpoint(data, true);
    case kCheckpointOnline:
      return read_checkpoint(data, false);
    case kBackupEnd:
      return BackupEnd{data.lsn()};
    case kParameterChange:
      return ParameterChange{read_settings(data)};
    case kRestorePoint: {
      const Time at = data.time();
      std::string name = data.text();
      data.skip(kRestorePointNameBytes);
      return RestorePoint{std::move(name), at};
    }
    case kFullPageWritesChange:
      return FullPageWritesChange{data.flag()};
    case kEndOfRecovery: {
      EndOfRecovery end{.at = data.time()};
      end.timeline = data.u32();
      end.previous_timeline = data.u32();
      return end;
    }
    case kOverwriteContrecord:
      return OverwrittenRecord{data.lsn()};
    case kCheckpointRedo:
      return CheckpointRedo{};
    default:
      return std::nullopt;
  }
}

std::optional<WalFact> read_xact(const WalRecord& record, Data& data) {
  const uint8_t kind = record.info & kXactMask;
  const bool prepared = kind == kCommitPrepared || kind == kAbortPrepared;
  if (kind != kCommit && kind != kAbort && !prepared) return std::nullopt;
  TransactionEnd end{
      .is_commit = kind == kCommit || kind == kCommitPrepared, .was_prepared = prepared, .xid = record.xid};
  end.at = data.time();
  const uint32_t more = record.info & kXactHasMore ? data.u32() : 0;
  if (more & kHasDatabase) data.skip(8);
  if (more & kHasSubtransactions) {
    for (uint32_t left = data.count(4); left > 0; --left) end.subtransactions.push_back(data.u32());
  }
  if (more & kHasFiles) {
    for (uint32_t left = data.count(12); left > 0; --left) end.dropped_files.push_back(data.file());
  }
  // Since 15; in 18 the statistics' object ids grew to 8 bytes.
  const size_t stats_bytes = record.major >= 18 ? 16 : 12;
  if (more & kHasDroppedStats) data.skip(data.count(stats_bytes) * stats_bytes);
  if (end.is_commit && (more & kHasInvalidations))
    data.skip(data.count(kInvalidationBytes) * kInvalidationBytes);
  if (more & kHasTwoPhase) end.xid = data.u32();
  return end;
}

std::optional<WalFact> read_smgr(const WalRecord& record, Data& data) {
  constexpr uint8_t kCreate = 0x10, kTruncate = 0x20;
  constexpr uint32_t kTruncatesMain = 1, kTruncatesVm = 2, kTruncatesFsm = 4;
  switch (record.info & 0xf0) {
    case kCreate: {
      FileCreated created{.file = data.file()};
      const uint32_t fork = data.u32();
      if (fork > static_cast<uint32_t>(Fork::kInit)) data.ok = false;
      created.fork = static_cast<Fork>(data.ok ? fork : 0);
      return created;
    }
    case kTruncate: {
      FileTruncated truncated;
      truncated.blocks = data.u32();
      truncated.file = data.file();
      const uint32_t flags = data.u32();
      truncated.main = flags & kTruncatesMain;
      truncated.vm = flags & kTruncatesVm;
      truncated.fsm = flags & kTruncatesFsm;
      return truncated;
    }
    default:
      return std::nullopt;
  }
}

std::optional<WalFact> read_database(const WalRecord& record, Data& data) {
  // 13 and 14: create (by file copy), drop. Since 15: create by file copy, create by WAL, drop.
  const uint8_t info = record.info & 0xf0;
  const bool is_old = record.major <= 14;
  if (info == 0x00) {
    DatabaseCreated created{.database = data.u32(), .by_file_copy = true};
    created.tablespace = data.u32();
    created.source_database = data.u32();
    created.source_tablespace = data.u32();
    return created;
  }
  if (!is_old && info == 0x10) {
    DatabaseCreated created{.database = data.u32()};
    created.tablespace = data.u32();
    return created;
  }
  if (info == (is_old ? 0x10 : 0x20)) {
    DatabaseDropped dropped{.database = data.u32()};
    for (uint32_t left = data.count(4); left > 0; --left) dropped.tablespaces.push_back(data.u32());
    return dropped;
  }
  return std::nullopt;
}

std::optional<WalFact> read_tablespace(const WalRecord& record, Data& data) {
  switch (record.info & 0xf0) {
    case 0x00: {
      TablespaceCreated created{.tablespace = data.u32()};
      created.path = data.text();
      return created;
    }
    case 0x10:
      return TablespaceDropped{data.u32()};
    default:
      return std::nullopt;
  }
}

}  // namespace

Time time_of_postgres(int64_t microseconds) {
  // The clock counts nanoseconds in 64 bits: 1677 to 2262. PostgreSQL's -infinity and infinity end there too.
  constexpr int64_t kMax = INT64_MAX / 1000 - kPostgresEpochSeconds * 1'000'000;
  constexpr int64_t kMin = INT64_MIN / 1000;
  const int64_t inside = std::clamp(microseconds, kMin, kMax);
  return Time(std::chrono::microseconds(inside + kPostgresEpochSeconds * 1'000'000));
}

Result<std::optional<WalFact>> fact_of(const WalRecord& record) {
  Data data(record.main_data);
  std::optional<WalFact> fact;
  switch (record.rmgr) {
    case kRmXlog:
      fact = read_xlog(record, data);
      break;
    case kRmXact:
      fact = read_xact(record, data);
      break;
    case kRmSmgr:
      fact = read_smgr(record, data);
      break;
    case kRmDatabase:
      fact = read_database(record, data);
      break;
    case kRmTablespace:
      fact = read_tablespace(record, data);
      break;
    default:
      break;
  }
  if (!data.ok) {
    return fail(ErrorKind::kDamaged, fmt::format("the WAL record at {} is damaged", format_lsn(record.lsn)),
                fmt::format("its {} bytes are too few for resource manager {}, info {:02X}",
                            record.main_data.size(), record.rmgr, record.info));
  }
  return fact;
}

void TargetFinder::see_time(Time at) {
  if (!newest_ || at > *newest_) newest_ = at;
}

void TargetFinder::see_end(const TransactionEnd& end, const TargetPoint& point) {
  see_time(end.at);
  if (wanted_.xid && *wanted_.xid == end.xid && !found_) {
    found_ = point;
    settled_ = true;
  }
  if (!wanted_.at) return;
  if (end.at > *wanted_.at) {
    if (!first_later_) first_later_ = point;
    settled_ = true;
  } else if (settled_) {
    ++later_but_earlier_;
  } else {
    found_ = point;
  }
}

Result<void> TargetFinder::see(const WalRecord& record, const WalFact& fact) {
  TargetPoint point{.lsn = record.lsn, .end = record.end, .timeline = record.timeline};
  if (const auto* end = std::get_if<TransactionEnd>(&fact)) {
    point.xid = end->xid;
    point.at = end->at;
    see_end(*end, point);
  } else if (const auto* named = std::get_if<RestorePoint>(&fact)) {
    see_time(named->at);
    point.at = named->at;
    if (wanted_.name && *wanted_.name == named->name && !found_) {
      found_ = point;
      settled_ = true;
    }
  } else if (const auto* checkpoint = std::get_if<Checkpoint>(&fact)) {
    see_time(checkpoint->at);
  }
  return {};
}

Result<void> TargetFinder::see(const WalRecord& record) {
  TRY_ASSIGN(const auto fact, fact_of(record));
  return fact ? see(record, *fact) : Result<void>();
}

}  // namespace kuramori::postgres
