// Sorts a list by path that may be larger than memory: S3 lists whole keys byte by byte ("a.b" before "a/b"),
// a tree goes folder by folder ("a/b" before "a.b"), and of folders nobody knows before the list has ended.
//
// Runs of some mebibytes are sorted and written one behind the other into a file without a name, which goes
// with the process however it ends; next() merges them. A list of one run needs no file.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "os/file.h"
#include "store/s3/answers.h"

namespace kuramori::bucket {

struct Listed {
  std::string path;  // in the tree
  S3Listed object;   // its key is not kept: the path tells it
};

class Spool {
 public:
  static constexpr size_t kRunBytes = size_t{16} << 20;  // of records in memory
  explicit Spool(size_t run_bytes = kRunBytes) : run_bytes_(run_bytes) {}

  Result<void> add(Listed record);
  Result<void> end();  // all were added
  // In tree order of paths; records of one path in the order they were added.
  Result<std::optional<Listed>> next();

 private:
  static constexpr size_t kReadBytes = size_t{64} << 10;  // of a run, at once
  struct Run {
    uint64_t at = 0, end = 0;  // in the file: what is not read yet
    Bytes buffer;
    size_t taken = 0;  // of the buffer
    std::optional<Listed> first;
  };
  Result<void> write_run();
  Result<void> advance(Run& run);

  const size_t run_bytes_;
  std::vector<Listed> records_;
  size_t bytes_ = 0, given_ = 0;
  Fd file_;
  uint64_t file_bytes_ = 0;
  std::vector<Run> runs_;
};

}  // namespace kuramori::bucket
