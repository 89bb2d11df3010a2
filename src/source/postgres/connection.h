// One libpq connection: opened with sane limits, asked with text parameters, closed by its destructor. Not
// for two threads at once.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/world.h"
#include "os/file.h"

struct pg_conn;
struct pg_result;

namespace kuramori::postgres {

constexpr Duration kConnectTimeout = std::chrono::seconds(10);  // overridden by connect_timeout in the string
constexpr Duration kStatementTimeout = std::chrono::minutes(2);  // of ordinary questions
constexpr Duration kNoTimeout = Duration::zero();

struct ConnectOptions {
  std::string database;  // instead of the connection string's
  Duration statement_timeout = kStatementTimeout;
};

// Rows as the server wrote them, in text.
class QueryResult {
 public:
  explicit QueryResult(pg_result* raw);
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  std::string_view text(size_t row, size_t column) const;  // a null reads as ""
  bool is_null(size_t row, size_t column) const;
  bool is_true(size_t row, size_t column) const { return text(row, column) == "t"; }
  Result<int64_t> number(size_t row, size_t column) const;

 private:
  struct Free {
    void operator()(pg_result* raw) const;
  };
  std::unique_ptr<pg_result, Free> raw_;
  size_t rows_ = 0, columns_ = 0;
};

// A parameter: nullopt is NULL.
using Parameter = std::optional<std::string>;

class Connection {
 public:
  // `connect` is a libpq connection string or URI; empty takes libpq's environment and defaults. The session
  // has application_name kuramori, no search path (a planted function is never called), ISO dates and no idle
  // limits.
  static Result<Connection> open(const std::string& connect, const ConnectOptions& options = {});
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  // One statement. Kinds of failure: kDenied (no right, wrong password), kUnknown (the connection is lost),
  // kFailed; sqlstate() tells more.
  Result<QueryResult> query(const std::string& sql, const std::vector<Parameter>& parameters = {});
  // One row's first column; an empty answer is kNotFound.
  Result<std::string> value(const std::string& sql, const std::vector<Parameter>& parameters = {});
  Result<void> run(const std::string& sql, const std::vector<Parameter>& parameters = {});
  Result<void> set_statement_timeout(Duration limit);  // kNoTimeout: none

  const std::string& sqlstate() const;  // of the last failed statement ("42501"), or empty
  uint32_t server_version() const;      // 150018
  uint32_t major() const { return server_version() / 10000; }
  // The same socket under another descriptor: shut down by another thread, it ends a wait for an answer that
  // may never come. libpq has no limit of its own for that.
  Fd same_socket() const;
  std::vector<std::string> take_notices();
  std::string quoted_name(std::string_view name) const;  // an identifier, safe inside SQL

 private:
  struct State;
  explicit Connection(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kuramori::postgres
