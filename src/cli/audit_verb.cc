// `audit`: who did what, whether that still holds, and the archiving of what is older.
#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "cli/auditing.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/audit.h"
#include "engine/roles.h"

namespace kuramori {
namespace {

// What of the log is asked for.
struct Wanted {
  std::string resource, verb, key;
  std::optional<Time> since, until;

  bool takes(const AuditEntry& entry) const {
    if (since && entry.at < *since) return false;
    if (until && entry.at >= *until) return false;
    if (!key.empty() && entry.key_name != key && !entry.signer.hex().starts_with(key)) return false;
    if (!resource.empty() && (!entry.act || entry.act->resource != resource)) return false;
    return verb.empty() || (entry.act && entry.act->verb == verb);
  }
};

// "30d" ago, or a moment with its zone.
Result<std::optional<Time>> moment_given(Context& context, std::string_view option) {
  if (!context.line().has(option)) return std::nullopt;
  const std::string text = context.line().value(option);
  if (auto ago = parse_period(text)) return earlier(context.clock().now(), *ago);
  TRY_ASSIGN(const Moment moment, parse_moment(text));
  return moment.time;
}

Result<Wanted> wanted_of(Context& context) {
  const Invocation& line = context.line();
  Wanted wanted{.resource = line.value("resource"), .verb = line.value("verb"), .key = line.value("key")};
  TRY_ASSIGN(wanted.since, moment_given(context, "since"));
  TRY_ASSIGN(wanted.until, moment_given(context, "until"));
  return wanted;
}

std::string shown_key(const AuditEntry& entry) {
  return entry.key_name.empty() ? fmt::format("{} {}", name_of(entry.role), entry.signer.hex().substr(0, 8))
                                : entry.key_name;
}

void write_entry(JsonWriter& json, const AuditEntry& entry, const std::string& vault) {
  json.begin_object().field("vault", vault).field("record", entry.name).field("number", entry.number);
  json.field("time", format_utc(entry.at)).field("key", entry.signer.hex()).field("key_name", entry.key_name);
  json.field("role", name_of(entry.role)).field("sha256", entry.digest.hex());
  json.field("readable", entry.act.has_value());
  const AuditAct act = entry.act.value_or(AuditAct());
  json.field("verb", act.verb).field("resource", act.resource).field("object", act.object);
  json.field("result", act.result).field("reason", act.reason).field("host", act.host);
  json.field("user", act.user).field("detail", act.detail).end_object();
}

Result<int> list_acts(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(const Wanted wanted, wanted_of(context));
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/audit/1").key("acts").begin_array();
  Table table({{"time"}, {"vault"}, {"key"}, {"user"}, {"verb"}, {"resource"}, {"object"}, {"result"}});
  size_t findings = 0, sealed = 0;
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(const AuditReading reading, read_audit(*vault));
    for (const AuditEntry& entry : reading.entries) {
      sealed += !entry.act;
      if (!wanted.takes(entry)) continue;
      write_entry(json, entry, choice.shown());
      const AuditAct act = entry.act.value_or(AuditAct{.verb = "(sealed)"});
      const std::string user = act.user.empty() ? act.host : act.user + "@" + act.host;
      table.add({shown_time(entry.at), choice.shown(), shown_key(entry), user, act.verb, act.resource,
                 act.object, act.reason.empty() ? act.result : act.result + ": " + act.reason});
    }
    for (const AuditFinding& finding : reading.findings)
      console.warning(fmt::format("{} in {}: {}", finding.object, choice.shown(), finding.what));
    findings += reading.findings.size();
  }
  json.end_array().end_object();
  if (sealed > 0) console.note("what was done is sealed to the reader: an owner's or reader's key shows it");
  if (console.json())
    console.print_document(json);
  else if (table.empty())
    console.note("the audit log has nothing of it");
  else
    console.print(table.text());
  return findings == 0 ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

void print_look(Console& console, const std::string& vault, const AuditLook& look) {
  const AuditReading& reading = look.reading;
  std::string out = fmt::format("{}: {} records in {} chains, {} archives: {}\n", vault,
                                reading.entries.size(), reading.heads.size(), reading.archives,
                                reading.findings.empty() ? "every chain holds" : "IT DOES NOT HOLD");
  for (const AuditFinding& finding : reading.findings)
    out += fmt::format("  {}: {}\n", finding.object, finding.what);
  console.print(out);
  if (look.pending > 0)
    console.warning(
        fmt::format("{} acts of this machine are not in it yet: the next run puts them there", look.pending));
  if (!look.not_remembered.empty())
    console.note(
        fmt::format("what was cut off a chain's end since the last checkpoint cannot be told here: {}",
                    look.not_remembered));
}

Result<int> verify_log(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/audit/1").key("vaults").begin_array();
  size_t findings = 0;
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(const AuditLook look, look_at_audit(*vault));
    const AuditReading& reading = look.reading;
    findings += reading.findings.size();
    json.begin_object().field("vault", choice.shown()).field("records", reading.entries.size());
    json.field("chains", reading.heads.size()).field("archives", reading.archives);
    json.field("pending", look.pending).field("remembered", look.remembered);
    json.field("holds", reading.findings.empty()).key("findings").begin_array();
    for (const AuditFinding& finding : reading.findings)
      json.begin_object().field("object", finding.object).field("what", finding.what).end_object();
    json.end_array().key("heads").begin_array();
    for (const AuditHead& head : reading.heads)
      json.begin_object()
          .field("key", head.signer.hex())
          .field("number", head.number)
          .field("sha256", head.digest.hex())
          .end_object();
    json.end_array().end_object();
    if (!console.json()) print_look(console, choice.shown(), look);
  }
  json.end_array().end_object();
  if (console.json()) console.print_document(json);
  return findings == 0 ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

Result<int> archive_log(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(const Config* config, context.config_if_any());
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/audit/1").key("archived").begin_array();
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY(must_be_allowed(*vault, Act::kCollect));
    TRY_ASSIGN(const AuditTidied tidied,
               tidy_audit(*vault, audit_keeping(config), act_of(context, Result<int>(0)), 1));
    json.begin_object().field("vault", choice.shown()).field("archived", tidied.archived);
    json.field("removed", tidied.removed).field("left", tidied.left).field("expired", tidied.expired);
    json.end_object();
    if (console.json()) continue;
    console.print(fmt::format("{}: {} records archived, {} let go after their time\n", choice.shown(),
                              tidied.archived, tidied.expired));
    if (tidied.left > 0)
      console.note(fmt::format("{} objects stay beside their archive: locked, or not this key's to remove",
                               tidied.left));
  }
  json.end_array().end_object();
  if (console.json()) console.print_document(json);
  return 0;
}

}  // namespace

Result<int> run_audit(Context& context) {
  const std::string what = context.line().argument(0);
  if (what.empty() || what == "list") return list_acts(context);
  if (what == "verify") return verify_log(context);
  if (what == "archive") return archive_log(context);
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" cannot be done with the audit log", what), "",
              "one of: kuramori audit, kuramori audit verify, kuramori audit archive");
}

}  // namespace kuramori
