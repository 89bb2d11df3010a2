#include "engine/key_files.h"

#include <fmt/core.h>

#include "os/file.h"

namespace kuramori {

Result<void> rewrap_key(const KeyBundle& keys, const std::string& to, const Secret* new_passphrase) {
  TRY_ASSIGN(std::string text, write_bundle(keys, new_passphrase, {}, system_random()));
  auto written = write_new_file(to, as_bytes(text), 0600);
  wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  if (!written && written.error().kind == ErrorKind::kExists) {
    return fail(ErrorKind::kRefused, fmt::format("{} exists already", to), "a key file is never overwritten",
                "give a new name with --to FILE");
  }
  TRY(written);
  TRY_ASSIGN(KeyBundle again, read_bundle_file(to, [&]() -> Result<Secret> {
               if (new_passphrase == nullptr) return fail(ErrorKind::kFailed, "the new key file is wrapped");
               return new_passphrase->clone();
             }));
  bool same = again.family == keys.family && again.role == keys.role &&
              again.reader_public == keys.reader_public &&
              again.signing->verify_key() == keys.signing->verify_key() &&
              equal_secret(again.structure.view(), keys.structure.view()) &&
              again.reader.has_value() == keys.reader.has_value();
  if (!same) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold the keys it was made of", to),
                "it was read back and compared", "keep the old key file; remove the new one and try again");
  }
  return {};
}

}  // namespace kuramori
