// Who is told: targets that cannot work, events nobody hears of, approvals nobody can give.
#include <algorithm>

#include "policy/approval_time.h"
#include "policy/lint_rules.h"
#include "policy/longest_gap.h"

namespace kuramori {
namespace {

// Why a target cannot work; "" if nothing speaks against it. Never repeats the target: it may hold a token.
std::string trouble_of(const LintFacts::Target& target) {
  const std::string& text = target.text;
  if (!target.trouble.empty()) return target.trouble;
  if (text.empty()) return "it is empty";
  if (text.find("…") != text.npos) return "it still holds the … of an example";
  const auto rest = [&](std::string_view scheme) { return std::string_view(text).substr(scheme.size()); };
  const auto is_url = [](std::string_view url) {
    const size_t start = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : url.npos;
    return start != url.npos && url.size() > start && url[start] != '/' && url.find(' ') == url.npos;
  };
  for (const std::string_view scheme : {"slack:", "webhook:"})
    if (text.starts_with(scheme))
      return is_url(rest(scheme)) ? "" : fmt::format("{} is not followed by https://host/…", scheme);
  for (const std::string_view scheme : {"smtp://", "smtps://"}) {
    if (!text.starts_with(scheme)) continue;
    const size_t slash = rest(scheme).find('/');
    const std::string_view to = slash == std::string::npos ? "" : rest(scheme).substr(slash + 1);
    const size_t at = to.find('@');
    const bool good = slash != 0 && at != std::string::npos && at > 0 && at + 1 < to.size();
    return good ? "" : fmt::format("{} is not followed by host/address@domain", scheme);
  }
  if (text.starts_with("pagerduty:")) return rest("pagerduty:").empty() ? "it has no routing key" : "";
  if (text.starts_with("command:")) {
    if (rest("command:").empty()) return "it names no program";
    return target.program_is_there ? "" : "its program is not on this machine";
  }
  return "it begins with none of slack:, webhook:, smtp://, smtps://, pagerduty:, command:";
}

bool tells(const NotifyConfig& entry, std::string_view event, const ResourceConfig& resource) {
  const bool event_fits = std::ranges::any_of(
      entry.when, [&](const std::string& word) { return word == event || word == "all"; });
  const bool resource_fits =
      entry.resources.empty() || std::ranges::find(entry.resources, resource.name) != entry.resources.end();
  return event_fits && resource_fits &&
         rank_of_criticality(resource.criticality) >= rank_of_criticality(entry.least);
}

void lint_unheard(Lint& lint, std::string_view event, std::string_view why) {
  std::string unheard;
  for (const ResourceConfig& resource : lint.config.resources) {
    const bool heard = std::ranges::any_of(
        lint.config.notify, [&](const NotifyConfig& entry) { return tells(entry, event, resource); });
    if (!heard) unheard += fmt::format("{}\"{}\"", unheard.empty() ? "" : ", ", resource.name);
  }
  if (unheard.empty()) return;
  lint.add(LintLevel::kRisk, "unheard", lint.config.notify.empty() ? 0 : lint.config.notify.front().lines.own,
           "notify", fmt::format("nobody is told of {} of {}", event, unheard), std::string(why),
           fmt::format("add - {{ to: \"smtp://host/address\", when: [{}] }}", event));
}

// Who asks to hear of full vaults takes silence for room. A folder's disk says itself how much fits.
void lint_full(Lint& lint) {
  const bool is_wanted = std::ranges::any_of(lint.config.notify, [](const NotifyConfig& entry) {
    return std::ranges::count(entry.when, "full") != 0;
  });
  if (!is_wanted) return;
  for (const VaultConfig& vault : lint.config.vaults)
    if (!vault.at.starts_with('/') && !vault.capacity)
      lint.add(LintLevel::kHint, "unseen", vault.lines.own, about("vault", vault.name),
               "nobody can be told that it fills up", "nothing says how much fits in it",
               "add capacity: 2TiB");
}

// Why nothing in the file can ever ask for this; "" where something can.
std::string never_asked(const Config& config, std::string_view act) {
  const auto any_resource = [&](auto&& fits) { return std::ranges::any_of(config.resources, fits); };
  const auto any_vault = [&](auto&& fits) { return std::ranges::any_of(config.vaults, fits); };
  const auto is_bucket = [](const ResourceConfig& one) { return one.kind == ResourceKind::kBucket; };
  if (act == "failover") return "no command of this program does it";
  if (config.vaults.empty()) return "there is no vault to keep the request in";
  if (act == "restore-in-place" && config.resources.empty()) return "there is no resource";
  if (act == "prune" &&
      !any_resource([](const ResourceConfig& one) { return one.delete_budget.has_value(); }))
    return "prune asks beyond a budget, and no resource has limits: { delete: … }";
  if (act == "ledger-new" && !any_vault([](const VaultConfig& one) { return !one.ledger.empty(); }))
    return "no vault has a ledger of its own";
  if (act == "bucket-fix" && !any_resource(is_bucket)) return "no resource is a bucket";
  if (act == "replicate-deletes" && !any_resource([&](const ResourceConfig& one) {
        return is_bucket(one) && one.bucket.replicate && one.bucket.replicate->mirror;
      }))
    return "no bucket has deletions that are mirrored";
  return {};
}

constexpr Duration kUntilUsed = std::chrono::minutes(1);  // from its moment until a collection has looked

// What the daemon does by its own schedule asks as well, and is done by the next one.
void lint_collections(Lint& lint, const ApprovalsConfig& approvals) {
  const Period valid_for = approvals.valid_for.value_or(kApprovalHolds);
  for (const VaultConfig& vault : lint.config.vaults) {
    const UpkeepConfig& upkeep = vault.upkeep;
    const auto gap = longest_gap([&](Time after) { return next_run(upkeep.collect, upkeep.timezone, after); },
                                 lint.facts.now);
    if (!gap || !is_longer(gap->length() + kUntilUsed, valid_for)) continue;
    lint.add(LintLevel::kRisk, "approvals", approvals.lines.own, about("vault", vault.name),
             "its collections wait for a word that is over before the next one",
             fmt::format("the next one comes {} after it was asked for, and a word holds for {}",
                         format_duration(gap->length()), format_period(valid_for)),
             "write a longer valid_for, or say upkeep: { collect: off } and collect by hand");
  }
}

void lint_approvals(Lint& lint, const ApprovalsConfig& approvals) {
  if (!approvals.by.empty() && approvals.people - 1 > static_cast<int>(approvals.by.size()))
    lint.add(LintLevel::kError, "approvals", approvals.lines.of("people"), "approvals",
             fmt::format("{} people must agree, and {} may", approvals.people, approvals.by.size() + 1),
             "who asks is one of them", "name more under by, or ask fewer");
  if (approvals.acts.empty())
    lint.add(LintLevel::kHint, "approvals", approvals.lines.own, "approvals", "nothing needs an approval",
             "it has no for", "add for: [prune, restore-in-place]");
  for (const std::string& act : approvals.acts)
    if (const std::string why = never_asked(lint.config, act); !why.empty())
      lint.add(LintLevel::kRisk, "approvals", approvals.lines.of("for"), "approvals",
               fmt::format("{} is never asked for", act), why,
               fmt::format("take {} out of for, or add what it is meant for", act));
  if (std::ranges::count(approvals.acts, "collect") != 0) lint_collections(lint, approvals);
}

void lint_entry(Lint& lint, size_t index) {
  const NotifyConfig& entry = lint.config.notify[index];
  const std::string who =
      entry.name.empty() ? fmt::format("notify, entry {}", index + 1) : about("notify", entry.name);
  if (entry.when.empty())
    lint.add(LintLevel::kRisk, "told-nothing", entry.lines.own, who, "it is told of nothing",
             "it has no when", "add when: [failure, late, unproven]");
  Period before;
  for (const EscalationStep& step : entry.escalate) {
    if (!is_longer(step.after, before))
      lint.add(LintLevel::kRisk, "escalation-order", step.to.line(), who,
               fmt::format("a step after {} does not come later than the one before it",
                           format_period(step.after)),
               "", "order the steps by after, each later");
    before = step.after;
  }
  if (index >= lint.facts.targets.size()) return;
  const auto& targets = lint.facts.targets[index];
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::string trouble = trouble_of(targets[i]);
    const Setting& to = i == 0 ? entry.to : entry.escalate[i - 1].to;
    if (!trouble.empty())
      lint.add(LintLevel::kError, "target", to.line(), who,
               i == 0 ? "it cannot be told anything" : fmt::format("its step {} cannot be told anything", i),
               trouble, "write slack:https://…, webhook:https://…, smtp://host/address or command:PROGRAM");
  }
}

}  // namespace

void lint_people(Lint& lint) {
  for (size_t i = 0; i < lint.config.notify.size(); ++i) lint_entry(lint, i);
  if (!lint.config.resources.empty()) {
    lint_unheard(lint, "failure", "a backup that fails unseen is found out when it is needed");
    lint_unheard(lint, "late", "a backup that is not even tried does not fail");
  }
  lint_full(lint);
  if (lint.config.approvals) lint_approvals(lint, *lint.config.approvals);
}

}  // namespace kuramori
