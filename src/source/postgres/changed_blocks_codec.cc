// How changed blocks are written: docs/vault-format.md, "Changed blocks". Small, since one lies with every
// segment: a relation whose blocks lie a few hundred apart costs two bytes a block, neighbours nothing.
#include <fmt/core.h>

#include "source/postgres/changed_blocks.h"

namespace kuramori::postgres {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint64_t kWasMinimal = 1;
// The byte a fork begins with.
constexpr uint8_t kForkInit = 1, kHasLimit = 2, kSameDatabase = 4, kForkFlags = 7;
constexpr size_t kForkBytesMin = 3;  // flags, number, count of runs
constexpr size_t kDatabaseBytesMin = 2;

class Writer {
 public:
  explicit Writer(Bytes& to) : to_(to) {}
  void number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) to_.push_back(static_cast<uint8_t>(value | 0x80));
    to_.push_back(static_cast<uint8_t>(value));
  }
  void byte(uint8_t value) { to_.push_back(value); }
  void fixed64(uint64_t value) {
    for (unsigned shift = 0; shift < 64; shift += 8) byte(static_cast<uint8_t>(value >> shift));
  }

 private:
  Bytes& to_;
};

// A read past the end, or of a number out of range, makes `ok` false and everything after it zero.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}
  bool ok = true;
  size_t left() const { return rest_.size(); }
  uint8_t byte() {
    if (!ok || rest_.empty()) {
      ok = false;
      return 0;
    }
    const uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  uint64_t number() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t part = byte();
      if (shift == 63 && part > 1) ok = false;
      value |= uint64_t{part & 0x7fu} << shift;
      if (!(part & 0x80)) return ok ? value : 0;
    }
    ok = false;
    return 0;
  }
  uint32_t u32() {
    const uint64_t value = number();
    if (value > UINT32_MAX) ok = false;
    return ok ? static_cast<uint32_t>(value) : 0;
  }
  // How many items follow, each of at least `item_bytes`.
  uint64_t count(size_t item_bytes, uint64_t most) {
    const uint64_t items = number();
    if (items > rest_.size() / item_bytes || items > most) ok = false;
    return ok ? items : 0;
  }
  template <class T>
  T fixed() {
    if (rest_.size() < sizeof(T)) ok = false;
    if (!ok) return {};
    const T value = load_le<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

 private:
  ByteView rest_;
};

struct Run {
  uint32_t first = 0, count = 0;
};
std::vector<Run> runs_of(const std::vector<uint32_t>& blocks) {
  std::vector<Run> runs;
  for (const uint32_t block : blocks) {
    if (!runs.empty() && runs.back().first + runs.back().count == block) {
      ++runs.back().count;
    } else {
      runs.push_back({block, 1});
    }
  }
  return runs;
}

void write_blocks(Writer& writer, const std::vector<uint32_t>& blocks) {
  const std::vector<Run> runs = runs_of(blocks);
  writer.number(runs.size());
  uint64_t end = 0;  // of the run before
  for (const Run& run : runs) {
    writer.number((run.first - end) << 1 | (run.count > 1));
    if (run.count > 1) writer.number(run.count - 2);
    end = uint64_t{run.first} + run.count;
  }
}

std::vector<uint32_t> read_blocks(Reader& reader, uint32_t& room) {
  std::vector<uint32_t> blocks;
  uint64_t at = 0;
  for (uint64_t left = reader.count(1, kChangedBlocksMax); left > 0 && reader.ok; --left) {
    const uint64_t gap = reader.number();
    const uint64_t more = gap & 1 ? reader.number() : 0;
    const uint64_t count = gap & 1 ? more + 2 : 1;
    if (more > kChangedBlocksMax || count > room || (gap >> 1) > UINT32_MAX ||
        at + (gap >> 1) + count > uint64_t{UINT32_MAX})  // UINT32_MAX is no block
      reader.ok = false;
    if (!reader.ok) break;
    at += gap >> 1;
    room -= static_cast<uint32_t>(count);
    for (uint64_t i = 0; i < count; ++i) blocks.push_back(static_cast<uint32_t>(at++));
  }
  return blocks;
}

}  // namespace

std::optional<Bytes> encode(const ChangedBlocks& changed) {
  uint64_t blocks = 0;
  for (const auto& [file, fork] : changed.forks) blocks += fork.blocks.size();
  if (blocks > kChangedBlocksMax || changed.forks.size() > kChangedForksMax ||
      changed.whole_databases.size() > kChangedForksMax)
    return std::nullopt;
  Bytes bytes;
  Writer writer(bytes);
  writer.byte(kVersion);
  writer.fixed64(changed.system_id);
  writer.number(changed.timeline);
  writer.number(changed.from);
  writer.number(changed.to - changed.from);
  writer.number(changed.was_minimal ? kWasMinimal : 0);
  writer.number(changed.whole_databases.size());
  for (const auto& [tablespace, database] : changed.whole_databases) {
    writer.number(tablespace);
    writer.number(database);
  }
  writer.number(changed.forks.size());
  const RelationFile* before = nullptr;
  for (const auto& [file, fork] : changed.forks) {
    const RelationFile& relation = file.file;
    const bool same =
        before && before->tablespace == relation.tablespace && before->database == relation.database;
    writer.byte(static_cast<uint8_t>((file.fork == Fork::kInit ? kForkInit : 0) |
                                     (fork.limit ? kHasLimit : 0) | (same ? kSameDatabase : 0)));
    if (!same) {
      writer.number(relation.tablespace);
      writer.number(relation.database);
    }
    writer.number(same ? relation.number - before->number : relation.number);
    if (fork.limit) writer.number(*fork.limit);
    write_blocks(writer, fork.blocks);
    before = &relation;
  }
  return bytes;
}

Result<ChangedBlocks> decode_changed_blocks(ByteView bytes) {
  Reader reader(bytes);
  const uint8_t version = reader.byte();
  if (reader.ok && version != kVersion) {
    return fail(ErrorKind::kRefused, fmt::format("the changed blocks have format version {}", version),
                fmt::format("this program knows version {}", kVersion), "use a newer kuramori");
  }
  ChangedBlocks changed;
  changed.system_id = reader.fixed<uint64_t>();
  changed.timeline = reader.u32();
  changed.from = reader.number();
  const uint64_t length = reader.number();
  if (length > kLsnMax - changed.from) reader.ok = false;
  changed.to = changed.from + length;
  const uint64_t flags = reader.number();
  if (flags & ~kWasMinimal) reader.ok = false;
  changed.was_minimal = flags & kWasMinimal;
  for (uint64_t left = reader.count(kDatabaseBytesMin, kChangedForksMax); left > 0 && reader.ok; --left) {
    const uint32_t tablespace = reader.u32();
    changed.whole_databases.emplace(tablespace, reader.u32());
  }
  uint32_t room = kChangedBlocksMax;
  ForkFile file;
  bool is_first = true;
  for (uint64_t left = reader.count(kForkBytesMin, kChangedForksMax); left > 0 && reader.ok; --left) {
    const uint8_t begin = reader.byte();
    if ((begin & ~kForkFlags) || (is_first && (begin & kSameDatabase))) reader.ok = false;
    const ForkFile before = file;
    if (!(begin & kSameDatabase)) {
      file.file.tablespace = reader.u32();
      file.file.database = reader.u32();
      file.file.number = 0;
    }
    const uint64_t number = uint64_t{file.file.number} + reader.u32();
    if (number > UINT32_MAX) reader.ok = false;
    file.file.number = static_cast<uint32_t>(number);
    file.fork = begin & kForkInit ? Fork::kInit : Fork::kMain;
    if (!is_first && !(before < file)) reader.ok = false;  // ascending, each once
    is_first = false;
    ChangedFork fork;
    if (begin & kHasLimit) fork.limit = reader.u32();
    fork.blocks = read_blocks(reader, room);
    if (reader.ok) changed.forks.emplace_hint(changed.forks.end(), file, std::move(fork));
  }
  if (!reader.ok || reader.left() != 0)
    return fail(ErrorKind::kDamaged, "the changed blocks cannot be read", "their bytes do not add up");
  return changed;
}

}  // namespace kuramori::postgres
