#include "policy/handbook.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/text.h"

namespace kuramori {
namespace {

void row(std::string& out, const std::vector<std::string>& cells) {
  for (const std::string& one : cells) out += "| " + markdown_cell(one) + " ";
  out += "|\n";
}

void head(std::string& out, const std::vector<std::string>& names) {
  row(out, names);
  for (size_t i = 0; i < names.size(); ++i) out += "|---";
  out += "|\n";
}

std::string code(std::string_view text) {
  return fmt::format("`{}`", text);
}

std::string page(std::string_view title) {
  return fmt::format("{}\n# {}\n\n", kHandbookMark, title);
}

// A name may hold a slash, a page's may not; no name holds a tilde.
std::string file_of(std::string_view name) {
  std::string file(name);
  std::ranges::replace(file, '/', '~');
  return file + ".md";
}

std::string runbook_of(const ResourceConfig& resource) {
  return "runbooks/" + file_of(resource.name);
}
std::string runbook_of(const ScenarioConfig& scenario) {
  return "runbooks/lost-" + file_of(scenario.name);
}

std::string said(const std::optional<Period>& period) {
  return period ? format_period(*period) : "";
}

std::string when_in_words(const PlanConfig& plan) {
  if (plan.manual) return "when somebody asks for it";
  if (plan.every_change) return "at every change";
  const std::string zone = plan.timezone.empty() ? "UTC" : plan.timezone;
  if (plan.every) return fmt::format("every {} ({})", format_period(*plan.every), zone);
  if (plan.schedule.dialect == Schedule::Dialect::kNone) return "never";
  return fmt::format("{} ({})", code(plan.schedule.text), zone);
}

std::string when_in_words(const Schedule& schedule, std::string_view zone) {
  if (schedule.dialect == Schedule::Dialect::kNone) return "never";
  return fmt::format("{} ({})", code(schedule.text), zone.empty() ? "UTC" : zone);
}

std::string wal_in_words(const PlanConfig& plan) {
  const std::string flush =
      plan.flush ? fmt::format(", at the latest after {}", format_period(*plan.flush)) : "";
  switch (plan.wal) {
    case WalMode::kStream:
      return "streamed" + flush;
    case WalMode::kArchive:
      return "as the server archives it" + flush;
    case WalMode::kNone:
      break;
  }
  return "";
}

const LintPromise* promise_of(const LintReport& report, std::string_view resource) {
  const auto found = std::ranges::find(report.promises, resource, &LintPromise::resource);
  return found == report.promises.end() ? nullptr : &*found;
}

const VaultConfig* vault_of(const Config& config, std::string_view name) {
  const auto found = std::ranges::find(config.vaults, name, &VaultConfig::name);
  return found == config.vaults.end() ? nullptr : &*found;
}

// Where snapshots of the resource lie: its plans' vaults, then those they are copied to.
std::vector<const VaultConfig*> places_of(const Config& config, const ResourceConfig& resource) {
  std::vector<const VaultConfig*> places;
  const auto add = [&](std::string_view name) {
    const VaultConfig* vault = vault_of(config, name);
    if (vault && std::ranges::find(places, vault) == places.end()) places.push_back(vault);
  };
  const auto plans = config.plans_of(resource.name);
  for (const PlanConfig* plan : plans) add(plan->vault);
  for (const PlanConfig* plan : plans)
    for (const CopyConfig& copy : plan->copies) add(copy.to);
  return places;
}

std::string place_in_words(const VaultConfig& vault) {
  return vault.site.empty() ? fmt::format("vault {}", vault.name)
                            : fmt::format("vault {} ({})", vault.name, vault.site);
}

// Where a store is: no secret, and told where it stands in the file itself.
std::string said(const Setting& setting, std::string_view placeholder) {
  if (!setting.is_set()) return "";
  if (setting.from() != Setting::From::kText) return std::string(placeholder);
  const auto text = setting.fetch({});
  return text ? *text : std::string(placeholder);
}

// What a command line says of the vault when no configuration is left.
std::string by_itself(const VaultConfig& vault) {
  std::string at = vault.at;
  char separator = '?';
  const auto add = [&](std::string_view key, std::string_view value) {
    if (value.empty() || !at.starts_with("s3://")) return;
    at += fmt::format("{}{}={}", separator, key, value);
    separator = '&';
  };
  add("endpoint", said(vault.access.endpoint, "ENDPOINT"));
  add("region", said(vault.access.region, "REGION"));
  return at;
}

bool has_wal(const Config& config, const ResourceConfig& resource) {
  return resource.kind == ResourceKind::kPostgres &&
         std::ranges::any_of(config.plans_of(resource.name),
                             [](const PlanConfig* plan) { return plan->wal != WalMode::kNone; });
}

// Something new to restore into, by the kind.
std::string target_of(const ResourceConfig& resource) {
  switch (resource.kind) {
    case ResourceKind::kRedis:
      return "redis://127.0.0.1:6380";
    case ResourceKind::kDump:
      return "postgresql://postgres@SERVER/NEW_NAME";
    case ResourceKind::kImage:
      return "docker://REGISTRY/restored";
    case ResourceKind::kBucket:
      return "s3://NEW_BUCKET";
    default:
      return fmt::format("/srv/restored/{}", resource.name);
  }
}

void block(std::string& out, const std::vector<std::string>& lines) {
  out += "```\n";
  for (const std::string& line : lines) out += line + "\n";
  out += "```\n\n";
}

std::string restore_of(const Config& config, const ResourceConfig& resource, std::string_view vault) {
  std::string line = fmt::format("kuramori restore {} --to {}", resource.name, target_of(resource));
  if (!vault.empty()) line += fmt::format(" --vault {}", vault);
  if (has_wal(config, resource)) line += " --latest --start";
  return line;
}

std::string promised_of(const ResourceConfig& resource) {
  std::vector<std::string> words;
  if (resource.rpo) words.push_back("may be lost: " + format_period(*resource.rpo));
  if (resource.rto) words.push_back("back within: " + format_period(*resource.rto));
  if (resource.mttr) words.push_back("repaired in the mean within: " + format_period(*resource.mttr));
  return joined(words);
}

// ----------------------------------------------------------------------------------------- the strategy

void write_resources(std::string& out, const Config& config, const LintReport& report) {
  out += "## What is protected\n\nThe most critical first.\n\n";
  head(out, {"resource", "kind", "criticality", "stage", "owner", "may be lost", "at worst", "back within",
             "by plan", "copies-media-elsewhere"});
  for (const ResourceConfig* resource : config.by_criticality()) {
    std::vector<std::string> plans;
    for (const PlanConfig* plan : config.plans_of(resource->name)) plans.push_back(plan->name);
    const LintPromise* promise = promise_of(report, resource->name);
    const std::string worst = promise && promise->worst ? format_duration(*promise->worst) : "unbounded";
    row(out,
        {fmt::format("[{}]({})", resource->name, runbook_of(*resource)), std::string(name_of(resource->kind)),
         resource->criticality, resource->stage, resource->owner, said(resource->rpo), worst,
         said(resource->rto), plans.empty() ? "**none: it is not protected**" : joined(plans),
         promise ? fmt::format("{}-{}-{}", promise->copies, promise->media, promise->elsewhere) : ""});
  }
  out += "\n";
}

void write_vaults(std::string& out, const Config& config) {
  out += "## Where it is kept\n\nEverything is sealed before it leaves the machine (AES-256-GCM).\n\n";
  head(out, {"vault", "place", "site", "medium", "a copy of", "locked for", "class", "key"});
  for (const VaultConfig& vault : config.vaults) {
    std::string lock = said(vault.lock);
    if (vault.lock && !vault.lock_mode.empty()) lock += ", " + vault.lock_mode;
    row(out, {vault.name, code(by_itself(vault)), vault.site, medium_of(vault), vault.copy_of, lock,
              vault.storage_class, vault.key_file.empty() ? "" : code(vault.key_file)});
  }
  out += "\n";
}

bool has_server(const Config& config, const PlanConfig& plan) {
  return std::ranges::any_of(plan.resources, [&](const std::string& name) {
    const auto resource = config.resource(name);
    return resource && (*resource)->kind == ResourceKind::kPostgres;
  });
}

void write_drill(std::string& out, const Config& config, const PlanConfig& plan) {
  const DrillConfig& drill = *plan.drill;
  std::vector<std::string> checks;
  if (has_server(config, plan)) {
    if (drill.counts == DrillConfig::Counts::kTables)
      checks.push_back("rows of " + joined(drill.tables));
    else if (drill.counts != DrillConfig::Counts::kOff)
      checks.push_back("rows against those at the snapshot");
    if (!drill.sql.empty()) checks.push_back(fmt::format("{} queries", drill.sql.size()));
  }
  out += "- Proved by restoring it: " + when_in_words(drill.schedule, plan.timezone);
  if (drill.vault == "alternate")
    out += ", in turn from every vault that has it";
  else if (!drill.vault.empty())
    out += ", from " + drill.vault;
  if (!checks.empty()) out += "; checked: " + joined(checks);
  if (!drill.owner.empty()) out += "; " + drill.owner + " looks at it";
  out += "\n";
}

void write_plans(std::string& out, const Config& config) {
  out += "## How: the plans\n\n";
  for (const PlanConfig& plan : config.plans) {
    out += fmt::format("### {}\n\n- Protects: {}\n- Runs: {}", plan.name, joined(plan.resources),
                       when_in_words(plan));
    if (plan.start_window) out += fmt::format("; begins within {}", format_period(*plan.start_window));
    if (plan.completion_window)
      out += fmt::format("; ends within {}", format_period(*plan.completion_window));
    out += "\n";
    if (const std::string wal = wal_in_words(plan); !wal.empty()) out += "- WAL: " + wal + "\n";
    if (plan.window) out += fmt::format("- Any second of the last {}\n", format_period(*plan.window));
    out += fmt::format("- Kept in {}: {}\n", plan.vault, keep_in_words(plan.keep));
    for (const CopyConfig& copy : plan.copies) {
      out += fmt::format("- Copied to {}", copy.to);
      if (copy.within) out += fmt::format(" within {}", format_period(*copy.within));
      out +=
          fmt::format(", kept there: {}", copy.keep.empty() ? "as long as here" : keep_in_words(copy.keep));
      if (copy.window) out += fmt::format(", any second of the last {}", format_period(*copy.window));
      out += "\n";
    }
    if (plan.drill)
      write_drill(out, config, plan);
    else
      out += "- Proved by restoring it: **never**\n";
    out += "\n";
  }
}

void write_services(std::string& out, const Config& config) {
  if (config.services.empty()) return;
  out += "## What comes back when\n\n";
  head(out, {"service", "within", "takes", "needs", "its data", "owner", "criticality"});
  for (const ServiceConfig& service : config.services)
    row(out, {service.name, said(service.within), said(service.takes), joined(service.needs),
              joined(service.resources), service.owner, service.criticality});
  out += "\n";
}

void write_rehearsals(std::string& out, const Config& config) {
  if (!config.scenarios.empty()) {
    out += "## What is prepared for\n\n";
    head(out, {"scenario", "lost", "recovered from"});
    for (const ScenarioConfig& scenario : config.scenarios)
      row(out, {fmt::format("[{}]({})", scenario.name, runbook_of(scenario)), scenario.lost, scenario.from});
    out += "\n";
  }
  if (config.exercises.empty()) return;
  out += "## What is rehearsed\n\n";
  head(out, {"exercise", "when", "scenarios", "led by"});
  for (const ExerciseConfig& exercise : config.exercises)
    row(out, {exercise.name, when_in_words(exercise.schedule, exercise.timezone), joined(exercise.scenarios),
              exercise.owner});
  out += "\n";
}

void write_demands(std::string& out, const Config& config) {
  if (config.compliance.empty() && !config.audit) return;
  out += "## What is demanded\n\n";
  for (const ComplianceConfig& demand : config.compliance) {
    std::vector<std::string> words;
    if (demand.keep) words.push_back("kept for " + format_period(*demand.keep));
    if (demand.locked) words.push_back("locked for " + format_period(*demand.locked));
    if (demand.proof) words.push_back("proved every " + format_period(*demand.proof));
    if (demand.exercise) words.push_back("rehearsed every " + format_period(*demand.exercise));
    if (demand.copies) words.push_back(fmt::format("{} copies", *demand.copies));
    if (demand.sites) words.push_back(fmt::format("{} sites", *demand.sites));
    if (demand.audit_online)
      words.push_back("its audit log at hand for " + format_period(*demand.audit_online));
    if (demand.audit_archive) words.push_back("and archived for " + format_period(*demand.audit_archive));
    if (demand.escrow) words.push_back("its key lies somewhere else too");
    if (demand.split_roles) words.push_back("who writes cannot delete");
    out +=
        fmt::format("- **{}** ({}): {}\n", demand.name,
                    demand.resources.empty() ? "everything" : joined(demand.resources), joined(words, "; "));
  }
  if (config.audit)
    out += fmt::format("- Who did what stays on record: {} at hand, {} in the archive\n",
                       said(config.audit->online), said(config.audit->archive));
  out += "\n";
}

// Where a message goes is a secret as often as not: who is told is said, never the address.
void write_people(std::string& out, const Config& config) {
  if (!config.notify.empty()) {
    out += "## Who is told\n\n";
    head(out, {"entry", "of what", "of which", "then, until somebody acknowledges"});
    for (size_t i = 0; i < config.notify.size(); ++i) {
      const NotifyConfig& entry = config.notify[i];
      std::vector<std::string> steps;
      for (const EscalationStep& step : entry.escalate)
        steps.push_back("the next after " + format_period(step.after));
      row(out, {entry.name.empty() ? fmt::format("{}", i + 1) : entry.name, joined(entry.when),
                entry.resources.empty() ? "everything" : joined(entry.resources), joined(steps)});
    }
    out += "\n";
  }
  if (!config.contacts.empty()) {
    out += "## Whom to call\n\n";
    head(out, {"name", "role", "telephone", "mail", "channel"});
    for (const ContactConfig& contact : config.contacts)
      row(out, {contact.name, contact.role, contact.phone, contact.mail, contact.slack});
    out += "\n";
  }
  if (config.approvals) {
    out +=
        fmt::format("Of {}: {} people must agree", joined(config.approvals->acts), config.approvals->people);
    if (!config.approvals->by.empty()) out += fmt::format(" ({})", joined(config.approvals->by));
    out += ".\n\n";
  }
}

void write_findings(std::string& out, const LintReport& report) {
  out += "## What does not hold\n\n";
  if (report.findings.empty()) {
    out += "Nothing that is promised cannot hold (`kuramori lint`).\n";
    return;
  }
  for (const LintFinding& one : report.findings) {
    out += fmt::format("- **{}**, {}: {}", name_of(one.level), one.about, one.what);
    if (!one.why.empty()) out += fmt::format(" ({})", one.why);
    if (!one.next.empty()) out += fmt::format("; {}", one.next);
    out += "\n";
  }
}

HandbookPage strategy(const Config& config, const LintReport& report) {
  std::string out = page("Protection strategy");
  write_resources(out, config, report);
  write_vaults(out, config);
  write_plans(out, config);
  write_services(out, config);
  write_rehearsals(out, config);
  write_demands(out, config);
  write_people(out, config);
  write_findings(out, report);
  return {"strategy.md", std::move(out)};
}

// ------------------------------------------------------------------------------------------ the runbooks

void write_more_ways(std::string& out, const Config& config, const ResourceConfig& resource) {
  const std::string& name = resource.name;
  switch (resource.kind) {
    case ResourceKind::kPostgres:
      if (has_wal(config, resource)) {
        out += "## To a chosen second\n\nJust before the accident; the time needs a zone.\n\n";
        block(out, {fmt::format("kuramori window {}", name),
                    fmt::format("kuramori restore {} --to {} --at \"2026-01-31 14:03:22+09:00\" --start",
                                name, target_of(resource))});
      }
      break;
    case ResourceKind::kFiles:
      out += "## Some of it, or in place\n\n";
      block(out, {fmt::format("kuramori mount {}@latest /mnt/{}", name, name),
                  fmt::format("kuramori restore {} --to {} --only PATH", name, target_of(resource)),
                  fmt::format("kuramori restore {} --to THE_FOLDER_ITSELF --delta", name)});
      break;
    case ResourceKind::kDump:
      out += "## One table\n\n";
      block(out, {fmt::format("kuramori restore {} --to {} --only SCHEMA.TABLE", name, target_of(resource))});
      break;
    case ResourceKind::kBucket:
      out += "## What was deleted or overwritten, in the bucket itself\n\n";
      block(out, {fmt::format("kuramori restore {} --undelete PREFIX", name),
                  fmt::format("kuramori restore {} --in-bucket --at \"2026-01-31 14:03+09:00\" --only PREFIX "
                              "--overwrite",
                              name)});
      break;
    default:
      break;
  }
}

HandbookPage runbook(const Config& config, const ResourceConfig& resource) {
  std::string out = page("Bring back " + resource.name);
  std::vector<std::string> facts{std::string(name_of(resource.kind))};
  if (!resource.criticality.empty()) facts.push_back(resource.criticality);
  if (!resource.owner.empty()) facts.push_back("owner: " + resource.owner);
  if (const std::string promised = promised_of(resource); !promised.empty()) facts.push_back(promised);
  out += joined(facts, " · ") + "\n\n";
  const auto places = places_of(config, resource);
  if (places.empty()) {
    out += "**No plan protects it: there is nothing to bring back.**\n";
    return {runbook_of(resource), std::move(out)};
  }
  if (!resource.depends_on.empty()) {
    out += "Before it: ";
    for (size_t i = 0; i < resource.depends_on.size(); ++i)
      out += fmt::format("{}[{}]({})", i > 0 ? ", " : "", resource.depends_on[i],
                         file_of(resource.depends_on[i]));
    out += ".\n\n";
  }
  out +=
      "Nothing below touches what is there: it restores into something new. Check that, then switch "
      "over.\n\n";
  out += "## What there is\n\n";
  block(out, {fmt::format("kuramori status {}", resource.name),
              fmt::format("kuramori snapshots {}", resource.name)});
  out += fmt::format("## The newest state, from {}\n\n", place_in_words(*places.front()));
  block(out, {restore_of(config, resource, "")});
  write_more_ways(out, config, resource);
  for (size_t i = 1; i < places.size(); ++i) {
    out += fmt::format("## From {}\n\nWhen {} cannot be reached.\n\n", place_in_words(*places[i]),
                       places.front()->site.empty() ? places.front()->name : places.front()->site);
    block(out, {restore_of(config, resource, places[i]->name)});
  }
  out += "## With nothing but a vault and its key\n\nOn any machine; no configuration is read.\n\n";
  std::vector<std::string> alone;
  for (const VaultConfig* vault : places) {
    std::string line = fmt::format("kuramori restore {} --to {} --vault \"{}\" --key-file KEY", resource.name,
                                   target_of(resource), by_itself(*vault));
    if (has_wal(config, resource)) line += " --latest --start";
    alone.push_back(std::move(line));
  }
  block(out, alone);
  out += "## Is it whole\n\n";
  block(out, {fmt::format("kuramori drill {}", resource.name)});
  return {runbook_of(resource), std::move(out)};
}

// What others need comes first, then what is more critical; a circle does not make it hang.
class Order {
 public:
  explicit Order(const Config& config) : config_(config) {}

  std::vector<const ResourceConfig*> of(const std::vector<std::string>& names) {
    for (const ServiceConfig* service : by_due())
      for (const std::string& name : service->resources) visit(name);
    for (const ResourceConfig* resource : config_.by_criticality()) visit(resource->name);
    if (names.empty()) return order_;
    std::erase_if(order_, [&](const ResourceConfig* resource) {
      return std::ranges::find(names, resource->name) == names.end();
    });
    return order_;
  }

  // As the needs and the due times have it.
  std::vector<const ServiceConfig*> by_due() {
    std::vector<const ServiceConfig*> services, out;
    for (const ServiceConfig& service : config_.services) services.push_back(&service);
    std::ranges::stable_sort(services, {}, [](const ServiceConfig* one) {
      return one->within ? later(Time{}, *one->within) : kForever;
    });
    std::set<std::string> seen;
    for (const ServiceConfig* service : services) visit_service(*service, seen, out);
    return out;
  }

 private:
  void visit_service(const ServiceConfig& service, std::set<std::string>& seen,
                     std::vector<const ServiceConfig*>& out) {
    if (!seen.insert(service.name).second) return;
    for (const std::string& name : service.needs) {
      const auto needed = std::ranges::find(config_.services, name, &ServiceConfig::name);
      if (needed != config_.services.end()) visit_service(*needed, seen, out);
    }
    out.push_back(&service);
  }
  void visit(const std::string& name) {
    const auto resource = config_.resource(name);
    if (!resource || !seen_.insert(name).second) return;
    for (const std::string& needed : (*resource)->depends_on) visit(needed);
    order_.push_back(*resource);
  }

  const Config& config_;
  std::set<std::string> seen_;
  std::vector<const ResourceConfig*> order_;
};

HandbookPage runbook(const Config& config, const ScenarioConfig& scenario) {
  std::string out = page(scenario.lost.empty() ? scenario.name : fmt::format("{} is lost", scenario.lost));
  if (const VaultConfig* from = vault_of(config, scenario.from))
    out += fmt::format("Everything is brought back from {}, {}.\n\n", place_in_words(*from),
                       code(by_itself(*from)));
  out += "1. Say who leads, and tell the others";
  std::vector<std::string> calls;
  for (const ContactConfig& contact : config.contacts)
    if (!contact.phone.empty()) calls.push_back(fmt::format("{} {}", contact.name, contact.phone));
  out += calls.empty() ? ".\n" : fmt::format(": {}.\n", joined(calls));
  out += "2. Make sure that what is lost stays down: nothing of it may go on writing.\n";
  out += "3. On a machine that is left, with the configuration or the recovery kit:\n\n";
  Order order(config);
  const auto resources = order.of(scenario.resources);
  size_t number = 0;
  for (const ResourceConfig* resource : resources) {
    const auto places = places_of(config, *resource);
    const bool is_there =
        std::ranges::any_of(places, [&](const VaultConfig* vault) { return vault->name == scenario.from; });
    out += fmt::format("   {}. [{}]({})", ++number, resource->name, file_of(resource->name));
    if (const std::string promised = promised_of(*resource); !promised.empty()) out += " (" + promised + ")";
    if (!is_there && !scenario.from.empty())
      out += fmt::format(": **no plan copies it to {}**\n", scenario.from);
    else
      out +=
          fmt::format("\n\n      ```\n      {}\n      ```\n\n", restore_of(config, *resource, scenario.from));
  }
  out += "4. Start what people use, in this order:\n\n";
  std::vector<const ServiceConfig*> services = order.by_due();
  if (services.empty()) {
    out += "   No service is configured (`services:`).\n";
  } else {
    for (size_t i = 0; i < services.size(); ++i) {
      out += fmt::format("   {}. {}", i + 1, services[i]->name);
      if (services[i]->within) out += fmt::format(", due within {}", format_period(*services[i]->within));
      if (!services[i]->needs.empty()) out += fmt::format(", needs {}", joined(services[i]->needs));
      out += "\n";
    }
  }
  out += "\n5. Check what came back (`kuramori drill`), and protect the new place: `kuramori backup`.\n";
  return {runbook_of(scenario), std::move(out)};
}

HandbookPage index(const Config& config) {
  std::string out = page("Handbook of recovery");
  out += "- [What is protected, where and how](strategy.md)\n";
  for (const ScenarioConfig& scenario : config.scenarios)
    out += fmt::format("- [When {} is lost]({})\n", scenario.lost.empty() ? scenario.name : scenario.lost,
                       runbook_of(scenario));
  for (const ResourceConfig* resource : config.by_criticality())
    out += fmt::format("- [Bring back {}]({})\n", resource->name, runbook_of(*resource));
  return {"README.md", std::move(out)};
}

}  // namespace

std::string keep_in_words(const KeepRules& keep) {
  if (keep.empty()) return "for ever";
  std::vector<std::string> words;
  const auto add = [&](std::string_view name, const std::optional<Period>& period) {
    if (period) words.push_back(fmt::format("{} {}", name, format_period(*period)));
  };
  add("all", keep.all);
  add("hourly", keep.hourly);
  add("daily", keep.daily);
  add("weekly", keep.weekly);
  add("monthly", keep.monthly);
  add("yearly", keep.yearly);
  if (keep.last > 0) words.push_back(fmt::format("the last {}", keep.last));
  return joined(words);
}

std::vector<HandbookPage> handbook(const Config& config, const LintReport& report) {
  std::vector<HandbookPage> pages{index(config), strategy(config, report)};
  for (const ScenarioConfig& scenario : config.scenarios) pages.push_back(runbook(config, scenario));
  for (const ResourceConfig& resource : config.resources) pages.push_back(runbook(config, resource));
  return pages;
}

}  // namespace kuramori
