#include "cli/verbs.h"

namespace kuramori {
namespace {

struct Entry {
  std::string_view verb;
  Handler handler;
};
constexpr Entry kHandlers[] = {
    {"resources", run_resources},
    {"version", run_version},
    {"completion", run_completion},
    {"help", run_help},
};

}  // namespace

Handler find_handler(std::string_view verb) {
  for (const Entry& entry : kHandlers)
    if (entry.verb == verb) return entry.handler;
  return nullptr;
}

}  // namespace kuramori
