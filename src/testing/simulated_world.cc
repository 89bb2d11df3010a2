#include "testing/simulated_world.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "testing/plain_codec.h"
#include "vault/frame_ranges.h"

namespace kuramori::testing {
namespace {

constexpr std::string_view kThinMagic = "thinpack";
constexpr uint64_t kNumbersOfEpoch = 1'000'000;  // keeps the numbers of two epochs apart

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool is_content(std::string_view name) {
  return name.starts_with(names::kPacks) || name.starts_with(names::kMaps) ||
         name.starts_with(names::kLive) || name.starts_with(names::kWal);
}

bool needs_wal(const ModelCommit& commit, const names::WalName& wal) {
  return commit.visible && commit.wal && commit.resource == wal.resource &&
         wal.timeline >= commit.wal->timeline && wal.to > commit.wal->from;
}

}  // namespace

Bytes make_thin(uint64_t whole, uint32_t frames) {
  constexpr size_t kFrameBytes = 4;
  Bytes bytes = to_bytes(as_bytes(kThinMagic));
  append_le<uint64_t>(bytes, whole);
  append_le<uint32_t>(bytes, frames);
  bytes.insert(bytes.end(), kFrameBytes * static_cast<size_t>(std::popcount(frames)), 0x77);
  append_le<uint64_t>(bytes, quick_hash(bytes));
  return bytes;
}

std::optional<Thin> parse_thin(ByteView bytes) {
  constexpr size_t kAt = kThinMagic.size();
  if (bytes.size() < kAt + 20 || as_text(bytes.first(kAt)) != kThinMagic) return std::nullopt;
  Thin thin{load_le<uint64_t>(bytes.data() + kAt), load_le<uint32_t>(bytes.data() + kAt + 8)};
  if (!equal(bytes, make_thin(thin.whole, thin.frames))) return std::nullopt;
  return thin;
}

uint32_t mask_of(const std::vector<FrameRange>& frames) {
  uint32_t mask = 0;
  for (const FrameRange& range : frames) {
    for (uint32_t i = range.first; i < range.first + range.count; ++i) mask |= 1u << i;
  }
  return mask;
}

std::vector<FrameRange> ranges_of(uint32_t mask) {
  std::vector<FrameRange> ranges;
  for (uint32_t i = 0; i < kPackFrames; ++i) {
    if ((mask >> i & 1) != 0) ranges.push_back({i, 1});
  }
  return normal_ranges(std::move(ranges));
}

void World::reset(const WorldState* state) {
  state_ = state ? *state : WorldState{};
  violation_.reset();
}

void World::violate(std::string invariant, std::string text) {
  if (!violation_ && !contains(muted_, invariant))
    violation_ = Violation{std::move(invariant), std::move(text)};
}

bool World::land_put(Place place, std::string_view name, ByteView bytes) {
  WorldState::Objects& objects = state_.at(place);
  auto at = objects.lower_bound(name);
  if (at != objects.end() && at->first == name) {
    if (!state_.two_places || place != Place::kObjects) return false;
    // The objects of two places ignore conditions: only the same bytes may ever be put there again.
    if (!equal(at->second, bytes)) violate("I8", fmt::format("{} is overwritten with other bytes", name));
    return true;
  }
  at = objects.emplace_hint(at, std::string(name), to_bytes(bytes));
  const std::string& stored = at->first;
  if (!state_.two_places) {
    record_landed({stored, stored, 0, bytes});
    return true;
  }
  if (name.starts_with(names::kEpochs)) {
    uint64_t epoch = *names::parse_number(name, names::kEpochs);
    if (place != Place::kObjects) {
      seal_landed(place, stored, bytes);
    } else if (name != names::epoch_seal(epoch)) {
      state_.begun = std::max(state_.begun, epoch);
      state_.readers.clear();  // from here on they are no longer promised anything
    }
    return true;
  }
  auto in_epoch = names::parse_in_epoch(name);
  Landed landed{stored, in_epoch ? std::string(in_epoch->name) : stored, in_epoch ? in_epoch->epoch : 0,
                bytes};
  if (place == Place::kObjects && in_epoch) {
    mirror_landed(landed);
  } else if (!in_epoch || landed.epoch >= state_.sealed) {
    record_landed(landed);
  } else if (landed.name.starts_with(names::kCommits)) {
    // In a ledger that is no longer in force: void, unless the next one is founded before anybody worked in
    // the newer one, and its seal names it.
    state_.decided.insert(landed.name);
    std::string trouble;
    if (auto commit = model_of(landed, trouble)) state_.void_commits[landed.name] = std::move(*commit);
  }
  return true;
}

void World::record_landed(const Landed& landed) {
  std::string_view name = landed.name;
  if (name.starts_with(names::kCommits)) {
    commit_landed(landed);
  } else if (name.starts_with(names::kGc)) {
    gc_landed(landed);
  } else if (name.starts_with(names::kPrune)) {
    prune_landed(landed);
  } else if (name.starts_with(names::kSessions)) {
    if (auto reader = names::parse_session_end(name)) {
      state_.readers.erase(*reader);
    } else {
      state_.sessions[landed.full] = *decode<SessionRecord>(codec_.decode(landed.full, landed.bytes)->body);
    }
  } else if (name.starts_with(names::kProofs)) {
    auto proof = decode<ProofRecord>(codec_.decode(name, landed.bytes)->body);
    if (proof->passed) state_.proven.insert(proof->snapshot);
  } else if (name.starts_with(names::kWal)) {
    auto wal = names::parse_wal(name);
    state_.wal_position = std::max(state_.wal_position, wal->to);
  }
}

void World::mirror_landed(const Landed& landed) {
  bool decided = std::ranges::any_of(state_.ledgers, [&](const WorldState::Objects& ledger) {
    auto at = ledger.find(landed.full);
    return at != ledger.end() && equal(at->second, landed.bytes);
  });
  if (!decided) violate("I13", fmt::format("the objects get {}, which no ledger holds", landed.full));
  // Whoever lists after a newer begin sees what stood before it.
  if (state_.begun > landed.epoch) return;
  if (landed.name.starts_with(names::kCommits)) state_.mirrored.insert(landed.name);
  if (landed.name.starts_with(names::kGc) && landed.name.ends_with("/sweep")) {
    GcRecord record = *decode<GcRecord>(codec_.decode(landed.full, landed.bytes)->body);
    state_.deletable.insert(record.objects.begin(), record.objects.end());
  }
}

void World::seal_landed(Place place, const std::string& name, ByteView bytes) {
  EpochRecord seal = *decode<EpochRecord>(codec_.decode(name, bytes)->body);
  if (seal.number < state_.begun) return;  // late: nobody will work in that epoch
  std::set<std::string, std::less<>> accepted;
  for (const AcceptedCommit& commit : seal.accepted) accepted.insert(commit.name);
  for (const std::string& promise : state_.promised) {
    if (!accepted.contains(promise))
      violate("I4", fmt::format("{} does not name {}, whose writer was told of success", name, promise));
  }
  state_.sealed = seal.number;
  state_.in_force = place;
  // A sweep mirrored late may have made it into the seal all the same: then it counts.
  state_.deletable.insert(seal.swept.begin(), seal.swept.end());
  state_.swept = state_.deletable;
  state_.pruned.clear();
  for (const std::string& commit_name : accepted) {
    if (auto late = state_.void_commits.extract(commit_name)) state_.commits.insert(std::move(late));
  }
  for (auto& [commit_name, commit] : state_.commits) {
    bool pruned = contains(seal.pruned, commit_name);
    commit.visible = accepted.contains(commit_name) && !pruned;
    if (pruned) state_.pruned.insert(commit.snapshot);
    if (!commit.visible) continue;
    for (const ModelNeed& need : commit.needs) {
      std::string trouble = trouble_of(need);
      if (!trouble.empty())
        violate("I1", fmt::format("{} makes {} visible, and {} {}", name, commit_name, need.object, trouble));
    }
  }
}

std::string World::trouble_of(const ModelNeed& need) const {
  std::string trouble = "is not there";
  for (auto at = state_.objects.lower_bound(need.object);
       at != state_.objects.end() && names::origin_of(at->first) == need.object; ++at) {
    const auto thin = parse_thin(at->second);
    const bool rotten = at->first == need.object && state_.rotten.contains(need.object);
    if (thin ? thin->whole != need.hash : quick_hash(at->second) != need.hash && !rotten) {
      trouble = "has other bytes";
    } else if (thin && (need.frames & ~thin->frames) != 0) {
      trouble = "lacks a frame";
    } else if (state_.swept.contains(at->first)) {
      trouble = "is swept";
    } else {
      return "";
    }
  }
  return trouble;
}

// Nothing where the name is only occupied (a fence), and when its live record, hence what it needs, is not
// there: then `trouble` says so.
std::optional<ModelCommit> World::model_of(const Landed& landed, std::string& trouble) {
  auto opened = codec_.decode(landed.full, landed.bytes);
  if (opened && opened->type == RecordType::kCopy) {
    CopyRecord copy = *decode<CopyRecord>(opened->body);
    opened = codec_.decode(copy.origin, copy.commit);
  }
  if (!opened || opened->type != RecordType::kCommit) return std::nullopt;
  CommitRecord record = *decode<CommitRecord>(opened->body);
  ModelCommit commit{record.snapshot, record.resource, {}, record.wal, quick_hash(landed.bytes), true,
                     landed.epoch};
  auto live = state_.objects.lower_bound(record.live.name);
  if (live == state_.objects.end() || names::origin_of(live->first) != record.live.name) {
    trouble = "landed without its live record";
    return std::nullopt;
  }
  auto live_opened = codec_.decode(record.live.name, live->second);
  if (!live_opened || live_opened->digest != record.live.digest) {
    trouble = "is bound to another live record";
    return std::nullopt;
  }
  LiveRecord needs = *decode<LiveRecord>(live_opened->body);
  commit.needs.push_back({record.live.name, quick_hash(live->second)});
  for (const LivePack& pack : needs.packs) {
    commit.needs.push_back(
        {pack.name, load_le<uint64_t>(pack.trailer_digest.raw.data()), mask_of(pack.frames)});
  }
  for (const ObjectRef& map : needs.maps)
    commit.needs.push_back({map.name, load_le<uint64_t>(map.digest.raw.data())});
  return commit;
}

void World::commit_landed(const Landed& landed) {
  const std::string& name = landed.name;
  if (!state_.decided.insert(name).second) {
    violate("I2", fmt::format("{} was decided before, and is occupied anew", name));
  }
  std::string unbound;
  std::optional<ModelCommit> landing = model_of(landed, unbound);
  if (!unbound.empty()) violate("I1", fmt::format("{} {}", name, unbound));
  if (!landing) return;
  ModelCommit& commit = *landing;
  for (const ModelNeed& need : commit.needs) {
    std::string trouble = trouble_of(need);
    if (trouble.empty()) continue;
    violate(trouble == "is swept" ? "I7" : "I1",
            fmt::format("{} landed, and {} {}", name, need.object, trouble));
  }
  for (const names::WalName& wal : state_.wal_removed) {
    if (needs_wal(commit, wal))
      violate("I1", fmt::format("{} needs {}, which was collected", name, names::wal(wal)));
  }
  state_.commits[name] = std::move(commit);
}

void World::must_not_be_needed(std::string_view name, const char* invariant) {
  for (const auto& [commit_name, commit] : state_.commits) {
    bool is_read =
        std::ranges::any_of(state_.readers, [&](const auto& r) { return r.second == commit_name; });
    if (!commit.visible && !is_read) continue;
    for (const auto& need : commit.needs) {
      if (need.object != names::origin_of(name) || has_another(name, need)) continue;
      // What never held it is no loss.
      auto at = state_.objects.find(name);
      const auto thin = at == state_.objects.end() ? std::nullopt : parse_thin(at->second);
      if (thin && (need.frames & ~thin->frames) != 0) continue;
      violate(invariant, fmt::format("{} goes, and {} needs it ({})", name, commit_name,
                                     commit.visible ? "visible" : "being read"));
    }
  }
}

bool World::has_another(std::string_view name, const ModelNeed& need) const {
  const std::string_view origin = names::origin_of(name);
  for (auto at = state_.objects.lower_bound(origin);
       at != state_.objects.end() && at->first.starts_with(origin); ++at) {
    if (names::origin_of(at->first) != origin || at->first == name || state_.swept.contains(at->first))
      continue;
    const auto thin = parse_thin(at->second);
    if (thin ? thin->whole == need.hash && (need.frames & ~thin->frames) == 0
             : quick_hash(at->second) == need.hash)
      return true;
  }
  return false;
}

bool World::is_known(std::string_view origin) const {
  return std::ranges::any_of(state_.commits, [&](const auto& named) {
    return std::ranges::any_of(named.second.needs, [&](const auto& need) { return need.object == origin; });
  });
}

void World::rot(const std::string& name) {
  auto at = state_.objects.find(name);
  CHECK(at != state_.objects.end());
  at->second[at->second.size() / 2] ^= 0x10;
  state_.rotten.insert(name);
}

void World::check_all_whole() {
  for (const auto& [commit_name, commit] : state_.commits) {
    if (!commit.visible) continue;
    for (const ModelNeed& need : commit.needs) {
      const auto original = state_.objects.find(need.object);
      const bool whole = original != state_.objects.end() && quick_hash(original->second) == need.hash;
      if (!whole && !has_another(need.object, need))
        return violate("I14",
                       fmt::format("{} needs {}, of which nothing whole stands", commit_name, need.object));
    }
  }
}

void World::wal_must_not_be_needed(const names::WalName& wal) {
  bool any_base = false;
  for (const auto& [name, commit] : state_.commits) {
    any_base |= commit.resource == wal.resource && commit.wal.has_value();
    if (needs_wal(commit, wal)) violate("I1", fmt::format("{} goes, and {} needs it", names::wal(wal), name));
  }
  if (!any_base) violate("I1", fmt::format("{} goes, and there is no base", names::wal(wal)));
}

void World::gc_landed(const Landed& landed) {
  const std::string& name = landed.name;
  const uint64_t in_epoch = *names::parse_number(name, names::kGc);
  const uint64_t n = landed.epoch * kNumbersOfEpoch + in_epoch;
  if (name == names::gc_waits(in_epoch)) return;
  GcRecord record = *decode<GcRecord>(codec_.decode(landed.full, landed.bytes)->body);
  const std::string epoch = state_.two_places ? names::epoch_prefix(landed.epoch) : "";
  if (name == names::gc_plan(in_epoch)) {
    if (state_.gc.contains(n)) violate("I9", fmt::format("{} is used a second time", name));
    if (in_epoch > 1 && !state_.gc[n - 1].swept)
      violate("I9", fmt::format("{} stands before sweep {}", name, in_epoch - 1));
    WorldState::Gc& gc = state_.gc[n];
    gc.plan = std::move(record.objects);
    for (const auto& [session, s] : state_.sessions) {
      if (s.kind != SessionKind::kRead && !s.closed && session.starts_with(epoch))
        gc.must_be_decided.push_back(s.commit_key);
    }
    return;
  }
  WorldState::Gc& gc = state_.gc[n];
  if (gc.swept) violate("I9", fmt::format("{} is stored a second time", name));
  gc.swept = true;
  for (const std::string& object : record.objects) {
    if (!contains(gc.plan, object))
      violate("I6", fmt::format("{} names {}, which the plan does not", name, object));
    state_.swept.insert(object);
    if (auto wal = names::parse_wal(object)) {
      wal_must_not_be_needed(*wal);
    } else {
      must_not_be_needed(object, "I1");
    }
  }
  if (record.objects.empty()) return;
  for (const std::string& key : gc.must_be_decided) {
    if (!state_.at(state_.two_places ? state_.in_force : Place::kObjects).contains(epoch + key)) {
      violate("I6",
              fmt::format("{} is stored, and a session older than the plan has not decided {}", name, key));
    }
  }
}

void World::prune_landed(const Landed& landed) {
  const std::string& name = landed.name;
  const uint64_t n = *names::parse_number(name, names::kPrune);
  PruneRecord record = *decode<PruneRecord>(codec_.decode(landed.full, landed.bytes)->body);
  WorldState::Prune& prune = state_.prunes[landed.epoch * kNumbersOfEpoch + n];
  if (name == names::prune_intent(n)) {
    prune.intent = std::move(record.commits);
    return;
  }
  prune.finished = true;
  struct Counts {
    int visible = 0, proven = 0, confirmed = 0;
  };
  auto count = [&] {
    std::map<ResourceId, Counts> counts;
    for (const auto& [commit_name, commit] : state_.commits) {
      if (!commit.visible) continue;
      ++counts[commit.resource].visible;
      counts[commit.resource].proven += state_.proven.contains(commit.snapshot);
      counts[commit.resource].confirmed += state_.proof_confirmed.contains(commit.snapshot);
    }
    return counts;
  };
  auto before = count();
  for (const std::string& commit : record.commits) {
    if (!contains(prune.intent, commit))
      violate("I10", fmt::format("{} names {}, which the intent does not", name, commit));
    auto at = state_.commits.find(commit);
    if (at == state_.commits.end()) continue;
    at->second.visible = false;
    state_.pruned.insert(at->second.snapshot);
    if (state_.held.contains(at->second.snapshot))
      violate("I11", fmt::format("{} names {}, which is held", name, commit));
  }
  auto after = count();
  for (const auto& [resource, counts] : before) {
    if (after[resource].visible == 0) violate("I10", fmt::format("{} leaves no snapshot", name));
    if (counts.confirmed > 0 && after[resource].proven == 0)
      violate("I10", fmt::format("{} leaves no proven snapshot", name));
  }
}

bool World::is_alone(std::string_view name) const {
  const std::string_view origin = names::origin_of(name);
  return std::ranges::any_of(state_.commits, [&](const auto& named) {
    const auto& [commit_name, commit] = named;
    const bool is_read =
        std::ranges::any_of(state_.readers, [&](const auto& r) { return r.second == commit_name; });
    return (commit.visible || is_read) && std::ranges::any_of(commit.needs, [&](const auto& need) {
             return need.object == origin && !has_another(name, need);
           });
  });
}

void World::remove_issued(std::string_view name) {
  const auto& allowed = state_.two_places ? state_.deletable : state_.swept;
  if (!is_content(name) || allowed.contains(name)) return;
  // What healing replaced: damaged, and a whole incarnation of it stands; or needed by nobody any more, when
  // a healer is late and what it healed was pruned and collected meanwhile.
  const std::string_view origin = names::origin_of(name);
  if (!state_.rotten.contains(origin) || !is_known(origin) || is_alone(name)) {
    violate("I5", fmt::format("{} is deleted, and no stored sweep {}names it", name,
                              state_.two_places ? "that a newer ledger would know " : ""));
  }
}

void World::land_remove(Place place, std::string_view full) {
  WorldState::Objects& objects = state_.at(place);
  auto at = objects.find(full);
  if (at == objects.end()) return;
  auto in_epoch = names::parse_in_epoch(full);
  std::string_view name = in_epoch ? in_epoch->name : full;
  if (auto wal = names::parse_wal(name)) {
    wal_must_not_be_needed(*wal);
    state_.wal_removed.push_back(std::move(*wal));
  } else if (is_content(name)) {
    must_not_be_needed(name, "I1");
  } else if (auto commit = state_.commits.find(name); commit != state_.commits.end()) {
    commit->second.visible = false;  // only a planted bug does this; what follows from it must be caught
  } else if (name.starts_with(names::kSessions)) {
    auto session = state_.sessions.find(full);
    if (session != state_.sessions.end() && session->second.kind != SessionKind::kRead &&
        !state_.decided.contains(session->second.commit_key)) {
      violate("G12", fmt::format("{} is removed and not decided", name));
    }
    if (session != state_.sessions.end()) state_.sessions.erase(session);
  } else if (name.starts_with(names::kHolds) || name.starts_with(names::kProofs) ||
             name.starts_with(names::kRetain)) {
    violate("G12", fmt::format("{} is removed", name));
  }
  objects.erase(at);
}

void World::success_reported(std::string_view commit, const Digest& digest) {
  auto model = state_.commits.find(commit);
  std::string full(commit);
  if (state_.two_places && model != state_.commits.end())
    full = names::epoch_prefix(model->second.epoch) + full;
  auto object = state_.objects.find(full);
  auto opened =
      object == state_.objects.end() ? Result<OpenedRecord>(Error{}) : codec_.decode(full, object->second);
  bool is_commit = opened && (opened->type == RecordType::kCommit || opened->type == RecordType::kCopy);
  if (!is_commit || opened->digest != digest) {
    violate("I4", fmt::format("success was reported, and {} does not hold that commit", commit));
  }
  if (!state_.two_places) return;
  state_.promised.insert(std::string(commit));
  if (!state_.mirrored.contains(commit))
    violate("I4", fmt::format("success was reported, and a newer ledger will not know of {}", commit));
}

void World::hold_confirmed(const SnapshotId& snapshot) {
  if (state_.pruned.contains(snapshot))
    violate("I11", fmt::format("a hold of pruned {} was confirmed", snapshot.hex()));
  state_.held.insert(snapshot);
}

void World::proof_confirmed(const SnapshotId& snapshot) {
  state_.proof_confirmed.insert(snapshot);
}

void World::reader_confirmed(const SessionId& reader, const std::string& commit) {
  std::string session = names::session(reader), end = names::session_end(reader);
  if (state_.two_places) {
    if (state_.begun > state_.sealed) return;  // promised nothing
    session = names::epoch_prefix(state_.sealed) + session;
    end = names::epoch_prefix(state_.sealed) + end;
  }
  const auto& sessions = state_.at(state_.two_places ? state_.in_force : Place::kObjects);
  if (sessions.contains(end) || !sessions.contains(session)) return;  // broken already
  state_.readers[reader] = commit;
  for (const ModelNeed& need : state_.commits[commit].needs) {
    std::string trouble = trouble_of(need);
    if (!trouble.empty())
      violate("I1", fmt::format("{} reads {}, and {} {}", session, commit, need.object, trouble));
  }
}

void World::check_nothing_left() {
  std::set<std::string_view> needed, kept;
  for (const auto& [name, commit] : state_.commits) {
    // A hold that came too late keeps what is left of a pruned snapshot until it is released.
    std::string holds = fmt::format("{}{}/", names::kHolds, commit.snapshot.hex());
    auto hold = state_.objects.lower_bound(holds);
    bool is_held = hold != state_.objects.end() && hold->first.starts_with(holds);
    if (commit.visible) {
      for (const auto& need : commit.needs) needed.insert(need.object);
    } else if (is_held) {
      for (const auto& need : commit.needs) kept.insert(need.object);
    }
  }
  for (const auto& [name, bytes] : state_.objects) {
    std::string_view origin = names::origin_of(name);
    if (is_content(name) && !name.starts_with(names::kWal) && !needed.contains(origin) &&
        !kept.contains(origin)) {
      return violate("I12",
                     fmt::format("{} is needed by nothing visible, and three collections left it", name));
    }
  }
  for (std::string_view name : needed) {
    auto at = state_.objects.lower_bound(name);
    if (at == state_.objects.end() || names::origin_of(at->first) != name)
      violate("I1", fmt::format("{} is needed and is gone", name));
  }
}

}  // namespace kuramori::testing
