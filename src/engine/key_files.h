// Key files: who a key is, and the same keys under another passphrase.
#pragma once
#include <string>

#include "vault/key_bundle.h"

namespace kuramori {

// Writes a key file (0600, never over an existing one), reads it back and compares: once this returns, the
// keys can be had from it.
Result<void> write_key_file(const KeyBundle& keys, const std::string& to, const Secret* passphrase);
// The same for text that only somebody else can open.
Result<void> write_new_key_file(const std::string& to, const std::string& text);

// Writes the bundle anew to `to` (0600, never over an existing file), wrapped under `new_passphrase` or
// plain. What was written is read back and compared before this returns: the old file may then go, and not
// before (P65).
Result<void> rewrap_key(const KeyBundle& keys, const std::string& to, const Secret* new_passphrase);

}  // namespace kuramori
