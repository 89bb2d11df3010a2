// Changed blocks: they come out of a vault. Whatever the bytes, they are read within bounds or refused, and
// what was read is written and read back the same.
#include "source/postgres/changed_blocks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori::postgres;
  const auto changed = decode_changed_blocks({data, size});
  if (!changed) return 0;
  const auto bytes = encode(*changed);
  if (!bytes) __builtin_trap();
  const auto again = decode_changed_blocks(*bytes);
  if (!again || !(*again == *changed)) __builtin_trap();
  return 0;
}
