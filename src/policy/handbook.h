// The handbook that the configuration amounts to: what is protected and how, and what to type when something
// is lost, as pages of Markdown. It is written from kuramori.yaml, so that it never says anything else (O7);
// kept in a repository, a check tells when it is behind. Pure.
//
// It holds nothing that a `Setting` hides, and nothing that changes from one day to the next.
#pragma once
#include <string>
#include <vector>

#include "policy/config.h"
#include "policy/lint.h"

namespace kuramori {

struct HandbookPage {
  std::string path;  // relative: "strategy.md", "runbooks/orders-db.md"
  std::string text;
};

// The first line of each page; a file without it is somebody's own.
constexpr std::string_view kHandbookMark =
    "<!-- kuramori docs: written from the configuration, not by hand -->";

// The index first. `report`: what lint says of the same configuration.
std::vector<HandbookPage> handbook(const Config& config, const LintReport& report);

// "all 14d, monthly 7y", "for ever".
std::string keep_in_words(const KeepRules& keep);

}  // namespace kuramori
