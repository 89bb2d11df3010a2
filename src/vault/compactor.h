// Compaction: of a pack that only a few frames are still needed of, a thin one is put beside it.
//
// This alone removes nothing and decides nothing. The order is:
//   session   stands, so that a collector can tell what became of the thin packs; then what is condemned is
//             read, since nothing condemned may serve as a source.
//   thin      one pack after the other: the needed frames are copied as they are, sealed, and read back.
//   over      the session fences itself: from now on what it put is anybody's to judge.
// The next collection finds a pack that stands twice and gives the larger one up, if by then the thin one
// holds everything that anything needs (vault/collector.h). Killed after any step, there is a thin pack too
// many: a collection either uses it or removes it. Two compactors at once make two of them, and one stays.
//
// Worst first, and as long as the budget lasts. A thin pack can be thinned again.
#pragma once
#include <functional>

#include "vault/needed.h"
#include "vault/session.h"
#include "vault/thin_packs.h"

namespace kuramori {

// A pack is thinned when no more than this share of its bytes is needed: so no more is written than is freed.
constexpr double kLiveShareMax = 0.5;

struct CompactOptions {
  double live_share_max = kLiveShareMax;
  uint64_t freed_bytes_max =
      UINT64_MAX;  // by this run; one pack always, if it is no larger than the next says
  uint64_t pack_bytes_max = UINT64_MAX;
  size_t looks_at_once = 1;  // packs that are measured at the same time, each in a thread
  bool dry_run = false;
  std::string host;
  std::function<Result<void>()> go_on = [] {
    return Result<void>();
  };  // asked before each pack, by any thread
};

struct CompactReport {
  uint64_t packs = 0;         // thinned; in a dry run: that would be
  uint64_t stored_bytes = 0;  // of those packs
  uint64_t kept_bytes = 0;    // of the thin ones that stand in for them
  uint64_t left = 0;          // worth it, but over the budget
  std::vector<std::string> warnings;
};

class Compactor {
 public:
  Compactor(const Protocol& protocol, ThinPacks& thin)
      : Compactor(std::make_shared<Ledger>(protocol, Detail::kNeeds), thin) {}
  // With a ledger that others read by too.
  Compactor(std::shared_ptr<Ledger> ledger, ThinPacks& thin)
      : shared_(std::move(ledger)), ledger_(*shared_), protocol_(ledger_.protocol()), thin_(thin) {}
  // kDamaged: something cannot be verified; nothing was written. kInterrupted by go_on.
  Result<CompactReport> run(const CompactOptions& options);

 private:
  struct Candidate {
    LivePack pack;  // with every frame that is needed
    ResourceId resource;
    std::string object;  // its smallest
    uint64_t object_bytes = 0, kept_bytes = 0;
  };
  using Warn = std::function<void(std::string)>;
  // Whether little is needed of it. `object`: the one that is the smallest.
  Result<std::optional<Candidate>> judge(const PackNeed& need, const ObjectInfo& object,
                                         const CompactOptions& options, const Warn& warn_of);
  Result<std::vector<Candidate>> find_candidates(const CompactOptions& options, CompactReport& report);
  Result<void> thin_one(const Candidate& candidate, const CompactOptions& options, CompactReport& report);

  std::shared_ptr<Ledger> shared_;
  Ledger& ledger_;
  const Protocol& protocol_;
  ThinPacks& thin_;
  std::map<ResourceId, std::unique_ptr<WriterSession>> sessions_;
};

}  // namespace kuramori
