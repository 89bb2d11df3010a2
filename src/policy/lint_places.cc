// Where things are: copies against 3-2-1, sites that are lost together, disks that are one disk.
#include <algorithm>

#include "policy/lint_rules.h"

namespace kuramori {
namespace {

// A folder and what is in it, by name: "/srv/x" holds "/srv/x/y" and itself.
bool holds(const std::string& folder, const std::string& path) {
  return path == folder ||
         (path.starts_with(folder) && (folder.ends_with('/') || path[folder.size()] == '/'));
}

// Where the original lies on this machine, as far as the configuration says.
std::vector<std::string> paths_of(const ResourceConfig& resource) {
  std::vector<std::string> paths;
  if (resource.kind == ResourceKind::kFiles) paths = resource.files.paths;
  if (resource.kind == ResourceKind::kSecret) paths = resource.secret.paths;
  if (resource.kind == ResourceKind::kRedis && !resource.redis.data_dir.empty())
    paths = {resource.redis.data_dir};
  if (resource.kind == ResourceKind::kCommand && !resource.command.folder.empty())
    paths = {resource.command.folder};
  return paths;
}

bool is_folder(const VaultConfig& vault) {
  return vault.at.starts_with('/');
}

struct Counted {
  std::set<std::string> vaults, media, sites;  // sites: other than the original's
  int replicas = 0;
};

Counted count(const Config& config, const ResourceConfig& resource) {
  Counted out;
  const std::string home = site_of(config, resource);
  out.media.insert("disk");
  for (const Kept& place : kept_places(config, resource)) {
    out.vaults.insert(place.vault->name);
    out.media.insert(medium_of(*place.vault));
    if (site_of(*place.vault) != home) out.sites.insert(site_of(*place.vault));
  }
  const bool bucket = resource.kind == ResourceKind::kBucket && resource.bucket.replicate;
  const bool image = resource.kind == ResourceKind::kImage && !resource.image.replicate.to.empty();
  if (bucket || image) {
    out.replicas = 1;
    out.media.insert("object store");
    out.sites.insert(bucket ? resource.bucket.replicate->to : resource.image.replicate.to);
  }
  return out;
}

void lint_copies(Lint& lint, const ResourceConfig& resource, LintPromise& promise) {
  const Counted counted = count(lint.config, resource);
  const std::string who = about("resource", resource.name);
  promise.copies = 1 + static_cast<int>(counted.vaults.size()) + counted.replicas;
  promise.media = static_cast<int>(counted.media.size());
  promise.elsewhere = static_cast<int>(counted.sites.size());
  if (lint.config.plans_of(resource.name).empty()) {
    if (counted.replicas > 0) return;
    const bool promised = resource.rpo || rank_of_criticality(resource.criticality) >= 3;
    lint.add(promised ? LintLevel::kError : LintLevel::kRisk, "unprotected", resource.lines.own, who,
             "no plan has it", "it is named and not protected", "add it to the resources of a plan");
    return;
  }
  if (resource.criticality.empty())
    lint.add(LintLevel::kError, "criticality", resource.lines.own, who, "nothing says how much depends on it",
             "what is restored first is decided by it", "add criticality: critical, high, medium or low");
  if (promise.elsewhere == 0)
    lint.add(LintLevel::kRisk, "one-site", resource.lines.own, who,
             fmt::format("everything of it is at site \"{}\"", site_of(lint.config, resource)),
             "whatever takes the site takes the original and every copy",
             "add copies: [ { to: VAULT } ] to its plan, with a vault at another site");
  else if (promise.copies < 3 || promise.media < 2)
    lint.add(LintLevel::kRisk, "short-of-3-2-1", resource.lines.own, who,
             fmt::format("{}-{}-{} is short of 3-2-1", promise.copies, promise.media, promise.elsewhere),
             fmt::format("{} copies with the original, on {} media, {} elsewhere", promise.copies,
                         promise.media, promise.elsewhere),
             "add copies: [ { to: VAULT } ] to its plan, with a vault of another kind at another site");
}

void lint_copies_demanded(Lint& lint, const ComplianceConfig& demands, const ResourceConfig& resource) {
  const Counted counted = count(lint.config, resource);
  const int copies = 1 + static_cast<int>(counted.vaults.size()) + counted.replicas;
  const int sites = 1 + static_cast<int>(counted.sites.size());
  const std::string who = about("compliance rule", demands.name);
  if (demands.copies && copies < *demands.copies)
    lint.add(LintLevel::kError, "copies", demands.lines.of("copies"), who,
             fmt::format("\"{}\" must be there {} times, and is {} with the original", resource.name,
                         *demands.copies, copies),
             "", "add copies: [ { to: VAULT } ] to its plan");
  if (demands.sites && sites < *demands.sites)
    lint.add(LintLevel::kError, "sites", demands.lines.of("sites"), who,
             fmt::format("\"{}\" must be at {} sites, and is at {}", resource.name, *demands.sites, sites),
             "", "add copies: [ { to: VAULT } ] to its plan, with a vault at another site");
}

void lint_disks(Lint& lint, const ResourceConfig& resource) {
  for (const std::string& path : paths_of(resource)) {
    for (const Kept& place : kept_places(lint.config, resource)) {
      if (!is_folder(*place.vault)) continue;
      const int line = place.vault->lines.of("at");
      if (holds(path, place.vault->at)) {
        lint.add(
            LintLevel::kError, "vault-in-resource", line, about("vault", place.vault->name),
            fmt::format("it lies inside {}, which it keeps", path),
            fmt::format("each snapshot of \"{}\" would hold those before, and go with it", resource.name),
            "put it on another disk");
        return;
      }
      if (!lint.facts.disk_of) continue;
      const auto vault = lint.facts.disk_of(place.vault->at), original = lint.facts.disk_of(path);
      if (!vault || vault != original) continue;
      lint.add(LintLevel::kRisk, "same-disk", line, about("vault", place.vault->name),
               fmt::format("it lies on the disk of {}, which it keeps", path),
               fmt::format("when that disk fails, \"{}\" and this vault are gone together", resource.name),
               "put it on another disk, or copy it elsewhere");
      return;
    }
  }
}

void lint_vault(Lint& lint, const VaultConfig& vault) {
  const std::string who = about("vault", vault.name);
  const bool filled = std::ranges::any_of(lint.config.plans, [&](const PlanConfig& plan) {
    return plan.vault == vault.name ||
           std::ranges::any_of(plan.copies, [&](const CopyConfig& copy) { return copy.to == vault.name; });
  });
  if (!filled && vault.copy_of.empty())
    lint.add(LintLevel::kHint, "unused", vault.lines.own, who, "no plan puts anything there", "",
             "name it in a plan, or take it out");
  if (!filled && !vault.copy_of.empty())
    lint.add(LintLevel::kRisk, "copy-never-runs", vault.lines.of("copy_of"), who,
             "nothing brings it up to date by itself",
             fmt::format("it is a copy of \"{}\", and no plan copies to it", vault.copy_of),
             fmt::format("add copies: [ {{ to: {} }} ] to the plans of \"{}\"", vault.name, vault.copy_of));
  if (lint.config.vaults.size() > 1 && vault.site.empty())
    lint.add(LintLevel::kHint, "site-unsaid", vault.lines.own, who, "it does not say where it stands",
             "it is taken for a site of its own", "add site: NAME");
  if (is_folder(vault) && !vault.key_file.empty() && holds(vault.at, vault.key_file))
    lint.add(LintLevel::kRisk, "key-in-vault", vault.lines.of("key_file"), who, "its key lies inside it",
             "who gets the vault gets the key; and with the vault the key is lost",
             "move it out, for example to /etc/kuramori");
  if (!vault.copy_of.empty()) {
    const VaultConfig* first = find_vault(lint.config, vault.copy_of);
    if (first && !first->site.empty() && first->site == vault.site)
      lint.add(LintLevel::kRisk, "copy-at-same-site", vault.lines.of("site"), who,
               fmt::format("it stands at site \"{}\", where \"{}\" does", vault.site, first->name),
               "two vaults at one site are one disaster", "put it elsewhere");
  }
}

// A recovery is planned from a vault that nothing fills, or that is lost too (S34).
void lint_scenario(Lint& lint, const ScenarioConfig& scenario) {
  const std::string who = about("scenario", scenario.name);
  const VaultConfig* from = find_vault(lint.config, scenario.from);
  if (!from) return;
  if (site_of(*from) == scenario.lost) {
    lint.add(LintLevel::kError, "scenario", scenario.lines.of("from"), who,
             fmt::format("it recovers from vault \"{}\", which is lost with site \"{}\"", from->name,
                         scenario.lost),
             "", "name a vault at another site");
    return;
  }
  for (const ResourceConfig* resource : concerned(lint.config, scenario.resources)) {
    const std::vector<Kept> places = kept_places(lint.config, *resource);
    const bool there = std::ranges::any_of(places, [&](const Kept& place) { return place.vault == from; });
    if (!there)
      lint.add(LintLevel::kError, "scenario", scenario.lines.of("from"), who,
               fmt::format("it recovers \"{}\" from vault \"{}\", where nothing ever puts it", resource->name,
                           from->name),
               places.empty() ? "no plan has it" : "no plan keeps or copies it there",
               fmt::format("add copies: [ {{ to: {} }} ] to a plan of \"{}\"", from->name, resource->name));
    else if (resource->rto && from->storage_class == "DEEP_ARCHIVE" &&
             is_longer(Period::of_seconds(12 * 3600), *resource->rto))
      lint.add(LintLevel::kError, "scenario-thaw", scenario.lines.of("from"), who,
               fmt::format("\"{}\" must be back within {}, and vault \"{}\" needs 12 hours to thaw",
                           resource->name, format_period(*resource->rto), from->name),
               "its class is DEEP_ARCHIVE", "recover from a vault that is not cold");
  }
}

}  // namespace

void lint_places(Lint& lint) {
  for (size_t i = 0; i < lint.config.resources.size(); ++i) {
    lint_copies(lint, lint.config.resources[i], lint.report.promises[i]);
    lint_disks(lint, lint.config.resources[i]);
  }
  for (const ComplianceConfig& demands : lint.config.compliance)
    for (const ResourceConfig* resource : concerned(lint.config, demands.resources))
      lint_copies_demanded(lint, demands, *resource);
  for (const VaultConfig& vault : lint.config.vaults) lint_vault(lint, vault);
  for (const ScenarioConfig& scenario : lint.config.scenarios) lint_scenario(lint, scenario);
}

}  // namespace kuramori
