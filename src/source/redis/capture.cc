// The captures: an RDB over the wire or from the server's folder, or its append-only files.
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "source/redis/aof.h"
#include "source/redis/redis_source.h"
#include "source/redis/replication.h"
#include "source/redis/save.h"

namespace kuramori::redis {
namespace {

constexpr size_t kReadStepBytes = 256 << 10;

using Facts = std::map<std::string, std::string>;

Result<void> go_on(const std::stop_token& stop) {
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the snapshot was asked to stop");
  return {};
}

CaptureItem item_of(std::string path, EntryType type, uint64_t size) {
  CaptureItem item;
  item.entry.path = std::move(path);
  item.entry.type = type;
  item.entry.content = type == EntryType::kFile ? ContentKind::kBytes : ContentKind::kNone;
  item.entry.mode = type == EntryType::kFile ? 0600 : 0700;
  item.entry.uid = ::geteuid();
  item.entry.gid = ::getegid();
  item.entry.mtime_ns = to_unix_ns(system_clock().now());
  item.entry.size = size;
  return item;
}

void add_version(Facts& facts, const ServerVersion& version) {
  if (version.text.empty()) return;
  facts["flavour"] = name_of(version.flavour);
  facts["server_version"] = version.text;
}

// What the server wrote into the RDB about itself: known also to a user who may not ask for INFO.
ServerVersion version_of(const RdbSummary& summary) {
  if (auto at = summary.aux.find("valkey-ver"); at != summary.aux.end())
    return parse_version(Flavour::kValkey, at->second);
  if (auto at = summary.aux.find("redis-ver"); at != summary.aux.end())
    return parse_version(Flavour::kRedis, at->second);
  return {};
}

void add_summary(Facts& facts, const RdbSummary& summary) {
  facts["rdb_version"] = std::to_string(summary.version);
  facts["bytes"] = std::to_string(summary.bytes);
  facts["checksum"] = name_of(summary.checksum);
  facts["keys"] = std::to_string(summary.keys());
  facts["expiring"] = std::to_string(summary.expiring());
  facts["functions"] = std::to_string(summary.functions);
  for (const auto& [database, counts] : summary.databases) {
    if (counts.keys > 0) facts[fmt::format("keys.db{}", database)] = std::to_string(counts.keys);
  }
  for (const auto& [type, count] : summary.types) facts["type." + type] = std::to_string(count);
}

// --- an RDB ----------------------------------------------------------------------------------------------

class RdbCapture : public TreeCapture {
 public:
  RdbCapture(RedisSettings settings, Endpoint endpoint, Connection connection, ServerVersion version,
             Reporter& reporter, std::stop_token stop)
      : settings_(std::move(settings)),
        endpoint_(std::move(endpoint)),
        connection_(std::move(connection)),
        version_(std::move(version)),
        reporter_(reporter),
        stop_(std::move(stop)) {}

  Result<std::optional<CaptureItem>> next() override {
    TRY(go_on(stop_));
    switch (given_++) {
      case 0:
        return std::optional(item_of("", EntryType::kDirectory, 0));
      case 1:
        return std::optional(item_of(std::string(kDumpName), EntryType::kFile, 0));
      default:
        return std::optional<CaptureItem>();
    }
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    std::lock_guard hold(mutex_);
    if (item.entry.path != kDumpName) return fail(ErrorKind::kUsage, "a snapshot of Redis has no such entry");
    whole_ = false;
    facts_.clear();
    TRY(read_in_the_way(sink));
    item.entry.size = bytes_;
    item.entry.mtime_ns = to_unix_ns(system_clock().now());
    whole_ = true;
    return {};
  }

  Result<void> finish() override {
    TRY(go_on(stop_));
    std::lock_guard hold(mutex_);
    if (whole_) return {};
    return fail(ErrorKind::kFailed, "the RDB of the server was not read to its end");
  }

  std::vector<Defect> defects() const override { return {}; }
  Facts facts() const override { return facts_; }

 private:
  Result<void> read_in_the_way(ContentSink& sink) {
    if (settings_.way == Way::kSave) return read_saved(sink);
    Result<void> streamed = read_stream(sink);
    const bool may_save = settings_.way == Way::kAuto && !settings_.data_dir.empty();
    if (streamed || !may_save || streamed.error().kind != ErrorKind::kDenied) return streamed;
    reporter_.note(
        fmt::format("{}; taking dump.rdb from {} instead", streamed.error().what, settings_.data_dir));
    TRY(sink.restart());
    TRY_ASSIGN(connection_, Connection::open(endpoint_, stop_));
    return read_saved(sink);
  }

  Result<void> read_stream(ContentSink& sink) {
    RdbReader reader;
    TRY_ASSIGN(
        const RdbTransfer transfer,
        stream_rdb(connection_, reader, [&](ByteView bytes) { return sink.add(bytes); }, reporter_, stop_));
    facts_["way"] = "replication";
    facts_["replication_id"] = transfer.replication_id;
    facts_["replication_offset"] = std::to_string(transfer.offset);
    return note(reader.summary());
  }

  Result<void> read_saved(ContentSink& sink) {
    TRY_ASSIGN(const Fd fd, save_and_open(connection_, settings_.data_dir, reporter_, stop_));
    RdbReader reader;
    Bytes buffer(kReadStepBytes);
    for (uint64_t at = 0;;) {
      TRY(go_on(stop_));
      TRY_ASSIGN(const size_t got, pread_some(fd, at, buffer, kDumpName));
      if (got == 0) break;
      const ByteView piece = ByteView(buffer).first(got);
      TRY_ASSIGN(const size_t used, reader.push(piece));
      if (used < got) return fail(ErrorKind::kDamaged, "something follows the end of the RDB in its file");
      TRY(sink.add(piece));
      reporter_.advance(got);
      at += got;
    }
    TRY(reader.finish());
    facts_["way"] = "save";
    return note(reader.summary());
  }

  Result<void> note(const RdbSummary& summary) {
    add_version(facts_, version_.text.empty() ? version_of(summary) : version_);
    add_summary(facts_, summary);
    bytes_ = summary.bytes;
    if (summary.checksum == RdbSummary::Checksum::kOff) {
      reporter_.warning(
          fmt::format("{} writes no checksums: flipped bits in values cannot be noticed; CONFIG cannot "
                      "change that, set \"rdbchecksum yes\" in its configuration and restart it",
                      endpoint_.describe()));
    }
    return {};
  }

  const RedisSettings settings_;
  const Endpoint endpoint_;
  Connection connection_;
  const ServerVersion version_;  // "" where it may not be asked for
  Reporter& reporter_;
  std::stop_token stop_;
  int given_ = 0;
  std::mutex mutex_;  // one connection: one reader at a time
  bool whole_ = false;
  uint64_t bytes_ = 0;
  Facts facts_;
};

// --- append-only files -------------------------------------------------------------------------------------

// What the server counts, and a mark that moves with every change: not all versions move the replication
// offset when nobody replicates.
struct Count {
  std::map<uint64_t, uint64_t> keys;
  std::string mark;
  Info info;
};

Result<Count> count_keys(Connection& connection) {
  Count count;
  TRY_ASSIGN(count.info, read_info(connection));
  count.keys = keys_in(count.info);
  for (const char* name : {"master_repl_offset", "aof_current_size", "aof_buffer_length"})
    count.mark += text_in(count.info, name) + "/";
  return count;
}

class AofCapture : public TreeCapture {
 public:
  AofCapture(OpenAof aof, Facts facts, Reporter& reporter, std::stop_token stop)
      : aof_(std::move(aof)), facts_(std::move(facts)), reporter_(reporter), stop_(std::move(stop)) {
    items_.push_back(item_of("", EntryType::kDirectory, 0));
    items_.push_back(item_of(std::string(kAofFolder), EntryType::kDirectory, 0));
    std::vector<AofFile> files;
    uint64_t bytes = 0;
    for (const OpenAofFile& file : aof_.files) {
      items_.push_back(item_of(path_of(file.file.name), EntryType::kFile, file.size));
      files.push_back(file.file);
      bytes += file.size;
    }
    manifest_ = write_manifest(files);
    items_.push_back(item_of(path_of(aof_.manifest_name), EntryType::kFile, manifest_.size()));
    std::sort(items_.begin(), items_.end(), [](const CaptureItem& a, const CaptureItem& b) {
      return tree_order(a.entry.path, b.entry.path);
    });
    facts_["bytes"] = std::to_string(bytes);
    to_read_ = aof_.files.size() + 1;
    reporter_.phase("copying", bytes);
  }

  Result<std::optional<CaptureItem>> next() override {
    TRY(go_on(stop_));
    if (given_ == items_.size()) return std::optional<CaptureItem>();
    return std::optional(items_[given_++]);
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (item.entry.path == path_of(aof_.manifest_name)) {
      TRY(sink.add(as_bytes(manifest_)));
      --to_read_;
      return {};
    }
    for (const OpenAofFile& file : aof_.files) {
      if (item.entry.path != path_of(file.file.name)) continue;
      TRY(copy(file, sink));
      --to_read_;
      return {};
    }
    return fail(ErrorKind::kUsage, "a snapshot of Redis has no such entry");
  }

  Result<void> finish() override {
    TRY(go_on(stop_));
    if (to_read_ == 0) return {};
    return fail(ErrorKind::kFailed, "not all append-only files were read to their end");
  }

  std::vector<Defect> defects() const override { return {}; }
  Facts facts() const override {
    std::lock_guard hold(mutex_);
    return facts_;
  }

 private:
  static std::string path_of(const std::string& name) { return join_path(kAofFolder, name); }

  // A base is an RDB, perhaps followed by commands; all else is commands.
  Result<void> copy(const OpenAofFile& file, ContentSink& sink) {
    RdbReader rdb;
    CommandReader commands;
    bool in_rdb = file.file.is_rdb();
    Bytes buffer(kReadStepBytes);
    for (uint64_t at = 0; at < file.size;) {
      TRY(go_on(stop_));
      const size_t step = static_cast<size_t>(std::min<uint64_t>(buffer.size(), file.size - at));
      TRY(pread_full(file.fd, at, MutableByteView(buffer).first(step), file.file.name));
      ByteView piece = ByteView(buffer).first(step);
      TRY(sink.add(piece));
      reporter_.advance(step);
      at += step;
      if (in_rdb) {
        TRY_ASSIGN(const size_t used, rdb.push(piece));
        piece = piece.subspan(used);
        in_rdb = !rdb.at_end();
      }
      if (!in_rdb) TRY(commands.push(piece));
    }
    if (file.file.is_rdb()) TRY(rdb.finish());
    std::lock_guard hold(mutex_);
    if (file.file.is_rdb()) {
      facts_["rdb_version"] = std::to_string(rdb.summary().version);
      facts_["checksum"] = name_of(rdb.summary().checksum);
    }
    commands_ += commands.commands();
    facts_["commands"] = std::to_string(commands_);
    return {};
  }

  OpenAof aof_;
  Facts facts_;
  Reporter& reporter_;
  std::stop_token stop_;
  std::vector<CaptureItem> items_;
  std::string manifest_;
  size_t given_ = 0;
  std::atomic<size_t> to_read_ = 0;
  mutable std::mutex mutex_;
  uint64_t commands_ = 0;
};

}  // namespace

Result<std::unique_ptr<TreeCapture>> capture_rdb(const RedisSettings& settings, Reporter& reporter,
                                                 std::stop_token stop) {
  TRY_ASSIGN(Endpoint endpoint, endpoint_of(settings));
  TRY_ASSIGN(Connection connection, Connection::open(endpoint, stop));
  // INFO is a comfort and not a condition: the RDB says which server wrote it.
  const Result<Info> info = read_info(connection, "server");
  const bool forbidden = !info && info.error().next.starts_with("ACL ");
  if (!info && !forbidden && info.error().kind != ErrorKind::kUnknown) return info.error();
  return std::unique_ptr<TreeCapture>(new RdbCapture(settings, std::move(endpoint), std::move(connection),
                                                     info ? version_in(*info) : ServerVersion{}, reporter,
                                                     std::move(stop)));
}

Result<std::unique_ptr<TreeCapture>> capture_aof(const RedisSettings& settings, Reporter& reporter,
                                                 std::stop_token stop) {
  TRY_ASSIGN(const Endpoint endpoint, endpoint_of(settings));
  TRY_ASSIGN(Connection connection, Connection::open(endpoint, stop));
  TRY_ASSIGN(const Count before, count_keys(connection));
  const ServerVersion version = version_in(before.info);
  if (text_in(before.info, "aof_enabled") != "1") {
    return fail(ErrorKind::kFailed, fmt::format("{} writes no append-only file", endpoint.describe()),
                "appendonly is no", "leave aof: true out, or type: CONFIG SET appendonly yes");
  }
  if (version.flavour == Flavour::kRedis && version.major < 7) {
    return fail(ErrorKind::kRefused,
                fmt::format("the append-only file of Redis {} is a single one", version.text),
                "it is replaced while it is read; folders with a manifest come with 7",
                "leave aof: true out: the RDB holds the same keys");
  }
  std::string folder = setting_of(connection, "appenddirname"),
              name = setting_of(connection, "appendfilename");
  if (folder.empty()) folder = kAofFolder;
  if (name.empty()) name = "appendonly.aof";
  TRY_ASSIGN(OpenAof aof, open_aof(join_path(settings.data_dir, folder), name));
  TRY_ASSIGN(const Count after, count_keys(connection));
  Facts facts{{"way", "aof"}};
  add_version(facts, version);
  facts["replication_offset"] = text_in(after.info, "master_repl_offset");
  facts["replication_id"] = text_in(after.info, "master_replid");
  // Written to meanwhile, the count is of a moment close by, and a drill does not hold the copy to it.
  facts["counted"] = before.mark == after.mark && before.keys == after.keys ? "exactly" : "about";
  uint64_t keys = 0;
  for (const auto& [database, count] : after.keys) {
    facts[fmt::format("keys.db{}", database)] = std::to_string(count);
    keys += count;
  }
  facts["keys"] = std::to_string(keys);
  return std::unique_ptr<TreeCapture>(
      new AofCapture(std::move(aof), std::move(facts), reporter, std::move(stop)));
}

}  // namespace kuramori::redis
