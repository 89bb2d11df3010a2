// A spool: the WAL one recovery needs, fetched beside the restored directory in advance, so that recovery
// needs neither vault nor key nor network.
#pragma once
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "engine/wal.h"
#include "source/postgres/target.h"
#include "source/postgres/wal_reader.h"

namespace kuramori {

constexpr std::string_view kSpoolFolder = ".kuramori-wal";  // appended to the restored directory's own path

// Every segment and history file that recovery will ask for, fetched in parallel into `folder`.
Result<void> fill_spool(Vault& vault, const LoadedArchive& loaded, const postgres::RecoveryPlan& plan,
                        const std::string& folder, unsigned workers, Reporter& reporter,
                        std::stop_token stop);
// Replay of CREATE TABLESPACE makes its link to the very folder the original used, wherever the copy stands.
// kRefused when the spooled WAL, `from` on, does so for a folder that holds something here: it may be the
// original's own (P48).
Result<void> refuse_live_places(const postgres::RecoveryPlan& plan, postgres::Lsn from,
                                const std::string& folder, uint32_t segment_bytes, Reporter& reporter);
// Every record of the spooled WAL, in order, from its first segment's first record up to where recovery ends;
// `see` returns false to stop.
Result<void> scan_spool(const postgres::RecoveryPlan& plan, const std::string& folder, uint32_t segment_bytes,
                        const postgres::SeeRecord& see);
// Answers restore_command from it, by the same rule as for a vault: 0, 1 or 200 (P44).
int get_from_spool(const std::string& folder, const std::string& name, const std::string& path,
                   std::string& why);

}  // namespace kuramori
