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
#include "base/tree_entry.h"

namespace kuramori {

// Where one worker of a capture puts what it read. Each lane belongs to one thread; lanes run in parallel.
// `file` is the source's index of the file.
class CaptureLane {
 public:
  virtual ~CaptureLane() = default;
  // `pages.size()` is a multiple of the page size; page numbers ascend within a file. Pages not given are
  // taken from the base (only where the engine allowed that).
  virtual Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) = 0;
  // More bytes of a kBytes file, in order; all of one file through one lane, not mixed with another file's.
  virtual Result<void> add_bytes(uint32_t file, ByteView bytes) = 0;
};

}  // namespace kuramori
