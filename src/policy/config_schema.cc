#include "policy/config_schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/json_writer.h"
#include "policy/config.h"

namespace kuramori {
namespace {

constexpr std::string_view kVariable = R"(\$\{)";  // a text with a variable may become anything
constexpr std::string_view kPeriodPattern = R"(^ *([0-9]+ *(s|m|h|d|w|mo|y)|forever) *$)";
constexpr std::string_view kNamePattern = R"(^[A-Za-z0-9_][A-Za-z0-9_./-]{0,62}$)";

class SchemaWriter {
 public:
  std::string write(const Shape& shape) {
    json_.begin_object();
    // What editors understand best.
    json_.field("$schema", "http://json-schema.org/draft-07/schema#").field("$id", "kuramori/config/1");
    json_.field("title", "kuramori.yaml");
    write_map(shape, "");
    json_.end_object();
    return json_.take();
  }

 private:
  JsonWriter& types(std::initializer_list<std::string_view> words) {
    json_.key("type").begin_array();
    for (const std::string_view word : words) json_.value(word);
    return json_.end_array();
  }

  // The schema of a value, without its braces.
  void write_value(const Shape& shape, std::string_view label) {
    switch (shape.is) {
      case Shape::Is::kText:
        types({"string", "number", "boolean"});
        return;
      case Shape::Is::kPeriod:
        json_.field("type", "string").field("pattern", fmt::format("{}|{}", kPeriodPattern, kVariable));
        return;
      case Shape::Is::kCount:
        begin_any();
        one([&] {
          json_.field("type", "integer").field("minimum", shape.least).field("maximum", shape.most);
        });
        one([&] { json_.field("type", "string").field("pattern", fmt::format("^[0-9]+$|{}", kVariable)); });
        json_.end_array();
        return;
      case Shape::Is::kChoice:
        write_choice(shape);
        return;
      case Shape::Is::kList:
        write_list(shape, label);
        return;
      case Shape::Is::kMap:
        write_map(shape, label);
        return;
      case Shape::Is::kNames:
        types({"object", "null"});
        json_.key("propertyNames").begin_object().field("pattern", kNamePattern).end_object();
        json_.key("additionalProperties").begin_object();
        write_value(shape.of.front(), label);
        json_.end_object();
        return;
    }
  }

  void write_choice(const Shape& shape) {
    begin_any();
    one([&] {
      json_.key("enum").begin_array();
      for (const std::string& word : shape.words) {
        json_.value(word);
        // What some readers of YAML make of the bare word.
        if (word == "true" || word == "on") json_.value(true);
        if (word == "false" || word == "off") json_.value(false);
      }
      json_.end_array();
    });
    one([&] { json_.field("type", "string").field("pattern", kVariable); });
    json_.end_array();
  }

  // A list of maps is a list; one word is written without brackets too.
  void write_list(const Shape& shape, std::string_view label) {
    const Shape& item = shape.of.front();
    if (item.is == Shape::Is::kMap) {
      types({"array", "null"});
      json_.key("items").begin_object();
      write_value(item, label);
      json_.end_object();
      return;
    }
    begin_any();
    one([&] {
      types({"array", "null"});
      json_.key("items").begin_object();
      write_value(item, label);
      json_.end_object();
    });
    one([&] { write_value(item, label); });
    json_.end_array();
  }

  void write_map(const Shape& shape, std::string_view label) {
    types({"object", "null"});
    if (!shape.variants.empty()) return write_variants(shape);
    write_keys(shape, label);
  }

  void write_keys(const Shape& shape, std::string_view label) {
    json_.key("properties").begin_object();
    for (const ShapeKey& key : shape.keys) write_key(key, label);
    json_.end_object();
    if (!shape.is_open) {
      json_.field("additionalProperties", false);
      return;
    }
    json_.key("additionalProperties").begin_object();
    if (shape.variant.empty()) types({"string", "number", "boolean"});
    json_.end_object();
  }

  void write_variants(const Shape& shape) {
    const std::string& by = shape.variants.front().variant_key;
    json_.key("required").begin_array().value(by).end_array();
    json_.key("properties").begin_object().key(by).begin_object().key("enum").begin_array();
    for (const Shape& variant : shape.variants) json_.value(variant.variant);
    json_.end_array().field("description", words_on_key("resources", by)).end_object().end_object();
    json_.key("allOf").begin_array();
    for (const Shape& variant : shape.variants) {
      json_.begin_object().key("if").begin_object().key("properties").begin_object().key(by);
      json_.begin_object().field("const", variant.variant).end_object().end_object().end_object();
      json_.key("then").begin_object();
      write_keys(variant, variant.variant);
      json_.end_object().end_object();
    }
    json_.end_array();
  }

  void write_key(const ShapeKey& key, std::string_view label) {
    const std::string_view words = words_on_key(label, key.name);
    json_.key(key.name).begin_object();
    if (!words.empty()) json_.field("description", words);
    const std::vector<const Shape*> shapes = different(key);
    if (shapes.size() == 1) {
      write_value(*shapes.front(), key.name);
    } else {
      begin_any();
      for (const Shape* shape : shapes) one([&] { write_value(*shape, key.name); });
      json_.end_array();
    }
    json_.end_object();
    if (!key.from_elsewhere) return;
    for (const auto& [suffix, what] :
         {std::pair{"_file", "a file that holds"}, {"_command", "a command that prints"}})
      json_.key(key.name + suffix)
          .begin_object()
          .field("description", fmt::format("{} {}", what, key.name))
          .field("type", "string")
          .end_object();
  }

  // A reader may ask for the same thing twice.
  static std::vector<const Shape*> different(const ShapeKey& key) {
    std::vector<const Shape*> out;
    for (const Shape& shape : key.any) {
      const bool known = std::ranges::any_of(out, [&](const Shape* other) {
        return other->is == shape.is && other->words == shape.words && shape.is != Shape::Is::kMap &&
               shape.is != Shape::Is::kList;
      });
      if (!known) out.push_back(&shape);
    }
    return out;
  }

  void begin_any() { json_.key("anyOf").begin_array(); }
  template <class Write>
  void one(Write&& write) {
    json_.begin_object();
    write();
    json_.end_object();
  }

  JsonWriter json_{JsonWriter::Style::kIndented};
};

}  // namespace

std::string config_schema() {
  return SchemaWriter().write(describe_config()) + "\n";
}

}  // namespace kuramori
