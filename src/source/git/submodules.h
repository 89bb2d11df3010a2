// What the branches of a repository say of other repositories in it.
#pragma once
#include <string>
#include <vector>

#include "source/git/git.h"
#include "source/git/refs.h"

namespace kuramori::git {

struct Submodule {
  std::string ref;  // the branch
  std::string path, url;
  std::string commit;  // "" where the branch has no such path
};

// Of the heads of branches, each tree once, of at most `heads_max` of them.
struct Submodules {
  std::vector<Submodule> records;
  size_t heads_left_out = 0;
};
Result<Submodules> find_submodules(const Git& git, const std::string& repository, const Refs& refs,
                                   size_t heads_max);

}  // namespace kuramori::git
