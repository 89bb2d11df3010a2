#include "source/postgres/control_file.h"

#include "codec/crc32c.h"

namespace kuramori::postgres {
namespace {

// The structure is the same from 13 to 17; 18 put one byte (signedness of char) before the nonce, which moves
// the CRC.
constexpr uint32_t kVersion13 = 1300, kVersion17 = 1700, kVersion18 = 1800;
constexpr size_t kCrcAt = 288, kCrcAt18 = 292;

struct Release {
  uint32_t catalog;
  int major;
  uint32_t control;
};
constexpr Release kReleases[] = {
    {202007201, 13, kVersion13}, {202107181, 14, kVersion13}, {202209061, 15, kVersion13},
    {202307071, 16, kVersion13}, {202406281, 17, kVersion17}, {202506291, 18, kVersion18},
};

constexpr uint32_t kMaxAlign = 8;
constexpr double kFloatFormat = 1234567.0;
constexpr uint32_t kBlockBytes = 8192;

class Fields {
 public:
  explicit Fields(ByteView bytes) : bytes_(bytes) {}
  template <class T>
  T at(size_t offset) const {
    return load_le<T>(bytes_.data() + offset);
  }
  bool flag(size_t offset) const { return bytes_[offset] != 0; }
  uint32_t u32(size_t offset) const { return at<uint32_t>(offset); }
  uint64_t u64(size_t offset) const { return at<uint64_t>(offset); }
  // Whole seconds since 1970. What the clock cannot hold is damage, but the CRC has been checked: hold it
  // inside.
  Time time(size_t offset) const {
    constexpr int64_t kSecondsMax = INT64_MAX / 1'000'000'000;
    return Time(std::chrono::seconds(std::clamp(at<int64_t>(offset), -kSecondsMax, kSecondsMax)));
  }

 private:
  ByteView bytes_;
};

Error damaged(std::string why) {
  return fail(ErrorKind::kDamaged, "pg_control is damaged", std::move(why),
              "restore the cluster from a snapshot: kuramori restore");
}

Error refused(std::string what, std::string why) {
  return fail(ErrorKind::kRefused, std::move(what), std::move(why));
}

Result<size_t> crc_position(uint32_t control_version) {
  switch (control_version) {
    case kVersion13:
    case kVersion17:
      return kCrcAt;
    case kVersion18:
      return kCrcAt18;
    default:
      return refused(fmt::format("pg_control has the unknown version {}", control_version),
                     "PostgreSQL 13 to 18 write the versions 1300, 1700 and 1800");
  }
}

Result<void> check_machine(const Fields& fields) {
  if (fields.u32(204) != kMaxAlign || fields.at<double>(208) != kFloatFormat) {
    return refused("pg_control was written by another kind of machine",
                   fmt::format("alignment {}, float {}", fields.u32(204), fields.at<double>(208)));
  }
  if (fields.u32(216) != kBlockBytes || fields.u32(224) != kBlockBytes) {
    return refused(fmt::format("the cluster has pages of {} and WAL pages of {} bytes", fields.u32(216),
                               fields.u32(224)),
                   "only 8192 is supported, which every distributed PostgreSQL uses");
  }
  if (!is_segment_size(fields.u32(228))) {
    return damaged(fmt::format("a WAL segment of {} bytes is impossible", fields.u32(228)));
  }
  return {};
}

RecoverySettings read_settings(const Fields& fields, WalLevel wal_level) {
  return {
      .wal_level = wal_level,
      .wal_log_hints = fields.flag(176),
      .track_commit_timestamp = fields.flag(200),
      .max_connections = fields.u32(180),
      .max_worker_processes = fields.u32(184),
      .max_wal_senders = fields.u32(188),
      .max_prepared_transactions = fields.u32(192),
      .max_locks_per_transaction = fields.u32(196),
  };
}

}  // namespace

std::string_view name_of(ClusterState state) {
  switch (state) {
    case ClusterState::kStartingUp:
      return "starting up";
    case ClusterState::kShutDown:
      return "shut down";
    case ClusterState::kShutDownInRecovery:
      return "shut down in recovery";
    case ClusterState::kShuttingDown:
      return "shutting down";
    case ClusterState::kInCrashRecovery:
      return "in crash recovery";
    case ClusterState::kInArchiveRecovery:
      return "in archive recovery";
    case ClusterState::kInProduction:
      return "in production";
  }
  return "unknown";
}

std::string_view name_of(WalLevel level) {
  switch (level) {
    case WalLevel::kMinimal:
      return "minimal";
    case WalLevel::kReplica:
      return "replica";
    case WalLevel::kLogical:
      return "logical";
  }
  return "unknown";
}

int major_of_catalog(uint32_t catalog_version) {
  for (const auto& release : kReleases) {
    if (release.catalog == catalog_version) return release.major;
  }
  return 0;
}

Result<ControlFile> parse_control_file(ByteView bytes) {
  if (bytes.size() < kControlFileBytesMin) {
    return damaged(
        fmt::format("it holds {} bytes, at least {} are needed", bytes.size(), kControlFileBytesMin));
  }
  const Fields fields(bytes);
  ControlFile file;
  file.control_version = fields.u32(8);
  TRY_ASSIGN(const size_t crc_at, crc_position(file.control_version));
  const uint32_t crc = crc32c(bytes.first(crc_at));
  if (crc != fields.u32(crc_at)) {
    return damaged(fmt::format("its checksum is {:08x}, its bytes give {:08x}", fields.u32(crc_at), crc));
  }
  file.catalog_version = fields.u32(12);
  file.major = major_of_catalog(file.catalog_version);
  for (const auto& release : kReleases) {
    if (release.major == file.major && release.control != file.control_version) file.major = 0;
  }
  if (file.major == 0) {
    return refused(fmt::format("the cluster has the unknown catalog version {}", file.catalog_version),
                   "it is no released PostgreSQL of 13 to 18");
  }
  TRY(check_machine(fields));
  const uint32_t state = fields.u32(16), wal_level = fields.u32(172);
  if (state > static_cast<uint32_t>(ClusterState::kInProduction) ||
      wal_level > static_cast<uint32_t>(WalLevel::kLogical)) {
    return damaged(fmt::format("state {} or wal_level {} does not exist", state, wal_level));
  }

  file.system_id = fields.u64(0);
  file.state = static_cast<ClusterState>(state);
  file.written_at = fields.time(24);
  file.checkpoint = fields.u64(32);
  file.redo = fields.u64(40);
  file.timeline = fields.u32(48);
  file.previous_timeline = fields.u32(52);
  file.full_page_writes = fields.flag(56);
  file.next_xid = fields.u64(64);
  file.next_oid = fields.u32(72);
  file.checkpoint_at = fields.time(104);
  file.min_recovery_point = fields.u64(136);
  file.min_recovery_timeline = fields.u32(144);
  file.backup_start = fields.u64(152);
  file.backup_end = fields.u64(160);
  file.backup_end_required = fields.flag(168);
  file.settings = read_settings(fields, static_cast<WalLevel>(wal_level));
  file.block_bytes = fields.u32(216);
  file.blocks_per_file = fields.u32(220);
  file.wal_block_bytes = fields.u32(224);
  file.segment_bytes = fields.u32(228);
  file.checksum_version = fields.u32(252);
  return file;
}

}  // namespace kuramori::postgres
