#include "source/dump/session.h"

#include <fmt/core.h>
#include <sys/socket.h>

namespace kuramori::dump {
namespace {

// Of a line that went dead, in seconds and milliseconds: noticed within about a minute.
constexpr std::pair<const char*, const char*> kLimits[] = {{"connect_timeout", "10"},
                                                           {"keepalives_idle", "30"},
                                                           {"keepalives_interval", "10"},
                                                           {"keepalives_count", "4"},
                                                           {"tcp_user_timeout", "60000"}};

struct Meaning {
  std::string_view said;  // by the server, somewhere in its message
  ErrorKind kind;
  std::string_view next;
};

constexpr Meaning kMeanings[] = {
    {"row-level security", ErrorKind::kDenied,
     "the role would see some rows and not others: ALTER ROLE … BYPASSRLS, or dump as the tables' owner"},
    {"permission denied", ErrorKind::kDenied,
     "GRANT pg_read_all_data TO the role (PostgreSQL 14 and newer), or SELECT on every table and sequence; "
     "kuramori doctor names those that lack it"},
    {"max_locks_per_transaction", ErrorKind::kFailed,
     "raise max_locks_per_transaction on that server and restart it: a dump locks every table, a restore "
     "into a "
     "database that was there locks all it makes"},
    {"conflict with recovery", ErrorKind::kFailed,
     "this is a standby: set hot_standby_feedback = on there, or raise max_standby_streaming_delay"},
    {"lock timeout", ErrorKind::kFailed,
     "somebody alters or locks a table: try again when that has ended (pg_stat_activity, pg_locks)"},
    {"No space left on device", ErrorKind::kNoSpace, "make room where that server keeps its data"},
};

}  // namespace

Result<Conninfo> conninfo_of(const std::string& connect, const std::string& password) {
  TRY_ASSIGN(Conninfo conninfo, Conninfo::parse(connect));
  if (!password.empty()) conninfo.set_if_missing("password", password);
  if (!conninfo.get("sslpassword").empty()) {
    return fail(ErrorKind::kUsage, "sslpassword cannot be given to PostgreSQL's programs",
                "it would stand among their arguments",
                "use a key file without a passphrase, readable to us alone");
  }
  for (const auto& [keyword, value] : kLimits) conninfo.set_if_missing(keyword, value);
  return conninfo;
}

Session::Session(postgres::Connection connection, std::stop_token stop)
    : connection_(std::move(connection)),
      socket_(connection_.same_socket()),
      close_(std::move(stop), Close{socket_.get()}) {}

void Session::Close::operator()() const {
  ::shutdown(socket, SHUT_RDWR);
}

Result<std::unique_ptr<Session>> Session::open(const Conninfo& conninfo, const std::string& database,
                                               std::stop_token stop) {
  Conninfo own = conninfo;
  if (!database.empty()) own.set("dbname", database);
  TRY_ASSIGN(postgres::Connection connection,
             postgres::Connection::open(own.text(), {.statement_timeout = postgres::kNoTimeout}));
  if (connection.major() < postgres::kOldestMajor) {
    return fail(ErrorKind::kRefused, fmt::format("PostgreSQL {} is too old", connection.major()),
                fmt::format("{} and newer are dumped here", postgres::kOldestMajor),
                "use kind: command with that version's own pg_dump");
  }
  // Rows that a policy hides must be an error, never be missing; a role may have limits of its own.
  TRY(
      connection.run("SELECT pg_catalog.set_config('row_security', 'off', false), "
                     "pg_catalog.set_config('lock_timeout', '0', false)"));
  return std::unique_ptr<Session>(new Session(std::move(connection), std::move(stop)));
}

Error explained(Error error, const std::stop_token& stop) {
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "it was stopped", error.what);
  const std::string said = error.what + " " + error.why;
  for (const Meaning& meaning : kMeanings) {
    if (said.find(meaning.said) == std::string::npos) continue;
    error.kind = meaning.kind;
    error.next = meaning.next;
    return error;
  }
  if (error.kind == ErrorKind::kUnknown && error.next.empty())
    error.next = "see whether the server still runs, and try again";
  return error;
}

}  // namespace kuramori::dump
