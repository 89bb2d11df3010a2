// copy, and vault ledger new.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/copy.h"
#include "engine/local_state.h"

namespace kuramori {
namespace {

constexpr size_t kNameTypedMax = 4096;  // bytes

int64_t whole_seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

std::string shown_age(Duration age) {
  return format_period(Period::of_seconds(std::max<int64_t>(0, whole_seconds(age))));
}

std::string shown_lag(const CopyLag& lag, Time now) {
  if (lag.none()) return "nothing is missing";
  std::string since = lag.oldest ? fmt::format(", the oldest {} old", shown_age(now - *lag.oldest)) : "";
  return fmt::format("{} snapshots and {} WAL objects are missing, {}{}", lag.snapshots, lag.wal_objects,
                     format_size(lag.bytes), since);
}

void write_lag(JsonWriter& json, std::string_view name, const CopyLag& lag, Time now) {
  json.key(name).begin_object().field("snapshots", lag.snapshots).field("wal_objects", lag.wal_objects);
  json.field("bytes", lag.bytes);
  json.field("seconds", lag.oldest ? std::max<int64_t>(0, whole_seconds(now - *lag.oldest)) : int64_t{0});
  json.end_object();
}

// What the plans say of copies to this vault.
std::map<std::string, CopyRule> rules_for(const Config* config, const std::string& to) {
  std::map<std::string, CopyRule> rules;
  if (config == nullptr || to.empty()) return rules;
  for (const PlanConfig& plan : config->plans) {
    for (const CopyConfig& copy : plan.copies) {
      if (copy.to != to) continue;
      for (const std::string& resource : plan.resources)
        rules.try_emplace(resource, CopyRule{copy.keep, copy.window, plan.timezone});
    }
  }
  return rules;
}

// The age of the last whole copy, for when the second vault is not there (a disk in a drawer).
Error with_age(Error error, const VaultId& source, const VaultChoice& to, Time now) {
  if (error.kind == ErrorKind::kRefused || error.kind == ErrorKind::kUsage ||
      error.kind == ErrorKind::kDamaged)
    return error;  // it is there
  auto state = LocalState::open(state_folder());
  auto at = state ? (*state)->last_copied(source, to.location) : std::optional<Time>();
  std::string age =
      at && *at ? fmt::format("it was last whole {} ago, at {}", shown_age(now - **at), format_moment(**at))
                : std::string("this machine knows of no copy there");
  error.why = error.why.empty() ? age : fmt::format("{}; {}", error.why, age);
  if (error.kind == ErrorKind::kNotFound) {
    error.kind = ErrorKind::kFailed;
    error.next = "connect it, or make it: kuramori vault init; then run the same command again";
  }
  return error;
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
  TRY_ASSIGN(VaultChoice from, context.choose_vault(line.value("from"), resource));
  TRY_ASSIGN(VaultChoice to, context.choose_vault(line.value("to")));
  TRY_ASSIGN(const Config* config, context.config_if_any());
  TRY_ASSIGN(std::unique_ptr<Vault> source, open_chosen(context, from));
  const Time now = context.clock().now();
  auto replica = open_chosen(context, to);
  if (!replica) return with_age(std::move(replica).error(), source->info().id, to, now);

  CopyRequest request{.resource = resource,
                      .rules = rules_for(config, to.name),
                      .mode = measure ? CopyRequest::Mode::kMeasure : CopyRequest::Mode::kCopy};
  TRY_ASSIGN(CopyOutcome outcome, copy_vault(*source, **replica, request, console, context.stop()));
  for (const std::string& skipped : outcome.skipped) console.warning(skipped);
  // What came while it copied is the next run's: a busy database would never be whole otherwise.
  if (!measure && resource.empty() && outcome.skipped.empty()) {
    auto state = LocalState::open(state_folder());
    auto kept = state ? (*state)->set_copied(source->info().id, to.location, now)
                      : Result<void>(std::move(state).error());
    if (!kept) console.note(kept.error().what);
  }
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/copy/1").field("dry_run", measure);
    json.field("from", from.name.empty() ? from.location : from.name);
    json.field("to", to.name.empty() ? to.location : to.name);
    json.field("snapshots", outcome.snapshots).field("wal_objects", outcome.wal_objects);
    json.field("sent_objects", outcome.sent_objects).field("sent_bytes", outcome.sent_bytes);
    json.field("found_objects", outcome.found_objects).field("found_bytes", outcome.found_bytes);
    write_lag(json, "lag_before", outcome.before, now);
    write_lag(json, "lag", outcome.after, now);
    json.key("skipped").begin_array();
    for (const std::string& skipped : outcome.skipped) json.value(skipped);
    json.end_array().field("seconds", outcome.seconds).end_object();
    console.print_document(json);
  } else if (measure) {
    console.print(shown_lag(outcome.before, now) + "\n");
  } else {
    console.print(fmt::format("copied {} snapshots and {} WAL objects, {} sent, {} were there; {}\n",
                              outcome.snapshots, outcome.wal_objects, format_size(outcome.sent_bytes),
                              format_size(outcome.found_bytes), shown_lag(outcome.after, now)));
  }
  return outcome.skipped.empty() ? 0 : exit_code(ErrorKind::kPartial);
}

Result<int> run_vault_ledger_new(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(line.argument(0)));
  std::string place = line.has("ledger") ? line.value("ledger") : choice.ledger;
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
  TRY(confirm(context, choice.name.empty() ? choice.location : choice.name));
  TRY(rebuild_ledger(*vault, place));
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
