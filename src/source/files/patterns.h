// Patterns as in a .gitignore, over bytes.
//
// One pattern is matched part by part: a path and a pattern are cut at each '/', a part "**" stands for any
// number of parts, every other part is a glob of its own. What git does beyond its documentation was found by
// comparing with it (patterns_test.cc does so again), not by reading it.
//
// Why not fnmatch(3): it reads bytes by the locale, fails on names that are not text in it, takes time
// exponential in the number of stars, and understands an open '[' otherwise than git.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kuramori::files {

// Whether one part of a path matches one glob: * ? [a-z] [!a] [[:alpha:]] \x. Time: at most the product of
// both lengths.
bool glob_matches(std::string_view glob, std::string_view part);

class Patterns {
 public:
  enum class Answer : uint8_t {
    kNone,       // no pattern speaks of it
    kMatched,    // the last one that does says so
    kUnmatched,  // the last one that does begins with '!'
  };

  Patterns() = default;
  explicit Patterns(const std::vector<std::string>& lines);

  bool empty() const { return patterns_.empty(); }
  // What the patterns say of `path` itself, relative to where they stand. Whether a folder above it is
  // matched is the caller's to ask first: what is in a matched folder is matched, and no '!' brings it back.
  Answer look(std::string_view path, bool is_folder) const;
  // The index in `lines` of the pattern that decided; -1: none.
  int deciding(std::string_view path, bool is_folder) const;

 private:
  struct Pattern {
    std::vector<std::string>
        parts;             // "**" for any number of parts; one part if it stands for a name anywhere
    bool by_name = false;  // matches the last part of a path, wherever it stands
    bool negative = false, folders_only = false;
    int line = 0;
  };
  static bool matches(const Pattern& pattern, std::string_view path, bool is_folder);

  std::vector<Pattern> patterns_;
};

}  // namespace kuramori::files
