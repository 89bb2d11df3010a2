// archive_command and restore_command: once a segment, so they do the least — no configuration is read when a
// vault's location and a key file are given.
#include <fmt/core.h>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/wal.h"
#include "engine/wal_spool.h"

namespace kuramori {

Result<int> run_wal_push(Context& context) {
  WalPushRequest request{.path = context.line().argument(0), .resource = context.line().value("resource")};
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, request.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_for_wal(context, choice));
  request.may_register = !request.resource.empty();
  // Which resources archive into this vault, should the server be new to it.
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (config != nullptr && request.resource.empty()) {
    for (const PlanConfig& plan : config->plans) {
      if (plan.wal == WalMode::kNone || plan.vault != choice.name) continue;
      for (const std::string& name : plan.resources) {
        auto resource = config->resource(name);
        if (resource && (*resource)->kind == ResourceKind::kPostgres) request.configured.push_back(name);
      }
    }
  }
  TRY_ASSIGN(WalPushOutcome outcome, push_wal(*vault, request));
  context.console().detail(fmt::format("{}: {} bytes of {} {}", outcome.resource, outcome.bytes, request.path,
                                       outcome.put == WalPut::kStored ? "stored" : "were there already"));
  return 0;
}

Result<int> run_wal_get(Context& context) {
  const Invocation& line = context.line();
  if (line.has("spool")) {
    std::string why;
    int status = get_from_spool(line.value("spool"), line.argument(0), line.argument(1), why);
    if (!why.empty()) context.console().note(why);
    return status;
  }
  WalGetRequest request{
      .resource = line.value("resource"), .name = line.argument(0), .path = line.argument(1)};
  if (request.resource.empty())
    return fail(ErrorKind::kUsage, "wal get needs --resource NAME", "one vault may hold many archives",
                "add --resource NAME");
  if (line.has("promise")) {
    TRY_ASSIGN(request.promise, postgres::parse_promise(line.value("promise")));
  }
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, request.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_for_wal(context, choice));
  postgres::GetDecision decision = get_wal_file(*vault, request);
  if (decision.answer != postgres::Get::kFound)
    context.console().note(fmt::format("{}: {}", request.name, decision.why));
  return decision.exit_status();
}

}  // namespace kuramori
