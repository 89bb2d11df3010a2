#include "source/image/image_set.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/json_writer.h"
#include "source/image/reference.h"

namespace kuramori::image {
namespace {

using Json = nlohmann::json;

constexpr const char* kRefName = "org.opencontainers.image.ref.name";

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Json> parse(ByteView bytes, std::string_view name) {
  if (!is_modest_json(as_text(bytes)))
    return fail(ErrorKind::kDamaged, fmt::format("{} is larger than it can be", name));
  Json json = Json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (json.is_discarded() || !json.is_object())
    return fail(ErrorKind::kDamaged, fmt::format("{} is not what it should be", name),
                "it is no JSON object");
  return json;
}

}  // namespace

std::string Image::name() const {
  return tag.empty() ? fmt::format("{}@{}", repository, manifest.digest.text())
                     : fmt::format("{}:{}", repository, tag);
}

std::string index_json(const std::vector<Image>& images) {
  JsonWriter json;
  json.begin_object().field("schemaVersion", 2).field("mediaType", kOciIndex).key("manifests").begin_array();
  for (const Image& image : images) {
    json.begin_object().field("mediaType", image.manifest.media_type);
    json.field("digest", image.manifest.digest.text()).field("size", image.manifest.size);
    json.key("annotations").begin_object().field(kRefName, image.name()).end_object().end_object();
  }
  json.end_array().end_object();
  return json.take();
}

std::string layout_json() {
  return R"({"imageLayoutVersion":"1.0.0"})";
}

std::string notes_json(const ImageSet& set) {
  JsonWriter json;
  json.begin_object().field("registry", set.registry).key("left_out").begin_array();
  for (const auto& [digest, why] : set.left_out)
    json.begin_object().field("digest", digest.text()).field("why", why).end_object();
  json.end_array().end_object();
  return json.take();
}

Result<std::vector<Image>> parse_index(ByteView bytes) {
  TRY_ASSIGN(const Json json, parse(bytes, kIndexName));
  std::vector<Image> images;
  const auto list = json.find("manifests");
  if (list == json.end() || !list->is_array())
    return fail(ErrorKind::kDamaged, "index.json lists no images", "it has no \"manifests\"");
  for (const Json& one : *list) {
    Image image;
    if (!one.is_object()) return fail(ErrorKind::kDamaged, "index.json lists something that is no image");
    image.manifest.media_type = text_of(one, "mediaType");
    TRY_ASSIGN(image.manifest.digest, ContentDigest::parse(text_of(one, "digest")));
    if (const auto size = one.find("size"); size != one.end() && size->is_number_unsigned())
      image.manifest.size = size->get<uint64_t>();
    const auto annotations = one.find("annotations");
    if (annotations == one.end() || !annotations->is_object()) continue;
    const std::string name = text_of(*annotations, kRefName);
    const size_t at = name.find_first_of(":@");
    image.repository = name.substr(0, at);
    if (at != name.npos && name[at] == ':') image.tag = name.substr(at + 1);
    if (at == name.npos || !is_repository(image.repository) || (name[at] == ':' && !is_tag(image.tag)) ||
        (name[at] == '@' && name.substr(at + 1) != image.manifest.digest.text())) {
      return fail(ErrorKind::kDamaged, "index.json has a name that no registry takes",
                  fmt::format("of {}", image.manifest.digest.brief()));
    }
    images.push_back(std::move(image));
  }
  return images;
}

Result<std::map<ContentDigest, std::string>> parse_notes(ByteView bytes) {
  TRY_ASSIGN(const Json json, parse(bytes, kNotesName));
  std::map<ContentDigest, std::string> left_out;
  const auto list = json.find("left_out");
  if (list == json.end() || !list->is_array()) return left_out;
  for (const Json& one : *list) {
    if (!one.is_object()) continue;
    TRY_ASSIGN(ContentDigest digest, ContentDigest::parse(text_of(one, "digest")));
    left_out.emplace(std::move(digest), text_of(one, "why"));
  }
  return left_out;
}

ContentDigest digest_of_path(std::string_view path) {
  const std::string prefix = std::string(kBlobsFolder) + "/";
  if (!path.starts_with(prefix)) return {};
  path.remove_prefix(prefix.size());
  const size_t slash = path.find('/');
  if (slash == path.npos) return {};
  std::string text(path);
  text[slash] = ':';
  auto digest = ContentDigest::parse(text);
  return digest ? std::move(*digest) : ContentDigest();
}

}  // namespace kuramori::image
