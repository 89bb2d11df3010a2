// One run is a row of connections. Each begins with what the server is and has (begin_session), then reads
// until the timeline ends, the connection is lost, or it is told to stop (follow). Between two connections
// everything that was received becomes durable first, and what is durable is remembered: the next begins at
// exactly that byte, so that nothing is ever skipped, whatever happened to the server meanwhile (P38).
#include "engine/wal_stream.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "engine/roles.h"
#include "engine/slot_watch.h"
#include "engine/wal.h"
#include "os/file.h"
#include "source/postgres/connection.h"
#include "source/postgres/replication.h"
#include "source/postgres/stream_start.h"
#include "source/postgres/timeline_history.h"

namespace kuramori {
namespace {

using postgres::Arrival;
using postgres::Lsn;
using postgres::Replication;
using postgres::Timeline;

constexpr Duration kStatusEvery = std::chrono::seconds(1);  // to the server, and to the caller
constexpr Duration kSilenceMax = std::chrono::seconds(60);  // of the server, which is asked every second
constexpr Duration kReconnectFirst = std::chrono::milliseconds(100);
constexpr Duration kReconnectLast = std::chrono::seconds(10);
constexpr Duration kStopGrace = std::chrono::seconds(15);       // for what was received to become durable
constexpr Duration kPollLast = std::chrono::milliseconds(200);  // until a request to stop is noticed
constexpr size_t kMarksMax = 4096;
constexpr size_t kSlotNameMax = 63;
constexpr size_t kMessagesAtOnce = 256;  // taken before anything else is looked at

constexpr const char* kFactsQuery =
    "SELECT (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), pg_is_in_recovery(),"
    " current_setting('wal_level'), EXISTS (SELECT FROM pg_stat_replication WHERE pid = $1::int)";
constexpr const char* kSlotQuery =
    "SELECT coalesce(restart_lsn::text, ''), slot_type, coalesce(wal_status, '') FROM pg_replication_slots"
    " WHERE slot_name = $1";

// Why a connection ended.
enum class Ended : uint8_t { kTimeline, kConnection, kAsked };

class Streamer {
 public:
  Streamer(Vault& vault, const WalStreamRequest& request, Reporter& reporter, std::stop_token stop)
      : vault_(vault),
        request_(request),
        reporter_(reporter),
        stop_(std::move(stop)),
        slot_(request.slot.empty() ? stream_name(request.resource) : request.slot),
        name_(request.application_name.empty() ? stream_name(request.resource) : request.application_name),
        from_here_(request.from_here) {}

  Result<WalStreamState> run() {
    TRY(must_be_allowed(vault_, Act::kArchive));
    TRY(check_slot_name());
    wake_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!wake_.valid()) return system_error("no eventfd", errno);
    Duration pause = kReconnectFirst;
    for (;;) {
      Result<Ended> ended = session();
      state_.connected = false;
      if (!ended) {
        // Once it has worked, whatever may be over in a while is waited for, here and in the vault.
        const ErrorKind kind = ended.error().kind;
        const bool is_final = kind == ErrorKind::kRefused || kind == ErrorKind::kUsage ||
                              kind == ErrorKind::kDamaged || kind == ErrorKind::kInterrupted;
        const bool may_pass = sink_ && (told_start_ ? !is_final : kind == ErrorKind::kUnknown);
        if (!may_pass || stop_.stop_requested()) return std::move(ended).error();
        if (!told_away_) {
          reporter_.warning(fmt::format("{}{}{}; trying again", ended.error().what,
                                        ended.error().why.empty() ? "" : ": ", ended.error().why));
        }
        told_away_ = true;
      } else if (*ended == Ended::kAsked) {
        tell_progress();
        return state_;
      }
      // Durable first: what comes next is decided from what is in the vault.
      if (sink_) TRY(drain());
      if (stop_.stop_requested()) return state_;
      if (ended && *ended == Ended::kTimeline) continue;
      if (ended) pause = kReconnectFirst;
      wait_for(pause);
      pause = std::min(pause * 2, kReconnectLast);
      if (stop_.stop_requested()) return state_;
    }
  }

 private:
  Result<void> check_slot_name() const {
    const bool allowed =
        !slot_.empty() && slot_.size() <= kSlotNameMax && std::ranges::all_of(slot_, [](unsigned char c) {
          return std::islower(c) || std::isdigit(c) || c == '_';
        });
    if (allowed) return {};
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no name of a replication slot", slot_),
                "PostgreSQL takes lower-case letters, digits and _, 63 at most",
                "choose another: --slot NAME");
  }

  void wait_for(Duration limit) {
    pollfd place{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    const auto until = vault_.clock().steady() + limit;
    while (!stop_.stop_requested() && vault_.clock().steady() < until) {
      const auto left = std::min<Duration>(kPollLast, until - vault_.clock().steady());
      ::poll(&place, 1,
             static_cast<int>(
                 std::chrono::ceil<std::chrono::milliseconds>(std::max(left, Duration(1))).count()));
      if (take_wake()) return;
    }
  }
  bool take_wake() {
    uint64_t count = 0;
    return ::read(wake_.get(), &count, sizeof count) == sizeof count;
  }

  // One connection, from its making to its end.
  Result<Ended> session() {
    TRY_ASSIGN(Replication server, Replication::open(request_.connect, name_));
    TRY_ASSIGN(const postgres::SystemIdentity identity, server.identify());
    TRY_ASSIGN(const postgres::StreamStart start, begin_session(server, identity));
    auto follows = server.start(slot_, start.from, start.timeline);
    if (!follows) return explain(std::move(follows).error(), start);
    if (!*follows) return Ended::kTimeline;
    TRY_ASSIGN(std::vector<WalObject> known, known_parts(start));
    sink_->begin(start.timeline, start.from, start.durable, std::move(known));
    position_ = {start.timeline, start.durable};
    // What earlier runs acknowledged, and to whom, is not known any more.
    if (!promised_) promised_ = position_;
    begun_at_ = start.from;
    flushed_at_begin_ = identity.flushed;
    state_.connected = true;
    state_.server = server.where();
    marks_.clear();
    if (!once_until_) once_until_ = identity.flushed;
    if (told_away_) reporter_.note(fmt::format("connected again, to {}", server.where()));
    told_away_ = false;
    if (!told_start_ || start.leaves_hole) {
      reporter_.note(fmt::format("streaming timeline {} from {} of {}, slot {}", start.timeline,
                                 postgres::format_lsn(start.durable), server.where(), slot_));
    }
    told_start_ = true;
    SlotWatch watch(server.same_host(request_.connect), slot_, server.backend_pid(), request_.slot_warn_bytes,
                    reporter_);
    is_relied_on_ = true;
    auto ended = follow(server, watch, identity);
    position_ = {sink_->timeline(), sink_->durable()};
    if (ended || ended.error().kind != ErrorKind::kNotFound) return ended;
    if (!from_here_ || begins_at_end_) return explain(std::move(ended).error(), start);
    // What the slot claims to hold is gone as well: the only place that is certain is the server's end.
    begins_at_end_ = true;
    return Ended::kTimeline;
  }

  Result<postgres::StreamStart> begin_session(Replication& server, const postgres::SystemIdentity& identity) {
    if (!sink_) {
      TRY_ASSIGN(resource_,
                 vault_.ensure_resource(request_.resource, "postgres", std::to_string(identity.system_id)));
    }
    if (resource_.system != std::to_string(identity.system_id)) {
      return fail(ErrorKind::kRefused,
                  fmt::format("{} is system {}, this server is {}", resource_.name, resource_.system,
                              identity.system_id),
                  "the cluster was made anew or upgraded (P15, P40)",
                  "give the new cluster a resource name of its own");
    }
    auto opened = postgres::Connection::open(server.same_host(request_.connect));
    if (!opened) {
      // It answered a moment ago: it may be going down.
      if (opened.error().kind == ErrorKind::kFailed) opened.error().kind = ErrorKind::kUnknown;
      return std::move(opened).error();
    }
    postgres::Connection& sql = *opened;
    TRY_ASSIGN(const auto facts, sql.query(kFactsQuery, {std::to_string(server.backend_pid())}));
    // Of several hosts each connection picks its own.
    if (!facts.is_true(0, 3)) {
      return fail(ErrorKind::kUnknown, "two connections reached two servers",
                  "the resource names several hosts", "add target_session_attrs=read-write to its connect:");
    }
    TRY_ASSIGN(const int64_t segment_bytes, facts.number(0, 0));
    if (!postgres::is_segment_size(static_cast<uint64_t>(segment_bytes)))
      return fail(ErrorKind::kFailed, fmt::format("{} bytes is no WAL segment size", segment_bytes));
    if (facts.text(0, 2) == "minimal") {
      return fail(ErrorKind::kRefused, "the server's WAL cannot be streamed", "wal_level is minimal",
                  "ALTER SYSTEM SET wal_level = 'replica'; -- then restart the server");
    }
    postgres::StreamFacts asked{.resource = request_.resource,
                                .segment_bytes = static_cast<uint32_t>(segment_bytes),
                                .archived = {},
                                .timeline = identity.timeline,
                                .flushed = identity.flushed,
                                .history = {.timeline = identity.timeline, .entries = {}},
                                .in_recovery = facts.is_true(0, 1),
                                .slot_lsn = 0,
                                .from_here = from_here_,
                                .promised = promised()};
    TRY_ASSIGN(asked.slot_lsn, slot_position(sql, server));
    if (begins_at_end_) asked.slot_lsn = identity.flushed;
    std::map<Timeline, std::string> histories;
    TRY_ASSIGN(asked.history, read_histories(server, identity.timeline, histories));
    TRY_ASSIGN(asked.archived, archived());
    TRY_ASSIGN(const postgres::StreamStart start, postgres::decide_stream_start(asked));
    // Before any of its WAL: a timeline that nothing leads to could not be followed (P32, P33). Not before it
    // is decided: the history alone of a server that is refused would change what "the latest" means. Other
    // content under this name is refused: two servers were promoted to one timeline.
    for (const auto& [timeline, text] : histories) {
      TRY(push_wal_bytes(vault_, resource_, postgres::history_name(timeline), as_bytes(text)));
      stored_histories_.insert(timeline);
    }
    if (!sink_) {
      sink_ = std::make_unique<WalSink>(vault_,
                                        SinkTarget{.resource = resource_.id,
                                                   .system_id = identity.system_id,
                                                   .segment_bytes = asked.segment_bytes},
                                        request_.flush, reporter_, wake_.get());
    }
    if (start.leaves_hole) {
      reporter_.warning(
          fmt::format("the archive has a hole before {}: take a new full snapshot (kuramori backup "
                      "{} --full); kuramori window shows the hole",
                      postgres::format_lsn(start.from), request_.resource));
    }
    if (start.abandoned) {
      reporter_.warning(fmt::format(
          "{} never received the last {} bytes of timeline {}, from {} on; the vault holds them. Commits in "
          "them are not on this server. To look at them: kuramori restore {} --timeline {} --latest --to "
          "FOLDER",
          server.where(), start.abandoned->to - start.abandoned->from, start.abandoned->timeline,
          postgres::format_lsn(start.abandoned->from), request_.resource, start.abandoned->timeline));
    }
    return start;
  }

  // A promise on an earlier timeline was kept when its successor was followed.
  Lsn promised() const {
    if (!position_ || !promised_) return postgres::kLsnMax;
    return promised_->timeline == position_->timeline ? promised_->durable : 0;
  }

  // Where the slot holds WAL from; it is made if it is not there.
  Result<Lsn> slot_position(postgres::Connection& sql, Replication& server) {
    TRY_ASSIGN(auto found, sql.query(kSlotQuery, {slot_}));
    if (found.rows() == 0) {
      auto made = server.make_slot(slot_);
      if (!made && made.error().kind != ErrorKind::kExists) return std::move(made).error();
      // Another server never had it; this one had.
      if (made && told_start_ && server.where() == state_.server) {
        reporter_.warning(fmt::format(
            "slot {} is made anew: something removed it, and nothing kept WAL for the stream since; "
            "with Patroni, name it under slots: (docs/postgres.md)",
            slot_));
      }
      TRY_ASSIGN(found, sql.query(kSlotQuery, {slot_}));
    }
    if (found.rows() == 0) return fail(ErrorKind::kFailed, fmt::format("slot {} is not there", slot_));
    const std::string drop = fmt::format("SELECT pg_drop_replication_slot('{}');", slot_);
    if (found.text(0, 1) != "physical") {
      return fail(ErrorKind::kRefused, fmt::format("slot {} is a logical one", slot_), "",
                  "choose another: --slot NAME");
    }
    if (found.text(0, 2) == "lost") {
      return fail(ErrorKind::kRefused,
                  fmt::format("slot {} was invalidated: the server removed its WAL", slot_),
                  "the stream was away for longer than max_slot_wal_keep_size allows",
                  fmt::format("drop it: psql -c \"{}\"; then run this again: it says what is missing", drop));
    }
    if (found.text(0, 0).empty()) return Lsn{0};
    return postgres::parse_lsn(found.text(0, 0));
  }

  // What the server's timeline came through; `texts`: its .history files that were not stored in this run.
  Result<postgres::TimelineHistory> read_histories(Replication& server, Timeline timeline,
                                                   std::map<Timeline, std::string>& texts) {
    postgres::TimelineHistory history{.timeline = timeline, .entries = {}};
    if (timeline == 1) return history;
    TRY_ASSIGN(const std::string text, server.timeline_history(timeline));
    TRY_ASSIGN(history, postgres::parse_timeline_history(text, timeline));
    if (!stored_histories_.contains(timeline)) texts[timeline] = text;
    for (const auto& entry : history.entries) {
      if (entry.timeline == 1 || stored_histories_.contains(entry.timeline)) continue;
      // An ancestor's file may be gone from the server for long.
      auto older = server.timeline_history(entry.timeline);
      if (older) texts[entry.timeline] = std::move(*older);
      if (!older && older.error().kind == ErrorKind::kUnknown) return std::move(older).error();
    }
    return history;
  }

  // From the vault when the run begins; then what this run has made durable itself.
  Result<std::vector<postgres::Stretch>> archived() {
    if (position_) return std::vector<postgres::Stretch>{{position_->timeline, 0, position_->durable}};
    TRY_ASSIGN(const WalListing listing, list_wal(vault_.store(), resource_.id));
    std::vector<postgres::Stretch> pieces;
    for (const WalObject& object : listing.objects) {
      if (object.name.kind == names::WalKind::kSegment || object.name.kind == names::WalKind::kPart)
        pieces.push_back({object.name.timeline, object.name.from, object.name.to});
    }
    return postgres::archived_stretches(std::move(pieces));
  }

  // What is archived of the segment that is begun with, and will come once more.
  Result<std::vector<WalObject>> known_parts(const postgres::StreamStart& start) {
    if (start.durable == start.from) return std::vector<WalObject>{};
    TRY_ASSIGN(WalListing listing, list_wal(vault_.store(), resource_.id, start.timeline));
    std::erase_if(listing.objects, [&](const WalObject& object) {
      const bool is_part = object.name.kind == names::WalKind::kPart;
      return !is_part || object.name.from < start.from || object.name.to > start.durable;
    });
    return std::move(listing.objects);
  }

  // What the server no longer has, in words: a hole that only a new snapshot gets over.
  Error explain(Error error, const postgres::StreamStart& start) const {
    if (error.kind != ErrorKind::kNotFound) return error;
    return fail(
        ErrorKind::kRefused,
        fmt::format("the server has removed WAL that is not archived: timeline {} from {} on", start.timeline,
                    postgres::format_lsn(sink_ ? std::max(start.durable, sink_->durable()) : start.durable)),
        fmt::format("going on from where the server still has it would leave a hole nobody sees; {}",
                    error.why),
        fmt::format("look for the segments in another archive and push them (kuramori wal push FILE); or "
                    "leave the hole: kuramori wal stream {0} --from-here, and at once kuramori backup "
                    "{0} --full",
                    request_.resource));
  }

  Result<Ended> follow(Replication& server, const SlotWatch& watch,
                       const postgres::SystemIdentity& identity) {
    Duration heard = vault_.clock().steady(), reported{0}, asked_to_stop{0};
    Lsn reported_durable = 0;
    for (;;) {
      const Duration now = vault_.clock().steady();
      TRY(sink_->trouble());
      sink_->cut(watch.is_synchronous());
      is_relied_on_ = !watch.is_asynchronous();
      const bool stopping = stop_.stop_requested();
      if (stopping && asked_to_stop == Duration::zero()) {
        asked_to_stop = now;
        sink_->cut_all();
      }
      note_durable();
      const Lsn durable = sink_->durable();
      state_.synchronous = watch.is_synchronous();
      state_.slot_bytes = watch.kept_bytes();
      const bool is_time = now - reported >= kStatusEvery;
      if (is_time || durable != reported_durable) {
        TRY(report(server, is_time));
        reported_durable = durable;
      }
      if (is_time) {
        reported = now;
        tell_progress();
      }
      const bool caught_up =
          request_.once && sink_->timeline() == identity.timeline && durable >= *once_until_;
      if ((stopping || caught_up) && durable >= sink_->received()) {
        wait_for_segments(now + kStopGrace);
        return Ended::kAsked;
      }
      if (stopping && now - asked_to_stop > kStopGrace) {
        return fail(ErrorKind::kFailed,
                    fmt::format("WAL from {} on is not in the vault", postgres::format_lsn(durable)),
                    "the vault did not take it in time; the slot keeps it on the server",
                    fmt::format("kuramori wal stream {}", request_.resource));
      }
      if (stopping || !sink_->has_room()) {
        // Not read: the server waits, and the slot keeps what it has.
        heard = now;
        poll_wake(kPollLast);
        continue;
      }
      TRY_ASSIGN(const bool ended, take_messages(server, heard));
      if (ended) {
        TRY(drain());
        TRY(report(server, false));
        TRY(server.finish_timeline());
        reporter_.note(
            fmt::format("timeline {} ends at {}", sink_->timeline(), postgres::format_lsn(sink_->durable())));
        return Ended::kTimeline;
      }
      if (now - heard > kSilenceMax)
        return fail(ErrorKind::kUnknown, "the server is silent", "it answered nothing for a minute");
      if (took_any_) continue;
      Duration limit = std::min<Duration>(kPollLast, reported + kStatusEvery - now);
      if (const auto due = sink_->next_cut()) limit = std::min(limit, *due - now);
      TRY(server.wait(wake_.get(), limit));
      take_wake();
    }
  }

  // What has arrived. True: the timeline has ended.
  Result<bool> take_messages(Replication& server, Duration& heard) {
    took_any_ = false;
    for (size_t i = 0; i < kMessagesAtOnce && sink_->has_room(); ++i) {
      TRY_ASSIGN(const Arrival arrival, server.receive());
      if (arrival.kind == Arrival::Kind::kNothing) return false;
      took_any_ = true;
      heard = vault_.clock().steady();
      if (arrival.kind == Arrival::Kind::kEndOfTimeline) {
        sink_->cut_all();
        return true;
      }
      if (arrival.kind == Arrival::Kind::kWal) TRY(sink_->take(arrival.from, arrival.bytes));
      state_.server_end = std::max(state_.server_end, arrival.server_end);
      if (marks_.size() < kMarksMax && (marks_.empty() || marks_.back().end <= arrival.server_end))
        marks_.push_back({arrival.server_end, heard});
      // A server that shuts down waits for this answer.
      if (arrival.wants_reply) {
        sink_->cut_all();
        TRY(report(server, false));
      }
    }
    return false;
  }

  // `ask`: the answer says how far the server is. Without it nobody knows whether silence means "nothing
  // new". Before WAL has come it is not known that the server has what comes next: a position reported then
  // would set the slot to where WAL is gone, and the next run would take that for WAL which is held.
  Result<void> report(Replication& server, bool ask) {
    if (sink_->received() <= begun_at_ && begun_at_ < flushed_at_begin_)
      return server.report(0, 0, vault_.clock().now(), ask);
    from_here_ = begins_at_end_ = false;  // what was allowed once is done
    const Lsn durable = sink_->durable();
    if (is_relied_on_) promised_ = Position{sink_->timeline(), durable};
    return server.report(std::max(sink_->received(), durable), durable, vault_.clock().now(), ask);
  }

  void poll_wake(Duration limit) {
    pollfd place{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    ::poll(&place, 1, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(limit).count()));
    take_wake();
  }

  // Until everything received is durable. A vault that is away is waited for: the server keeps the rest.
  Result<void> drain() {
    sink_->cut_all();
    std::optional<Duration> give_up;
    while (!sink_->is_idle()) {
      TRY(sink_->trouble());
      if (stop_.stop_requested() && !give_up) give_up = vault_.clock().steady() + kStopGrace;
      if (give_up && vault_.clock().steady() > *give_up) {
        return fail(ErrorKind::kFailed,
                    fmt::format("WAL from {} on is not in the vault", postgres::format_lsn(sink_->durable())),
                    "the vault did not take it in time; the slot keeps it on the server",
                    fmt::format("kuramori wal stream {}", request_.resource));
      }
      poll_wake(kPollLast);
    }
    TRY(sink_->trouble());
    position_ = {sink_->timeline(), sink_->durable()};
    return {};
  }

  // Whole segments that nobody waits for: tidy, not needed.
  void wait_for_segments(Duration until) {
    while (!sink_->is_idle() && sink_->trouble() && vault_.clock().steady() < until) poll_wake(kPollLast);
    state_.stored = sink_->counts();
  }

  void note_durable() {
    while (!marks_.empty() && marks_.front().end <= sink_->durable()) {
      safe_since_ = marks_.front().heard;
      marks_.pop_front();
    }
  }

  void tell_progress() {
    if (!sink_) return;
    note_durable();
    state_.timeline = sink_->timeline();
    state_.durable = sink_->durable();
    state_.received = std::max(sink_->received(), state_.durable);
    state_.server_end = std::max(state_.server_end, state_.received);
    state_.lag_bytes = state_.server_end - std::min(state_.server_end, state_.durable);
    state_.stored = sink_->counts();
    if (safe_since_)
      state_.rpo = std::chrono::duration<double>(vault_.clock().steady() - *safe_since_).count();
    if (request_.progress) request_.progress(state_);
  }

  struct Position {
    Timeline timeline = 0;
    Lsn durable = 0;
  };
  // The server's WAL ended here when it was heard.
  struct Mark {
    Lsn end = 0;
    Duration heard{0};
  };

  Vault& vault_;
  const WalStreamRequest& request_;
  Reporter& reporter_;
  const std::stop_token stop_;
  const std::string slot_, name_;
  bool from_here_;
  bool begins_at_end_ = false;  // of the server's WAL: not even what its slot claims to hold is there
  bool told_away_ = false, told_start_ = false, took_any_ = false;
  bool is_relied_on_ = true;  // commits may wait for what is reported
  ResourceRecord resource_;
  Fd wake_;
  std::optional<Position> position_;  // of this run: not forgotten when a connection is
  std::optional<Position> promised_;  // up to here a commit may have waited for the vault alone
  std::optional<Lsn> once_until_;
  Lsn begun_at_ = 0, flushed_at_begin_ = 0;  // of this connection: asked for, and the server's end then
  std::set<Timeline> stored_histories_;
  std::deque<Mark> marks_;
  std::optional<Duration> safe_since_;
  WalStreamState state_;
  std::unique_ptr<WalSink> sink_;  // last: its threads end before what they use goes
};

}  // namespace

std::string stream_name(std::string_view resource) {
  std::string name = "kuramori_";
  for (const char c : resource) {
    const auto byte = static_cast<unsigned char>(c);
    name += std::isalnum(byte) ? static_cast<char>(std::tolower(byte)) : '_';
  }
  return name.substr(0, kSlotNameMax);
}

Result<WalStreamState> stream_wal(Vault& vault, const WalStreamRequest& request, Reporter& reporter,
                                  std::stop_token stop) {
  return Streamer(vault, request, reporter, std::move(stop)).run();
}

}  // namespace kuramori
