#include "source/postgres/row_changes.h"

#include <charconv>

namespace kuramori::postgres {
namespace {

constexpr uint8_t kHeapOperation = 0x70;
constexpr uint8_t kHeapInsert = 0x00, kHeapDelete = 0x10;
constexpr uint8_t kHeap2MultiInsert = 0x50;
constexpr size_t kMultiInsertCountAt = 2;  // flags:1, padding:1, number of tuples:2

// Transaction ids go round: half of them lie before any one.
bool is_before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) < 0;
}

}  // namespace

Result<void> RowChanges::see(const WalRecord& record) {
  if (record.lsn < redo_) return {};
  if (record.rmgr == kRmHeap || record.rmgr == kRmHeap2) {
    if (record.blocks.empty() || is_before(record.xid, oldest_)) return {};
    const RelationFile& file = record.blocks.front().file;
    const uint8_t operation = record.info & kHeapOperation;
    if (record.rmgr == kRmHeap && operation == kHeapInsert) {
      ++tables_[{file.database, file.number}].inserted;
    } else if (record.rmgr == kRmHeap && operation == kHeapDelete) {
      ++tables_[{file.database, file.number}].deleted;
    } else if (record.rmgr == kRmHeap2 && operation == kHeap2MultiInsert) {
      if (record.main_data.size() < kMultiInsertCountAt + sizeof(uint16_t))
        return fail(ErrorKind::kDamaged,
                    fmt::format("the WAL record at {} is too short", format_lsn(record.lsn)));
      tables_[{file.database, file.number}].inserted +=
          load_le<uint16_t>(record.main_data.data() + kMultiInsertCountAt);
    }
    return {};
  }
  if (record.rmgr != kRmXact && record.rmgr != kRmXlog) return {};
  TRY_ASSIGN(const std::optional<WalFact> fact, fact_of(record));
  if (!fact) return {};
  if (const auto* end = std::get_if<TransactionEnd>(&*fact)) {
    for (const RelationFile& file : end->dropped_files) tables_[{file.database, file.number}].replaced = true;
  } else if (const auto* checkpoint = std::get_if<Checkpoint>(&*fact); checkpoint && !saw_checkpoint_) {
    // Its own, or else nothing is known of what came before.
    saw_checkpoint_ = true;
    complete_ = checkpoint->redo == redo_ && !is_before(oldest_, checkpoint->next_xid);
  }
  return {};
}

RowChanges::Table RowChanges::of(uint32_t database, uint32_t file_number) const {
  const auto found = tables_.find({database, file_number});
  return found == tables_.end() ? Table{} : found->second;
}

std::optional<uint32_t> oldest_of_snapshot(std::string_view snapshot) {
  uint64_t xmin = 0;
  const auto [end, error] = std::from_chars(snapshot.data(), snapshot.data() + snapshot.size(), xmin);
  if (error != std::errc() || end == snapshot.data() + snapshot.size() || *end != ':') return std::nullopt;
  return static_cast<uint32_t>(xmin);
}

std::optional<uint32_t> oldest_of_counts(const Counts& counts) {
  std::optional<uint32_t> oldest;
  for (const DatabaseCounts& database : counts.databases) {
    const auto xmin = oldest_of_snapshot(database.snapshot);
    if (xmin && (!oldest || is_before(*xmin, *oldest))) oldest = xmin;
  }
  return oldest;
}

}  // namespace kuramori::postgres
