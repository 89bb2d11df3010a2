#include "engine/applied.h"

#include <fmt/core.h>

#include "engine/roles.h"
#include "os/file.h"
#include "vault/names.h"

namespace kuramori {

Result<std::optional<AppliedRecord>> last_applied(Vault& vault, const std::string& configuration) {
  std::vector<std::string> names;
  TRY(for_each_object(vault.store(), names::kApplied, [&](const ObjectInfo& object) -> Result<void> {
    if (names::parse_applied(object.name)) names.push_back(object.name);
    return {};
  }));
  // Names sort by number. Two of one number: both applied at once, and the later name counts for everybody.
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    TRY_ASSIGN(AppliedRecord record, vault.read<AppliedRecord>(*name, RecordType::kApplied));
    if (record.number != *names::parse_applied(*name))
      return fail(ErrorKind::kDamaged, fmt::format("{} is another number's record", *name));
    if (record.configuration == configuration) return record;
  }
  return std::nullopt;
}

Result<void> record_applied(Vault& vault, const AppliedRecord& record) {
  TRY(must_be_allowed(vault, Act::kApply));
  const std::string name = names::applied(record.number, vault.random().id<names::AppliedId>());
  TRY(vault.put(RecordType::kApplied, name, {}, encode(record)));
  TRY_ASSIGN(const auto stands, last_applied(vault, record.configuration));
  if (stands && *stands == record) return {};
  return fail(
      ErrorKind::kRefused,
      fmt::format("somebody else applied a configuration to {} at the same moment", vault.store().location()),
      stands ? fmt::format("number {} by {}@{} counts", stands->number, stands->user, stands->host) : "",
      "kuramori plan shows what is different now");
}

Result<std::string> canonical_text_of(const std::string& path) {
  TRY_ASSIGN(const Bytes bytes, read_file(path, kConfigBytesMax));
  return canonical_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

Result<std::optional<Drift>> drift_in(Vault& vault, const Config& config) {
  TRY_ASSIGN(auto applied, last_applied(vault, config.name));
  if (!applied) return std::nullopt;
  TRY_ASSIGN(const std::string text, canonical_text_of(config.path));
  TRY_ASSIGN(const auto before, lines_of_config(applied->text));
  TRY_ASSIGN(const auto after, lines_of_config(text));
  Drift drift{std::move(*applied), changes_between(before, after)};
  return drift.changes.empty() ? std::nullopt : std::optional(std::move(drift));
}

}  // namespace kuramori
