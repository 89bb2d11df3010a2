#include <fmt/core.h>

#include <charconv>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/auditing.h"
#include "cli/lock_keeping.h"
#include "cli/vault_access.h"
#include "cli/vault_show.h"
#include "cli/verbs.h"
#include "engine/maintenance.h"
#include "engine/probe_vault.h"

namespace kuramori {
namespace {

std::string_view word_of(CollectReport::Outcome outcome) {
  switch (outcome) {
    case CollectReport::Outcome::kNothingToDo:
      return "nothing_to_do";
    case CollectReport::Outcome::kWaiting:
      return "waiting";
    case CollectReport::Outcome::kSwept:
      return "swept";
    case CollectReport::Outcome::kGivenUp:
      return "given_up";
    case CollectReport::Outcome::kWouldPlan:
      return "would_plan";
  }
  return "nothing_to_do";
}

void write_amount(JsonWriter& json, std::string_view name, const Amount& amount) {
  json.key(name).begin_object().field("objects", amount.objects).field("bytes", amount.bytes).end_object();
}

std::string shown(const Amount& amount) {
  return fmt::format("{} objects, {}", amount.objects, format_size(amount.bytes));
}

Result<CollectRequest> collect_request(const Invocation& line) {
  CollectRequest request{.dry_run = line.has("dry-run"), .compact = !line.has("no-compact")};
  if (line.has("dead-after")) {
    TRY_ASSIGN(request.dead_after, parse_duration(line.value("dead-after")));
  }
  if (line.has("share-max")) {
    std::string text = line.value("share-max");
    if (text.ends_with('%')) text.pop_back();
    unsigned percent = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), percent);
    if (problem != std::errc() || end != text.data() + text.size() || percent > 100) {
      return fail(ErrorKind::kUsage, fmt::format("--share-max \"{}\" is no share", line.value("share-max")),
                  "", "give whole percents: --share-max 80");
    }
    request.sweep_share_max = percent / 100.0;
  }
  return request;
}

}  // namespace

Result<int> run_vault_init(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY(say_remarks(context));
  if (context.line().has("passphrase-file"))
    choice.passphrase = Setting(Setting::From::kFile, context.line().value("passphrase-file"));
  VaultAddress address = address_of(context, choice);
  Secret passphrase;
  if (choice.passphrase.is_set()) {
    TRY_ASSIGN(passphrase, address.passphrase());
  }
  std::string name = choice.shown();
  TRY_ASSIGN(InitOutcome made, init_vault(address, name, choice.passphrase.is_set() ? &passphrase : nullptr));
  context.note_opened(choice, *made.vault);
  context.set_act_object(made.vault->info().id.hex());
  if (made.key_was_made)
    context.console().note(fmt::format(
        "made the key {}: whoever loses it loses the vault, keep a copy elsewhere", choice.key_file));
  if (made.key_was_made)
    context.console().note(
        fmt::format("a page that brings everything back, to print and lock away: kuramori vault kit "
                    "{} --to FILE",
                    name));
  return print_vault(context, choice, *made.vault, made.key_was_made ? ", made now" : "", Around::kNothing);
}

Result<int> run_vault_show(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  if (!context.line().has("sizes")) return print_vault(context, choice, *vault, "", Around::kOthers);
  TRY_ASSIGN(const StoredAmount stored, measure_stored(*vault));
  return print_vault(context, choice, *vault, "", Around::kNothing, stored);
}

Result<int> run_vault_list(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/vaults/1").key("vaults").begin_array();
  Table table({{"vault"}, {"at"}, {"site"}, {"copy of"}, {"state"}});
  for (const VaultConfig& configured : config->vaults) {
    std::string state = is_degraded(configured.at) ? "opens, degraded" : "opens";
    if (auto choice = context.choose_vault(configured.name); !choice) {
      state = choice.error().what;
    } else if (auto vault = open_chosen(context, *choice); !vault) {
      state = vault.error().what;
    }
    json.begin_object()
        .field("name", configured.name)
        .field("location", configured.at)
        .field("site", configured.site);
    json.field("copy_of", configured.copy_of)
        .field("opens", state.starts_with("opens"))
        .field("state", state)
        .end_object();
    table.add({configured.name, configured.at, configured.site, configured.copy_of, state});
  }
  json.end_array().end_object();
  if (context.console().json())
    context.console().print_document(json);
  else if (table.empty())
    context.console().note("no vault is configured in " + config->path);
  else
    context.console().print(table.text());
  return 0;
}

Result<int> run_vault_collect(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(CollectRequest request, collect_request(context.line()));
  request.stop = context.stop();
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  if (is_skipped(context, *vault, Act::kCollect, choice.shown())) return 0;
  if (!request.dry_run) {
    PlannedAct planned{.act = "collect", .lines = {"free what nothing refers to in vault " + choice.shown()}};
    // What a collection would not do of itself.
    for (const char* option : {"share-max", "dead-after"})
      if (context.line().has(option))
        planned.lines.push_back(fmt::format("with --{} {}", option, context.line().value(option)));
    // One that nobody asked for waits for that word without failing until then.
    if (auto agreed = must_be_approved(context, choice, *vault, planned); !agreed) {
      if (agreed.error().kind != ErrorKind::kRefused || !context.line().has("if-allowed"))
        return std::move(agreed).error();
      say_skipped(context, fmt::format("{}; {}", agreed.error().what, agreed.error().next));
      return 0;
    }
  }
  TRY_ASSIGN(const CollectOutcome outcome, collect_vault(*vault, request));
  const CollectReport& report = outcome.collected;
  const CompactReport& compacted = outcome.compacted;
  for (const std::string& warning : report.warnings) console.warning(warning);
  for (const std::string& name : report.unknown)
    console.warning(fmt::format("{} is nothing this program knows: left alone", name));
  bool given_up = report.outcome == CollectReport::Outcome::kGivenUp;
  int status = given_up ? exit_code(ErrorKind::kRefused) : 0;
  if (!context.line().has("dry-run")) {
    TRY_ASSIGN(const int locked, keep_locked(context, choice, *vault));
    if (status == 0) status = locked;
    // The audit log goes on whatever becomes of its archiving.
    TRY_ASSIGN(const Config* config, context.config_if_any());
    if (auto tidied = tidy_audit(*vault, audit_keeping(config), act_of(context, Result<int>(0))); !tidied) {
      console.warning(fmt::format("{}: {}", tidied.error().what, tidied.error().why));
      if (status == 0 && tidied.error().kind == ErrorKind::kRefused)
        status = exit_code(ErrorKind::kBrokenPromise);
    }
  }
  if (console.json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/collect/1")
        .field("outcome", word_of(report.outcome))
        .field("number", report.number);
    write_amount(json, "planned", report.planned);
    write_amount(json, "rescued", report.rescued);
    write_amount(json, "deleted", report.deleted);
    write_amount(json, "retained", report.retained);
    write_amount(json, "left", report.left);
    json.key("waiting_for").begin_array();
    for (const OpenSession& open : report.waiting_for) json.value(open.session.id.hex());
    json.end_array().key("unknown").begin_array();
    for (const std::string& name : report.unknown) json.value(name);
    json.end_array().field("given_up", report.given_up);
    json.key("compacted")
        .begin_object()
        .field("packs", compacted.packs)
        .field("stored_bytes", compacted.stored_bytes)
        .field("kept_bytes", compacted.kept_bytes)
        .field("left", compacted.left);
    write_amount(json, "replaced", report.replaced);
    json.field("pending_bytes", request.dry_run ? 0 : outcome.pending_bytes()).end_object();
    json.end_object();
    console.print_document(json);
    return status;
  }
  if (compacted.packs > 0)
    console.print(fmt::format("{} {} packs of {}: {} of them are needed\n",
                              request.dry_run ? "would thin" : "thinned", compacted.packs,
                              format_size(compacted.stored_bytes), format_size(compacted.kept_bytes)));
  // Of one that the breaker holds by itself, running it again changes nothing.
  if (compacted.left > 0)
    console.note(compacted.packs > 0
                     ? fmt::format("little is needed of {} more packs: run it again, or allow more with "
                                   "--share-max",
                                   compacted.left)
                     : fmt::format("little is needed of {} packs, each of them too much of this vault to be "
                                   "thinned unasked: allow it with --share-max 100",
                                   compacted.left));
  switch (report.outcome) {
    case CollectReport::Outcome::kNothingToDo:
      console.print("nothing to free\n");
      break;
    case CollectReport::Outcome::kWouldPlan:
      console.print(fmt::format("would free {}\n", shown(report.planned)));
      break;
    case CollectReport::Outcome::kSwept:
      console.print(fmt::format("freed {}\n", shown(report.deleted)));
      if (report.replaced.objects > 0)
        console.print(
            fmt::format("of these {} had little that is needed: thin packs of {} stand in for them\n",
                        shown(report.replaced), format_size(report.standing_in)));
      break;
    case CollectReport::Outcome::kGivenUp:
      console.print("given up, nothing was freed: " + report.given_up + "\n");
      console.note("if that is right: --share-max 100");
      break;
    case CollectReport::Outcome::kWaiting:
      console.print(fmt::format(
          "waiting: {} open sessions may still use what would go; the next run goes on from here\n",
          report.waiting_for.size()));
      for (const OpenSession& open : report.waiting_for)
        console.note(fmt::format("session {} of {} began {}", open.session.id.hex(), open.session.record.host,
                                 format_moment(from_unix_ns(open.session.record.started_ns))));
      break;
  }
  if (!request.dry_run && outcome.pending_bytes() > 0)
    console.note(fmt::format("{} of packs that were thinned still stand and go {}",
                             format_size(outcome.pending_bytes()),
                             report.outcome == CollectReport::Outcome::kWaiting
                                 ? "when these sessions are over, with the next collection"
                                 : "with the next collection, or when their lock ends"));
  // Not an error: the store keeps what it was told to keep.
  if (report.retained.objects > 0)
    console.print(fmt::format("retained {}: {}\n", shown(report.retained), report.retained_why));
  return status;
}

Result<int> run_vault_disown(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  std::string commit = context.line().argument(1);
  TRY(must_be_approved(context, choice, *vault, {.act = "disown", .lines = {"disown " + commit}}));
  TRY(disown_commit(*vault, commit, "by hand"));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/done/1")
        .field("action", "vault disown")
        .field("object", commit)
        .end_object();
    context.console().print_document(json);
  } else {
    context.console().print(fmt::format("{} no longer counts\n", commit));
  }
  return 0;
}

}  // namespace kuramori
