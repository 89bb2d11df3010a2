// Runs of the chunk index: the input as the object, and as the plain bytes of a table and one block (first
// two bytes: where it is cut in two). What is left of the block is zeros.
#include "vault/chunk_run.h"

#include "fixed_keys.h"

namespace {

using namespace kuramori;

const std::string kName = "maps/00/x-0";

Bytes sealed(std::string_view context, ByteView plain) {
  Bytes ad = to_bytes(as_bytes(context));
  append(ad, fuzz::keys().family.view());
  append_le<uint64_t>(ad, 0);
  append(ad, as_bytes(kName));
  return xseal(structure_key(fuzz::keys(), fuzz::scope()), ad, plain, fuzz::random());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)check_chunk_run(ByteView(data, size), fuzz::keys(), kName);
  if (size < 2 || size > fuzz::kInputBytesMax) return 0;
  const ByteView input(data + 2, size - 2);
  const size_t cut = std::min<size_t>(load_le<uint16_t>(data), input.size());
  const ByteView table = input.first(cut);
  Bytes block = to_bytes(input.subspan(cut, std::min(input.size() - cut, kChunkBlockPlainBytes)));
  block.resize(kChunkBlockPlainBytes);
  Bytes object = envelope_head(RecordType::kChunkRun, kSealed, kName, fuzz::scope());
  append(object, sealed("kuramori chunk index 1", block));
  const uint64_t table_at = object.size();
  const Bytes part = sealed("kuramori chunk index table 1", table);
  append_le(object, static_cast<uint32_t>(part.size()));
  append(object, part);
  append_le(object, table_at);
  fuzz::append_checksum(object);
  const ChunkRun::ReadAt read = [&](uint64_t offset, MutableByteView out) -> Result<void> {
    if (offset > object.size() || out.size() > object.size() - offset)
      return fail(ErrorKind::kDamaged, "truncated");
    std::ranges::copy(ByteView(object).subspan(offset, out.size()), out.begin());
    return {};
  };
  const bool whole = check_chunk_run(object, fuzz::keys(), kName).has_value();
  auto run = ChunkRun::open(read, object.size(), fuzz::keys(), kName);
  if (!run) {
    fuzz::expect(!whole);
    return 0;
  }
  auto entries = run->read_block(read, 0);
  if (!entries) return 0;
  for (const ChunkEntry& entry : *entries) {
    fuzz::expect(!run->pack_name(entry.pack).empty());
    const auto last = run->last_block_for(entry.id);
    fuzz::expect(last == 0u);
    fuzz::expect(!whole || run->may_be_in(0, entry.id));
  }
  return 0;
}
