// Any bytes as kuramori.yaml: a configuration or an error in words, never a crash. Nothing of the machine is
// touched: the environment, files and commands are made up.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "policy/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  ConfigWorld world{
      .environment = [](const std::string& name) { return std::optional<std::string>(name); },
      .read_file = [](const std::string& path) -> Result<std::string> { return path; },
      .run_command = [](const std::string& command) -> Result<std::string> { return command; },
  };
  auto config =
      parse_config({reinterpret_cast<const char*>(data), size}, "/etc/kuramori/kuramori.yaml", world);
  if (!config) CHECK(config.error().kind == ErrorKind::kUsage && !config.error().what.empty());
  return 0;
}
