#include "source/postgres/changed_blocks.h"

#include <fmt/core.h>

#include <algorithm>

#include "source/postgres/wal_facts.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kSlotsMin = 1024;

bool is_collected(Fork fork) {
  return fork == Fork::kMain || fork == Fork::kInit;
}

void lay_over(ChangedFork& into, const ChangedFork& later) {
  if (later.limit) into.limit = into.limit ? std::min(*into.limit, *later.limit) : *later.limit;
  if (later.blocks.empty()) return;
  const auto middle = static_cast<ptrdiff_t>(into.blocks.size());
  const bool follows = into.blocks.empty() || into.blocks.back() < later.blocks.front();
  into.blocks.insert(into.blocks.end(), later.blocks.begin(), later.blocks.end());
  if (follows) return;
  std::inplace_merge(into.blocks.begin(), into.blocks.begin() + middle, into.blocks.end());
  into.blocks.erase(std::ranges::unique(into.blocks).begin(), into.blocks.end());
}

}  // namespace

// Why the order of what happened does not matter: a fork's blocks are those that were ever touched, its limit
// the lowest it ever had. A block that was cut off and came again is in both, and is read either way.
Result<void> ChangedBlocks::append(const ChangedBlocks& later) {
  auto refused = [](std::string why) {
    return fail(ErrorKind::kRefused, "the changed blocks do not join", std::move(why));
  };
  if (later.system_id != system_id)
    return refused(fmt::format("system {} follows on system {}", later.system_id, system_id));
  if (later.timeline < timeline)
    return refused(fmt::format("timeline {} follows on timeline {}", later.timeline, timeline));
  if (later.from > to) {
    return refused(
        fmt::format("nothing is known of the WAL between {} and {}", format_lsn(to), format_lsn(later.from)));
  }
  to = later.timeline > timeline ? later.to : std::max(to, later.to);
  timeline = later.timeline;
  was_minimal |= later.was_minimal;
  whole_databases.insert(later.whole_databases.begin(), later.whole_databases.end());
  for (const auto& [file, fork] : later.forks) lay_over(forks[file], fork);
  return {};
}

void ChangedBlocksCollector::BlockSet::grow() {
  std::vector<uint64_t> old(std::max(kSlotsMin, slots_.size() * 2));
  std::swap(old, slots_);
  used_ = 0;
  for (const uint64_t slot : old) {
    if (slot != 0) insert(slot - 1);
  }
}

bool ChangedBlocksCollector::BlockSet::insert(uint64_t key) {
  if (used_ * 2 >= slots_.size()) grow();
  const uint64_t wanted = key + 1;
  const size_t mask = slots_.size() - 1;
  for (size_t at = (key * 0x9e3779b97f4a7c15) >> 20 & mask;; at = (at + 1) & mask) {
    if (slots_[at] == wanted) return false;
    if (slots_[at] != 0) continue;
    slots_[at] = wanted;
    ++used_;
    return true;
  }
}

void ChangedBlocksCollector::BlockSet::clear() {
  slots_.clear();
  used_ = 0;
}

ChangedBlocksCollector::ChangedBlocksCollector(uint64_t system_id, Lsn from) {
  changed_.system_id = system_id;
  changed_.from = changed_.to = from;
}

uint32_t ChangedBlocksCollector::number_of(const ForkFile& file) {
  const uint32_t hash =
      (file.file.number ^ file.file.database << 8 ^ static_cast<uint32_t>(file.fork) << 16) * 0x9e3779b9u;
  uint32_t& recent = recent_[hash >> 24];
  if (recent < files_.size() && files_[recent] == file) return recent;
  const auto [known, is_new] = numbers_.try_emplace(file, static_cast<uint32_t>(files_.size()));
  if (is_new) {
    files_.push_back(file);
    lists_.push_back(&changed_.forks[file].blocks);
  }
  recent = known->second;
  return recent;
}

void ChangedBlocksCollector::limit(const ForkFile& file, uint32_t blocks) {
  lay_over(changed_.forks[file], {.limit = blocks, .blocks = {}});
}

void ChangedBlocksCollector::touch(const BlockRef& block) {
  if (!is_collected(block.fork)) return;
  const uint32_t number = number_of({block.file, block.fork});
  if (seen_.insert(uint64_t{number} << 32 | block.block)) lists_[number]->push_back(block.block);
}

Result<void> ChangedBlocksCollector::see(const WalRecord& record) {
  changed_.timeline = std::max(changed_.timeline, record.timeline);
  // Every reference counts, also one that is an image alone or makes the page anew.
  for (const BlockRef& block : record.blocks) touch(block);
  if (record.rmgr != kRmXlog && record.rmgr != kRmXact && record.rmgr != kRmSmgr &&
      record.rmgr != kRmDatabase)
    return {};
  TRY_ASSIGN(const auto fact, fact_of(record));
  if (!fact) return {};
  if (const auto* created = std::get_if<FileCreated>(&*fact)) {
    if (is_collected(created->fork)) limit({created->file, created->fork}, 0);
  } else if (const auto* truncated = std::get_if<FileTruncated>(&*fact)) {
    // Of its maps alone (pg_truncate_visibility_map): no block, but the relation is mentioned.
    if (truncated->main)
      limit({truncated->file, Fork::kMain}, truncated->blocks);
    else
      number_of({truncated->file, Fork::kMain});
  } else if (const auto* ended = std::get_if<TransactionEnd>(&*fact)) {
    // An init fork needs none: wherever its number is used again, a record says that it was made.
    for (const RelationFile& file : ended->dropped_files) limit({file, Fork::kMain}, 0);
  } else if (const auto* database = std::get_if<DatabaseCreated>(&*fact)) {
    // The other way, every page of the new database is in a record of its own.
    if (database->by_file_copy) changed_.whole_databases.emplace(database->tablespace, database->database);
  } else if (const auto* dropped = std::get_if<DatabaseDropped>(&*fact)) {
    for (const uint32_t tablespace : dropped->tablespaces)
      changed_.whole_databases.emplace(tablespace, dropped->database);
  } else if (const auto* parameters = std::get_if<ParameterChange>(&*fact)) {
    changed_.was_minimal |= parameters->settings.wal_level == WalLevel::kMinimal;
  }
  return {};
}

ChangedBlocks ChangedBlocksCollector::take(Lsn to) {
  for (auto* list : lists_) std::ranges::sort(*list);
  changed_.to = to;
  ChangedBlocks taken = std::move(changed_);
  changed_ = {};
  changed_.system_id = taken.system_id;
  changed_.timeline = taken.timeline;
  changed_.from = changed_.to = to;
  files_.clear();
  lists_.clear();
  numbers_.clear();
  seen_.clear();
  return taken;
}

}  // namespace kuramori::postgres
