#include "source/postgres/lsn.h"

#include <bit>
#include <charconv>
#include <optional>

#include "base/check.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kWordChars = 8;            // one 32-bit number in a file name
constexpr uint64_t kLogBytes = 1ull << 32;  // what the middle number of a segment name counts

// PostgreSQL writes capitals and takes nothing else in a file name.
std::optional<uint32_t> parse_word(std::string_view text) {
  if (text.size() < kWordChars) return std::nullopt;
  uint32_t value = 0;
  for (char c : text.substr(0, kWordChars)) {
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<uint32_t>(c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value << 4 | static_cast<uint32_t>(c - 'A' + 10);
    } else {
      return std::nullopt;
    }
  }
  return value;
}

std::optional<uint32_t> parse_half(std::string_view text) {
  uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size() || text.size() > kWordChars)
    return std::nullopt;
  return value;
}

}  // namespace

std::string format_lsn(Lsn lsn) {
  return fmt::format("{:X}/{:X}", lsn >> 32, lsn & UINT32_MAX);
}

Result<Lsn> parse_lsn(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    const auto high = parse_half(text.substr(0, slash));
    const auto low = parse_half(text.substr(slash + 1));
    if (high && low) return Lsn{*high} << 32 | *low;
  }
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no position in the WAL", text.substr(0, 40)),
              "it is two hexadecimal numbers with a slash between, as in 16/B374D848");
}

bool is_segment_size(uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= kSegmentBytesMin && bytes <= kSegmentBytesMax;
}

std::string segment_name(Timeline timeline, Lsn lsn, uint32_t segment_bytes) {
  CHECK(is_segment_size(segment_bytes));
  return fmt::format("{:08X}{:08X}{:08X}", timeline, lsn / kLogBytes, lsn % kLogBytes / segment_bytes);
}

std::string history_name(Timeline timeline) {
  return fmt::format("{:08X}.history", timeline);
}

Result<WalFileName> parse_wal_file_name(std::string_view name, uint32_t segment_bytes) {
  CHECK(is_segment_size(segment_bytes));
  auto bad = [&](std::string why) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no WAL file name", name.substr(0, 80)),
                std::move(why));
  };
  const auto timeline = parse_word(name);
  if (!timeline) return bad("it does not begin with a timeline, eight capital hexadecimal digits");
  if (*timeline == 0) return bad("there is no timeline 0");
  const std::string_view rest = name.substr(kWordChars);
  if (rest == ".history") return WalFileName{.kind = WalFileKind::kHistory, .timeline = *timeline};

  const auto log = parse_word(rest);
  const auto segment = log ? parse_word(rest.substr(kWordChars)) : std::nullopt;
  if (!segment) return bad("a segment's name is 24 capital hexadecimal digits");
  if (*segment >= kLogBytes / segment_bytes) {
    return bad(fmt::format("with WAL segments of {} MiB its last part is below {:X}", segment_bytes >> 20,
                           kLogBytes / segment_bytes));
  }
  WalFileName parsed{.timeline = *timeline, .start = *log * kLogBytes + uint64_t{*segment} * segment_bytes};
  const std::string_view suffix = name.substr(kSegmentNameChars);
  if (suffix.empty()) return parsed;
  if (suffix == ".partial") {
    parsed.kind = WalFileKind::kPartial;
    return parsed;
  }
  if (suffix.size() == 1 + kWordChars + 7 && suffix[0] == '.' && suffix.ends_with(".backup")) {
    const auto offset = parse_word(suffix.substr(1));
    if (offset && *offset < segment_bytes) {
      parsed.kind = WalFileKind::kBackup;
      parsed.start += *offset;
      return parsed;
    }
  }
  return bad("behind the segment only \".partial\" or \".XXXXXXXX.backup\" may follow");
}

Result<SegmentName> parse_segment_name(std::string_view name, uint32_t segment_bytes) {
  TRY_ASSIGN(const WalFileName parsed, parse_wal_file_name(name, segment_bytes));
  if (parsed.kind != WalFileKind::kSegment) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no WAL segment", name));
  }
  return SegmentName{parsed.timeline, parsed.start};
}

}  // namespace kuramori::postgres
