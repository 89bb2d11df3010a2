// What this machine remembers between runs: which vault objects were last found whole, and the newest commit
// it has seen of each resource. A cache in SQLite: losing it costs a longer scrub and a shorter memory, never
// truth.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vault/scrub.h"
#include "vault/vault.h"

namespace kuramori {

class Database;

// KURAMORI_STATE, else STATE_DIRECTORY (systemd), else XDG_STATE_HOME/kuramori, else ~/.local/state/kuramori.
std::string state_folder();

class LocalState {
 public:
  // Made if absent. A file that is damaged is set aside and begun anew (it is a cache).
  static Result<std::unique_ptr<LocalState>> open(const std::string& folder);
  ~LocalState();

  Result<std::vector<RememberedHead>> heads(const VaultId& vault);
  Result<void> remember_head(const VaultId& vault, const ResourceId& resource, const std::string& commit,
                             const Digest& digest);
  Result<std::map<std::string, int64_t>> last_verified(const VaultId& vault);
  // When `replica` (its location) last held everything of `vault` that it should.
  Result<std::optional<Time>> last_copied(const VaultId& vault, const std::string& replica);
  Result<void> set_copied(const VaultId& vault, const std::string& replica, Time when);
  Result<void> set_verified(const VaultId& vault, const std::vector<std::string>& objects, Time when);
  // The audit log's chains, as far as this machine has seen them.
  Result<std::vector<AuditHead>> audit_heads(const VaultId& vault);
  Result<void> remember_audit_head(const VaultId& vault, const AuditHead& head);
  // Acts that could not be put into the log yet, oldest first.
  struct PendingAct {
    int64_t id = 0;
    Time at;
    AuditAct act;
  };
  Result<std::vector<PendingAct>> pending_acts(const VaultId& vault);
  Result<void> add_pending_act(const VaultId& vault, Time at, const AuditAct& act);
  Result<void> drop_pending_act(int64_t id);
  // Of objects that are no longer there, or no longer whole.
  Result<void> forget_verified(const VaultId& vault, const std::vector<std::string>& objects);

 private:
  explicit LocalState(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
};

struct ScrubRequest {
  std::optional<Duration> budget;  // of time, for packs and WAL
  std::optional<Duration> every;   // only what was not found whole for so long; nothing: all
};
// Scrubs with this machine's memory: least recently verified first, and heads that were seen must still be
// there. What was found whole is remembered as it goes, so that a run that is killed is gone on with. Without
// a state folder that can be written it goes on, and says so.
Result<ScrubResult> scrub_vault(Vault& vault, const ScrubRequest& request, Reporter& reporter,
                                std::stop_token stop);
// Remembers the newest commit of every resource in the list; a failure is only a note.
struct SnapshotList;
void remember_heads(Vault& vault, const SnapshotList& list, Reporter& reporter);

}  // namespace kuramori
