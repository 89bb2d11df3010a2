#include "source/redis/rdb.h"

#include <fmt/core.h>

#include <charconv>

#include "base/check.h"
#include "codec/crc64.h"

namespace kuramori::redis {
namespace {

constexpr size_t kAuxBytesMax = 256;  // kept of a name or value
constexpr size_t kAuxMax = 64;        // kept of them
constexpr int kFirstVersionWithChecksum = 5;

// Instructions. All but the brackets read something:
//   S string   L length   8 eight bytes   1 one byte   F sixteen bytes (a stream's id)
//   D a score as text   X when the first field of a hash expires   m a module's parts
//   ( a length, and what follows up to ) as often as it says
//   A V N a string kept as name, one kept as value, both noted
//   E e when the next key expires, in ms and in s   d the database that follows
struct Shape {
  uint8_t code;
  const char* name;
  const char* program;  // of a type: the key stands first
};

constexpr Shape kTypes[] = {
    {0, "string", "SS"},
    {1, "list", "S(S)"},
    {2, "set", "S(S)"},
    {3, "zset", "S(SD)"},
    {4, "hash", "S(SS)"},
    {5, "zset", "S(S8)"},
    {7, "module", "SLm"},
    {9, "hash", "SS"},     // zipmap
    {10, "list", "SS"},    // ziplist
    {11, "set", "SS"},     // intset
    {12, "zset", "SS"},    // ziplist
    {13, "hash", "SS"},    // ziplist
    {14, "list", "S(S)"},  // quicklist of ziplists
    {15, "stream", "S(SS)LLL(SLL(F8L)(S8(F)))"},
    {16, "hash", "SS"},     // listpack
    {17, "zset", "SS"},     // listpack
    {18, "list", "S(LS)"},  // quicklist of listpacks and plain nodes
    {19, "stream", "S(SS)LLLLLLLL(SLLL(F8L)(S8(F)))"},
    {20, "set", "SS"},  // listpack
    {21, "stream", "S(SS)LLLLLLLL(SLLL(F8L)(S88(F)))"},
    {22, "hash", "SY(LSS)"},  // with field expiry, as release candidates wrote it
    {23, "hash", "SYS"},
    {24, "hash", "SX(LSS)"},  // with field expiry
    {25, "hash", "SXS"},
};

constexpr Shape kOpcodes[] = {
    {244, "slot information", "LLL"}, {245, "function library", "S"}, {247, "module data", "LLLm"},
    {248, "idle time", "L"},          {249, "access frequency", "1"}, {250, "auxiliary field", "AVN"},
    {251, "size hint", "LL"},         {252, "expiry", "E"},           {253, "expiry", "e"},
    {254, "database", "d"},
};
constexpr uint8_t kFunctionLibrary = 245;
constexpr uint8_t kModuleData = 247;
constexpr uint8_t kModuleValue = 7;
constexpr uint8_t kEndOfFile = 255;

template <size_t N>
const Shape* shape_of(const Shape (&shapes)[N], uint8_t code) {
  for (const Shape& shape : shapes) {
    if (shape.code == code) return &shape;
  }
  return nullptr;
}

const char* behind_loop(const char* body) {
  int open = 1;
  for (; open > 0; ++body) open += *body == '(' ? 1 : *body == ')' ? -1 : 0;
  return body;
}

uint64_t big_endian(const uint8_t* from, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | from[i];
  return value;
}

}  // namespace

uint64_t RdbSummary::keys() const {
  uint64_t sum = 0;
  for (const auto& [number, counts] : databases) sum += counts.keys;
  return sum;
}

uint64_t RdbSummary::expiring() const {
  uint64_t sum = 0;
  for (const auto& [number, counts] : databases) sum += counts.expiring;
  return sum;
}

std::string_view name_of(RdbSummary::Checksum checksum) {
  switch (checksum) {
    case RdbSummary::Checksum::kVerified:
      return "verified";
    case RdbSummary::Checksum::kOff:
      return "off";
    case RdbSummary::Checksum::kNone:
      return "none";
    case RdbSummary::Checksum::kUnknown:
      return "unknown";
  }
  return "unknown";
}

RdbReader::RdbReader(int64_t now_ms) : now_ms_(now_ms) {}

Result<size_t> RdbReader::push(ByteView bytes) {
  if (state_ == State::kFailed) return fail(ErrorKind::kDamaged, "this RDB was already found to be damaged");
  if (state_ == State::kEnd) return size_t{0};
  rest_ = bytes;
  crc_from_ = state_ == State::kChecksum ? nullptr : bytes.data();
  for (;;) {
    Result<More> more = step();
    if (!more) {
      state_ = State::kFailed;
      return std::move(more).error();
    }
    if (*more == More::kNo || state_ == State::kEnd) break;
  }
  if (crc_from_ != nullptr) crc_ = crc64({crc_from_, static_cast<size_t>(rest_.data() - crc_from_)}, crc_);
  const size_t used = bytes.size() - rest_.size();
  summary_.bytes += used;
  rest_ = {};
  return used;
}

Result<void> RdbReader::finish() const {
  if (state_ == State::kEnd) return {};
  return fail(ErrorKind::kDamaged,
              fmt::format("the RDB ends after {} bytes, before it is whole", summary_.bytes),
              "it was cut short: the connection, the server or the disk gave up", "make another snapshot");
}

Result<RdbReader::More> RdbReader::step() {
  if (skip_ > 0) return take_skipped();
  switch (state_) {
    case State::kMagic:
      return read_magic();
    case State::kOpcode:
      return read_opcode();
    case State::kProgram:
      return run_instruction();
    case State::kChecksum:
      return read_checksum();
    case State::kEnd:
    case State::kFailed:
      break;
  }
  return More::kNo;
}

// --- bytes ---------------------------------------------------------------------------------------------

// `count` bytes in a row, or nothing when they are not all here yet. What is here is set aside then; the next
// piece adds to it. Always followed by consume() of as many, or by a peek() of more.
const uint8_t* RdbReader::peek(size_t count) {
  CHECK(count <= carry_.size());
  if (carried_ == 0 && rest_.size() >= count) return rest_.data();
  while (carried_ < count && !rest_.empty()) {
    carry_[carried_++] = rest_.front();
    rest_ = rest_.subspan(1);
  }
  return carried_ >= count ? carry_.data() : nullptr;
}

void RdbReader::consume(size_t count) {
  if (carried_ == 0) {
    rest_ = rest_.subspan(count);
  } else {
    CHECK(carried_ == count);
    carried_ = 0;
  }
}

void RdbReader::skip(uint64_t bytes, std::string* into) {
  skip_ = bytes;
  kept_ = into;
}

RdbReader::More RdbReader::take_skipped() {
  const size_t here = static_cast<size_t>(std::min<uint64_t>(skip_, rest_.size()));
  if (kept_ != nullptr) {
    const size_t room = kAuxBytesMax - std::min(kAuxBytesMax, kept_->size());
    kept_->append(as_text(rest_.first(std::min(room, here))));
  }
  rest_ = rest_.subspan(here);
  skip_ -= here;
  return skip_ == 0 ? More::kYes : More::kNo;
}

// --- the file ------------------------------------------------------------------------------------------

Result<RdbReader::More> RdbReader::read_magic() {
  const uint8_t* magic = peek(9);
  if (magic == nullptr) return More::kNo;
  const std::string_view text(reinterpret_cast<const char*>(magic), 9);
  const bool valkey = text.starts_with("VALKEY");
  if (!valkey && !text.starts_with("REDIS")) return damaged("it does not begin with the word REDIS");
  const std::string_view digits = text.substr(valkey ? 6 : 5);
  int version = -1;
  auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (failed != std::errc() || end != digits.data() + digits.size() || version < 1)
    return damaged("its version is no number");
  summary_.version = version;
  if (valkey || version > kNewestRdbVersion) {
    return refused(fmt::format("RDB version {}{} is not known", version, valkey ? " of Valkey" : ""),
                   fmt::format("1 to {} are: what Redis and Valkey up to 8 write", kNewestRdbVersion));
  }
  consume(9);
  TRY(select(0));
  state_ = State::kOpcode;
  return More::kYes;
}

Result<RdbReader::More> RdbReader::read_opcode() {
  const uint8_t* byte = peek(1);
  if (byte == nullptr) return More::kNo;
  const uint8_t code = *byte;
  consume(1);
  if (code == kEndOfFile) {
    crc_ = crc64({crc_from_, static_cast<size_t>(rest_.data() - crc_from_)}, crc_);
    crc_from_ = nullptr;
    const bool has_checksum = summary_.version >= kFirstVersionWithChecksum;
    if (!has_checksum) summary_.checksum = RdbSummary::Checksum::kNone;
    state_ = has_checksum ? State::kChecksum : State::kEnd;
  } else if (const Shape* opcode = shape_of(kOpcodes, code)) {
    if (code == kFunctionLibrary) ++summary_.functions;
    if (code == kModuleData) ++summary_.module_data;
    begin(opcode->program);
  } else {
    TRY(begin_value(code));
  }
  return More::kYes;
}

Result<void> RdbReader::begin_value(uint8_t type) {
  const Shape* shape = shape_of(kTypes, type);
  if (shape == nullptr) {
    return refused(fmt::format("value type {} is not known", type),
                   "it belongs to a newer server, a fork or a release candidate, or the file is damaged");
  }
  if (type == kModuleValue) ++summary_.module_data;
  ++counts_->keys;
  ++summary_.types[shape->name];
  if (expires_ms_ >= 0) {
    ++counts_->expiring;
    if (expires_ms_ < now_ms_) ++counts_->expired;
  }
  expires_ms_ = -1;
  begin(shape->program);
  return {};
}

Result<void> RdbReader::select(uint64_t database) {
  counts_ = nullptr;
  auto known = summary_.databases.find(database);
  if (known == summary_.databases.end()) {
    if (summary_.databases.size() >= kRdbDatabasesMax)
      return refused("it has too many databases", fmt::format("{} are counted apart", kRdbDatabasesMax));
    known = summary_.databases.emplace(database, DatabaseCounts{}).first;
  }
  counts_ = &known->second;
  return {};
}

Result<RdbReader::More> RdbReader::read_checksum() {
  const uint8_t* stored = peek(8);
  if (stored == nullptr) return More::kNo;
  const uint64_t crc = load_le<uint64_t>(stored);
  consume(8);
  if (crc != 0 && crc != crc_) {
    return damaged(fmt::format("its checksum is {:016x}, that of its bytes {:016x}", crc, crc_));
  }
  summary_.checksum = crc == 0 ? RdbSummary::Checksum::kOff : RdbSummary::Checksum::kVerified;
  state_ = State::kEnd;
  return More::kYes;
}

// --- values --------------------------------------------------------------------------------------------

void RdbReader::begin(const char* program) {
  at_ = program;
  depth_ = 0;
  state_ = State::kProgram;
}

Result<RdbReader::More> RdbReader::run_instruction() {
  uint64_t number = 0;
  const uint8_t* bytes = nullptr;
  const auto fixed = [&](size_t count) {
    bytes = peek(count);
    if (bytes == nullptr) return false;
    number = count == 1 ? *bytes : count == 4 ? load_le<uint32_t>(bytes) : load_le<uint64_t>(bytes);
    consume(count);
    return true;
  };
  switch (*at_) {
    case '\0':
      state_ = State::kOpcode;
      return More::kYes;
    case '(':
      return begin_loop();
    case ')':
      end_loop();
      return More::kYes;
    case 'S':
    case 'A':
    case 'V': {
      std::string* into = *at_ == 'A' ? &aux_name_ : *at_ == 'V' ? &aux_value_ : nullptr;
      return read_string(into);
    }
    case 'L': {
      TRY_ASSIGN(const More more, read_length(number));
      if (more == More::kNo) return More::kNo;
      break;
    }
    case 'd': {
      TRY_ASSIGN(const More more, read_length(number));
      if (more == More::kNo) return More::kNo;
      TRY(select(number));
      break;
    }
    case 'm':
      return skip_module_part();
    case '1':
      if (!fixed(1)) return More::kNo;
      break;
    case '8':
      if (!fixed(8)) return More::kNo;
      break;
    case 'F':
      skip(16);
      break;
    case 'D':  // 253, 254 and 255 are not-a-number and the infinities
      if (!fixed(1)) return More::kNo;
      if (number < 253) skip(number);
      break;
    case 'X':
      if (!fixed(8)) return More::kNo;
      if (static_cast<int64_t>(number) < now_ms_) ++counts_->perhaps_expired;
      break;
    case 'Y':  // it stands in the fields, which are not looked at
      if (now_ms_ > 0) ++counts_->perhaps_expired;
      break;
    case 'E':
      if (!fixed(8)) return More::kNo;
      expires_ms_ = std::max<int64_t>(0, static_cast<int64_t>(number));
      break;
    case 'e':
      if (!fixed(4)) return More::kNo;
      expires_ms_ = static_cast<int64_t>(number) * 1000;
      break;
    case 'N':
      if (summary_.aux.size() < kAuxMax) summary_.aux[aux_name_] = aux_value_;
      aux_name_.clear();
      aux_value_.clear();
      break;
    default:
      CHECK(!"an instruction of a shape");
  }
  ++at_;
  return More::kYes;
}

Result<RdbReader::More> RdbReader::begin_loop() {
  uint64_t count = 0;
  TRY_ASSIGN(const More more, read_length(count));
  if (more == More::kNo) return More::kNo;
  if (count == 0) {
    at_ = behind_loop(at_ + 1);
    return More::kYes;
  }
  CHECK(depth_ < loops_.size());
  loops_[depth_++] = {at_ + 1, count - 1};
  ++at_;
  return More::kYes;
}

void RdbReader::end_loop() {
  Loop& loop = loops_[depth_ - 1];
  if (loop.left > 0) {
    --loop.left;
    at_ = loop.body;
  } else {
    --depth_;
    ++at_;
  }
}

Result<RdbReader::More> RdbReader::read_length(uint64_t& value) {
  bool encoded = false;
  TRY_ASSIGN(const More more, read_length_or_encoding(value, encoded));
  if (more == More::kYes && encoded) return damaged("a length has the form of a string's encoding");
  return more;
}

// The two highest bits of the first byte say: 6 bits of it, 14 bits, 4 or 8 bytes that follow, or no length
// but how a string is written.
Result<RdbReader::More> RdbReader::read_length_or_encoding(uint64_t& value, bool& encoded) {
  const uint8_t* bytes = peek(1);
  if (bytes == nullptr) return More::kNo;
  const uint8_t first = *bytes;
  const unsigned form = first >> 6;
  if (form == 2 && first != 0x80 && first != 0x81) return damaged("a length has a form that nobody writes");
  const size_t size = form == 1 ? 2 : first == 0x80 ? 5 : first == 0x81 ? 9 : 1;
  bytes = peek(size);
  if (bytes == nullptr) return More::kNo;
  encoded = form == 3;
  value = form == 2   ? big_endian(bytes + 1, size - 1)
          : form == 1 ? big_endian(bytes, 2) & 0x3fff
                      : first & 0x3f;
  consume(size);
  return More::kYes;
}

Result<RdbReader::More> RdbReader::read_string(std::string* into) {
  uint64_t length = 0;
  if (packed_ > 0) {
    TRY_ASSIGN(const More more, read_length(length));
    if (more == More::kNo) return More::kNo;
    if (packed_ == 1) {
      packed_bytes_ = length;
      packed_ = 2;
      return More::kYes;
    }
    packed_ = 0;
    skip(packed_bytes_);
    ++at_;
    return More::kYes;
  }
  // A number's bytes are asked for together with its first byte, so that they are read in one step.
  const uint8_t* first = peek(1);
  if (first == nullptr) return More::kNo;
  if (const uint8_t code = *first; code >= 0xc0 && code <= 0xc2) {
    const size_t width = size_t{1} << (code - 0xc0);
    const uint8_t* number = peek(1 + width);
    if (number == nullptr) return More::kNo;
    if (into != nullptr) {
      *into = std::to_string(width == 1   ? static_cast<int8_t>(number[1])
                             : width == 2 ? load_le<int16_t>(number + 1)
                                          : load_le<int32_t>(number + 1));
    }
    consume(1 + width);
    ++at_;
    return More::kYes;
  }
  bool encoded = false;
  TRY_ASSIGN(const More more, read_length_or_encoding(length, encoded));
  if (more == More::kNo) return More::kNo;
  if (encoded) {
    if (length != 3)
      return damaged(fmt::format("a string is encoded in a way ({}) that nobody writes", length));
    packed_ = 1;
    return More::kYes;
  }
  skip(length, into);
  ++at_;
  return More::kYes;
}

// A module says of each part what it is, so that it can be passed over without the module.
Result<RdbReader::More> RdbReader::skip_module_part() {
  uint64_t part = 0;
  if (module_part_ == 'S') {
    const char* here = at_;
    TRY_ASSIGN(const More more, read_string(nullptr));
    if (at_ != here) module_part_ = 0;  // the string is behind us; the parts go on
    at_ = here;
    return more;
  }
  TRY_ASSIGN(const More more, read_length(part));
  if (more == More::kNo) return More::kNo;
  if (module_part_ == 'L') {
    module_part_ = 0;
    return More::kYes;
  }
  switch (part) {
    case 0:
      ++at_;
      break;
    case 1:
    case 2:
      module_part_ = 'L';
      break;
    case 3:
      skip(4);
      break;
    case 4:
      skip(8);
      break;
    case 5:
      module_part_ = 'S';
      break;
    default:
      return damaged(fmt::format("a module's value has a part of kind {}", part));
  }
  return More::kYes;
}

Error RdbReader::damaged(std::string why) const {
  return fail(ErrorKind::kDamaged,
              fmt::format("the RDB is damaged, after {} bytes or soon behind them", summary_.bytes),
              std::move(why), "make another snapshot; check the server's memory and disk");
}

Error RdbReader::refused(const std::string& what, std::string why) const {
  return fail(ErrorKind::kRefused, "the RDB cannot be checked: " + what, std::move(why), "update kuramori");
}

}  // namespace kuramori::redis
