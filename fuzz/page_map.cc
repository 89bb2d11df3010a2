// Page maps: the input as the object, and as the plain bytes of sealed blocks (first byte: where it is cut in
// two).
#include "vault/page_map.h"

#include "fixed_keys.h"

namespace {

using namespace kuramori;

const std::string kName = "maps/00/x-0";

void add_block(Bytes& object, uint32_t block, ByteView plain) {
  Bytes ad = to_bytes(as_bytes("kuramori page map 1"));
  append(ad, fuzz::keys().family.view());
  append_le(ad, block);
  append(ad, as_bytes(kName));
  Bytes sealed =
      xseal(structure_key(fuzz::keys(), fuzz::scope()), ad, zstd_compress(plain, 1), fuzz::random());
  append_le(object, static_cast<uint32_t>(sealed.size()));
  append(object, sealed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)decode_map(ByteView(data, size), fuzz::keys(), kName);
  if (size == 0 || size > fuzz::kInputBytesMax) return 0;
  ByteView input(data + 1, size - 1);
  size_t cut = std::min<size_t>(data[0], input.size());
  Bytes object = envelope_head(RecordType::kPageMap, kSealed | kCompressed, kName, fuzz::scope());
  add_block(object, 0, input.first(cut));
  add_block(object, 1, input.subspan(cut));
  uint64_t index = object.size();
  add_block(object, 2, {});
  append_le(object, index);
  fuzz::append_checksum(object);
  auto map = decode_map(object, fuzz::keys(), kName);
  if (!map) return 0;
  auto back =
      decode_map(encode_map(*map, fuzz::keys(), fuzz::random(), kName, fuzz::scope()), fuzz::keys(), kName);
  fuzz::expect(back && back->packs == map->packs && back->files == map->files);
  auto resolved = resolve({*map, *map});
  LiveFrames live;
  if (resolved) {
    for (const auto& [key, file] : resolved->files)
      for (const PageRun& run : file.runs) add_live(live, run);
  }
  for (auto& [pack, ranges] : live) normalise(ranges);
  return 0;
}
