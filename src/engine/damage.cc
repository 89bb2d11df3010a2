#include "engine/damage.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "engine/snapshots.h"
#include "vault/names.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

// The snapshots of a listing, each opened once.
class Opened {
 public:
  explicit Opened(Vault& vault) : vault_(vault) {}

  Result<void> list() {
    TRY_ASSIGN(list_, list_snapshots(vault_, {}));
    return {};
  }

  // The newest ones of `wanted`.
  std::vector<const Snapshot*> newest_of(const std::vector<SnapshotId>& wanted) const {
    std::vector<const Snapshot*> found;
    for (auto at = list_.snapshots.rbegin(); at != list_.snapshots.rend(); ++at) {
      if (found.size() == kTouchedSnapshotsMax) break;
      if (std::ranges::count(wanted, at->commit.snapshot) != 0) found.push_back(&*at);
    }
    return found;
  }

  Result<const SnapshotReader*> open(const Snapshot& snapshot) {
    auto [at, fresh] = readers_.try_emplace(snapshot.commit.snapshot);
    if (fresh) {
      at->second = SnapshotReader::open(vault_.store(), vault_.keys(), vault_.codec(), snapshot.commit_name,
                                        snapshot.commit);
    }
    if (!at->second) return at->second.error();
    return at->second->get();
  }

 private:
  Vault& vault_;
  SnapshotList list_;
  std::map<SnapshotId, Result<std::unique_ptr<SnapshotReader>>> readers_;
};

}  // namespace

std::vector<TouchedFiles> touched_files(Vault& vault, const std::vector<ScrubFinding>& findings) {
  std::vector<TouchedFiles> all;
  if (!vault.keys().reader) return all;
  auto counts = [](const ScrubFinding& finding) {
    return finding.severity == ScrubSeverity::kDamage && !finding.snapshots.empty() &&
           finding.object.starts_with(names::kPacks);
  };
  if (std::ranges::none_of(findings, counts)) return all;
  Opened opened(vault);
  Result<void> listed = opened.list();
  for (const ScrubFinding& finding : findings) {
    if (!counts(finding)) continue;
    TouchedFiles touched{.object = finding.object};
    if (!listed) touched.unknown_because = listed.error().what;
    std::set<std::string> paths;
    const std::string origin(names::origin_of(finding.object));
    for (const Snapshot* snapshot : opened.newest_of(finding.snapshots)) {
      Result<const SnapshotReader*> reader = opened.open(*snapshot);
      if (!reader) {
        touched.unknown_because = reader.error().what;
        continue;
      }
      Result<std::set<std::string>> found = (*reader)->files_in(origin);
      if (found)
        paths.merge(*found);
      else
        touched.unknown_because = found.error().what;
    }
    touched.count = paths.size();
    for (const std::string& path : paths) {
      if (touched.paths.size() == kTouchedFilesMax) break;
      touched.paths.push_back(path);
    }
    all.push_back(std::move(touched));
  }
  return all;
}

}  // namespace kuramori
