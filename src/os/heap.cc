#include "os/heap.h"

#include <stdlib.h>  // says whether the C library is glibc

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace kuramori {

#if defined(__GLIBC__)
namespace {
constexpr int kOwnMappingFromBytes = 32 << 20;  // the most that glibc takes
constexpr int kKeptBytesMax = 64 << 20;
}  // namespace

void keep_freed_memory() {
  ::mallopt(M_MMAP_THRESHOLD, kOwnMappingFromBytes);
  ::mallopt(M_TRIM_THRESHOLD, kKeptBytesMax);
}

void keep_freed_memory_in_one_arena() {
  keep_freed_memory();
  ::mallopt(M_ARENA_MAX, 1);
}

void give_back_large_blocks() {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

void give_back_large_blocks_of_two_arenas() {
  give_back_large_blocks();
  ::mallopt(M_ARENA_MAX, 2);
}

void give_back_freed_memory() {
  ::malloc_trim(0);
}
#else
void give_back_large_blocks() {}
void give_back_large_blocks_of_two_arenas() {}
void keep_freed_memory() {}
void keep_freed_memory_in_one_arena() {}
void give_back_freed_memory() {}
#endif

}  // namespace kuramori
