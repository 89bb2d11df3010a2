#include "source/redis/layout.h"

#include <fmt/core.h>

#include <optional>

#include "os/file.h"
#include "source/redis/redis_source.h"

namespace kuramori::redis {
namespace {

constexpr size_t kReadStepBytes = 256 << 10;

// Into a file, judged on the way where it is an RDB.
class FileSink : public ContentSink {
 public:
  FileSink(Fd fd, std::string name, RdbReader* reader, Reporter& reporter, std::stop_token stop)
      : fd_(std::move(fd)),
        name_(std::move(name)),
        reader_(reader),
        reporter_(reporter),
        stop_(std::move(stop)) {}

  Result<void> add(ByteView bytes) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
    if (reader_ != nullptr && !reader_->at_end()) {
      TRY_ASSIGN(const size_t used, reader_->push(bytes));
      after_ += bytes.size() - used;
    } else {
      after_ += bytes.size();
    }
    TRY(write_full(fd_, bytes, name_));
    reporter_.advance(bytes.size());
    bytes_ += bytes.size();
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    const Bytes zeros(static_cast<size_t>(std::min<uint64_t>(bytes, kReadStepBytes)));
    for (uint64_t left = bytes; left > 0;) {
      const size_t step = static_cast<size_t>(std::min<uint64_t>(left, zeros.size()));
      TRY(add(ByteView(zeros).first(step)));
      left -= step;
    }
    return {};
  }
  Result<void> restart() override {
    return fail(ErrorKind::kFailed, "a snapshot's content does not begin again");
  }

  Result<void> end() {
    TRY(sync_file(fd_, name_));
    return fd_.close();
  }
  uint64_t bytes() const { return bytes_; }
  uint64_t after() const { return after_; }  // bytes that follow the RDB

 private:
  Fd fd_;
  std::string name_;
  RdbReader* reader_;
  Reporter& reporter_;
  std::stop_token stop_;
  uint64_t bytes_ = 0, after_ = 0;
};

class Layer {
 public:
  Layer(const CapturedTree& tree, const std::string& folder, Reporter& reporter, std::stop_token stop)
      : tree_(tree), folder_(folder), reporter_(reporter), stop_(std::move(stop)) {}

  Result<Layout> run() {
    layout_.read_at_ms = now_ms();
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
    TRY(tree_.visit([&](const TreeEntry& entry) { return lay(entry); }));
    if (files_ == 0)
      return fail(ErrorKind::kRefused, "the snapshot holds neither dump.rdb nor append-only files");
    auto flavour = tree_.facts().find("flavour");
    if (flavour != tree_.facts().end() && flavour->second == name_of(Flavour::kValkey))
      layout_.flavour = Flavour::kValkey;
    TRY(sync_folder(folder_));
    return layout_;
  }

 private:
  Result<void> lay(const TreeEntry& entry) {
    ++layout_.entries;
    if (entry.type == EntryType::kDirectory) {
      if (entry.path.empty()) return {};
      if (entry.path != kAofFolder) return foreign(entry);
      return make_folders(join_path(folder_, entry.path));
    }
    const std::string above = std::string(kAofFolder) + "/";
    const bool in_aof =
        entry.path.starts_with(above) && entry.path.find('/', above.size()) == std::string::npos;
    if (entry.type != EntryType::kFile || (entry.path != kDumpName && !in_aof)) return foreign(entry);
    layout_.aof = in_aof;
    const bool is_rdb = entry.path.ends_with(".rdb");
    const std::string path = join_path(folder_, entry.path);
    TRY_ASSIGN(Fd fd, open_file(path, O_WRONLY | O_CREAT | O_EXCL));
    RdbReader reader(layout_.read_at_ms);
    FileSink sink(std::move(fd), path, is_rdb ? &reader : nullptr, reporter_, stop_);
    TRY(tree_.read(entry.path, sink));
    if (is_rdb) {
      TRY(reader.finish());
      // Commands may follow the RDB in a base of append-only files, and nothing in a dump.rdb.
      if (!in_aof && sink.after() > 0)
        return fail(ErrorKind::kDamaged, "something follows the end of the RDB");
      layout_.rdb = reader.summary();
      layout_.rdb_version = reader.summary().version;
    }
    TRY(sink.end());
    ++files_;
    layout_.bytes += sink.bytes();
    return {};
  }

  Error foreign(const TreeEntry& entry) const {
    return fail(ErrorKind::kRefused,
                fmt::format("the snapshot holds \"{}\", which is none of a Redis", entry.path));
  }

  const CapturedTree& tree_;
  const std::string& folder_;
  Reporter& reporter_;
  std::stop_token stop_;
  size_t files_ = 0;
  Layout layout_;
};

}  // namespace

int64_t now_ms() {
  return to_unix_ns(system_clock().now()) / 1'000'000;
}

Result<Layout> lay_out(const CapturedTree& tree, const std::string& folder, Reporter& reporter,
                       std::stop_token stop) {
  return Layer(tree, folder, reporter, std::move(stop)).run();
}

Result<RdbSummary> count_again(const std::string& folder, int64_t now) {
  const std::string path = join_path(folder, kDumpName);
  TRY_ASSIGN(const Fd fd, open_file(path));
  RdbReader reader(now);
  Bytes buffer(kReadStepBytes);
  for (uint64_t at = 0; !reader.at_end();) {
    TRY_ASSIGN(const size_t got, pread_some(fd, at, buffer, path));
    if (got == 0) break;
    TRY(reader.push(ByteView(buffer).first(got)));
    at += got;
  }
  TRY(reader.finish());
  return reader.summary();
}

Result<std::map<uint64_t, uint64_t>> count_keys(Connection& connection) {
  TRY_ASSIGN(const Info info, read_info(connection, "keyspace"));
  return keys_in(info);
}

}  // namespace kuramori::redis
