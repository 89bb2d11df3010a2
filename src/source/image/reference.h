// How images are named: "team/app:v1", "team/app@sha256:…", and patterns over them.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "source/image/digest.h"

namespace kuramori::image {

// The grammar of the distribution specification: lower case parts with '/' between, at most 255 bytes.
bool is_repository(std::string_view text);
// At most 128 of A–Z a–z 0–9 _ . -, the first no '.' or '-'.
bool is_tag(std::string_view text);

// One line of `images:`.
struct Wanted {
  std::string repository;  // a name, or a pattern: '*' stands for anything but '/', "**" also for that
  std::string tag;         // a name or a pattern; "": all of them
  ContentDigest digest;    // instead of a tag
  bool is_pattern() const { return repository.find('*') != std::string::npos; }
};
// kUsage for what is no name of an image.
Result<Wanted> parse_wanted(std::string_view text);

// Whether the pattern, of '*' and "**", describes all of `text`.
bool matches(std::string_view pattern, std::string_view text);

// Whether `only` (as --only has it: a repository, an image, or a pattern) means the image of this name.
bool names_image(std::string_view only, std::string_view name);

}  // namespace kuramori::image
