#include "source/postgres/server.h"

#include <charconv>

namespace kuramori::postgres {

const std::string& ServerFacts::setting(const std::string& name) const {
  static const std::string kNone;
  const auto found = settings.find(name);
  return found == settings.end() ? kNone : found->second;
}

Result<uint64_t> ServerFacts::number(const std::string& name) const {
  const std::string& text = setting(name);
  uint64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size())
    return fail(ErrorKind::kFailed, fmt::format("the server's {} is '{}', not a number", name, text));
  return value;
}

Result<ServerFacts> read_server_facts(Connection& connection) {
  ServerFacts facts;
  facts.version = connection.server_version();
  TRY_ASSIGN(const QueryResult who,
             connection.query("SELECT current_user, rolsuper, rolreplication, pg_is_in_recovery(),"
                              " current_setting('server_version'),"
                              " extract(epoch FROM pg_postmaster_start_time())::bigint"
                              " FROM pg_roles WHERE rolname = current_user"));
  if (who.rows() != 1) return fail(ErrorKind::kFailed, "the server does not know the role that asks");
  facts.role = who.text(0, 0);
  facts.superuser = who.is_true(0, 1);
  facts.may_replicate = facts.superuser || who.is_true(0, 2);
  facts.in_recovery = who.is_true(0, 3);
  facts.version_text = who.text(0, 4);
  TRY_ASSIGN(facts.started_at, who.number(0, 5));

  TRY_ASSIGN(const QueryResult control,
             connection.query("SELECT s.system_identifier, s.catalog_version_no, c.timeline_id"
                              " FROM pg_control_system() s, pg_control_checkpoint() c"));
  // bigint in SQL, unsigned in truth.
  TRY_ASSIGN(const int64_t id, control.number(0, 0));
  facts.system_id = static_cast<uint64_t>(id);
  facts.catalog_version = control.text(0, 1);
  TRY_ASSIGN(const int64_t timeline, control.number(0, 2));
  facts.timeline = static_cast<Timeline>(timeline);

  // pg_settings hides what the role may not see: data_directory is among it.
  TRY_ASSIGN(const QueryResult settings, connection.query("SELECT name, setting FROM pg_settings"));
  for (size_t row = 0; row < settings.rows(); ++row)
    facts.settings.emplace(settings.text(row, 0), settings.text(row, 1));
  facts.data_directory = facts.setting("data_directory");
  if (facts.data_directory.empty()) {
    return fail(
        ErrorKind::kDenied, fmt::format("role '{}' may not see where the server keeps its data", facts.role),
        "data_directory is shown to members of pg_read_all_settings only",
        fmt::format("psql -c 'GRANT pg_read_all_settings TO {}'", connection.quoted_name(facts.role)));
  }
  return facts;
}

std::string tablespace_folder(const ServerFacts& facts) {
  return fmt::format("PG_{}_{}", facts.major(), facts.catalog_version);
}

}  // namespace kuramori::postgres
