#include "cli/approving.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/open_vault.h"

namespace kuramori {
namespace {

std::string who(const SeenApproval& one) {
  return fmt::format("{}@{} ({})", one.user, one.host,
                     one.key_name.empty() ? one.signer.hex().substr(0, 8) : one.key_name);
}

void write_request(JsonWriter& json, const SeenRequest& request, const std::string& vault, Time now) {
  const ApprovalRequestRecord& record = request.record;
  json.begin_object().field("id", record.id.hex()).field("vault", vault).field("act", record.act);
  json.field("time", format_utc(from_unix_ns(record.at_ns))).field("until", format_utc(request.until));
  json.field("state", request.used ? "used" : request.until < now ? "over" : "waits");
  json.field("key", request.signer.hex()).field("key_name", request.key_name).field("host", record.host);
  json.field("user", record.user).field("sha256", request.digest.hex()).key("lines").begin_array();
  for (const std::string& line : record.lines) json.value(line);
  json.end_array().key("approvals").begin_array();
  for (const SeenApproval& one : request.approvals) {
    json.begin_object()
        .field("key", one.signer.hex())
        .field("key_name", one.key_name)
        .field("host", one.host);
    json.field("user", one.user).field("time", format_utc(one.at)).end_object();
  }
  json.end_array().end_object();
}

Result<int> list_all(Context& context) {
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  const Time now = context.clock().now();
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/approvals/1").key("requests").begin_array();
  Table table({{"request"}, {"vault"}, {"act"}, {"asked by"}, {"good until"}, {"state"}, {"approved by"}});
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(const std::vector<SeenRequest> requests, list_requests(*vault));
    for (const SeenRequest& request : requests) {
      write_request(json, request, choice.shown(), now);
      std::string approved;
      for (const SeenApproval& one : request.approvals) approved += (approved.empty() ? "" : ", ") + who(one);
      table.add({request.record.id.hex(), choice.shown(), request.record.act,
                 request.record.user + "@" + request.record.host, shown_time(request.until),
                 request.used          ? "used"
                 : request.until < now ? "over"
                                       : "waits",
                 approved});
    }
  }
  json.end_array().end_object();
  if (context.console().json())
    context.console().print_document(json);
  else if (table.empty())
    context.console().note("nothing waits for an approval");
  else
    context.console().print(table.text());
  return 0;
}

}  // namespace

namespace {

bool asks_for(const ApprovalsConfig& approvals, std::string_view act) {
  return std::ranges::count(approvals.acts, act) != 0;
}

Result<void> ask(const ApprovalsConfig& approvals, const VaultChoice& choice, Vault& vault,
                 const PlannedAct& planned) {
  ApprovalRules rules{.people = approvals.people, .by = approvals.by};
  if (approvals.valid_for) rules.valid_for = *approvals.valid_for;
  return use_approval(vault, rules, planned, choice.shown());
}

// Whatever else was typed that changes what a restore does, a line each.
void add_options(const Invocation& line, std::vector<std::string>& lines) {
  constexpr std::string_view kSaidOtherwise[] = {
      "config", "vault",    "key-file", "json", "quiet",      "verbose",       "yes",      "to",
      "at",     "estimate", "nice",     "io",   "limit-read", "limit-network", "limit-cpu"};
  for (const auto& [name, values] : line.options) {
    if (std::ranges::count(kSaidOtherwise, name) != 0) continue;
    for (const std::string& value : values)
      lines.push_back(fmt::format("with --{}{}{}", name, value.empty() ? "" : " ", value));
  }
}

}  // namespace

Result<bool> wants_approval(Context& context, std::string_view act) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  return config != nullptr && config->approvals && asks_for(*config->approvals, act);
}

Result<void> must_be_approved(Context& context, const VaultChoice& choice, Vault& vault,
                              const PlannedAct& planned) {
  TRY_ASSIGN(const bool wanted, wants_approval(context, planned.act));
  if (!wanted) return {};
  TRY_ASSIGN(const Config* config, context.config());
  return ask(*config->approvals, choice, vault, planned);
}

PlannedAct taking_hold_off(const FoundSnapshot& found, const std::string& hold) {
  const CommitRecord& commit = found.snapshot.commit;
  return {.act = "hold-remove",
          .lines = {fmt::format("take the hold {} off {} of {}, of {}", hold, commit.snapshot.hex(),
                                found.resource, format_utc(from_unix_ns(commit.started_ns)))}};
}

Result<void> replacing_must_be_approved(Context& context, const VaultChoice& choice, Vault& vault,
                                        const std::string& resource, const Snapshot& base,
                                        const std::string& to, const std::string& until) {
  PlannedAct planned{.act = "restore-in-place", .lines = {}};
  planned.lines.push_back(fmt::format("restore {} from snapshot {}, of {}, over {} on {}", resource,
                                      base.commit.snapshot.hex(),
                                      format_utc(from_unix_ns(base.commit.started_ns)), to, host_name()));
  if (!until.empty()) planned.lines.push_back("as of " + until);
  add_options(context.line(), planned.lines);
  return must_be_approved(context, choice, vault, planned);
}

Result<void> change_must_be_approved(Context& context, const std::string& resource,
                                     const PlannedAct& planned) {
  TRY_ASSIGN(const bool wanted, wants_approval(context, planned.act));
  if (!wanted) return {};
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault({}, resource));
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
  return must_be_approved(context, choice, *vault, planned);
}

Result<void> apply_must_be_approved(Context& context, const Planned& planned) {
  if (!planned.plan.promises_less()) return {};
  const auto asking = [](const Config* config) -> const ApprovalsConfig* {
    return config != nullptr && config->approvals && asks_for(*config->approvals, "apply")
               ? &*config->approvals
               : nullptr;
  };
  const ApprovalsConfig* approvals = asking(planned.before ? &*planned.before : nullptr);
  if (approvals == nullptr) approvals = asking(planned.config);
  if (approvals == nullptr) return {};
  PlannedAct act{.act = "apply", .lines = {}};
  for (const Consequence& one : planned.plan.consequences)
    // Without its words, which may name a moment that passes: what it rests on is said below.
    if (one.loses || one.promises_less) act.lines.push_back(fmt::format("{}: {}", one.about, one.id));
  for (const ConfigChange& change : planned.changes)
    act.lines.push_back(fmt::format("{}: {} -> {}", change.key, change.before.value_or("nothing"),
                                    change.after.value_or("nothing")));
  act.lines.insert(act.lines.end(), planned.basis.begin(), planned.basis.end());
  for (const PlannedVault& looked : planned.vaults) {
    if (looked.look.state != VaultLook::State::kThere) continue;
    TRY_ASSIGN(const VaultChoice choice, context.choose_vault(looked.look.vault));
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    return ask(*approvals, choice, *vault, act);
  }
  return fail(ErrorKind::kRefused, "applying this needs the approval of others",
              "no vault is there to keep the request in", "kuramori vault list says why");
}

Result<int> run_approve(Context& context) {
  if (context.line().arguments.empty()) return list_all(context);
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const SeenRequest request, approve_request(*vault, context.line().argument(0)));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/approvals/1").key("requests").begin_array();
    write_request(json, request, choice.shown(), context.clock().now());
    json.end_array().end_object();
    context.console().print_document(json);
    return 0;
  }
  std::string out = fmt::format("approved: {} as asked for by {}@{}\n", request.record.act,
                                request.record.user, request.record.host);
  for (const std::string& line : request.record.lines) out += "  " + line + "\n";
  out += fmt::format("good for one time, until {}\n", format_moment(request.until));
  context.console().print(out);
  return 0;
}

}  // namespace kuramori
