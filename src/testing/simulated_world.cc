#include "testing/simulated_world.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"
#include "testing/plain_codec.h"

namespace kuramori::testing {
namespace {

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

void World::reset(const WorldState* state) {
  state_ = state ? *state : WorldState{};
  violation_.reset();
}

void World::violate(std::string invariant, std::string text) {
  if (!violation_ && !contains(muted_, invariant))
    violation_ = Violation{std::move(invariant), std::move(text)};
}

bool World::land_put(std::string_view name, ByteView bytes) {
  auto at = state_.objects.lower_bound(name);
  if (at != state_.objects.end() && at->first == name) return false;
  at = state_.objects.emplace_hint(at, std::string(name), to_bytes(bytes));
  const std::string& stored = at->first;
  if (name.starts_with(names::kCommits)) {
    commit_landed(stored, bytes);
  } else if (name.starts_with(names::kGc)) {
    gc_landed(stored, bytes);
  } else if (name.starts_with(names::kPrune)) {
    prune_landed(stored, bytes);
  } else if (name.starts_with(names::kSessions)) {
    if (auto reader = names::parse_session_end(name)) {
      state_.readers.erase(*reader);
    } else {
      state_.sessions[stored] = *decode<SessionRecord>(codec_.decode(name, bytes)->body);
    }
  } else if (name.starts_with(names::kProofs)) {
    auto proof = decode<ProofRecord>(codec_.decode(name, bytes)->body);
    if (proof->passed) state_.proven.insert(proof->snapshot);
  } else if (name.starts_with(names::kWal)) {
    auto wal = names::parse_wal(name);
    state_.wal_position = std::max(state_.wal_position, wal->to);
  }
  return true;
}

void World::commit_landed(const std::string& name, ByteView bytes) {
  if (!state_.decided.insert(name).second) {
    violate("I2", fmt::format("{} was decided before, and is occupied anew", name));
  }
  auto opened = codec_.decode(name, bytes);
  if (!opened || opened->type != RecordType::kCommit) return;
  CommitRecord record = *decode<CommitRecord>(opened->body);
  ModelCommit commit{record.snapshot, record.resource, {}, record.wal, quick_hash(bytes), true};
  auto live = state_.objects.find(record.live.name);
  if (live == state_.objects.end())
    return violate("I1", fmt::format("{} landed without its live record", name));
  auto live_opened = codec_.decode(record.live.name, live->second);
  if (!live_opened || live_opened->digest != record.live.digest) {
    return violate("I1", fmt::format("{} is bound to another live record", name));
  }
  LiveRecord needs = *decode<LiveRecord>(live_opened->body);
  commit.needs.emplace_back(record.live.name, quick_hash(live->second));
  for (const LivePack& pack : needs.packs) {
    commit.needs.emplace_back(pack.name, load_le<uint64_t>(pack.trailer_digest.raw.data()));
  }
  for (const ObjectRef& map : needs.maps)
    commit.needs.emplace_back(map.name, load_le<uint64_t>(map.digest.raw.data()));
  for (const auto& [need, hash] : commit.needs) {
    auto object = state_.objects.find(need);
    if (object == state_.objects.end()) {
      violate("I1", fmt::format("{} landed, and {} is not there", name, need));
    } else if (quick_hash(object->second) != hash) {
      violate("I1", fmt::format("{} landed, and {} has other bytes", name, need));
    } else if (state_.swept.contains(need)) {
      violate("I7", fmt::format("{} was decided after {} was swept", name, need));
    }
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
      if (need.first != name) continue;
      violate(invariant, fmt::format("{} goes, and {} needs it ({})", name, commit_name,
                                     commit.visible ? "visible" : "being read"));
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

void World::gc_landed(const std::string& name, ByteView bytes) {
  uint64_t n = *names::parse_number(name, names::kGc);
  if (name == names::gc_waits(n)) return;
  GcRecord record = *decode<GcRecord>(codec_.decode(name, bytes)->body);
  if (name == names::gc_plan(n)) {
    if (state_.gc.contains(n)) violate("I9", fmt::format("{} is used a second time", name));
    if (n > 1 && !state_.gc[n - 1].swept)
      violate("I9", fmt::format("{} stands before sweep {}", name, n - 1));
    WorldState::Gc& gc = state_.gc[n];
    gc.plan = std::move(record.objects);
    for (const auto& [session, s] : state_.sessions) {
      if (s.kind != SessionKind::kRead && !s.closed) gc.must_be_decided.push_back(s.commit_key);
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
    if (!state_.objects.contains(key)) {
      violate("I6",
              fmt::format("{} is stored, and a session older than the plan has not decided {}", name, key));
    }
  }
}

void World::prune_landed(const std::string& name, ByteView bytes) {
  uint64_t n = *names::parse_number(name, names::kPrune);
  PruneRecord record = *decode<PruneRecord>(codec_.decode(name, bytes)->body);
  WorldState::Prune& prune = state_.prunes[n];
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

void World::remove_issued(std::string_view name) {
  if (is_content(name) && !state_.swept.contains(name)) {
    violate("I5", fmt::format("{} is deleted, and no stored sweep names it", name));
  }
}

void World::land_remove(std::string_view name) {
  auto at = state_.objects.find(name);
  if (at == state_.objects.end()) return;
  if (auto wal = names::parse_wal(name)) {
    wal_must_not_be_needed(*wal);
    state_.wal_removed.push_back(std::move(*wal));
  } else if (is_content(name)) {
    must_not_be_needed(name, "I1");
  } else if (auto commit = state_.commits.find(name); commit != state_.commits.end()) {
    commit->second.visible = false;  // only a planted bug does this; what follows from it must be caught
  } else if (name.starts_with(names::kSessions)) {
    auto session = state_.sessions.find(name);
    if (session != state_.sessions.end() && session->second.kind != SessionKind::kRead &&
        !state_.decided.contains(session->second.commit_key)) {
      violate("G12", fmt::format("{} is removed and not decided", name));
    }
    if (session != state_.sessions.end()) state_.sessions.erase(session);
  } else if (name.starts_with(names::kHolds) || name.starts_with(names::kProofs) ||
             name.starts_with(names::kRetain)) {
    violate("G12", fmt::format("{} is removed", name));
  }
  state_.objects.erase(at);
}

void World::success_reported(std::string_view commit, const Digest& digest) {
  auto object = state_.objects.find(commit);
  auto opened =
      object == state_.objects.end() ? Result<OpenedRecord>(Error{}) : codec_.decode(commit, object->second);
  if (!opened || opened->type != RecordType::kCommit || opened->digest != digest) {
    violate("I4", fmt::format("success was reported, and {} does not hold that commit", commit));
  }
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
  std::string session = names::session(reader);
  if (state_.objects.contains(names::session_end(reader)) || !state_.objects.contains(session))
    return;  // broken already
  state_.readers[reader] = commit;
  for (const auto& [need, hash] : state_.commits[commit].needs) {
    if (!state_.objects.contains(need))
      violate("I1", fmt::format("{} reads {}, and {} is gone", session, commit, need));
    if (state_.swept.contains(need))
      violate("I1", fmt::format("{} reads {}, and {} is swept", session, commit, need));
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
      for (const auto& need : commit.needs) needed.insert(need.first);
    } else if (is_held) {
      for (const auto& need : commit.needs) kept.insert(need.first);
    }
  }
  for (const auto& [name, bytes] : state_.objects) {
    if (is_content(name) && !name.starts_with(names::kWal) && !needed.contains(name) &&
        !kept.contains(name)) {
      return violate("I12",
                     fmt::format("{} is needed by nothing visible, and three collections left it", name));
    }
  }
  for (std::string_view name : needed) {
    if (!state_.objects.contains(name)) violate("I1", fmt::format("{} is needed and is gone", name));
  }
}

}  // namespace kuramori::testing
