#include "daemon/alert_facts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/time_text.h"

namespace kuramori {
namespace {

using Json = nlohmann::json;

constexpr int64_t kRunsLookedFirst = 20'000, kRunsLooked = 1000;

std::optional<Time> time_in(const Json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_string()) return std::nullopt;
  auto moment = parse_moment(at->get<std::string>());
  return moment ? std::optional(moment->time) : std::nullopt;
}
std::string text_in(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}
const Json& list_in(const Json& object, const char* key) {
  static const Json kNone = Json::array();
  if (!object.is_object()) return kNone;
  const auto at = object.find(key);
  return at != object.end() && at->is_array() ? *at : kNone;
}

// The shorter of two limits: each plan's own holds.
void take_shorter(std::optional<Period>& least, const std::optional<Period>& one) {
  const Time zero{};
  if (one && (!least || later(zero, *one) < later(zero, *least))) least = one;
}

Period three_quarters(const Period& period) {
  constexpr int64_t kMonth = 30 * 86400;
  return Period::of_seconds(std::max<int64_t>(1, (period.months * kMonth + period.seconds) / 4 * 3));
}

SeenResource facts_of(const Config& config, const ResourceConfig& resource, Time began) {
  SeenResource facts;
  facts.resource = resource.name;
  facts.criticality = resource.criticality;
  facts.watched_from = began;
  facts.is_seen = false;
  const std::optional<Period> rpo = resource.rpo && !resource.rpo->endless ? resource.rpo : std::nullopt;
  bool has_wal = false;
  for (const PlanConfig* plan : config.plans_of(resource.name)) {
    take_shorter(facts.age_max, plan->thresholds.age);
    take_shorter(facts.unproven_max, plan->thresholds.unproven);
    if (plan->wal != WalMode::kNone && resource.kind == ResourceKind::kPostgres) {
      has_wal = true;
      take_shorter(facts.wal_gap_max, plan->thresholds.wal_gap);
    }
    if (plan->drill) facts.drills.push_back({plan->drill->schedule, std::nullopt, plan->timezone});
    if (plan->thresholds.size)
      facts.size_max =
          facts.size_max > 0 ? std::min(facts.size_max, *plan->thresholds.size) : *plan->thresholds.size;
    for (const CopyConfig& copy : plan->copies) {
      std::optional<Period> lag = plan->thresholds.copy_lag ? plan->thresholds.copy_lag : copy.within;
      if (!lag && rpo) lag = later(Time{}, *rpo) > Time{} + kCopyLagLeast ? *rpo : Period::of_seconds(3600);
      if (!lag) lag = Period::of_seconds(std::chrono::floor<std::chrono::seconds>(kCopyLagUnsaid).count());
      facts.copies.push_back({copy.to, lag, std::nullopt});
    }
  }
  // A snapshot of a plan without this copy waits for one of a plan that has it: only who says how long means
  // it.
  std::erase_if(facts.copies, [&](const SeenResource::Copy& copy) {
    bool is_said = false, has_other = false;
    for (const PlanConfig* plan : config.plans_of(resource.name)) {
      const auto at = std::ranges::find(plan->copies, copy.vault, &CopyConfig::to);
      has_other |= at == plan->copies.end();
      is_said |= at != plan->copies.end() && (at->within || plan->thresholds.copy_lag);
    }
    return has_other && !is_said;
  });
  if (!facts.age_max) facts.age_max = rpo;
  // Told before the promise is broken.
  if (has_wal && !facts.wal_gap_max && rpo) facts.wal_gap_max = three_quarters(*rpo);
  return facts;
}

}  // namespace

// --- the journal -------------------------------------------------------------------------------------

Result<bool> JournalWatch::look() {
  TRY_ASSIGN(const int64_t version, journal_->version());
  if (version_ == version) return false;
  const bool is_first = !version_;
  TRY_ASSIGN(const std::vector<JobJournal::Listed> listed,
             journal_->list(is_first ? kRunsLookedFirst : kRunsLooked, [](const auto&) { return true; }));
  for (auto& [id, known] : jobs_) known.open.reset();
  std::set<int64_t> open;
  for (const JobJournal::Listed& one : listed) {
    const Run& run = one.run;
    Known& known = jobs_[run.job];
    if (!is_over(run.state)) {
      known.open = run;
      open.insert(run.id);
      continue;
    }
    if (is_first || run.id > newest_ || open_.contains(run.id)) fresh_[run.id] = run;
    if (run.state == RunState::kCancelled) continue;
    known.ended[run.id] = run;
    if (known.ended.size() > kRunsRemembered) known.ended.erase(std::prev(known.ended.end()));
  }
  for (const JobJournal::Listed& one : listed) newest_ = std::max(newest_, one.run.id);
  open_ = std::move(open);
  version_ = version;
  return true;
}

void JournalWatch::fill(std::vector<JobFacts>& jobs) const {
  for (JobFacts& job : jobs) {
    job.ended.clear();
    job.open.reset();
    const auto known = jobs_.find(job.job.id);
    if (known == jobs_.end()) continue;
    for (const auto& [id, run] : known->second.ended) job.ended.push_back(run);
    job.open = known->second.open;
  }
}

std::vector<Run> JournalWatch::take_ended(int64_t& until, std::set<int64_t>& besides, bool is_first) {
  std::vector<Run> out;
  for (const auto& [id, run] : fresh_) {
    if (id <= until || !besides.insert(id).second) continue;
    if (!is_first) out.push_back(run);
  }
  fresh_.clear();
  // All below the oldest that is open are over.
  const int64_t solid = open_.empty() ? newest_ : *open_.begin() - 1;
  until = std::max(until, solid);
  std::erase_if(besides, [&](int64_t id) { return id <= until; });
  return out;
}

// --- what the vaults hold ----------------------------------------------------------------------------

std::vector<double> read_sizes(std::string_view document) {
  std::vector<std::pair<Time, double>> all;
  const Json read = Json::parse(document, nullptr, false);
  for (const Json& one : list_in(read, "snapshots")) {
    if (!one.is_object()) continue;
    const auto size = one.find("size_bytes");
    const auto at = time_in(one, "time");
    if (at && size != one.end() && size->is_number()) all.emplace_back(*at, size->get<double>());
  }
  std::ranges::sort(all, std::greater<>());
  std::vector<double> sizes;
  for (const auto& [at, size] : all) sizes.push_back(size);
  return sizes;
}

std::optional<uint64_t> read_stored(std::string_view document) {
  const Json read = Json::parse(document, nullptr, false);
  const auto bytes = Json::json_pointer("/vault/stored/bytes");
  if (!read.is_object() || !read.contains(bytes) || !read[bytes].is_number_unsigned()) return std::nullopt;
  return read[bytes].get<uint64_t>();
}

std::optional<std::vector<SeenReview>> read_reviews(std::string_view document, const Config& config) {
  const Json read = Json::parse(document, nullptr, false);
  if (!read.is_object() || text_in(read, "schema") != "kuramori/reviews/1") return std::nullopt;
  std::vector<SeenReview> out;
  for (const Json& one : list_in(read, "reviews")) {
    if (!one.is_object()) continue;
    // The newest of its label is kept for its own sake; a proven newer one makes it free.
    if (text_in(one, "newer").empty() || one.value("newer_is_proven", Json(false)) == Json(true)) continue;
    SeenReview review{.vault = text_in(one, "vault"),
                      .resource = text_in(one, "resource"),
                      .criticality = {},
                      .id = text_in(one, "id"),
                      .label = text_in(one, "label"),
                      .taken = time_in(one, "time").value_or(Time{})};
    if (auto resource = config.resource(review.resource)) review.criticality = (*resource)->criticality;
    out.push_back(std::move(review));
  }
  return out;
}

std::vector<PingFacts> pings_of(const Config& config, Time began) {
  std::vector<PingFacts> out;
  for (const PingConfig& ping : config.pings) {
    PingFacts one{.name = ping.name,
                  .resource = ping.resource,
                  .criticality = ping.criticality,
                  .when = ping.when,
                  .grace = ping.grace,
                  .calls = {.watched_from = began, .started = {}, .done = {}, .failed = {}}};
    if (auto resource = config.resource(ping.resource); resource && one.criticality.empty())
      one.criticality = (*resource)->criticality;
    out.push_back(std::move(one));
  }
  return out;
}

AlertFacts facts_of(const Config& config, Time began) {
  AlertFacts facts;
  const auto criticality_of = [&](const std::string& name) {
    auto resource = config.resource(name);
    return resource ? (*resource)->criticality : std::string();
  };
  std::map<std::string, std::string> weights;  // of vaults
  for (const PlanConfig& plan : config.plans)
    for (const std::string& resource : plan.resources) {
      const std::string weight = criticality_of(resource);
      const auto weigh = [&](const std::string& vault) {
        std::string& most = weights[vault];
        if (rank_of_criticality(weight) > rank_of_criticality(most)) most = weight;
      };
      weigh(plan.vault);
      for (const CopyConfig& copy : plan.copies) weigh(copy.to);
    }
  for (Job& job : jobs_of(config)) {
    JobFacts one;
    one.criticality = job.resource.empty() ? weights[job.vaults.empty() ? "" : job.vaults.front()]
                                           : criticality_of(job.resource);
    if (auto plan = config.plan(job.plan)) one.thresholds = (*plan)->thresholds;
    one.watched_from = began;
    one.job = std::move(job);
    facts.jobs.push_back(std::move(one));
  }
  facts.began = began;
  facts.pings = pings_of(config, began);
  for (const ResourceConfig& resource : config.resources)
    if (!config.plans_of(resource.name).empty()) facts.resources.push_back(facts_of(config, resource, began));
  for (const VaultConfig& vault : config.vaults) {
    SeenVault one;
    one.name = vault.name;
    one.criticality = weights[vault.name];
    one.capacity = vault.capacity;
    one.full = vault.full;
    one.snapshots_max = vault.snapshots_max;
    one.origin = vault.copy_of.empty() ? vault.name : vault.copy_of;
    one.is_seen = false;
    facts.vaults.push_back(std::move(one));
  }
  return facts;
}

void add_seen(AlertFacts& facts, const ShownStatus& status, std::map<std::string, Time>& away) {
  std::map<std::string, uint64_t> snapshots;
  std::map<std::string, std::string> troubles;  // of vaults; "": it was seen
  for (const ShownStatus::Resource& resource : status.resources)
    for (const ShownStatus::Place& place : resource.places) {
      snapshots[place.vault] += place.snapshots;
      std::string& trouble = troubles[place.vault];
      if (trouble.empty()) trouble = place.trouble;
    }
  for (SeenVault& vault : facts.vaults) {
    const auto seen = troubles.find(vault.name);
    vault.is_seen = seen == troubles.end() || seen->second.empty();
    vault.snapshots = snapshots[vault.name];
    vault.trouble = seen == troubles.end() ? "" : seen->second;
    vault.trouble_since.reset();
    const auto own = std::ranges::find(status.vaults, vault.name, &ShownStatus::Vault::name);
    vault.is_kit_known = own != status.vaults.end() && own->is_kit_known;
    if (vault.is_kit_known) {
      vault.family = own->family;
      vault.created = own->created;
      vault.kit_made = own->kit_made;
    }
    if (vault.is_seen)
      away.erase(vault.name);
    else
      vault.trouble_since = away.emplace(vault.name, status.at).first->second;
  }
  for (SeenResource& resource : facts.resources) {
    const auto at = std::ranges::find(status.resources, resource.resource, &ShownStatus::Resource::name);
    resource.as_of = status.at;
    resource.is_seen = at != status.resources.end();
    if (!resource.is_seen) continue;
    const ShownStatus::Resource& seen = *at;
    const auto time_of = [](const std::optional<ShownStatus::Proof>& proof) {
      return proof ? std::optional(proof->at) : std::nullopt;
    };
    resource.restorable_to = seen.restorable_to;
    resource.last_proof = time_of(seen.proof);
    resource.last_passed = time_of(seen.passed);
    resource.last_proof_failed = seen.proof && !seen.proof->passed;
    resource.oldest.reset();
    for (const ShownStatus::Place& place : seen.places) {
      if (!place.trouble.empty()) resource.is_seen = false;
      if (place.oldest && (!resource.oldest || *place.oldest < *resource.oldest))
        resource.oldest = place.oldest;
    }
    for (SeenResource::Copy& copy : resource.copies) {
      const auto place = std::ranges::find(seen.places, copy.vault, &ShownStatus::Place::vault);
      copy.behind_since = place == seen.places.end() ? std::nullopt : place->behind_since;
    }
    if (!resource.is_seen)
      for (SeenResource::Copy& copy : resource.copies) copy.behind_since.reset();
  }
}

void add_unseen(AlertFacts& facts, const std::string& why, Time at, std::map<std::string, Time>& away) {
  for (SeenVault& vault : facts.vaults) {
    vault.is_seen = false;
    vault.trouble = why;
    vault.trouble_since = away.emplace(vault.name, at).first->second;
  }
  for (SeenResource& resource : facts.resources) resource.is_seen = false;
}

}  // namespace kuramori
