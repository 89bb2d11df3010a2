#include "engine/thaw.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include "base/units.h"
#include "conc/task_group.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "store/read_ahead.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/snapshot_reader.h"

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

// The packs a snapshot needs, with their sizes.
Result<std::vector<std::pair<std::string, uint64_t>>> packs_of(Vault& vault, const Snapshot& snapshot) {
  TRY_ASSIGN(const LiveRecord live, read_live(vault.store(), vault.codec(), snapshot.commit));
  std::vector<std::pair<std::string, uint64_t>> packs;
  for (const LivePack& pack : live.packs) packs.emplace_back(pack.name, pack.size);
  std::sort(packs.begin(), packs.end());
  return packs;
}

// Of these packs, the ones a listing shows in a class that may be cold: (index, class).
Result<std::vector<std::pair<size_t, std::string>>> perhaps_cold(
    Store& store, const std::vector<std::pair<std::string, uint64_t>>& packs) {
  std::vector<std::pair<size_t, std::string>> found;
  TRY(for_each_object(store, kPackPrefix, [&](const ObjectInfo& object) -> Result<void> {
    if (is_read_at_once(object.storage_class)) return {};
    auto pack = std::lower_bound(packs.begin(), packs.end(), std::pair(object.name, uint64_t{0}));
    if (pack != packs.end() && pack->first == object.name)
      found.emplace_back(static_cast<size_t>(pack - packs.begin()), object.storage_class);
    return {};
  }));
  return found;
}

}  // namespace

Result<ThawOutcome> thaw_snapshot(Vault& vault, const Snapshot& snapshot, const ThawRequest& request,
                                  std::stop_token stop) {
  TRY(must_be_allowed(vault, Act::kReadContent));
  ThawOutcome outcome;
  TRY_ASSIGN(const auto packs, packs_of(vault, snapshot));
  outcome.packs = packs.size();
  for (const auto& pack : packs) outcome.bytes += pack.second;
  Tiers* tiers = vault.store().tiers();
  if (tiers == nullptr) return outcome;
  TRY_ASSIGN(const auto suspects, perhaps_cold(vault.store(), packs));
  std::mutex mutex;
  std::set<std::string> classes;
  TRY(parallel_for(suspects.size(), kAskedAtOnce, stop, [&](size_t i, std::stop_token) -> Result<void> {
    const auto& [name, bytes] = packs[suspects[i].first];
    TRY_ASSIGN(const Tiers::Tier tier, tiers->tier(name));
    const bool is_cold = tier.state == Tiers::State::kCold;
    if (is_cold && !request.dry_run) TRY(tiers->thaw(name, request.days, request.speed));
    const std::lock_guard hold(mutex);
    outcome.requests += is_cold ? 2 : 1;
    if (tier.state == Tiers::State::kReadable) return {};
    is_cold ? ++outcome.cold : ++outcome.thawing;
    if (is_cold) outcome.cold_bytes += bytes;
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
  for (const auto& [name, bytes] : packs) {
    cost.bytes += bytes;
    cost.requests += kRequestsToOpen + (bytes + kReadAheadBlockBytes - 1) / kReadAheadBlockBytes;
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
    TRY_ASSIGN(const Tiers::Tier tier, tiers->tier(packs[suspects[i].first].first));
    if (tier.state == Tiers::State::kReadable) return {};
    ++(tier.state == Tiers::State::kCold ? cold : thawing);
    bytes += packs[suspects[i].first].second;
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
