#include "vault/copier.h"

#include <fmt/core.h>

#include <algorithm>

#include "vault/frame_ranges.h"

namespace kuramori {
namespace {

// Ends an attempt that fails in so many words, so that no collector has to wait for it.
struct GiveUp {
  WriterSession& session;
  bool armed = true;
  ~GiveUp() {
    if (armed) (void)session.abandon("the copy failed or was interrupted");
  }
};

}  // namespace

// Safe although it is read before the sessions stand: what is gone by then is condemned, and that is read
// after. What comes later is only copied once more.
Result<void> Copier::list_standing() {
  if (listed_) return {};
  RecordLog log(replica_);
  for (std::string_view prefix : {names::kLive, names::kMaps, names::kPacks}) {
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(prefix));
    for (ObjectInfo& object : listed) {
      if (!names::owner_of(object.name)) continue;
      standing_[std::string(names::origin_of(object.name))].insert(std::move(object.name));
    }
  }
  listed_ = true;
  return {};
}

std::string Copier::find_standing(const WriterSession& session, const std::string& origin) const {
  if (replica_.bugs.has(PlantedBug::kCopyKeepsNames)) return "";
  auto at = standing_.find(origin);
  if (at == standing_.end()) return "";
  for (const std::string& object : at->second) {
    if (!session.is_condemned(object)) return object;
  }
  return "";
}

std::string Copier::new_name(const WriterSession& session, const std::string& origin) const {
  if (replica_.bugs.has(PlantedBug::kCopyKeepsNames)) return origin;
  return names::incarnation(origin, session.id());
}

Result<void> Copier::copy_pack(const WriterSession& session, const LivePack& pack, CopyResult& result) {
  TRY(transfer_.go_on());
  // One that another attempt left may be cut or spoilt: it is read before anything relies on it, and passed
  // over if it is not whole.
  for (std::string there = find_standing(session, pack.name); !there.empty();
       there = find_standing(session, pack.name)) {
    // Of one that holds only some frames (vault/thin_pack.h) each snapshot asks for others.
    auto known = checked_.find(there);
    const bool enough = known != checked_.end() && covers(known->second, normal_ranges(pack.frames));
    Result<void> whole = enough ? Result<void>() : transfer_.check(pack, there);
    if (whole) {
      FrameRanges& frames = checked_[there];
      frames = united(frames, normal_ranges(pack.frames));
      ++result.found_objects;
      result.found_bytes += pack.size;
      return {};
    }
    ErrorKind kind = whole.error().kind;
    if (kind != ErrorKind::kDamaged && kind != ErrorKind::kNotFound) return whole;
    standing_[pack.name].erase(there);
  }
  std::string name = new_name(session, pack.name);
  TRY_ASSIGN(uint64_t bytes, transfer_.send(pack, name));
  TRY(transfer_.check(pack, name));
  standing_[pack.name].insert(name);
  checked_[name] = normal_ranges(pack.frames);
  ++result.sent_objects;
  result.sent_bytes += bytes;
  return {};
}

Result<void> Copier::copy_small(WriterSession& session, const ObjectRef& ref, CopyResult& result) {
  TRY(transfer_.go_on());
  RecordLog log(replica_);
  for (std::string there = find_standing(session, ref.name); !there.empty();
       there = find_standing(session, ref.name)) {
    Result<Bytes> bytes = log.read_bytes(there);
    if (bytes && transfer_.fits(ref, *bytes)) {
      ++result.found_objects;
      result.found_bytes += bytes->size();
      return {};
    }
    if (!bytes && bytes.error().kind != ErrorKind::kNotFound) return std::move(bytes).error();
    standing_[ref.name].erase(there);
  }
  TRY_ASSIGN(Bytes bytes, source_.log().read_bytes(ref.name));
  if (!transfer_.fits(ref, bytes)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not what its snapshot binds", ref.name),
                "the source is damaged there", "kuramori vault scrub names what it touches");
  }
  std::string name = new_name(session, ref.name);
  TRY(session.put_object(name, bytes));
  TRY_ASSIGN(Bytes stored, log.read_bytes(name));
  if (!equal(stored, bytes)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not read back as it was sent", name),
                fmt::format("{} gives other bytes", replica_.store.location()), "kuramori vault probe");
  }
  standing_[ref.name].insert(name);
  ++result.sent_objects;
  result.sent_bytes += bytes.size();
  return {};
}

Result<CopyResult> Copier::copy(const VisibleCommit& commit, const Options& options) {
  CopyResult result;
  CopyRecord record{.keep_until_ns = options.keep_until_ns,
                    .copied_ns = to_unix_ns(replica_.clock.now()),
                    .from = options.from};
  if (commit.is_copy()) {
    // A copy of a copy is one of the original.
    TRY_ASSIGN(OpenedRecord opened, source_.log().read(commit.name, RecordType::kCopy));
    TRY_ASSIGN(CopyRecord inner, decode<CopyRecord>(opened.body));
    record.origin = std::move(inner.origin);
    record.commit = std::move(inner.commit);
  } else {
    record.origin = source_.log().place_of(commit.name).name;
    TRY_ASSIGN(record.commit, source_.log().read_bytes(commit.name));
  }
  TRY_ASSIGN(const LiveRecord* live, source_.live_of(commit));
  TRY(list_standing());

  WriterOptions opening{.kind = SessionKind::kCopy,
                        .resource = commit.key.resource,
                        .snapshot = commit.key.snapshot,
                        .host = options.host};
  if (commit.record.wal) {
    opening.wal_timeline = commit.record.wal->timeline;
    opening.wal_floor = commit.record.wal->from;
  }
  TRY_ASSIGN(auto session, WriterSession::open(replica_, std::move(opening)));
  GiveUp give_up{*session};
  for (const LivePack& pack : live->packs) TRY(copy_pack(*session, pack, result));
  for (const ObjectRef& map : live->maps) TRY(copy_small(*session, map, result));
  for (const ObjectRef& map : commit.record.maps) {
    if (std::ranges::find(live->maps, map) == live->maps.end()) TRY(copy_small(*session, map, result));
  }
  if (!commit.record.live.name.empty()) TRY(copy_small(*session, commit.record.live, result));
  if (options.before_commit) TRY(options.before_commit(*session));
  give_up.armed = false;
  TRY_ASSIGN(CommittedSnapshot committed, session->commit_copy(record));
  result.commit = std::move(committed.name);
  return result;
}

}  // namespace kuramori
