// copy, and vault ledger new.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "cli/approving.h"
#include "cli/copying.h"
#include "cli/limiting.h"
#include "cli/verbs.h"
#include "net/url.h"

namespace kuramori {
namespace {

constexpr size_t kNameTypedMax = 4096;  // bytes

// The vault to copy from: as the command line says, else as the configuration says of the second one.
Result<VaultChoice> choose_source(Context& context, const VaultChoice& to, const std::string& resource) {
  const Invocation& line = context.line();
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (!config || to.name.empty() || !resource.empty() || line.has("from") || line.has("vault"))
    return context.choose_vault(line.value("from"), resource);
  TRY_ASSIGN(const VaultConfig* second, config->vault(to.name));
  if (!second->copy_of.empty()) return context.choose_vault(second->copy_of);
  std::set<std::string> sources;
  for (const PlanConfig& plan : config->plans) {
    if (std::ranges::any_of(plan.copies, [&](const CopyConfig& copy) { return copy.to == to.name; }))
      sources.insert(plan.vault);
  }
  return context.choose_vault(sources.size() == 1 ? *sources.begin() : "");
}

// The same vault with its ledger at another place; a bucket that names no endpoint is reached as the vault
// is.
Result<VaultChoice> choice_with_ledger(Context& context, const VaultChoice& choice,
                                       const std::string& ledger) {
  VaultChoice fresh = choice;
  if (ledger.empty()) return fresh;
  fresh.ledger = ledger;
  if (choice.name.empty()) return fresh;
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(const VaultConfig* configured, config->vault(choice.name));
  VaultConfig moved = *configured;
  moved.ledger = ledger;
  TRY_ASSIGN(VaultPlaces places, places_of(moved, context.world()));
  fresh.ledger = std::move(places.ledger);
  return fresh;
}

Result<void> confirm(Context& context, const std::string& name) {
  if (context.line().has("yes")) return {};
  if (isatty(STDIN_FILENO) != 1) {
    return fail(ErrorKind::kRefused,
                fmt::format("a new ledger of {} is founded only when it is confirmed", name),
                "there is no terminal to ask on", "add --yes when the old ledger is lost and nobody uses it");
  }
  std::fputs(fmt::format("what the old ledger of {} alone knows will be void. Type its name to go on: ", name)
                 .c_str(),
             stderr);
  std::string typed;
  for (int c = std::getchar(); c != EOF && c != '\n' && typed.size() < kNameTypedMax; c = std::getchar())
    typed.push_back(static_cast<char>(c));
  if (typed == name) return {};
  return fail(ErrorKind::kRefused, fmt::format("\"{}\" is not {}: nothing was changed", typed, name));
}

}  // namespace

Result<int> run_copy(Context& context) {
  Console& console = context.console();
  const Invocation& line = context.line();
  std::string resource = line.argument(0);
  const bool measure = line.has("dry-run");
  TRY_ASSIGN(const Limits limits, limits_given(context, {}));
  TRY(keep_to(limits, Reads::kVault));
  TRY_ASSIGN(VaultChoice to, context.choose_vault(line.value("to")));
  TRY_ASSIGN(VaultChoice from, choose_source(context, to, resource));
  TRY_ASSIGN(std::unique_ptr<Vault> source, open_chosen(context, from));
  const Time now = context.clock().now();
  using Mode = CopyRequest::Mode;
  TRY_ASSIGN(CopyOutcome outcome,
             copy_into(context, *source, to, resource, measure ? Mode::kMeasure : Mode::kCopy));
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/copy/1").field("dry_run", measure);
    json.field("from", from.shown());
    json.field("to", to.shown());
    write_copy(json, outcome, now);
    write_limits(json, limits);
    json.end_object();
    console.print_document(json);
  } else if (measure) {
    console.print(shown_lag(outcome.before, now) + "\n");
  } else {
    console.print(shown_copy(outcome, now) + "\n" + shown_limits(limits));
  }
  return is_whole(outcome) ? 0 : exit_code(ErrorKind::kPartial);
}

Result<int> run_vault_ledger_new(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(line.argument(0)));
  TRY_ASSIGN(VaultChoice fresh, choice_with_ledger(context, choice, line.value("ledger")));
  const std::string& place = fresh.ledger;
  if (place.empty()) {
    return fail(ErrorKind::kUsage, "it is not said where the new ledger shall be",
                "the vault has no `ledger:` in kuramori.yaml", "add --ledger LOCATION");
  }
  choice.ledger.clear();  // the old one is not asked
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  if (vault->epoch() == nullptr) {
    return fail(ErrorKind::kRefused, fmt::format("the vault at {} has one place", choice.location),
                "it never had a ledger of its own", "nothing needs to be done");
  }
  TRY(confirm(context, choice.shown()));
  TRY(must_be_approved(
      context, choice, *vault,
      {.act = "ledger-new",
       .lines = {fmt::format("found a new ledger of vault {} at {}, in place of that of epoch {}",
                             choice.shown(), masked_url(place), vault->epoch()->number)}}));
  TRY(rebuild_ledger(*vault, address_of(context, fresh)));
  const Epoch& epoch = *vault->epoch();
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/done/1").field("action", "vault ledger new");
    json.field("object", place).end_object();
    context.console().print_document(json);
  } else {
    context.console().print(fmt::format("epoch {} begins at {}, with {} snapshots\n", epoch.number, place,
                                        epoch.seal.accepted.size() - epoch.seal.pruned.size()));
  }
  return 0;
}

}  // namespace kuramori
