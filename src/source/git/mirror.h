// The mirror of one remote on this machine: what was fetched stays, and nothing is fetched twice.
//
// Problem: a remote forgets — a branch is deleted, history is rewritten, the repository is emptied — and the
// mirror must not. Approach: git fetches into a bare repository exactly as a mirror does, refs pruned and
// forced; what git would collect afterwards is never collected, since gc never runs; and which refs there
// were is kept beside it in two lists of our own: `seen`, the refs as they were when the last run was
// complete, and `kept`, those that are there no more. After every fetch `seen` is compared with what git now
// has; what moved elsewhere than forward, or vanished, goes into `kept` first, and only then the new refs
// become `seen`. Killed anywhere between, the next run compares the same lists again.
//
// The mirror may be lost: it is made again from the snapshot before, kept refs and all, and fetches what is
// new since. Where the key here may only add, everything is fetched once, and the snapshot says that what was
// kept is in older ones alone.
//
// Packs are never rewritten, so that a snapshot reads only new ones. When there are many they are joined by
// size (`repack --geometric`), which drops no object, reachable or not.
#pragma once
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "os/lock.h"
#include "source/git/git.h"
#include "source/git/git_source.h"
#include "source/git/lfs.h"
#include "source/git/refs.h"

namespace kuramori::git {

constexpr size_t kPacksMax = 24;            // before they are joined
constexpr size_t kAncestryAskedMax = 1000;  // moved refs of one fetch; more are kept without asking
constexpr size_t kSubmoduleHeadsMax = 500;  // branch heads whose .gitmodules are recorded
constexpr Duration kMirrorWait = std::chrono::seconds(60);

class Mirror {
 public:
  // Waits for another backup of the same to end, and makes the mirror as the remote is now.
  static Result<std::unique_ptr<Mirror>> update(const GitSettings& settings, const OpenEarlierTree& earlier,
                                                Reporter& reporter, const std::stop_token& stop);

  std::string repository() const { return join_path(folder_, "repository"); }
  const std::string& format() const { return format_; }
  const std::string& head() const { return head_; }
  const Refs& refs() const { return seen_; }
  const Refs& kept() const { return kept_; }
  int64_t changed_ns() const { return changed_ns_; }   // when anything last moved
  const std::string& about() const { return about_; }  // repository.json
  // Something in it is damaged: the next run makes it anew.
  Result<void> distrust();
  const std::vector<Defect>& defects() const { return defects_; }
  const std::map<std::string, std::string>& facts() const { return facts_; }

 private:
  Mirror(const GitSettings& settings, Place place, FileLock lock, Git git, Reporter& reporter,
         std::stop_token stop);

  Result<RemoteRefs> ask();
  Result<void> prepare(const RemoteRefs& remote, const OpenEarlierTree& earlier);
  Result<bool> load();
  Result<void> begin(const RemoteRefs& remote, const OpenEarlierTree& earlier);
  Result<bool> restore_from(const OpenEarlierTree& earlier);
  Result<void> clear_leftovers();
  Result<void> fetch(const RemoteRefs& remote, const OpenEarlierTree& earlier);
  Result<void> replace_damaged(const RemoteRefs& remote, const OpenEarlierTree& earlier,
                               const std::string& why);
  Result<Finished> fetch_once(bool lenient);
  Result<bool> is_whole();
  Result<bool> has_whole_packs();
  Result<void> prune(const RemoteRefs& remote);
  Result<void> take_refs(const RemoteRefs& remote);
  Result<void> tidy();
  Result<void> look_after_lfs();
  Result<void> describe();
  Result<void> write_state();
  Result<void> go_on() const;
  std::string at(std::string_view name) const { return join_path(folder_, name); }

  const GitSettings& settings_;
  const std::string folder_;
  const Place place_;
  FileLock lock_;
  Git git_;
  Reporter& reporter_;
  std::stop_token stop_;

  std::string format_ = "sha1", head_, about_;
  Refs seen_, kept_;
  int64_t changed_ns_ = 0;
  bool lenient_ = false;  // its history holds what git fsck refuses
  bool moved_ = false;    // something is to be described anew
  bool rebuilt_ = false;
  Lfs lfs_;
  std::vector<Defect> defects_;
  std::map<std::string, std::string> facts_;
};

}  // namespace kuramori::git
