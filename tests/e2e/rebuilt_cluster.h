// A capture written straight back into a folder, without a vault between: what a source gives, a server must
// start on.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "source/postgres/capture.h"
#include "testing/postgres_server.h"

namespace kuramori::postgres {

class RebuiltCluster {
 public:
  // `folder` is made; tablespaces go to `folder`-tablespaces/<oid>.
  explicit RebuiltCluster(std::string folder) : folder_(std::move(folder)) {}

  // Called before each pages or bytes are taken, with the file's path: a test does damage there.
  std::function<void(const std::string& path, uint32_t first_page)> on_data;

  // begin() is the caller's; this copies, finishes, and puts everything in place, WAL from start to stop
  // included.
  Result<CaptureEnd> take(Capture& capture, const SkipRule& skip = {});
  // The same in two steps.
  Result<void> copy(Capture& capture, const SkipRule& skip = {});
  Result<CaptureEnd> finish(Capture& capture);

  const std::string& folder() const { return folder_; }
  std::string tablespaces() const { return folder_ + "-tablespaces"; }

  // Called while take() waits for WAL that the server does not have whole yet.
  void while_waiting(std::function<void()> call) { while_waiting_ = std::move(call); }

 private:
  class Lane;
  // Every page of every file must have been given once, or come from the base.
  Result<void> check_complete(const Capture& capture) const;
  Result<void> settle(Capture& capture);

  std::string folder_;
  std::function<void()> while_waiting_;
  bool whole_ = true;  // no skip rule: nothing may be missing
  std::mutex mutex_;
  std::map<uint32_t, std::vector<bool>> given_;  // pages of each file
};

// The index of the file of this path, or -1.
int find_file(const Capture& capture, std::string_view path);

}  // namespace kuramori::postgres
