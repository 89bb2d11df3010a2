// Images, and what they consist of: what a capture finds in a registry, what stands in a snapshot's
// index.json, what is given to another registry.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "source/image/manifest.h"

namespace kuramori::image {

// In one resource: what is remembered of each is held in memory while it is captured or given back.
constexpr size_t kImagesMax = 20'000;
constexpr size_t kBlobsMax = 300'000;
constexpr size_t kDepthMax = 8;  // of indexes in indexes

// A name and the manifest it stands for.
struct Image {
  std::string repository;  // "team/app"
  std::string tag;         // "": it is known by its digest alone
  Descriptor manifest;
  std::string name() const;  // "team/app:v1", "team/app@sha256:…"
};

struct Blob {
  uint64_t size = 0;
  bool is_manifest = false;
  std::vector<uint32_t> repositories;  // that have it, at most kRepositoriesOfBlobMax; numbers of ImageSet's
};
constexpr size_t kRepositoriesOfBlobMax = 4;

struct ImageSet {
  std::string registry;
  std::vector<Image> images;  // by name
  std::vector<std::string> repositories;
  std::map<ContentDigest, Blob> blobs;  // manifests are blobs, too
  // What an image refers to and is left out on purpose, and why.
  std::map<ContentDigest, std::string> left_out;
};

// --- the OCI image layout: blobs/ALGORITHM/DIGITS, index.json, oci-layout; and what we say beside it ------
constexpr std::string_view kIndexName = "index.json";
constexpr std::string_view kLayoutName = "oci-layout";
constexpr std::string_view kNotesName = "kuramori.json";
constexpr std::string_view kBlobsFolder = "blobs";
constexpr size_t kIndexBytesMax = size_t{16} << 20;

// Images by name, each with org.opencontainers.image.ref.name.
std::string index_json(const std::vector<Image>& images);
std::string layout_json();
// Where the images are from, and what was left out.
std::string notes_json(const ImageSet& set);

// The images of an index.json; names that are none are kDamaged.
Result<std::vector<Image>> parse_index(ByteView json);
Result<std::map<ContentDigest, std::string>> parse_notes(ByteView json);
// Of a path of the tree: "blobs/sha256/…"; an empty digest for any other.
ContentDigest digest_of_path(std::string_view path);

}  // namespace kuramori::image
