// The header of an INCREMENTAL. file: cut in two anywhere it is read the same way or refused, and never tells
// of a block that a file cannot have.
#include "source/postgres/incremental_file.h"
#include "base/bytes.h"
#include "codec/page_checksum.h"

using namespace kuramori;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  postgres::IncrementalReader whole(size), cut(size);
  ByteView rest = bytes, first = bytes.first(size / 3), second = bytes.subspan(size / 3);
  const bool right = whole.feed(rest).has_value();
  bool again = cut.feed(first).has_value();
  if (again && !cut.header()) again = cut.feed(second).has_value();
  if (right != again || whole.header().has_value() != cut.header().has_value()) __builtin_trap();
  if (!whole.header()) return 0;
  if (whole.header()->blocks != cut.header()->blocks || whole.header()->length != cut.header()->length)
    __builtin_trap();
  // What is left is what the numbers say.
  if (rest.size() != whole.header()->blocks.size() * kPageBytes) __builtin_trap();
  if (whole.header()->file_pages() > kPagesPerRelationFile) __builtin_trap();
  return 0;
}
