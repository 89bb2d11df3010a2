#include "source/image/manifest.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

namespace kuramori::image {
namespace {

using Json = nlohmann::json;

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Error damaged(std::string why) {
  return fail(ErrorKind::kDamaged, "it is no manifest", std::move(why));
}

Result<Json> parse(ByteView bytes) {
  const std::string_view text = as_text(bytes);
  if (!is_modest_json(text)) return damaged("it nests deeper or holds more than any image does");
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded()) return damaged("it is not JSON");
  return json;
}

Result<Descriptor> descriptor_of(const Json& json) {
  if (!json.is_object()) return damaged("what it refers to is not described");
  Descriptor out{.media_type = text_of(json, "mediaType"), .artifact_type = text_of(json, "artifactType")};
  TRY_ASSIGN(out.digest, ContentDigest::parse(text_of(json, "digest")));
  const auto size = json.find("size");
  if (size == json.end() || !size->is_number_unsigned() || size->get<uint64_t>() > INT64_MAX)
    return damaged(fmt::format("it does not say how large {} is", out.digest.brief()));
  out.size = size->get<uint64_t>();
  if (const auto platform = json.find("platform"); platform != json.end() && platform->is_object()) {
    out.platform = fmt::format("{}/{}", text_of(*platform, "os"), text_of(*platform, "architecture"));
    if (const std::string variant = text_of(*platform, "variant"); !variant.empty())
      out.platform += "/" + variant;
  }
  if (const auto annotations = json.find("annotations");
      annotations != json.end() && annotations->is_object())
    out.attests = text_of(*annotations, "vnd.docker.reference.digest");
  const auto urls = json.find("urls");
  out.elsewhere = (urls != json.end() && urls->is_array() && !urls->empty()) ||
                  out.media_type.find("foreign") != std::string::npos ||
                  out.media_type.find("nondistributable") != std::string::npos;
  return out;
}

Result<std::vector<Descriptor>> descriptors_of(const Json& list) {
  std::vector<Descriptor> out;
  if (!list.is_array()) return damaged("a list is none");
  for (const Json& one : list) {
    TRY_ASSIGN(Descriptor descriptor, descriptor_of(one));
    out.push_back(std::move(descriptor));
  }
  return out;
}

}  // namespace

bool is_modest_json(std::string_view text) {
  size_t depth = 0, values = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') {
      if (++depth > kJsonDepthMax) return false;
    }
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (c == '[' || c == '{' || c == ',' || c == ':') {
      if (++values > kJsonValuesMax) return false;
    }
  }
  return true;
}

Result<Manifest> parse_manifest(ByteView bytes, std::string_view media_type) {
  TRY_ASSIGN(const Json json, parse(bytes));
  if (!json.is_object()) return damaged("it is not an object");
  Manifest out{.media_type = text_of(json, "mediaType"), .artifact_type = text_of(json, "artifactType")};
  if (out.media_type.empty()) out.media_type = media_type;
  const auto version = json.find("schemaVersion");
  if (version != json.end() && version->is_number_integer() && *version == 1) {
    return fail(ErrorKind::kUsage, "it is an image of Docker's old schema 1",
                "such a manifest is not the bytes its digest is of, so it cannot be kept by digest",
                "push it again with a present-day client");
  }
  if (const auto list = json.find("manifests"); list != json.end()) {
    out.form = Manifest::Form::kIndex;
    TRY_ASSIGN(out.manifests, descriptors_of(*list));
  } else if (json.contains("layers") || json.contains("config")) {
    out.form = Manifest::Form::kImage;
    if (const auto layers = json.find("layers"); layers != json.end()) {
      TRY_ASSIGN(out.layers, descriptors_of(*layers));
    }
    if (const auto config = json.find("config"); config != json.end() && !config->is_null()) {
      TRY_ASSIGN(out.config, descriptor_of(*config));
    }
  } else if (const auto blobs = json.find("blobs"); blobs != json.end()) {
    TRY_ASSIGN(out.layers, descriptors_of(*blobs));
  }
  if (const auto subject = json.find("subject"); subject != json.end() && !subject->is_null()) {
    TRY_ASSIGN(out.subject, descriptor_of(*subject));
  }
  if (const auto notes = json.find("annotations"); notes != json.end() && notes->is_object()) {
    for (const auto& [name, value] : notes->items()) {
      if (value.is_string()) out.annotations.emplace_back(name, value.get<std::string>());
    }
  }
  // Registries of old leave the type out of an OCI document.
  if (out.media_type.empty() && out.form == Manifest::Form::kIndex) out.media_type = kOciIndex;
  if (out.media_type.empty() && out.form == Manifest::Form::kImage) out.media_type = kOciManifest;
  return out;
}

Result<std::vector<ContentDigest>> parse_diff_ids(ByteView config) {
  TRY_ASSIGN(const Json json, parse(config));
  std::vector<ContentDigest> out;
  if (!json.is_object()) return out;
  const auto rootfs = json.find("rootfs");
  if (rootfs == json.end() || !rootfs->is_object()) return out;
  const auto ids = rootfs->find("diff_ids");
  if (ids == rootfs->end() || !ids->is_array()) return out;
  for (const Json& id : *ids) {
    TRY_ASSIGN(ContentDigest digest, ContentDigest::parse(id.is_string() ? id.get<std::string>() : ""));
    out.push_back(std::move(digest));
  }
  return out;
}

bool is_platform(std::string_view chosen, std::string_view platform) {
  return platform == chosen ||
         (platform.size() > chosen.size() && platform.starts_with(chosen) && platform[chosen.size()] == '/');
}

}  // namespace kuramori::image
