#include "source/postgres/replication_connection.h"

#include <libpq-fe.h>

#include <vector>

#include "source/postgres/connection.h"

namespace kuramori::postgres {
namespace {

std::string trimmed(const char* text) {
  std::string message = text ? text : "";
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.pop_back();
  return message;
}

Error cannot_open(const std::string& why) {
  auto says = [&](std::string_view part) { return why.find(part) != std::string::npos; };
  constexpr const char* kWhat = "cannot open a replication connection";
  if (says("superuser or replication role") || says("permission denied to start WAL sender")) {
    return fail(ErrorKind::kDenied, kWhat, why,
                "give the role the right, as a superuser: ALTER ROLE name REPLICATION;");
  }
  if (says("no pg_hba.conf entry")) {
    return fail(ErrorKind::kDenied, kWhat, why,
                "allow it in pg_hba.conf (the database is called `replication` there), then: SELECT "
                "pg_reload_conf();");
  }
  if (says("max_wal_senders")) {
    return fail(ErrorKind::kUnknown, kWhat, why,
                "raise it and restart the server: ALTER SYSTEM SET max_wal_senders = 10;");
  }
  if (says("authentication failed") || says("does not exist"))
    return fail(ErrorKind::kDenied, kWhat, why, "check the resource's connect: string");
  return fail(ErrorKind::kUnknown, kWhat, why,
              "check that the server runs and that `psql` connects with the same connection string");
}

}  // namespace

Result<pg_conn*> open_replication(const std::string& connect, const std::string& application_name) {
  const std::string seconds =
      std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kConnectTimeout).count());
  // Later entries win: limits may be overridden by the connection string, the rest may not.
  const std::vector<const char*> keys = {"connect_timeout", "tcp_user_timeout", "keepalives_idle", "dbname",
                                         "replication",     "application_name", "client_encoding", nullptr};
  const std::vector<const char*> values = {seconds.c_str(),          "60000", "30",   connect.c_str(), "true",
                                           application_name.c_str(), "UTF8",  nullptr};
  PGconn* raw = PQconnectdbParams(keys.data(), values.data(), 1);
  if (!raw) return fail(ErrorKind::kFailed, "cannot connect to PostgreSQL", "out of memory");
  if (PQstatus(raw) != CONNECTION_OK) {
    const std::string why = trimmed(PQerrorMessage(raw));
    PQfinish(raw);
    return cannot_open(why);
  }
  PQsetNoticeProcessor(raw, [](void*, const char*) {}, nullptr);
  return raw;
}

Error replication_error(pg_conn* connection, const pg_result* result, std::string what) {
  const char* field = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  const std::string sqlstate = field ? field : "";
  const char* primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : nullptr;
  std::string why = trimmed(primary ? primary : PQerrorMessage(connection));
  if (sqlstate == "58P01")  // undefined_file
    return fail(ErrorKind::kNotFound, std::move(what), std::move(why));
  if (sqlstate == "42710") return fail(ErrorKind::kExists, std::move(what), std::move(why));
  if (sqlstate == "42501") {
    return fail(ErrorKind::kDenied, std::move(what), std::move(why),
                "give the role the right, as a superuser: ALTER ROLE name REPLICATION;");
  }
  if (sqlstate == "42704") {  // undefined_object: it was there a moment ago
    return fail(ErrorKind::kUnknown, std::move(what), std::move(why),
                "something removes it: with Patroni, name it under slots: (docs/postgres.md)");
  }
  if (sqlstate == "55006") {  // object_in_use
    return fail(
        ErrorKind::kUnknown, std::move(what), std::move(why),
        "another `kuramori wal stream` reads this slot; stop it, or use a slot of its own: --slot NAME");
  }
  if (sqlstate == "53400") {  // configuration_limit_exceeded
    return fail(ErrorKind::kFailed, std::move(what), std::move(why),
                "raise it and restart the server: ALTER SYSTEM SET max_replication_slots = 10;");
  }
  if (sqlstate == "55000") {  // object_not_in_prerequisite_state
    return fail(
        ErrorKind::kFailed, std::move(what), std::move(why),
        "wal_level must be replica or logical, and the slot must not be invalidated: kuramori doctor");
  }
  const bool lost = PQstatus(connection) != CONNECTION_OK || sqlstate.starts_with("57");
  return fail(lost ? ErrorKind::kUnknown : ErrorKind::kFailed, std::move(what), std::move(why));
}

}  // namespace kuramori::postgres
