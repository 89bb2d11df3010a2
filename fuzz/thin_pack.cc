// Thin packs: the input as a table, as it is and with its checksum made right, and as the object of a pack.
#include "vault/thin_pack.h"

#include "fixed_keys.h"
#include "vault/pack.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  if (size > fuzz::kInputBytesMax) return 0;
  const ByteView input(data, size);
  (void)parse_thin_table(input);
  Bytes table = to_bytes(input);
  fuzz::append_checksum(table);
  auto parsed = parse_thin_table(table);
  if (!parsed) return 0;
  // What is held, the table twice, the footer: read through it as the whole pack.
  const uint64_t kept = parsed->kept_bytes();
  if (kept > fuzz::kInputBytesMax) return 0;
  Bytes object(static_cast<size_t>(kept), 0x5a);
  append(object, table);
  append(object, table);
  Bytes footer;
  append_le<uint32_t>(footer, static_cast<uint32_t>(table.size()));
  append_le<uint64_t>(footer, kept);
  const Digest check = sha256(footer);
  append(footer, check.view().first(8));
  append(footer, as_bytes("KMPF"));
  append(object, footer);
  const std::string name = "packs/00/00000000000000000000000000000000-0";
  test::OpenStore store;
  store.objects[name] = object;
  auto thin = ThinPack::open(*store.open(name), name);
  if (!thin) return 0;
  (void)(*thin)->verify();
  for (const ThinTable::Extent& extent : (*thin)->table().extents) {
    Bytes out(static_cast<size_t>(extent.bytes));
    if (!(*thin)->read(extent.offset, out)) __builtin_trap();
  }
  LivePack bound{.name = name, .size = parsed->whole_bytes, .trailer_bytes = 64, .frames = parsed->frames};
  (void)verify_pack_bytes(store, name, &bound);
  (void)PackReader::open(store, fuzz::keys(), name, &bound);
  return 0;
}
