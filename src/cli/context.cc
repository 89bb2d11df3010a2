#include "cli/context.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "engine/open_vault.h"

namespace kuramori {
namespace {

constexpr const char* kHere = "kuramori.yaml";
constexpr const char* kSystem = "/etc/kuramori/kuramori.yaml";

bool is_location(std::string_view text) {
  return text.find('/') != text.npos || text == "." || text == ".." || text.starts_with("rclone:");
}

std::string absolute_location(std::string_view text) {
  if (text.starts_with("rclone:") || (text.find("://") != text.npos && !text.starts_with("file://")))
    return std::string(text);
  if (text.starts_with("file://")) text.remove_prefix(7);
  std::error_code ignored;
  return std::filesystem::absolute(std::string(text), ignored).lexically_normal().string();
}

}  // namespace

std::string Context::key_file_given() const {
  if (line_.has("key-file")) return line_.value("key-file");
  const char* from_environment = std::getenv("KURAMORI_KEY_FILE");
  return from_environment ? from_environment : "";
}

void Context::note_opened(const VaultChoice& choice, const Vault& vault) {
  const auto same = [&](const OpenedVault& one) { return one.id == vault.info().id; };
  if (std::ranges::any_of(opened_, same)) return;
  opened_.push_back({choice, vault.info().id, std::make_shared<KeyBundle>(vault.keys().clone())});
}

Result<const Config*> Context::config() {
  if (config_) return &*config_;
  std::string path = line_.value("config");
  if (path.empty()) path = access(kHere, F_OK) == 0 ? kHere : access(kSystem, F_OK) == 0 ? kSystem : "";
  if (path.empty())
    return fail(ErrorKind::kUsage, "there is no configuration",
                fmt::format("neither ./{} nor {} exists", kHere, kSystem),
                "name one with --config FILE, or a vault with --vault LOCATION --key-file FILE");
  TRY_ASSIGN(config_, load_config(path, world_));
  return &*config_;
}

Result<const Config*> Context::config_if_any() {
  bool location_is_enough = is_location(line_.value("vault")) && !key_file_given().empty();
  if (!line_.has("config") &&
      (location_is_enough || (access(kHere, F_OK) != 0 && access(kSystem, F_OK) != 0)))
    return nullptr;
  return config();
}

Result<VaultChoice> Context::vault_of(const VaultConfig& vault) {
  TRY_ASSIGN(VaultPlaces places, places_of(vault, world_));
  VaultChoice choice{vault.name,       std::move(places.objects), key_file_given(),
                     vault.passphrase, std::move(places.ledger),  std::move(places.keys)};
  if (choice.key_file.empty()) choice.key_file = vault.key_file;
  if (choice.key_file.empty())
    return fail(ErrorKind::kUsage, fmt::format("vault \"{}\" has no key file", vault.name),
                "its key_file is not set", "add key_file: FILE to it, or give --key-file FILE");
  return choice;
}

Result<VaultChoice> Context::choose_vault(const std::string& wanted_name, const std::string& resource) {
  std::string wanted = wanted_name.empty() ? line_.value("vault") : wanted_name;
  if (is_location(wanted)) {
    TwoLocations places = split_location(wanted);
    VaultChoice choice{"", absolute_location(places.objects), key_file_given(), {}, "", nullptr};
    if (!places.ledger.empty()) choice.ledger = absolute_location(places.ledger);
    if (!choice.key_file.empty()) return choice;
    // Without a key on the command line, a configured vault at this place has one.
    TRY_ASSIGN(const Config* config, config_if_any());
    if (config)
      for (const VaultConfig& vault : config->vaults)
        if (vault.at == choice.location) return vault_of(vault);
    return fail(ErrorKind::kUsage, fmt::format("there is no key for the vault at {}", choice.location),
                "neither --key-file nor KURAMORI_KEY_FILE is given", "add --key-file FILE");
  }
  TRY_ASSIGN(const Config* config, this->config());
  if (!wanted.empty()) {
    TRY_ASSIGN(const VaultConfig* vault, config->vault(wanted));
    return vault_of(*vault);
  }
  if (!resource.empty()) {
    for (const PlanConfig* plan : config->plans_of(resource)) {
      if (line_.has("plan") && plan->name != line_.value("plan")) continue;
      TRY_ASSIGN(const VaultConfig* vault, config->vault(plan->vault));
      return vault_of(*vault);
    }
  }
  if (config->vaults.size() == 1) return vault_of(config->vaults.front());
  return fail(ErrorKind::kUsage,
              config->vaults.empty() ? "no vault is configured" : "it is not clear which vault is meant",
              resource.empty() ? "" : fmt::format("no plan names a vault for \"{}\"", resource),
              "add --vault NAME");
}

Result<std::vector<VaultChoice>> Context::choose_vaults() {
  std::vector<VaultChoice> out;
  if (line_.has("vault")) {
    TRY_ASSIGN(VaultChoice one, choose_vault());
    out.push_back(std::move(one));
    return out;
  }
  TRY_ASSIGN(const Config* config, this->config());
  return vaults_of(*config);
}

Result<std::vector<VaultChoice>> Context::vaults_of(const Config& config) {
  std::vector<VaultChoice> out;
  for (const VaultConfig& vault : config.vaults) {
    TRY_ASSIGN(VaultChoice one, vault_of(vault));
    out.push_back(std::move(one));
  }
  if (out.empty())
    return fail(ErrorKind::kUsage, "no vault is configured", fmt::format("{} has no vaults", config.path),
                "add one under vaults:");
  return out;
}

Result<ResourceAtSnapshot> parse_resource_at_snapshot(const std::string& text) {
  size_t at = text.find('@');
  ResourceAtSnapshot out{text.substr(0, at), at == text.npos ? "" : text.substr(at + 1)};
  bool good = !out.resource.empty() && (at == text.npos || !out.snapshot.empty()) &&
              out.snapshot.find('@') == out.snapshot.npos;
  if (good) return out;
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" names no resource", text.substr(0, 60)), "",
              "write RESOURCE, RESOURCE@latest or RESOURCE@ID");
}

}  // namespace kuramori
