// What BASE_BACKUP sends, taken apart: the archives, the manifest, the command for each version.
#include "source/postgres/base_backup.h"

#include <gtest/gtest.h>

#include "codec/crc32c.h"
#include "source/postgres/backup_manifest.h"
#include "source/postgres/file_list.h"
#include "source/postgres/tar_stream.h"

namespace kuramori::postgres {
namespace {

// As tarCreateHeader() writes it.
Bytes header(std::string_view name, char type, uint64_t size, std::string_view link = {}) {
  Bytes block(kTarBlockBytes);
  const auto put = [&](size_t at, std::string_view text) { std::ranges::copy(text, block.begin() + at); };
  put(0, name);
  put(100, "0000600 ");
  put(108, "0000152 ");
  put(116, "0000153 ");
  if (size > 077777777777) {
    block[124] = 0x80;
    for (int i = 11; i > 0; --i, size >>= 8) block[124 + i] = static_cast<uint8_t>(size);
  } else {
    put(124, fmt::format("{:011o} ", size));
  }
  put(136, "14677130455 ");
  block[156] = static_cast<uint8_t>(type);
  put(157, link);
  put(257, std::string_view("ustar\00000", 8));
  put(148, "        ");
  uint64_t sum = 0;
  for (const uint8_t byte : block) sum += byte;
  put(148, fmt::format("{:06o} ", sum));
  block[155] = 0;
  put(155, " ");
  return block;
}

Bytes file(std::string_view name, std::string_view content) {
  Bytes bytes = header(name, '0', content.size());
  append(bytes, as_bytes(content));
  bytes.resize((bytes.size() + 511) / 512 * 512);
  return bytes;
}

class Seen final : public TarReceiver {
 public:
  Result<void> entry(const TarEntry& entry) override {
    text += fmt::format("{}:{}:{}{};", entry.name, static_cast<int>(entry.type), entry.size,
                        entry.link.empty() ? "" : "->" + entry.link);
    return {};
  }
  Result<void> data(ByteView bytes) override {
    EXPECT_FALSE(bytes.empty());
    text += as_text(bytes);
    return {};
  }
  Result<void> end() override {
    text += ".";
    return {};
  }
  std::string text;
};

Result<std::string> taken_apart(ByteView archive, size_t part) {
  Seen seen;
  TarStream stream;
  for (size_t at = 0; at < archive.size(); at += part)
    TRY(stream.feed(archive.subspan(at, std::min(part, archive.size() - at)), seen));
  TRY(stream.finish());
  return seen.text;
}

Bytes sample() {
  Bytes archive = file("backup_label", "START WAL LOCATION");
  append(archive, header("base/", '5', 0));
  append(archive, file("base/5/empty", ""));
  append(archive, header("pg_tblspc/16400", '2', 0, "/srv/space one"));
  append(archive, file("base/5/16384", std::string(512, 'x')));
  return archive;
}

// The same however the wire cuts it, and with or without the end that only 15 and newer write.
TEST(BaseBackup, an_archive_is_taken_apart_wherever_it_is_cut) {
  const std::string wanted =
      "backup_label:2:18;START WAL LOCATION.base:1:0;.base/5/empty:2:0;.pg_tblspc/16400:3:0->/srv/space one;."
      "base/5/16384:2:512;" +
      std::string(512, 'x') + ".";
  for (const size_t zeros : {0u, 1024u}) {
    Bytes archive = sample();
    archive.resize(archive.size() + zeros);
    for (const size_t part : {1u, 7u, 511u, 512u, 513u, 100000u}) {
      auto text = taken_apart(archive, part);
      ASSERT_TRUE(text) << text.error().what << text.error().why;
      EXPECT_EQ(*text, wanted) << part;
    }
  }
}

TEST(BaseBackup, an_archive_that_is_cut_short_or_changed_is_refused) {
  const Bytes archive = sample();
  for (size_t length = 1; length < archive.size(); ++length) {
    const auto text = taken_apart(ByteView(archive).first(length), 4096);
    // At the end of a file it is an archive: what is missing then, the manifest tells.
    EXPECT_TRUE(!text || length % kTarBlockBytes == 0) << length;
  }
  for (size_t at = 0; at < kTarBlockBytes; ++at) {
    Bytes changed = archive;
    changed[at] ^= 0x40;
    EXPECT_FALSE(taken_apart(changed, 4096)) << at;
  }
  Bytes behind(1024);
  append(behind, archive);
  EXPECT_FALSE(taken_apart(behind, 4096));
}

TEST(BaseBackup, sizes_past_8_GiB_are_read) {
  const auto entry = parse_tar_header(header("base/5/large", '0', uint64_t{9} << 30));
  ASSERT_TRUE(entry && *entry) << entry.error().why;
  EXPECT_EQ((*entry)->size, uint64_t{9} << 30);
  EXPECT_EQ((*entry)->mode, 0600u);
  EXPECT_EQ((*entry)->uid, 0152u);
  EXPECT_FALSE(parse_tar_header(header("x", '0', uint64_t{1} << 60)));
  EXPECT_FALSE(parse_tar_header(header("x", '1', 0)));  // a hard link
  EXPECT_FALSE(parse_tar_header(header("x", '5', 12)));
}

std::string manifest_of(std::string_view files, bool right = true) {
  std::string text = fmt::format(
      "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7,\n\"Files\": "
      "[\n{}\n],\n\"WAL-Ranges\": [\n"
      "{{ \"Timeline\": 3, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n",
      files);
  const std::string digest = sha256(as_bytes(text)).hex();
  return text + fmt::format("\"Manifest-Checksum\": \"{}\"}}\n", right ? digest : std::string(64, '0'));
}

TEST(BaseBackup, a_manifest_is_read_wherever_it_is_cut_and_its_checksum_counts) {
  const std::string text = manifest_of(
      "{ \"Path\": \"base/5/16384\", \"Size\": 8192, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", "
      "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"9e6e0a1c\" },\n"
      "{ \"Encoded-Path\": \"ff2f\", \"Size\": 0, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\" }");
  for (const size_t part : {1u, 30u, 10000u}) {
    std::vector<ManifestFile> files;
    BackupManifest manifest([&](const ManifestFile& file) -> Result<void> {
      files.push_back(file);
      return {};
    });
    for (size_t at = 0; at < text.size(); at += part)
      ASSERT_TRUE(manifest.feed(as_bytes(std::string_view(text).substr(at, part))));
    ASSERT_TRUE(manifest.finish());
    ASSERT_EQ(files.size(), 2u);
    EXPECT_EQ(files[0].path, "base/5/16384");
    EXPECT_EQ(files[0].checksum, "9e6e0a1c");
    EXPECT_EQ(files[1].path, "\xff/");
    ASSERT_EQ(manifest.wal().size(), 1u);
    EXPECT_EQ(manifest.wal()[0].end, 0x2000100u);
  }
  for (const std::string& wrong :
       {manifest_of("", false), text.substr(0, text.size() - 1), text + "{}\n",
        manifest_of("{ \"Path\": \"x\" }"), manifest_of("{ \"Path\": \"x\", \"Size\": 1e55 }"),
        manifest_of("{ \"Path\": \"x\", \"Size\": -1 }"), manifest_of("{ \"Path\": \"x\", \"Size\": \"9\" }"),
        std::string("{}\n")}) {
    BackupManifest manifest([](const ManifestFile&) -> Result<void> { return {}; });
    EXPECT_FALSE(manifest.feed(as_bytes(wrong)) && manifest.finish()) << wrong;
  }
}

// What a server is told of the snapshot before; read back, it is what was meant.
TEST(BaseBackup, a_manifest_that_is_written_can_be_read) {
  for (const size_t files : {1u, 3u}) {
    ManifestWriter writer(77, {.timeline = 3, .start = 0x2000028, .end = 0x2000028});
    std::string text = writer.head();
    for (size_t i = 0; i < files; ++i) text += writer.file(fmt::format("base/5/{}\"", i), i * 8192);
    text += writer.tail();
    EXPECT_NE(text.find("\"System-Identifier\": 77,"), std::string::npos);
    size_t seen = 0;
    BackupManifest manifest([&](const ManifestFile& file) -> Result<void> {
      EXPECT_EQ(file.path, fmt::format("base/5/{}\"", seen));
      EXPECT_EQ(file.size, seen++ * 8192);
      return {};
    });
    const auto fed = manifest.feed(as_bytes(text));
    ASSERT_TRUE(fed) << fed.error().why;
    ASSERT_TRUE(manifest.finish());
    EXPECT_EQ(seen, files);
    EXPECT_EQ(manifest.wal()[0].start, 0x2000028u);
    EXPECT_EQ(manifest.wal()[0].timeline, 3u);
  }
}

// "123456789" has the CRC-32C e3069283; the manifest has its bytes as a little machine stores them.
TEST(BaseBackup, a_checksum_is_written_as_the_server_writes_it) {
  EXPECT_EQ(manifest_crc32c(crc32c(as_bytes(std::string_view("123456789")))), "839206e3");
}

TEST(BaseBackup, the_command_is_the_one_of_the_servers_version) {
  BaseBackupOptions options{.label = "it's", .bytes_per_second = 10u << 20};
  EXPECT_EQ(base_backup_command(140011, options),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MAX_RATE 10240 TABLESPACE_MAP MANIFEST 'yes' "
            "MANIFEST_CHECKSUMS 'CRC32C'");
  EXPECT_EQ(
      base_backup_command(170002, options),
      "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT false, MAX_RATE 10240, TABLESPACE_MAP, "
      "MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS true)");
  BaseBackupOptions changes = options;
  changes.older_manifest = [](const BaseBackupOptions::Send&) -> Result<void> { return {}; };
  EXPECT_TRUE(base_backup_command(170002, changes).ends_with("VERIFY_CHECKSUMS true, INCREMENTAL)"));
  options.bytes_per_second = 1;  // the server's least
  EXPECT_NE(base_backup_command(170002, options).find("MAX_RATE 32,"), std::string::npos);
}

// What the server sends and a capture on the host leaves out is left out here too.
TEST(BaseBackup, the_same_is_left_out_as_on_the_host) {
  for (const char* path :
       {"postmaster.pid", "standby.signal", "global/pg_control", "base/pgsql_tmp/x", "base/5/t3_16384",
        "pg_wal/000000010000000000000001", "pg_wal/archive_status/x.done", "pg_replslot/a/state",
        "global/pg_internal.init", "pg_notify/0000", "pg_tblspc/16400/PG_17_1/5/t3_16384"})
    EXPECT_TRUE(is_left_out(path)) << path;
  for (const char* path :
       {"PG_VERSION", "base", "base/5/16384", "base/5/16384_init", "pg_wal", "pg_wal/archive_status",
        "pg_wal/summaries", "pg_replslot", "pg_xact/0000", "postgresql.auto.conf", "log"})
    EXPECT_FALSE(is_left_out(path)) << path;
  CaptureFile file;
  file.entry.path = "pg_tblspc/16400/PG_17_1/5/16384.1";
  file.entry.size = 3 * 8192 + 100;
  describe_relation_file(file, 8192);
  EXPECT_EQ(file.entry.size, 3u * 8192);
  EXPECT_EQ(file.first_block, 131072u);
  EXPECT_EQ(file.relation.tablespace, 16400u);
}

}  // namespace
}  // namespace kuramori::postgres
