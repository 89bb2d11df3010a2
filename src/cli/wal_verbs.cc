// archive_command and restore_command: once a segment, so they do the least — no configuration is read when a
// vault's location and a key file are given.
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "conc/guarded.h"
#include "daemon/job_journal.h"
#include "daemon/job_loop.h"
#include "daemon/noticer.h"
#include "daemon/own_daemon.h"
#include "daemon/serve.h"
#include "daemon/wal_client.h"
#include "daemon/web.h"
#include "engine/local_state.h"
#include "engine/wal.h"
#include "engine/wal_spool.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/process.h"
#include "os/user.h"

#ifndef KURAMORI_VERSION
#define KURAMORI_VERSION "0.1.0"
#endif

namespace kuramori {

namespace {

constexpr Duration kAppliedLookEvery = std::chrono::seconds(1);
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

// A daemon asks for a passphrase once, and opens its vaults anew now and then.
PassphraseSource remembered(PassphraseSource fetch) {
  auto kept = std::make_shared<Guarded<Secret>>();
  return [kept, fetch = std::move(fetch)]() -> Result<Secret> {
    auto known = kept->lock();
    if (known->empty()) {
      TRY_ASSIGN(*known, fetch());
    }
    return known->clone();
  };
}

// Of a daemon: which vaults it serves, and its plans, of the configuration as it was read last. Nothing is
// planned where none is read, nor by a daemon that recovery left for itself.
class PlansOfDaemon {
 public:
  PlansOfDaemon(Context& context, const Config* config, ServedVaults& vaults, Duration stop_within)
      : context_(context), config_(config), vaults_(vaults), stop_within_(stop_within) {}

  // From now on these vaults, and for these plans' WAL.
  Result<void> serve(const std::vector<VaultChoice>& choices, const Config* config);

  ServeRequest::Hooks hooks() {
    if (config_ == nullptr) return {};
    return {.listening = [this] { begin(*config_); },
            .hang_up = [this] { reload(); },
            .is_applied = [this] { return take_applied(); },
            .stopping =
                [this] {
                  if (loop_) loop_->stop();
                },
            .is_alive =
                [this] {
                  if (web_) web_->still_here();
                  return is_well() && (!noticer_ || noticer_->is_alive());
                }};
  }

 private:
  Result<Config> read() const { return load_config(config_->path, context_.world()); }
  bool is_well() const {
    const JobLoop* loop = running_.load();
    return loop == nullptr || loop->is_alive();
  }
  Result<Config> load();
  Result<std::unique_ptr<Vault>> open(const std::string& name);
  void begin(const Config& config) {
    begin_jobs(config);
    show(config);
    notice(config);
  }
  void notice(const Config& config) {
    if (noticer_ || (config.notify.empty() && !config.heartbeat && config.pings.empty())) return;
    noticer_.emplace(NoticerSettings{.program = this_program(),
                                     .config_path = config.path,
                                     .key_file = context_.line().value("key-file"),
                                     .state_folder = state_folder(),
                                     .load_config = [this] { return read(); },
                                     .is_well = [this] { return is_well(); }},
                     config, context_.console());
  }
  void show(const Config& config) {
    if (!web_ && config.listen)
      web_.emplace(WebSettings{.version = KURAMORI_VERSION,
                               .program = this_program(),
                               .config_path = config.path,
                               .key_file = context_.line().value("key-file"),
                               .state_folder = state_folder()},
                   context_.console());
    if (!web_) return;
    web_->set_jobs(loop_ ? &*loop_ : nullptr);
    web_->use(config);
  }
  void begin_jobs(const Config& config) {
    if (loop_ || !has_work(config)) return;
    JobLoopSettings settings{.program = this_program(),
                             .config_path = config.path,
                             .key_file = context_.line().value("key-file"),
                             .state_folder = state_folder(),
                             .load_config = [this] { return load(); },
                             .applied = [this] { applied_ = true; },
                             .open_vault = [this](const std::string& name) { return open(name); },
                             .stop_within = stop_within_};
    loop_.emplace(std::move(settings), config, context_.console());
    running_ = &*loop_;
  }
  bool take_applied();
  // One that had nothing to do may have now.
  void reload() {
    if (loop_) loop_->reload();
    if (noticer_) noticer_->reload();
    auto config = load();
    if (config) return begin(*config);
    // The loop says so itself.
    if (!loop_)
      context_.console().warning(fmt::format("the new configuration is not used: {}", config.error().what));
  }

  Context& context_;
  const Config* config_;
  ServedVaults& vaults_;
  Duration stop_within_;
  Guarded<std::map<std::string, VaultAddress>> addresses_;  // by name
  std::atomic<bool> applied_ = false;
  Duration applied_look_at_{0};
  std::optional<JobLoop> loop_;
  std::atomic<JobLoop*> running_ = nullptr;  // the same, for another thread
  std::optional<Web> web_;                   // both end before the loop they ask
  std::optional<Noticer> noticer_;
};

Result<void> PlansOfDaemon::serve(const std::vector<VaultChoice>& choices, const Config* config) {
  const auto archives = archives_of(config);
  std::map<std::string, VaultAddress> addresses;
  std::vector<ServedVault> served;
  for (const VaultChoice& choice : choices) {
    ServedVault vault{.name = choice.name,
                      .location = choice.location,
                      .key_file = real_path(choice.key_file),
                      .archives = {},
                      .open = {}};
    for (const auto& [name, resources] : archives)
      if (!choice.name.empty() && name == choice.name) vault.archives = resources;
    VaultAddress address = address_of(context_, choice);
    address.passphrase = remembered(std::move(address.passphrase));
    addresses[choice.name] = address;
    address.purpose = VaultAddress::For::kWalAlone;
    vault.open = [address = std::move(address)] { return open_vault(address); };
    served.push_back(std::move(vault));
  }
  *addresses_.lock() = std::move(addresses);
  vaults_.replace(std::move(served));
  return {};
}

// The job loop hears of it. A daemon without one looks itself, and takes no wish from a daemon that has one.
bool PlansOfDaemon::take_applied() {
  if (applied_.exchange(false)) return true;
  const Duration now = context_.clock().steady();
  if (loop_ || now < applied_look_at_) return false;
  applied_look_at_ = now + kAppliedLookEvery;
  const auto taken = [&]() -> Result<bool> {
    const std::string path = join_path(state_folder(), kJobJournalFile);
    TRY_ASSIGN(const auto there, status_if_there(path));
    if (!there) return false;
    TRY_ASSIGN(const auto journal, JobJournal::open_to_read(path));
    TRY_ASSIGN(const bool waits, journal->is_reload_asked());
    if (!waits) return false;
    TRY_ASSIGN(const auto lock, FileLock::try_acquire(join_path(state_folder(), kJobLockFile)));
    if (!lock) return false;
    return journal->take_reload();
  }();
  return taken && *taken;  // the next time, then
}

Result<Config> PlansOfDaemon::load() {
  TRY_ASSIGN(Config config, read());
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context_.vaults_of(config));
  TRY(serve(choices, &config));
  return config;
}

Result<std::unique_ptr<Vault>> PlansOfDaemon::open(const std::string& name) {
  const VaultAddress address = addresses_.with([&](const auto& addresses) {
    const auto at = addresses.find(name);
    return at == addresses.end() ? VaultAddress{} : at->second;
  });
  if (address.location.empty()) return fail(ErrorKind::kUsage, fmt::format("there is no vault \"{}\"", name));
  return open_vault(address);
}

}  // namespace

Result<int> run_serve(Context& context) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
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
  ServedVaults vaults({}, config != nullptr ? real_path(config->path) : std::string());
  PlansOfDaemon plans(context, runs_plans ? config : nullptr, vaults,
                      stop_within);  // ends before what it keeps up
  TRY(plans.serve(choices, config));
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
