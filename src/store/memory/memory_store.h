// A store in memory: for tests and simulations. Keeps the whole contract, survives nothing.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "store/store.h"

namespace kuramori {

class MemoryStore : public Store {
 public:
  // Where an attacker or a bad disk would reach in, beside the contract. For tests.
  virtual void tamper(std::string_view name, Bytes bytes) = 0;  // puts or replaces, unasked
  virtual size_t object_count() = 0;
  virtual std::unique_ptr<MemoryStore> clone() = 0;  // the same objects, from now on on its own
};

// `clock` gives stored_at; none without it.
std::unique_ptr<MemoryStore> make_memory_store(Clock* clock = nullptr);

}  // namespace kuramori
