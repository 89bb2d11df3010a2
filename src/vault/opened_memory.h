// What this machine has opened of a vault's small records, kept between runs: so that looking at a hundred
// thousand commits does not cost as many reads and signatures each time.
//
// Problem: a signature takes a twentieth of a millisecond to check, and a far store a round trip for each
// record. Approach: what was opened and verified is written into a file, sealed under a key that comes from
// this bundle's own signing seed. Whoever can make the file say something holds that key, and could as well
// change the program's answers; for everybody else it either opens or is as good as absent.
//
// Why it hides nothing: records never change, and a name is never used for anything else. A record is taken
// from here only if its name was listed just now, with the same size, and its signer's grant and revocation
// are asked again (vault/overview.h). So an old file is merely incomplete. What decides — prunes,
// collections, scrubs — never looks here.
//
// The file: "KMROPEN1", chunks of records, an index, and a footer. It is replaced as a whole, by a rename; a
// file that was cut short has no footer and counts as none. Not fsynced: it may be lost.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "vault/key_bundle.h"
#include "vault/record_codec.h"

namespace kuramori {

constexpr size_t kOpenedWorthRecords = 16;  // that are not in the file before it is written anew

class OpenedMemory {
 public:
  // Of one vault, as one key opens it, in `folder` (made when something is kept). Borrows the random source.
  OpenedMemory(const std::string& folder, const KeyBundle& keys, const VaultId& vault, Random& random);
  ~OpenedMemory();
  OpenedMemory(const OpenedMemory&) = delete;

  bool empty() const;
  // Whether recall() may find it; one look into the index.
  bool may_know(std::string_view full_name) const;
  // What was opened under this name, if the object had this size.
  std::optional<OpenedRecord> recall(std::string_view full_name, uint64_t object_bytes);
  void remember(std::string_view full_name, uint64_t object_bytes, const OpenedRecord& record);
  // Writes the file when enough came since. What was not asked for is dropped once it is the larger half.
  Result<void> keep();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace kuramori
