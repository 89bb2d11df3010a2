// What a verb's code is given: the command line as typed, where to print, and the configuration, read when it
// is first asked for. A command that names a vault's location and a key file reads none.
#pragma once
#include <optional>
#include <stop_token>
#include <string>

#include "api/command_line.h"
#include "base/world.h"
#include "cli/console.h"
#include "engine/vault_location.h"
#include "policy/config.h"
#include "vault/vault.h"

namespace kuramori {

// Where a vault is and what opens it.
struct VaultChoice {
  std::string name;      // of the configuration, "" when a location was given
  std::string location;  // "/srv/kuramori"
  std::string key_file;
  Setting passphrase;
  std::string ledger;                           // "" when the vault has one place
  std::shared_ptr<const StoreKeys> store_keys;  // null: the locations say where the credentials are

  const std::string& shown() const { return name.empty() ? location : name; }  // as people know it
};

class Context {
 public:
  Context(const Invocation& line, Console& console, Clock& clock, std::stop_token stop)
      : line_(line), console_(console), clock_(clock), stop_(std::move(stop)), world_(machine_world()) {}

  const Invocation& line() const { return line_; }
  Console& console() { return console_; }
  Clock& clock() { return clock_; }
  std::stop_token stop() const { return stop_; }
  const ConfigWorld& world() const { return world_; }

  // For the audit log (cli/auditing.h): the vaults this run opened, and what it was about where its arguments
  // do not say so.
  struct OpenedVault {
    VaultChoice choice;
    VaultId id;
    std::shared_ptr<const KeyBundle> keys;  // a passphrase is asked for and worked on once
  };
  void note_opened(const VaultChoice& choice, const Vault& vault);
  const std::vector<OpenedVault>& opened() const { return opened_; }
  void set_act_object(std::string object) { act_object_ = std::move(object); }
  const std::string& act_object() const { return act_object_; }
  // It was not done, and was right not to be: no act.
  void set_skipped() { is_skipped_ = true; }
  bool is_skipped() const { return is_skipped_; }

  // --config, else ./kuramori.yaml, else /etc/kuramori/kuramori.yaml. kUsage when there is none.
  Result<const Config*> config();
  // Null when there is no configuration or the command line makes one unnecessary.
  Result<const Config*> config_if_any();

  // --vault, else the vault of the resource's plan, else the only one configured. `wanted` overrides --vault
  // ("vault show NAME").
  Result<VaultChoice> choose_vault(const std::string& wanted = {}, const std::string& resource = {});
  // Every vault the command is about: --vault, or all that are configured.
  Result<std::vector<VaultChoice>> choose_vaults();
  // All of a configuration that was read anew.
  Result<std::vector<VaultChoice>> vaults_of(const Config& config);

 private:
  Result<VaultChoice> vault_of(const VaultConfig& vault);
  std::string key_file_given() const;  // --key-file, else KURAMORI_KEY_FILE

  const Invocation& line_;
  Console& console_;
  Clock& clock_;
  std::stop_token stop_;
  ConfigWorld world_;
  std::optional<Config> config_;
  std::vector<OpenedVault> opened_;
  std::string act_object_;
  bool is_skipped_ = false;
};

// "orders-db@3f2a" → {"orders-db", "3f2a"}; without @ the snapshot is "". Names hold no @.
struct ResourceAtSnapshot {
  std::string resource, snapshot;
};
Result<ResourceAtSnapshot> parse_resource_at_snapshot(const std::string& text);

}  // namespace kuramori
