// What a value of the configuration may be, as the code that reads it asks for it. The reader itself writes
// it down, in a run without a file (`describe_config`): the schema for editors cannot say anything else than
// what is read.
#pragma once
#include <cstdint>
#include <list>
#include <string>
#include <vector>

namespace kuramori {

struct ShapeKey;

struct Shape {
  enum class Is : uint8_t {
    kText,
    kPeriod,  // "14d"
    kCount,   // a whole number
    kChoice,  // one of some words
    kList,
    kMap,
    kNames,  // a map whose keys are names the user gives
  };
  Is is = Is::kText;
  std::vector<std::string> words;  // of kChoice
  int least = 0, most = 0;         // of kCount
  std::list<Shape> of;             // of kList and kNames: one, what each is
  std::list<ShapeKey> keys;        // of kMap
  bool is_open = false;            // of kMap: it takes any other key too, with a text
  // Of kMap, where the value of one key decides what others there are: everything each of them has.
  std::list<Shape> variants;
  std::string variant_key, variant;  // of a variant: `kind` and "postgres"
};

struct ShapeKey {
  std::string name;
  std::list<Shape> any;         // it may be any of these
  bool from_elsewhere = false;  // KEY_file and KEY_command do as well
};

}  // namespace kuramori
