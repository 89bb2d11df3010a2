// A physical capture of a running PostgreSQL cluster (docs/postgres.md): on its own host by pg_backup_start,
// parallel reads of the data directory and pg_backup_stop (capture.cc), from elsewhere by BASE_BACKUP over
// the replication protocol (remote_capture.cc). Page checksums are verified in passing, pg_control comes
// last.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "base/world.h"
#include "source/postgres/lsn.h"
#include "source/postgres/segment_changes.h"
#include "source/postgres/wal_reader.h"
#include "source/source.h"

namespace kuramori::postgres {

// From where: kAuto takes the host's files if they are this machine's, and the replication protocol
// otherwise.
enum class CaptureWay : uint8_t { kAuto, kHost, kReplication };

// What a server of 17 or newer needs to know of the snapshot before, to send only what changed since.
struct OlderFile {
  std::string path;
  uint64_t bytes = 0;
};
struct OlderSnapshot {
  Timeline timeline = 0;
  Lsn start = 0;
  // Its relation files, main forks alone: what is not named is sent whole. Asked for when it is certain that
  // the server will be.
  std::function<Result<std::vector<OlderFile>>()> files;
};

struct CaptureOptions {
  std::string connect;         // libpq connection string
  std::string data_directory;  // empty: ask the server
  std::string label;           // for pg_backup_start
  unsigned workers = 2;
  uint64_t read_bytes_per_second = 0;  // 0: no limit
  bool fast_checkpoint = true;
  CaptureWay way = CaptureWay::kAuto;
  std::optional<OlderSnapshot> older;
  std::string why_no_older;  // without, in words
  std::stop_token stop;
};

// One file of the cluster, with what tells whether it is still the same file at the next snapshot (P6, P14).
struct CaptureFile {
  TreeEntry entry;  // entry.size: at listing time; after copy() the captured size
  uint64_t inode = 0;
  int64_t birth_ns = 0;
  RelationFile relation;      // of a relation file, as WAL names it
  uint32_t first_block = 0;   // of the relation, in this file
  uint32_t segment = 0;       // likewise: 0 for "16384", 1 for "16384.1" (1 GiB each)
  bool always_whole = false;  // FSM and VM forks: a page LSN does not tell whether they changed
  bool vanished = false;      // after copy(): dropped while the capture ran
};

struct CaptureStart {
  uint64_t system_id = 0;
  uint32_t server_version = 0;  // PG_VERSION_NUM, 150018
  Timeline timeline = 0;
  Lsn start_lsn = 0;           // of pg_backup_start (the redo LSN of its checkpoint)
  uint32_t segment_bytes = 0;  // WAL segment size
  uint32_t page_bytes = 8192;
  uint32_t checksum_version = 0;
  std::string wal_level;
  bool in_recovery = false;
  bool full_page_writes = true;
  // Whatever changes a page moves its LSN: checksums, or wal_log_hints. Without, a page becomes all-visible
  // and keeps its LSN (P26).
  bool every_change_moves_lsn = true;
  std::string data_directory;
  int64_t started_ns = 0;
  // Over the replication protocol files come as the server sends them: files() grows while copy() runs, has
  // no inodes, and no page can be looked at before.
  bool on_host = true;
  // Over the replication protocol: of relation files only the blocks come that changed since the snapshot
  // before. Then copy() must be given that one's pages to build on. Otherwise: why everything comes.
  bool sends_changes = false;
  std::string why_everything;
};

struct BrokenPage {
  std::string path;
  uint32_t page = 0;
  std::string why;
};

struct CaptureEnd {
  Lsn stop_lsn = 0;
  Timeline stop_timeline = 0;
  std::string stop_wal_file;  // the last segment that recovery needs
  std::string backup_label, tablespace_map;
  int64_t finished_ns = 0;
  uint64_t bytes_read = 0;
  uint64_t relation_bytes_read = 0;  // of them: of relation files
  Duration read_waited{};            // for the limit on reading
  uint64_t pages_given = 0;          // of relation files, to the lanes
  uint64_t pages_skipped = 0;        // unchanged since the base
  uint64_t pages_looked_at = 0;      // where only changes are sent: of these, by their LSN all the same
  std::vector<BrokenPage> broken_pages;
  std::map<std::string, std::string> facts;  // GUCs a restored server needs, locale, extensions' libraries …
};

// For one file: nothing — read it whole; an LSN — pages below `base_pages` that are not all zero and whose
// LSN is lower are unchanged and need not be given to the lane; `changed` — of the pages below `base_pages`,
// these alone are read, whatever the LSNs.
struct Skip {
  Lsn unchanged_before = 0;
  uint32_t base_pages = 0;
  // Blocks of the relation that lie in this file, ascending; they outlive the copy.
  std::optional<std::span<const uint32_t>> changed;
  // To so many pages of this file the relation was cut (0: or made, or dropped), which `base_pages` heeds.
  // What is told of may also be of shortly before the base's start.
  std::optional<uint32_t> cut_to;
  // What whoever else says what changed must agree with: blocks from this file on, to the relation's end, and
  // cuts, of between the two starts without a doubt. Blocks that were behind a cut are among them.
  std::span<const uint32_t> surely_changed;
  std::optional<uint32_t> surely_cut_to;
  // Of a file that is always read whole, and is small: asked with all of it before any is given. True: it is
  // as the base has it, and none is.
  std::function<bool(ByteView pages)> is_as_before;
};
constexpr uint32_t kComparedPagesMax = 1024;  // of a file that is held in memory for that
// The same answer whenever it is asked; `index` of the file among files().
using SkipRule = std::function<Skip(uint32_t index, const CaptureFile&)>;

// A page that is held to be unchanged, and what a look at it tells.
struct PagePlace {
  uint32_t file = 0;  // index into files()
  uint32_t page = 0;
};
struct PageLook {
  bool there = false;  // false: the file or its end went meanwhile
  bool zero = false;
  Lsn lsn = 0;
};
using LaneFactory = std::function<Result<std::unique_ptr<CaptureLane>>(unsigned worker)>;

// Use in this order: begin, files, copy, finish. Destroyed before finish(), it ends the backup mode and
// nothing is left behind (the session's connection holds it).
class Capture {
 public:
  virtual ~Capture() = default;
  static Result<std::unique_ptr<Capture>> begin(const CaptureOptions& options, Clock& clock,
                                                Reporter& reporter);

  virtual const CaptureStart& start() const = 0;
  virtual const std::vector<CaptureFile>& files() const = 0;
  // Looks at single pages, before the copy. `places` by file, then page. Only on the host.
  virtual Result<std::vector<PageLook>> look_at(std::span<const PagePlace> places) = 0;
  // Reads everything but pg_control in parallel, each worker with a lane of its own. May be called once.
  virtual Result<void> copy(const SkipRule& skip, const LaneFactory& lanes) = 0;
  // pg_backup_stop (`stop_early` for tests), then backup_label, tablespace_map and pg_control as kBytes files
  // of the last lane; returns what the commit must say. files() is then complete.
  virtual Result<CaptureEnd> finish(CaptureLane& lane) = 0;
  // After finish(): files(), which are nobody else's any more.
  virtual std::vector<CaptureFile> take_files() { return files(); }
  // The bytes of a WAL segment of the server's pg_wal ("000000010000000000000003"), for what the archive
  // still lacks. kPartial: a standby that has not received all of it yet.
  virtual Result<Bytes> wal_segment(std::string_view name) = 0;
  // The same as it stands: only what lies before start().start_lsn is promised to be the server's history.
  virtual Result<Bytes> wal_segment_so_far(std::string_view name) = 0;
  // What lies before a segment, for the record of what it changes.
  virtual ReadEarlierWal earlier_wal() = 0;
  // After copy() failed: a page had changed although the WAL, by which it was not expected to, says nothing
  // of it. (On the host that is found out beforehand, on a sample.)
  virtual bool was_contradicted() const { return false; }
  // After copy() failed, without blame: only a copy of everything helps.
  virtual bool must_be_whole() const { return false; }
};

// By BASE_BACKUP, wherever the files are.
Result<std::unique_ptr<Capture>> begin_remote_capture(const CaptureOptions& options, Clock& clock,
                                                      Reporter& reporter);

}  // namespace kuramori::postgres
