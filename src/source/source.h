// What a source (the code that knows one kind of resource) and the engine say to each other.
// A source knows no vault: it hands entries, pages and bytes to lanes, and facts to whoever asks.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace kuramori {

enum class EntryType : uint8_t { kDirectory = 1, kFile = 2, kSymlink = 3 };
// Bytes: a stream, kept whole. Pages: a file of native pages (PostgreSQL: 8 KiB), kept page by page.
enum class ContentKind : uint8_t { kNone = 0, kBytes = 1, kPages = 2 };

// One thing of a tree as it was captured. Paths are relative, '/' between parts, any bytes but NUL; no empty, "."
// or ".." part (the reader of a vault checks that again).
struct TreeEntry {
  std::string path;
  EntryType type = EntryType::kFile;
  ContentKind content = ContentKind::kNone;
  uint32_t mode = 0;  // permission bits
  uint32_t uid = 0, gid = 0;
  int64_t mtime_ns = 0;
  uint64_t size = 0;  // bytes as captured (a page file: pages × page size)
  std::string link;   // symlink: where it points
};

// Where one worker of a capture puts what it read. Each lane belongs to one thread; lanes run in parallel.
// `file` is the source's index of the file.
class CaptureLane {
 public:
  virtual ~CaptureLane() = default;
  // `pages.size()` is a multiple of the page size; page numbers ascend within a file. Pages not given are taken
  // from the base (only where the engine allowed that).
  virtual Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) = 0;
  // More bytes of a kBytes file, in order; all of one file through one lane, not mixed with another file's.
  virtual Result<void> add_bytes(uint32_t file, ByteView bytes) = 0;
};

}  // namespace kuramori
