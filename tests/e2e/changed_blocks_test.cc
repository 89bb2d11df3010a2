// Changed blocks against what real servers wrote: every segment's set is pg_waldump's, where that program is
// there (15, 17, 18), and on every major no page carries an LSN of the range that the sets do not tell (P6,
// P7). A history of everything that writes WAL in its own way: all kinds of indexes, truncates, rewrites,
// drops, databases made both ways, prepared transactions, page images after checkpoints, records longer than
// a segment, a crash, a new timeline. 13 and 18; with KURAMORI_TEST_ALL every major, and longer.
#include "source/postgres/changed_blocks.h"

#include <gtest/gtest.h>

#include <charconv>
#include <filesystem>
#include <fstream>

#include "capture_fixture.h"
#include "source/postgres/earlier_wal.h"

namespace kuramori::postgres {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kSegment = 1u << 20;
constexpr Lsn kDumpSegments = 32, kLongestRecordSegments = 5;
constexpr uint32_t kGlobal = 1664, kDefault = 1663;  // tablespaces
const bool kAll = std::getenv("KURAMORI_TEST_ALL") != nullptr;

// What one record does, in pg_waldump's words.
struct Told {
  Lsn lsn = 0;
  std::map<ForkFile, ChangedFork> forks;
  std::set<std::pair<uint32_t, uint32_t>> whole_databases;
};

uint32_t take_number(std::string_view& text) {
  uint32_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  EXPECT_EQ(error, std::errc()) << text.substr(0, 40);
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  return value;
}
bool skip(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "base/5/16384", "global/1262", "pg_tblspc/16400/PG_15_202209061/5/16401", each perhaps with "_init".
ForkFile take_path(std::string_view& text) {
  ForkFile file;
  if (skip(text, "global/")) {
    file.file.tablespace = kGlobal;
  } else {
    if (skip(text, "pg_tblspc/")) {
      file.file.tablespace = take_number(text);
      text.remove_prefix(text.find('/', 1) + 1);
    } else {
      EXPECT_TRUE(skip(text, "base/")) << text.substr(0, 40);
      file.file.tablespace = kDefault;
    }
    file.file.database = take_number(text);
    skip(text, "/");
  }
  file.file.number = take_number(text);
  if (skip(text, "_init")) file.fork = Fork::kInit;
  if (skip(text, "_vm")) file.fork = Fork::kVm;
  if (skip(text, "_fsm")) file.fork = Fork::kFsm;
  return file;
}

std::optional<Told> read_line(std::string_view line) {
  size_t at = line.find("lsn: ");
  if (!line.starts_with("rmgr: ") || at == std::string_view::npos) return std::nullopt;
  std::string_view rest = line.substr(at + 5);
  Told told{.lsn = parse_lsn(rest.substr(0, rest.find(','))).value_or(0), .forks = {}, .whole_databases = {}};
  const std::string_view rmgr = line.substr(6, line.find(' ', 6) - 6);
  at = rest.find("desc: ");
  std::string_view what = rest.substr(at + 6);
  auto cut = [&](const ForkFile& file, uint32_t limit) {
    if (file.fork != Fork::kMain && file.fork != Fork::kInit) return;
    auto& known = told.forks[file].limit;
    known = std::min(known.value_or(UINT32_MAX), limit);
  };
  if (rmgr == "Storage") {
    if (skip(what, "CREATE ")) {
      cut(take_path(what), 0);
    } else if (skip(what, "TRUNCATE ")) {
      const ForkFile file = take_path(what);
      EXPECT_TRUE(skip(what, " to "));
      const uint32_t limit = take_number(what);
      EXPECT_TRUE(skip(what, " blocks flags "));
      if (take_number(what) & 1)
        cut(file, limit);
      else
        told.forks[file];  // its maps alone: mentioned
    }
  } else if (rmgr == "Transaction" && !what.starts_with("PREPARE ")) {
    // "; rels: base/5/1 base/5/2; …", and of a prepared one "; rels(commit): …"
    if (const size_t begin = what.find("rels: "); begin != std::string_view::npos) {
      what = what.substr(begin + 6);
      while (what.starts_with("base/") || what.starts_with("global/") || what.starts_with("pg_tblspc/")) {
        cut(take_path(what), 0);
        skip(what, " ");
      }
    }
  } else if (rmgr == "Database") {
    auto take_database = [&](std::string_view& text) {
      const uint32_t tablespace = take_number(text);
      skip(text, "/");
      told.whole_databases.emplace(tablespace, take_number(text));
    };
    if (what.starts_with("DROP ")) {
      skip(what, "DROP dir");
      while (skip(what, " ")) take_database(what);
    } else if (const size_t to = what.find(" to "); to != std::string_view::npos) {
      what = what.substr(to + 4);
      take_database(what);
    }
  }
  for (at = rest.find("blkref #"); at != std::string_view::npos; at = rest.find("blkref #", at + 1)) {
    std::string_view ref = rest.substr(at);
    ref.remove_prefix(ref.find("rel ") + 4);
    ForkFile file;
    file.file.tablespace = take_number(ref);
    skip(ref, "/");
    file.file.database = take_number(ref);
    skip(ref, "/");
    file.file.number = take_number(ref);
    if (skip(ref, " fork ")) {
      file.fork = ref.starts_with("init")  ? Fork::kInit
                  : ref.starts_with("fsm") ? Fork::kFsm
                  : ref.starts_with("vm")  ? Fork::kVm
                                           : Fork::kMain;
      ref.remove_prefix(ref.find(' '));
    }
    EXPECT_TRUE(skip(ref, " blk ")) << line;
    if (file.fork == Fork::kMain || file.fork == Fork::kInit)
      told.forks[file].blocks.push_back(take_number(ref));
  }
  return told;
}

class ChangedBlocksOfMajor : public PostgresCapture, public ::testing::WithParamInterface<int> {
 protected:
  // Every statement that writes WAL in a way of its own.
  void write_much() {
    sql("CREATE TABLE things (a int, b text, c int[], p point, t tsvector) WITH (fillfactor = 70)");
    for (const char* index :
         {"btree (a)", "hash (a)", "gin (c)", "gist (p)", "spgist (p)", "brin (a)", "gin (t)"})
      sql(fmt::format("CREATE INDEX ON things USING {}", index));
    const std::string rows =
        "INSERT INTO things SELECT g, md5(g::text), ARRAY[g % 99, g % 7], point(g % 100, g % 37), "
        "to_tsvector('simple', "
        "md5(g::text)) FROM generate_series(1, {}) g";
    sql(fmt::format(fmt::runtime(rows), kAll ? 20000 : 3000));
    sql("CHECKPOINT");
    sql("UPDATE things SET a = a + 1 WHERE a % 3 = 0");
    sql("DELETE FROM things WHERE a % 5 < 2");
    sql("VACUUM things");
    sql(fmt::format(fmt::runtime(rows), 1000));
    sql("DELETE FROM things WHERE a > 400");
    sql("VACUUM things");  // cuts the table at its end
    sql("CREATE SEQUENCE numbers; SELECT count(nextval('numbers')) FROM generate_series(1, 100)");
    sql("CREATE UNLOGGED TABLE scratch AS SELECT g FROM generate_series(1, 1000) g; CREATE INDEX ON scratch "
        "(g)");
    sql("ALTER TABLE scratch SET LOGGED");
    sql("ALTER TABLE scratch SET UNLOGGED");
    sql("CREATE TABLE short_lived AS SELECT g FROM generate_series(1, 1000) g");
    sql("TRUNCATE short_lived");
    sql("INSERT INTO short_lived SELECT g FROM generate_series(1, 2000) g");
    sql("VACUUM FULL things; ");
    sql("CLUSTER pg_class USING pg_class_oid_index");
    sql("BEGIN; CREATE TABLE never AS SELECT g FROM generate_series(1, 1000) g; TRUNCATE short_lived; "
        "ROLLBACK");
    sql("BEGIN; CREATE TABLE later AS SELECT 1 a; DROP TABLE short_lived; PREPARE TRANSACTION 'one'");
    sql("BEGIN; CREATE TABLE never AS SELECT 1 a; PREPARE TRANSACTION 'two'");
    sql("CHECKPOINT");
    sql("COMMIT PREPARED 'one'");
    sql("ROLLBACK PREPARED 'two'");
    // Records longer than a segment, and longer than three; a commit that drops hundreds of files.
    sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1500000))");
    sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 3500000))");
    sql("DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE 'CREATE TABLE many' || i || ' (a text)'; END LOOP; END $$");
    sql("DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE 'DROP TABLE many' || i; END LOOP; END $$");
    if (server_->major() >= 15) {
      sql("CREATE DATABASE copied STRATEGY file_copy");
      sql("CREATE DATABASE logged STRATEGY wal_log");
    } else {
      sql("CREATE DATABASE copied");
      sql("CREATE DATABASE logged");
    }
    sql(fmt::format("CREATE TABLESPACE aside LOCATION '{}'", place("aside")));
    sql("ALTER TABLE things SET TABLESPACE aside");
    sql("ALTER DATABASE copied SET TABLESPACE aside");
    sql("DROP DATABASE copied");
    sql("DROP DATABASE logged");
    sql("SELECT pg_switch_wal()");
    auto clients = server_->run(*PostgresServer::bin_folder_of(15) + "/pgbench",
                                {"-i", "-q", "-I", "dtgvpf", "-s", kAll ? "5" : "1", server_->connect()});
    ASSERT_OK(clients);
    ASSERT_EQ(clients->status, 0) << clients->text;
    sql("CHECKPOINT");
  }
  void write_transactions() {
    auto clients = server_->run(*PostgresServer::bin_folder_of(15) + "/pgbench",
                                {"-n", "-c", "2", "-t", kAll ? "3000" : "400", server_->connect()});
    ASSERT_OK(clients);
    ASSERT_EQ(clients->status, 0) << clients->text;
  }

  std::string pg_wal() const { return server_->data_directory() + "/pg_wal"; }
  std::vector<Lsn> segments_of(Timeline timeline) const {
    std::vector<Lsn> found;
    for (const auto& entry : fs::directory_iterator(pg_wal())) {
      auto name = parse_segment_name(entry.path().filename().string(), kSegment);
      if (name && name->timeline == timeline) found.push_back(name->start);
    }
    std::ranges::sort(found);
    return found;
  }
  std::optional<ChangedBlocks> scan(Timeline timeline, Lsn start, uint64_t system_id) const {
    auto bytes = read_file(pg_wal() + "/" + segment_name(timeline, start, kSegment));
    if (!bytes) return std::nullopt;
    return scan_segment({.system_id = system_id, .timeline = timeline, .start = start, .bytes = kSegment},
                        *bytes, earlier_in_folder(pg_wal(), timeline, kSegment));
  }
  bool has_waldump() const { return access((server_->bin_folder() + "/pg_waldump").c_str(), X_OK) == 0; }
  // What pg_waldump tells of a timeline's segments from `first` on; nothing where there is no such program.
  std::vector<Told> waldump(Timeline timeline, Lsn first, Lsn last) {
    std::vector<Told> told;
    if (!has_waldump()) return told;
    auto dumped = server_->run("pg_waldump", {"-p", pg_wal(), segment_name(timeline, first, kSegment),
                                              segment_name(timeline, last, kSegment)});
    EXPECT_TRUE(dumped && !dumped->text.empty());
    std::string_view text = dumped->text;
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size() - 1);
      if (auto one = read_line(text.substr(0, end))) told.push_back(std::move(*one));
      text.remove_prefix(end + 1);
    }
    return told;
  }
  static ChangedBlocks expected(const std::vector<Told>& told, const ChangedBlocks& like) {
    ChangedBlocks sum{
        .system_id = like.system_id, .timeline = like.timeline, .from = like.from, .to = like.to};
    for (const Told& one : told) {
      if (one.lsn < like.from || one.lsn >= like.to) continue;
      ChangedBlocks record{
          .system_id = sum.system_id, .timeline = sum.timeline, .from = sum.from, .to = sum.to};
      record.forks = one.forks;
      for (auto& [file, fork] : record.forks) std::ranges::sort(fork.blocks);
      record.whole_databases = one.whole_databases;
      EXPECT_TRUE(sum.append(record));
    }
    for (auto& [file, fork] : sum.forks)
      fork.blocks.erase(std::ranges::unique(fork.blocks).begin(), fork.blocks.end());
    return sum;
  }
  // Every page below `folder` that carries an LSN of the range is told of. Returns how many do.
  uint64_t check_pages(const std::string& folder, RelationFile where, const ChangedBlocks& changed) {
    uint64_t seen = 0;
    if (!fs::exists(folder) || changed.whole_databases.contains({where.tablespace, where.database})) return 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      std::string_view name_left;
      const std::string name = entry.path().filename().string();
      name_left = name;
      if (!entry.is_regular_file() || name[0] < '0' || name[0] > '9') continue;
      ForkFile file{where};
      file.file.number = take_number(name_left);
      if (skip(name_left, "_init")) file.fork = Fork::kInit;
      const bool is_unlogged = fs::exists(folder + "/" + std::to_string(file.file.number) + "_init");
      if (!name_left.empty() || (is_unlogged && file.fork == Fork::kMain))
        continue;  // maps; no file here is over 1 GiB
      const auto known = changed.forks.find(file);
      auto bytes = read_file(entry.path().string(), size_t{1} << 30);
      EXPECT_TRUE(bytes);
      for (uint32_t block = 0; block < bytes->size() / 8192; ++block) {
        const uint8_t* page = bytes->data() + size_t{block} * 8192;
        const Lsn lsn = Lsn{load_le<uint32_t>(page)} << 32 | load_le<uint32_t>(page + 4);
        // A page carries where its record ended.
        if (lsn <= changed.from || lsn > changed.to) continue;
        ++seen;
        const bool is_told =
            known != changed.forks.end() && (std::ranges::binary_search(known->second.blocks, block) ||
                                             (known->second.limit && block >= *known->second.limit));
        EXPECT_TRUE(is_told) << entry.path() << " block " << block << " has LSN " << format_lsn(lsn);
      }
    }
    return seen;
  }
  uint64_t check_all_pages(const ChangedBlocks& changed) {
    const std::string data = server_->data_directory();
    uint64_t seen = check_pages(data + "/global", {kGlobal, 0, 0}, changed);
    auto databases = [&](const std::string& folder, uint32_t tablespace) {
      for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (name[0] < '0' || name[0] > '9') continue;
        std::string_view number = name;
        seen += check_pages(entry.path().string(), {tablespace, take_number(number), 0}, changed);
      }
    };
    databases(data + "/base", kDefault);
    for (const auto& link : fs::directory_iterator(data + "/pg_tblspc")) {
      const std::string name = link.path().filename().string();
      std::string_view number = name;
      const uint32_t tablespace = take_number(number);
      for (const auto& version : fs::directory_iterator(link.path()))
        databases(version.path().string(), tablespace);
    }
    return seen;
  }
};

std::vector<int> majors() {
  return kAll ? PostgresServer::majors() : std::vector<int>{13, 18};
}
INSTANTIATE_TEST_SUITE_P(Majors, ChangedBlocksOfMajor, ::testing::ValuesIn(majors()),
                         ::testing::PrintToStringParamName());

TEST_P(ChangedBlocksOfMajor, are_what_pg_waldump_says_and_what_the_pages_say) {
  start_server({.major = GetParam(),
                .wal_segment_mib = 1,
                .settings = {"max_wal_size = 4GB", "wal_keep_size = 4GB", "max_prepared_transactions = 5",
                             "wal_level = logical", "autovacuum = off", "full_page_writes = on"}});
  ASSERT_TRUE(server_);
  fs::create_directory(place("aside"));
  ASSERT_OK(PostgresServer::give_to_server_user(place("aside")));
  const uint64_t system_id = std::stoull(sql("SELECT system_identifier FROM pg_control_system()"));
  sql("SELECT pg_switch_wal()");
  const Lsn first = *parse_lsn(sql("SELECT pg_current_wal_lsn()")) / kSegment * kSegment;
  ASSERT_NO_FATAL_FAILURE(write_much());
  ASSERT_NO_FATAL_FAILURE(write_transactions());
  server_->kill();
  ASSERT_OK(server_->start());
  ASSERT_NO_FATAL_FAILURE(write_transactions());
  // A new timeline, which begins in the middle of a segment.
  ASSERT_OK(server_->stop());
  std::ofstream(server_->data_directory() + "/recovery.signal").close();
  ASSERT_OK(PostgresServer::give_to_server_user(server_->data_directory()));
  ASSERT_OK(server_->add_settings({"restore_command = false"}));
  ASSERT_OK(server_->start());
  while (sql("SELECT pg_is_in_recovery()") != "f") {
  }
  ASSERT_NO_FATAL_FAILURE(write_transactions());
  sql("SELECT pg_switch_wal()");
  sql("CHECKPOINT");
  ASSERT_OK(server_->stop());

  const std::vector<Lsn> newer = segments_of(2);
  ASSERT_FALSE(newer.empty());
  std::optional<ChangedBlocks> joined;
  uint64_t blocks = 0, encoded = 0, compared = 0;
  auto check = [&](Timeline timeline, Lsn from, Lsn to) {
    std::vector<Told> told;
    Lsn told_to = from;
    for (Lsn start = from; start < to; start += kSegment) {
      if (start == told_to) {  // some at once: what it says of many is long
        told_to = std::min(to, start + kDumpSegments * kSegment);
        told =
            waldump(timeline, std::max(from, start - kLongestRecordSegments * kSegment), told_to - kSegment);
      }
      const auto changed = scan(timeline, start, system_id);
      ASSERT_TRUE(changed) << timeline << " " << format_lsn(start);
      const Bytes bytes = *encode(*changed);
      ASSERT_EQ(*decode_changed_blocks(bytes), *changed);
      encoded += bytes.size();
      for (const auto& [file, fork] : changed->forks) blocks += fork.blocks.size();
      // pg_waldump begins with the first record that begins in its first segment.
      if (!told.empty() && changed->from >= told.front().lsn) {
        const ChangedBlocks wanted = expected(told, *changed);
        EXPECT_EQ(changed->forks, wanted.forks) << timeline << " " << format_lsn(start);
        EXPECT_EQ(changed->whole_databases, wanted.whole_databases) << timeline << " " << format_lsn(start);
        ++compared;
      }
      if (!joined) {
        joined = *changed;
      } else {
        ASSERT_EQ(changed->from, joined->to) << timeline << " " << format_lsn(start);
        ASSERT_OK(joined->append(*changed));
      }
    }
  };
  ASSERT_NO_FATAL_FAILURE(check(1, first, newer.front()));
  // The last segment, begun after the switch, is not whole.
  const Lsn end = joined->to;
  ASSERT_NO_FATAL_FAILURE(check(2, newer.front(), newer.front() + kSegment * (newer.size() - 1)));
  EXPECT_GT(joined->to, end);
  EXPECT_EQ(joined->timeline, 2u);
  EXPECT_FALSE(joined->was_minimal);
  EXPECT_FALSE(joined->whole_databases.empty());
  const uint64_t segments = (joined->to - joined->from) / kSegment;
  if (has_waldump()) {
    EXPECT_GE(compared + 4, segments);  // it begins late in each timeline's first
  }
  const uint64_t pages = check_all_pages(*joined);
  EXPECT_GT(pages, 1000u);
  fmt::print(
      "major {}: {} segments, {} of them compared with pg_waldump, {} blocks, {} bytes, {} pages checked\n",
      GetParam(), segments, compared, blocks, encoded, pages);
}

}  // namespace
}  // namespace kuramori::postgres
