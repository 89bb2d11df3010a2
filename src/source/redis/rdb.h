// Reads an RDB, the file Redis and Valkey keep a data set in, front to back as its bytes come: says whether
// it is whole, and counts.
//
// Problem: a snapshot may be larger than any memory, and the one moment its bytes pass by is the moment to
// judge them. Approach: a file is a row of keys, each a type byte and a value whose shape the type names. A
// shape is a small program ("a length, then so many pairs of strings"), run by a machine that keeps its place
// between two pieces of input: some words of state, whatever the size. Strings are skipped, never kept or
// unpacked; what the bytes are is the checksum's to say, at the end.
//
// What it does not do: look into packed values (listpacks, LZF). A flipped bit there is the checksum's alone,
// so an RDB without one (rdbchecksum no) is checked in its structure only, and says so. Format: the servers'
// own behaviour, versions 1 to 12 (Redis up to 8, Valkey up to 8).
#pragma once
#include <array>
#include <map>
#include <string>

#include "base/bytes.h"

namespace kuramori::redis {

constexpr int kNewestRdbVersion = 12;
constexpr size_t kRdbDatabasesMax = 1 << 16;  // counted apart; more is refused

struct DatabaseCounts {
  uint64_t keys = 0;
  uint64_t expiring = 0;  // with a time to live
  uint64_t expired = 0;   // whose time lies before RdbReader's `now`: a server drops them when it loads
  uint64_t perhaps_expired = 0;  // hashes of which at least one field had expired by then: perhaps all
  bool operator==(const DatabaseCounts&) const = default;
};

struct RdbSummary {
  int version = 0;
  uint64_t bytes = 0;  // of the RDB alone
  std::map<uint64_t, DatabaseCounts> databases;
  std::map<std::string, uint64_t> types;  // "string", "list", "set", "zset", "hash", "stream", "module"
  uint64_t functions = 0;                 // libraries
  uint64_t module_data = 0;  // values and other data of modules: only a server that has them loads those
  // kOff: the server was told to write none. kNone: so old that there is none.
  enum class Checksum : uint8_t { kUnknown, kVerified, kOff, kNone } checksum = Checksum::kUnknown;
  std::map<std::string, std::string>
      aux;  // what the server said of itself: "redis-ver", "ctime", "repl-id" …

  uint64_t keys() const;
  uint64_t expiring() const;
};
std::string_view name_of(RdbSummary::Checksum checksum);  // "verified", "off", "none"

// One thread. Memory: under 16 KiB, and what kRdbDatabasesMax allows for counts.
class RdbReader {
 public:
  // `now_ms` since 1970: what counts as expired.
  explicit RdbReader(int64_t now_ms = 0);
  RdbReader(const RdbReader&) = delete;  // it points into itself
  RdbReader& operator=(const RdbReader&) = delete;

  // Takes the next bytes; returns how many of them belong to the RDB: fewer than given only when its end was
  // reached. kDamaged: these are not the bytes of an RDB. kRefused: a version or a type nobody here knows.
  // After an error it takes nothing more.
  Result<size_t> push(ByteView bytes);
  bool at_end() const { return state_ == State::kEnd; }
  // kDamaged when the end is still to come.
  Result<void> finish() const;
  // Whole once at_end(); before that, what was met so far.
  const RdbSummary& summary() const { return summary_; }

 private:
  enum class State : uint8_t { kMagic, kOpcode, kProgram, kChecksum, kEnd, kFailed };
  enum class More : uint8_t { kNo, kYes };  // kNo: it needs bytes that are not here yet
  struct Loop {
    const char* body = nullptr;
    uint64_t left = 0;
  };

  Result<More> step();
  Result<More> read_magic();
  Result<More> read_opcode();
  Result<More> run_instruction();
  Result<More> read_checksum();
  Result<More> read_string(std::string* into);
  Result<More> read_length(uint64_t& value);
  Result<More> read_length_or_encoding(uint64_t& value, bool& encoded);
  Result<More> skip_module_part();
  Result<More> begin_loop();
  void end_loop();
  Result<void> begin_value(uint8_t type);
  Result<void> select(uint64_t database);
  void begin(const char* program);
  void skip(uint64_t bytes, std::string* into = nullptr);
  More take_skipped();
  const uint8_t* peek(size_t count);
  void consume(size_t count);
  Error damaged(std::string why) const;
  Error refused(const std::string& what, std::string why) const;

  State state_ = State::kMagic;
  ByteView rest_;                    // of the piece at hand
  std::array<uint8_t, 16> carry_{};  // a field that began in the piece before
  size_t carried_ = 0;
  uint64_t skip_ = 0;            // bytes that are of no interest
  std::string* kept_ = nullptr;  // … or are, up to a length
  const char* at_ = nullptr;     // the next instruction
  std::array<Loop, 4> loops_{};
  size_t depth_ = 0;
  uint8_t packed_ = 0;  // inside a compressed string: 1 its packed length is due, 2 its plain one
  uint64_t packed_bytes_ = 0;
  char module_part_ = 0;  // inside a module's value: what comes before the next part

  const int64_t now_ms_;
  int64_t expires_ms_ = -1;  // of the key to come; -1: never
  DatabaseCounts* counts_ = nullptr;
  std::string aux_name_, aux_value_;
  uint64_t crc_ = 0;
  const uint8_t* crc_from_ = nullptr;  // from here on in the piece at hand the CRC is still to be taken
  RdbSummary summary_;
};

}  // namespace kuramori::redis
