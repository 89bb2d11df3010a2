#include "source/postgres/wal_reader.h"

#include "base/check.h"
#include "codec/crc32c.h"

namespace kuramori::postgres {
namespace {

struct Magic {
  uint16_t magic;
  int major;
};
constexpr Magic kMagics[] = {{0xd106, 13}, {0xd10d, 14}, {0xd110, 15},
                             {0xd113, 16}, {0xd116, 17}, {0xd118, 18}};

// Page header: magic u16, info u16, timeline u32, address u64, bytes left of a record u32, 4 unused; the
// first page of a segment goes on with system id u64, segment size u32, page size u32.
constexpr uint32_t kShortHeaderBytes = 24, kLongHeaderBytes = 40;
constexpr uint16_t kPageContinues = 0x1, kPageLong = 0x2, kPageOverwrites = 0x8, kPageFlags = 0xf;

// Record header: length u32, xid u32, previous u64, info u8, rmgr u8, 2 unused, CRC u32.
constexpr uint32_t kRecordHeaderBytes = 24, kCrcAt = 20;
constexpr uint8_t kXlogSwitch = 0x40;

// What may stand in front of a record's data.
constexpr uint8_t kShortMainData = 255, kLongMainData = 254, kOrigin = 253, kTopXid = 252;
constexpr uint8_t kForkMask = 0x0f, kHasImage = 0x10, kHasData = 0x20, kWillInit = 0x40, kSameRelation = 0x80;
constexpr uint8_t kImageHasHole = 0x01;
constexpr uint8_t kImageCompressed13 = 0x02;  // 13 and 14
constexpr uint8_t kImageCompressed15 = 0x1c;  // pglz, lz4, zstd

Lsn page_of(Lsn lsn) {
  return lsn - lsn % kWalPageBytes;
}
Lsn up8(Lsn lsn) {
  return (lsn + 7) & ~Lsn{7};
}
int major_of_magic(uint16_t magic) {
  for (const auto& known : kMagics) {
    if (known.magic == magic) return known.major;
  }
  return 0;
}

// Reads what is known to fit or says that it does not.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) : rest_(bytes) {}
  size_t left() const { return rest_.size(); }
  bool failed() const { return failed_; }
  template <class T>
  T get() {
    T value{};
    if (const ByteView raw = take(sizeof(T)); !failed_) value = load_le<T>(raw.data());
    return value;
  }
  ByteView take(size_t count) {
    if (failed_ || rest_.size() < count) {
      failed_ = true;
      return {};
    }
    const ByteView taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

 private:
  ByteView rest_;
  bool failed_ = false;
};

}  // namespace

std::string_view name_of(WalStopReason reason) {
  switch (reason) {
    case WalStopReason::kZeros:
      return "nothing was written here";
    case WalStopReason::kRecycledPage:
      return "the page is left over from an older segment";
    case WalStopReason::kWrongPrevious:
      return "the record does not follow the one before it";
    case WalStopReason::kBadLength:
      return "no record has this length";
    case WalStopReason::kBadCrc:
      return "the record's checksum is wrong";
    case WalStopReason::kNoContinuation:
      return "the rest of the record is missing";
    case WalStopReason::kBadPage:
      return "the page header is damaged";
    case WalStopReason::kBadRecord:
      return "the record's parts do not add up";
    case WalStopReason::kOtherTimeline:
      return "the page is of another timeline";
  }
  return "unknown";
}

WalReader::WalReader(const WalReaderOptions& options) : options_(options), cursor_(options.from) {
  CHECK(is_segment_size(options.segment_bytes));
}

Lsn WalReader::next_position() const {
  return page_of(cursor_);
}

Result<void> WalReader::add(Lsn position, ByteView pages) {
  const Lsn wanted = chunk_.empty() ? next_position() : std::max(chunk_lsn_ + chunk_.size(), next_position());
  if (position % kWalPageBytes != 0 || pages.size() % kWalPageBytes != 0 || position > wanted) {
    return fail(ErrorKind::kFailed, fmt::format("WAL at {} was expected, not {} bytes at {}",
                                                format_lsn(wanted), pages.size(), format_lsn(position)));
  }
  CHECK(chunk_.empty() || cursor_ >= chunk_lsn_ + chunk_.size());  // the last chunk has been used up
  chunk_ = pages;
  chunk_lsn_ = position;
  return {};
}

WalReader::Step WalReader::end(Lsn lsn, WalStopReason reason, std::string why) {
  state_ = State::kEnded;
  stop_ = {lsn, reason};
  if (lsn >= options_.valid_until) return std::optional(Next::kEnd);
  if (why.empty()) why = name_of(reason);
  return fail(ErrorKind::kDamaged, fmt::format("the WAL is damaged at {}", format_lsn(lsn)),
              fmt::format("{}, although it is promised up to {}", why, format_lsn(options_.valid_until)));
}

Result<WalReader::Next> WalReader::next() {
  for (;;) {
    if (state_ == State::kEnded) return Next::kEnd;
    if (next_position() < chunk_lsn_ || next_position() >= chunk_lsn_ + chunk_.size()) return Next::kNeedMore;
    Step step = !has_begun_                    ? begin()
                : cursor_ % kWalPageBytes == 0 ? enter_page()
                : state_ == State::kAtRecord   ? start_record()
                                               : continue_record();
    if (!step) {
      state_ = State::kEnded;
      return std::move(step).error();
    }
    if (*step) return **step;
  }
}

// The page that `from` lies on is checked like every other, also when reading begins in its middle.
WalReader::Step WalReader::begin() {
  const Lsn from = cursor_;
  cursor_ = page_of(from);
  Step step = enter_page();
  has_begun_ = true;
  if (!step || *step || from % kWalPageBytes == 0) return step;
  if (from > cursor_) {
    cursor_ = up8(from);
    skip_left_ = 0;
    state_ = State::kAtRecord;
  }
  return step;
}

WalReader::Step WalReader::enter_page() {
  const uint8_t* page = at(cursor_);
  const auto magic = load_le<uint16_t>(page), info = load_le<uint16_t>(page + 2);
  const auto timeline = load_le<uint32_t>(page + 4), rest = load_le<uint32_t>(page + 16);
  const auto address = load_le<uint64_t>(page + 8);
  const Lsn stop_lsn = position();
  const bool is_long = cursor_ % options_.segment_bytes == 0;
  if (magic == 0 && info == 0 && address == 0) return end(stop_lsn, WalStopReason::kZeros);
  const int major = major_of_magic(magic);
  if (major == 0 || (info & ~kPageFlags) != 0) {
    return end(
        stop_lsn, WalStopReason::kBadPage,
        fmt::format("the page at {} has magic {:04X}, info {:04X}, which PostgreSQL 13 to 18 do not write",
                    format_lsn(cursor_), magic, info));
  }
  if (address != cursor_) return end(stop_lsn, WalStopReason::kRecycledPage);
  if (is_long != ((info & kPageLong) != 0) || (magic_ != 0 && magic != magic_)) {
    return end(stop_lsn, WalStopReason::kBadPage);
  }
  if (is_long) {
    const auto system_id = load_le<uint64_t>(page + 24);
    const auto segment_bytes = load_le<uint32_t>(page + 32), page_bytes = load_le<uint32_t>(page + 36);
    if (options_.system_id != 0 && system_id != options_.system_id) {
      return fail(ErrorKind::kRefused,
                  fmt::format("the WAL at {} is of another cluster", format_lsn(cursor_)),
                  fmt::format("its system id is {}, not {}", system_id, options_.system_id));
    }
    if (segment_bytes != options_.segment_bytes || page_bytes != kWalPageBytes) {
      return fail(ErrorKind::kRefused,
                  fmt::format("the WAL at {} has segments of {} and pages of {} bytes", format_lsn(cursor_),
                              segment_bytes, page_bytes),
                  fmt::format("expected are {} and {}", options_.segment_bytes, kWalPageBytes));
    }
  }
  if (timeline == 0 || (options_.timeline != 0 && timeline > options_.timeline)) {
    return end(stop_lsn, WalStopReason::kOtherTimeline);
  }
  if (timeline < page_timeline_) return end(stop_lsn, WalStopReason::kRecycledPage);

  const bool continues = (info & kPageContinues) != 0;
  // After a crash in the middle of a record the server gives the record up and starts anew on this page.
  const bool overwrites = (info & kPageOverwrites) != 0;
  switch (state_) {
    case State::kSkipRest:
      skip_left_ = continues ? rest : 0;
      break;
    case State::kAtRecord:
      if (continues) return end(stop_lsn, WalStopReason::kBadPage);
      break;
    case State::kInRecord:
      if (overwrites) {
        state_ = State::kAtRecord;
      } else if (!continues || rest != record_bytes_ - assembled_.size()) {
        return end(stop_lsn, WalStopReason::kNoContinuation);
      }
      break;
    case State::kEnded:
      break;
  }
  magic_ = magic;
  major_ = major;
  page_timeline_ = timeline;
  cursor_ += is_long ? kLongHeaderBytes : kShortHeaderBytes;
  return std::optional<Next>();
}

std::optional<WalStopReason> WalReader::check_header(const uint8_t* header, size_t available) const {
  if (available < kRecordHeaderBytes) return std::nullopt;
  const Lsn previous = load_le<uint64_t>(header + 8);
  if (previous_lsn_ != 0 ? previous != previous_lsn_ : previous >= record_lsn_)
    return WalStopReason::kWrongPrevious;
  return std::nullopt;
}

WalReader::Step WalReader::start_record() {
  const Lsn page_end = page_of(cursor_) + kWalPageBytes;
  record_lsn_ = cursor_;
  record_bytes_ =
      load_le<uint32_t>(at(cursor_));  // records begin at multiples of 8: the length is never split
  record_timeline_ = page_timeline_;
  if (record_bytes_ == 0) return end(record_lsn_, WalStopReason::kZeros);
  if (record_bytes_ < kRecordHeaderBytes || record_bytes_ > kWalRecordBytesMax) {
    return end(record_lsn_, WalStopReason::kBadLength);
  }
  const ByteView here(at(cursor_), std::min<uint64_t>(record_bytes_, page_end - cursor_));
  if (auto reason = check_header(here.data(), here.size())) return end(record_lsn_, *reason);
  cursor_ += here.size();
  if (here.size() == record_bytes_) return deliver(here);
  assembled_.assign(here.begin(), here.end());
  state_ = State::kInRecord;
  return std::optional<Next>();
}

WalReader::Step WalReader::continue_record() {
  const Lsn page_end = page_of(cursor_) + kWalPageBytes;
  if (state_ == State::kSkipRest) {
    const uint64_t skipped = std::min<uint64_t>(skip_left_, page_end - cursor_);
    cursor_ += skipped;
    skip_left_ -= static_cast<uint32_t>(skipped);
    if (skip_left_ == 0) {
      cursor_ = up8(cursor_);
      state_ = State::kAtRecord;
    }
    return std::optional<Next>();
  }
  const uint64_t more = std::min<uint64_t>(record_bytes_ - assembled_.size(), page_end - cursor_);
  append(assembled_, ByteView(at(cursor_), more));
  cursor_ += more;
  if (auto reason = check_header(assembled_.data(), assembled_.size())) return end(record_lsn_, *reason);
  return assembled_.size() == record_bytes_ ? deliver(assembled_) : Step(std::optional<Next>());
}

WalReader::Step WalReader::deliver(ByteView record) {
  const uint32_t crc = crc32c(record.first(kCrcAt), crc32c(record.subspan(kRecordHeaderBytes)));
  if (crc != load_le<uint32_t>(record.data() + kCrcAt)) return end(record_lsn_, WalStopReason::kBadCrc);
  if (!parse(record)) return end(record_lsn_, WalStopReason::kBadRecord);
  cursor_ = up8(cursor_);
  if (record_.rmgr == kRmXlog && (record_.info & 0xf0) == kXlogSwitch) {
    const Lsn over = cursor_ % options_.segment_bytes;
    if (over != 0) cursor_ += options_.segment_bytes - over;
  }
  record_.end = cursor_;
  previous_lsn_ = record_lsn_;
  state_ = State::kAtRecord;
  return std::optional(Next::kRecord);
}

// The headers end where the bytes left are exactly those the headers promised: a record of page images alone
// has no mark of main data, and reading on would take image bytes for block references.
bool WalReader::parse(ByteView record) {
  record_ = {.lsn = record_lsn_,
             .prev = load_le<uint64_t>(record.data() + 8),
             .total_bytes = record_bytes_,
             .xid = load_le<uint32_t>(record.data() + 4),
             .rmgr = record[17],
             .info = record[16],
             .timeline = record_timeline_,
             .major = major_};
  struct Sizes {
    uint16_t image = 0, data = 0;
  };
  std::array<Sizes, kBlockRefsMax> sizes;
  Cursor cursor(record.subspan(kRecordHeaderBytes));
  size_t count = 0, promised = 0;
  uint32_t main_bytes = 0;
  bool has_main = false;
  RelationFile relation;
  bool has_relation = false;
  while (!has_main && cursor.left() > promised) {
    const auto id = cursor.get<uint8_t>();
    if (id == kShortMainData || id == kLongMainData) {
      main_bytes = id == kShortMainData ? cursor.get<uint8_t>() : cursor.get<uint32_t>();
      promised += main_bytes;
      has_main = true;
    } else if (id == kOrigin) {
      cursor.get<uint16_t>();
    } else if (id == kTopXid) {
      cursor.get<uint32_t>();
    } else if (id < kBlockRefsMax && count < kBlockRefsMax) {
      const auto flags = cursor.get<uint8_t>();
      sizes[count] = {.data = cursor.get<uint16_t>()};
      if (((flags & kHasData) != 0) != (sizes[count].data != 0) || (flags & kForkMask) > 3) return false;
      if (flags & kHasImage) {
        sizes[count].image = cursor.get<uint16_t>();
        cursor.get<uint16_t>();  // where the hole begins
        const auto image_info = cursor.get<uint8_t>();
        const uint8_t compressed = major_ <= 14 ? kImageCompressed13 : kImageCompressed15;
        if ((image_info & compressed) && (image_info & kImageHasHole)) cursor.get<uint16_t>();
      }
      if (!(flags & kSameRelation)) {
        relation.tablespace = cursor.get<uint32_t>();
        relation.database = cursor.get<uint32_t>();
        relation.number = cursor.get<uint32_t>();
        has_relation = true;
      } else if (!has_relation) {
        return false;
      }
      blocks_[count] = {.file = relation,
                        .fork = static_cast<Fork>(flags & kForkMask),
                        .block = cursor.get<uint32_t>(),
                        .has_image = (flags & kHasImage) != 0,
                        .will_init = (flags & kWillInit) != 0};
      promised += sizes[count].image + sizes[count].data;
      ++count;
    } else {
      return false;
    }
    if (cursor.failed()) return false;
  }
  if (cursor.left() != promised) return false;
  for (size_t i = 0; i < count; ++i) {
    cursor.take(sizes[i].image);
    blocks_[i].data = cursor.take(sizes[i].data);
  }
  record_.main_data = cursor.take(main_bytes);
  record_.blocks = std::span(blocks_).first(count);
  return !cursor.failed();
}

Result<WalScan> scan_wal(const WalReaderOptions& options, const SegmentBytes& segment, const SeeRecord& see) {
  WalReader reader(options);
  for (;;) {
    TRY_ASSIGN(const auto next, reader.next());
    switch (next) {
      case WalReader::Next::kRecord:
        if (!see(reader.record())) return WalScan{.to = reader.record().end};
        break;
      case WalReader::Next::kEnd:
        return WalScan{.to = reader.stop().lsn, .stop = reader.stop()};
      case WalReader::Next::kNeedMore: {
        const uint64_t number = segment_number(reader.next_position(), options.segment_bytes);
        TRY_ASSIGN(const auto bytes, segment(number));
        if (!bytes || bytes->empty()) {
          if (reader.position() < options.valid_until) {
            return fail(ErrorKind::kDamaged,
                        fmt::format("the WAL ends at {}", format_lsn(reader.next_position())),
                        fmt::format("it is promised up to {}", format_lsn(options.valid_until)));
          }
          return WalScan{.to = reader.position(), .inside_record = reader.inside_record()};
        }
        if (bytes->size() != options.segment_bytes) {
          return fail(ErrorKind::kDamaged, fmt::format("the WAL segment at {} has {} bytes instead of {}",
                                                       format_lsn(number * options.segment_bytes),
                                                       bytes->size(), options.segment_bytes));
        }
        TRY(reader.add(number * options.segment_bytes, *bytes));
      }
    }
  }
}

}  // namespace kuramori::postgres
