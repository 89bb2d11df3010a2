// kuramori.yaml for editors: a JSON schema made from what the reader asks for (policy/shape.h), with a
// sentence on every key. What the reader would refuse is refused there as far as a schema can say it: unknown
// keys, wrong shapes, words that are none. It is not the judge: names that refer to nothing and what rules
// itself out are for `kuramori lint`.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kuramori {

// Indented, in the order of the reader.
std::string config_schema();

// What a key means: `map` is the section ("vaults"), the key that holds the map ("keep") or, of a resource,
// its kind ("redis"). "" when nothing is said of it.
std::string_view words_on_key(std::string_view map, std::string_view key);
// Every (map, key) of which something is said.
std::vector<std::pair<std::string_view, std::string_view>> keys_with_words();

}  // namespace kuramori
