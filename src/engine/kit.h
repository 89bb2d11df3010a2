// The recovery kit: one printable page that brings everything back when nothing else is left — the key, where
// the vaults are, and the commands. docs/keys.md says how to keep it.
#pragma once
#include <string>
#include <vector>

#include "vault/vault.h"

namespace kuramori {

struct KitPlace {
  std::string name, site;  // "" where no configuration says it
  std::string location;    // as --vault takes it
};

struct KitRequest {
  std::string name;                    // the vault's
  std::vector<KitPlace> places;        // the vault itself first, then its copies
  std::string key_file;                // whose text goes in as it is …
  const Secret* passphrase = nullptr;  // … or wrapped anew under this one
};

// The page. Its making is told in the vault first (audit/), so that there is no kit nobody knows of.
// kRefused: not the owner's key.
Result<std::string> make_kit(Vault& vault, const KitRequest& request);

}  // namespace kuramori
