#include "policy/simulate.h"

#include <fmt/core.h>

#include <algorithm>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "base/time_text.h"
#include "policy/schedule.h"

namespace kuramori {

// --- one resource in one vault

KeptHistory::KeptHistory(std::string resource, Promise promise)
    : question_{.resource = std::move(resource),
                .window = promise.window,
                .keep_last = promise.keep_last,
                .now = {},
                .tell = PruneQuestion::Tell::kDropsAlone},
      budget_(promise.budget) {}

void KeptHistory::add(SnapshotFacts snapshot) {
  here_.insert(snapshot.id);
  existing_.push_back({snapshot.time, snapshot.keep_until});
  first_due_ = std::min(first_due_, snapshot.keep_until);
  question_.snapshots.push_back(std::move(snapshot));
}

void KeptHistory::start_with(SnapshotFacts snapshot) {
  Words words{.proven_at = snapshot.proven_at, .holds = {}, .released = {}};
  words.holds.insert(snapshot.holds.begin(), snapshot.holds.end());
  if (words.proven_at || !words.holds.empty()) said_[snapshot.id] = std::move(words);
  add(std::move(snapshot));
}

KeepDecision KeptHistory::back_up(const SnapshotId& id, const KeepRules& rules, std::string_view zone,
                                  Time now, Time store_now) {
  KeepDecision keep = decide_keep_until(rules, zone, existing_, now);
  add({.id = id,
       .lineage = question_.snapshots.empty() ? std::string() : question_.snapshots.back().lineage,
       .time = now,
       .stop = now,
       .stored_at = store_now,
       .keep_until = keep.until,
       .holds = {}});
  return keep;
}

std::vector<KeptHistory::Copied> KeptHistory::copy_from(const KeptHistory& first, const CopyRule& rule,
                                                        Time now, Time store_now) {
  Look& look = looks_[&first];
  // While nothing went on either side and the clock went on, what was looked at need not be again.
  const bool as_before = look.drops_there == first.drops_ && look.drops_here == drops_ && now >= look.at;
  if (!as_before) look.looked_at = 0;
  std::vector<const SnapshotFacts*> missing;
  const std::vector<SnapshotFacts>& there = first.question_.snapshots;
  for (size_t i = look.looked_at; i < there.size(); ++i) {
    if (!here_.contains(there[i].id) && !gone_.contains(there[i].id)) missing.push_back(&there[i]);
  }
  if (look.words != first.words_)
    for (const auto& [id, words] : first.said_) take_words(first, id);
  look = {.looked_at = there.size(),
          .drops_there = first.drops_,
          .drops_here = drops_,
          .words = first.words_,
          .at = now};
  if (missing.empty()) return {};
  std::ranges::stable_sort(missing, {}, &SnapshotFacts::time);

  std::vector<int64_t> all_started;
  for (const SnapshotFacts& snapshot : there) all_started.push_back(to_unix_ns(snapshot.time));
  std::vector<Copied> copied;
  for (const SnapshotFacts* snapshot : missing) {
    auto until = copy_kept_until(rule, to_unix_ns(snapshot->time), to_unix_ns(snapshot->keep_until),
                                 all_started, existing_, now);
    if (!until) continue;
    SnapshotFacts copy = *snapshot;
    copy.keep_until = from_unix_ns(*until);
    copy.stored_at = store_now;
    add(std::move(copy));
    take_words(first, snapshot->id);
    copied.push_back({snapshot->id, snapshot->time, from_unix_ns(*until)});
  }
  return copied;
}

std::optional<SnapshotId> KeptHistory::prove_newest(Time now) {
  auto newest = std::ranges::max_element(
      question_.snapshots, [](const SnapshotFacts& a, const SnapshotFacts& b) { return a.time <= b.time; });
  if (newest == question_.snapshots.end()) return std::nullopt;
  std::optional<Time>& proven_at = said_[newest->id].proven_at;
  proven_at = proven_at ? std::max(*proven_at, now) : now;
  ++words_;
  apply_words(*newest);
  return newest->id;
}

void KeptHistory::hold(const SnapshotId& id, std::string name) {
  said_[id].holds.insert(std::move(name));
  ++words_;
  for (SnapshotFacts& snapshot : question_.snapshots)
    if (snapshot.id == id) apply_words(snapshot);
}

void KeptHistory::label(const SnapshotId& id, const std::string& label) {
  for (SnapshotFacts& snapshot : question_.snapshots)
    if (snapshot.id == id) snapshot.label = label;
  hold(id, label_hold(label));
}

// Of one that is here what was said there, as far as it was not known.
void KeptHistory::take_words(const KeptHistory& first, const SnapshotId& id) {
  auto theirs = first.said_.find(id);
  if (theirs == first.said_.end() || !here_.contains(id)) return;
  Words& mine = said_[id];
  if (!mine.proven_at || theirs->second.proven_at > mine.proven_at) mine.proven_at = theirs->second.proven_at;
  mine.holds.insert(theirs->second.holds.begin(), theirs->second.holds.end());
  mine.released.insert(theirs->second.released.begin(), theirs->second.released.end());
  ++words_;
  for (SnapshotFacts& snapshot : question_.snapshots)
    if (snapshot.id == id) apply_words(snapshot);
}

void KeptHistory::apply_words(SnapshotFacts& snapshot) {
  const Words& words = said_[snapshot.id];
  snapshot.proven |= words.proven_at.has_value();
  snapshot.proven_at = words.proven_at;
  snapshot.holds.clear();
  for (const std::string& hold : words.holds)
    if (!words.released.contains(hold)) snapshot.holds.push_back(hold);
}

Result<std::vector<PruneLine>> KeptHistory::prune(Time now, std::optional<Time> store_now) {
  question_.now = now;
  question_.store_now = store_now;
  TRY_ASSIGN(std::vector<PruneLine> lines, decide_prune(question_));
  if (lines.empty()) return lines;
  if (auto refused = over_budget(budget_, question_.resource, lines.size(), question_.snapshots.size()))
    return std::move(*refused);
  std::set<SnapshotId> going;
  for (const PruneLine& line : lines) {
    going.insert(line.id);
    if (line.reviewed_hold.empty()) continue;
    said_[line.id].released.insert(line.reviewed_hold);
    ++words_;
  }
  std::vector<ExistingSnapshot> left;
  for (size_t i = 0; i < question_.snapshots.size(); ++i)
    if (!going.contains(question_.snapshots[i].id)) left.push_back(existing_[i]);
  existing_ = std::move(left);
  std::erase_if(question_.snapshots, [&](const SnapshotFacts& s) { return going.contains(s.id); });
  first_due_ = kForever;
  for (const SnapshotFacts& snapshot : question_.snapshots)
    first_due_ = std::min(first_due_, snapshot.keep_until);
  for (const SnapshotId& id : going) here_.erase(id);
  gone_.merge(going);
  ++drops_;
  return lines;
}

Result<std::vector<PruneLine>> KeptHistory::explain(Time now) const {
  PruneQuestion question = question_;
  question.now = now;
  question.store_now.reset();
  question.tell = PruneQuestion::Tell::kEverything;
  return decide_prune(question);
}

// --- the years

namespace {

// What happens at one moment, in this order: a snapshot is there before it is drilled, and before prune
// looks.
enum class Act { kBackUp, kDrill, kPrune, kCount };

struct Due {
  Time at;
  Act act;
  size_t of = 0;  // which of the plans that are played; of a prune, which vault
  bool operator>(const Due& other) const {
    return std::tie(at, act, of) > std::tie(other.at, other.act, other.of);
  }
};

SnapshotId numbered(uint64_t number) {
  SnapshotId id;
  for (size_t i = id.raw.size(); i-- > 0; number >>= 8) id.raw[i] = static_cast<uint8_t>(number);
  return id;
}

class Player {
 public:
  Player(const Config& config, const SimulationRequest& request) : config_(config), request_(request) {}

  Result<Simulation> play() {
    out_.from = request_.from;
    out_.until = request_.until;
    TRY(choose());
    start();
    while (!due_.empty() && due_.top().at <= request_.until) {
      const Due now = due_.top();
      due_.pop();
      if (now.act == Act::kBackUp && ++runs_ > kSimulatedRunsMax) return too_much();
      play_one(now);
    }
    for (Place& place : places_) end(place);
    for (Place& place : places_) out_.places.push_back(std::move(place.told));
    return std::move(out_);
  }

 private:
  struct Place {
    KeptHistory history;
    SimulatedPlace told;
    std::unordered_map<SnapshotId, size_t> index = {};  // in told.snapshots
  };
  struct Played {
    const PlanConfig* plan;
    std::vector<std::string> resources;
    size_t drills = 0;  // so far: they take turns
  };

  static Error too_much() {
    return fail(ErrorKind::kUsage, "these plans cannot be simulated all at once",
                fmt::format("they would run more than {} times", kSimulatedRunsMax),
                "choose fewer --years, or one --plan or --resource");
  }

  // Which plans are played for which resources, and where their snapshots go.
  Result<void> choose() {
    if (!request_.plan.empty()) TRY(config_.plan(request_.plan));
    if (!request_.resource.empty()) TRY(config_.resource(request_.resource));
    for (const PlanConfig& plan : config_.plans) {
      if (!request_.plan.empty() && plan.name != request_.plan) continue;
      Played played{.plan = &plan, .resources = {}};
      for (const std::string& resource : plan.resources)
        if (request_.resource.empty() || resource == request_.resource) played.resources.push_back(resource);
      if (played.resources.empty()) continue;
      for (const std::string& resource : played.resources) {
        add_place(resource, plan.vault, plan, /*is_copy=*/false);
        for (const CopyConfig& copy : plan.copies)
          if (copy.to != plan.vault) add_place(resource, copy.to, plan, /*is_copy=*/true);
      }
      played_.push_back(std::move(played));
    }
    return {};
  }

  void add_place(const std::string& resource, const std::string& vault, const PlanConfig& plan,
                 bool is_copy) {
    const VaultConfig* known = *config_.vault(vault);  // the configuration was checked
    if (std::ranges::count(vaults_, known) == 0) vaults_.push_back(known);
    auto [found, is_new] = place_of_.try_emplace({resource, vault}, places_.size());
    if (is_new) {
      Promises promises = promises_in(config_, vault, request_.from);
      places_.push_back({KeptHistory(resource, promises[resource]),
                         {.resource = resource, .vault = vault, .is_copy = is_copy, .plans = {}}});
    }
    SimulatedPlace& told = places_[found->second].told;
    told.is_copy &= is_copy;
    if (std::ranges::count(told.plans, plan.name) == 0) told.plans.push_back(plan.name);
  }
  Place& place(const std::string& resource, const std::string& vault) {
    return places_[place_of_.at({resource, vault})];
  }

  void start() {
    for (const auto& [where, snapshots] : request_.existing) {
      auto found = place_of_.find({where.second, where.first});
      if (found == place_of_.end()) continue;
      Place& there = places_[found->second];
      for (const SnapshotFacts& snapshot : snapshots) {
        there.history.start_with(snapshot);
        tell_made(there, snapshot.id, snapshot.time,
                  {snapshot.keep_until, "was there at the start", "there"});
      }
      there.told.made = 0;  // these were made before
      there.told.first_made = there.told.last_made = std::nullopt;
      there.told.longest_wait = std::nullopt;
    }
    // What begins at the very moment takes part.
    const Time before = request_.from - std::chrono::nanoseconds(1);
    for (size_t i = 0; i < played_.size(); ++i) {
      const PlanConfig& plan = *played_[i].plan;
      const bool has_schedule = plan.schedule.dialect != Schedule::Dialect::kNone || plan.every;
      if (plan.every_change) {
        out_.notes.push_back(
            fmt::format("plan {} takes a snapshot when something changes: played as once in {}", plan.name,
                        format_period(Period::of_seconds(
                            std::chrono::floor<std::chrono::seconds>(request_.change_every).count()))));
      } else if (!has_schedule) {
        out_.notes.push_back(fmt::format("plan {} has no schedule: it makes nothing by itself", plan.name));
      }
      come_again(Act::kBackUp, i, before);
      come_again(Act::kDrill, i, before);
    }
    for (size_t i = 0; i < vaults_.size(); ++i) {
      if (!request_.prune_every && vaults_[i]->upkeep.prune.dialect == Schedule::Dialect::kNone)
        out_.notes.push_back(
            fmt::format("the daemon never prunes vault {}: played as once a day", vaults_[i]->name));
      prune_again(i, before);
    }
    due_.push({later(request_.from, Period{.months = 12}), Act::kCount});
  }

  void come_again(Act act, size_t plan, Time after) {
    const PlanConfig& config = *played_[plan].plan;
    std::optional<Time> next;
    if (act == Act::kBackUp && config.every_change)
      next = after < request_.from ? request_.from : after + request_.change_every;
    else if (act == Act::kBackUp)
      next = next_run(config, after);
    else if (config.drill && config.drill->schedule.dialect != Schedule::Dialect::kNone)
      next = next_run(config.drill->schedule, config.timezone, after);
    if (next) due_.push({*next, act, plan});
  }

  void prune_again(size_t vault, Time after) {
    const UpkeepConfig& upkeep = vaults_[vault]->upkeep;
    std::optional<Time> next;
    if (request_.prune_every || upkeep.prune.dialect == Schedule::Dialect::kNone)
      next = std::max(after, request_.from) + request_.prune_every.value_or(std::chrono::hours(24));
    else
      next = next_run(upkeep.prune, upkeep.timezone, after);
    if (next) due_.push({*next, Act::kPrune, vault});
  }

  void play_one(const Due& now) {
    switch (now.act) {
      case Act::kBackUp:
        back_up(played_[now.of], now.at);
        come_again(now.act, now.of, now.at);
        break;
      case Act::kDrill:
        drill(played_[now.of], now.at);
        come_again(now.act, now.of, now.at);
        break;
      case Act::kPrune:
        for (Place& place : places_)
          if (place.told.vault == vaults_[now.of]->name && place.history.anything_due(now.at))
            prune(place, now.at);
        prune_again(now.of, now.at);
        break;
      case Act::kCount:
        for (Place& place : places_) count(place, now.at);
        due_.push({later(now.at, Period{.months = 12}), Act::kCount});
        break;
    }
  }

  void back_up(const Played& played, Time now) {
    const PlanConfig& plan = *played.plan;
    for (const std::string& resource : played.resources) {
      Place& first = place(resource, plan.vault);
      const SnapshotId id = numbered(++made_);
      tell_made(first, id, now, first.history.back_up(id, plan.keep, plan.timezone, now, now));
      for (const CopyConfig& copy : plan.copies) {
        if (copy.to == plan.vault) continue;
        Place& second = place(resource, copy.to);
        const CopyRule rule = rule_of(copy.to, resource);
        for (const KeptHistory::Copied& copied : second.history.copy_from(first.history, rule, now, now))
          tell_made(second, copied.id, copied.time, why_copied(rule, copied));
      }
    }
  }

  const CopyRule& rule_of(const std::string& vault, const std::string& resource) {
    auto [rules, is_new] = copy_rules_.try_emplace(vault);
    if (is_new) rules->second = copy_rules_of(config_, vault);
    return rules->second[resource];
  }

  // By which rule a copy is kept: told, not decided, so by its length.
  static KeepDecision why_copied(const CopyRule& rule, const KeptHistory::Copied& copied) {
    const std::pair<std::string_view, std::optional<Period>> kRules[] = {
        {"all", rule.keep.all},       {"hourly", rule.keep.hourly},   {"daily", rule.keep.daily},
        {"weekly", rule.keep.weekly}, {"monthly", rule.keep.monthly}, {"yearly", rule.keep.yearly}};
    if (rule.keep.empty()) return {copied.keep_until, "a copy, kept as the first", "copy"};
    for (const auto& [name, period] : kRules)
      if (period && later(copied.time, *period) == copied.keep_until)
        return {copied.keep_until, fmt::format("a copy: {} {}", name, format_period(*period)), name};
    return {copied.keep_until, "a copy, as the newest or a window's base", "last"};
  }

  void drill(Played& played, Time now) {
    const PlanConfig& plan = *played.plan;
    std::vector<std::string> vaults{plan.vault};
    for (const CopyConfig& copy : plan.copies)
      if (copy.to != plan.vault) vaults.push_back(copy.to);
    const std::string& wanted = plan.drill->vault;
    const std::string vault = wanted == "alternate" ? vaults[played.drills++ % vaults.size()]
                              : wanted.empty()      ? plan.vault
                                                    : wanted;
    for (const std::string& resource : played.resources)
      if (auto there = place_of_.find({resource, vault}); there != place_of_.end())
        places_[there->second].history.prove_newest(now);
  }

  void prune(Place& place, Time now) {
    auto gone = place.history.prune(now, now);
    SimulatedPlace& told = place.told;
    if (!gone) {
      if (told.refused++ == 0) {
        told.first_refused = now;
        told.refused_why = gone.error().why;
      }
      return;
    }
    for (const PruneLine& line : *gone) {
      SimulatedSnapshot& snapshot = told.snapshots[place.index.at(line.id)];
      snapshot.dropped_at = now;
      snapshot.end_reason = line.reason;
      ++told.dropped;
      if (!told.first_drop) told.first_drop = now;
      told.last_drop = now;
    }
  }

  void tell_made(Place& place, const SnapshotId& id, Time time, KeepDecision keep) {
    SimulatedPlace& told = place.told;
    place.index[id] = told.snapshots.size();
    told.snapshots.push_back({.id = id,
                              .time = time,
                              .keep_until = keep.until,
                              .rule = std::string(keep.rule),
                              .reason = std::move(keep.reason),
                              .dropped_at = {},
                              .end_reason = {}});
    ++told.made;
    if (!told.first_made) told.first_made = time;
    if (told.last_made && (!told.longest_wait || time - *told.last_made > told.longest_wait->length()))
      told.longest_wait = Span{*told.last_made, time};
    told.last_made = time;
    const size_t there = place.history.snapshots().size();
    if (there > told.peak) {
      told.peak = there;
      told.peak_at = time;
    }
  }

  static void count(Place& place, Time now) {
    CountAt counted{.at = now, .by_rule = {}};
    for (const SnapshotFacts& snapshot : place.history.snapshots()) {
      ++counted.count;
      ++counted.by_rule[place.told.snapshots[place.index.at(snapshot.id)].rule];
    }
    place.told.over_time.push_back(std::move(counted));
  }

  void end(Place& place) {
    SimulatedPlace& told = place.told;
    if (told.over_time.empty() || told.over_time.back().at != request_.until) count(place, request_.until);
    std::vector<Time> kept;
    for (const SnapshotFacts& snapshot : place.history.snapshots()) kept.push_back(snapshot.time);
    std::ranges::sort(kept);
    for (size_t i = 1; i < kept.size(); ++i)
      if (!told.widest_gap || kept[i] - kept[i - 1] > told.widest_gap->length())
        told.widest_gap = Span{kept[i - 1], kept[i]};
    const auto lines = place.history.explain(request_.until);
    if (!lines) {  // something in the vault is dated later than all of this
      for (SimulatedSnapshot& snapshot : told.snapshots)
        if (!snapshot.dropped_at) snapshot.end_reason = lines.error().why;
      return;
    }
    for (const PruneLine& line : *lines)
      told.snapshots[place.index.at(line.id)].end_reason =
          line.drop ? line.reason + ": the next prune drops it" : line.reason;
  }

  const Config& config_;
  const SimulationRequest& request_;
  Simulation out_;
  std::vector<Played> played_;
  std::vector<Place> places_;
  std::vector<const VaultConfig*> vaults_;
  std::map<std::pair<std::string, std::string>, size_t> place_of_;  // by resource and vault
  std::map<std::string, CopyRules> copy_rules_;                     // by vault
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  uint64_t made_ = 0;
  size_t runs_ = 0;
};

}  // namespace

Result<Simulation> simulate(const Config& config, const SimulationRequest& request) {
  return Player(config, request).play();
}

}  // namespace kuramori
