// What the server says of a replication slot and of who reads it, asked every few seconds in a thread of its
// own: whether commits wait for the stream, and how much WAL the slot keeps from being removed (P41).
#pragma once
#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "base/reporter.h"
#include "base/world.h"
#include "os/file.h"

namespace kuramori {

class SlotWatch {
 public:
  // `pid`: the server's process that sends the WAL.
  SlotWatch(std::string connect, std::string slot, int pid, uint64_t warn_bytes, Reporter& reporter);
  SlotWatch(const SlotWatch&) = delete;
  SlotWatch& operator=(const SlotWatch&) = delete;
  // Waits for no answer: a server that hangs gives none.
  ~SlotWatch();

  bool is_synchronous() const { return synchronous_; }
  // False also while nobody knows: then a commit may wait for the stream.
  bool is_asynchronous() const { return asynchronous_; }
  uint64_t kept_bytes() const { return kept_bytes_; }

 private:
  void work(std::stop_token stop);

  const std::string connect_, slot_;
  const int pid_;
  const uint64_t warn_bytes_;
  Reporter& reporter_;
  std::atomic<bool> synchronous_{false}, asynchronous_{false};
  std::atomic<uint64_t> kept_bytes_{0};
  std::mutex mutex_;
  Fd line_;              // guarded by mutex_: what the thread waits at
  std::jthread thread_;  // last: joined before what it uses goes
};

}  // namespace kuramori
