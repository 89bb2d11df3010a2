#include "base/json_writer.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

TEST(JsonWriter, WritesNestedValues) {
  JsonWriter json;
  json.begin_object()
      .field("schema", "kuramori/x/1")
      .key("list")
      .begin_array()
      .value(1)
      .value(-2)
      .value(true)
      .null();
  json.value(0.25).begin_object().end_object().end_array().field("big", UINT64_MAX).end_object();
  EXPECT_EQ(json.take(),
            R"({"schema":"kuramori/x/1","list":[1,-2,true,null,0.25,{}],"big":18446744073709551615})");
}

TEST(JsonWriter, Indents) {
  JsonWriter json(JsonWriter::Style::kIndented);
  json.begin_object()
      .field("a", 1)
      .key("b")
      .begin_array()
      .value("x")
      .end_array()
      .key("c")
      .begin_array()
      .end_array()
      .end_object();
  EXPECT_EQ(json.take(), "{\n  \"a\": 1,\n  \"b\": [\n    \"x\"\n  ],\n  \"c\": []\n}");
}

TEST(JsonWriter, AnyBytesBecomeValidText) {
  JsonWriter json;
  json.value(std::string_view("q\"\\\n\t\x01蔵\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80", 19));
  std::string out = json.take();
  EXPECT_EQ(out.substr(0, 22), "\"q\\\"\\\\\\n\\t\\u0001蔵\xEF\xBF\xBD");
  for (size_t i = 0; i + 2 < out.size(); ++i) EXPECT_FALSE(out[i] == '\xff' || out[i] == '\xc0');
}

TEST(JsonWriterDeathTest, MisuseIsABrokenInvariant) {
  EXPECT_DEATH(JsonWriter().begin_object().value(1), "");
  EXPECT_DEATH(JsonWriter().begin_array().key("a"), "");
  EXPECT_DEATH(JsonWriter().begin_array().end_object(), "");
  EXPECT_DEATH(JsonWriter().begin_array().take(), "");
}

}  // namespace
}  // namespace kuramori
