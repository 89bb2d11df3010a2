// Small objects that are listed and then read one after the other: the next ones are on their way before they
// are asked for. For stores where every get costs a round trip: a thousand commits at 50 ms are fifty
// seconds, or four.
#pragma once
#include <memory>

#include "store/store.h"

namespace kuramori {

struct PrefetchLimits {
  size_t ahead = 12;                        // objects under way or waiting to be asked for; as many threads
  size_t object_bytes = size_t{256} << 10;  // larger ones are not fetched ahead
};

// What a get gives was read after the list that named the object, as it would have been without this: objects
// never change. Whatever was fetched ahead is forgotten with the next list, put or removal through this
// store, so nothing that a caller does is followed by an answer from before it.
std::unique_ptr<Store> with_prefetch(std::unique_ptr<Store> inner, PrefetchLimits limits = {});

}  // namespace kuramori
