// What a source (the code that knows one kind of resource) and the engine say to each other.
//
// A source knows no vault: it hands over entries, pages and bytes, and facts to whoever asks. Two forms:
//   * a PostgreSQL cluster goes page by page through CaptureLane (source/postgres/capture.h);
//   * everything else is a tree: TreeCapture gives its entries one after the other and reads the content of
//     those that are asked for. What has no files of its own (a Redis, a program's output) writes itself as
//     some.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/reporter.h"
#include "base/tree_entry.h"
#include "base/world.h"

namespace kuramori {

// Where one worker of a capture puts what it read. Each lane belongs to one thread; lanes run in parallel.
// `file` is the source's index of the file.
class CaptureLane {
 public:
  virtual ~CaptureLane() = default;
  // `pages.size()` is a multiple of the page size; page numbers ascend within a file. Pages not given are
  // taken from the base (only where the engine allowed that).
  virtual Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) = 0;
  // More bytes of a kBytes file, in order; all of one file through one lane, not mixed with another file's.
  virtual Result<void> add_bytes(uint32_t file, ByteView bytes) = 0;
};

// --- trees -------------------------------------------------------------------------------------------

// Takes the content of one entry, in order.
class ContentSink {
 public:
  virtual ~ContentSink() = default;
  virtual Result<void> add(ByteView bytes) = 0;
  // So many bytes that are zero and take no place: a hole of a sparse file.
  virtual Result<void> add_hole(uint64_t bytes) = 0;
  // Forgets all that was given so far: the file changed while it was read, and comes again from its begin.
  virtual Result<void> restart() = 0;
};

// One entry, as a walk meets it.
struct CaptureItem {
  TreeEntry entry;
  // What moves whenever the content or an attribute does: the same inode, ctime, size and path as at the
  // snapshot before, and nothing is read. Zero ctime: there is nothing of the kind, it is always read.
  // The device is 0 where its number is another each time (snapshots of a filesystem, mounts done anew).
  uint64_t device = 0, inode = 0;
  int64_t ctime_ns = 0;
};

// Something of the resource that is not in the snapshot as it should be. The snapshot is partial then (exit
// 3).
struct Defect {
  std::string path;  // of the entry; "" for the whole
  std::string why;   // "Permission denied"
};

// One capture, from its begin to its end.
class TreeCapture {
 public:
  virtual ~TreeCapture() = default;
  // The next entry; nothing at the end. A folder stands before what it holds, and entries are in tree order:
  // compared part by part, each part by its bytes (tree_order()). One thread. What cannot be looked at
  // becomes a defect and is left out; an error ends the capture. The first entry may be the root itself, a
  // folder with the path "".
  virtual Result<std::optional<CaptureItem>> next() = 0;
  // Fills in what next() leaves out because it costs: attributes and the names of owners. Called for entries
  // that are not as at the snapshot before, before read() and by several threads at once. kNotFound as with
  // read().
  virtual Result<void> complete(CaptureItem&) { return {}; }
  // Reads the content of an entry with ContentKind::kBytes. Called by several threads at once, each for
  // another item, also while next() goes on. On return the item says what was read (size, times: they may
  // have moved; ctime_ns is zero when it is too young to tell a later change from this one). kNotFound: it
  // was deleted since next() met it, and is left out without a word (a further name of it can take its place:
  // a kHardLink of a source of files may be read as well). kPartial: it could not be read as a
  // whole; the engine leaves the entry out and makes it a defect. Another error ends the capture.
  virtual Result<void> read(CaptureItem& item, ContentSink& sink) = 0;
  // When all is read: makes sure that it was whole (an exit status, a checksum), and ends what the capture
  // began. An error: there will be no snapshot.
  virtual Result<void> finish() = 0;

  // After finish(). What the walk met; what read() failed with is the engine's to count.
  virtual std::vector<Defect> defects() const = 0;
  // Versions, counts, offsets, for whoever holds the structure key: never content, names or values.
  virtual std::map<std::string, std::string> facts() const = 0;
};

// A snapshot's tree, to restore or check from. May be used by several threads at once.
class CapturedTree {
 public:
  virtual ~CapturedTree() = default;
  // All entries in tree order, until `visit` fails.
  virtual Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const = 0;
  virtual Result<void> read(std::string_view path, ContentSink& sink) const = 0;
  // What the capture told of itself.
  virtual const std::map<std::string, std::string>& facts() const = 0;
};

// Opens the tree of the resource's newest snapshot, for a capture that goes on from it (what a git remote had
// once, and has no more, is there alone). Null: there is none. kDenied, kRefused: this key may add and not
// read. To be called while capture() runs; the tree is good as long as it is held.
using OpenEarlierTree = std::function<Result<std::unique_ptr<CapturedTree>>()>;

// The answer of one check of a drill.
struct CheckResult {
  std::string name;     // "keys per database"
  std::string verdict;  // "passed", "failed", "bounded", "uncounted"
  std::string detail;
};

// A change within one file, by the name of what changed and never its value: a key of a .env file.
struct PartChange {
  enum class How : uint8_t { kAdded, kRemoved, kChanged } how = How::kChanged;
  std::string name;
  bool operator==(const PartChange&) const = default;
};

constexpr std::string_view name_of(PartChange::How how) {
  return how == PartChange::How::kAdded ? "added" : how == PartChange::How::kRemoved ? "removed" : "changed";
}

// Something wrong or risky about a resource that is to be protected.
struct SourceFinding {
  enum class Severity : uint8_t {
    kProblem,  // backups do not work, or what they promise does not hold
    kRisk,     // they work; one more mishap and data is lost
    kHint,     // worth knowing
  } severity = Severity::kHint;
  std::string about;  // the setting or thing
  std::string what;
  std::string why;
  std::string fix;  // one line to type
};

struct SourceRestoreRequest {
  std::string to;                 // an absolute path, or a URL of the kind
  std::vector<std::string> only;  // paths of the tree; empty: all
  bool overwrite = false;         // what is there may be replaced
  bool delta = false;             // in place, writing only what differs
  // As it was then, of kinds whose snapshots keep a history; others are never asked.
  std::optional<Time> at;
  unsigned workers = 3;  // while one waits for the disk the others open what is next
};

struct SourceRestoreOutcome {
  std::string target;               // what it became: a path, a URL
  uint64_t entries = 0, bytes = 0;  // restored
  std::string moved_aside;          // where what stood there before went
  std::vector<std::string> notes;   // sentences
};

// Tells when a resource changes. One thread.
class Watch {
 public:
  virtual ~Watch() = default;
  // True as soon as something changed, or may have, after the watch began and that no earlier call told of;
  // false once `longest` is over or `stop` is asked for. A capture begun after it has what it told of.
  virtual Result<bool> wait(Duration longest, std::stop_token stop) = 0;
  // How it learns of it, for people: "1,204 folders are watched".
  virtual std::string how() const = 0;
};

// A program of others that a kind runs on this machine.
struct SourceClient {
  std::string program;  // "pg_dump"
  std::string purpose;  // "dumps and restores"
  std::string needed;   // "15 or newer"; "any version"
  std::string found;    // "15.18 in /usr/lib/postgresql/15/bin"; "": there is none
  bool fits = false;    // what was found is what is needed
};

// One resource of a kind that is kept as a tree.
class Source {
 public:
  virtual ~Source() = default;
  // Whether all the tree's content lies in files of this machine and a restore is these files again: the
  // engine then writes them itself, in parallel and resumable. Else restore() does it.
  virtual bool is_files() const { return false; }
  virtual Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) = 0;
  // Called before capture(): how to look into the snapshot before. Opening it costs requests, so that only
  // a source that lost its own memory does. Never called: nothing is known of any.
  virtual void set_earlier(OpenEarlierTree) {}
  // Into something new, unless told otherwise. Refuses (kRefused) what is not empty or is at work.
  virtual Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                               Reporter& reporter, std::stop_token stop) = 0;
  // Restores into `sandbox`, an empty folder that goes away afterwards, starts what can be started, and
  // looks.
  virtual Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                                 Reporter& reporter, std::stop_token stop) = 0;
  virtual Result<std::vector<SourceFinding>> doctor() = 0;
  // What it needs, as well as it can tell now, and what is here; doctor() says what to do about what lacks.
  virtual std::vector<SourceClient> clients() { return {}; }
  // Whether lines of the content may be shown to people.
  virtual bool may_be_shown() const { return true; }
  // What changed within a file that both trees have, where the kind has names for it.
  virtual Result<std::vector<PartChange>> changed_parts(std::string_view /*path*/,
                                                        const CapturedTree& /*before*/,
                                                        const CapturedTree& /*after*/) {
    return std::vector<PartChange>();
  }
  // From now on. kUsage: nothing tells when a resource of this kind changes.
  virtual Result<std::unique_ptr<Watch>> watch() {
    return fail(ErrorKind::kUsage, "nothing tells when a resource of this kind changes", "",
                "take snapshots by the clock: every: 5m");
  }
};

}  // namespace kuramori
