#include "source/postgres/connection.h"

#include <fcntl.h>
#include <libpq-fe.h>

#include <charconv>

#include "base/check.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kNoticesMax = 100;  // kept; a flood is cut

std::string without_newline(const char* text) {
  std::string message = text ? text : "";
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.pop_back();
  return message;
}

// Chosen by what a caller can do about it.
ErrorKind kind_of(std::string_view sqlstate, bool lost) {
  if (lost) return ErrorKind::kUnknown;
  if (sqlstate == "42501" || sqlstate.starts_with("28")) return ErrorKind::kDenied;
  if (sqlstate.starts_with("53100")) return ErrorKind::kNoSpace;
  return ErrorKind::kFailed;
}

std::string milliseconds(Duration limit) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count());
}

}  // namespace

QueryResult::QueryResult(pg_result* raw)
    : raw_(raw), rows_(static_cast<size_t>(PQntuples(raw))), columns_(static_cast<size_t>(PQnfields(raw))) {}

void QueryResult::Free::operator()(pg_result* raw) const {
  PQclear(raw);
}

std::string_view QueryResult::text(size_t row, size_t column) const {
  CHECK(row < rows_ && column < columns_);
  const int r = static_cast<int>(row), c = static_cast<int>(column);
  return {PQgetvalue(raw_.get(), r, c), static_cast<size_t>(PQgetlength(raw_.get(), r, c))};
}

bool QueryResult::is_null(size_t row, size_t column) const {
  CHECK(row < rows_ && column < columns_);
  return PQgetisnull(raw_.get(), static_cast<int>(row), static_cast<int>(column)) != 0;
}

Result<int64_t> QueryResult::number(size_t row, size_t column) const {
  const std::string_view digits = text(row, column);
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failed != std::errc() || end != digits.data() + digits.size()) {
    return fail(ErrorKind::kFailed, fmt::format("the server answered '{}' where a number belongs", digits));
  }
  return value;
}

struct Connection::State {
  PGconn* raw = nullptr;
  std::string sqlstate;
  std::vector<std::string> notices;

  ~State() {
    if (raw) PQfinish(raw);
  }
};

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

Result<Connection> Connection::open(const std::string& connect, const ConnectOptions& options) {
  const std::string seconds =
      std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kConnectTimeout).count());
  // Later entries win: limits may be overridden by the connection string, the rest may not.
  std::vector<const char*> keys = {"connect_timeout", "tcp_user_timeout", "keepalives_idle", "dbname"};
  std::vector<const char*> values = {seconds.c_str(), "60000", "30", connect.c_str()};
  const auto add = [&](const char* key, const char* value) {
    keys.push_back(key);
    values.push_back(value);
  };
  if (!options.database.empty()) {
    // Only the first dbname is taken apart as a connection string; this one is a plain name.
    add("dbname", options.database.c_str());
  }
  add("application_name", "kuramori");
  add("client_encoding", "UTF8");
  add(nullptr, nullptr);

  auto state = std::make_unique<State>();
  state->raw = PQconnectdbParams(keys.data(), values.data(), 1);
  if (!state->raw) return fail(ErrorKind::kFailed, "cannot connect to PostgreSQL", "out of memory");
  if (PQstatus(state->raw) != CONNECTION_OK) {
    const std::string why = without_newline(PQerrorMessage(state->raw));
    const bool denied = why.find("authentication failed") != std::string::npos ||
                        why.find("no pg_hba.conf entry") != std::string::npos ||
                        why.find("does not exist") != std::string::npos;
    return fail(denied ? ErrorKind::kDenied : ErrorKind::kFailed, "cannot connect to PostgreSQL", why,
                "check that the server runs and that `psql` connects with the same connection string");
  }
  PQsetNoticeProcessor(
      state->raw,
      [](void* to, const char* message) {
        auto* notices = static_cast<std::vector<std::string>*>(to);
        if (notices->size() < kNoticesMax) notices->push_back(without_newline(message));
      },
      &state->notices);
  Connection connection(std::move(state));
  // An empty search path: names without a schema are found in pg_catalog alone, whatever others planted.
  TRY(
      connection.run("SELECT pg_catalog.set_config('search_path', '', false),"
                     " pg_catalog.set_config('datestyle', 'ISO', false),"
                     " pg_catalog.set_config('intervalstyle', 'postgres', false),"
                     " pg_catalog.set_config('bytea_output', 'hex', false),"
                     " pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)"));
  if (connection.major() >= 14) TRY(connection.run("SET idle_session_timeout = 0"));
  if (connection.major() >= 17) TRY(connection.run("SET transaction_timeout = 0"));
  TRY(connection.set_statement_timeout(options.statement_timeout));
  return connection;
}

Result<QueryResult> Connection::query(const std::string& sql, const std::vector<Parameter>& parameters) {
  std::vector<const char*> values;
  for (const Parameter& parameter : parameters) values.push_back(parameter ? parameter->c_str() : nullptr);
  state_->sqlstate.clear();
  PGresult* raw = PQexecParams(state_->raw, sql.c_str(), static_cast<int>(values.size()), nullptr,
                               values.data(), nullptr, nullptr, 0);
  QueryResult result(raw);
  const ExecStatusType status = PQresultStatus(raw);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return result;
  const char* sqlstate = PQresultErrorField(raw, PG_DIAG_SQLSTATE);
  const char* primary = PQresultErrorField(raw, PG_DIAG_MESSAGE_PRIMARY);
  const char* detail = PQresultErrorField(raw, PG_DIAG_MESSAGE_DETAIL);
  const char* hint = PQresultErrorField(raw, PG_DIAG_MESSAGE_HINT);
  const bool lost = PQstatus(state_->raw) != CONNECTION_OK;
  state_->sqlstate = sqlstate ? sqlstate : "";
  std::string why = primary ? without_newline(primary) : without_newline(PQerrorMessage(state_->raw));
  if (detail) why += std::string(" (") + detail + ")";
  if (hint) why += std::string("; ") + hint;
  return fail(kind_of(state_->sqlstate, lost),
              lost ? "the connection to PostgreSQL was lost" : "PostgreSQL refused a statement",
              std::move(why));
}

Result<std::string> Connection::value(const std::string& sql, const std::vector<Parameter>& parameters) {
  TRY_ASSIGN(const QueryResult result, query(sql, parameters));
  if (result.rows() == 0 || result.columns() == 0)
    return fail(ErrorKind::kNotFound, "PostgreSQL answered nothing", sql);
  return std::string(result.text(0, 0));
}

Result<void> Connection::run(const std::string& sql, const std::vector<Parameter>& parameters) {
  TRY(query(sql, parameters));
  return {};
}

Fd Connection::same_socket() const {
  return Fd(::fcntl(PQsocket(state_->raw), F_DUPFD_CLOEXEC, 0));
}

Result<void> Connection::set_statement_timeout(Duration limit) {
  return run("SELECT pg_catalog.set_config('statement_timeout', $1, false)", {milliseconds(limit)});
}

const std::string& Connection::sqlstate() const {
  return state_->sqlstate;
}

uint32_t Connection::server_version() const {
  return static_cast<uint32_t>(PQserverVersion(state_->raw));
}

std::vector<std::string> Connection::take_notices() {
  return std::exchange(state_->notices, {});
}

std::string Connection::quoted_name(std::string_view name) const {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace kuramori::postgres
