// Small real files made by real servers: tests/golden/postgres (see its README.md).
#pragma once
#include <fstream>
#include <iterator>
#include <string>

#include "base/bytes.h"
#include "base/check.h"

namespace kuramori::postgres {

inline std::string golden(const std::string& name) {
  std::ifstream file(std::string(KURAMORI_GOLDEN) + "/postgres/" + name, std::ios::binary);
  CHECK(file);  // it is part of the checkout
  return {std::istreambuf_iterator<char>(file), {}};
}
inline Bytes golden_bytes(const std::string& name) {
  return to_bytes(as_bytes(golden(name)));
}

constexpr int kMajors[] = {13, 14, 15, 16, 17, 18};

}  // namespace kuramori::postgres
