// What the WAL says changed between two snapshots of a cluster, so that the second reads those pages and no
// others — and the check by which a wrong answer is found out before it is believed. docs/postgres.md,
// "Changed blocks".
//
// Never a silent hole: either every record from the base's start to this snapshot's start was seen, by
// whoever archived it or here in the server's own pg_wal, or the answer is why not.
#pragma once
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "source/postgres/capture.h"
#include "source/postgres/changed_blocks.h"
#include "vault/page_map.h"
#include "vault/vault.h"

namespace kuramori {

struct ChangesSince {
  // Of [the base's start, this snapshot's start), and what else the archive's records of the first and the
  // last segment tell of.
  std::optional<postgres::ChangedBlocks> blocks;
  // Where the server sends changes alone and `blocks` begins too early: what does not. Nothing of what lies
  // behind this snapshot's start is in either then.
  std::optional<postgres::ChangedBlocks> surely;
  std::string why_not;            // without: in words, with the place in the WAL
  bool histories_differ = false;  // the archive's WAL is not this server's: page LSNs say nothing either
};
// An error only when it was interrupted.
Result<ChangesSince> changes_since(Vault& vault, const ResourceId& resource, postgres::Capture& capture,
                                   postgres::Lsn base_start, std::stop_token stop);

// Of one file that a base has: what of it must be read. Nothing: all of it.
std::optional<postgres::Skip> changed_pages(const postgres::ChangedBlocks& changed,
                                            const postgres::CaptureFile& file, uint32_t base_pages,
                                            postgres::Lsn base_start);

// What of that file changed between the two starts without a doubt. `surely` outlives `skip`.
void add_certainty(postgres::Skip& skip, const postgres::ChangedBlocks& surely,
                   const postgres::CaptureFile& file);

// --- the sample (P24) --------------------------------------------------------------------------------
// A page that changes moves its LSN, whatever the WAL's records say. So some pages that are held to be
// unchanged are looked at: when k of N are not, at least one is among n with the probability
// 1 - C(N-k, n) / C(N, n).

constexpr uint64_t kSamplePagesMin = 1000;      // or all there are
constexpr uint64_t kSamplePartOfChanged = 100;  // or one for this many changed ones

// The pages of a file that are held to be unchanged.
struct UnchangedPages {
  uint32_t file = 0;                  // index into Capture::files()
  uint32_t known = 0;                 // pages below this one, but for `changed`
  std::span<const uint32_t> changed;  // blocks of the relation, ascending
  uint32_t first_block = 0;           // of the relation, in this file
  const std::vector<PageRun>* base = nullptr;
};
// `count` different ones, each as likely as any other; by file, then page. All when there are not so many.
std::vector<postgres::PagePlace> choose_sample(std::span<const UnchangedPages> files, uint64_t count,
                                               Random& random);
// A page that changed between the two starts although nothing says so: index into `places`. One with an LSN
// past this snapshot's start is newer, which redo sees to; one that was changed by a record which ends where
// the base begins is the base's.
std::optional<size_t> find_contradiction(std::span<const UnchangedPages> files,
                                         std::span<const postgres::PagePlace> places,
                                         std::span<const postgres::PageLook> looks, postgres::Lsn base_start,
                                         postgres::Lsn start);

// --- both ---------------------------------------------------------------------------------------------
enum class ChangesBy : uint8_t { kWal, kPageLsns, kWhole };
// "wal", "page LSNs: …", "whole: …": for the commit, the outcome and people.
struct ChangesKnown {
  ChangesBy by = ChangesBy::kWhole;
  std::string why_not;  // "wal" it could not be
  bool contradicted = false;
  uint64_t pages_sampled = 0;
  std::optional<postgres::ChangedBlocks> blocks, surely;  // as in ChangesSince
  std::string text() const;
};
// The base's entry for a file; null where all of it is read.
using BaseFile = std::function<const FilePages*(const postgres::CaptureFile&)>;
// Asks the WAL, checks its answer on a sample, and says aloud what comes of it.
Result<ChangesKnown> find_changes(Vault& vault, const ResourceId& resource, postgres::Capture& capture,
                                  postgres::Lsn base_start, const BaseFile& base_file, Reporter& reporter,
                                  std::stop_token stop);

}  // namespace kuramori
