#include "engine/audit.h"

#include <fmt/core.h>
#include <unistd.h>

#include "engine/local_state.h"
#include "engine/open_vault.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/user.h"

namespace kuramori {
namespace {

constexpr Duration kTurnLimit = std::chrono::seconds(20);

std::string user_name() {
  auto user = user_of_uid(geteuid());
  return user ? user->name : fmt::format("uid {}", geteuid());
}

std::string sentence(const Error& error) {
  return error.what + (error.why.empty() ? "" : ": " + error.why);
}

// What other chains end with, as far as they can be read.
std::vector<AuditHead> other_heads(Vault& vault) {
  auto heads = newest_heads(vault);
  return heads ? std::move(*heads) : std::vector<AuditHead>();
}

Result<void> append(Vault& vault, LocalState* state, const AuditAct& act, Time when,
                    std::vector<AuditHead> heads) {
  const SignerId self = signer_id(vault.keys().signing->verify_key());
  std::erase_if(heads, [&](const AuditHead& head) { return head.signer == self; });
  std::optional<AuditHead> known;
  if (state != nullptr) {
    if (auto seen = state->audit_heads(vault.info().id)) {
      for (const AuditHead& head : *seen)
        if (head.signer == self) known = head;
    }
  }
  TRY_ASSIGN(const AuditHead head, append_act(vault, act, when, known, heads));
  if (state != nullptr) (void)state->remember_audit_head(vault.info().id, head);
  return {};
}

}  // namespace

void keep_act(const VaultId& vault, AuditAct act, Time when, const Error& why, Reporter& reporter) {
  if (act.host.empty()) act.host = host_name();
  if (act.user.empty()) act.user = user_name();
  auto state = LocalState::open(state_folder());
  auto kept = state ? (*state)->add_pending_act(vault, when, act) : Result<void>(state.error());
  reporter.warning(
      kept ? fmt::format("not in the audit log yet: {}; the next run on this machine puts it there",
                         sentence(why))
           : fmt::format("not in the audit log: {}; nor kept here until it can be: {}", sentence(why),
                         sentence(kept.error())));
}

void record_act(Vault& vault, AuditAct act, Tie tie, Reporter& reporter) {
  act.host = host_name();
  act.user = user_name();
  const Time when = vault.clock().now();
  auto opened = LocalState::open(state_folder());
  LocalState* state = opened ? opened->get() : nullptr;
  // Processes of this machine take turns: where the objects' place ignores "create only", two of them must
  // not choose one number, and elsewhere the second would have to look again.
  std::optional<FileLock> turn;
  if (state != nullptr) {
    auto mine = FileLock::acquire(join_path(state_folder(), "audit.lock"), kTurnLimit);
    if (mine) turn = std::move(*mine);
  }
  const std::vector<AuditHead> heads =
      tie == Tie::kOtherChains ? other_heads(vault) : std::vector<AuditHead>();
  if (state != nullptr) {
    if (auto pending = state->pending_acts(vault.info().id)) {
      for (const LocalState::PendingAct& one : *pending) {
        if (!append(vault, state, one.act, one.at, {})) break;
        (void)state->drop_pending_act(one.id);
      }
    }
  }
  if (auto put = append(vault, state, act, when, heads); !put)
    keep_act(vault.info().id, std::move(act), when, put.error(), reporter);
}

Result<AuditLook> look_at_audit(Vault& vault) {
  AuditLook look;
  std::vector<AuditHead> remembered;
  auto state = LocalState::open(state_folder());
  if (state) {
    TRY_ASSIGN(remembered, (*state)->audit_heads(vault.info().id));
    TRY_ASSIGN(const auto pending, (*state)->pending_acts(vault.info().id));
    look.pending = pending.size();
  } else {
    look.not_remembered = sentence(state.error());
  }
  look.remembered = remembered.size();
  TRY_ASSIGN(look.reading, read_audit(vault, remembered));
  if (state && look.reading.findings.empty()) {
    for (const AuditHead& head : look.reading.heads)
      TRY((*state)->remember_audit_head(vault.info().id, head));
  }
  return look;
}

}  // namespace kuramori
