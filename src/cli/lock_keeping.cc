#include "cli/lock_keeping.h"

#include <fmt/core.h>

#include <algorithm>

#include "engine/locks.h"
#include "policy/lock_rules.h"

namespace kuramori {

Result<int> keep_locked(Context& context, const VaultChoice& choice, Vault& vault) {
  TRY_ASSIGN(const std::optional<Period> lock, lock_of(choice.location));
  if (!lock) return 0;
  TRY_ASSIGN(const Config* config, context.config_if_any());
  const LockOptions options{.lock = *lock,
                            .ahead_max = locked_ahead_max(config, choice.name, *lock, context.clock().now()),
                            .stop = context.stop()};
  Console& console = context.console();
  TRY_ASSIGN(const LockReport report, extend_locks(vault, options, console));
  for (const std::string& one : report.beyond) console.warning(one);
  console.note(fmt::format("locks: {} objects looked at, {} extended", report.looked_at, report.extended));
  if (report.denied > 0)
    console.warning(fmt::format("{} locks could not be extended: {}", report.denied, report.first_denied));
  return report.denied > 0 || report.unread > 0 ? exit_code(ErrorKind::kPartial) : 0;
}

Result<void> follow_hold(Context& context, Vault& vault, const Snapshot& snapshot, const std::string& name,
                         bool on) {
  const bool held_otherwise =
      std::ranges::any_of(snapshot.holds, [&](const HoldRecord& hold) { return hold.name != name; });
  if (!on && held_otherwise) return {};
  const Result<uint64_t> done = hold_in_store(vault, snapshot, on);
  if (done) return {};
  if (done.error().kind != ErrorKind::kDenied) return done.error();
  context.console().note(
      fmt::format("only the vault's own hold was {}: the store lets these credentials change none",
                  on ? "placed" : "removed"));
  return {};
}

Result<void> say_remarks(Context& context) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (!config) return {};
  for (const std::string& remark : config->remarks) context.console().note(remark);
  return {};
}

}  // namespace kuramori
