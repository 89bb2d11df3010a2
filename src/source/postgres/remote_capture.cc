// A capture without the host's files: the server reads them and sends them (BASE_BACKUP). What holds on the
// host holds here in the server's hands: its checkpoint comes first, its files after it, pg_control last, and
// the backup ends only then. WAL from start to stop comes over the same protocol, held by a slot of the SQL
// connection.
//
// Two things are different. The files are not known before they come, and have no inodes: what tells that one
// is still the base's is the WAL alone (engine/changes_since.h), which names files that were made, cut,
// copied or dropped. And a page that looks torn cannot be read again: the server does that before it sends
// it.
//
// What came is held against the server's manifest, file by file: size and CRC.
//
// From 17 on the server can send of a relation file only the blocks that changed since an older backup, by
// its WAL summaries. That is a second opinion about the same history, and so neither is believed alone: every
// block that the WAL's own records name (Skip) must be among those that come, or the copy fails; one that
// comes although they do not name it is judged by its LSN. What did not come is the base's, and behind that
// one's end zero, as the server itself fills what was only extended.
#include <algorithm>

#include "base/check.h"
#include "codec/crc32c.h"
#include "codec/page_checksum.h"
#include "conc/task_group.h"
#include "os/file.h"
#include "source/postgres/backup_label.h"
#include "source/postgres/backup_manifest.h"
#include "source/postgres/base_backup.h"
#include "source/postgres/capture_start.h"
#include "source/postgres/file_list.h"
#include "source/postgres/incremental_file.h"
#include "source/postgres/remote_pages.h"
#include "source/postgres/remote_wal.h"
#include "source/postgres/tar_stream.h"

namespace kuramori::postgres {
namespace {

constexpr unsigned kWorkersMax = 64;
constexpr size_t kHeldFileBytesMax = 16u << 20;   // of backup_label, tablespace_map and pg_control
constexpr size_t kManifestPartBytes = 64u << 10;  // of the one that is sent, at once
constexpr uint32_t kChangesFrom = 170000;         // PG_VERSION_NUM: can send changes alone
constexpr std::string_view kIncrementalLine = "INCREMENTAL FROM ";

// Held back until the end: recovery begins by them.
constexpr std::string_view kLabel = "backup_label", kMap = "tablespace_map", kControl = "global/pg_control";

// As the checks of a capture on the host want it: what of pg_control can be asked for.
Result<ControlFile> asked_control(Connection& connection) {
  TRY_ASSIGN(const QueryResult row,
             connection.query("SELECT i.database_block_size, i.blocks_per_segment, i.bytes_per_wal_segment,"
                              " i.data_page_checksum_version, c.full_page_writes, c.timeline_id"
                              " FROM pg_control_init() i, pg_control_checkpoint() c"));
  if (row.rows() != 1) return fail(ErrorKind::kFailed, "the server does not show its pg_control");
  ControlFile control;
  const auto number = [&](size_t column, uint32_t& to) -> Result<void> {
    TRY_ASSIGN(const int64_t value, row.number(0, column));
    to = static_cast<uint32_t>(value);
    return {};
  };
  TRY(number(0, control.block_bytes));
  TRY(number(1, control.blocks_per_file));
  TRY(number(2, control.segment_bytes));
  TRY(number(3, control.checksum_version));
  control.full_page_writes = row.is_true(0, 4);
  TRY(number(5, control.timeline));
  return control;
}

class RemoteCapture final : public Capture, private TarReceiver {
 public:
  RemoteCapture(const CaptureOptions& options, Connection connection, Clock& clock, Reporter& reporter)
      : options_(options), connection_(std::move(connection)), clock_(clock), reporter_(reporter) {}

  Result<void> prepare();

  const CaptureStart& start() const override { return start_; }
  const std::vector<CaptureFile>& files() const override { return files_; }
  std::vector<CaptureFile> take_files() override { return std::move(files_); }
  Result<std::vector<PageLook>> look_at(std::span<const PagePlace>) override {
    return fail(ErrorKind::kRefused, "pages cannot be looked at over the replication protocol");
  }
  Result<void> copy(const SkipRule& skip, const LaneFactory& lanes) override;
  Result<CaptureEnd> finish(CaptureLane& lane) override;
  Result<Bytes> wal_segment(std::string_view name) override;
  Result<Bytes> wal_segment_so_far(std::string_view name) override;
  ReadEarlierWal earlier_wal() override;
  bool was_contradicted() const override { return contradicted_ || (pages_ && pages_->contradicted()); }
  bool must_be_whole() const override { return unclear_; }

 private:
  // What arrived of a file, to be held against the manifest.
  struct Arrived {
    uint64_t size = 0;
    uint32_t crc = 0;
    bool confirmed = false;
  };

  Result<void> entry(const TarEntry& entry) override;
  Result<void> data(ByteView bytes) override;
  Result<void> end() override;

  // Of an INCREMENTAL. file.
  struct Changes {
    IncrementalReader reader;
    size_t next = 0;  // of the header's blocks
  };

  Result<void> begin_backup();
  std::string why_not_changes() const;
  Result<void> send_older(const BaseBackupOptions::Send& send);

  Result<void> receive(const std::stop_token& stop);
  Result<void> begin_archive(uint32_t tablespace);
  void begin_file(const TarEntry& entry, std::string path);
  std::optional<std::string> file_of_changes(const std::string& path) const;
  Result<void> changes(ByteView bytes);
  Result<void> leave_to_base(uint32_t until);
  Result<void> give_zeros(uint32_t until);
  Error not_all(std::string why);
  Error unclear();
  void add(const TarEntry& entry, std::string path);
  Result<void> hand_over();
  Result<void> confirm(const ManifestFile& file);
  Result<void> check_arrived();
  Result<std::string> label_of_a_whole() const;
  std::string tablespaces_mapped();
  Result<void> add_held(CaptureLane& lane, std::string_view path, ByteView bytes);

  const CaptureOptions options_;
  Connection connection_;
  Clock& clock_;
  Reporter& reporter_;
  ServerFacts facts_;
  CaptureStart start_;
  std::optional<BaseBackup> backup_;
  std::vector<CaptureFile> files_;
  std::unique_ptr<RemotePages> pages_;
  const SkipRule* skip_ = nullptr;
  std::vector<OlderFile> older_files_;

  // Of the one who receives.
  TarStream archive_;
  BackupManifest manifest_{[this](const ManifestFile& file) { return confirm(file); }};
  std::string prefix_;            // of the archive's names
  std::string path_;              // of the file that is coming
  uint64_t size_ = 0, left_ = 0;  // of it: all, and what of it is kept and has not come
  uint32_t crc_ = 0, next_page_ = 0;
  bool is_file_ = false;
  Bytes* held_ = nullptr;             // it goes here
  std::shared_ptr<RemoteFile> file_;  // or to the workers: shared with its blocks
  std::optional<Changes> changes_;    // of that one only these come
  Bytes block_;
  std::map<std::string, Bytes, std::less<>> held_files_;
  TarEntry control_entry_;
  std::unordered_map<std::string, Arrived> arrived_;
  std::set<std::string> left_out_;  // folders that the settings name, inside
  uint64_t bytes_ = 0, relation_bytes_ = 0;
  bool makes_map_ = false;  // tablespace_map, here and not by the server
  bool copied_ = false;
  uint64_t left_to_base_ = 0;  // pages that did not come
  bool contradicted_ = false, unclear_ = false;
};

Result<void> RemoteCapture::prepare() {
  TRY_ASSIGN(facts_, read_server_facts(connection_));
  TRY_ASSIGN(const ControlFile control, asked_control(connection_));
  TRY(check_can_be_captured(facts_, control));
  if (!facts_.may_replicate) {
    return fail(ErrorKind::kDenied, fmt::format("role '{}' may not take a base backup", facts_.role),
                "it lacks REPLICATION, by which the server sends its files",
                fmt::format("psql -c 'ALTER ROLE {} REPLICATION'", connection_.quoted_name(facts_.role)));
  }
  start_.on_host = false;
  describe_server(facts_, control, start_);
  start_.every_change_moves_lsn = control.checksum_version != 0 || facts_.setting("wal_log_hints") == "on";
  start_.data_directory = facts_.data_directory;
  start_.started_ns = to_unix_ns(clock_.now());
  for (const char* name : {"log_directory", "stats_temp_directory"}) {
    std::string folder = facts_.setting(name);
    if (folder.starts_with(facts_.data_directory + "/")) folder.erase(0, facts_.data_directory.size() + 1);
    if (!folder.empty() && !folder.starts_with('/') && folder.find('/') == std::string::npos)
      left_out_.insert(folder);
  }
  // A log folder set to one of the server's own must not cost the database.
  for (const char* own : {".", "base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_multixact",
                          "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat", "pg_subtrans",
                          "pg_tblspc", "pg_twophase", "pg_wal", "pg_xact"})
    left_out_.erase(own);
  for (const char* name : {"config_file", "hba_file", "ident_file"}) {
    const std::string& file = facts_.setting(name);
    if (!file.empty() && !file.starts_with(facts_.data_directory + "/"))
      reporter_.note(fmt::format("{} lies outside the data directory: it is not in this snapshot", file));
  }

  reporter_.phase("starting backup mode", 0);
  TRY(reserve_wal(connection_, facts_, reporter_));
  // In place: one without a path, or with one inside.
  TRY_ASSIGN(
      const std::string in_place,
      connection_.value("SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')"
                        " AND pg_tablespace_location(oid) NOT LIKE '/%'"));
  makes_map_ = in_place != "0";
  TRY(begin_backup());
  if (backup_->bounds().system_id != facts_.system_id) {
    return fail(ErrorKind::kRefused, "two servers answer to this connection string",
                fmt::format("one is system {}, the other {}", facts_.system_id, backup_->bounds().system_id),
                "name one host, or target_session_attrs=read-write");
  }
  start_.start_lsn = backup_->bounds().start;
  start_.timeline = backup_->bounds().timeline;
  return {};
}

// Of the changes alone, if it can be; and whatever the server has against that, it says so before anything
// was sent, and everything is asked for instead.
Result<void> RemoteCapture::begin_backup() {
  BaseBackupOptions wanted{.label = safe_label(options_.label),
                           .bytes_per_second = options_.read_bytes_per_second,
                           .fast_checkpoint = options_.fast_checkpoint,
                           .tablespace_map = !makes_map_,
                           .older_manifest = {}};
  start_.why_everything = why_not_changes();
  if (start_.why_everything.empty()) {
    auto files = options_.older->files();
    if (files) {
      older_files_ = std::move(*files);
    } else {
      start_.why_everything = files.error().what;
    }
  }
  if (start_.why_everything.empty()) {
    wanted.older_manifest = [this](const BaseBackupOptions::Send& send) { return send_older(send); };
    auto begun = BaseBackup::begin(options_.connect, facts_.version, wanted, options_.stop);
    older_files_ = {};
    if (begun) {
      backup_.emplace(std::move(*begun));
      start_.sends_changes = true;
      return {};
    }
    if (begun.error().kind == ErrorKind::kInterrupted) return begun.error();
    start_.why_everything = begun.error().why.empty() ? begun.error().what : begun.error().why;
    wanted.older_manifest = {};
    reporter_.note("the server does not send the changes alone, and is asked for everything: " +
                   start_.why_everything);
  }
  TRY_ASSIGN(BaseBackup backup, BaseBackup::begin(options_.connect, facts_.version, wanted, options_.stop));
  backup_.emplace(std::move(backup));
  return {};
}

std::string RemoteCapture::why_not_changes() const {
  if (facts_.version < kChangesFrom)
    return fmt::format("PostgreSQL {} cannot send changes alone, 17 and newer can", facts_.major());
  if (facts_.setting("summarize_wal") != "on") return "summarize_wal is off";
  if (!options_.older) return options_.why_no_older;
  if (options_.older->timeline != facts_.timeline)
    return fmt::format("the timeline changed from {} to {}", options_.older->timeline, facts_.timeline);
  return {};
}

// The range ends where it begins: a server must have the WAL to the older backup's end before it begins this
// one, which on a standby without a new restartpoint it says it has not, and it is of no matter. What the
// older one's pages have of later WAL, redo of this one brings again, since it begins no earlier.
Result<void> RemoteCapture::send_older(const BaseBackupOptions::Send& send) {
  const OlderSnapshot& older = *options_.older;
  ManifestWriter writer(facts_.system_id,
                        {.timeline = older.timeline, .start = older.start, .end = older.start});
  std::string text = writer.head();
  for (const OlderFile& file : older_files_) {
    text += writer.file(file.path, file.bytes);
    if (text.size() < kManifestPartBytes) continue;
    TRY(send(text));
    text.clear();
  }
  text += writer.tail();
  return send(text);
}

Result<void> RemoteCapture::copy(const SkipRule& skip, const LaneFactory& lanes) {
  CHECK(!copied_);
  copied_ = true;
  skip_ = &skip;
  uint64_t total = 0;
  // Nobody knows beforehand how much changed.
  for (const BackupTablespace& tablespace : backup_->tablespaces()) {
    if (!start_.sends_changes) total += tablespace.bytes;
  }
  reporter_.phase("copying", total);
  const unsigned workers = std::clamp(options_.workers, 1u, kWorkersMax);
  pages_ = std::make_unique<RemotePages>(start_, workers);
  std::vector<std::unique_ptr<CaptureLane>> owned;
  for (unsigned worker = 0; worker < workers; ++worker) {
    TRY_ASSIGN(std::unique_ptr<CaptureLane> lane, lanes(worker));
    owned.push_back(std::move(lane));
  }
  TaskGroup group(options_.stop);
  for (unsigned worker = 0; worker < workers; ++worker) {
    group.start([this, worker, &owned](std::stop_token stop) {
      return pages_->work(worker, *owned[worker], std::move(stop));
    });
  }
  group.start([this](std::stop_token stop) {
    auto received = receive(stop);
    pages_->close();
    return received;
  });
  auto ended = group.wait();
  // A worker's own reason, and not that the receiver was then stopped.
  if (!ended && pages_->failure()) return *pages_->failure();
  TRY(ended);
  return check_arrived();
}

Result<void> RemoteCapture::receive(const std::stop_token& stop) {
  bool any = false;
  for (;;) {
    TRY_ASSIGN(const BackupMessage message, backup_->receive(stop));
    switch (message.kind) {
      case BackupMessage::Kind::kArchive:
        if (any) TRY(archive_.finish());
        any = true;
        TRY(begin_archive(message.tablespace));
        break;
      case BackupMessage::Kind::kData:
        TRY(archive_.feed(message.bytes, *this));
        break;
      case BackupMessage::Kind::kManifest:
        TRY(manifest_.feed(message.bytes));
        break;
      case BackupMessage::Kind::kEnd:
        TRY(archive_.finish());
        return manifest_.finish();
    }
  }
}

Result<void> RemoteCapture::begin_archive(uint32_t tablespace) {
  archive_ = TarStream();
  prefix_ = tablespace == 0 ? "" : fmt::format("pg_tblspc/{}/", tablespace);
  return {};
}

Result<void> RemoteCapture::entry(const TarEntry& entry) {
  std::string_view name = entry.name;
  while (name.starts_with("./")) name.remove_prefix(2);
  path_ = prefix_ + std::string(name);
  size_ = entry.size;
  left_ = 0;
  crc_ = 0;
  held_ = nullptr;
  file_.reset();
  changes_.reset();
  is_file_ = entry.type == EntryType::kFile;
  if (is_file_) {
    const bool is_held = path_ == kLabel || path_ == kMap || path_ == kControl;
    if (is_held) {
      if (entry.size > kHeldFileBytesMax)
        return fail(ErrorKind::kDamaged, fmt::format("the server's {} has {} bytes", path_, entry.size));
      if (path_ == kControl) control_entry_ = entry;
      held_ = &held_files_[path_];
      left_ = entry.size;
      return {};
    }
    const bool is_log = left_out_.contains(path_.substr(0, path_.find('/')));
    const auto changed = file_of_changes(path_);
    if (is_left_out(changed.value_or(path_)) || is_log) return {};
    begin_file(entry, changed.value_or(path_));
    if (!changed) return {};
    changes_.emplace(IncrementalReader(entry.size));
    left_ = entry.size;
    if (file_->skip.changed && file_->skip.cut_to != 0) return {};
    return unclear();
  }
  if (entry.type == EntryType::kSymlink && !path_.starts_with("pg_tblspc/")) {
    return fail(ErrorKind::kDamaged, fmt::format("the server sent {} as a symbolic link", path_),
                "only tablespaces are links in a base backup");
  }
  // A folder that is left out with what it holds is there nevertheless when the server is the one who says
  // so.
  if (!path_.empty() && path_ != "." && !is_left_out(path_)) add(entry, path_);
  return {};
}

void RemoteCapture::add(const TarEntry& entry, std::string path) {
  CaptureFile file;
  file.entry.path = std::move(path);
  file.entry.type = entry.type;
  file.entry.mode = entry.mode & 0777;
  file.entry.uid = entry.uid;
  file.entry.gid = entry.gid;
  file.entry.mtime_ns = entry.mtime_s * 1'000'000'000;
  file.entry.link = entry.link;
  files_.push_back(std::move(file));
}

// The relation file whose changes this one holds.
std::optional<std::string> RemoteCapture::file_of_changes(const std::string& path) const {
  if (!start_.sends_changes) return std::nullopt;
  auto real = without_incremental_prefix(path);
  if (!real) return std::nullopt;
  CaptureFile file;
  file.entry.path = *real;
  describe_relation_file(file, start_.page_bytes);
  if (file.entry.content != ContentKind::kPages || file.always_whole) return std::nullopt;
  return real;
}

void RemoteCapture::begin_file(const TarEntry& entry, std::string path) {
  add(entry, path);
  CaptureFile& file = files_.back();
  file.entry.content = ContentKind::kBytes;
  file.entry.size = entry.size;
  describe_relation_file(file, start_.page_bytes);
  file_ = std::make_shared<RemoteFile>();
  file_->index = static_cast<uint32_t>(files_.size() - 1);
  file_->path = std::move(path);
  file_->has_pages = file.entry.content == ContentKind::kPages;
  if (file_->has_pages) {
    file_->segment = file.segment;
    file_->first_block = file.first_block;
    file_->skip = (*skip_)(file_->index, file);
    file_->compared = file.always_whole && file_->skip.is_as_before && file.entry.size > 0 &&
                      file.entry.size <= uint64_t{kComparedPagesMax} * start_.page_bytes;
  }
  left_ = file.entry.size;
  next_page_ = 0;
}

Result<void> RemoteCapture::data(ByteView bytes) {
  crc_ = crc32c(bytes, crc_);
  bytes_ += bytes.size();
  reporter_.advance(bytes.size());
  // Behind the last whole page of a relation stands one that is being made.
  bytes = bytes.first(std::min<uint64_t>(bytes.size(), left_));
  left_ -= bytes.size();
  if (held_ != nullptr) {
    append(*held_, bytes);
    return {};
  }
  if (!file_) return {};
  if (changes_) return changes(bytes);
  if (file_->has_pages) relation_bytes_ += bytes.size();
  while (!bytes.empty()) {
    const size_t whole = file_->compared ? kComparedPagesMax * size_t{kPageBytes} : kRemoteBlockBytes;
    const size_t part = std::min(bytes.size(), whole - block_.size());
    append(block_, bytes.first(part));
    bytes = bytes.subspan(part);
    if (block_.size() == whole) TRY(hand_over());
  }
  return {};
}

// The header, then the blocks it names: neighbours are handed on together, what lies between them is the
// base's.
Result<void> RemoteCapture::changes(ByteView bytes) {
  if (!changes_->reader.header()) {
    TRY(changes_->reader.feed(bytes));
    if (!changes_->reader.header()) return {};
    const IncrementalHeader& header = *changes_->reader.header();
    // A server that knows of the same cut tells no less.
    const auto cut_to = file_->skip.surely_cut_to;
    if (cut_to && header.length < std::min(*cut_to, kPagesPerRelationFile)) return unclear();
    files_[file_->index].entry.size = uint64_t{header.file_pages()} * kPageBytes;
  }
  const std::vector<uint32_t>& blocks = changes_->reader.header()->blocks;
  relation_bytes_ += bytes.size();
  while (!bytes.empty()) {
    const size_t begun = block_.size() % kPageBytes;
    if (begun == 0) {
      CHECK(changes_->next < blocks.size());  // the header's numbers make the file's size
      const uint32_t page = blocks[changes_->next++];
      const bool follows = page == next_page_ + block_.size() / kPageBytes;
      if (!follows || block_.size() == kRemoteBlockBytes) TRY(hand_over());
      if (!follows) TRY(leave_to_base(page));
    }
    const size_t part = std::min(bytes.size(), kPageBytes - begun);
    append(block_, bytes.first(part));
    bytes = bytes.subspan(part);
  }
  return {};
}

// Pages from next_page_ on that did not come: the base's, and zero behind what is left of that.
Result<void> RemoteCapture::leave_to_base(uint32_t until) {
  const Skip& skip = file_->skip;
  const uint32_t known = std::clamp(skip.base_pages, next_page_, std::max(next_page_, until));
  const auto first = std::ranges::lower_bound(skip.surely_changed, file_->first_block + next_page_);
  const uint32_t page = first == skip.surely_changed.end() ? until : *first - file_->first_block;
  const std::vector<uint32_t>& sent = changes_->reader.header()->blocks;
  if (page < known) {
    // Of a relation that was cut the server does not tell how long the file is: pages at its end may have
    // gone only after the backup began.
    if (skip.cut_to && (sent.empty() || page > sent.back())) return unclear();
    return not_all(fmt::format("a record changes page {} of {}, and it does not send it", page, file_->path));
  }
  // Behind a cut the list also has what was there before it; of that the server alone can tell.
  if (page < until && !skip.cut_to)
    return not_all(fmt::format("a record makes page {} of {}, and it does not send it", page, file_->path));
  // Where the cut is of before the base's start, what lies behind it is the base's.
  const bool cut_here = skip.cut_to && skip.base_pages == *skip.cut_to;
  if (known < until && cut_here && (!skip.surely_cut_to || *skip.surely_cut_to > known)) return unclear();
  left_to_base_ += known - next_page_;
  next_page_ = known;
  return give_zeros(until);
}

Error RemoteCapture::not_all(std::string why) {
  contradicted_ = true;
  return fail(ErrorKind::kFailed, "the server's WAL summaries do not tell all that changed", std::move(why),
              "take a snapshot that builds on none: kuramori backup --full");
}

Error RemoteCapture::unclear() {
  unclear_ = true;
  return fail(ErrorKind::kFailed, "a relation was made or cut just when one of the two snapshots began",
              fmt::format("which pages of {} are the last snapshot's cannot be told", file_->path),
              "run the backup again");
}

Result<void> RemoteCapture::give_zeros(uint32_t until) {
  while (next_page_ < until) {
    const size_t pages = std::min<size_t>(until - next_page_, kRemoteBlockBytes / kPageBytes);
    block_.resize(pages * kPageBytes);
    TRY(hand_over());
  }
  return {};
}

Result<void> RemoteCapture::hand_over() {
  if (block_.empty()) return {};
  RemoteBlock block{.file = file_, .first_page = next_page_, .bytes = std::move(block_)};
  block_ = Bytes();
  next_page_ += static_cast<uint32_t>(block.bytes.size() / kPageBytes);
  // The reason is the worker's to tell.
  if (!pages_->hand_over(std::move(block)))
    return fail(ErrorKind::kInterrupted, "the backup was interrupted");
  return {};
}

Result<void> RemoteCapture::end() {
  if (file_) TRY(hand_over());
  if (changes_) {
    if (!changes_->reader.header())
      return fail(ErrorKind::kDamaged, fmt::format("{} has no header", path_), "", "run the backup again");
    TRY(leave_to_base(changes_->reader.header()->length));
  }
  // The manifest names neither folders nor links.
  if (is_file_) arrived_[path_] = {.size = size_, .crc = crc_};
  return {};
}

Result<void> RemoteCapture::confirm(const ManifestFile& file) {
  const auto found = arrived_.find(file.path);
  const auto wrong = [&](std::string why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not what the server's manifest says", file.path),
                std::move(why), "run the backup again");
  };
  if (found == arrived_.end()) return wrong("it did not come");
  if (found->second.size != file.size)
    return wrong(fmt::format("{} bytes came of {}", found->second.size, file.size));
  if (file.algorithm != "CRC32C")
    return wrong(fmt::format("its checksum is of the kind '{}'", file.algorithm));
  if (file.checksum != manifest_crc32c(found->second.crc)) return wrong("its checksum is another");
  found->second.confirmed = true;
  return {};
}

Result<void> RemoteCapture::check_arrived() {
  for (const auto& [path, arrived] : arrived_) {
    if (!arrived.confirmed) {
      return fail(ErrorKind::kDamaged, fmt::format("the server's manifest does not name {}", path),
                  "it came, and nothing says what it should be", "run the backup again");
    }
  }
  const BackupBounds& bounds = backup_->bounds();
  for (const ManifestWal& range : manifest_.wal()) {
    if (range.timeline == bounds.timeline && range.start <= bounds.start && range.end >= bounds.stop)
      return {};
  }
  return fail(ErrorKind::kDamaged, "the server's manifest names another range of WAL",
              fmt::format("the backup went from {} to {}", format_lsn(bounds.start), format_lsn(bounds.stop)),
              "run the backup again");
}

Result<CaptureEnd> RemoteCapture::finish(CaptureLane& lane) {
  CHECK(copied_);
  reporter_.phase("ending backup mode", 0);
  const Bytes& control = held_files_[std::string(kControl)];
  auto parsed = parse_control_file(control);
  if (!parsed) return std::move(parsed.error()).within(kControl);
  const BackupBounds& bounds = backup_->bounds();
  TRY(check_one_history(connection_, start_, *parsed, bounds.stop));
  // The control file came while the backup went on; the server says where that ended.
  if (bounds.stop_timeline != start_.timeline) {
    return fail(ErrorKind::kFailed, "the cluster changed while it was copied; what was copied is no snapshot",
                fmt::format("it went from timeline {} to {}", start_.timeline, bounds.stop_timeline),
                "run the backup again");
  }

  CaptureEnd end;
  TRY_ASSIGN(end.facts, restore_facts(connection_, facts_));
  end.facts["data_directory"] = start_.data_directory;
  end.facts["catalog_version"] = facts_.catalog_version;
  // As SHOW has it, "0700".
  end.facts["data_directory_mode"] = facts_.setting("data_directory_mode");
  TRY_ASSIGN(end.backup_label, label_of_a_whole());
  end.tablespace_map = tablespaces_mapped();
  if (has_in_place_tablespace(files_)) end.facts["in_place_tablespaces"] = "yes";
  // A restored standby's copy is consistent where its pg_control says, which may lie past the stop.
  end.stop_lsn = bounds.stop;
  if (start_.in_recovery) end.stop_lsn = std::max(end.stop_lsn, parsed->min_recovery_point);
  end.stop_timeline = start_.timeline;
  end.stop_wal_file = segment_name(end.stop_timeline, end.stop_lsn - 1, start_.segment_bytes);
  end.bytes_read = bytes_;
  end.relation_bytes_read = relation_bytes_;
  end.pages_given = pages_->given();
  end.pages_skipped = pages_->skipped() + left_to_base_;
  if (start_.sends_changes) end.pages_looked_at = pages_->looked_at();
  end.broken_pages = pages_->broken(end.stop_lsn);
  for (const BrokenPage& broken : end.broken_pages)
    reporter_.warning(fmt::format("BROKEN PAGE {} of {}: {}", broken.page, broken.path, broken.why));
  if (end.backup_label.empty())
    return fail(ErrorKind::kDamaged, "the server sent no backup_label", "", "run the backup again");

  TRY(add_held(lane, kLabel, as_bytes(end.backup_label)));
  if (!end.tablespace_map.empty()) TRY(add_held(lane, kMap, as_bytes(end.tablespace_map)));
  TRY(add_held(lane, kControl, control));
  end.finished_ns = to_unix_ns(clock_.now());
  return end;
}

// A server does not start with the label of an incremental backup. Ours is put together already: the lines
// that say what it was built on go.
Result<std::string> RemoteCapture::label_of_a_whole() const {
  const auto found = held_files_.find(kLabel);
  std::string text(found == held_files_.end() ? "" : as_text(found->second));
  if (!start_.sends_changes) return text;
  TRY_ASSIGN(const BackupLabel label, parse_backup_label(text));
  const OlderSnapshot& older = *options_.older;
  if (label.incremental_from != older.start || label.incremental_from_timeline != older.timeline) {
    return fail(ErrorKind::kDamaged, "the server sent changes since another place than it was asked for",
                text, "take a snapshot that builds on none: kuramori backup --full");
  }
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (!line.starts_with(kIncrementalLine)) kept += line;
    at = end;
  }
  return kept;
}

// The map as the server sent it, or would have. Tablespaces that came without their place in pg_tblspc get
// one.
std::string RemoteCapture::tablespaces_mapped() {
  std::set<std::string> there;
  for (const CaptureFile& file : files_) {
    if (file.entry.path.starts_with("pg_tblspc/")) there.insert(file.entry.path);
  }
  std::vector<TablespaceLink> links;
  for (const BackupTablespace& tablespace : backup_->tablespaces()) {
    const std::string path = fmt::format("pg_tblspc/{}", tablespace.oid);
    const bool is_link = tablespace.path.starts_with('/');
    if (tablespace.oid == 0) continue;
    if (is_link) links.push_back({tablespace.oid, tablespace.path});
    if (there.contains(path)) continue;
    TarEntry place = control_entry_;
    place.type = is_link ? EntryType::kSymlink : EntryType::kDirectory;
    place.mode = is_link ? 0777 : 0700;
    place.link = is_link ? tablespace.path : "";
    add(place, path);
  }
  return makes_map_ ? compose_tablespace_map(links) : std::string(as_text(held_files_[std::string(kMap)]));
}

Result<void> RemoteCapture::add_held(CaptureLane& lane, std::string_view path, ByteView bytes) {
  TarEntry like = control_entry_;
  like.type = EntryType::kFile;
  add(like, std::string(path));
  files_.back().entry.content = ContentKind::kBytes;
  files_.back().entry.size = bytes.size();
  return lane.add_bytes(static_cast<uint32_t>(files_.size() - 1), bytes);
}

Result<Bytes> RemoteCapture::wal_segment(std::string_view name) {
  TRY_ASSIGN(const SegmentName parsed, parse_segment_name(name, start_.segment_bytes));
  return fetch_wal_segment(options_.connect, parsed, start_.segment_bytes, WalWanted::kWhole, clock_,
                           options_.stop);
}

Result<Bytes> RemoteCapture::wal_segment_so_far(std::string_view name) {
  TRY_ASSIGN(const SegmentName parsed, parse_segment_name(name, start_.segment_bytes));
  return fetch_wal_segment(options_.connect, parsed, start_.segment_bytes, WalWanted::kSoFar, clock_,
                           options_.stop);
}

ReadEarlierWal RemoteCapture::earlier_wal() {
  struct Fetched {
    std::string name;
    std::optional<Bytes> bytes;
  };
  // shared_ptr: a std::function is copied.
  return [this, fetched = std::make_shared<Fetched>()](Lsn position, MutableByteView pages) {
    const std::string name = segment_name(start_.timeline, position, start_.segment_bytes);
    if (fetched->name != name) {
      fetched->name = name;
      fetched->bytes.reset();
      auto bytes = wal_segment_so_far(name);
      if (bytes) fetched->bytes = std::move(*bytes);
    }
    const uint64_t offset = position % start_.segment_bytes;
    if (!fetched->bytes || offset + pages.size() > fetched->bytes->size()) return false;
    std::ranges::copy(ByteView(*fetched->bytes).subspan(offset, pages.size()), pages.begin());
    return true;
  };
}

}  // namespace

Result<std::unique_ptr<Capture>> begin_remote_capture(const CaptureOptions& options, Clock& clock,
                                                      Reporter& reporter) {
  TRY_ASSIGN(Connection connection, Connection::open(options.connect));
  auto capture = std::make_unique<RemoteCapture>(options, std::move(connection), clock, reporter);
  TRY(capture->prepare());
  return std::unique_ptr<Capture>(std::move(capture));
}

}  // namespace kuramori::postgres
