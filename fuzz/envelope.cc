// Envelopes: any bytes, as they are and with the checksum made right, under the name they themselves give.
#include "vault/envelope.h"

#include "fixed_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  static SealedRecordCodec codec(fuzz::keys(), fuzz::random());
  ByteView input(data, size);
  std::string name = "vault";
  if (size > 10) name = as_text(input.subspan(10, std::min<size_t>(load_le<uint16_t>(data + 8), size - 10)));
  (void)parse_envelope(name, input);
  (void)parse_envelope(name, input, false);
  (void)read_vault_info(name, input);
  fuzz::expect(!codec.decode(name, input));  // nobody signed it
  Bytes mended = to_bytes(input.first(size > 32 ? size - 32 : 0));
  fuzz::append_checksum(mended);
  (void)parse_envelope(name, mended);
  (void)read_vault_info(name, mended);
  fuzz::expect(!codec.decode(name, mended));
  // Its own envelopes come back whatever they hold.
  auto opened = codec.decode("x", codec.encode(RecordType::kHold, "x", fuzz::scope(), input));
  fuzz::expect(opened && equal(opened->body, input));
  return 0;
}
