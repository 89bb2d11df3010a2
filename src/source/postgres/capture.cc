// A capture in the order that makes it restorable: the slot holds WAL from now on; backup mode begins (its
// checkpoint is where redo will start); only then are files listed, so that each is at least as new as the
// start; all are read in parallel while the server writes; pg_control is read last, so that its recovery
// point lies past every page; only then does backup mode end. Whatever was caught half changed is made right
// by redo between start and stop.
#include "source/postgres/capture.h"

#include <fcntl.h>

#include <filesystem>
#include <numeric>
#include <stop_token>

#include "base/check.h"
#include "base/cpu_limit.h"
#include "conc/task_group.h"
#include "os/file.h"
#include "source/postgres/capture_start.h"
#include "source/postgres/earlier_wal.h"
#include "source/postgres/file_list.h"
#include "source/postgres/page_reader.h"

namespace kuramori::postgres {
namespace {

constexpr uint32_t kSlicePages = (64u << 20) / kPageBytes;  // of a file that one worker takes at a time
constexpr std::chrono::seconds kAliveInterval(10);          // between looks at the backup's connection
constexpr unsigned kWorkersMax = 64;
constexpr size_t kFilesAhead = 16;  // that are open while single pages of them are on their way

// Without these no server starts; everything else may be dropped while we look.
bool is_required(std::string_view path) {
  return path == "PG_VERSION" || path == "global/pg_filenode.map";
}

class RunningCapture final : public Capture {
 public:
  RunningCapture(const CaptureOptions& options, Connection connection, Clock& clock, Reporter& reporter)
      : options_(options), connection_(std::move(connection)), clock_(clock), reporter_(reporter) {}

  Result<void> prepare();

  const CaptureStart& start() const override { return start_; }
  const std::vector<CaptureFile>& files() const override { return list_.files; }
  std::vector<CaptureFile> take_files() override {
    list_.sources = {};
    return std::move(list_.files);
  }
  Result<void> copy(const SkipRule& skip, const LaneFactory& lanes) override;
  Result<CaptureEnd> finish(CaptureLane& lane) override;
  Result<std::vector<PageLook>> look_at(std::span<const PagePlace> places) override;
  Result<Bytes> wal_segment(std::string_view name) override;
  Result<Bytes> wal_segment_so_far(std::string_view name) override;
  ReadEarlierWal earlier_wal() override {
    return earlier_in_folder(join_path(start_.data_directory, "pg_wal"), start_.timeline,
                             start_.segment_bytes);
  }

 private:
  struct Work {
    uint32_t file = 0;
    uint32_t first_page = 0;  // page files: a slice
    uint32_t pages = 0;
    uint32_t slice = 0;
    std::optional<std::vector<uint32_t>> listed;  // of the file: these pages of the slice alone
  };
  // How a page file turned out, its slices being read by several workers (P5).
  struct Shape {
    uint32_t slices_begun = 0;        // 1 + the highest slice somebody began
    uint32_t cut_after = UINT32_MAX;  // slices above this one are no longer there
    uint32_t end_page = 0;            // behind the last page that was given
    bool vanished = false;
  };

  // The absolute path that a file is read from.
  std::string source_of(uint32_t file) const {
    const std::string& source = list_.sources[file];
    return source.empty() ? join_path(start_.data_directory, list_.files[file].entry.path) : source;
  }
  void plan_work(const SkipRule& skip);
  void plan_listed(uint32_t file, uint32_t pages, const Skip& skip);
  Result<void> work(CaptureLane& lane, const SkipRule& skip, std::stop_token stop);
  Result<void> keep_alive(std::stop_token stop);
  Result<void> copy_pages(const Work& work, const SkipRule& skip, PageReader& reader, CaptureLane& lane);
  Result<void> copy_listed(const Work& work, const Fd& file, const PageRules& rules, PageReader& reader,
                           CaptureLane& lane);
  void warn_of_broken(const PageReader& reader, size_t from);
  Result<void> give_zeros(const Work& work, uint32_t from, CaptureLane& lane);
  Result<void> copy_bytes(const Work& work, CaptureLane& lane, MutableByteView buffer);
  Result<void> add_file(CaptureLane& lane, const std::string& path, ByteView bytes);

  const CaptureOptions options_;
  Connection connection_;
  Clock& clock_;
  Reporter& reporter_;
  ServerFacts facts_;
  CaptureStart start_;
  FileList list_;
  FileStatus control_status_;

  std::vector<Work> works_;
  uint64_t to_read_ = 0;  // bytes
  std::atomic<size_t> next_work_ = 0;
  std::unique_ptr<Throttle> throttle_;
  std::mutex mutex_;  // shapes_, end_, working_
  std::condition_variable finished_;
  unsigned working_ = 0;
  std::vector<Shape> shapes_;
  CaptureEnd end_;
  bool copied_ = false;
};

Result<void> RunningCapture::prepare() {
  TRY_ASSIGN(facts_, read_server_facts(connection_));
  TRY_ASSIGN(start_.data_directory, find_data_directory(options_.data_directory, facts_, clock_));
  TRY_ASSIGN(const ControlBytes control, read_control_file(start_.data_directory, clock_));
  TRY(check_can_be_captured(facts_, control.parsed));
  TRY_ASSIGN(control_status_, status_of(join_path(start_.data_directory, "global/pg_control")));

  describe_server(facts_, control.parsed, start_);
  start_.every_change_moves_lsn =
      control.parsed.checksum_version != 0 || control.parsed.settings.wal_log_hints;
  start_.started_ns = to_unix_ns(clock_.now());

  reporter_.phase("starting backup mode", 0);
  TRY(reserve_wal(connection_, facts_, reporter_));
  TRY_ASSIGN(start_.start_lsn, start_backup(connection_, facts_, options_));
  // After the start: a standby may have followed its primary to another timeline meanwhile.
  TRY_ASSIGN(const ControlBytes begun, read_control_file(start_.data_directory, clock_));
  start_.timeline = begun.parsed.timeline;

  FileListOptions listing;
  listing.data_directory = start_.data_directory;
  listing.tablespace_folder = tablespace_folder(facts_);
  listing.page_bytes = start_.page_bytes;
  listing.left_out_folders = {facts_.setting("log_directory"), facts_.setting("stats_temp_directory")};
  listing.config_files = {facts_.setting("config_file"), facts_.setting("hba_file"),
                          facts_.setting("ident_file")};
  TRY_ASSIGN(list_, list_files(listing));
  for (const std::string& note : list_.notes) reporter_.note(note);
  shapes_.resize(list_.files.size());
  throttle_ = std::make_unique<Throttle>(options_.read_bytes_per_second, clock_);
  return {};
}

void RunningCapture::plan_work(const SkipRule& skip) {
  for (uint32_t index = 0; index < list_.files.size(); ++index) {
    const CaptureFile& file = list_.files[index];
    const TreeEntry& entry = file.entry;
    if (entry.type != EntryType::kFile) continue;
    if (entry.content != ContentKind::kPages) {
      works_.push_back({.file = index});
      to_read_ += entry.size;
      continue;
    }
    const uint32_t pages = static_cast<uint32_t>(entry.size / kPageBytes);
    const Skip rule = skip ? skip(index, file) : Skip{};
    if (rule.changed) {
      plan_listed(index, pages, rule);
      continue;
    }
    for (uint32_t first = 0, slice = 0; first < pages; first += kSlicePages, ++slice)
      works_.push_back({index, first, std::min(kSlicePages, pages - first), slice, {}});
    to_read_ += entry.size;
  }
}

// The listed pages and those that the base does not have, slice by slice; a file without any is not opened.
//
// Such a file keeps the length it was listed with, whatever becomes of it meanwhile: what happens to it after
// the backup began happens again in redo, and a page that went is given as zeros, as the server itself fills
// a hole in recovery.
void RunningCapture::plan_listed(uint32_t file, uint32_t pages, const Skip& skip) {
  const uint32_t known = std::min(skip.base_pages, pages);
  std::vector<uint32_t> wanted;
  for (const uint32_t block : *skip.changed) {
    const uint32_t page = block - list_.files[file].first_block;
    if (page >= known) break;
    wanted.push_back(page);
  }
  end_.pages_skipped += known - wanted.size();
  to_read_ += (wanted.size() + pages - known) * uint64_t{kPageBytes};
  shapes_[file].end_page = pages;
  for (size_t at = 0; at < wanted.size();) {
    const uint32_t slice = wanted[at] / kSlicePages;
    std::vector<uint32_t> part;
    while (at < wanted.size() && wanted[at] / kSlicePages == slice) part.push_back(wanted[at++]);
    const uint32_t count = static_cast<uint32_t>(part.size());
    works_.push_back({file, slice * kSlicePages, count, slice, std::move(part)});
  }
  for (uint32_t first = known; first < pages; first += kSlicePages) {
    std::vector<uint32_t> part(std::min(kSlicePages, pages - first));
    std::iota(part.begin(), part.end(), first);
    const uint32_t count = static_cast<uint32_t>(part.size());
    works_.push_back({file, first, count, 0, std::move(part)});
  }
}

Result<void> RunningCapture::copy(const SkipRule& skip, const LaneFactory& lanes) {
  CHECK(!copied_);
  copied_ = true;
  plan_work(skip);
  reporter_.phase("copying", to_read_);
  const unsigned workers = std::clamp(options_.workers, 1u, kWorkersMax);
  std::vector<std::unique_ptr<CaptureLane>> owned;
  for (unsigned worker = 0; worker < workers; ++worker) {
    TRY_ASSIGN(std::unique_ptr<CaptureLane> lane, lanes(worker));
    owned.push_back(std::move(lane));
  }
  working_ = workers;
  TaskGroup group;
  for (const auto& lane : owned) {
    group.start([&, this](std::stop_token stop) {
      auto result = work(*lane, skip, stop);
      {
        const std::lock_guard lock(mutex_);
        --working_;
      }
      finished_.notify_all();
      return result;
    });
  }
  group.start([this](std::stop_token stop) { return keep_alive(stop); });
  TRY(group.wait());
  works_ = {};

  for (size_t index = 0; index < shapes_.size(); ++index) {
    CaptureFile& file = list_.files[index];
    file.vanished = shapes_[index].vanished;
    if (file.entry.content == ContentKind::kPages)
      file.entry.size = file.vanished ? 0 : uint64_t{shapes_[index].end_page} * kPageBytes;
  }
  shapes_ = {};
  return {};
}

// Half a day of copying is worth nothing once the session that holds backup mode is gone: notice it early.
Result<void> RunningCapture::keep_alive(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (working_ > 0 && !stop.stop_requested()) {
    if (finished_.wait_for(lock, kAliveInterval, [&] { return working_ == 0 || stop.stop_requested(); }))
      break;
    lock.unlock();
    auto alive = connection_.run("SELECT 1");
    if (!alive) {
      Error error = std::move(alive).error();
      error.what = "the connection that held backup mode was lost; what was copied is no snapshot";
      error.next = "look into the server's log, then run the backup again";
      return error;
    }
    lock.lock();
  }
  return {};
}

Result<void> RunningCapture::work(CaptureLane& lane, const SkipRule& skip, std::stop_token stop) {
  PageReader reader(clock_, *throttle_);
  AlignedBuffer buffer(kReadBytes);
  for (size_t next; !stop.stop_requested() && (next = next_work_.fetch_add(1)) < works_.size();) {
    const Work& work = works_[next];
    if (list_.files[work.file].entry.content == ContentKind::kPages) {
      TRY(copy_pages(work, skip, reader, lane));
    } else {
      TRY(copy_bytes(work, lane, buffer.view()));
    }
  }
  const PageCounts& counts = reader.counts();
  const std::lock_guard lock(mutex_);
  end_.bytes_read += counts.bytes_read;
  end_.relation_bytes_read += counts.bytes_read;
  end_.pages_given += counts.pages_given;
  end_.pages_skipped += counts.pages_skipped;
  end_.broken_pages.insert(end_.broken_pages.end(), counts.broken.begin(), counts.broken.end());
  return {};
}

// A file may be cut short, dropped or extended again while its slices are read (P4, P5, P10). Whatever
// happened to it happened after the backup began, so redo does it again; what must not happen is that pages
// land in a wrong place, or that a hole is taken from an older snapshot. So: where a slice ends early and a
// later one was begun, the hole is given as zero pages (as the server itself fills it in recovery); where
// none was, the file ends there.
Result<void> RunningCapture::copy_pages(const Work& work, const SkipRule& skip, PageReader& reader,
                                        CaptureLane& lane) {
  const CaptureFile& file = list_.files[work.file];
  const std::string source = source_of(work.file);
  Shape& shape = shapes_[work.file];
  reporter_.advance(uint64_t{work.pages} * kPageBytes);
  {
    const std::lock_guard lock(mutex_);
    if (work.slice > shape.cut_after || shape.vanished) return {};
    shape.slices_begun = std::max(shape.slices_begun, work.slice + 1);
  }
  auto opened = open_file(source, O_RDONLY);
  if (!opened) {
    if (opened.error().kind != ErrorKind::kNotFound) return std::move(opened).error();
    const std::lock_guard lock(mutex_);
    shape.vanished = true;
    return {};
  }
  PageRules rules;
  rules.checksums = start_.checksum_version != 0;
  rules.segment = file.segment;
  rules.start_lsn = start_.start_lsn;
  const size_t broken_before = reader.counts().broken.size();
  if (work.listed) {
    TRY(copy_listed(work, *opened, rules, reader, lane));
    warn_of_broken(reader, broken_before);
    return {};
  }
  const Skip rule = skip ? skip(work.file, file) : Skip{};
  if (!file.always_whole) rules.skip = rule;
  const bool compared = file.always_whole && rule.is_as_before && work.slice == 0 &&
                        file.entry.size <= uint64_t{kComparedPagesMax} * kPageBytes;
  Bytes whole;
  TRY_ASSIGN(const uint32_t got, reader.read(*opened, file.entry.path, work.first_page, work.pages, rules,
                                             [&](uint32_t first, ByteView pages) -> Result<void> {
                                               if (!compared) return lane.add_pages(work.file, first, pages);
                                               append(whole, pages);
                                               return {};
                                             }));
  if (compared && rule.is_as_before(whole)) {
    reader.not_needed(got);
  } else if (compared) {
    TRY(lane.add_pages(work.file, 0, whole));
  }
  warn_of_broken(reader, broken_before);
  bool fill = false;
  {
    const std::lock_guard lock(mutex_);
    if (got < work.pages) {
      fill = shape.slices_begun > work.slice + 1;
      if (!fill) shape.cut_after = work.slice;
    }
    const uint32_t end = work.first_page + (fill ? work.pages : got);
    if (end > work.first_page) shape.end_page = std::max(shape.end_page, end);
  }
  return fill ? give_zeros(work, got, lane) : Result<void>();
}

Result<void> RunningCapture::copy_listed(const Work& work, const Fd& file, const PageRules& rules,
                                         PageReader& reader, CaptureLane& lane) {
  return reader.read_listed(
      file, list_.files[work.file].entry.path, *work.listed, rules,
      [&](uint32_t first, ByteView pages) { return lane.add_pages(work.file, first, pages); });
}

void RunningCapture::warn_of_broken(const PageReader& reader, size_t from) {
  for (size_t index = from; index < reader.counts().broken.size(); ++index) {
    const BrokenPage& broken = reader.counts().broken[index];
    reporter_.warning(fmt::format("BROKEN PAGE {} of {}: {}", broken.page, broken.path, broken.why));
  }
}

// One after the other, the disk being told beforehand of all of a file's and of those of the next files.
Result<std::vector<PageLook>> RunningCapture::look_at(std::span<const PagePlace> places) {
  struct Stretch {  // of one file
    size_t begin = 0, end = 0;
    std::optional<Fd> file;  // none: it is gone
  };
  std::vector<Stretch> stretches;
  for (size_t at = 0; at < places.size(); at = stretches.back().end) {
    size_t end = at;
    while (end < places.size() && places[end].file == places[at].file) ++end;
    stretches.push_back({at, end, {}});
  }
  const auto announce = [&](Stretch& stretch) -> Result<void> {
    const uint32_t file = places[stretch.begin].file;
    auto opened = open_file(source_of(file), O_RDONLY);
    if (!opened && opened.error().kind == ErrorKind::kNotFound) return {};
    if (!opened) return std::move(opened).error();
    // Another file may have the name by now.
    TRY_ASSIGN(const FileStatus status, status_of(*opened, source_of(file)));
    if (status.inode != list_.files[file].inode) return {};
    ::posix_fadvise(opened->get(), 0, 0, POSIX_FADV_RANDOM);
    for (size_t i = stretch.begin; i < stretch.end; ++i) {
      ::posix_fadvise(opened->get(), static_cast<off_t>(places[i].page) * static_cast<off_t>(kPageBytes), 512,
                      POSIX_FADV_WILLNEED);
    }
    stretch.file = std::move(*opened);
    return {};
  };
  PageReader reader(clock_, *throttle_);
  std::vector<PageLook> looks(places.size());
  size_t announced = 0;
  for (size_t at = 0; at < stretches.size(); ++at) {
    for (; announced < std::min(stretches.size(), at + kFilesAhead); ++announced)
      TRY(announce(stretches[announced]));
    Stretch& stretch = stretches[at];
    if (!stretch.file) continue;
    for (size_t i = stretch.begin; i < stretch.end; ++i) {
      TRY_ASSIGN(looks[i], reader.look(*stretch.file, source_of(places[i].file), places[i].page));
    }
    stretch.file.reset();
  }
  const std::lock_guard lock(mutex_);
  end_.bytes_read += reader.counts().bytes_read;
  end_.relation_bytes_read += reader.counts().bytes_read;
  return looks;
}

Result<void> RunningCapture::give_zeros(const Work& work, uint32_t from, CaptureLane& lane) {
  const Bytes zeros(kReadBytes);
  constexpr uint32_t kPagesAtOnce = kReadBytes / kPageBytes;
  for (uint32_t at = from; at < work.pages; at += kPagesAtOnce) {
    const uint32_t count = std::min(kPagesAtOnce, work.pages - at);
    TRY(lane.add_pages(work.file, work.first_page + at, ByteView(zeros).first(size_t{count} * kPageBytes)));
  }
  return {};
}

Result<void> RunningCapture::copy_bytes(const Work& work, CaptureLane& lane, MutableByteView buffer) {
  CaptureFile& file = list_.files[work.file];  // this worker's alone
  const std::string source = source_of(work.file);
  reporter_.advance(file.entry.size);
  auto opened = open_file(source, O_RDONLY);
  if (!opened) {
    if (opened.error().kind != ErrorKind::kNotFound) return std::move(opened).error();
    if (is_required(file.entry.path)) {
      return fail(ErrorKind::kFailed, fmt::format("{} is gone", source), "no server starts without it",
                  "look at the data directory: something removed files from it");
    }
    file.entry.size = 0;
    const std::lock_guard lock(mutex_);
    shapes_[work.file].vanished = true;
    return {};
  }
  TRY_ASSIGN(const FileStatus now, status_of(*opened, source));
  // A file that is written to all the time must end somewhere: at what it was, or is now.
  const uint64_t wanted = std::max(file.entry.size, now.size);
  uint64_t done = 0;
  while (done < wanted) {
    const size_t want = std::min<uint64_t>(buffer.size(), wanted - done);
    throttle_->take(want);
    pause_for_cpu();
    TRY_ASSIGN(const size_t got, pread_some(*opened, done, buffer.first(want), source));
    if (got == 0) break;
    TRY(lane.add_bytes(work.file, buffer.first(got)));
    done += got;
  }
  file.entry.size = done;
  const std::lock_guard lock(mutex_);
  end_.bytes_read += done;
  return {};
}

Result<CaptureEnd> RunningCapture::finish(CaptureLane& lane) {
  CHECK(copied_);
  reporter_.phase("ending backup mode", 0);
  TRY_ASSIGN(const ControlBytes control, read_control_file(start_.data_directory, clock_));
  TRY_ASSIGN(end_.facts, restore_facts(connection_, facts_));
  TRY_ASSIGN(const FileStatus top, status_of(start_.data_directory));
  end_.facts["data_directory"] = start_.data_directory;
  end_.facts["data_directory_mode"] = fmt::format("{:04o}", top.mode & 0777);
  end_.facts["catalog_version"] = facts_.catalog_version;
  if (has_in_place_tablespace(list_.files)) end_.facts["in_place_tablespaces"] = "yes";

  TRY_ASSIGN(const StoppedBackup stopped, stop_backup(connection_, facts_));
  TRY(check_one_history(connection_, start_, control.parsed, stopped.stop_lsn));
  end_.backup_label = stopped.backup_label;
  end_.tablespace_map = stopped.tablespace_map;
  // A restored standby's copy is consistent where its pg_control says, which may lie past the stop.
  end_.stop_lsn = stopped.stop_lsn;
  if (start_.in_recovery) end_.stop_lsn = std::max(end_.stop_lsn, control.parsed.min_recovery_point);
  end_.stop_timeline = start_.timeline;
  end_.stop_wal_file = segment_name(end_.stop_timeline, end_.stop_lsn - 1, start_.segment_bytes);

  TRY(add_file(lane, "backup_label", as_bytes(end_.backup_label)));
  if (!end_.tablespace_map.empty()) TRY(add_file(lane, "tablespace_map", as_bytes(end_.tablespace_map)));
  TRY(add_file(lane, "global/pg_control", control.bytes));
  end_.finished_ns = to_unix_ns(clock_.now());
  end_.read_waited = throttle_->waited();
  return end_;
}

Result<void> RunningCapture::add_file(CaptureLane& lane, const std::string& path, ByteView bytes) {
  CaptureFile file;
  file.entry.path = path;
  file.entry.content = ContentKind::kBytes;
  file.entry.mode = control_status_.mode;
  file.entry.uid = control_status_.uid;
  file.entry.gid = control_status_.gid;
  file.entry.mtime_ns = to_unix_ns(clock_.now());
  file.entry.size = bytes.size();
  list_.files.push_back(std::move(file));
  list_.sources.emplace_back();
  end_.bytes_read += bytes.size();
  return lane.add_bytes(static_cast<uint32_t>(list_.files.size() - 1), bytes);
}

Result<Bytes> RunningCapture::wal_segment(std::string_view name) {
  TRY_ASSIGN(const SegmentName parsed, parse_segment_name(name, start_.segment_bytes));
  if (start_.in_recovery) {
    // What a standby has not received yet is older bytes of a recycled file, under a name that promises the
    // whole.
    TRY_ASSIGN(const std::string text, connection_.value("SELECT greatest(pg_last_wal_receive_lsn(), "
                                                         "pg_last_wal_replay_lsn())"));
    TRY_ASSIGN(const Lsn received, parse_lsn(text));
    if (received < parsed.start + start_.segment_bytes) {
      return fail(ErrorKind::kPartial, fmt::format("WAL segment {} is not whole on this standby yet", name),
                  fmt::format("it received WAL up to {}", format_lsn(received)),
                  "on the primary, psql -c 'SELECT pg_switch_wal()' ends the segment");
    }
  }
  return wal_segment_so_far(name);
}

Result<Bytes> RunningCapture::wal_segment_so_far(std::string_view name) {
  const std::string path = join_path(join_path(start_.data_directory, "pg_wal"), name);
  auto bytes = read_file(path, start_.segment_bytes);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) {
    return fail(
        ErrorKind::kNotFound, fmt::format("WAL segment {} is no longer in pg_wal", name),
        "the server recycled it before it was kept",
        "psql -c \"ALTER SYSTEM SET wal_keep_size = '1GB'\" -c 'SELECT pg_reload_conf()', or give the role "
        "REPLICATION so that a slot can hold WAL; then run the backup again");
  }
  if (bytes && bytes->size() != start_.segment_bytes) {
    return fail(ErrorKind::kDamaged, fmt::format("WAL segment {} has {} bytes", path, bytes->size()),
                fmt::format("a segment of this cluster has {}", start_.segment_bytes));
  }
  return bytes;
}

// Are the files that the server names another machine's? One that answers over TCP may have a namesake of its
// directory here; through a socket, another directory than the server's is a mistake to be told.
Result<bool> lies_elsewhere(const CaptureOptions& options, Connection& connection, Clock& clock) {
  TRY_ASSIGN(const ServerFacts facts, read_server_facts(connection));
  if (find_data_directory(options.data_directory, facts, clock)) return false;
  const std::string& named = options.data_directory.empty() ? facts.data_directory : options.data_directory;
  std::error_code failed;
  if (std::filesystem::status(named, failed).type() == std::filesystem::file_type::not_found) return true;
  TRY_ASSIGN(const std::string tcp, connection.value("SELECT inet_server_addr() IS NOT NULL"));
  return tcp == "t";
}

}  // namespace

Result<std::unique_ptr<Capture>> Capture::begin(const CaptureOptions& options, Clock& clock,
                                                Reporter& reporter) {
  if (options.way == CaptureWay::kReplication) return begin_remote_capture(options, clock, reporter);
  TRY_ASSIGN(Connection connection, Connection::open(options.connect));
  if (options.way == CaptureWay::kAuto) {
    TRY_ASSIGN(const bool elsewhere, lies_elsewhere(options, connection, clock));
    if (elsewhere) {
      reporter.note("the server's files are not on this machine: they come over the replication protocol");
      return begin_remote_capture(options, clock, reporter);
    }
  }
  auto capture = std::make_unique<RunningCapture>(options, std::move(connection), clock, reporter);
  TRY(capture->prepare());
  return std::unique_ptr<Capture>(std::move(capture));
}

}  // namespace kuramori::postgres
