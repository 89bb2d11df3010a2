// The kind `secret`: .env and key files, or what a program prints, of which no value is ever shown.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/world.h"
#include "source/secret/dotenv.h"
#include "source/source.h"

namespace kuramori::secret {

// What a resource of this kind says of itself in kuramori.yaml: paths, or a program.
struct SecretSettings {
  std::vector<std::string> paths;  // absolute; files, or folders with all they hold
  // Prints the secrets; no shell between. They become the one file `output` of the tree.
  std::vector<std::string> run;
  std::vector<std::pair<std::string, std::string>> environment;
  std::optional<Duration> timeout;
};

std::unique_ptr<Source> make_source(SecretSettings settings);

}  // namespace kuramori::secret
