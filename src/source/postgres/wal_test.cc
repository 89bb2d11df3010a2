// The WAL reader and what it tells, against frozen stretches of WAL of real servers of every major.
// KURAMORI_ACCEPT=1 rewrites the expected text.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "source/postgres/golden_for_tests.h"
#include "source/postgres/wal_facts.h"
#include "source/postgres/wal_for_tests.h"

namespace kuramori::postgres {
namespace {

uint32_t segment_bytes_of(int major) {
  return major == 13 ? kMiB : major == 15 ? 4 * kMiB : major == 16 ? 2 * kMiB : 16 * kMiB;  // P35
}

std::string micros(Time at) {
  return std::to_string(to_unix_ns(at) / 1000);
}

std::string say(const WalFact& fact) {
  struct Say {
    std::string operator()(const TransactionEnd& f) {
      std::string text = fmt::format("{}{} {} at {}", f.is_commit ? "commit" : "abort",
                                     f.was_prepared ? " prepared" : "", f.xid, micros(f.at));
      for (uint32_t xid : f.subtransactions) text += fmt::format(" sub {}", xid);
      for (const auto& file : f.dropped_files) text += fmt::format(" drops {}", file.number);
      return text;
    }
    std::string operator()(const RestorePoint& f) {
      return fmt::format("restore point '{}' at {}", f.name, micros(f.at));
    }
    std::string operator()(const Checkpoint& f) {
      return fmt::format("checkpoint{} redo {} timeline {} before {} fpw {} at {}",
                         f.is_shutdown ? " shutdown" : "", format_lsn(f.redo), f.timeline,
                         f.previous_timeline, f.full_page_writes, micros(f.at));
    }
    std::string operator()(const CheckpointRedo&) { return "checkpoint redo"; }
    std::string operator()(const ParameterChange& f) {
      const auto& s = f.settings;
      return fmt::format("settings {} {} {} {} {} {} {} {}", name_of(s.wal_level), s.max_connections,
                         s.max_worker_processes, s.max_wal_senders, s.max_prepared_transactions,
                         s.max_locks_per_transaction, s.wal_log_hints, s.track_commit_timestamp);
    }
    std::string operator()(const FullPageWritesChange& f) { return fmt::format("fpw {}", f.is_on); }
    std::string operator()(const EndOfRecovery& f) {
      return fmt::format("end of recovery: timeline {} after {} at {}", f.timeline, f.previous_timeline,
                         micros(f.at));
    }
    std::string operator()(const BackupEnd& f) { return fmt::format("backup end {}", format_lsn(f.start)); }
    std::string operator()(const OverwrittenRecord& f) {
      return fmt::format("overwritten {}", format_lsn(f.lsn));
    }
    std::string operator()(const DatabaseCreated& f) {
      return fmt::format("database {} copy {}", f.database, f.by_file_copy);
    }
    std::string operator()(const DatabaseDropped& f) {
      return fmt::format("database {} dropped", f.database);
    }
    std::string operator()(const FileCreated& f) {
      return fmt::format("file {} fork {}", f.file.number, int(f.fork));
    }
    std::string operator()(const FileTruncated& f) {
      return fmt::format("file {} cut to {}", f.file.number, f.blocks);
    }
    std::string operator()(const TablespaceCreated& f) { return fmt::format("tablespace {}", f.tablespace); }
    std::string operator()(const TablespaceDropped& f) {
      return fmt::format("tablespace {} dropped", f.tablespace);
    }
  };
  return std::visit(Say{}, fact);
}

std::string describe(const WalRecord& r) {
  std::string line = fmt::format("{} prev {} end {} xid {} rmgr {} info {:02X} bytes {}", format_lsn(r.lsn),
                                 format_lsn(r.prev), format_lsn(r.end), r.xid, r.rmgr, r.info, r.total_bytes);
  for (const auto& b : r.blocks) {
    line += fmt::format(" {}/{}/{}/{}:{}{}{}", b.file.tablespace, b.file.database, b.file.number, int(b.fork),
                        b.block, b.has_image ? "F" : "", b.will_init ? "I" : "");
  }
  auto fact = fact_of(r);
  if (!fact) return line + " DAMAGED";
  return *fact ? line + " = " + say(**fact) : line;
}

struct Slice {
  std::string name;
  int major = 0;
  Lsn from = 0;
};

std::vector<Slice> slices() {
  std::vector<Slice> found;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(KURAMORI_GOLDEN) + "/postgres")) {
    const std::string name = entry.path().filename();  // wal.15.promotion.7000000
    if (!name.starts_with("wal.") || name.ends_with(".txt")) continue;
    found.push_back(
        {name, std::stoi(name.substr(4, 2)), std::stoull(name.substr(name.rfind('.') + 1), nullptr, 16)});
  }
  return found;
}

TEST(WalReader, TellsTheFrozenWalOfEveryMajorAsBefore) {
  std::set<int> majors;
  for (const Slice& slice : slices()) {
    const Bytes pages = golden_bytes(slice.name);
    WalReader reader({.from = slice.from, .segment_bytes = segment_bytes_of(slice.major)});
    ASSERT_TRUE(reader.add(slice.from, pages));
    std::string text;
    for (;;) {
      auto next = reader.next();
      ASSERT_TRUE(next) << slice.name << next.error().what << next.error().why;
      if (*next != WalReader::Next::kRecord) break;
      EXPECT_EQ(reader.record().major, slice.major);
      text += describe(reader.record()) + "\n";
    }
    text +=
        fmt::format("then {}{}\n", format_lsn(reader.position()), reader.inside_record() ? " inside" : "");
    const std::string expected = slice.name + ".txt";
    if (std::getenv("KURAMORI_ACCEPT")) {
      std::ofstream(std::string(KURAMORI_GOLDEN) + "/postgres/" + expected) << text;
    }
    EXPECT_EQ(text, golden(expected)) << slice.name;
    majors.insert(slice.major);
  }
  EXPECT_EQ(majors, std::set<int>(std::begin(kMajors), std::end(kMajors)));
}

TEST(WalReader, NeverReadsADamagedByteAsARecord) {
  for (const Slice& slice : slices()) {
    const Bytes good = golden_bytes(slice.name);
    auto read = [&](const Bytes& pages) {
      std::vector<std::string> records;
      WalReader reader({.from = slice.from, .segment_bytes = segment_bytes_of(slice.major)});
      EXPECT_TRUE(reader.add(slice.from, pages));
      for (auto next = reader.next(); next && *next == WalReader::Next::kRecord; next = reader.next()) {
        records.push_back(describe(reader.record()));
      }
      return records;
    };
    const auto all = read(good);
    for (size_t at = 0; at < good.size(); at += 61) {
      Bytes bad = good;
      bad[at] ^= 0x20;
      for (const auto& record : read(bad)) {
        ASSERT_NE(std::find(all.begin(), all.end(), record), all.end())
            << slice.name << " byte " << at << ": " << record;
      }
    }
  }
}

struct Read {
  std::vector<Lsn> records;
  std::optional<WalStop> stop;
  std::optional<Error> error;
};
Read read_all(const Bytes& pages, WalReaderOptions options = {}) {
  if (options.from == 0) options.from = kFirst;
  options.segment_bytes = kMiB;
  WalReader reader(options);
  Read read;
  EXPECT_TRUE(reader.add(kFirst, pages));
  for (;;) {
    auto next = reader.next();
    if (!next) {
      read.error = next.error();
    } else if (*next == WalReader::Next::kRecord) {
      read.records.push_back(reader.record().lsn);
      continue;
    } else if (*next == WalReader::Next::kEnd) {
      read.stop = reader.stop();
    }
    return read;
  }
}

TEST(WalReader, AssemblesRecordsOverPagesAndSegments) {
  Wal wal;
  std::vector<Lsn> expected;
  for (size_t size : {10u, 255u, 256u, 8000u, 30000u, 3'000'000u, 1u}) {
    expected.push_back(wal.add(kRmHeap, 0, Wal::main_data(Bytes(size, 7))));
  }
  const auto read = read_all(wal.pages());
  EXPECT_EQ(read.records, expected);
  ASSERT_TRUE(read.stop);
  EXPECT_EQ(read.stop->reason, WalStopReason::kZeros);
  // From the middle of a record that spans pages: the first that begins later.
  const auto later = read_all(wal.pages(), {.from = kFirst + 4 * kWalPageBytes});
  EXPECT_EQ(later.records, (std::vector<Lsn>{expected[5], expected[6]}));
  // From a record in the middle of a page.
  EXPECT_EQ(read_all(wal.pages(), {.from = expected[2]}).records.size(), 5u);
}

// performance.md's trap: a record of page images alone has no mark of main data; its headers end where the
// bytes left are those they promised, or image bytes would be taken for block references.
TEST(WalReader, TakesNoImageBytesForBlockReferences) {
  Wal wal;
  Bytes body = {0, 0x10};          // block 0, main fork, an image
  append_le<uint16_t>(body, 0);    // no data
  append_le<uint16_t>(body, 400);  // image bytes
  append_le<uint16_t>(body, 0);
  body.push_back(0);
  for (uint32_t part : {1663u, 5u, 16384u, 9u}) append_le(body, part);
  for (int i = 0; i < 400; ++i) body.push_back(i % 20 == 0 ? 1 : 0);  // looks like block 1, again and again
  wal.add(kRmXlog, 0xb0, body);
  WalReader reader({.from = kFirst, .segment_bytes = kMiB});
  const Bytes pages = wal.pages();
  ASSERT_TRUE(reader.add(kFirst, pages));
  ASSERT_EQ(*reader.next(), WalReader::Next::kRecord);
  ASSERT_EQ(reader.record().blocks.size(), 1u);
  EXPECT_EQ(reader.record().blocks[0].file, (RelationFile{1663, 5, 16384}));
  EXPECT_EQ(reader.record().blocks[0].block, 9u);
  EXPECT_TRUE(reader.record().main_data.empty());
}

TEST(WalReader, ASegmentSwitchGoesOnInTheNextSegment) {
  Wal wal;
  wal.add(kRmHeap, 0, Wal::main_data(Bytes(100)));
  wal.add(kRmXlog, 0x40, {});
  wal.bytes_.resize(kMiB);
  const Lsn after = wal.add(kRmHeap, 0, Wal::main_data(Bytes(9)));
  const auto read = read_all(wal.pages());
  ASSERT_EQ(read.records.size(), 3u);
  EXPECT_EQ(read.records[2], after);
  EXPECT_EQ(after, kFirst + kMiB + 40);
}

// After a crash in the middle of a record the server gives it up and marks the next page.
TEST(WalReader, ARecordGivenUpAfterACrashIsPassedOver) {
  Wal wal;
  wal.add(kRmHeap, 0, Wal::main_data(Bytes(100)));
  const size_t cut = wal.bytes_.size();
  Wal longer = wal;
  longer.add(kRmHeap, 0, Wal::main_data(Bytes(20000)));
  std::copy(longer.bytes_.begin() + static_cast<long>(cut), longer.bytes_.begin() + kWalPageBytes,
            std::back_inserter(wal.bytes_));
  wal.page_flags_ = 8;
  const Lsn next = wal.add(kRmXlog, 0xd0, Wal::main_data(Bytes(16)));
  EXPECT_EQ(read_all(wal.pages()).records.back(), next);
  EXPECT_EQ(read_all(wal.pages()).records.size(), 2u);
}

TEST(WalReader, TellsTheEndFromDamage) {
  Wal wal;
  const Lsn first = wal.add(kRmHeap, 0, Wal::main_data(Bytes(500)));
  const Lsn second = wal.add(kRmHeap, 0, Wal::main_data(Bytes(500)));
  wal.add(kRmHeap, 0, Wal::main_data(Bytes(20000)));
  auto stop_of = [&](const Bytes& pages) { return read_all(pages).stop.value_or(WalStop{}); };
  Bytes bad = wal.pages();
  bad[second - kFirst + 100] ^= 1;
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kBadCrc);
  EXPECT_EQ(stop_of(bad).lsn, second);
  // The same bytes, but this WAL is promised: damage, with the place in words.
  const auto promised = read_all(bad, {.valid_until = kFirst + kWalPageBytes});
  ASSERT_TRUE(promised.error);
  EXPECT_EQ(promised.error->kind, ErrorKind::kDamaged);
  EXPECT_NE(promised.error->what.find(format_lsn(second)), std::string::npos);
  EXPECT_TRUE(read_all(bad, {.valid_until = second}).stop);

  bad = wal.pages();
  bad[second - kFirst + 8] ^= 1;
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kWrongPrevious);
  bad = wal.pages();
  store_le<uint32_t>(&bad[second - kFirst], 23);
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kBadLength);
  bad = wal.pages();
  bad[kWalPageBytes + 8] ^= 1;  // the page's address: of an older round
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kRecycledPage);
  bad = wal.pages();
  bad[kWalPageBytes + 16] ^= 1;
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kNoContinuation);
  bad = wal.pages();
  std::fill(bad.begin() + kWalPageBytes, bad.end(), 0);
  EXPECT_EQ(stop_of(bad).reason, WalStopReason::kZeros);
  EXPECT_EQ(stop_of(bad).lsn, read_all(wal.pages()).records[2]);
  EXPECT_EQ(stop_of(Bytes(kWalPageBytes, 0)).lsn, kFirst);
  EXPECT_EQ(read_all(wal.pages()).records[0], first);
}

// P40: WAL of another cluster, P35: of another segment size; both are refused, neither is an end.
TEST(WalReader, RefusesForeignWalP40) {
  Wal wal;
  wal.commit(9, 1);
  EXPECT_TRUE(read_all(wal.pages(), {.system_id = 4711}).stop);
  const auto foreign = read_all(wal.pages(), {.system_id = 4712});
  ASSERT_TRUE(foreign.error);
  EXPECT_EQ(foreign.error->kind, ErrorKind::kRefused);
  Wal other(2 * kMiB);
  other.commit(9, 1);
  if (kFirst % (2 * kMiB) == 0) {
    EXPECT_EQ(read_all(other.pages()).error.value_or(Error{}).kind, ErrorKind::kRefused);
  }
  wal.timeline_ = 2;
  wal.add(kRmHeap, 0, Wal::main_data(Bytes(9000)));
  EXPECT_EQ(read_all(wal.pages(), {.timeline = 1}).stop.value_or(WalStop{}).reason,
            WalStopReason::kOtherTimeline);
}

TEST(WalReader, TakesNoPagesOutOfOrder) {
  WalReader reader({.from = kFirst + 5 * kWalPageBytes, .segment_bytes = kMiB});
  EXPECT_FALSE(reader.add(kFirst + 6 * kWalPageBytes, Bytes(kWalPageBytes)));
  EXPECT_FALSE(reader.add(kFirst + 1, Bytes(kWalPageBytes)));
  EXPECT_FALSE(reader.add(kFirst, Bytes(100)));
  const Bytes early(kWalPageBytes);
  EXPECT_TRUE(reader.add(kFirst, early));
  EXPECT_EQ(*reader.next(), WalReader::Next::kNeedMore);
}

TEST(ScanWal, NamesAMissingOrShortSegment) {
  Wal wal;
  wal.add(kRmHeap, 0, Wal::main_data(Bytes(3 * kMiB / 2)));
  wal.commit(5, 1);
  Bytes whole = wal.pages();
  whole.resize(2 * kMiB);
  auto scan = [&](uint64_t segments, size_t last_bytes, Lsn valid_until) {
    return scan_wal(
        {.from = kFirst, .segment_bytes = kMiB, .valid_until = valid_until},
        [&](uint64_t number) -> Result<std::optional<ByteView>> {
          const uint64_t index = number - kFirst / kMiB;
          if (index >= segments) return std::optional<ByteView>();
          return std::optional(
              ByteView(whole).subspan(index * kMiB, index + 1 == segments ? last_bytes : kMiB));
        },
        [](const WalRecord&) { return true; });
  };
  EXPECT_TRUE(scan(2, kMiB, 0)->stop);
  EXPECT_TRUE(scan(1, kMiB, 0)->inside_record);
  EXPECT_EQ(scan(1, kMiB, kFirst + 2 * kMiB).error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(scan(2, 100, 0).error().kind, ErrorKind::kDamaged);
}

// P49: a time is resolved to the last commit not later than it; the exact time belongs to it; what is beyond
// is said.
TEST(TargetFinder, FindsTheLastCommitNotLaterP49) {
  Wal wal;
  const Lsn at10 = wal.commit(100, 10);
  const Lsn at20 = wal.commit(101, 20);
  Bytes point;
  append_le<int64_t>(point, 25);
  append(point, as_bytes("before the accident"));
  point.resize(72);
  const Lsn named = wal.add(kRmXlog, 0x70, Wal::main_data(point));
  wal.commit(102, 30);
  wal.commit(103, 29);
  const Bytes pages = wal.pages();
  auto find = [&](TargetFinder::Wanted wanted) {
    TargetFinder finder(std::move(wanted));
    WalReader reader({.from = kFirst, .segment_bytes = kMiB});
    EXPECT_TRUE(reader.add(kFirst, pages));
    while (*reader.next() == WalReader::Next::kRecord) EXPECT_TRUE(finder.see(reader.record()));
    return finder;
  };
  auto at = [&](int64_t micros) { return find({.at = time_of_postgres(micros)}); };
  EXPECT_FALSE(at(9).found());
  EXPECT_TRUE(at(9).is_settled());
  EXPECT_EQ(at(10).found()->lsn, at10);
  EXPECT_EQ(at(19).found()->lsn, at10);
  EXPECT_EQ(at(20).found()->lsn, at20);
  EXPECT_EQ(at(20).found()->at, time_of_postgres(20));
  EXPECT_EQ(at(29).found()->xid, 101u);  // the commit at 29 stands behind the one at 30
  EXPECT_EQ(at(29).later_but_earlier(), 1u);
  EXPECT_EQ(at(29).first_later()->xid, 102u);
  EXPECT_EQ(at(30).found()->xid, 103u);
  EXPECT_FALSE(at(30).is_settled());
  EXPECT_EQ(at(30).newest_time(), time_of_postgres(30));
  EXPECT_EQ(find({.xid = 102}).found()->at, time_of_postgres(30));
  EXPECT_FALSE(find({.xid = 104}).found());
  EXPECT_EQ(find({.name = "before the accident"}).found()->lsn, named);
  EXPECT_FALSE(find({.name = "before"}).found());
}

TEST(WalFacts, TimesCountFromTheYear2000) {
  EXPECT_EQ(to_unix_ns(time_of_postgres(0)), 946'684'800'000'000'000);
  EXPECT_EQ(to_unix_ns(time_of_postgres(-1)), 946'684'799'999'999'000);
  EXPECT_GT(time_of_postgres(INT64_MAX), time_of_postgres(0));
  EXPECT_LT(time_of_postgres(INT64_MIN), time_of_postgres(0));
}

TEST(WalFacts, ShortDataAreDamageNotACrash) {
  for (uint8_t rmgr : {kRmXlog, kRmXact, kRmSmgr, kRmDatabase, kRmTablespace}) {
    for (int info = 0; info < 256; info += 16) {
      for (size_t size = 0; size < 120; ++size) {
        for (int major : kMajors) {
          const Bytes data(size, 0xff);
          WalRecord record{
              .rmgr = rmgr, .info = static_cast<uint8_t>(info), .major = major, .main_data = data};
          auto fact = fact_of(record);
          if (!fact) {
            EXPECT_EQ(fact.error().kind, ErrorKind::kDamaged);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kuramori::postgres
