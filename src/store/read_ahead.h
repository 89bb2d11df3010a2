// Reading ahead in objects that are far away: a wrapper for stores where every read costs a round trip.
//
// Whoever restores reads pieces of a megabyte one after the other; at 50 ms a request that is 20 MB/s a
// thread. Here such a reader is noticed (large reads, or each beginning where one before it ended), and large
// blocks behind what it asked for are on their way before it asks, or as soon as it says that it will.
// Whoever picks single pages is noticed too, and gets exactly what it asked for.
#pragma once
#include <memory>

#include "store/store.h"

namespace kuramori {

constexpr size_t kReadAheadBlockBytes = size_t{4} << 20;  // one read of the store

struct ReadAheadLimits {
  size_t block_bytes = kReadAheadBlockBytes;
  size_t blocks_ahead = 4;                  // of one stream
  size_t memory_bytes = size_t{64} << 20;   // of all blocks held, of all objects
  size_t threads = 8;                       // reads under way at once
  size_t stream_bytes = size_t{256} << 10;  // a read of this size is a stream's
};

// Everything else goes to `inner` as it is.
std::unique_ptr<Store> with_read_ahead(std::unique_ptr<Store> inner, ReadAheadLimits limits = {});

}  // namespace kuramori
