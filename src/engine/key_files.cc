#include "engine/key_files.h"

#include <fmt/core.h>

#include "os/file.h"

namespace kuramori {

Result<void> write_new_key_file(const std::string& to, const std::string& text) {
  auto written = write_new_file(to, as_bytes(text), 0600);
  if (!written && written.error().kind == ErrorKind::kExists) {
    return fail(ErrorKind::kRefused, fmt::format("{} exists already", to), "a key file is never overwritten",
                "give a new name with --to FILE");
  }
  return written;
}

Result<void> write_key_file(const KeyBundle& keys, const std::string& to, const Secret* passphrase) {
  TRY_ASSIGN(std::string text, write_bundle(keys, passphrase, {}, system_random()));
  auto written = write_new_key_file(to, text);
  wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  TRY(written);
  TRY_ASSIGN(KeyBundle again, read_bundle_file(to, [&]() -> Result<Secret> {
               if (passphrase == nullptr) return fail(ErrorKind::kFailed, "the new key file is wrapped");
               return passphrase->clone();
             }));
  auto same_secret = [](const Secret& a, const Secret& b) {
    return a.size() == b.size() && equal_secret(a.view(), b.view());
  };
  bool same = again.family == keys.family && again.role == keys.role &&
              again.reader_public == keys.reader_public && again.owner_verify == keys.owner_verify &&
              same_secret(again.signing->seed(), keys.signing->seed()) &&
              same_secret(again.structure, keys.structure) && same_secret(again.chunk, keys.chunk) &&
              again.reader.has_value() == keys.reader.has_value() &&
              (!keys.reader || same_secret(again.reader->secret_key, keys.reader->secret_key));
  if (!same) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold the keys it was made of", to),
                "it was read back and compared", "keep the old key file; remove the new one and try again");
  }
  return {};
}

Result<void> rewrap_key(const KeyBundle& keys, const std::string& to, const Secret* new_passphrase) {
  return write_key_file(keys, to, new_passphrase);
}

}  // namespace kuramori
