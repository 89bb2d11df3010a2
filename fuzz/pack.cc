// Packs: the input as the object (checksums made right, too), and as the directory of an otherwise sound
// pack.
#include "vault/pack.h"

#include "fixed_keys.h"

namespace {

using namespace kuramori;

const std::string kName = "packs/00/00000000000000000000000000000000-0";
constexpr size_t kFooterBytes = 24;

void read_all(Bytes object) {
  test::OpenStore store;
  LivePack bound{.name = kName, .size = object.size()};
  if (object.size() >= kFooterBytes) {
    bound.trailer_bytes = load_le<uint32_t>(object.data() + object.size() - kFooterBytes);
    if (2ull * bound.trailer_bytes + kFooterBytes <= object.size())
      bound.trailer_digest = sha256(
          ByteView(object).subspan(object.size() - kFooterBytes - bound.trailer_bytes, bound.trailer_bytes));
  }
  store.objects[kName] = std::move(object);
  (void)verify_pack_bytes(store, kName, nullptr);
  (void)verify_pack_bytes(store, kName, &bound);
  (void)read_wal_header(store, fuzz::keys(), kName);
  for (const LivePack* expected :
       {static_cast<const LivePack*>(nullptr), static_cast<const LivePack*>(&bound)}) {
    auto pack = PackReader::open(store, fuzz::keys(), kName, expected);
    if (!pack) continue;
    FrameWorkshop workshop(kZstdLevel);
    for (uint32_t i = 0; i < (*pack)->frames().size(); ++i) {
      Bytes out;
      (void)(*pack)->read(i, 1, workshop, out);
    }
  }
}

Bytes footer(uint32_t trailer_bytes, uint64_t frames_end) {
  Bytes bytes;
  append_le(bytes, trailer_bytes);
  append_le(bytes, frames_end);
  Digest check = sha256(bytes);
  append(bytes, check.view().first(8));
  append(bytes, as_bytes("KMPE"));
  return bytes;
}

// Head and one frame of a real pack; then a trailer with this directory.
Bytes pack_with_directory(ByteView plain) {
  static const Bytes real = [] {
    test::OpenStore store;
    test::StandingClock clock;
    auto writer = *PackWriter::create(store, fuzz::keys(), fuzz::random(), clock, kName, fuzz::scope());
    FrameWorkshop workshop(kZstdLevel);
    (void)writer->add(FrameType::kBytes, as_bytes("a frame"), workshop);
    LivePack live = *writer->finish();
    Bytes object = store.objects[kName];
    object.resize(object.size() - kFooterBytes - 2 * live.trailer_bytes);
    return object;
  }();
  static const Digest head = sha256(ByteView(real).first(parse_envelope(kName, real, false)->size));
  Bytes directory = to_bytes(plain);
  append(directory, as_bytes(std::string_view("\x2a\x20", 2)));  // field 5: the head's digest
  append(directory, head.view());
  Bytes ad = to_bytes(as_bytes("kuramori pack directory 1"));
  append(ad, fuzz::keys().family.view());
  append(ad, as_bytes(kName));
  Bytes sealed =
      xseal(structure_key(fuzz::keys(), fuzz::scope()), ad, zstd_compress(directory, 1), fuzz::random());
  Bytes trailer = to_bytes(as_bytes("KMPT"));
  append_le<uint32_t>(trailer, 1);  // version, flags, 0
  append_le<uint64_t>(trailer, real.size());
  append_le<uint32_t>(trailer, static_cast<uint32_t>(sealed.size()));
  append(trailer, sealed);
  append_le<uint32_t>(trailer, kStripeBytes);
  append_le<uint32_t>(trailer, 1);
  append(trailer, sha256(real).view());
  fuzz::append_checksum(trailer);
  Bytes object = real;
  append(object, trailer);
  append(object, trailer);
  append(object, footer(static_cast<uint32_t>(trailer.size()), real.size()));
  return object;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > fuzz::kInputBytesMax) return 0;
  ByteView input(data, size);
  read_all(to_bytes(input));
  // The input as a trailer, its checksum and the footer made right.
  Bytes trailer = to_bytes(input);
  fuzz::append_checksum(trailer);
  Bytes object = trailer;
  append(object, trailer);
  append(object, footer(static_cast<uint32_t>(trailer.size()), 0));
  read_all(std::move(object));
  read_all(pack_with_directory(input));
  return 0;
}
