// Whether a pack is whole: it ends in the digest of all before, and is named by it.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace kuramori::git {

// The digest a pack's name holds: "objects/pack/pack-<hex>.pack".
std::string_view sum_in_name(std::string_view path);

// Takes a pack's bytes as they pass.
class PackSum {
 public:
  // SHA-1 or SHA-256, as the name's length says.
  explicit PackSum(std::string_view path);
  ~PackSum();
  void add(ByteView bytes);
  // Whether the bytes are those the name and the end say.
  bool is_whole();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Whether its end is there and is as its name says: not read as a whole, it finds what was cut.
Result<bool> has_its_end(const std::string& path);

}  // namespace kuramori::git
