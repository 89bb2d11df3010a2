#include "policy/config_schema.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "policy/config.h"

namespace kuramori {
namespace {

// A map somewhere in the configuration: what words_on_key calls it, how a file is written around it, its
// shape.
struct Place {
  std::string label;
  std::function<std::string(std::string)> file;  // from what stands between its braces
  const Shape* shape;
};

// What a map must have to be read to its end.
std::string required(const std::string& label) {
  const std::map<std::string, std::string> all = {
      {"vaults", "at: /x"},
      {"bucket", "at: \"s3://b\""},
      {"git", "url: u"},
      {"webhook", "listen: \"h:1\", secret: s"},
      {"replicate", "to: x"},
      {"maintenance", "schedule: \"0 0 * * *\", lasts: 1h"},
      {"sql", "query: q, expect: e"},
      {"scenarios", "lost: s, from: v"},
      {"exercises", "schedule: \"0 0 1 1 *\""},
      {"notify", "to: x"},
      {"quiet", "from: \"22:00\", until: \"07:00\""},
      {"escalate", "after: 1m, to: x"},
  };
  const auto found = all.find(label);
  return found == all.end() ? "" : found->second + ", ";
}

void collect(const Shape& shape, const std::string& label, std::function<std::string(std::string)> file,
             std::vector<Place>& out) {
  if (shape.is == Shape::Is::kList || shape.is == Shape::Is::kNames) {
    const bool list = shape.is == Shape::Is::kList;
    return collect(
        shape.of.front(), label,
        [file, list](std::string inside) {
          return file(list ? "[ " + inside + " ]" : "{ x: " + inside + " }");
        },
        out);
  }
  if (shape.is != Shape::Is::kMap) return;
  for (const Shape& variant : shape.variants) {
    const auto of_kind = [file, &variant](const std::string& inside) {
      return file("{ " + variant.variant_key + ": " + variant.variant + ", " + inside.substr(1));
    };
    collect(variant, variant.variant, of_kind, out);
  }
  if (!shape.variants.empty()) return;
  out.push_back(
      {label,
       [file, label](const std::string& inside) { return file("{ " + required(label) + inside + " }"); },
       &shape});
  for (const ShapeKey& key : shape.keys)
    for (const Shape& value : key.any)
      collect(
          value, key.name,
          [file, label, name = key.name](const std::string& inside) {
            return file("{ " + required(label) + name + ": " + inside + " }");
          },
          out);
}

std::vector<Place> all_maps(const Shape& shape) {
  std::vector<Place> out;
  collect(shape, "", [](std::string inside) { return inside; }, out);
  return out;
}

TEST(ConfigSchema, it_has_exactly_the_keys_that_the_reader_names_as_known) {
  const Shape shape = describe_config();
  const ConfigWorld nothing{
      .environment = [](const std::string&) { return std::nullopt; },
      .read_file = [](const std::string& path) -> Result<std::string> { return path; },
      .run_command = [](const std::string& command) -> Result<std::string> { return command; },
  };
  const std::vector<Place> places = all_maps(shape);
  EXPECT_GT(places.size(), 40u);
  for (const Place& place : places) {
    if (place.shape->is_open) continue;
    const std::string text = place.file("zzzz: 1");
    auto config = parse_config(text, "/k.yaml", nothing);
    ASSERT_FALSE(config) << text;
    ASSERT_NE(config.error().what.find("unknown key \"zzzz\""), std::string::npos)
        << text << ": " << config.error().what << " " << config.error().why;
    std::set<std::string> said, described;
    std::string_view list = config.error().why;
    ASSERT_TRUE(list.starts_with("known here: ")) << list;
    list.remove_prefix(12);
    for (size_t comma = 0; comma != list.npos; list.remove_prefix(comma == list.npos ? 0 : comma + 2)) {
      comma = list.find(", ");
      EXPECT_TRUE(said.insert(std::string(list.substr(0, comma))).second) << "named twice: " << list;
    }
    for (const ShapeKey& key : place.shape->keys) described.insert(key.name);
    EXPECT_EQ(said, described) << text;
  }
}

TEST(ConfigSchema, every_key_has_words_and_all_words_have_a_key) {
  const Shape shape = describe_config();
  std::set<std::pair<std::string, std::string>> keys;
  for (const Place& place : all_maps(shape)) {
    const bool is_kind = !place.shape->variant.empty();
    for (const ShapeKey& key : place.shape->keys) {
      EXPECT_NE(words_on_key(place.label, key.name), "") << place.label << "." << key.name;
      keys.insert({place.label, key.name});
      if (is_kind) keys.insert({"resources", key.name});
    }
  }
  std::set<std::pair<std::string_view, std::string_view>> once;
  for (const auto& [map, key] : keys_with_words()) {
    EXPECT_TRUE(keys.contains({std::string(map), std::string(key)})) << map << "." << key;
    EXPECT_TRUE(once.insert({map, key}).second) << map << "." << key << " stands twice";
  }
}

TEST(ConfigSchema, a_key_says_what_it_takes) {
  const std::string schema = config_schema();
  for (const char* said : {"\"enum\": [", "\"critical\"", "\"password_file\"",
                           "\"additionalProperties\": false", "\"maximum\": 256", "\"manual\""})
    EXPECT_NE(schema.find(said), std::string::npos) << said;
}

}  // namespace
}  // namespace kuramori
