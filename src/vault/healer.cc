#include "vault/healer.h"

#include <fmt/core.h>

#include <algorithm>

#include "vault/epochs.h"
#include "vault/frame_ranges.h"

namespace kuramori {
namespace {

// That this source does not help, and another may.
bool is_not_here(const Error& error) {
  return error.kind == ErrorKind::kNotFound || error.kind == ErrorKind::kDamaged ||
         error.kind == ErrorKind::kRefused;
}

}  // namespace

Healer::Healer(const Protocol& vault, std::vector<HealSource*> sources, std::string host)
    : protocol_(vault), sources_(std::move(sources)), host_(std::move(host)) {}

Healer::~Healer() {
  (void)finish();
}

Result<void> Healer::finish() {
  for (auto& [resource, session] : sessions_) TRY(session->abandon("healed"));
  sessions_.clear();
  return {};
}

// Safe although it is read before a session stands: what is pruned meanwhile makes what is put here garbage,
// and a later collection removes it.
Result<void> Healer::look() {
  ledger_ = std::make_unique<Ledger>(protocol_);
  needs_.clear();
  wal_floors_.clear();
  TRY_ASSIGN(CommitListing commits, ledger_->read_commits());
  visible_ = commits.visible;
  for (const VisibleCommit* commit : visible_) {
    const ResourceId& resource = commit->key.resource;
    if (commit->record.wal) {
      uint64_t& floor = wal_floors_.try_emplace(resource, commit->record.wal->from).first->second;
      floor = std::min(floor, commit->record.wal->from);
    }
    if (!commit->record.live.name.empty())
      need(commit->record.live.name, {{}, commit->record.live, resource});
    for (const ObjectRef& map : commit->record.maps) need(map.name, {{}, map, resource});
    Result<const LiveRecord*> live = live_of(*commit);
    if (!live) {
      if (is_not_here(live.error())) continue;  // nobody has it whole: what it binds is not known
      return std::move(live).error();
    }
    for (const ObjectRef& map : (*live)->maps) need(map.name, {{}, map, resource});
    for (const LivePack& pack : (*live)->packs) need(pack.name, {pack, {}, resource});
  }
  return {};
}

void Healer::need(const std::string& origin, Need need) {
  if (need.pack) need.pack->frames = normal_ranges(std::move(need.pack->frames));
  auto [at, fresh] = needs_.try_emplace(origin, need);
  if (fresh) return;
  Need& known = at->second;
  bool same = known.small == need.small && known.pack.has_value() == need.pack.has_value() &&
              (!known.pack || (known.pack->size == need.pack->size &&
                               known.pack->trailer_digest == need.pack->trailer_digest));
  if (!same) known.contradicted = true;
  if (same && known.pack) known.pack->frames = united(known.pack->frames, normal_ranges(need.pack->frames));
}

// Of a damaged live record the commit still has the digest: a source's will do.
Result<const LiveRecord*> Healer::live_of(const VisibleCommit& commit) {
  Result<const LiveRecord*> live = ledger_->live_of(commit);
  if (live || !is_not_here(live.error())) return live;
  const ObjectRef& ref = commit.record.live;
  if (auto known = fetched_lives_.find(ref.name); known != fetched_lives_.end()) return &known->second;
  for (HealSource* source : sources_) {
    Result<Bytes> bytes = source->fetch(ref);
    if (!bytes || !source->fits(ref, *bytes)) continue;
    auto opened = protocol_.codec.decode(ref.name, *bytes);
    auto record = opened ? decode<LiveRecord>(opened->body) : Result<LiveRecord>(std::move(opened).error());
    if (record) return &fetched_lives_.emplace(ref.name, std::move(*record)).first->second;
  }
  return live;
}

Result<WriterSession*> Healer::session_for(const ResourceId& resource) {
  auto at = sessions_.find(resource);
  if (at == sessions_.end()) {
    TRY_ASSIGN(auto session, WriterSession::open(protocol_, {.kind = SessionKind::kCopy,
                                                             .resource = resource,
                                                             .snapshot = protocol_.random.id<SnapshotId>(),
                                                             .host = host_}));
    at = sessions_.emplace(resource, std::move(session)).first;
  }
  return at->second.get();
}

Result<void> Healer::check(const Need& need, const std::string& object) {
  HealSource& any = *sources_.front();  // all of them read this vault alike
  if (need.pack) return any.check(*need.pack, object);
  TRY_ASSIGN(Bytes bytes, RecordLog(protocol_).read_bytes(object));
  if (any.fits(*need.small, bytes)) return {};
  return fail(ErrorKind::kDamaged, fmt::format("{} is not what its snapshot binds", object));
}

Result<Healer::Standing> Healer::look_at(const std::string& origin, const Need& need,
                                         const WriterSession& session) {
  Standing standing;
  TRY_ASSIGN(std::vector<ObjectInfo> listed, RecordLog(protocol_).list(origin));
  for (const ObjectInfo& object : listed) {
    // "packs/3f/<sid>-1" also begins "packs/3f/<sid>-17". A condemned one may be on its way out.
    if (names::origin_of(object.name) != origin || session.is_condemned(object.name)) continue;
    Result<void> sound = check(need, object.name);
    // One that holds less than everything has what is needed now. That is enough to restore from, not to give
    // up the original for: an open session may refer to more of it. Collections know how to find that out.
    if (sound) standing.any_thin |= need.pack && object.size != need.pack->size;
    if (sound) {
      standing.whole.push_back(object.name);
    } else if (sound.error().kind == ErrorKind::kDamaged || sound.error().kind == ErrorKind::kRefused) {
      standing.damaged.push_back(object.name);
    } else if (sound.error().kind != ErrorKind::kNotFound) {
      return std::move(sound).error();  // the store did not give it: that says nothing of the bytes
    }
  }
  return standing;
}

Result<uint64_t> Healer::put_again(const std::string& origin, const Need& need, HealSource& source) {
  TRY(source.go_on());
  TRY_ASSIGN(WriterSession * session, session_for(need.resource));
  const std::string name = names::incarnation(origin, session->id());
  auto send = [&]() -> Result<uint64_t> {
    uint64_t bytes = 0;
    if (need.pack) {
      TRY_ASSIGN(bytes, source.send(*need.pack, name));
    } else {
      TRY_ASSIGN(Bytes small, source.fetch(*need.small));
      if (!source.fits(*need.small, small)) {
        return fail(ErrorKind::kDamaged, fmt::format("{} is damaged in {} too", origin, source.name()));
      }
      TRY(session->put_object(name, small));
      bytes = small.size();
    }
    // What was sent is believed when it has been read back.
    if (!protocol_.bugs.has(PlantedBug::kHealTrustsSent)) TRY(check(need, name));
    return bytes;
  };
  Result<uint64_t> sent = send();
  if (sent) return sent;
  // Something else than was meant may stand under that name now, or land there: no second try uses it.
  Result<void> over = session->abandon("healing failed");
  sessions_.erase(need.resource);
  TRY(std::move(over));
  return sent;
}

Result<void> Healer::remove(const std::vector<std::string>& damaged, HealedObject& healed) {
  if (damaged.empty()) return {};
  RecordLog log(protocol_);
  // Two places: by a ledger that is no longer in force nothing is removed.
  TRY(must_be_in_force(log));
  for (const std::string& object : damaged) {
    Result<void> removed = log.remove(object);
    if (removed) {
      healed.removed.push_back(object);
    } else if (removed.error().kind == ErrorKind::kDenied) {
      healed.retained.push_back(object);
      healed.retained_why = removed.error().why.empty() ? removed.error().what : removed.error().why;
    } else {
      return std::move(removed).error();
    }
  }
  return {};
}

Result<HealedObject> Healer::heal(const std::string& origin) {
  auto at = needs_.find(origin);
  if (at == needs_.end()) {
    return fail(ErrorKind::kRefused, "no snapshot that is shown needs it",
                "what nothing needs is removed, not healed", "kuramori vault collect");
  }
  const Need& need = at->second;
  if (need.contradicted) {
    return fail(ErrorKind::kRefused, "two snapshots bind different bytes of it",
                "which of them is right cannot be told from here");
  }
  if (sources_.empty()) return fail(ErrorKind::kNotFound, "no other vault was asked");
  Error last;
  for (HealSource* source : sources_) {
    // Before each try anew: what an earlier one left behind may go with the rest, once a whole one stands.
    TRY_ASSIGN(WriterSession * session, session_for(need.resource));
    TRY_ASSIGN(Standing standing, look_at(origin, need, *session));
    HealedObject healed;
    if (!standing.whole.empty()) {
      if (!std::ranges::count(standing.damaged, origin)) {
        return fail(ErrorKind::kRefused, fmt::format("{} stands whole", standing.whole.front()),
                    "what is wrong is not in its bytes");
      }
      if (standing.any_thin) {
        return fail(ErrorKind::kRefused, fmt::format("{} holds all that is needed", standing.whole.front()),
                    "readers take that", "kuramori vault collect removes the damaged one");
      }
      TRY(remove({origin}, healed));
      return healed;
    }
    if (protocol_.bugs.has(PlantedBug::kHealRemovesFirst)) TRY(remove(standing.damaged, healed));
    Result<uint64_t> sent = put_again(origin, need, *source);
    if (!sent) {
      if (!is_not_here(sent.error())) return std::move(sent).error();
      last = std::move(sent).error();
      continue;
    }
    healed.sent_bytes = *sent;
    TRY(remove(standing.damaged, healed));
    return healed;
  }
  return fail(ErrorKind::kNotFound, fmt::format("no copy has it whole: {}", last.what), last.why);
}

}  // namespace kuramori
