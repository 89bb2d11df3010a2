// The tar archives that BASE_BACKUP sends, as they arrive: POSIX ustar as the server writes it (basebackup.c,
// tarCreateHeader): names of at most 99 bytes, sizes past 8 GiB in base 256, no extensions. Anything else is
// kDamaged: half understood, an archive would become a half copied cluster.
#pragma once
#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/tree_entry.h"

namespace kuramori::postgres {

constexpr size_t kTarBlockBytes = 512;
constexpr uint64_t kTarFileBytesMax = uint64_t{1} << 42;

struct TarEntry {
  std::string name;  // as it stands there, without a slash at its end
  EntryType type = EntryType::kFile;
  uint64_t size = 0;  // bytes of content that follow
  uint32_t mode = 0, uid = 0, gid = 0;
  int64_t mtime_s = 0;  // seconds since 1970
  std::string link;     // of a symbolic link
};

// What comes out, in this order for each thing: entry, data (never empty), end.
class TarReceiver {
 public:
  virtual ~TarReceiver() = default;
  virtual Result<void> entry(const TarEntry& entry) = 0;
  virtual Result<void> data(ByteView bytes) = 0;
  virtual Result<void> end() = 0;
};

class TarStream {
 public:
  // More of the archive, cut anywhere.
  Result<void> feed(ByteView bytes, TarReceiver& receiver);
  // The archive ends here: kDamaged inside an entry. (Before 15 no zero blocks stand at its end.)
  Result<void> finish() const;

 private:
  Result<void> header(TarReceiver& receiver);

  Bytes header_;           // as far as it has come
  uint64_t left_ = 0;      // of the content
  size_t padding_ = 0;     // behind it, to the next block
  bool in_entry_ = false;  // end() was not said yet
  bool at_end_ = false;    // a zero block was seen: no more comes but zeros
};

// Pure: one header block. Nothing: it is all zeros.
Result<std::optional<TarEntry>> parse_tar_header(ByteView block);

}  // namespace kuramori::postgres
