// Child processes of a sandbox: run one to its end, or keep one that dies with this process. Between fork and
// exec only async-signal-safe calls are made, so this is safe in a program with threads.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"

namespace kuramori::postgres {

struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
};

constexpr uint64_t kChildOutputBytesMax = uint64_t{1} << 20;  // kept of what a child says

struct ChildResult {
  int status = 0;  // exit status; 128 + signal when killed
  std::string output;
};

// Runs it to its end (at most `limit`, then it is killed: kFailed); standard error joins standard output.
Result<ChildResult> run_child(const std::vector<std::string>& arguments, Duration limit);

struct ChildOptions {
  std::vector<std::string> arguments;  // [0] is a path
  std::vector<std::string> environment;
  std::string log_file;             // standard output and error, appended
  bool as_root = false;             // what follows needs it
  Account account;                  // of the child, if as_root
  bool no_network = true;           // a network namespace of its own
  std::vector<std::string> hidden;  // folders that become empty in the child's own mount namespace
  // The only folders that the child can change: in its mount namespace everything else is read-only, wherever
  // its WAL or its links lead it (P48). Empty: no mount namespace of its own.
  std::vector<std::string> writable;
  std::string empty_folder;  // what is seen in their place
};

// Starts it; it is killed (SIGQUIT: PostgreSQL's immediate shutdown) when the thread that started it ends.
// The first failing step of the child is told (kFailed), e.g. a namespace the system denies.
Result<pid_t> start_child(const ChildOptions& options);

// True if `pid` lives and is no zombie. `start_ticks`: of /proc/PID/stat; 0: any (a pid may be used again).
bool is_alive(pid_t pid, uint64_t start_ticks = 0);
uint64_t start_ticks_of(pid_t pid);  // 0 if there is no such process

}  // namespace kuramori::postgres
