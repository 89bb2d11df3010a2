// Any bytes as what a registry or a snapshot says: manifests, lists, challenges, tokens, an index.json,
// packed layers. An answer or an error in words, never a crash; what is taken for a name or a digest is one.
// The first byte says which.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "codec/unpack.h"
#include "source/image/auth.h"
#include "source/image/image_set.h"
#include "source/image/reference.h"

namespace {

using namespace kuramori;
using namespace kuramori::image;

void check_digest(const ContentDigest& digest) {
  CHECK(digest_of_path(digest.path()) == digest);
  CHECK(digest.path().find("..") == std::string::npos);
}

void read_manifest(ByteView bytes) {
  const auto manifest = parse_manifest(bytes, "");
  if (!manifest) {
    CHECK(!manifest.error().what.empty());
    return;
  }
  for (const Descriptor& one : manifest->manifests) check_digest(one.digest);
  for (const Descriptor& one : manifest->layers) check_digest(one.digest);
  if (manifest->config) check_digest(manifest->config->digest);
}

// What is read from an index.json is written as one that says the same.
void read_index(ByteView bytes) {
  const auto images = parse_index(bytes);
  if (!images) return;
  for (const Image& image : *images) {
    CHECK(is_repository(image.repository) && (image.tag.empty() || is_tag(image.tag)));
    check_digest(image.manifest.digest);
  }
  const std::string text = index_json(*images);
  const auto again = parse_index(as_bytes(text));
  CHECK(again && again->size() == images->size());
  for (size_t i = 0; i < images->size(); ++i) CHECK((*again)[i].name() == (*images)[i].name());
}

void unpack(Packing packing, ByteView bytes) {
  uint64_t whole = 0, pieces = 0;
  Unpacker at_once(packing, [&](ByteView plain) -> Result<void> {
    whole += plain.size();
    return {};
  });
  Unpacker by_piece(packing, [&](ByteView plain) -> Result<void> {
    pieces += plain.size();
    return {};
  });
  bool good = at_once.add(bytes).has_value() && at_once.finish().has_value();
  bool also = true;
  for (size_t at = 0; at < bytes.size() && also; ++at) also = by_piece.add(bytes.subspan(at, 1)).has_value();
  also = also && by_piece.finish().has_value();
  CHECK(good == also && (!good || whole == pieces));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(data + 1, size - 1);
  switch (data[0] % 9) {
    case 0:
      read_manifest(bytes);
      break;
    case 1:
      read_index(bytes);
      break;
    case 2:
      (void)parse_challenge(as_text(bytes));
      break;
    case 3:
      (void)parse_token(bytes);
      (void)words_of(bytes);
      break;
    case 4:
      (void)parse_names(bytes, "tags");
      (void)parse_diff_ids(bytes);
      break;
    case 5:
      (void)parse_notes(bytes);
      break;
    case 6:
      if (const auto wanted = parse_wanted(as_text(bytes))) (void)matches(wanted->repository, "team/app");
      break;
    case 7:
      unpack(Packing::kGzip, bytes);
      break;
    default:
      unpack(Packing::kZstd, bytes);
      break;
  }
  return 0;
}
