#include "daemon/web_pages.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {
namespace {

constexpr size_t kHexMin = 4, kHexMax = 64;  // of the beginning of a snapshot's id
using std::chrono::seconds;

}  // namespace

const std::vector<WebPage>& web_pages() {
  using Of = WebParameter::Of;
  const WebParameter vault{"vault", Of::kVault, "--vault"};
  const WebParameter resource{"resource", Of::kResource};
  const WebParameter needed{"resource", Of::kResource, "", true};
  static const std::vector<WebPage> pages{
      {"/api/1/status", {"status"}, {resource, vault}},
      {"/api/1/resources", {"resources"}, {}},
      {"/api/1/jobs", {"jobs"}, {{"name", Of::kName}, {"last", Of::kCount, "--last"}}, seconds(1)},
      {"/api/1/snapshots", {"snapshots"}, {resource, vault}},
      {"/api/1/snapshot", {"show"}, {{"id", Of::kSnapshot, "", true}, vault}},
      {"/api/1/window", {"window"}, {needed, vault}},
      {"/api/1/wal", {"wal", "show"}, {needed, vault}},
      {"/api/1/vaults", {"vault", "list"}, {}},
      {"/api/1/vault", {"vault", "show"}, {{"name", Of::kVault, "", true}}},
      {"/api/1/lint", {"lint"}, {}},
      {"/api/1/plans", {"plan"}, {}, seconds(30)},
      {"/api/1/alerts", {"alerts"}, {{"last", Of::kCount, "--last"}}, seconds(1)},
      {"/api/1/version", {"version"}, {}, std::chrono::hours(1)},
  };
  return pages;
}

Result<std::vector<std::string>> words_of(const WebPage& page, const std::vector<HttpHeader>& query,
                                          const Config& config) {
  std::vector<std::string> words = page.words, arguments;
  for (const HttpHeader& given : query) {
    const auto known = std::ranges::find(page.parameters, given.name, &WebParameter::name);
    if (known == page.parameters.end())
      return fail(ErrorKind::kUsage, fmt::format("{} takes no \"{}\"", page.path, given.name.substr(0, 40)),
                  "", "docs/monitoring.md lists what it takes");
    const std::string& value = given.value;
    const auto is_all = [&](std::string_view allowed, size_t least, size_t most) {
      return value.size() >= least && value.size() <= most && value.find_first_not_of(allowed) == value.npos;
    };
    switch (known->of) {
      case WebParameter::Of::kResource:
        TRY(config.resource(value));
        break;
      case WebParameter::Of::kVault:
        TRY(config.vault(value));
        break;
      case WebParameter::Of::kName:
        if (!config.resource(value) && !config.vault(value) && !config.plan(value))
          return fail(ErrorKind::kUsage, "nothing has that name", "", "name a resource, a plan or a vault");
        break;
      case WebParameter::Of::kSnapshot:
        if (!is_all("0123456789abcdef", kHexMin, kHexMax))
          return fail(ErrorKind::kUsage, "that is no id of a snapshot", "", "at least 4 hexadecimal digits");
        break;
      case WebParameter::Of::kCount:
        if (!is_all("0123456789", 1, 4))
          return fail(ErrorKind::kUsage, fmt::format("{} must be a number of at most 9999", known->name));
        break;
    }
    if (known->option.empty())
      arguments.push_back(value);
    else
      words.insert(words.end(), {std::string(known->option), value});
  }
  for (const WebParameter& one : page.parameters)
    if (one.required && std::ranges::find(query, one.name, &HttpHeader::name) == query.end())
      return fail(ErrorKind::kUsage, fmt::format("{} needs {}", page.path, one.name), "",
                  fmt::format("{}?{}=…", page.path, one.name));
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

}  // namespace kuramori
