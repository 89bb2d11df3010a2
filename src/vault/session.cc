#include "vault/session.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"
#include "vault/epochs.h"
#include "vault/frame_ranges.h"
#include "vault/thin_pack.h"

namespace kuramori {
namespace {

bool contains(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

Error cloned(const SessionId& id) {
  return fail(ErrorKind::kRefused, fmt::format("session {} is used by another process", id.hex()),
              "a machine was cloned while it ran: both draw the same session id", "run the command again");
}

// The first of `commits` that a prune names, and how far that prune is.
struct Pruned {
  std::string commit;
  bool finished;
};
std::optional<Pruned> find_pruned(const std::vector<PruneRound>& rounds,
                                  const std::vector<std::string>& commits) {
  for (const PruneRound& round : rounds) {
    for (const std::string& commit : commits) {
      if (contains(round.commits, commit)) return Pruned{commit, round.finished};
    }
  }
  return {};
}

}  // namespace

SessionId draw_session_id(const Protocol& protocol) {
  SessionId id;
  protocol.random.fill(id.raw);
  std::copy_n(protocol.self.raw.begin(), 4, id.raw.begin());
  if (protocol.epoch) {
    id.raw[4] = static_cast<uint8_t>(protocol.epoch->number >> 8);
    id.raw[5] = static_cast<uint8_t>(protocol.epoch->number);
  }
  return id;
}

Result<std::unique_ptr<WriterSession>> WriterSession::open(const Protocol& protocol, WriterOptions options) {
  std::unique_ptr<WriterSession> session(new WriterSession(protocol));
  const bool checks_first = protocol.bugs.has(PlantedBug::kChecksBeforeSession);
  std::vector<std::string> parents = options.parents;
  const bool knows_first = checks_first || protocol.bugs.has(PlantedBug::kIndexCachedBefore);
  if (checks_first) TRY(session->read_condemned());
  if (knows_first) TRY(session->read_parents(parents));
  TRY(session->stand(options));
  if (!checks_first) TRY(session->read_condemned());
  if (!knows_first) TRY(session->read_parents(std::move(parents)));
  return session;
}

Result<void> WriterSession::stand(WriterOptions& options) {
  const Protocol& protocol = ledger_.protocol();
  id_ = draw_session_id(protocol);
  snapshot_ = options.snapshot;
  record_.kind = options.kind;
  record_.closed = options.closed;
  // An attempt has a key of its own: a fence bars the attempt, never the snapshot.
  SessionId attempt = id_;
  if (protocol.bugs.has(PlantedBug::kCopyFencedForEver) && options.kind == SessionKind::kCopy) {
    attempt = SessionId{};
  }
  record_.commit_key = names::commit(options.resource, options.snapshot, attempt);
  record_.resource = options.resource;
  record_.wal_timeline = options.wal_timeline;
  record_.wal_floor = options.wal_floor;
  record_.started_ns = to_unix_ns(protocol.clock.now());
  record_.host = std::move(options.host);
  if (options.closed) {
    // What a parent needs never changes, so reading it before the session stands declares it truly; whether
    // the parent may still be built on is decided after.
    for (const std::string& name : options.parents) {
      TRY_ASSIGN(const VisibleCommit* parent, ledger_.read_commit(name));
      TRY_ASSIGN(const std::vector<std::string>* needs, ledger_.references(*parent));
      record_.foreign.insert(record_.foreign.end(), needs->begin(), needs->end());
    }
    std::sort(record_.foreign.begin(), record_.foreign.end());
    record_.foreign.erase(std::unique(record_.foreign.begin(), record_.foreign.end()), record_.foreign.end());
  }
  record_.parents = std::move(options.parents);
  if (protocol.bugs.has(PlantedBug::kCopyWithoutSession) && options.kind == SessionKind::kCopy) return {};
  TRY_ASSIGN(PutResult put,
             log().put(RecordType::kSession, names::session(id_), record_.resource, encode(record_)));
  if (!put.ours()) return cloned(id_);
  return {};
}

Result<void> WriterSession::read_condemned() {
  TRY_ASSIGN(std::vector<GcRound> rounds, ledger_.read_gc());
  if (!rounds.empty()) newest_gc_ = rounds.back().number;
  condemned_ = condemned_by(rounds);
  for (GcRound& round : rounds) {
    for (ReplacedObject& one : round.replaced) replaced_.insert_or_assign(one.object, std::move(one));
  }
  if (record_.wal_timeline == 0) return {};
  // WAL that a plan condemned before it saw this session's floor will go. A snapshot cannot start below it.
  const std::string wal = names::wal_prefix(record_.resource);
  for (auto at = std::lower_bound(condemned_.begin(), condemned_.end(), wal);
       at != condemned_.end() && at->starts_with(wal); ++at) {
    auto part = names::parse_wal(*at);
    if (part && part->timeline >= record_.wal_timeline && part->to > record_.wal_floor) {
      return fail(ErrorKind::kRefused, fmt::format("{} is being collected", *at),
                  "the snapshot would start at WAL that no visible snapshot needed when the collection began",
                  "run the backup again: it starts at a later LSN");
    }
  }
  return {};
}

Result<void> WriterSession::read_parents(std::vector<std::string> parents) {
  if (parents.empty()) return {};
  if (!ledger_.protocol().bugs.has(PlantedBug::kParentsNotRead)) {
    TRY_ASSIGN(std::vector<PruneRound> prunes, ledger_.read_prunes());
    std::erase_if(parents, [&](const std::string& parent) {
      return std::ranges::any_of(
          prunes, [&](const PruneRound& round) { return round.finished && contains(round.commits, parent); });
    });
  }
  for (const std::string& name : parents) {
    Result<const VisibleCommit*> commit = ledger_.read_commit(name);
    if (!commit &&
        (commit.error().kind == ErrorKind::kNotFound || commit.error().kind == ErrorKind::kRefused))
      continue;
    if (!commit) return std::move(commit).error();
    TRY_ASSIGN(const std::vector<std::string>* needs, ledger_.references(**commit));
    TRY_ASSIGN(const LiveRecord* live, ledger_.live_of(**commit));
    usable_.insert(usable_.end(), needs->begin(), needs->end());
    parents_.push_back({*commit, live});
  }
  std::sort(usable_.begin(), usable_.end());
  return {};
}

bool WriterSession::is_condemned(std::string_view name) const {
  return contains(condemned_, name);
}

bool WriterSession::may_refer_to(std::string_view name) const {
  if (is_condemned(name)) return false;
  auto owner = names::owner_of(name);
  if (owner && *owner == id_) return true;
  return contains(usable_, name) && (!record_.closed || contains(record_.foreign, name));
}

Result<CommittedSnapshot> WriterSession::commit(CommitRecord record, const LiveRecord& live) {
  CHECK(!over_);
  over_ = true;
  auto must_be_usable = [&](const std::string& name, const LivePack* pack = nullptr) -> Result<void> {
    bool condemned = is_condemned(name);
    if (may_refer_to(name)) {
      if (pack == nullptr || !may_hold_less(*pack)) return {};
      TRY_ASSIGN(const bool stands, stands_for(*pack));
      if (stands) return {};
      condemned = true;
    } else if (condemned && contains(usable_, name)) {
      if (pack != nullptr && is_held_elsewhere(name, *pack)) return {};
      TRY_ASSIGN(bool again, has_incarnation(name, pack));
      if (again) return {};
    }
    return fail(ErrorKind::kRefused, fmt::format("the snapshot may not refer to {}", name),
                condemned ? "a collection condemned it" : "it is neither the session's own nor of a parent");
  };
  for (const LivePack& pack : live.packs) TRY(must_be_usable(pack.name, &pack));
  for (const ObjectRef& map : live.maps) TRY(must_be_usable(map.name));
  for (const ObjectRef& map : record.maps) TRY(must_be_usable(map.name));
  for (const FrameSpan& span : record.tree) TRY(must_be_usable(span.pack));

  TRY_ASSIGN(PutResult put_live,
             log().put(RecordType::kLive, names::live(id_), record_.resource, encode(live)));
  if (!put_live.ours()) return cloned(id_);
  record.snapshot = snapshot_;
  record.session = id_;
  record.resource = record_.resource;
  record.newest_gc = newest_gc_;
  record.live = put_live.ref;
  record.parents.clear();
  for (const Parent& parent : parents_) record.parents.push_back(parent.commit->name);

  TRY_ASSIGN(Digest digest, decide(RecordType::kCommit, encode(record)));
  std::vector<std::string> built_on = record.parents;
  if (!record.previous.empty()) built_on.push_back(record.previous);
  TRY(make_certain(built_on));
  return CommittedSnapshot{record_.commit_key, std::move(record), digest};
}

Result<CommittedSnapshot> WriterSession::commit_copy(const CopyRecord& copy) {
  CHECK(!over_ && record_.kind == SessionKind::kCopy);
  over_ = true;
  TRY_ASSIGN(Digest digest, decide(RecordType::kCopy, encode(copy)));
  TRY(make_certain({}));
  TRY_ASSIGN(const VisibleCommit* commit, ledger_.read_commit(record_.commit_key));
  return CommittedSnapshot{record_.commit_key, commit->record, digest};
}

Result<Digest> WriterSession::decide(RecordType type, ByteView body) {
  TRY_ASSIGN(PutResult put, log().put(type, record_.commit_key, record_.resource, body));
  if (put.ours()) return put.ref.digest;
  if (put.theirs->type != RecordType::kFence) return cloned(id_);
  return fail(ErrorKind::kRefused, fmt::format("session {} was fenced", id_.hex()),
              "a collection took it for dead before it was done", "run the same command again");
}

Result<void> WriterSession::make_certain(const std::vector<std::string>& built_on) {
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  const Epoch* epoch = ledger_.protocol().epoch;
  if (!epoch) return {};
  // Mirrored first, then looked for a newer ledger: if there is none, every later one begins with this
  // commit. What it was built on comes before it, so that no chain in the objects has a hole.
  if (!bugs.has(PlantedBug::kAckBeforeMirror)) {
    for (const std::string& name : built_on) {
      Result<void> mirrored = log().mirror(name);
      ErrorKind kind = mirrored ? ErrorKind::kFailed : mirrored.error().kind;
      // Another writer's may not be this one's to mirror; a keeper will.
      if (!mirrored && kind != ErrorKind::kDenied && kind != ErrorKind::kNotFound) return mirrored;
    }
    TRY(log().mirror(record_.commit_key));
  }
  if (bugs.has(PlantedBug::kWriterSkipsEpoch)) return {};
  return must_be_in_force(log());
}

// A thin pack does not count: what it holds is in the record of the collection that chose it. That record is
// gone where an older ledger decided it: but then every session that had not seen it is void, and the thin
// pack has all that the commits need which this ledger began with.
Result<bool> WriterSession::has_incarnation(const std::string& name, const LivePack* pack) const {
  if (!names::is_content(name)) return false;
  const Epoch* epoch = ledger_.protocol().epoch;
  const bool of_older_ledger = epoch != nullptr && contains(epoch->seal.swept, name);
  TRY_ASSIGN(std::vector<ObjectInfo> again, log().list(name + "."));
  return std::ranges::any_of(again, [&](const ObjectInfo& object) {
    const bool whole = pack == nullptr || object.size == pack->size;
    return !is_condemned(object.name) && (whole || of_older_ledger);
  });
}

// Whether a collection condemned the object because another holds what is needed, and that one, which nobody
// condemned since, holds every frame of these. A collection that would condemn it too comes after this
// session stood: it waits for the session, or spares what the session declared.
bool WriterSession::is_held_elsewhere(const std::string& object, const LivePack& pack) const {
  std::string_view at = object;
  for (size_t i = 0; i <= replaced_.size(); ++i) {
    auto replaced = replaced_.find(at);
    if (replaced == replaced_.end()) return false;
    const ReplacedObject& one = replaced->second;
    if (!is_condemned(one.by)) return one.frames.empty() || covers(one.frames, normal_ranges(pack.frames));
    at = one.by;
  }
  return false;
}

// Of a copied pack no object has the pack's own name, so that this is not condemned. But of the incarnations
// one may be, for a thin one that holds less than is asked for.
bool WriterSession::may_hold_less(const LivePack& pack) const {
  const std::string incarnations = pack.name + ".";
  for (auto at = replaced_.lower_bound(incarnations);
       at != replaced_.end() && at->first.starts_with(incarnations); ++at) {
    if (is_condemned(at->first) && !is_held_elsewhere(at->first, pack)) return true;
  }
  return false;
}

// Whether anything that nobody condemned holds what is asked for.
Result<bool> WriterSession::stands_for(const LivePack& pack) const {
  TRY_ASSIGN(std::vector<ObjectInfo> standing, log().list(pack.name));
  for (const ObjectInfo& object : standing) {
    if (names::origin_of(object.name) != pack.name || is_condemned(object.name)) continue;
    if (object.size == pack.size) return true;
    TRY_ASSIGN(const bool holds, is_thin_with(ledger_.protocol().store, object.name, pack));
    if (holds) return true;
  }
  return false;
}

Result<void> WriterSession::abandon(std::string reason) {
  if (over_) return {};
  over_ = true;
  FenceRecord fence{std::move(reason), to_unix_ns(ledger_.protocol().clock.now())};
  TRY(log().put(RecordType::kFence, record_.commit_key, record_.resource, encode(fence)));
  return {};
}

Result<void> ReaderSession::stand() {
  id_ = draw_session_id(*protocol_);
  SessionRecord record{.kind = SessionKind::kRead,
                       .parents = options_.commits,
                       .resource = options_.resource,
                       .started_ns = to_unix_ns(protocol_->clock.now()),
                       .host = options_.host};
  auto put =
      RecordLog(*protocol_).put(RecordType::kSession, names::session(id_), record.resource, encode(record));
  if (put && !put->ours()) return cloned(id_);
  if (put) {
    protected_ = true;
    return {};
  }
  const bool may_go_on = options_.without_right == ReaderOptions::WithoutRight::kReadUnprotected;
  const bool objects_alone = protocol_->epoch && !protocol_->epoch->ledger;
  if ((put.error().kind == ErrorKind::kDenied || objects_alone) && may_go_on) return {};
  return std::move(put).error();
}

Result<ReaderSession> ReaderSession::open(const Protocol& protocol, ReaderOptions options) {
  ReaderSession session(protocol);
  session.options_ = std::move(options);
  Ledger ledger(protocol);
  // The session stands before the prunes are read: a prune not seen here is decided later, and the plan that
  // follows it lists the sessions later still.
  const bool checks_first = protocol.bugs.has(PlantedBug::kReaderChecksFirst);
  if (!checks_first) TRY(session.stand());
  TRY_ASSIGN(std::vector<PruneRound> prunes, ledger.read_prunes());
  if (auto pruned = find_pruned(prunes, session.options_.commits)) {
    if (session.protected_) (void)session.end();  // only tidiness; the refusal is the answer
    return fail(ErrorKind::kRefused,
                fmt::format("{} {}", pruned->commit, pruned->finished ? "was pruned" : "is being pruned"),
                "its data may be removed at any time", "kuramori snapshots");
  }
  if (checks_first) TRY(session.stand());
  if (session.protected_) TRY(must_be_in_force(ledger.log()));
  return session;
}

Result<ReaderSession> ReaderSession::renew() const {
  ReaderSession session(*protocol_);
  session.options_ = options_;
  if (!protected_) return session;  // nobody protects it, as before
  TRY(session.stand());
  const RecordLog log(*protocol_);
  const auto still_stands = [&]() -> Result<bool> {
    auto end = log.read_bytes(names::session_end(id_));
    if (end) return false;
    if (end.error().kind != ErrorKind::kNotFound) return std::move(end).error();
    // A keeper that broke it tidies up: the session first, then its end.
    auto old = log.read_bytes(names::session(id_));
    if (old) return true;
    if (old.error().kind != ErrorKind::kNotFound) return std::move(old).error();
    return false;
  };
  // Only now: not broken after the other stood, it was open all the time until then.
  auto is_open = still_stands();
  if (is_open && *is_open) {
    TRY(must_be_in_force(log));
    return session;
  }
  (void)session.end();  // only tidiness
  if (!is_open) return std::move(is_open).error();
  return fail(ErrorKind::kRefused, "a keeper took this reading for dead", "it gave no sign of life for long");
}

Result<void> ReaderSession::end() {
  if (!protected_) return {};
  protected_ = false;
  FenceRecord record{"done", to_unix_ns(protocol_->clock.now())};
  TRY(RecordLog(*protocol_)
          .put(RecordType::kFence, names::session_end(id_), options_.resource, encode(record)));
  return {};
}

Error explain_read(const Protocol& protocol, const std::vector<std::string>& commits, Error error) {
  if (error.kind != ErrorKind::kDamaged && error.kind != ErrorKind::kNotFound) return error;
  auto prunes = Ledger(protocol).read_prunes();
  if (!prunes) return error;
  auto pruned = find_pruned(*prunes, commits);
  if (!pruned || !pruned->finished) return error;
  return fail(ErrorKind::kRefused,
              fmt::format("snapshot {} was removed while it was read",
                          names::parse_commit(pruned->commit)->snapshot.hex()),
              fmt::format("it was pruned, and no session kept it from being collected; then: {}", error.what),
              "kuramori snapshots");
}

}  // namespace kuramori
