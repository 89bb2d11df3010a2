// Which free space and visibility maps need not be read again: the WAL tells of no change of their relation,
// and the file was not written since the base began.
#pragma once
#include <span>
#include <vector>

#include "engine/changes_since.h"

namespace kuramori {

// Why this is enough, though a map's changes are not all in WAL:
// - A visibility map's bit is set by a record that names the page of the table, and is cleared together with
// a
//   change of one; either mentions the relation. So a map of a relation without any record has the bits it
//   had.
// - A free space map is written without records, by vacuum above all. Its file is newer then than the base's
//   start, as whatever was in memory at that start was on disk before the base read it. Should a clock that
//   was set back hide that, the base's map promises free space as it was then: the server looks before it
//   believes (docs/adr/0011-untouched-maps.md).
class UntouchedMaps {
 public:
  UntouchedMaps(const postgres::ChangedBlocks& changed, std::span<const postgres::CaptureFile> files,
                const BaseFile& base_file, int64_t base_started_ns);

  // A file that is always read whole, and is as the base has it, if that has it with as many pages.
  bool has(const postgres::CaptureFile& map) const;

 private:
  bool is_older_than_base(const postgres::CaptureFile& file) const;
  std::vector<postgres::RelationFile> relations_;  // sorted: those without a change
  int64_t base_started_ns_;
};

}  // namespace kuramori
