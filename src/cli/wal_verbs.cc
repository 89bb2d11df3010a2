// archive_command and restore_command: once a segment, so they do the least — no configuration is read when a
// vault's location and a key file are given.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "conc/guarded.h"
#include "daemon/job_loop.h"
#include "daemon/own_daemon.h"
#include "daemon/serve.h"
#include "daemon/wal_client.h"
#include "engine/local_state.h"
#include "engine/wal.h"
#include "engine/wal_spool.h"
#include "os/process.h"
#include "os/user.h"

namespace kuramori {

namespace {

constexpr Duration kStopWithin = std::chrono::seconds(45);  // a service manager waits 90 s

// The resources that plans archive into each vault, by the vault's name, in the order of the plans.
std::vector<std::pair<std::string, std::vector<std::string>>> archives_of(const Config* config) {
  std::vector<std::pair<std::string, std::vector<std::string>>> found;
  if (config == nullptr) return found;
  for (const PlanConfig& plan : config->plans) {
    if (plan.wal == WalMode::kNone) continue;
    for (const std::string& name : plan.resources) {
      auto resource = config->resource(name);
      if (!resource || (*resource)->kind != ResourceKind::kPostgres) continue;
      auto at = std::ranges::find(found, plan.vault, [](auto& entry) { return entry.first; });
      if (at == found.end()) at = found.insert(found.end(), {plan.vault, {}});
      at->second.push_back(name);
    }
  }
  return found;
}

// The vault that this server's plan archives into. Another may hold copies of the same server's WAL, so the
// resource it finds there must be of a plan of that vault.
Result<std::unique_ptr<Vault>> vault_of_server(Context& context, WalPushRequest& request) {
  TRY_ASSIGN(const Config* config, context.config());
  std::optional<Error> trouble;
  for (const auto& archive : archives_of(config)) {
    auto look = [&]() -> Result<std::unique_ptr<Vault>> {
      TRY_ASSIGN(VaultChoice choice, context.choose_vault(archive.first));
      TRY_ASSIGN(std::unique_ptr<Vault> vault, open_for_wal(context, choice));
      request.configured = archive.second;
      TRY_ASSIGN(request.resource, resource_of_server(*vault, request));
      return vault;
    };
    auto vault = look();
    if (vault && !request.resource.empty()) return vault;
    // One that is away may be the one.
    if (!vault && !trouble) trouble = std::move(vault).error();
  }
  if (trouble) return std::move(*trouble);
  return fail(
      ErrorKind::kRefused, "no vault that plans archive into knows this server",
      "WAL is filed under the resource whose system identifier it carries",
      "take a first snapshot (kuramori backup RESOURCE), or name it: kuramori wal push --resource NAME %p");
}

DaemonWords daemon_words(const Context& context) {
  const Invocation& line = context.line();
  const char* key_file = std::getenv("KURAMORI_KEY_FILE");
  return {.socket = line.value("socket"),
          .vault = line.value("vault"),
          .key_file = line.has("key-file")  ? line.value("key-file")
                      : key_file != nullptr ? key_file
                                            : "",
          .config = line.value("config"),
          .resource = line.value("resource"),
          .promise = line.value("promise")};
}

int say_pushed(Context& context, const WalPushOutcome& outcome) {
  context.console().detail(fmt::format("{}: {} bytes of {} {}", outcome.resource, outcome.bytes,
                                       context.line().argument(0),
                                       outcome.put == WalPut::kStored ? "stored" : "were there already"));
  return 0;
}

int say_got(Context& context, const postgres::GetDecision& decision) {
  if (decision.answer != postgres::Get::kFound)
    context.console().note(fmt::format("{}: {}", context.line().argument(0), decision.why));
  return decision.exit_status();
}

// The plans' half of the daemon: nothing where no configuration is read, and not for a daemon that recovery
// left for itself.
class PlansOfDaemon {
 public:
  PlansOfDaemon(Context& context, const Config* config, Duration stop_within)
      : context_(context), config_(config), stop_within_(stop_within) {}

  ServeRequest::Hooks hooks() {
    if (config_ == nullptr) return {};
    return {.listening = [this] { begin(*config_); },
            .hang_up = [this] { reload(); },
            .stopping =
                [this] {
                  if (loop_) loop_->stop();
                },
            .is_alive = [this] { return !loop_ || loop_->is_alive(); }};
  }

 private:
  Result<Config> load() const { return load_config(config_->path, context_.world()); }
  void begin(const Config& config) {
    if (!has_work(config)) return;
    JobLoopSettings settings{.program = this_program(),
                             .config_path = config.path,
                             .key_file = context_.line().value("key-file"),
                             .state_folder = state_folder(),
                             .load_config = [this] { return load(); },
                             .stop_within = stop_within_};
    loop_.emplace(std::move(settings), config, context_.console());
  }
  // One that had nothing to do may have now.
  void reload() {
    if (loop_) return loop_->reload();
    auto config = load();
    if (config) return begin(*config);
    context_.console().warning(fmt::format("the new configuration is not used: {}", config.error().what));
  }

  Context& context_;
  const Config* config_;
  Duration stop_within_;
  std::optional<JobLoop> loop_;
};

}  // namespace

Result<int> run_serve(Context& context) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  auto archives = archives_of(config);
  TRY_ASSIGN(std::vector<VaultChoice> choices, context.choose_vaults());
  std::vector<ServedVault> served;
  for (VaultChoice& choice : choices) {
    ServedVault vault{.name = choice.name,
                      .location = choice.location,
                      .key_file = real_path(choice.key_file),
                      .archives = {},
                      .open = {}};
    for (auto& [name, resources] : archives)
      if (!choice.name.empty() && name == choice.name) vault.archives = resources;
    // Opened anew now and then: a passphrase is asked for once.
    vault.open = [&context, &choice, kept = std::make_shared<Guarded<Secret>>()] {
      VaultAddress address = address_of(context, choice);
      address.purpose = VaultAddress::For::kWalAlone;
      address.passphrase = [kept, fetch = address.passphrase]() -> Result<Secret> {
        auto known = kept->lock();
        if (known->empty()) {
          TRY_ASSIGN(*known, fetch());
        }
        return known->clone();
      };
      return open_vault(address);
    };
    served.push_back(std::move(vault));
  }
  ServedVaults vaults(std::move(served), config != nullptr ? real_path(config->path) : std::string());
  ServeRequest request{
      .socket = socket_path(context.line().value("socket")), .group = {}, .idle_max = own_daemon_idle()};
  if (context.line().has("group")) {
    TRY_ASSIGN(request.group, gid_of_name(context.line().value("group")));
  }
  Duration stop_within = kStopWithin;
  if (context.line().has("stop-within")) {
    TRY_ASSIGN(stop_within, parse_duration(context.line().value("stop-within")));
  }
  const bool runs_plans = !request.idle_max && !context.line().has("vault");
  PlansOfDaemon plans(context, runs_plans ? config : nullptr, stop_within);
  request.hooks = plans.hooks();
  TRY(serve(vaults, request, context.console(), context.stop()));
  return 0;
}

Result<int> run_wal_push(Context& context) {
  auto said = push_through_daemon(daemon_words(context), context.line().argument(0));
  if (said.answer) {
    TRY_ASSIGN(WalPushOutcome outcome, std::move(*said.answer));
    return say_pushed(context, outcome);
  }
  if (!said.trouble.empty()) context.console().note(said.trouble);
  WalPushRequest request{.path = context.line().argument(0), .resource = context.line().value("resource")};
  request.may_register = !request.resource.empty();
  std::unique_ptr<Vault> vault;
  const bool named = context.line().has("vault") || !request.resource.empty();
  TRY_ASSIGN(const Config* config, context.config_if_any());
  auto archives = archives_of(config);
  if (!named && archives.size() > 1) {
    TRY_ASSIGN(vault, vault_of_server(context, request));
  } else {
    // Of several vaults the one that plans archive into; the others hold copies.
    const std::string only = !named && archives.size() == 1 ? archives.front().first : std::string();
    TRY_ASSIGN(VaultChoice choice, context.choose_vault(only, request.resource));
    TRY_ASSIGN(vault, open_for_wal(context, choice));
    // Which resources archive into this vault, should the server be new to it.
    for (auto& [name, resources] : archives) {
      if (name == choice.name && request.resource.empty()) request.configured = std::move(resources);
    }
  }
  TRY_ASSIGN(WalPushOutcome outcome, push_wal(*vault, request));
  return say_pushed(context, outcome);
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
  auto said = get_through_daemon(daemon_words(context), request.name, request.path);
  if (said.answer) return say_got(context, *said.answer);
  if (!said.trouble.empty()) context.console().note(said.trouble);
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, request.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_for_wal(context, choice));
  return say_got(context, get_wal_file(*vault, request));
}

}  // namespace kuramori
