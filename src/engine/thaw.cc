#include "engine/thaw.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <set>

#include "base/units.h"
#include "conc/task_group.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "store/read_ahead.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/snapshot_reader.h"
#include "vault/thin_pack.h"

namespace kuramori {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr size_t kAskedAtOnce = 8;
constexpr std::string_view kPackPrefix = "packs/";

// How long a thaw takes, as Amazon's documentation of archive retrieval has it. Others are not promised
// anything: they get the longest.
std::pair<Duration, Duration> thaw_time(std::string_view storage_class, Tiers::Speed speed) {
  if (storage_class == "GLACIER") {
    switch (speed) {
      case Tiers::Speed::kExpedited:
        return {minutes(1), minutes(5)};
      case Tiers::Speed::kStandard:
        return {hours(3), hours(5)};
      case Tiers::Speed::kBulk:
        return {hours(5), hours(12)};
    }
  }
  return speed == Tiers::Speed::kBulk ? std::pair<Duration, Duration>{hours(12), hours(48)}
                                      : std::pair<Duration, Duration>{hours(3), hours(12)};
}

// The packs a snapshot needs, by name.
Result<std::vector<LivePack>> packs_of(Vault& vault, const Snapshot& snapshot) {
  TRY_ASSIGN(LiveRecord live, read_live(vault.store(), vault.codec(), snapshot.commit));
  std::ranges::sort(live.packs, {}, &LivePack::name);
  return std::move(live.packs);
}

// A pack of which a listing shows no object that is surely readable and whole. Its objects are itself and
// copies put again; thin ones (vault/thin_pack.h) hold some frames alone, and which, only they say.
struct Suspect {
  uint64_t bytes = 0;  // to be thawed
  std::vector<std::string> objects;
};
Result<std::vector<Suspect>> perhaps_cold(Store& store, const std::vector<LivePack>& packs) {
  struct Standing {
    std::vector<ObjectInfo> whole, thin;
    bool any_cold = false;
  };
  std::vector<Standing> standing(packs.size());
  TRY(for_each_object(store, kPackPrefix, [&](const ObjectInfo& object) -> Result<void> {
    const std::string_view origin = names::origin_of(object.name);
    auto pack = std::ranges::lower_bound(packs, origin, {},
                                         [](const LivePack& p) -> std::string_view { return p.name; });
    if (pack == packs.end() || pack->name != origin) return {};
    Standing& all = standing[static_cast<size_t>(pack - packs.begin())];
    (object.size == pack->size ? all.whole : all.thin).push_back(object);
    all.any_cold |= !is_read_at_once(object.storage_class);
    return {};
  }));
  auto at_once = [](const ObjectInfo& object) { return is_read_at_once(object.storage_class); };
  auto holds_all = [&](const ObjectInfo& object, const LivePack& pack) {
    const auto holds = is_thin_with(store, object.name, pack);
    return holds && *holds;
  };
  std::vector<Suspect> suspects;
  for (size_t i = 0; i < packs.size(); ++i) {
    const Standing& all = standing[i];
    if (!all.any_cold || std::ranges::any_of(all.whole, at_once)) continue;
    // Of the thin ones any may be the one: so each of them must be readable, where none is whole.
    if (std::ranges::any_of(all.thin, [&](const ObjectInfo& object) {
          return at_once(object) && holds_all(object, packs[i]);
        }))
      continue;
    if (!all.whole.empty()) {
      Suspect& suspect = suspects.emplace_back(Suspect{.bytes = packs[i].size, .objects = {}});
      for (const ObjectInfo& object : all.whole) suspect.objects.push_back(object.name);
      continue;
    }
    for (const ObjectInfo& object : all.thin)
      if (!at_once(object)) suspects.push_back({object.size, {object.name}});
  }
  return suspects;
}

// The object of it that can be read soonest, and how it stands with it.
Result<std::pair<std::string, Tiers::Tier>> nearest(Tiers& tiers, const Suspect& suspect) {
  std::optional<std::pair<std::string, Tiers::Tier>> best;
  for (const std::string& object : suspect.objects) {
    TRY_ASSIGN(Tiers::Tier tier, tiers.tier(object));
    if (tier.state == Tiers::State::kReadable) return std::pair(object, std::move(tier));
    if (!best || tier.state == Tiers::State::kThawing) best = std::pair(object, std::move(tier));
  }
  return std::move(*best);
}

}  // namespace

Result<ThawOutcome> thaw_snapshot(Vault& vault, const Snapshot& snapshot, const ThawRequest& request,
                                  std::stop_token stop) {
  TRY(must_be_allowed(vault, Act::kReadContent));
  ThawOutcome outcome;
  TRY_ASSIGN(const auto packs, packs_of(vault, snapshot));
  outcome.packs = packs.size();
  for (const LivePack& pack : packs) outcome.bytes += pack.size;
  Tiers* tiers = vault.store().tiers();
  if (tiers == nullptr) return outcome;
  TRY_ASSIGN(const auto suspects, perhaps_cold(vault.store(), packs));
  std::mutex mutex;
  std::set<std::string> classes;
  TRY(parallel_for(suspects.size(), kAskedAtOnce, stop, [&](size_t i, std::stop_token) -> Result<void> {
    TRY_ASSIGN(const auto near, nearest(*tiers, suspects[i]));
    const auto& [name, tier] = near;
    const bool is_cold = tier.state == Tiers::State::kCold;
    if (is_cold && !request.dry_run) TRY(tiers->thaw(name, request.days, request.speed));
    const std::lock_guard hold(mutex);
    outcome.requests += suspects[i].objects.size() + (is_cold ? 1 : 0);
    if (tier.state == Tiers::State::kReadable) return {};
    is_cold ? ++outcome.cold : ++outcome.thawing;
    if (is_cold) outcome.cold_bytes += suspects[i].bytes;
    classes.insert(tier.storage_class);
    const auto [least, most] = thaw_time(tier.storage_class, request.speed);
    outcome.about_least = std::max(outcome.about_least, least);
    outcome.about_most = std::max(outcome.about_most, most);
    return {};
  }));
  outcome.classes.assign(classes.begin(), classes.end());
  return outcome;
}

Result<FetchCost> cost_of_fetching(Vault& vault, const Snapshot& snapshot) {
  constexpr uint64_t kRequestsToOpen = 2;  // a pack: its end, its head
  FetchCost cost;
  TRY_ASSIGN(const auto packs, packs_of(vault, snapshot));
  for (const LivePack& pack : packs) {
    cost.bytes += pack.size;
    cost.requests += kRequestsToOpen + (pack.size + kReadAheadBlockBytes - 1) / kReadAheadBlockBytes;
  }
  return cost;
}

void put_readable(Store& store) {
  if (Tiers* tiers = store.tiers()) tiers->put_readable();
}

Result<void> read_back(Store& store, const std::string& at, const LivePack& pack) {
  auto object = only_incarnation(store, at);
  Result<void> whole = verify_pack_bytes(*object, std::string(names::origin_of(at)), &pack);
  Tiers* tiers = store.tiers();
  if (tiers == nullptr) return whole;
  if (whole) return tiers->settle(at);
  if (whole.error().kind != ErrorKind::kRefused) return whole;
  TRY_ASSIGN(const Tiers::Tier tier, tiers->tier(at));
  if (tier.state == Tiers::State::kReadable) return whole;
  TRY_ASSIGN(const ObjectInfo info, store.head(at));
  if (info.size == pack.size) return {};
  return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {} bytes are {}", at, info.size, pack.size));
}

Result<void> must_be_readable(Vault& vault, const Snapshot& snapshot, std::stop_token stop) {
  Tiers* tiers = vault.store().tiers();
  if (tiers == nullptr) return {};
  TRY_ASSIGN(const auto packs, packs_of(vault, snapshot));
  TRY_ASSIGN(const auto suspects, perhaps_cold(vault.store(), packs));
  std::atomic<uint64_t> cold = 0, thawing = 0, bytes = 0;
  TRY(parallel_for(suspects.size(), kAskedAtOnce, stop, [&](size_t i, std::stop_token) -> Result<void> {
    TRY_ASSIGN(const auto near, nearest(*tiers, suspects[i]));
    if (near.second.state == Tiers::State::kReadable) return {};
    ++(near.second.state == Tiers::State::kCold ? cold : thawing);
    bytes += suspects[i].bytes;
    return {};
  }));
  if (cold + thawing == 0) return {};
  const std::string id = snapshot.commit.snapshot.hex();
  return fail(ErrorKind::kRefused, fmt::format("snapshot {} is in cold storage and cannot be read yet", id),
              fmt::format("{} of its {} packs ({}): {} were not asked for, {} are on their way",
                          cold + thawing, packs.size(), format_size(bytes), cold.load(), thawing.load()),
              cold > 0 ? fmt::format("kuramori thaw {}", id)
                       : fmt::format("wait; kuramori thaw {} --dry-run says how far it is", id));
}

}  // namespace kuramori
