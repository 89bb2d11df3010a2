#include "source/redis/rdb.h"

#include "base/sanitized.h"
#include "codec/crc64.h"
#include "os/process.h"
#include "source/redis/redis_for_tests.h"

namespace kuramori::redis {
namespace {

// Reads in pieces of `step` bytes; an RDB followed by anything is as wrong as one cut short.
Result<RdbSummary> read_whole(ByteView bytes, size_t step = 1 << 16, int64_t now_ms = 0) {
  RdbReader reader(now_ms);
  for (size_t at = 0; at < bytes.size(); at += step) {
    const ByteView piece = bytes.subspan(at, std::min(step, bytes.size() - at));
    TRY_ASSIGN(const size_t used, reader.push(piece));
    if (used != piece.size()) return fail(ErrorKind::kDamaged, "something follows the RDB");
  }
  TRY(reader.finish());
  return reader.summary();
}

Bytes with_checksum(std::string_view body) {
  Bytes bytes = to_bytes(as_bytes(body));
  append_le<uint64_t>(bytes, crc64(bytes));
  return bytes;
}

std::map<uint64_t, uint64_t> keys_of(const RdbSummary& summary) {
  std::map<uint64_t, uint64_t> keys;
  for (const auto& [database, counts] : summary.databases) {
    if (counts.keys > 0) keys[database] = counts.keys;
  }
  return keys;
}

Bytes saved(TestServer& server) {
  server.call({"SAVE"});
  return read_file(server.file("dump.rdb")).value();
}

using namespace std::string_view_literals;

TEST(Rdb, of_a_few_handmade_keys_is_counted) {
  const Bytes bytes = with_checksum(
      "REDIS0011"
      "\xfa\x09redis-ver\x05"
      "7.2.4"
      "\xfa\x05"
      "ctime\xc2\x01\x00\x00\x00"
      "\xfe\x00\xfb\x03\x01"
      "\x00\x01"
      "a\x03xyz"
      "\xfc\xe8\x03\x00\x00\x00\x00\x00\x00\x00\x01"
      "b\xc1\x39\x30"
      "\x01\x01"
      "l\x02\xc0\x05\x01q"
      "\xfe\x05\xf8\x0a\x04\x01h\x01\x01"
      "f\x01v"
      "\xff"sv);
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Result<RdbSummary> read = read_whole(bytes, step, 1001);
    ASSERT_TRUE(read) << step << ": " << read.error().what << " " << read.error().why;
    EXPECT_EQ(read->version, 11);
    EXPECT_EQ(read->bytes, bytes.size());
    EXPECT_EQ(read->checksum, RdbSummary::Checksum::kVerified);
    EXPECT_EQ(read->databases.at(0), (DatabaseCounts{.keys = 3, .expiring = 1, .expired = 1}));
    EXPECT_EQ(read->databases.at(5), (DatabaseCounts{.keys = 1}));
    EXPECT_EQ(read->types, (std::map<std::string, uint64_t>{{"string", 2}, {"list", 1}, {"hash", 1}}));
    EXPECT_EQ(read->aux.at("redis-ver"), "7.2.4");
    EXPECT_EQ(read->aux.at("ctime"), "1");
  }
}

TEST(Rdb, a_module_and_field_expiry_are_passed_over_by_their_shape) {
  // A module's value of every kind of part, then hashes with field expiry in each of the four forms.
  const Bytes bytes = with_checksum(
      "REDIS0012\xf7\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x02\x02\x05\x00"
      "\x07\x01m\x81\x01\x02\x03\x04\x05\x06\x07\x08\x01\x07\x02\x40\xff\x03"
      "1234\x04"
      "12345678\x05\x02xy"
      "\x05\xc3\x04\x0alzfz\x00"
      "\x16\x01"
      "a\x01\x00\x01"
      "f\x01v"
      "\x17\x01"
      "b\x03lpx"
      "\x18\x01"
      "c\x0a\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"
      "f\x01v\x05\x01g\x01w"
      "\x19\x01"
      "d\xe8\x03\x00\x00\x00\x00\x00\x00\x03lpx"
      "\xff"sv);
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Result<RdbSummary> read = read_whole(bytes, step, 100);
    ASSERT_TRUE(read) << step << ": " << read.error().what << " " << read.error().why;
    EXPECT_EQ(read->types, (std::map<std::string, uint64_t>{{"module", 1}, {"hash", 4}}));
    EXPECT_EQ(read->module_data, 2u);
    EXPECT_EQ(read->databases.at(0).perhaps_expired, 3u);  // all but the one that expires at 1000
  }
}

TEST(Rdb, of_a_version_or_type_nobody_knows_is_refused_in_words) {
  for (const auto& [body, word] : {std::pair("REDIS0013\xff"sv, "version 13"),
                                   {"VALKEY080\xff"sv, "version 80 of Valkey"},
                                   {"REDIS0011\x1a\x01"
                                    "a\xff"sv,
                                    "value type 26"},
                                   {"REDIS0011\x06\x01"
                                    "a\xff"sv,
                                    "value type 6"}}) {
    const Result<RdbSummary> read = read_whole(with_checksum(body));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().kind, ErrorKind::kRefused) << word;
    EXPECT_NE(read.error().what.find(word), std::string::npos) << read.error().what;
  }
  for (const std::string_view body : {"RODIS0011\xff"sv, "REDISabcd\xff"sv, "REDIS0011\xfe\xc0\x01\xff"sv,
                                      "REDIS0011\x00\x01"
                                      "a\xc5\xff"sv,
                                      "REDIS0011\x00\x82"
                                      "a\xff"sv}) {
    const Result<RdbSummary> read = read_whole(with_checksum(body));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().kind, ErrorKind::kDamaged);
  }
}

TEST(Rdb, without_a_checksum_says_so) {
  Bytes off =
      to_bytes(as_bytes("REDIS0011\x00\x01"
                        "a\x01"
                        "b\xff\0\0\0\0\0\0\0\0"sv));
  EXPECT_EQ(read_whole(off)->checksum, RdbSummary::Checksum::kOff);
  EXPECT_EQ(read_whole(to_bytes(as_bytes("REDIS0003\xff"sv)))->checksum, RdbSummary::Checksum::kNone);
}

class RdbOfAServer : public testing::TestWithParam<std::string> {};

TEST_P(RdbOfAServer, is_counted_as_the_server_and_its_own_checker_count_it_G1) {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    TestServer server(GetParam());
    fill_at_random(server, seed, seed == 1 ? 400 : 60);
    const std::map<uint64_t, uint64_t> counted = server.keys();
    const Bytes bytes = saved(server);
    for (size_t step : {size_t{1} << 20, size_t{4096}, size_t{7}, size_t{1}}) {
      const Result<RdbSummary> read = read_whole(bytes, step);
      ASSERT_TRUE(read) << "seed " << seed << ": " << read.error().what << " " << read.error().why;
      EXPECT_EQ(keys_of(*read), counted) << "seed " << seed;
      EXPECT_EQ(read->checksum, RdbSummary::Checksum::kVerified);
      EXPECT_EQ(read->version, server.server().program().rdb_version());
      EXPECT_GE(read->types.size(), 6u);
    }
    const std::string checker = test_programs(GetParam()) +
                                (GetParam().starts_with("valkey") ? "/valkey-check-rdb" : "/redis-check-rdb");
    const Result<std::string> said = run_checked({.argv = {checker, server.file("dump.rdb")}});
    ASSERT_TRUE(said) << said.error().why;
    EXPECT_NE(said->find(fmt::format("{} keys read", read_whole(bytes)->keys())), std::string::npos) << *said;
    EXPECT_NE(said->find(fmt::format("{} expires", read_whole(bytes)->expiring())), std::string::npos)
        << *said;
  }
}

TEST_P(RdbOfAServer, is_noticed_when_cut_anywhere_or_when_a_bit_flips_S17) {
  TestServer server(GetParam());
  fill_at_random(server, 7, 6);
  server.call({"SET", "small", "x"});
  Bytes bytes = saved(server);
  ASSERT_TRUE(read_whole(bytes));
  // Every byte of the begin and the end; between them enough.
  constexpr size_t kEdge = kIsSanitized ? 100 : 3000, kEdgeOfBits = kIsSanitized ? 50 : 1000;
  for (size_t size = 0; size < bytes.size(); size += size < kEdge || size + kEdge > bytes.size() ? 1 : 501) {
    const Result<RdbSummary> read = read_whole(ByteView(bytes).first(size));
    ASSERT_FALSE(read) << size;
    EXPECT_EQ(read.error().kind, ErrorKind::kDamaged) << size;
  }
  for (size_t at = 0; at < bytes.size();
       at += at < kEdgeOfBits || at + kEdgeOfBits > bytes.size() ? 1 : 997) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<uint8_t>(1 << bit);
      EXPECT_FALSE(read_whole(bytes)) << "byte " << at << " bit " << bit;
      bytes[at] ^= static_cast<uint8_t>(1 << bit);
    }
  }
  bytes.push_back('\n');
  EXPECT_FALSE(read_whole(bytes));
}

TEST_P(RdbOfAServer, that_was_told_to_write_no_checksum_is_read_and_says_so) {
  TestServer server(GetParam(), {"--rdbchecksum", "no"});
  fill_at_random(server, 8, 20);
  const Result<RdbSummary> read = read_whole(saved(server));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->checksum, RdbSummary::Checksum::kOff);
  EXPECT_EQ(keys_of(*read), server.keys());
}

INSTANTIATE_TEST_SUITE_P(Servers, RdbOfAServer, testing::ValuesIn(test_server_names()),
                         [](const auto& of) { return of.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RdbOfAServer);

}  // namespace
}  // namespace kuramori::redis
