// A read-only filesystem that this program answers for: what FUSE asks, and how it is mounted, lived in and
// ended.
//
// Every question can be taken back: whoever waits for an answer and is killed or interrupted goes on at once,
// whatever the thread that looks for it still waits for. libfuse alone does not give that: it reads
// interrupts with the threads that answer. So one thread reads the kernel's questions, and others answer
// them.
#pragma once
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace kuramori {

// What the kernel is answered: a value, or an errno.
template <class T>
using OrErrno = std::expected<T, int>;

// Of one question: whether anybody still waits for the answer.
class FuseCall {
 public:
  bool is_cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 protected:
  std::atomic<bool> cancelled_{false};
};

constexpr uint64_t kFuseRoot = 1;  // the number of the root

// What is shown. Every method is called by several threads at once. An entry's number (st_ino) stays its own
// for as long as it is mounted, and nobody is told when the kernel forgets it.
class FuseTree {
 public:
  virtual ~FuseTree() = default;
  virtual OrErrno<struct stat> attributes(uint64_t number, const FuseCall& call) = 0;
  // ENOENT: there is none.
  virtual OrErrno<struct stat> lookup(uint64_t folder, std::string_view name, const FuseCall& call) = 0;
  virtual OrErrno<std::string> read_link(uint64_t number, const FuseCall& call) = 0;

  struct Listed {
    std::string name;
    struct stat status;        // number and type suffice where it is not complete
    bool is_complete = false;  // all attributes are there
    uint64_t next = 0;         // where a listing goes on after it; above zero
  };
  // From `from` on, until `visit` says that it is enough (false).
  virtual OrErrno<void> list(uint64_t folder, uint64_t from, const FuseCall& call,
                             const std::function<bool(const Listed&)>& visit) = 0;

  // A file that is read; the kernel holds it until it is closed.
  class Opened {
   public:
    virtual ~Opened() = default;
    // How much of `out` there was.
    virtual OrErrno<size_t> read(uint64_t offset, MutableByteView out, const FuseCall& call) = 0;
    // As lseek(2) with SEEK_DATA or SEEK_HOLE; ENXIO.
    virtual OrErrno<uint64_t> seek(uint64_t offset, int whence) = 0;
  };
  virtual OrErrno<std::shared_ptr<Opened>> open(uint64_t number, const FuseCall& call) = 0;

  // Names as listxattr(2) gives them.
  virtual OrErrno<std::vector<std::string>> attribute_names(uint64_t number, const FuseCall& call) = 0;
  virtual OrErrno<std::string> attribute(uint64_t number, std::string_view name, const FuseCall& call) = 0;

  struct Size {
    uint64_t bytes = 0, entries = 0;
  };
  virtual Size size() = 0;
};

struct FuseMount {
  std::string path;    // an empty folder
  std::string source;  // what /proc/mounts and df show
  // Others than who mounts may enter: modes and ACLs then decide what they may read. Else nobody else may,
  // and who mounts may read all.
  bool for_others = false;
  unsigned threads = 6;
};

// Shows `tree` at `mount.path` until `stop`, or until somebody unmounts it. `is_there` is called when it
// stands. kUsage, kDenied: it could not be mounted, in words.
Result<void> show_until_stopped(FuseTree& tree, const FuseMount& mount, const std::function<void()>& is_there,
                                std::stop_token stop);

// Whether something can be mounted here at all: the device, the program that mounts for ordinary users, a
// right.
Result<void> may_mount();

// What stands at a path.
enum class MountState {
  kFolder,  // nothing is mounted there
  kOurs,    // a mount of this program, or something in it
  kDead,    // a mount of this program whose process ended without a word
};
Result<MountState> mount_state_of(const std::string& path);
// Takes a dead mount away.
Result<void> unmount_dead(const std::string& path);

}  // namespace kuramori
