#include "engine/wal_spool.h"

#include <fcntl.h>
#include <fmt/core.h>

#include "conc/task_group.h"
#include "os/file.h"
#include "source/postgres/wal_facts.h"

namespace kuramori {
namespace {
constexpr std::string_view kPromiseFile = "promise";  // the plan's promise, and the segment size
}

Result<void> fill_spool(Vault& vault, const LoadedArchive& loaded, const postgres::RecoveryPlan& plan,
                        const std::string& folder, unsigned workers, Reporter& reporter,
                        std::stop_token stop) {
  // Left from an earlier restore to this place: perhaps of another cluster, or beyond this one's target.
  TRY(remove_tree(folder));
  TRY(make_folders(folder, 0700));
  uint32_t segment_bytes = loaded.archive.segment_bytes();
  reporter.phase("fetching WAL", plan.segments.size() * uint64_t{segment_bytes});
  TRY(parallel_for(plan.segments.size(), workers, stop, [&](size_t i, std::stop_token) -> Result<void> {
    const postgres::SegmentSource& source = plan.segments[i];
    TRY_ASSIGN(Bytes content, fetch_segment(vault, loaded, source));
    std::string name = postgres::segment_name(source.timeline, source.start, segment_bytes);
    TRY(write_file_durably(join_path(folder, name), content));
    reporter.advance(content.size());
    return {};
  }));
  // All histories: those of the way there, and those that say which timeline numbers are taken.
  const auto& pieces = loaded.archive.pieces();
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].kind != postgres::PieceKind::kHistory) continue;
    TRY_ASSIGN(Bytes content, get_wal(vault, loaded.objects[i]));
    TRY(write_file_durably(join_path(folder, postgres::history_name(pieces[i].timeline)), content));
  }
  std::string promise = fmt::format("{}\n{}\n", postgres::format_promise(plan.promise), segment_bytes);
  return write_file_durably(join_path(folder, kPromiseFile), as_bytes(promise));
}

Result<void> scan_spool(const postgres::RecoveryPlan& plan, const std::string& folder, uint32_t segment_bytes,
                        const postgres::SeeRecord& see) {
  if (plan.segments.empty()) return {};
  Bytes bytes, before;  // the reader may still hold views of the one before
  size_t at = 0;
  auto segment = [&](uint64_t number) -> Result<std::optional<ByteView>> {
    while (at < plan.segments.size() && plan.segments[at].start / segment_bytes < number) ++at;
    if (at >= plan.segments.size() || plan.segments[at].start / segment_bytes != number)
      return std::optional<ByteView>();
    before = std::move(bytes);
    TRY_ASSIGN(bytes,
               read_file(join_path(folder, postgres::segment_name(plan.segments[at].timeline,
                                                                  plan.segments[at].start, segment_bytes)),
                         kWalFileBytesMax));
    return std::optional(ByteView(bytes));
  };
  TRY(postgres::scan_wal(
      {.from = plan.segments.front().start, .segment_bytes = segment_bytes}, segment,
      [&](const postgres::WalRecord& record) { return record.lsn < plan.reached && see(record); }));
  return {};
}

Result<void> refuse_live_places(const postgres::RecoveryPlan& plan, postgres::Lsn from,
                                const std::string& folder, uint32_t segment_bytes, Reporter& reporter) {
  std::map<std::string, postgres::Lsn> places;
  auto see = [&](const postgres::WalRecord& record) {
    if (record.lsn < from) return true;  // the snapshot has it
    if (record.rmgr != postgres::kRmTablespace) return true;
    auto fact = postgres::fact_of(record);
    if (!fact || !*fact) return true;
    if (const auto* made = std::get_if<postgres::TablespaceCreated>(&**fact))
      places.emplace(made->path, record.lsn);
    return true;
  };
  TRY(scan_spool(plan, folder, segment_bytes, see));
  for (const auto& [place, lsn] : places) {
    if (!place.starts_with('/')) continue;  // in place: inside the copy
    TRY_ASSIGN(auto status, status_if_there(place));
    if (!status) {
      reporter.warning(fmt::format(
          "recovery needs the folder {}, which is not there: make it before the server starts", place));
      continue;
    }
    auto entries = list_folder(place);
    if (entries && entries->empty()) continue;
    return fail(
        ErrorKind::kRefused, fmt::format("recovery would write into {}, which is not empty", place),
        fmt::format("the WAL makes a tablespace there at {}, and replay cannot be told another place",
                    postgres::format_lsn(lsn)),
        "restore from a newer snapshot, which has it (--tablespace maps it), or on another machine, or move "
        "the folder away if nobody uses it");
  }
  return {};
}

int get_from_spool(const std::string& folder, const std::string& name, const std::string& path,
                   std::string& why) {
  auto stop = [&](std::string reason) {
    why = std::move(reason);
    return postgres::kGetStopServer;
  };
  auto promise_bytes = read_file(join_path(folder, kPromiseFile));
  if (!promise_bytes)
    return stop(
        fmt::format("{} cannot be read: {}", join_path(folder, kPromiseFile), promise_bytes.error().why));
  std::string_view text = as_text(*promise_bytes);
  size_t line = text.find('\n');
  if (line == std::string_view::npos) return stop("the spool's promise is not whole");
  auto promise = postgres::parse_promise(text.substr(0, line));
  if (!promise) return stop(promise.error().what);
  uint32_t segment_bytes =
      static_cast<uint32_t>(std::strtoul(std::string(text.substr(line + 1)).c_str(), nullptr, 10));
  auto parsed = postgres::parse_wal_file_name(name, segment_bytes);
  if (!parsed) return stop(parsed.error().what);
  auto content = read_file(join_path(folder, name), kWalFileBytesMax);
  if (content) {
    if (parsed->kind == postgres::WalFileKind::kSegment && content->size() != segment_bytes) {
      return stop(fmt::format("{} is not whole", name));
    }
    auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!fd) return stop(fd.error().what);
    auto done = write_full(*fd, *content, path);
    if (!done) return stop(done.error().what);
    return postgres::kGetFound;
  }
  if (content.error().kind != ErrorKind::kNotFound) return stop(content.error().what);
  // Not there. All histories that existed were fetched; of segments, all that the plan promised.
  if (parsed->kind != postgres::WalFileKind::kSegment) return postgres::kGetBeyondEnd;
  if (parsed->start >= promise->until) return postgres::kGetBeyondEnd;
  // A segment of another timeline at a place that the lineage takes from its own: PostgreSQL tries the newest
  // first.
  bool on_lineage = false;
  for (const auto& leg : promise->lineage) {
    if (leg.timeline == parsed->timeline && parsed->start + segment_bytes > leg.begin &&
        parsed->start < leg.end)
      on_lineage = true;
  }
  if (!on_lineage) return postgres::kGetBeyondEnd;
  // At a switch the child's segment holds the parent's bytes too: the other one need not be there.
  for (const auto& leg : promise->lineage) {
    auto other = status_if_there(
        join_path(folder, postgres::segment_name(leg.timeline, parsed->start, segment_bytes)));
    if (other && *other) return postgres::kGetBeyondEnd;
  }
  return stop(fmt::format("{} was promised and is not there", name));
}

}  // namespace kuramori
