// What `plan` shows and `apply` does: the configuration as it was applied, as it stands in the file, and what
// lies between.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "policy/change_plan.h"
#include "policy/config_text.h"
#include "policy/lint.h"
#include "vault/vault.h"

namespace kuramori {

// A vault of the configuration, as it was found, and which application of it stands there.
struct PlannedVault {
  VaultLook look;
  std::string id;  // of the vault; "" when it is not there
  std::optional<AppliedRecord> applied;
};

struct Planned {
  const Config* config = nullptr;
  std::string text;                      // canonical
  std::optional<AppliedRecord> applied;  // the newest of any vault
  std::optional<Config> before;          // the same, read; nothing also when it cannot be read any more
  std::string before_trouble;            // why not
  std::vector<ConfigChange> changes;
  std::vector<PlannedVault> vaults;  // in the order of the file
  std::vector<std::string> behind;   // vaults that are there and have not what was applied last
  ChangePlan plan;
  LintReport lint;
  // What the plan rests on, a line each: a saved plan is applied only while every one of them still holds.
  std::vector<std::string> basis;

  bool anything_to_do() const;
  // Vaults that did not answer: what is said is said without them.
  bool is_partial() const;
};

// Looks into every vault and changes nothing.
Result<Planned> make_plan(Context& context);
// Between two files alone; no vault is asked.
Result<std::vector<ConfigChange>> changes_against(Context& context, const std::string& other);

// kRefused, naming what moved, when the saved plan at `path` rests on something else.
Result<void> must_still_hold(const std::string& path, const Planned& planned);

void write_changes(JsonWriter& json, const std::vector<ConfigChange>& changes);
std::string shown_changes(const std::vector<ConfigChange>& changes);
void write_plan(JsonWriter& json, const Planned& planned);  // the whole document
std::string shown_plan(const Planned& planned);
// "number 4, 2026-… by root@db1"
std::string shown_applied(const AppliedRecord& applied);

}  // namespace kuramori
