// Where a restore may write: a target that is absent or empty; never a running server's directory, never a
// foreign cluster's, never a mount point's root moved away (P45); tablespaces beside the target unless
// mapped, never at their original paths unasked (P48, P13); owned by the server's user and closed to others
// (P55).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/world.h"
#include "source/postgres/sandbox_process.h"

namespace kuramori::postgres {

enum class TargetUse : uint8_t {
  kNew,        // must be absent or empty
  kOverwrite,  // a stopped cluster of the same system may be there: it is moved aside, whole
  kDelta,      // a stopped cluster of the same system may be there: it is changed in place
};
enum class TargetState : uint8_t { kAbsent, kEmpty, kStoppedCluster };

// kRefused in words if `path` may not be used so. `system_id`: of the snapshot.
Result<TargetState> check_target(const std::string& path, uint64_t system_id, TargetUse use);
// "/data/main" → "/data/main.old-20261121T120000Z", durably; kRefused for a mount point (P45).
Result<std::string> move_aside(const std::string& path, Time now);

// A server that uses this data directory: its pid. Found by its working folder, so neither a stale
// postmaster.pid nor a removed one misleads; also by living backends that hold its shared memory.
Result<std::optional<pid_t>> running_server(const std::string& data_directory);

// --- tablespaces ---------------------------------------------------------------------------------------
struct Tablespace {
  uint32_t oid = 0;
  std::string original;   // where it was on the source
  std::string place;      // where it is restored to
  bool in_place = false;  // a folder of pg_tblspc itself: nothing to map
};
// `tablespace_map` as pg_backup_stop gave it; `mapping`: OLD=NEW pairs, by path or by oid. Unmapped ones go
// to
// "<target>.tablespaces/<oid>". kUsage for a mapping that matches none, two to one place, a relative place;
// kRefused for a place that is not empty or inside the target's original directory. What the target's own
// links lead to may hold data already where kMayHoldData says so: it is changed in place, or an interrupted
// restore goes on.
enum class LinkedPlace { kMustBeEmpty, kMayHoldData };
Result<std::vector<Tablespace>> place_tablespaces(
    std::string_view tablespace_map, const std::string& target,
    const std::vector<std::pair<std::string, std::string>>& mapping,
    const std::string& original_data_directory, LinkedPlace linked = LinkedPlace::kMustBeEmpty);
// Writes tablespace_map and the links of pg_tblspc, and makes the places; links to other tablespaces go: the
// server would clean up unlogged relations behind them too. Recovery makes the links anew from
// tablespace_map, so that must name the new places too (P13).
Result<void> link_tablespaces(const std::string& data_directory, const std::vector<Tablespace>& tablespaces);
// kRefused, naming the link, if anything of the data directory leads to `forbidden` or, for a link of
// pg_tblspc or pg_wal, outside `allowed`.
Result<void> check_no_way_out(const std::string& data_directory, const std::vector<std::string>& allowed);

// --- owner ---------------------------------------------------------------------------------------------
// Whom a data directory must belong to: as root the user `name` (by default postgres), otherwise ourselves.
Result<Account> server_account(std::string_view name = "postgres");
// `path` and all below it, never through a link; the top folder 0700 (0750 if `group_access`).
Result<void> give_to(const std::string& path, Account account, bool group_access);

}  // namespace kuramori::postgres
