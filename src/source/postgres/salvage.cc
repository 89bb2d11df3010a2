#include "source/postgres/salvage.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "os/file.h"
#include "source/postgres/control_file.h"
#include "source/postgres/earlier_wal.h"
#include "source/postgres/recovery_place.h"
#include "source/postgres/timeline_history.h"
#include "source/postgres/wal_reader.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kControlReadMax = 65536;  // bytes; the file has 8192

struct Candidate {
  std::string name, path;
  Lsn start = 0;
};

// Reads the candidates of one timeline from `first` on as far as their records follow each other.
struct Readable {
  size_t first = 0;
  bool has_records = false;
  Lsn to = 0;
  std::string why;  // it ends there
};

class TimelineSalvage {
 public:
  TimelineSalvage(Timeline timeline, std::vector<Candidate> files, uint64_t system_id, uint32_t segment_bytes)
      : timeline_(timeline), files_(std::move(files)), system_id_(system_id), segment_bytes_(segment_bytes) {}

  Result<void> run(SalvageReport& report) {
    size_t at = 0;
    while (at < files_.size()) {
      TRY_ASSIGN(Readable stretch, read_from(at));
      if (!stretch.has_records) {
        report.left.push_back({files_[at].name, stretch.why});
        ++at;
        continue;
      }
      const size_t first = at;
      for (; at < files_.size() && files_[at].start < stretch.to; ++at) {
        if (at > first && files_[at].start != files_[at - 1].start + segment_bytes_) break;
        const Lsn end = files_[at].start + segment_bytes_;
        report.segments.push_back({.path = files_[at].path,
                                   .name = files_[at].name,
                                   .timeline = timeline_,
                                   .start = files_[at].start,
                                   .to = std::min(stretch.to, end),
                                   .whole = stretch.to >= end,
                                   .follows_previous = at > first});
      }
      if (!report.segments.back().whole) {
        report.left.push_back({report.segments.back().name,
                               fmt::format("from {} on: {}", format_lsn(stretch.to), stretch.why)});
      }
    }
    return {};
  }

 private:
  Timeline timeline_;
  std::vector<Candidate> files_;
  uint64_t system_id_;
  uint32_t segment_bytes_;

  Result<Readable> read_from(size_t first) {
    Readable stretch{.first = first, .to = files_[first].start};
    WalReaderOptions options{.from = files_[first].start,
                             .segment_bytes = segment_bytes_,
                             .timeline = timeline_,
                             .system_id = system_id_};
    Bytes bytes, before;  // the reader may still hold views of the one before
    size_t at = first;
    std::string trouble;
    auto segment = [&](uint64_t number) -> Result<std::optional<ByteView>> {
      while (at < files_.size() && segment_number(files_[at].start, segment_bytes_) < number) ++at;
      if (at >= files_.size() || segment_number(files_[at].start, segment_bytes_) != number) {
        return std::optional<ByteView>();
      }
      before = std::move(bytes);
      auto read = read_file(files_[at].path, kSegmentBytesMax);
      if (!read || read->size() != segment_bytes_) {
        trouble =
            read ? fmt::format("{} has {} bytes instead of {}", files_[at].name, read->size(), segment_bytes_)
                 : read.error().what + ": " + read.error().why;
        return std::optional<ByteView>();
      }
      bytes = std::move(*read);
      return std::optional(ByteView(bytes));
    };
    auto scan = scan_wal(options, segment, [&](const WalRecord&) {
      stretch.has_records = true;
      return true;
    });
    if (!scan) {
      // Another cluster's file, or damage: what came before it in this stretch would have been told already.
      if (at == first || !stretch.has_records) {
        stretch.has_records = false;
        stretch.why = scan.error().what + (scan.error().why.empty() ? "" : ": " + scan.error().why);
        return stretch;
      }
      stretch.to = files_[at].start;
      stretch.why = scan.error().what;
      return stretch;
    }
    stretch.to = scan->to;
    if (scan->stop) {
      stretch.why = fmt::format("no further record ({})", name_of(scan->stop->reason));
    } else {
      stretch.why = trouble.empty() ? "its last record goes on in a file that is not there" : trouble;
    }
    if (!stretch.has_records) {
      stretch.why = "it holds no record under this name: " +
                    (scan->stop ? std::string(name_of(scan->stop->reason)) : stretch.why);
    }
    return stretch;
  }
};

}  // namespace

Result<SalvageReport> find_salvage(const std::string& data_directory, uint64_t expected_system_id) {
  TRY_ASSIGN(auto pid, running_server(data_directory));
  if (pid) {
    return fail(ErrorKind::kRefused,
                fmt::format("a PostgreSQL server is running in {} (process {})", data_directory, *pid),
                "its WAL is not finished: it archives it itself",
                "stop it first: pg_ctl stop -D " + data_directory);
  }
  auto raw = read_file(join_path(data_directory, "global/pg_control"), kControlReadMax);
  if (!raw) return std::move(raw).error().within(fmt::format("{} is no data directory", data_directory));
  TRY_ASSIGN(ControlFile control, parse_control_file(*raw));
  if (expected_system_id != 0 && control.system_id != expected_system_id) {
    return fail(ErrorKind::kRefused, fmt::format("{} is another cluster", data_directory),
                fmt::format("its system id is {}, expected is {}", control.system_id, expected_system_id),
                "name the old data directory of this resource");
  }
  SalvageReport report{.system_id = control.system_id, .segment_bytes = control.segment_bytes};

  const std::string folder = join_path(data_directory, "pg_wal");
  TRY_ASSIGN(auto entries, list_folder(folder));
  std::map<Timeline, std::vector<Candidate>> files;
  for (const auto& entry : entries) {
    if (entry.type == FileType::kFolder) continue;      // archive_status, summaries
    if (entry.name.starts_with("kuramori.")) continue;  // ours: kTailFile, what `wal get` listens on
    const std::string path = join_path(folder, entry.name);
    auto name = parse_wal_file_name(entry.name, control.segment_bytes);
    if (!name) {
      report.left.push_back({entry.name, "no name of a WAL file of this cluster"});
      continue;
    }
    switch (name->kind) {
      case WalFileKind::kSegment:
        files[name->timeline].push_back({entry.name, path, name->start});
        break;
      case WalFileKind::kHistory: {
        auto text = read_file(path, kTimelineHistoryBytesMax);
        auto parsed = text ? parse_timeline_history(as_text(*text), name->timeline)
                           : Result<TimelineHistory>(std::move(text).error());
        if (parsed) {
          report.histories.push_back(path);
        } else {
          report.left.push_back({entry.name, parsed.error().what});
        }
        break;
      }
      case WalFileKind::kPartial:
      case WalFileKind::kBackup:
        report.left.push_back({entry.name, "only segments and histories are needed"});
        break;
    }
  }
  for (auto& [timeline, candidates] : files) {
    std::ranges::sort(candidates, {}, &Candidate::start);
    TRY(TimelineSalvage(timeline, std::move(candidates), control.system_id, control.segment_bytes)
            .run(report));
  }
  return report;
}

Result<Bytes> read_salvaged(const SalvagedSegment& segment) {
  TRY_ASSIGN(Fd file, open_file(segment.path));
  Bytes bytes(segment.to - segment.start);
  TRY(pread_full(file, 0, bytes, segment.path));
  return bytes;
}

}  // namespace kuramori::postgres
