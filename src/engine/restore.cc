#include "engine/restore.h"

#include <fmt/core.h>
#include <unistd.h>

#include "base/time_text.h"
#include "conc/task_group.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/roles.h"
#include "engine/thaw.h"
#include "engine/wal_spool.h"
#include "os/file.h"
#include "os/process.h"
#include "source/postgres/binaries.h"
#include "source/postgres/connection.h"
#include "source/postgres/salvage.h"
#include "source/postgres/target_scan.h"
#include "vault/session.h"

namespace kuramori {
namespace {

constexpr std::string_view kOwnPrefix = ".kuramori/";
constexpr std::string_view kConfigPrefix = ".kuramori/config/";
constexpr std::string_view kTablespacePrefix = "pg_tblspc/";
constexpr Duration kStartLimit = std::chrono::hours(24);  // recovery may replay weeks of WAL
constexpr Duration kStartPoll = std::chrono::milliseconds(50);
constexpr size_t kLogTailBytes = 2000;

std::string shown_time(int64_t ns) {
  return format_moment(from_unix_ns(ns));
}

// Where the parts of a cluster's tree go.
class Placement {
 public:
  Placement(std::string target, const std::vector<postgres::Tablespace>& tablespaces)
      : target_(std::move(target)) {
    for (const auto& tablespace : tablespaces) {
      if (!tablespace.in_place)
        places_[fmt::format("{}{}", kTablespacePrefix, tablespace.oid)] = tablespace.place;
    }
  }

  std::optional<std::string> operator()(const TreeEntry& entry) const {
    std::string_view path = entry.path;
    // Configuration that stood outside the data directory goes beside it, for a person to look at (P56).
    if (path.starts_with(kConfigPrefix))
      return target_ + ".config/" + std::string(path.substr(kConfigPrefix.size()));
    if (path == ".kuramori/config") return target_ + ".config";
    if (path == ".kuramori" || path.starts_with(kOwnPrefix)) return {};
    if (path == "tablespace_map") return {};  // written anew, with the new places (P13)
    if (path.starts_with(kTablespacePrefix)) {
      size_t slash = path.find('/', kTablespacePrefix.size());
      auto place = places_.find(std::string(path.substr(0, slash)));
      if (place != places_.end()) {
        if (slash == std::string_view::npos) return {};  // the link itself
        return place->second + std::string(path.substr(slash));
      }
    }
    return std::string(path);
  }

 private:
  std::string target_;
  std::map<std::string, std::string, std::less<>> places_;
};

// A word of a command that PostgreSQL gives to sh, after it has replaced %f, %p and %%.
std::string for_server_shell(std::string_view word) {
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : c == '%' ? "%%" : std::string(1, c);
  return quoted + "'";
}

Result<uint64_t> salvage_wal(Vault& vault, const RestoreRequest& request, Reporter& reporter) {
  TRY(must_be_allowed(vault, Act::kArchive));
  TRY_ASSIGN(ResourceRecord resource, vault.resource(request.resource));
  uint64_t system_id = std::strtoull(resource.system.c_str(), nullptr, 10), added = 0;
  reporter.phase("salvaging WAL", 0);
  TRY_ASSIGN(auto found, postgres::find_salvage(request.salvage, system_id));
  for (const std::string& path : found.histories) {
    TRY_ASSIGN(Bytes content, read_file(path));
    TRY(push_wal_bytes(vault, resource, path.substr(path.rfind('/') + 1), content));
  }
  for (const auto& segment : found.segments) {
    TRY_ASSIGN(Bytes content, postgres::read_salvaged(segment));
    WalHeader header{.system_id = system_id,
                     .timeline = segment.timeline,
                     .from = segment.start,
                     .to = segment.to,
                     .segment_bytes = found.segment_bytes,
                     .file = segment.name};
    // The last one ends where its last whole record does: a part of a segment, not a segment.
    auto kind = segment.whole ? names::WalKind::kSegment : names::WalKind::kPart;
    const std::string folder = segment.path.substr(0, segment.path.rfind('/') + 1);
    auto changes =
        segment.whole
            ? changes_of_segment(header, content,
                                 postgres::earlier_in_folder(folder, segment.timeline, found.segment_bytes))
            : WalChanges();
    TRY_ASSIGN(WalPut put, put_wal(vault, resource.id, kind, header, content, {.changes = changes}));
    if (put == WalPut::kStored) {
      ++added;
      reporter.note(fmt::format("{} was not archived yet: salvaged to {}", segment.name,
                                postgres::format_lsn(segment.to)));
    }
  }
  for (const auto& left : found.left) reporter.note(fmt::format("{} was left: {}", left.name, left.why));
  return added;
}

Result<postgres::RecoverySettings> settings_of(const SnapshotReader& snapshot) {
  TRY_ASSIGN(Bytes control, snapshot.read_small_file("global/pg_control"));
  TRY_ASSIGN(auto parsed, postgres::parse_control_file(control));
  return parsed.settings;
}

std::vector<std::string> as_account(const postgres::Account& account, std::vector<std::string> argv) {
  if (geteuid() != 0) return argv;
  std::vector<std::string> wrapped{"setpriv", fmt::format("--reuid={}", account.uid),
                                   fmt::format("--regid={}", account.gid), "--clear-groups"};
  wrapped.insert(wrapped.end(), argv.begin(), argv.end());
  return wrapped;
}

// The snapshot of this resource whose restore into `target` was interrupted. With a control file it was not:
// that is written last, and a server may be running there.
std::optional<std::string> interrupted_in(const Restorable& restorable, const std::string& target) {
  auto control = status_if_there(join_path(target, "global/pg_control"));
  if (!control || *control) return {};
  auto id = interrupted_restore(target);
  bool ours =
      id && std::any_of(restorable.snapshots.begin(), restorable.snapshots.end(),
                        [&](const Snapshot& snapshot) { return snapshot.commit.snapshot.hex() == *id; });
  return ours ? id : std::nullopt;
}

// Starts the restored server for good, and waits until it is what `action` asks for.
Result<void> start_server(const RestoreRequest& request, const Snapshot& base,
                          const postgres::Account& account, Clock& clock, RestoreOutcome& outcome) {
  Duration began = clock.steady();
  TRY_ASSIGN(uint64_t version, number_fact(base.commit, "postgres.version"));
  TRY_ASSIGN(auto programs, postgres::find_programs(postgres::major_of(static_cast<uint32_t>(version))));
  std::string log = join_path(request.to, "kuramori-start.log");
  std::vector<std::string> argv{
      programs.folder + "/pg_ctl", "-D", request.to, "-w", "-t", "86400", "-l", log};
  if (request.port != 0) argv.insert(argv.end(), {"-o", fmt::format("-p {}", request.port)});
  argv.push_back("start");
  Command command{.argv = as_account(account, argv), .folder = "/"};
  command.timeout = kStartLimit;
  TRY_ASSIGN(Finished finished, run(command));
  auto not_started = [&](std::string what) {
    auto tail = read_file(log);
    std::string text = tail ? std::string(as_text(*tail)) : finished.errors;
    if (text.size() > kLogTailBytes) text = text.substr(text.size() - kLogTailBytes);
    return fail(ErrorKind::kFailed, std::move(what), text,
                fmt::format("look at {}; the restored files are whole", log));
  };
  // pg_ctl is content with a server that takes read-only queries while it still recovers; a person is not.
  // What the server has become stands in its control file, whatever its authentication lets us ask.
  std::string control = join_path(request.to, "global/pg_control");
  Duration limit = clock.steady() + kStartLimit;
  for (;;) {
    TRY_ASSIGN(Bytes bytes, read_file(control));
    auto state = postgres::parse_control_file(bytes);
    bool running = true;
    if (auto pid = postgres::running_server(request.to)) running = pid->has_value();
    if (state) {
      if (request.action == postgres::AtTarget::kShutdown && !running &&
          state->state == postgres::ClusterState::kShutDownInRecovery) {
        break;
      }
      if (running && state->state == postgres::ClusterState::kInProduction) {
        outcome.new_timeline = state->timeline;
        break;
      }
      bool open_in_recovery = request.standby || request.action == postgres::AtTarget::kPause;
      if (running && finished.exit.ok() && open_in_recovery) break;
    }
    if (!running && (!finished.exit.ok() || request.action != postgres::AtTarget::kShutdown)) {
      return not_started(fmt::format("the restored server in {} did not start", request.to));
    }
    if (clock.steady() > limit)
      return not_started(fmt::format("the restored server in {} does not open", request.to));
    clock.sleep(kStartPoll);
  }
  outcome.started = true;
  outcome.seconds_to_open = std::chrono::duration<double>(clock.steady() - began).count();
  return {};
}

}  // namespace

Result<Restorable> load_restorable(Vault& vault, std::string_view resource_name) {
  TRY(must_be_allowed(vault, Act::kReadContent));
  TRY_ASSIGN(ResourceSnapshots list, list_snapshots_of(vault, resource_name));
  TRY_ASSIGN(LoadedArchive loaded, load_archive(vault, list.resource));
  Restorable restorable{.resource = std::move(list.resource),
                        .snapshots = std::move(list.snapshots),
                        .bases = {},
                        .loaded = std::move(loaded)};
  for (const Snapshot& snapshot : restorable.snapshots) {
    postgres::Base base{.id = snapshot.commit.snapshot.hex(), .stop_ns = snapshot.commit.finished_ns};
    TRY_ASSIGN(uint64_t timeline, number_fact(snapshot.commit, "postgres.timeline"));
    TRY_ASSIGN(base.start_lsn, number_fact(snapshot.commit, "postgres.start_lsn"));
    TRY_ASSIGN(base.stop_lsn, number_fact(snapshot.commit, "postgres.stop_lsn"));
    base.timeline = static_cast<postgres::Timeline>(timeline);
    restorable.bases.push_back(std::move(base));
  }
  return restorable;
}

postgres::ScanSegment segment_scanner(Vault& vault, const Restorable& restorable) {
  return postgres::scan_fetched(
      [&vault, &restorable](const postgres::SegmentSource& source) {
        return fetch_segment(vault, restorable.loaded, source);
      },
      restorable.loaded.archive.segment_bytes(),
      std::strtoull(restorable.resource.system.c_str(), nullptr, 10));
}

postgres::RestorePlanner restore_planner(Vault& vault, const Restorable& restorable) {
  return postgres::RestorePlanner(restorable.loaded.archive, restorable.bases,
                                  segment_scanner(vault, restorable), shown_time);
}

std::map<std::string, std::string> read_origin(const SnapshotReader& snapshot) {
  std::map<std::string, std::string> values;
  auto bytes = snapshot.read_small_file(".kuramori/origin");
  if (!bytes) return values;
  std::string_view text = as_text(*bytes);
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    size_t equals = line.find('=');
    if (equals != std::string_view::npos)
      values[std::string(line.substr(0, equals))] = line.substr(equals + 1);
  }
  return values;
}

Result<RestoreOutcome> restore_postgres(Vault& vault, const RestoreRequest& request, Reporter& reporter,
                                        std::stop_token stop) {
  RestoreOutcome outcome{.target = request.to};

  // 1. What the dead server still had becomes part of the archive first (D8).
  if (!request.salvage.empty()) {
    TRY_ASSIGN(outcome.segments_salvaged, salvage_wal(vault, request, reporter));
  }

  // 2. Decide, and refuse before anything is written.
  TRY_ASSIGN(Restorable restorable, load_restorable(vault, request.resource));
  postgres::TargetRequest target = request.target;
  // A standby follows what is archived; it stops nowhere unless told.
  if (request.standby && target.kind == postgres::TargetKind::kSnapshot)
    target.kind = postgres::TargetKind::kLatest;
  if (!request.snapshot.empty() &&
      !(request.snapshot == "latest" && target.kind != postgres::TargetKind::kSnapshot)) {
    TRY_ASSIGN(const Snapshot* wanted, find_snapshot(restorable.snapshots, request.snapshot));
    target.base = static_cast<size_t>(wanted - restorable.snapshots.data());
  }
  if (restorable.snapshots.empty()) {
    return fail(ErrorKind::kRefused, fmt::format("{} has no snapshot to restore from", request.resource), "",
                fmt::format("kuramori backup {}", request.resource));
  }
  auto planner = restore_planner(vault, restorable);
  TRY_ASSIGN(outcome.plan, planner.find(target));
  outcome.base = restorable.snapshots[outcome.plan.base];
  const CommitRecord& commit = outcome.base.commit;

  // Both at once: far away, each is some requests that wait for one another.
  const Protocol protocol = protocol_of(vault);
  std::optional<Result<void>> readable_or;
  std::optional<Result<std::unique_ptr<SnapshotReader>>> opened;
  TRY(parallel_for(2, 2, stop, [&](size_t i, std::stop_token) -> Result<void> {
    if (i == 0)
      readable_or = must_be_readable(vault, outcome.base, stop);
    else
      opened =
          SnapshotReader::open(vault.store(), vault.keys(), vault.codec(), outcome.base.commit_name, commit);
    return {};
  }));
  Result<void>& readable = *readable_or;
  if (request.estimate) {
    TRY_ASSIGN(const FetchCost cost, cost_of_fetching(vault, outcome.base));
    outcome.far = vault.store().tiers() != nullptr;
    outcome.estimated_bytes = cost.bytes;
    outcome.estimated_requests = cost.requests;
    for (const auto& segment : outcome.plan.segments) {
      outcome.estimated_requests += segment.pieces.size();
      for (size_t piece : segment.pieces)
        outcome.estimated_bytes += restorable.loaded.objects[piece].stored_bytes;
    }
    if (!readable) {
      if (readable.error().kind != ErrorKind::kRefused) return std::move(readable).error();
      outcome.notes.push_back(fmt::format("{}: {}; first: {}", readable.error().what, readable.error().why,
                                          readable.error().next));
      return outcome;
    }
  }
  TRY(readable);
  // It was listed a moment ago; should it be gone by now, that is no damage.
  if (!*opened) return explain_read(protocol, {outcome.base.commit_name}, std::move(*opened).error());
  auto snapshot = std::move(**opened);
  if (request.estimate) {
    TRY_ASSIGN(const double bytes_per_second, sampled_speed(*snapshot, vault.clock()));
    if (bytes_per_second > 0)
      outcome.estimated_seconds =
          static_cast<double>(commit.size_bytes) / (bytes_per_second * std::max(1u, request.workers));
    return outcome;
  }
  snapshot->expect_everything();

  // 3. The place.
  TRY_ASSIGN(uint64_t system_id, number_fact(commit, "postgres.system_id"));
  TRY_ASSIGN(auto account, postgres::server_account());
  auto use = request.use;
  bool move_aside = false, replaces = false;
  auto interrupted = interrupted_in(restorable, request.to);
  if (interrupted == commit.snapshot.hex()) {
    // The same again: it goes on. Moved aside, in an --overwrite, was what had been there before.
    if (use == postgres::TargetUse::kOverwrite) use = postgres::TargetUse::kNew;
  } else if (interrupted && use != postgres::TargetUse::kNew) {
    use = postgres::TargetUse::kDelta;  // of another snapshot of this resource, and cannot be started
  } else {
    interrupted.reset();
    TRY_ASSIGN(auto state, postgres::check_target(request.to, system_id, request.use));
    bool there = state == postgres::TargetState::kStoppedCluster;
    move_aside = there && use == postgres::TargetUse::kOverwrite;
    replaces = there && use != postgres::TargetUse::kNew;
    // Nothing there to differ from: a delta restore is then a plain one, with its direct writes and its
    // journal.
    if (use == postgres::TargetUse::kDelta && !there) use = postgres::TargetUse::kNew;
  }
  auto origin = read_origin(*snapshot);
  std::string tablespace_map;
  if (auto text = snapshot->read_small_file("tablespace_map")) tablespace_map = as_text(*text);
  TRY_ASSIGN(auto tablespaces, postgres::place_tablespaces(tablespace_map, request.to, request.tablespaces,
                                                           origin["data_directory"],
                                                           interrupted || use == postgres::TargetUse::kDelta
                                                               ? postgres::LinkedPlace::kMayHoldData
                                                               : postgres::LinkedPlace::kMustBeEmpty));
  outcome.tablespaces = tablespaces;
  if (replaces && request.may_replace) TRY(request.may_replace(outcome.base));

  // 4. Keep the snapshot from being collected while it is read.
  TRY_ASSIGN(RenewedReading reading, read_for_long(protocol, outcome.base, reporter));
  if (!reading.is_protected())
    reporter.note("this key may not announce a reader: the snapshot is not kept from being collected");

  // 5. The files; what makes it recover; pg_control last. The old copy goes aside when nothing is left to
  // refuse.
  auto bring_back = [&]() -> Result<void> {
    if (move_aside) {
      TRY_ASSIGN(outcome.moved_aside, postgres::move_aside(request.to, vault.clock().now()));
    }
    Duration began = vault.clock().steady();
    TRY_ASSIGN(auto limits, settings_of(*snapshot));
    postgres::RecoveryConfig config{
        .mode = request.standby ? postgres::RecoveryMode::kStandby : postgres::RecoveryMode::kArchive,
        .immediate = outcome.plan.immediate,
        .target_lsn = outcome.plan.target_lsn,
        .inclusive = outcome.plan.inclusive,
        .timeline = outcome.plan.timeline,
        .action = request.action,
        .continue_archiving = request.continue_archiving,
        .archive_command = request.archive_command,
        .limits = limits};
    if (commit.facts.contains("postgres.in_place_tablespaces") ||
        commit.facts.contains("in_place_tablespaces")) {
      config.extra["allow_in_place_tablespaces"] = "on";  // recovery refuses folders in pg_tblspc without it
    }
    std::string spool = request.to + std::string(kSpoolFolder);
    config.restore_command = request.spool_wal
                                 ? fmt::format("{} wal get --spool {} %f %p",
                                               for_server_shell(request.program), for_server_shell(spool))
                                 : fmt::format("{} --promise '{}' %f %p", request.wal_get,
                                               postgres::format_promise(outcome.plan.promise));
    FileRestoreOptions files{
        .target = request.to,
        .workers = request.workers,
        .delta = use == postgres::TargetUse::kDelta,
        .place = Placement(request.to, tablespaces),
        .last = [](const TreeEntry& entry) { return entry.path == "global/pg_control"; }};
    // The links say whose the tablespaces' places are, should this be interrupted.
    files.before_first = [&] { return postgres::link_tablespaces(request.to, tablespaces); };
    files.before_last = [&]() -> Result<void> {
      TRY(postgres::link_tablespaces(request.to, tablespaces));
      TRY_ASSIGN(auto report, postgres::configure_recovery(request.to, config));
      outcome.notes.insert(outcome.notes.end(), report.notes.begin(), report.notes.end());
      if (request.spool_wal) {
        TRY(fill_spool(vault, restorable.loaded, outcome.plan, spool, request.workers, reporter, stop));
        TRY(refuse_live_places(outcome.plan, restorable.bases[outcome.plan.base].start_lsn, spool,
                               restorable.loaded.archive.segment_bytes(), reporter));
      }
      return {};
    };
    TRY_ASSIGN(outcome.files, restore_files(*snapshot, files, reporter, stop));
    TRY(postgres::give_to(request.to, account, false));
    for (const auto& tablespace : tablespaces) {
      if (!tablespace.in_place) TRY(postgres::give_to(tablespace.place, account, false));
    }
    if (request.spool_wal) TRY(postgres::give_to(spool, account, false));
    outcome.seconds_files = std::chrono::duration<double>(vault.clock().steady() - began).count();
    // What recovery fetches is kept as well while we watch it: WAL below the next snapshot's start goes with
    // the one that is read here.
    if (request.start) {
      reporter.phase("starting the server", 0);
      TRY(start_server(request, outcome.base, account, vault.clock(), outcome));
    }
    return {};
  };
  Result<void> brought = bring_back();
  // Whatever became of it: a session that stays keeps its space for days.
  if (auto ended = reading.end(); !ended)
    reporter.note(
        fmt::format("the reader's session stays until a collection ends it: {}", ended.error().what));
  if (!brought) return explain_read(protocol, {outcome.base.commit_name}, std::move(brought).error());
  return outcome;
}

}  // namespace kuramori
