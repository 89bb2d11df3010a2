#include "engine/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "base/time_text.h"

namespace kuramori {
namespace {

constexpr size_t kExpectedMax = 100'000;  // moments of one plan in one period
constexpr int kYearMin = 1970, kYearMax = 2199;

double seconds_between(Time from, Time to) {
  return std::chrono::duration<double>(to - from).count();
}

std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return number;
}

// Midnight of a day at the zone.
Result<Time> midnight(int year, int month, int day, const std::string& zone) {
  year += (month - 1) / 12;
  month = (month - 1) % 12 + 1;
  TRY_ASSIGN(const Moment moment, parse_moment(fmt::format("{:04}-{:02}-{:02} 00:00:00", year, month, day),
                                               zone.empty() ? "UTC" : zone));
  return moment.time;
}

bool is_within(Time at, const ReportPeriod& period) {
  return at >= period.from && at < period.until && at <= period.as_of;
}

// What the checks of a proof say of one question of the checklist.
Report::Check from_proof(const std::string& name, const ProofRecord* proof,
                         std::initializer_list<std::string_view> words) {
  Report::Check out{name, "not measured", "no drill checked it"};
  if (proof == nullptr) return out;
  for (const ProofCheck& check : proof->checks) {
    const bool about = std::ranges::any_of(
        words, [&](std::string_view word) { return check.name.find(word) != std::string::npos; });
    if (!about || check.verdict == "uncounted") continue;
    const bool good = check.verdict == "passed" || check.verdict == "equal" || check.verdict == "bounded";
    if (out.verdict != "fail") out = {name, good ? "pass" : "fail", check.name + ": " + check.verdict};
  }
  return out;
}

// Controls that rest on more than what bears a moment of its own: on what the file, the keys, the locks and
// the copies are when somebody looks.
constexpr std::string_view kOfNow[] = {"plan", "offsite", "immutable", "roles", "retention", "audit"};

std::vector<VaultAccount> all_as_of(const std::vector<VaultAccount>& vaults, Time at) {
  std::vector<VaultAccount> out;
  for (const VaultAccount& vault : vaults) out.push_back(as_of(vault, at));
  return out;
}

class Builder {
 public:
  Builder(const Config& config, const std::vector<VaultAccount>& vaults,
          const std::vector<ProtectionPromise>& promises, const ReportPeriod& period)
      : config_(config), vaults_(all_as_of(vaults, period.as_of)), promises_(promises), period_(period) {
    out_.period = period;
    const Duration length = period.until - period.from;
    before_ = period;
    before_.until = before_.as_of = period.from;
    before_.from = period.from - length;
  }

  Report build() {
    std::vector<VaultHoldings> holdings;
    std::vector<Holdings> held;
    for (const VaultAccount& vault : vaults_) {
      holdings.push_back(vault.holdings);
      if (vault.trouble.empty()) held.push_back(vault.holdings.held);
      if (!vault.trouble.empty())
        out_.notes.push_back(fmt::format("{} was not looked at: {}", vault.name, vault.trouble));
      for (const AuditFinding& finding : vault.findings)
        out_.notes.push_back(
            fmt::format("audit log of {}: {}: {}", vault.name, finding.object, finding.what));
    }
    const std::vector<Protection> all = judge_protection(promises_, holdings, period_.as_of);
    out_.controls = judge_compliance(compliance_facts(config_, vaults_, all), period_.as_of);
    if (period_.is_past) say_what_is_of_now();
    for (const Protection& one : all) out_.resources.push_back(resource_of(one));
    score(held);
    add_acts();
    add_records();
    for (const ContactConfig& contact : config_.contacts)
      out_.contacts.push_back({contact.name, contact.role, contact.mail, contact.phone, contact.slack});
    return std::move(out_);
  }

 private:
  void say_what_is_of_now() {
    const std::string at = format_utc(std::chrono::floor<std::chrono::seconds>(period_.as_of));
    out_.notes.push_back(
        fmt::format("as of {} is what bears a moment of its own: snapshots, WAL, proofs, acts. As they were "
                    "when this was made: plans and promises, where copies stand, holds, until when snapshots "
                    "are kept and locked, keys and their roles, and whether the audit log holds; what was "
                    "pruned in between is missing",
                    at));
    for (Control& one : out_.controls)
      if (std::ranges::count(kOfNow, one.id) != 0)
        one.measured += fmt::format(" (when this was made, not on {})", at);
  }

  std::string site_of(const std::string& vault) const {
    const auto one = std::ranges::find(vaults_, vault, &VaultAccount::name);
    return one == vaults_.end() ? "" : one->site;
  }

  // The longest time between two moments, the period's edges counted in: from the first that is known on.
  static std::optional<double> longest_gap(std::vector<Time> made, const ReportPeriod& period) {
    std::ranges::sort(made);
    std::optional<Time> last;
    std::optional<double> worst;
    for (const Time at : made) {
      if (at >= std::min(period.until, period.as_of)) break;
      if (last && at >= period.from)
        worst = std::max(worst.value_or(0), seconds_between(std::max(*last, period.from), at));
      last = at;
    }
    if (!last) return {};
    const Time end = std::min(period.until, period.as_of);
    return std::max(worst.value_or(0), seconds_between(std::max(*last, period.from), end));
  }

  std::optional<double> last_restore(const std::string& resource, const ReportPeriod& period) const {
    std::optional<double> took;
    Time at{};
    for (const VaultAccount& vault : vaults_) {
      for (const VaultAccount::Made& made : vault.snapshots) {
        if (made.resource != resource) continue;
        for (const ProofRecord& proof : made.proofs) {
          const Time proven = from_unix_ns(proof.started_ns);
          if (!proof.passed || !is_within(proven, period) || (took && proven < at)) continue;
          took = proof.seconds_to_open;
          at = proven;
        }
      }
    }
    return took;
  }

  Report::Resource resource_of(const Protection& one) {
    const ProtectionPromise& promise = one.promise;
    Report::Resource out{.name = promise.resource,
                         .kind = promise.kind,
                         .owner = promise.owner,
                         .criticality = promise.criticality,
                         .state = one.state == Protection::State::kProtected ? "protected"
                                  : one.state == Protection::State::kAtRisk  ? "at risk"
                                                                             : "unprotected",
                         .rpo = promise.rpo,
                         .rto = promise.rto,
                         .problems = one.broken};
    if (one.restorable_to) out.rpo_now = std::max(0.0, seconds_between(*one.restorable_to, period_.as_of));
    std::vector<Time> made_at;
    const ProofRecord* proof = nullptr;
    for (const VaultAccount& vault : vaults_) {
      bool here = false;
      for (const VaultAccount::Made& made : vault.snapshots) {
        if (made.resource != out.name || made.finished > period_.as_of) continue;
        here = true;
        ++out.snapshots;
        out.held += !made.holds.empty();
        made_at.push_back(made.finished);
        if (!out.oldest || made.finished < *out.oldest) out.oldest = made.finished;
        if (!out.newest || made.finished > *out.newest) out.newest = made.finished;
        if (!out.kept_until || made.keep_until > *out.kept_until) out.kept_until = made.keep_until;
        const ProofRecord* last = made.proof();
        if (last != nullptr && (proof == nullptr || last->started_ns > proof->started_ns)) proof = last;
      }
      if (!here) continue;
      out.vaults.push_back(vault.name);
      if (std::ranges::count(out.sites, vault.site) == 0) out.sites.push_back(vault.site);
    }
    std::ranges::sort(made_at);
    made_at.erase(std::ranges::unique(made_at).begin(), made_at.end());  // a copy is the same snapshot
    for (const Time at : made_at) out.made += is_within(at, period_);
    out.rpo_worst = longest_gap(made_at, period_);
    out.rpo_before = longest_gap(made_at, before_);
    out.rto_now = last_restore(out.name, period_);
    out.rto_before = last_restore(out.name, before_);
    count_runs(out);
    add_checks(out, proof);
    add_dues(out, one);
    compare(out);
    return out;
  }

  // Moments of its plans, and those after which nothing was made until the next.
  void count_runs(Report::Resource& out) {
    for (const PlanConfig* plan : config_.plans_of(out.name)) {
      out.plans.push_back(plan->name);
      out.schedules.push_back(plan->every_change ? "every change"
                              : plan->every      ? "every " + format_period(*plan->every)
                                                 : plan->schedule.text);
      std::vector<Time> made;
      for (const VaultAccount& vault : vaults_)
        for (const VaultAccount::Made& one : vault.snapshots)
          if (one.resource == out.name && (one.plan == plan->name || one.plan.empty()))
            made.push_back(one.began);
      std::ranges::sort(made);
      if (made.empty()) continue;
      // Before its first snapshot that still stands nothing can be told: what was pruned is not missed.
      Time at = std::max(period_.from, made.front()) - std::chrono::seconds(1);
      for (size_t n = 0; n < kExpectedMax; ++n) {
        const auto due = next_run(*plan, at);
        if (!due || *due >= std::min(period_.until, period_.as_of)) break;
        const auto next = next_run(*plan, *due);
        at = *due;
        if (!next || *next > period_.as_of) break;  // it may still come
        ++out.expected;
        const auto after = std::ranges::lower_bound(made, *due);
        out.missed += (after == made.end() || *after >= *next) && !was_pruned(out.name, *due, *next);
      }
    }
  }
  // What is no longer there and when it was made cannot be told: then nothing is said to be missing.
  bool was_pruned(const std::string& resource, Time from, Time until) const {
    (void)until;
    return std::ranges::any_of(vaults_, [&](const VaultAccount& vault) {
      return std::ranges::any_of(vault.deletions, [&](const VaultAccount::Deletion& gone) {
        return gone.resource == resource && gone.at >= from;
      });
    });
  }

  // L3: what is looked at every month.
  void add_checks(Report::Resource& out, const ProofRecord* proof) {
    const bool is_bucket = out.kind == "bucket";
    out.checks.push_back(
        {"snapshot exists", out.snapshots > 0 ? "pass" : "fail", fmt::format("{} stand", out.snapshots)});
    out.checks.push_back(proof == nullptr ? Report::Check{"restorable", "not measured", "no drill checked it"}
                                          : Report::Check{"restorable", proof->passed ? "pass" : "fail",
                                                          format_utc(from_unix_ns(proof->started_ns))});
    out.checks.push_back(from_proof(
        "record counts", proof,
        {"count", "rows", "objects", "entries", "bytes are", "files are", "images are", "every entry"}));
    Report::Check versioning{"versioning enabled", "not measured", "only buckets have versions"};
    Report::Check undelete{"deleted file restorable", "not measured", "only buckets have versions"};
    if (is_bucket) {
      versioning.detail = "no snapshot says so";
      for (const VaultAccount& vault : vaults_) {
        for (const VaultAccount::Made& made : vault.snapshots) {
          const auto fact = made.facts.find("versioning");
          if (made.resource != out.name || fact == made.facts.end()) continue;
          const bool on = fact->second == "enabled" || fact->second == "Enabled" || fact->second == "on";
          versioning = {"versioning enabled", on ? "pass" : "fail", fact->second};
        }
      }
      undelete = from_proof("deleted file restorable", proof, {"version", "undelete", "older"});
    }
    out.checks.push_back(versioning);
    out.checks.push_back(undelete);
  }

  void add_dues(Report::Resource& out, const Protection& one) {
    const std::optional<Time> since = one.proof ? std::optional(one.proof->at) : out.oldest;
    for (const When& drill : one.promise.drills) {
      const auto due = next_run(drill, since.value_or(period_.from));
      if (due && (!out.drill_due || *due < *out.drill_due)) out.drill_due = due;
    }
    out.drill_overdue = out.drill_due && *out.drill_due < period_.as_of;
  }

  static void compare_one(Report::Resource& out, const std::optional<double>& now,
                          const std::optional<double>& before, std::string_view what) {
    if (!now || !before || *now == *before) return;
    const auto shown = [](double seconds) {
      return format_duration(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
    };
    const std::string sentence = fmt::format("{} {}, before {}", what, shown(*now), shown(*before));
    (*now < *before ? out.improvements : out.problems).push_back(sentence);
  }
  static void compare(Report::Resource& out) {
    // What is a little slower is no problem: half as long again is.
    if (out.rto_now && out.rto_before && *out.rto_now > *out.rto_before * 1.5)
      compare_one(out, out.rto_now, out.rto_before, "restoring took");
    if (out.rto_now && out.rto_before && *out.rto_now < *out.rto_before)
      compare_one(out, out.rto_now, out.rto_before, "restoring took");
    if (out.rpo_worst && out.rpo_before && *out.rpo_worst < *out.rpo_before)
      compare_one(out, out.rpo_worst, out.rpo_before, "the longest time between snapshots was");
    if (out.missed > 0)
      out.problems.push_back(fmt::format("{} of {} runs are missing", out.missed, out.expected));
    if (out.drill_overdue)
      out.problems.push_back(fmt::format("a drill was due on {}", format_utc(*out.drill_due)));
  }

  void score(const std::vector<Holdings>& held) {
    std::vector<Original> originals;
    for (const Report::Resource& resource : out_.resources) {
      const auto configured = config_.resource(resource.name);
      if (!configured || resource.vaults.empty()) continue;
      std::string site = (*configured)->site;
      if (site.empty()) {
        for (const PlanConfig* plan : config_.plans_of(resource.name))
          if (site.empty()) site = site_of(plan->vault);
      }
      originals.push_back({resource.name, site, "disk"});
    }
    for (const CopiesScore& one : score_copies(held, originals)) {
      const auto resource = std::ranges::find(out_.resources, one.resource, &Report::Resource::name);
      if (resource == out_.resources.end()) continue;
      resource->copies_score = fmt::format("{}-{}-{}", one.copies(), one.media.size(), one.offsite.size());
      resource->copies_kept = one.is_kept();
    }
  }

  void add_acts() {
    static const std::set<std::string> kUsual{"backup", "drill", "audit"};
    for (const VaultAccount& vault : vaults_) {
      for (const AuditEntry& entry : vault.acts) {
        if (!is_within(entry.at, period_) || !entry.act) continue;
        const AuditAct& act = *entry.act;
        Report::Act shown{vault.name,
                          entry.key_name.empty() ? entry.signer.hex().substr(0, 8) : entry.key_name,
                          act.user.empty() ? act.host : act.user + "@" + act.host,
                          act.verb,
                          act.resource,
                          act.object,
                          act.result,
                          act.reason,
                          entry.digest.hex(),
                          entry.at};
        const bool done = act.result == "done";
        if (!done) out_.failures.push_back(shown);
        if (done && !kUsual.contains(act.verb)) out_.changes.push_back(shown);
        if (act.verb == "backup" && !done) {
          const auto resource = std::ranges::find(out_.resources, act.resource, &Report::Resource::name);
          if (resource != out_.resources.end()) ++resource->failed;
        }
      }
      for (const AuditHead& head : vault.heads)
        out_.evidence.push_back(
            {fmt::format("audit {}/{}", head.signer.hex(), head.number), vault.name, head.digest.hex()});
    }
    for (Report::Resource& resource : out_.resources)
      if (resource.failed > 0)
        resource.problems.push_back(fmt::format("{} backups were not made whole", resource.failed));
    std::ranges::stable_sort(out_.failures, {}, &Report::Act::at);
    std::ranges::stable_sort(out_.changes, {}, &Report::Act::at);
  }

  // Whose drill it was: the log's, of that snapshot and about that time; it ends after it began.
  std::string prover_of(const VaultAccount& vault, const VaultAccount::Made& made,
                        const ProofRecord& record) const {
    const Time began = from_unix_ns(record.started_ns);
    for (const AuditEntry& entry : vault.acts) {
      if (!entry.act || entry.act->verb != "drill" || entry.at < began) continue;
      if (entry.act->resource != made.resource) continue;
      const std::string user = entry.act->user + "@" + entry.act->host;
      return entry.key_name.empty() ? user : fmt::format("{} ({})", user, entry.key_name);
    }
    return "";
  }

  void add_records() {
    for (const VaultAccount& vault : vaults_) {
      for (const VaultAccount::Made& made : vault.snapshots) {
        if (is_within(made.finished, period_))
          out_.evidence.push_back(
              {fmt::format("commit {} of {}", made.id, made.resource), vault.name, made.commit.hex()});
        if (!made.holds.empty()) {
          std::string names;
          for (const std::string& name : made.holds) names += (names.empty() ? "" : ", ") + name;
          out_.holds.push_back({vault.name, made.resource, made.id, names, made.keep_until});
        }
        for (const ProofRecord& record : made.proofs) {
          if (!is_within(from_unix_ns(record.started_ns), period_)) continue;
          Report::Proof proof{.resource = made.resource,
                              .snapshot = made.id,
                              .vault = vault.name,
                              .site = vault.site,
                              .by = prover_of(vault, made, record),
                              .at = from_unix_ns(record.started_ns),
                              .passed = record.passed,
                              .seconds_to_open = record.seconds_to_open,
                              .seconds_total = record.seconds_total};
          for (const ProofCheck& check : record.checks)
            proof.checks.push_back({check.name, check.verdict, check.detail});
          out_.proofs.push_back(std::move(proof));
        }
      }
      for (const VaultAccount::Deletion& gone : vault.deletions)
        if (is_within(gone.at, period_))
          out_.deletions.push_back(
              {vault.name, gone.resource, gone.snapshot, gone.reason, gone.key, gone.at});
    }
    std::ranges::stable_sort(out_.proofs, {}, &Report::Proof::at);
    std::ranges::stable_sort(out_.deletions, {}, &Report::Deletion::at);
  }

  const Config& config_;
  const std::vector<VaultAccount> vaults_;  // as of the period's moment
  const std::vector<ProtectionPromise>& promises_;
  const ReportPeriod& period_;
  ReportPeriod before_;
  Report out_;
};

}  // namespace

size_t Report::red() const {
  return static_cast<size_t>(std::ranges::count(controls, Verdict::kFail, &Control::verdict));
}

Result<ReportPeriod> parse_report_period(const std::string& kind, const std::string& text,
                                         const std::string& zone, Time now) {
  TRY(check_zone(zone.empty() ? "UTC" : zone));
  const LocalDate today = local_date(now, zone);
  int year = today.year, month = static_cast<int>(today.month), day = static_cast<int>(today.day);
  const std::string_view given = text;
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no {}", text.substr(0, 40), kind), "",
                "write --day 2026-11-22, --month 2026-11, --quarter 2026-Q4 or --year 2026");
  };
  if (!text.empty()) {
    std::string_view rest = given;
    if (kind == "quarter" && (given.starts_with('Q') || given.starts_with('q'))) {
      rest = given.substr(1);
    } else {
      if (given.size() < 4) return wrong();
      const auto y = number_of(given.substr(0, 4));
      if (!y || *y < kYearMin || *y > kYearMax) return wrong();
      year = *y;
      rest = given.substr(4);
      const std::string_view between = kind == "quarter" ? "-Q" : kind == "year" ? "" : "-";
      if (!rest.starts_with(between)) return wrong();
      rest.remove_prefix(between.size());
    }
    if (kind == "year" && !rest.empty()) return wrong();
    if (kind == "quarter") {
      const auto quarter = number_of(rest);
      if (!quarter || *quarter < 1 || *quarter > 4) return wrong();
      month = *quarter * 3;
    }
    if (kind == "month" || kind == "day") {
      const auto m = number_of(rest.substr(0, 2));
      if (!m || *m < 1 || *m > 12 || (kind == "month" && rest.size() != 2)) return wrong();
      month = *m;
    }
    if (kind == "day") {
      const auto d = rest.size() == 5 && rest[2] == '-' ? number_of(rest.substr(3)) : std::nullopt;
      if (!d) return wrong();
      day = *d;
    }
  }
  ReportPeriod period{.kind = kind, .zone = zone.empty() ? "UTC" : zone};
  const int quarter = (month - 1) / 3;
  auto from = kind == "day"       ? midnight(year, month, day, zone)
              : kind == "month"   ? midnight(year, month, 1, zone)
              : kind == "quarter" ? midnight(year, quarter * 3 + 1, 1, zone)
                                  : midnight(year, 1, 1, zone);
  if (!from) return wrong();
  period.from = *from;
  if (kind == "day") {
    const LocalDate next = local_date(period.from + std::chrono::hours(36), zone);
    TRY_ASSIGN(period.until,
               midnight(next.year, static_cast<int>(next.month), static_cast<int>(next.day), zone));
    period.name = fmt::format("{:04}-{:02}-{:02}", year, month, day);
  } else if (kind == "month") {
    TRY_ASSIGN(period.until, midnight(year, month + 1, 1, zone));
    period.name = fmt::format("{:04}-{:02}", year, month);
  } else if (kind == "quarter") {
    TRY_ASSIGN(period.until, midnight(year, quarter * 3 + 4, 1, zone));
    period.name = fmt::format("{:04}-Q{}", year, quarter + 1);
  } else {
    TRY_ASSIGN(period.until, midnight(year + 1, 1, 1, zone));
    period.name = fmt::format("{:04}", year);
  }
  if (period.from > now)
    return fail(ErrorKind::kUsage, fmt::format("{} has not begun yet", period.name), "", "name one that has");
  period.as_of = std::min(now, period.until);
  return period;
}

Report build_report(const Config& config, const std::vector<VaultAccount>& vaults,
                    const std::vector<ProtectionPromise>& promises, const ReportPeriod& period) {
  return Builder(config, vaults, promises, period).build();
}

}  // namespace kuramori
