#include "cli/vault_show.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/text.h"
#include "base/time_text.h"
#include "base/units.h"
#include "cli/copying.h"
#include "engine/keys.h"
#include "engine/probe_vault.h"
#include "engine/roles.h"
#include "engine/survival.h"

namespace kuramori {
namespace {

// One way from a vault to its copy, as the configuration has it.
struct CopyPath {
  std::string from, to;
  bool operator==(const CopyPath&) const = default;
};
struct CopyState {
  CopyPath path;
  CopyLag lag;
  std::optional<Error> trouble;
};

// The configured vaults, each opened once.
class Neighbours {
 public:
  // `list`: what the vault that is shown has.
  Neighbours(Context& context, const Config& config, const VaultChoice& self, Vault& vault,
             const SnapshotList& list)
      : context_(context), config_(config), self_(self), vault_(vault), list_(list) {
    for (const VaultConfig& configured : config.vaults) {
      if (configured.name == self.name) continue;
      auto choice = context.choose_vault(configured.name);
      others_.emplace(configured.name, choice ? open_chosen(context, *choice) : std::move(choice).error());
    }
  }

  std::vector<CopyState> copies() {
    std::vector<CopyState> states;
    for (const CopyPath& path : paths()) {
      if (path.from != self_.name && path.to != self_.name) continue;
      CopyState state{.path = path};
      if (auto lag = measure(path)) {
        state.lag = *lag;
      } else {
        state.trouble = std::move(lag).error();
      }
      states.push_back(std::move(state));
    }
    return states;
  }

  // Of the vaults that open; those that do not are told of.
  std::vector<Holdings> holdings() {
    std::vector<Holdings> all;
    for (const VaultConfig& configured : config_.vaults) {
      auto held = look_at(configured);
      if (held) {
        held->medium = medium_of(configured);
        all.push_back(std::move(*held));
      } else {
        context_.console().note(fmt::format("{} is not counted: {}", configured.name, held.error().what));
      }
    }
    return all;
  }

  // Where the originals are, of what some vault holds.
  std::vector<Original> originals(const std::vector<Holdings>& held) const {
    std::vector<Original> all;
    for (const ResourceConfig& resource : config_.resources) {
      if (std::ranges::none_of(
              held, [&](const Holdings& vault) { return vault.resources.contains(resource.name); }))
        continue;
      all.push_back({.resource = resource.name, .site = site_of(resource), .medium = "disk"});
    }
    return all;
  }

 private:
  // Unless it is said, beside the vault that its plan fills: what is taken for near is at worst too near.
  std::string site_of(const ResourceConfig& resource) const {
    if (!resource.site.empty()) return resource.site;
    for (const PlanConfig& plan : config_.plans) {
      if (std::ranges::count(plan.resources, resource.name) == 0) continue;
      for (const VaultConfig& vault : config_.vaults) {
        if (vault.name == plan.vault) return vault.site.empty() ? vault.name : vault.site;
      }
    }
    return "";
  }
  std::vector<CopyPath> paths() const {
    std::vector<CopyPath> all;
    auto add = [&](CopyPath path) {
      if (std::ranges::count(all, path) == 0) all.push_back(std::move(path));
    };
    for (const VaultConfig& configured : config_.vaults) {
      if (!configured.copy_of.empty()) add({configured.copy_of, configured.name});
    }
    for (const PlanConfig& plan : config_.plans) {
      for (const CopyConfig& copy : plan.copies) add({plan.vault, copy.to});
    }
    return all;
  }
  Result<Vault*> reach(const std::string& name) {
    if (name == self_.name) return &vault_;
    auto other = others_.find(name);
    if (other == others_.end()) return fail(ErrorKind::kNotFound, "it is not configured");
    if (!other->second) return other->second.error();
    return other->second->get();
  }
  Result<Holdings> look_at(const VaultConfig& configured) {
    if (configured.name == self_.name) return holdings_of(vault_, list_, configured.name, configured.site);
    TRY_ASSIGN(Vault * vault, reach(configured.name));
    TRY_ASSIGN(const SnapshotList list, list_snapshots(*vault, std::nullopt, Detail::kSummary));
    return holdings_of(*vault, list, configured.name, configured.site);
  }
  Result<CopyLag> measure(const CopyPath& path) {
    TRY_ASSIGN(Vault * source, reach(path.from));
    TRY_ASSIGN(const VaultChoice to, context_.choose_vault(path.to));
    TRY_ASSIGN(const CopyOutcome outcome,
               copy_between(context_, *source, reach(path.to), to, "", CopyRequest::Mode::kMeasure));
    return outcome.before;
  }

  Context& context_;
  const Config& config_;
  const VaultChoice& self_;
  Vault& vault_;
  const SnapshotList& list_;
  std::map<std::string, Result<std::unique_ptr<Vault>>> others_;
};

std::string_view word_of(Loss::Kind kind) {
  switch (kind) {
    case Loss::Kind::kNothing:
      return "nothing";
    case Loss::Kind::kSnapshots:
      return "snapshots";
    case Loss::Kind::kNewer:
      return "newer";
    case Loss::Kind::kEverything:
      return "everything";
  }
  return "nothing";
}

std::string shown(const Loss& loss) {
  switch (loss.kind) {
    case Loss::Kind::kNothing:
      return "nothing is lost";
    case Loss::Kind::kSnapshots:
      return fmt::format("{} snapshots that stand nowhere else; the newest state is not lost",
                         loss.snapshots);
    case Loss::Kind::kNewer:
      return fmt::format("what is newer than {} ({} snapshots and {} WAL objects stand nowhere else)",
                         format_moment(*loss.newer_than), loss.snapshots, loss.wal_objects);
    case Loss::Kind::kEverything:
      return fmt::format("EVERYTHING: its {} snapshots stand nowhere else", loss.snapshots);
  }
  return "";
}

void write_keys(JsonWriter& json, std::string& out, const std::vector<KeyEntry>& keys) {
  json.key("keys").begin_array();
  for (const KeyEntry& key : keys) {
    const bool counts = key.defect.empty() && !key.revoked_ns;
    json.begin_object().field("id", key.id.hex()).field("role", name_of(key.role)).field("name", key.name);
    json.field("counts", counts).field("may", counts ? verbs_of(key.role) : "").end_object();
    out += fmt::format("{:<10} {}{}: {}\n", name_of(key.role), key.name.empty() ? "" : key.name + " ",
                       key.id.hex().substr(0, 8),
                       counts           ? verbs_of(key.role)
                       : key.revoked_ns ? "revoked"
                                        : "counts for nothing: " + key.defect);
  }
  json.end_array();
}

void write_copies(JsonWriter& json, std::string& out, const std::vector<CopyState>& copies,
                  const std::string& self, Time now) {
  json.key("copies").begin_array();
  for (const CopyState& copy : copies) {
    const CopyLag& lag = copy.lag;
    json.begin_object().field("from", copy.path.from).field("to", copy.path.to);
    std::string state = copy.trouble ? fmt::format("{}{}{}", copy.trouble->what,
                                                   copy.trouble->why.empty() ? "" : ": ", copy.trouble->why)
                                     : shown_lag(lag, now);
    json.field("measured", !copy.trouble).field("state", state);
    json.field("snapshots", lag.snapshots).field("wal_objects", lag.wal_objects).field("bytes", lag.bytes);
    json.field("oldest", lag.oldest ? format_utc(*lag.oldest) : "").end_object();
    out += copy.path.from == self ? fmt::format("copy       {}: {}\n", copy.path.to, state)
                                  : fmt::format("copy of    {}: {}\n", copy.path.from, state);
  }
  json.end_array();
}

std::string joined_or_none(const std::vector<std::string>& words) {
  return words.empty() ? "none" : joined(words);
}

void write_losses(JsonWriter& json, std::string& out, const std::vector<SiteLoss>& sites) {
  json.key("sites").begin_array();
  if (!sites.empty()) out += "\nlost, if a site burned:\n";
  for (const SiteLoss& site : sites) {
    json.begin_object().field("site", site.site).key("vaults").begin_array();
    for (const std::string& vault : site.vaults) json.value(vault);
    json.end_array().key("losses").begin_array();
    out += fmt::format("  {} ({})\n", site.site, joined_or_none(site.vaults));
    if (site.losses.empty()) out += "    nothing is lost: nothing stands there\n";
    for (const Loss& loss : site.losses) {
      json.begin_object().field("resource", loss.resource).field("lost", word_of(loss.kind));
      json.field("newer_than", loss.newer_than ? format_utc(*loss.newer_than) : "");
      json.field("snapshots", loss.snapshots).field("wal_objects", loss.wal_objects).end_object();
      out += fmt::format("    {}: {}\n", loss.resource, shown(loss));
    }
    json.end_array().end_object();
  }
  json.end_array();
}

void write_scores(JsonWriter& json, std::string& out, const std::vector<CopiesScore>& scores, bool colour) {
  json.key("scores").begin_array();
  if (!scores.empty()) out += "\nthree copies on two media, one of them elsewhere:\n";
  for (const CopiesScore& score : scores) {
    const std::string digits =
        fmt::format("{}-{}-{}", score.copies(), score.media.size(), score.offsite.size());
    json.begin_object().field("resource", score.resource).field("score", digits);
    json.field("kept", score.is_kept()).field("copies", score.copies());
    auto list = [&](std::string_view key, const std::vector<std::string>& words) {
      json.key(key).begin_array();
      for (const std::string& word : words) json.value(word);
      json.end_array();
    };
    list("vaults", score.vaults);
    list("media", score.media);
    list("offsite", score.offsite);
    json.end_object();
    std::string verdict = score.is_kept() ? digits : fmt::format("{} SHORT of 3-2-1", digits);
    if (colour && !score.is_kept()) verdict = fmt::format("\033[1;31m{}\033[0m", verdict);
    out += fmt::format("  {}: {}: the original, {}; on {}; elsewhere: {}\n", score.resource, verdict,
                       score.vaults.empty() ? "no vault" : joined_or_none(score.vaults),
                       joined_or_none(score.media), joined_or_none(score.offsite));
  }
  json.end_array();
}

}  // namespace

Result<StoredAmount> measure_stored(Vault& vault) {
  StoredAmount stored;
  TRY(for_each_object(vault.store(), "", [&](const ObjectInfo& object) -> Result<void> {
    ++stored.objects;
    stored.bytes += object.size;
    return {};
  }));
  return stored;
}

Result<int> print_vault(Context& context, const VaultChoice& choice, Vault& vault,
                        std::string_view key_was_made, Around around,
                        const std::optional<StoredAmount>& stored) {
  TRY_ASSIGN(SnapshotList list, list_snapshots(vault, std::nullopt, Detail::kSummary));
  TRY_ASSIGN(std::vector<KeyEntry> keys, list_keys(vault));
  const VaultInfo& info = vault.info();
  TRY_ASSIGN(const std::string probed, latest_probe_words(vault));
  TRY_ASSIGN(const Config* config, context.config_if_any());
  std::vector<CopyState> copies;
  std::vector<SiteLoss> sites;
  std::vector<CopiesScore> scores;
  if (around == Around::kOthers && config && !choice.name.empty()) {
    Neighbours neighbours(context, *config, choice, vault, list);
    const std::vector<Holdings> held = neighbours.holdings();
    scores = score_copies(held, neighbours.originals(held));
    if (config->vaults.size() > 1) {
      copies = neighbours.copies();
      sites = losses_by_site(held);
    }
  }
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/vault/1").key("vault").begin_object();
  json.field("name", choice.name).field("location", choice.location);
  json.field("degraded", is_degraded(choice.location));
  json.field("id", info.id.hex()).field("family", info.family.hex());
  json.field("created", format_utc(from_unix_ns(info.created_ns))).field("key_file", choice.key_file);
  json.field("role", name_of(vault.keys().role)).field("probe", probed).field("page_bytes", info.page_bytes);
  json.field("resources", list.resources.size()).field("snapshots", list.snapshots.size());
  json.key("stored");
  if (stored)
    json.begin_object().field("objects", stored->objects).field("bytes", stored->bytes).end_object();
  else
    json.null();

  std::string out;
  auto line = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) out += fmt::format("{:<10} {}\n", name, value);
  };
  line("vault", choice.name);
  line("at", choice.location);
  if (is_degraded(choice.location))
    line("degraded", "nothing is put exactly once or locked behind rclone; the ledger stands in for that");
  line("id", info.id.hex());
  line("family", info.family.hex());
  line("created", format_moment(from_unix_ns(info.created_ns)));
  line("key", fmt::format("{} ({}{})", choice.key_file, name_of(vault.keys().role), key_was_made));
  line("probe", probed);
  line("holds", fmt::format("{} snapshots of {} resources", list.snapshots.size(), list.resources.size()));
  if (stored) line("stored", fmt::format("{} in {} objects", format_size(stored->bytes), stored->objects));
  // Who may do what; `vault key list` has the particulars.
  write_keys(json, out, keys);
  json.end_object();
  write_copies(json, out, copies, choice.name, context.clock().now());
  write_losses(json, out, sites);
  write_scores(json, out, scores, context.console().colour());
  json.end_object();
  if (context.console().json()) {
    context.console().print_document(json);
  } else {
    context.console().print(out);
  }
  return 0;
}

}  // namespace kuramori
