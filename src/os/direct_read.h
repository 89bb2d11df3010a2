// Reads past the page cache. What is read once is not worth the kernel's copy of it, nor what of others that
// copy drives out.
#pragma once
#include <optional>

#include "os/file.h"

namespace kuramori {

// The same file, opened once more for reads past the page cache; nothing where that cannot be. By way of
// /proc, for its name may belong to another file by now.
std::optional<Fd> open_direct(const Fd& file);

// Whether the page cache has all of [offset, offset + length), bytes; offset is a multiple of
// kDirectIoAlignment. Asked by mincore(2): a read with RWF_NOWAIT would start a read-ahead into the cache.
// For a file of somebody else the kernel says yes to anything; then the read is a buffered one.
bool is_cached(const Fd& file, uint64_t offset, size_t length);

}  // namespace kuramori
