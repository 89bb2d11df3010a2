// The WAL archive in a vault: pushing what PostgreSQL hands over, fetching what recovery asks for, and the
// archive as the PostgreSQL code wants to see it. No libpq here: the static client links this.
#pragma once
#include <string>

#include "os/file.h"
#include "source/postgres/archive.h"
#include "source/postgres/archive_get.h"
#include "source/postgres/control_file.h"
#include "source/postgres/earlier_wal.h"
#include "vault/wal_object.h"

namespace kuramori {

struct WalPushRequest {
  std::string path;            // %p: relative to the data directory, or absolute
  std::string data_directory;  // whose global/pg_control says which system it is; "" — the working folder
  std::string resource;        // "" — found by the system id
  bool may_register = false;   // make the resource's record when the vault has none of that name yet
  // Names configured for this vault: if the system is not known yet and exactly one of them has no record
  // yet, it is that one (archiving usually begins before the first snapshot).
  std::vector<std::string> configured;
};
struct WalPushOutcome {
  std::string resource;
  WalPut put = WalPut::kStored;
  uint64_t bytes = 0;
};
// Which of `configured` the server is whose WAL it is; "" when none of them is known to be it.
Result<std::string> resource_of_server(Vault& vault, const WalPushRequest& request);
// The same by the system id alone.
Result<std::string> resource_of_system(Vault& vault, uint64_t system_id,
                                       const std::vector<std::string>& configured);
// The one resource of this system that a push may go to, by `request`'s resource, may_register and
// configured; kRefused in words when there is none, or more than one.
Result<ResourceRecord> resource_to_push_to(Vault& vault, uint64_t system_id, const WalPushRequest& request);
// What a push works with, kept by whoever pushes one file after the other: the first touch of memory is a
// tenth of a push. For one push at a time.
struct WalPushTools {
  AlignedBuffer file;
  FrameWorkshop frames{kZstdLevel};
  size_t helpers_max = kWalHelpersMax;
};
// The core of every push: `file` is read whole, held against its name and the resource's system, and durable
// in the vault when this returns (P28). What it changes is kept with it, as far as `earlier` reaches back.
Result<WalPut> push_wal_file(Vault& vault, const ResourceRecord& resource, uint32_t segment_bytes,
                             const Fd& file, const std::string& name, const postgres::ReadEarlierWal& earlier,
                             WalPushTools& tools);
// Returns only when the file is durable in the vault (P28).
Result<WalPushOutcome> push_wal(Vault& vault, const WalPushRequest& request);
// Whoever runs beside the server does this when a segment of pg_wal is durable, before PostgreSQL hears that
// it may remove it.
void keep_tail_of(const std::string& path, const postgres::ControlFile& control);
// The same for a file whose bytes are at hand. `earlier`: the WAL before it, where that is at hand too.
Result<WalPut> push_wal_bytes(Vault& vault, const ResourceRecord& resource, std::string_view file,
                              ByteView content, const postgres::ReadEarlierWal& earlier = {});
// What a whole segment changes, for put_wal(). A segment that cannot be scanned is archived without.
WalChanges changes_of_segment(const WalHeader& header, ByteView content,
                              const postgres::ReadEarlierWal& earlier);

// The archive of a resource, from its listing and its history files. `segment_bytes` 0: taken from the
// listing.
struct LoadedArchive {
  postgres::Archive archive;
  std::vector<WalObject> objects;  // by the archive's piece numbers
};
Result<LoadedArchive> load_archive(Vault& vault, const ResourceRecord& resource);
// The bytes of one segment, padded with zeros behind what is archived.
Result<Bytes> fetch_segment(Vault& vault, const LoadedArchive& loaded, const postgres::SegmentSource& source);

struct WalGetRequest {
  std::string resource;
  std::string name;  // %f
  std::string path;  // %p
  std::optional<postgres::RecoveryPromise> promise;
};
// What restore_command is to be told, and with kFound the bytes; the archive that was looked at goes to
// `archive`, where that is given. `path` is not looked at.
postgres::GetDecision look_up_wal_file(Vault& vault, const WalGetRequest& request, Bytes& content,
                                       std::optional<LoadedArchive>* archive = nullptr);
// Never fails in a way that looks like the end of the archive: the answer is in the decision (P44).
postgres::GetDecision get_wal_file(Vault& vault, const WalGetRequest& request);

}  // namespace kuramori
