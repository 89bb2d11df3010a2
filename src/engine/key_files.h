// Key files: who a key is, and the same keys under another passphrase.
#pragma once
#include <string>

#include "vault/key_bundle.h"

namespace kuramori {

// Writes the bundle anew to `to` (0600, never over an existing file), wrapped under `new_passphrase` or
// plain. What was written is read back and compared before this returns: the old file may then go, and not
// before (P65).
Result<void> rewrap_key(const KeyBundle& keys, const std::string& to, const Secret* new_passphrase);

}  // namespace kuramori
