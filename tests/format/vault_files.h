// A vault in memory, laid out in a folder as a local store would; and back.
#pragma once
#include "vault/test_support.h"

namespace kuramori::test {

// One archived file, and what it should come back as.
struct ArchivedFile {
  uint32_t timeline = 0;
  std::string file;
  Bytes content;
};

// What a vault holds, beside the vault itself.
struct SampleVault {
  TestVault vault;
  std::vector<ArchivedFile> archive;
  explicit SampleVault(uint64_t seed) : vault(seed) {}
};

// Several snapshots of a few files, full and incremental, and some WAL. `scale` 1 is small enough for a
// repository.
std::unique_ptr<SampleVault> make_sample(uint64_t seed, int snapshots, uint32_t scale);

// A page as PostgreSQL lays them out, which the page filter rewrites.
Bytes postgres_page(SeededRandom& random);

Result<void> write_objects(const OpenStore& store, const std::string& folder);
Result<void> read_objects(const std::string& folder, OpenStore& store);

}  // namespace kuramori::test
