#include "engine/untouched_maps.h"

#include <algorithm>

namespace kuramori {
namespace {

using postgres::CaptureFile;
using postgres::Fork;
using postgres::RelationFile;

// File systems tell the time of the last tick, some hundredths of a second ago at most.
constexpr int64_t kClockSlackNs = 200'000'000;

bool is_mentioned(const postgres::ChangedBlocks& changed, const RelationFile& relation) {
  const auto found = changed.forks.lower_bound({relation, Fork::kMain});
  return (found != changed.forks.end() && found->first.file == relation) ||
         changed.whole_databases.contains({relation.tablespace, relation.database});
}

}  // namespace

UntouchedMaps::UntouchedMaps(const postgres::ChangedBlocks& changed, std::span<const CaptureFile> files,
                             const BaseFile& base_file, int64_t base_started_ns)
    : base_started_ns_(base_started_ns) {
  // Only of relations whose own file is the base's: another one in its place has other maps (P6).
  for (const CaptureFile& file : files) {
    if (file.always_whole || file.segment != 0 || base_file(file) == nullptr) continue;
    if (!is_mentioned(changed, file.relation)) relations_.push_back(file.relation);
  }
  std::ranges::sort(relations_);
}

bool UntouchedMaps::is_older_than_base(const CaptureFile& file) const {
  const int64_t until = base_started_ns_ - kClockSlackNs;
  return file.birth_ns != 0 && file.birth_ns < until && file.entry.mtime_ns < until;
}

bool UntouchedMaps::has(const CaptureFile& map) const {
  return map.always_whole && is_older_than_base(map) && std::ranges::binary_search(relations_, map.relation);
}

}  // namespace kuramori
