#include "engine/locks.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/time_text.h"
#include "conc/guarded.h"
#include "conc/task_group.h"
#include "engine/open_vault.h"
#include "store/s3/s3_location.h"
#include "vault/ledger.h"
#include "vault/record_log.h"
#include "vault/snapshot_reader.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

constexpr size_t kParallel = 16;        // requests at once
constexpr size_t kBeyondNamedMax = 20;  // snapshots named one by one
constexpr int64_t kRefreshDivisor = 2;  // a lock is renewed when this part of it has passed

bool is_kind(const Error& error, ErrorKind kind) {
  return error.kind == kind;
}

Duration length_of(Period lock, Time now) {
  return later(now, lock) - now;
}

Result<Retention*> retention_of(Vault& vault) {
  if (Retention* retention = vault.store().retention()) return retention;
  return fail(ErrorKind::kRefused, fmt::format("objects in {} cannot be locked", vault.store().location()),
              "this kind of place has no locks",
              "take lock: out of the configuration, or give a bucket with Object Lock");
}

// Without the epoch that a mirrored name carries.
std::string_view plain_name(std::string_view name) {
  auto in_epoch = names::parse_in_epoch(name);
  return in_epoch ? in_epoch->name : name;
}

bool overlaps(const names::WalName& wal, const WalSpan& span) {
  return wal.timeline == span.timeline && wal.from < span.to && wal.to > span.from;
}

// What a snapshot refers to, by the names its records say.
struct Needs {
  std::set<std::string> objects;
  std::optional<WalSpan> wal;
};
Result<Needs> needs_of(Vault& vault, const Snapshot& snapshot) {
  // As the commit binds it: whoever may seal such a record could put one over it that needs nothing.
  TRY_ASSIGN(LiveRecord live, read_live(vault.store(), vault.codec(), snapshot.commit));
  Needs needs{.wal = snapshot.commit.wal};
  needs.objects = {snapshot.commit_name, snapshot.commit.live.name};
  for (const LivePack& pack : live.packs) needs.objects.insert(pack.name);
  for (const ObjectRef& map : live.maps) needs.objects.insert(map.name);
  for (const ObjectRef& map : snapshot.commit.maps) needs.objects.insert(map.name);
  return needs;
}

// What a snapshot needs, by the names it stands under: mirrored commits, the WAL of its span.
Result<std::vector<std::string>> stored_names(Vault& vault, const Snapshot& snapshot) {
  TRY_ASSIGN(const Needs needs, needs_of(vault, snapshot));
  std::vector<std::string> found;
  Protocol protocol = protocol_of(vault);
  for (const std::string& name : needs.objects) found.push_back(RecordLog(protocol).place_of(name).name);
  if (needs.wal) {
    TRY_ASSIGN(const WalListing wal, list_wal(vault.store(), snapshot.commit.resource, needs.wal->timeline));
    for (const WalObject& object : wal.objects)
      if (overlaps(object.name, *needs.wal)) found.push_back(object.object);
  }
  return found;
}

// `call` with the name; where nothing stands under it, with each of its incarnations (vault/incarnations.h).
template <class Call>
auto on_stored(Vault& vault, const std::string& name, Call&& call) -> decltype(call(name)) {
  auto done = call(name);
  if (done || !is_kind(done.error(), ErrorKind::kNotFound) || !names::is_content(name)) return done;
  TRY(for_each_object(vault.store(), name + ".", [&](const ObjectInfo& object) -> Result<void> {
    if (auto other = call(object.name); other || !is_kind(other.error(), ErrorKind::kNotFound))
      done = std::move(other);
    return {};
  }));
  return done;
}

class Extender {
 public:
  Extender(Vault& vault, const LockOptions& options, Reporter& reporter)
      : vault_(vault),
        options_(options),
        reporter_(reporter),
        now_(vault.clock().now()),
        full_(later(now_, options.lock)),
        half_(next_look(options.lock, now_)) {}

  Result<LockReport> run() {
    TRY_ASSIGN(retention_, retention_of(vault_));
    TRY_ASSIGN(SnapshotList list, list_snapshots(vault_, {}));
    for (const Unverifiable& one : list.unverifiable)
      reporter_.warning(fmt::format("{} cannot be verified: what it needs is not locked on", one.name));
    for (const Snapshot& snapshot : list.snapshots) TRY(take(snapshot));
    if (unread_ > 0) report_.lock()->unread = unread_;
    // Dead for ever, though another incarnation may be needed: it goes when its lock ends.
    Protocol protocol = protocol_of(vault_);
    const auto rounds = Ledger(protocol).read_gc();  // not to be read: locked too long, never too short
    std::set<std::string, std::less<>> swept;
    for (const GcRound& round : rounds ? *rounds : std::vector<GcRound>())
      if (round.swept) swept.insert(round.objects.begin(), round.objects.end());
    reporter_.phase("extending locks", 0);
    std::vector<std::pair<std::string, Target>> due;
    std::vector<std::string> parts;  // judged when every segment is known
    auto take_up = [&](const std::string& name) {
      if (swept.contains(plain_name(name))) return;
      Target target = target_of(name);
      if (target.until != Time{} || target.rolls) due.emplace_back(name, target);
    };
    TRY(for_each_object(vault_.store(), "", [&](const ObjectInfo& object) -> Result<void> {
      auto wal = object.name.starts_with(names::kWal) ? names::parse_wal(object.name) : std::nullopt;
      if (wal && wal->kind == names::WalKind::kSegment)
        segments_[{wal->resource, wal->timeline}].emplace(wal->from, wal->to);
      if (wal && wal->kind == names::WalKind::kPart)
        parts.push_back(object.name);
      else
        take_up(object.name);
      return {};
    }));
    for (const std::string& name : parts) take_up(name);
    TRY(parallel_for(due.size(), kParallel, options_.stop,
                     [&](size_t i, std::stop_token) { return extend(due[i].first, due[i].second); }));
    return std::move(*report_.lock());
  }

 private:
  struct Target {
    Time until{};        // at least so long
    bool rolls = false;  // for the whole length again, when half of it has passed
    void join(const Target& other) {
      until = std::max(until, other.until);
      rolls = rolls || other.rolls;
    }
  };

  Target target_of(const Snapshot& snapshot) {
    const Time keep = from_unix_ns(snapshot.keep_until_ns);
    if (snapshot.keep_until_ns == kKeepForever || keep <= now_) return {.rolls = true};
    // A hold may outlast the promise, and may be taken off before.
    if (keep <= options_.ahead_max) return {.until = keep, .rolls = !snapshot.holds.empty()};
    auto report = report_.lock();
    if (report->beyond.size() < kBeyondNamedMax)
      report->beyond.push_back(
          fmt::format("snapshot {} wants to be kept until {}, longer than any plan promises: it is locked as "
                      "far as lock: reaches",
                      snapshot.commit.snapshot.hex(), format_moment(keep)));
    return {.until = std::min(full_, options_.ahead_max), .rolls = true};
  }

  Result<void> take(const Snapshot& snapshot) {
    const Target target = target_of(snapshot);
    Result<Needs> read = needs_of(vault_, snapshot);
    if (!read && !is_kind(read.error(), ErrorKind::kDamaged) && !is_kind(read.error(), ErrorKind::kRefused))
      return std::move(read).error();
    if (!read) {
      // The others are locked on all the same, and of this one what its commit names.
      ++unread_;
      reporter_.warning(fmt::format("the packs of snapshot {} cannot be locked on: {}",
                                    snapshot.commit.snapshot.hex(), read.error().what));
      read = Needs{.objects = {snapshot.commit_name, snapshot.commit.live.name}, .wal = snapshot.commit.wal};
      for (const ObjectRef& map : snapshot.commit.maps) read->objects.insert(map.name);
    }
    const Needs& needs = *read;
    for (const std::string& name : needs.objects) needed_[name].join(target);
    if (!needs.wal) return {};
    spans_[snapshot.commit.resource].push_back({*needs.wal, target});
    const std::pair<uint32_t, uint64_t> start{needs.wal->timeline, needs.wal->from};
    auto [floor, first] = floors_.emplace(snapshot.commit.resource, start);
    if (!first) floor->second = std::min(floor->second, start);
    return {};
  }

  Target target_of(const std::string& stored) const {
    const std::string_view name = plain_name(stored);
    if (name.starts_with(names::kProbeTrials) || name.starts_with(names::kSessions)) return {};
    Target target;
    if (auto needed = needed_.find(names::origin_of(name)); needed != needed_.end()) target = needed->second;
    if (names::is_content(name)) return target;
    if (name.starts_with(names::kWal)) return wal_target(name);
    target.rolls = true;  // small, and the vault could not be believed without it
    return target;
  }

  bool stands_whole(const names::WalName& part) const {
    auto segments = segments_.find({part.resource, part.timeline});
    if (segments == segments_.end()) return false;
    auto after = segments->second.upper_bound(part.from);
    return after != segments->second.begin() && std::prev(after)->second >= part.to;
  }

  Target wal_target(std::string_view name) const {
    auto wal = names::parse_wal(name);
    if (!wal) return {};
    Target target;
    if (auto spans = spans_.find(wal->resource); spans != spans_.end())
      for (const auto& [span, of] : spans->second)
        if (overlaps(*wal, span)) target.join(of);
    auto floor = floors_.find(wal->resource);
    if (floor == floors_.end()) return target;
    // The window has the segment; only where that does not stand are its parts all there is of the WAL.
    if (wal->kind == names::WalKind::kPart && stands_whole(*wal)) return target;
    // From the oldest visible snapshot on it is the window's. A history is needed whenever its timeline is.
    target.rolls = target.rolls || wal->kind == names::WalKind::kHistory ||
                   wal->timeline > floor->second.first ||
                   (wal->timeline == floor->second.first && wal->to > floor->second.second);
    return target;
  }

  Result<void> extend(const std::string& name, const Target& target) {
    auto current = retention_->retained_until(name);
    if (!current) return judge(current.error());
    const Time has = current->value_or(Time{});
    Time wanted = target.until;
    if (target.rolls && has < half_) wanted = std::max(wanted, full_);
    ++report_.lock()->looked_at;
    if (has >= wanted) return {};
    Result<void> done = retention_->retain_until(name, wanted);
    if (!done) return judge(done.error());
    ++report_.lock()->extended;
    return {};
  }

  // Gone meanwhile: it was collected. Denied: told, and the others are extended all the same.
  Result<void> judge(Error error) {
    if (is_kind(error, ErrorKind::kNotFound)) return {};
    if (!is_kind(error, ErrorKind::kDenied)) return error;
    auto report = report_.lock();
    if (++report->denied == 1) report->first_denied = error.what;
    return {};
  }

  Vault& vault_;
  const LockOptions& options_;
  Reporter& reporter_;
  const Time now_, full_, half_;
  Retention* retention_ = nullptr;
  uint64_t unread_ = 0;  // snapshots
  std::map<std::string, Target, std::less<>> needed_;
  std::map<ResourceId, std::vector<std::pair<WalSpan, Target>>> spans_;
  std::map<ResourceId, std::pair<uint32_t, uint64_t>>
      floors_;  // the oldest visible snapshot's timeline and LSN
  std::map<std::pair<ResourceId, uint32_t>, std::map<uint64_t, uint64_t>> segments_;  // whole ones: from → to
  Guarded<LockReport> report_;
};

}  // namespace

Result<std::optional<Period>> lock_of(const std::string& location) {
  const std::string objects = split_location(location).objects;
  if (!is_s3_location(objects)) return std::optional<Period>();
  TRY_ASSIGN(const S3Location place, parse_s3_location(objects));
  return place.lock;
}

Time next_look(Period lock, Time now) {
  return now + length_of(lock, now) / kRefreshDivisor;
}

Result<LockReport> extend_locks(Vault& vault, const LockOptions& options, Reporter& reporter) {
  return Extender(vault, options, reporter).run();
}

Result<std::string> why_not_locked(Vault& vault, const Snapshot& snapshot, Time until, std::stop_token stop) {
  TRY_ASSIGN(Retention * retention, retention_of(vault));
  TRY_ASSIGN(const std::vector<std::string> needed, stored_names(vault, snapshot));
  Guarded<std::string> why;
  TRY(parallel_for(needed.size(), kParallel, stop, [&](size_t i, std::stop_token) -> Result<void> {
    // A commit's mirror and WAL are not built on.
    if (!names::is_content(needed[i])) return {};
    auto current =
        on_stored(vault, needed[i], [&](const std::string& name) { return retention->retained_until(name); });
    if (!current && !is_kind(current.error(), ErrorKind::kDenied)) return std::move(current).error();
    if (current && *current && **current >= until) return {};
    why.with([&](std::string& words) {
      if (!words.empty()) return;
      words = !current   ? fmt::format("how long {} is locked may not be seen with this key", needed[i])
              : *current ? fmt::format("{} is locked only until {}", needed[i], format_moment(**current))
                         : fmt::format("{} is not locked", needed[i]);
    });
    return {};
  }));
  return why.with([](std::string& words) { return words; });
}

Result<uint64_t> hold_in_store(Vault& vault, const Snapshot& snapshot, bool on) {
  Retention* retention = vault.store().retention();
  if (!retention) return uint64_t{0};
  TRY_ASSIGN(std::vector<std::string> wanted, stored_names(vault, snapshot));
  if (!on) {
    std::set<std::string> others;
    TRY_ASSIGN(SnapshotList list, list_snapshots(vault, {}));
    for (const Snapshot& other : list.snapshots) {
      if (other.commit.snapshot == snapshot.commit.snapshot || other.holds.empty()) continue;
      TRY_ASSIGN(const std::vector<std::string> theirs, stored_names(vault, other));
      others.insert(theirs.begin(), theirs.end());
    }
    std::erase_if(wanted, [&](const std::string& name) { return others.contains(name); });
  }
  uint64_t reached = 0;
  for (const std::string& name : wanted) {
    Result<void> done = on_stored(
        vault, name, [&](const std::string& stored) { return retention->set_legal_hold(stored, on); });
    if (!done && is_kind(done.error(), ErrorKind::kRefused)) return uint64_t{0};  // this place holds nothing
    if (!done && is_kind(done.error(), ErrorKind::kNotFound)) continue;
    if (!done && is_kind(done.error(), ErrorKind::kDenied) && reached == 0) return std::move(done).error();
    if (!done) {
      return fail(ErrorKind::kPartial,
                  fmt::format("the store's own hold is {} {} of {} objects", on ? "on" : "off", reached,
                              wanted.size()),
                  done.error().what + ". " + done.error().why,
                  "run the command again with a key that may place holds");
    }
    ++reached;
  }
  return reached;
}

}  // namespace kuramori
