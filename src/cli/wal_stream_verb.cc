// `wal stream`: runs until it is stopped, and says once a second how far the vault is behind the server.
#include <fmt/core.h>

#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/wal_stream.h"

namespace kuramori {
namespace {

constexpr Duration kObjectStoreFlush = std::chrono::seconds(10);  // a request costs money there
constexpr Duration kFlushMin = std::chrono::seconds(1);
constexpr Duration kFlushMax = std::chrono::hours(1);

Result<Duration> flush_of(const Context& context, const PlanConfig* plan, const VaultChoice& choice) {
  Duration flush = choice.location.find("://") == std::string::npos || choice.location.starts_with("file://")
                       ? kStreamFlush
                       : kObjectStoreFlush;
  if (plan && plan->flush && plan->flush->is_exact()) flush = std::chrono::seconds(plan->flush->seconds);
  if (context.line().has("flush")) {
    TRY_ASSIGN(flush, parse_duration(context.line().value("flush")));
  }
  if (flush < kFlushMin || flush > kFlushMax)
    return fail(ErrorKind::kUsage, "the flush interval lies between 1s and 1h", "", "--flush 1s");
  return flush;
}

// The plan that archives this resource; null if none does.
const PlanConfig* plan_of(const Config& config, const std::string& resource) {
  for (const PlanConfig* plan : config.plans_of(resource))
    if (plan->wal != WalMode::kNone) return plan;
  return nullptr;
}

void print_line(Console& console, const std::string& resource, const WalStreamState& state, bool ended) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/stream/1").field("resource", resource);
  json.field("state", ended ? "ended" : state.connected ? "streaming" : "away").field("server", state.server);
  json.field("timeline", state.timeline).field("received", postgres::format_lsn(state.received));
  json.field("durable", postgres::format_lsn(state.durable))
      .field("server_end", postgres::format_lsn(state.server_end))
      .field("lag_bytes", state.lag_bytes);
  json.key("rpo_seconds");
  if (state.rpo) json.value(*state.rpo);
  if (!state.rpo) json.null();
  json.field("synchronous", state.synchronous).field("slot_bytes", state.slot_bytes);
  json.field("parts", state.stored.parts).field("segments", state.stored.segments);
  json.field("slowest_seconds", std::chrono::duration<double>(state.stored.slowest).count()).end_object();
  console.print_document(json);
}

std::string shown(const WalStreamState& state) {
  const std::string rpo = state.rpo ? fmt::format("{:.1f} s", *state.rpo) : std::string("catching up");
  return fmt::format("timeline {} durable to {}, {} behind, RPO {}{}", state.timeline,
                     postgres::format_lsn(state.durable), format_size(state.lag_bytes), rpo,
                     state.synchronous ? ", synchronous" : "");
}

}  // namespace

Result<int> run_wal_stream(Context& context) {
  const Invocation& line = context.line();
  WalStreamRequest request{.resource = line.argument(0), .connect = {}, .progress = {}};
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(const ResourceConfig* resource, config->resource(request.resource));
  TRY(check_supported(*resource));
  if (resource->kind != ResourceKind::kPostgres)
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no PostgreSQL cluster", request.resource));
  TRY_ASSIGN(request.connect, resource->connect.fetch(context.world()));
  request.slot = line.value("slot");
  request.application_name = line.value("application-name");
  if (line.has("slot-warn")) {
    TRY_ASSIGN(request.slot_warn_bytes, parse_size(line.value("slot-warn")));
  }
  request.once = line.has("once");
  request.from_here = line.has("from-here");
  const PlanConfig* plan = plan_of(*config, request.resource);
  const bool named = line.has("vault");
  TRY_ASSIGN(const VaultChoice choice,
             context.choose_vault(!named && plan ? plan->vault : std::string(), request.resource));
  TRY_ASSIGN(request.flush, flush_of(context, plan, choice));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_for_wal(context, choice));

  Console& console = context.console();
  request.progress = [&](const WalStreamState& state) {
    if (console.json()) return print_line(console, request.resource, state, false);
    console.show_progress(shown(state));
  };
  TRY_ASSIGN(const WalStreamState state, stream_wal(*vault, request, console, context.stop()));
  if (console.json())
    print_line(console, request.resource, state, true);
  else
    console.print(fmt::format("{}: {} parts, {} segments stored; {}\n", request.resource, state.stored.parts,
                              state.stored.segments, shown(state)));
  return 0;
}

}  // namespace kuramori
