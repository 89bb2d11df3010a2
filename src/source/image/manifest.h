// Manifests: the small documents that say what an image consists of (OCI image specification 1.1, Docker's
// schema 2). They are read for what they refer to and otherwise kept as the bytes they are.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "source/image/digest.h"

namespace kuramori::image {

// Registries take at least these (distribution specification), and we no larger ones: they are held whole.
constexpr size_t kManifestBytesMax = size_t{4} << 20;
// Values in one JSON document: what a hostile one costs in memory.
constexpr size_t kJsonValuesMax = 250'000;
constexpr size_t kJsonDepthMax = 64;
constexpr size_t kConfigBytesMax = size_t{8} << 20;

// Whether a JSON document stays within these limits; says nothing else of it.
bool is_modest_json(std::string_view text);

constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kDockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";

// What a manifest says of something it refers to.
struct Descriptor {
  std::string media_type;
  ContentDigest digest;
  uint64_t size = 0;          // bytes
  std::string platform;       // "linux/arm64/v8"; "": it says none
  std::string artifact_type;  // of a referrer
  std::string attests;        // BuildKit: the digest of the manifest this one is an attestation of
  bool elsewhere = false;     // a foreign layer: it is to be had from a URL, perhaps not from the registry
};

struct Manifest {
  enum class Form : uint8_t {
    kIndex,   // of further manifests, one a platform
    kImage,   // a configuration and layers
    kOpaque,  // something else that is kept as bytes
  } form = Form::kOpaque;
  std::string media_type;
  std::vector<Descriptor> manifests;  // of an index
  std::optional<Descriptor> config;
  std::vector<Descriptor> layers;  // of an image; of an artifact its blobs
  std::optional<Descriptor> subject;
  std::string artifact_type;
  std::vector<std::pair<std::string, std::string>> annotations;
};

// `media_type`: as the registry or a descriptor had it; the document's own word goes before. kDamaged: a
// document that refers to something in a way that cannot be meant. kUsage: Docker's schema 1, whose bytes are
// not what its digest is of.
Result<Manifest> parse_manifest(ByteView bytes, std::string_view media_type);

// What a configuration says the layers are when they are unpacked, one digest each; nothing: it is no
// configuration of an image (of a signature, a chart).
Result<std::vector<ContentDigest>> parse_diff_ids(ByteView config);

// Whether a chosen platform ("linux/arm64") means this one ("linux/arm64/v8").
bool is_platform(std::string_view chosen, std::string_view platform);

}  // namespace kuramori::image
