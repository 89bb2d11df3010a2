#include "policy/compliance.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "base/time_text.h"
#include "policy/escrow.h"

namespace kuramori {
namespace {

constexpr Duration kDay = std::chrono::hours(24);
constexpr Duration kExerciseWithin = 7 * kDay;  // a rehearsal is one week's work
// Months and years differ in length, and a snapshot is kept from its beginning: so much less is no breach.
constexpr Duration kKeepSlack = 2 * kDay;

struct Title {
  std::string_view id, title;
};
constexpr Title kTitles[] = {
    {"rpo", "RPO met"},
    {"rto", "RTO met"},
    {"plan", "In a plan"},
    {"offsite", "Off-site copy"},
    {"immutable", "Immutable"},
    {"escrow", "Encrypted, key in escrow"},
    {"roles", "Roles split"},
    {"retention", "Retention"},
    {"audit", "Audit log"},
    {"proof", "Proven regularly"},
    {"exercise", "Recovery exercise"},
};

std::string age(Time since, Time now) {
  return format_duration(
      std::max<Duration>(Duration(0), std::chrono::floor<std::chrono::seconds>(now - since)));
}
std::string when(Time at) {
  return format_utc(std::chrono::floor<std::chrono::seconds>(at));
}

bool covers(const ComplianceConfig& demand, const std::string& resource) {
  return demand.resources.empty() || std::ranges::count(demand.resources, resource) != 0;
}

// The longest period of several demands, or the shortest: which of them is the harder one.
const std::optional<Period>& harder(const std::optional<Period>& a, const std::optional<Period>& b,
                                    bool longer) {
  if (!a) return b;
  if (!b) return a;
  const Time base{};
  return (later(base, *a) > later(base, *b)) == longer ? a : b;
}

class Judge {
 public:
  Judge(const ComplianceFacts& facts, Time now) : facts_(facts), now_(now) {}

  std::vector<Control> judge() {
    for (const Title& title : kTitles) {
      title_ = title;
      if (title.id == "escrow" || title.id == "audit") {
        for (const VaultFacts& vault : facts_.vaults) of_vault(vault);
      } else if (title.id == "exercise") {
        judge_exercises();
      } else {
        for (const ResourceFacts& resource : facts_.resources) of_resource(resource);
      }
    }
    return std::move(out_);
  }

 private:
  void add(const std::string& about, Verdict verdict, std::string demanded, std::string measured,
           std::string evidence = {}) {
    out_.push_back({std::string(title_.id), std::string(title_.title), about, verdict, std::move(demanded),
                    std::move(measured), std::move(evidence)});
  }
  // Red only where somebody demands it.
  void add_if(const std::string& about, bool is_demanded, bool holds, const std::string& demanded,
              const std::string& measured, const std::string& evidence = {}) {
    const Verdict verdict = holds ? Verdict::kPass : is_demanded ? Verdict::kFail : Verdict::kNotMeasured;
    add(about, verdict, is_demanded ? demanded : "", measured, evidence);
  }

  std::optional<Period> demanded_of(const ResourceFacts& resource,
                                    std::optional<Period> ComplianceConfig::* field, bool longer) const {
    std::optional<Period> hardest;
    for (const ComplianceConfig& demand : facts_.demands)
      if (covers(demand, resource.resource)) hardest = harder(hardest, demand.*field, longer);
    return hardest;
  }

  void of_resource(const ResourceFacts& r) {
    if (title_.id == "rpo") judge_rpo(r);
    if (title_.id == "rto") judge_rto(r);
    if (title_.id == "plan") judge_plan(r);
    if (title_.id == "offsite") judge_offsite(r);
    if (title_.id == "immutable") judge_immutable(r);
    if (title_.id == "roles") judge_roles(r);
    if (title_.id == "retention") judge_retention(r);
    if (title_.id == "proof") judge_proof(r);
  }
  void of_vault(const VaultFacts& v) {
    if (!v.trouble.empty()) return add(v.vault, Verdict::kNotMeasured, "", v.trouble);
    title_.id == "escrow" ? judge_escrow(v) : judge_audit(v);
  }

  void judge_rpo(const ResourceFacts& r) {
    if (!r.restorable_to)
      return add(r.resource, r.rpo ? Verdict::kFail : Verdict::kNotMeasured,
                 r.rpo ? format_period(*r.rpo) : "", "nothing can be restored");
    const std::string found = fmt::format("it can be restored to {} ago", age(*r.restorable_to, now_));
    const std::string evidence = fmt::format("{} in {}", when(*r.restorable_to), r.restorable_from);
    if (!r.rpo) return add(r.resource, Verdict::kNotMeasured, "", found + "; no RPO is promised", evidence);
    add_if(r.resource, true, later(*r.restorable_to, *r.rpo) >= now_, format_period(*r.rpo), found, evidence);
  }

  const ProofFact* last_passed(const ResourceFacts& r) const {
    const ProofFact* last = nullptr;
    for (const ProofFact& proof : r.proofs)
      if (proof.passed && (last == nullptr || proof.at > last->at)) last = &proof;
    return last;
  }
  static std::string shown(const ProofFact& proof) {
    return fmt::format("proof of {} from {}, {}", proof.snapshot, proof.vault, when(proof.at));
  }

  void judge_rto(const ResourceFacts& r) {
    const ProofFact* proof = last_passed(r);
    const std::string demanded = r.rto ? format_period(*r.rto) : "";
    if (proof == nullptr)
      return add(r.resource, Verdict::kNotMeasured, demanded, "it was never restored and checked");
    const Duration took = std::chrono::milliseconds(static_cast<int64_t>(proof->seconds * 1000));
    const std::string found = fmt::format("it was open in {}", format_duration(took));
    if (!r.rto)
      return add(r.resource, Verdict::kNotMeasured, "", found + "; no RTO is promised", shown(*proof));
    add_if(r.resource, true, later(now_, *r.rto) - now_ >= took, demanded, found, shown(*proof));
  }

  void judge_plan(const ResourceFacts& r) {
    std::string plans;
    for (const std::string& plan : r.plans) plans += (plans.empty() ? "" : ", ") + plan;
    add_if(r.resource, true, r.is_planned, "a plan", r.is_planned ? "in " + plans : "no plan names it");
  }

  void judge_offsite(const ResourceFacts& r) {
    int sites = 0, copies = 0;
    for (const ComplianceConfig& demand : facts_.demands) {
      if (!covers(demand, r.resource)) continue;
      sites = std::max(sites, demand.sites.value_or(0));
      copies = std::max(copies, demand.copies.value_or(0));
    }
    std::vector<std::string> vaults, at;
    if (!r.site.empty()) at.push_back(r.site);
    for (const SnapshotFact& snapshot : r.snapshots) {
      if (std::ranges::count(vaults, snapshot.vault) != 0) continue;
      vaults.push_back(snapshot.vault);
      const auto vault = std::ranges::find(facts_.vaults, snapshot.vault, &VaultFacts::vault);
      const std::string site =
          vault == facts_.vaults.end() || vault->site.empty() ? snapshot.vault : vault->site;
      if (std::ranges::count(at, site) == 0) at.push_back(site);
    }
    // Where nobody said where the original stands, a vault alone proves no second site.
    const bool demanded = sites > 0 || copies > 0;
    const size_t wanted = sites > 0 ? static_cast<size_t>(sites) : 2;
    const bool holds = at.size() >= wanted && static_cast<int>(vaults.size()) + 1 >= copies;
    std::string list;
    for (const std::string& site : at) list += (list.empty() ? "" : ", ") + site;
    add_if(r.resource, demanded, holds,
           fmt::format("{} sites{}", wanted, copies > 0 ? fmt::format(", {} copies", copies) : ""),
           fmt::format("{} copies with the original, at {} sites", vaults.size() + 1, at.size()), list);
  }

  void judge_immutable(const ResourceFacts& r) {
    const auto demanded = demanded_of(r, &ComplianceConfig::locked, true);
    const ResourceFacts::Locked* best = nullptr;
    for (const ResourceFacts::Locked& locked : r.locked)
      if (best == nullptr || locked.until > best->until) best = &locked;
    std::string why;
    for (const std::string& one : r.not_locked) why += (why.empty() ? "" : "; ") + one;
    if (best == nullptr)
      return add_if(r.resource, demanded.has_value(), false, demanded ? format_period(*demanded) : "",
                    "no copy of the newest snapshot is locked", why);
    const SnapshotFact* newest = nullptr;
    for (const SnapshotFact& snapshot : r.snapshots)
      if (snapshot.vault == best->vault && (newest == nullptr || snapshot.made > newest->made))
        newest = &snapshot;
    const Time since = newest == nullptr ? now_ : newest->made;
    const bool holds = !demanded || best->until >= later(since, *demanded) - kKeepSlack;
    add_if(r.resource, demanded.has_value(), holds, demanded ? format_period(*demanded) : "",
           fmt::format("the newest snapshot is locked until {}", when(best->until)), "in " + best->vault);
  }

  bool wants_roles(const ResourceFacts& r) const {
    return std::ranges::any_of(facts_.demands, [&](const ComplianceConfig& demand) {
      return demand.split_roles && covers(demand, r.resource);
    });
  }
  void judge_roles(const ResourceFacts& r) {
    std::string evidence, trouble;
    for (const ResourceFacts::MadeBy& made : r.made_by) {
      evidence += fmt::format("{}{}: {}", evidence.empty() ? "" : ", ", made.vault, made.key);
      if (made.is_owner) trouble = fmt::format("the owner's key made the newest snapshot in {}", made.vault);
      const auto vault = std::ranges::find(facts_.vaults, made.vault, &VaultFacts::vault);
      if (trouble.empty() && vault != facts_.vaults.end() && !vault->has_keeper)
        trouble = fmt::format("{} has no keeper's key: who else deletes there?", made.vault);
    }
    if (r.made_by.empty()) trouble = "there is no snapshot whose maker could be looked at";
    add_if(r.resource, wants_roles(r), trouble.empty(), "who writes cannot delete",
           trouble.empty() ? "snapshots are made by keys that can do no more" : trouble, evidence);
  }

  void judge_retention(const ResourceFacts& r) {
    const auto demanded = demanded_of(r, &ComplianceConfig::keep, true);
    if (!demanded) return add(r.resource, Verdict::kNotMeasured, "", "nobody demands how long it is kept");
    const std::string wanted = format_period(*demanded) + ", something of every month";
    if (r.snapshots.empty()) return add(r.resource, Verdict::kFail, wanted, "there is no snapshot");
    // Every month from the first of those that must still stand up to this one.
    Time first = now_;
    for (const SnapshotFact& snapshot : r.snapshots) first = std::min(first, snapshot.made);
    first = std::max(first, earlier(now_, *demanded));
    const LocalDate from = local_date(first, ""), to = local_date(now_, "");
    size_t months = 0;
    std::string missing, examples;
    for (int month = from.year * 12 + static_cast<int>(from.month) - 1;
         month <= to.year * 12 + static_cast<int>(to.month) - 1; ++month) {
      ++months;
      const SnapshotFact* kept = nullptr;
      for (const SnapshotFact& snapshot : r.snapshots) {
        const LocalDate date = local_date(snapshot.made, "");
        if (date.year * 12 + static_cast<int>(date.month) - 1 != month) continue;
        const bool long_enough =
            snapshot.is_held || snapshot.keep_until >= later(snapshot.made, *demanded) - kKeepSlack;
        if (long_enough) kept = &snapshot;
      }
      const std::string name = fmt::format("{:04}-{:02}", month / 12, month % 12 + 1);
      if (kept == nullptr && missing.empty()) missing = name;
      if (kept != nullptr) examples = fmt::format("{}: {} in {}", name, kept->id, kept->vault);
    }
    add_if(r.resource, true, missing.empty(), wanted,
           missing.empty() ? fmt::format("{} months, each with one that is kept so long", months)
                           : fmt::format("of {} nothing is kept so long", missing),
           examples);
  }

  void judge_proof(const ResourceFacts& r) {
    const auto demanded = demanded_of(r, &ComplianceConfig::proof, false);
    const ProofFact* proof = last_passed(r);
    const std::string wanted = demanded ? "every " + format_period(*demanded) : "";
    if (proof == nullptr)
      return add_if(r.resource, demanded.has_value(), false, wanted, "it was never restored and checked");
    add_if(r.resource, demanded.has_value(), !demanded || later(proof->at, *demanded) >= now_, wanted,
           fmt::format("restored and checked {} ago", age(proof->at, now_)), shown(*proof));
  }

  void judge_escrow(const VaultFacts& v) {
    const bool demanded = std::ranges::any_of(facts_.demands, &ComplianceConfig::escrow);
    const std::optional<Time> kit = last_kit(facts_.vaults, v);
    add_if(v.vault, demanded, kit.has_value(), "a recovery kit",
           kit ? "everything in it is encrypted; a recovery kit was made"
               : "everything in it is encrypted; no recovery kit was made",
           kit ? when(*kit) : "");
  }

  void judge_audit(const VaultFacts& v) {
    std::optional<Period> online, archive;
    for (const ComplianceConfig& demand : facts_.demands) {
      online = harder(online, demand.audit_online, true);
      archive = harder(archive, demand.audit_archive, true);
    }
    const bool demanded = online || archive;
    std::string wanted;
    if (online) wanted = format_period(*online) + " at hand";
    if (archive) wanted += (wanted.empty() ? "" : ", ") + format_period(*archive) + " in all";
    const Time base{};
    const std::string evidence = fmt::format("{} records{}{}", v.audit_records,
                                             v.audit_evidence.empty() ? "" : ", ", v.audit_evidence);
    if (!v.audit_findings.empty())
      return add(v.vault, Verdict::kFail, wanted, v.audit_findings.front(), evidence);
    const bool long_enough = (!online || later(base, facts_.audit_online) >= later(base, *online)) &&
                             (!archive || later(base, facts_.audit_archive) >= later(base, *archive));
    if (!long_enough)
      return add_if(v.vault, demanded, false, wanted,
                    fmt::format("it is kept for {} at hand, {} in all", format_period(facts_.audit_online),
                                format_period(facts_.audit_archive)),
                    evidence);
    if (v.audit_records == 0) return add_if(v.vault, demanded, false, wanted, "nothing is in it", evidence);
    add_if(
        v.vault, demanded, true, wanted,
        fmt::format("every chain holds, since {}", v.audit_oldest ? when(*v.audit_oldest) : "its beginning"),
        evidence);
  }

  void judge_exercises() {
    std::optional<Period> demanded;
    for (const ComplianceConfig& demand : facts_.demands) demanded = harder(demanded, demand.exercise, false);
    const std::string wanted = demanded ? "every " + format_period(*demanded) : "";
    if (facts_.exercises.empty())
      return add("all", demanded ? Verdict::kFail : Verdict::kNotMeasured, wanted,
                 "no scenario says what is brought back from where");
    for (const ExerciseFact& exercise : facts_.exercises) {
      if (!exercise.last) {
        add_if(exercise.scenario, demanded.has_value(), false, wanted,
               "it was never rehearsed: not everything was proven from there within a week",
               exercise.evidence);
        continue;
      }
      add_if(exercise.scenario, demanded.has_value(), !demanded || later(*exercise.last, *demanded) >= now_,
             wanted, fmt::format("rehearsed {} ago", age(*exercise.last, now_)), exercise.evidence);
    }
  }

  const ComplianceFacts& facts_;
  const Time now_;
  Title title_{};
  std::vector<Control> out_;
};

}  // namespace

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kFail:
      return "fail";
    case Verdict::kNotMeasured:
      return "not measured";
  }
  return "not measured";
}

std::vector<std::string> control_ids() {
  std::vector<std::string> ids;
  for (const Title& title : kTitles) ids.emplace_back(title.id);
  return ids;
}

std::vector<Control> judge_compliance(const ComplianceFacts& facts, Time now) {
  return Judge(facts, now).judge();
}

ExerciseFact find_exercise(const std::string& scenario, const std::string& vault,
                           const std::vector<const ResourceFacts*>& resources) {
  ExerciseFact out{.scenario = scenario};
  // Of each end of a week that could be one: the newest proof of each resource up to there.
  std::vector<Time> ends;
  for (const ResourceFacts* resource : resources)
    for (const ProofFact& proof : resource->proofs)
      if (proof.passed && (vault.empty() || proof.vault == vault)) ends.push_back(proof.at);
  std::ranges::sort(ends, std::greater<>());
  for (const Time end : ends) {
    std::string evidence;
    const bool whole = std::ranges::all_of(resources, [&](const ResourceFacts* resource) {
      for (const ProofFact& proof : resource->proofs) {
        const bool fits = proof.passed && (vault.empty() || proof.vault == vault) && proof.at <= end &&
                          end - proof.at <= kExerciseWithin;
        if (!fits) continue;
        evidence += fmt::format("{}{}: {}", evidence.empty() ? "" : ", ", resource->resource, proof.snapshot);
        return true;
      }
      return false;
    });
    if (!whole || resources.empty()) continue;
    out.last = end;
    out.evidence = evidence;
    return out;
  }
  for (const ResourceFacts* resource : resources) {
    const bool proven = std::ranges::any_of(resource->proofs, [&](const ProofFact& proof) {
      return proof.passed && (vault.empty() || proof.vault == vault);
    });
    if (!proven) out.evidence += (out.evidence.empty() ? "never proven: " : ", ") + resource->resource;
  }
  return out;
}

}  // namespace kuramori
