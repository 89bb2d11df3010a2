// Files of KEY=value lines: the input as one, and as two (first byte: where it is cut) to be compared.
#include "source/secret/dotenv.h"

#include <algorithm>
#include <cstdint>

using namespace kuramori;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView input(data, size);
  const auto keys = secret::parse_dotenv(input);
  if (keys) {
    const auto same = secret::diff_keys(input, input);
    const bool sorted = std::ranges::is_sorted(*keys, {}, &secret::DotenvKey::name);
    if (!same || !same->empty() || !sorted) __builtin_trap();
  } else if (keys.error().what.size() > 100) {
    __builtin_trap();  // a message has a line's number, and nothing of what stands in it
  }
  if (size == 0) return 0;
  const size_t cut = std::min<size_t>(data[0], size - 1);
  const auto there = secret::diff_keys(input.subspan(1, cut), input.subspan(1 + cut));
  const auto back = secret::diff_keys(input.subspan(1 + cut), input.subspan(1, cut));
  if (there.has_value() != back.has_value() || (there && there->size() != back->size())) __builtin_trap();
  return 0;
}
