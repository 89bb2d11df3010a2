// Key files: any text, as it is and with its check line made right.
#include "vault/key_bundle.h"

#include "fixed_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  std::string text(as_text(ByteView(data, size)));
  // Argon2 itself is not what is tried here, and a parameter may ask for gigabytes of it.
  auto none = [] { return Result<Secret>(fail(ErrorKind::kUsage, "no passphrase")); };
  (void)read_bundle(text, none);
  text = text.substr(0, text.rfind("check: "));
  text += "check: " + sha256(as_bytes(text)).hex().substr(0, 16) + "\n";
  auto bundle = read_bundle(text, none);
  if (!bundle) return 0;
  auto again = write_bundle(*bundle, nullptr, {}, fuzz::random());
  fuzz::expect(again.has_value());
  // A name with a line end could make another file of it; whatever is written is read back or refused, never
  // misread.
  auto back = read_bundle(*again, none);
  fuzz::expect(!back || back->family == bundle->family);
  return 0;
}
