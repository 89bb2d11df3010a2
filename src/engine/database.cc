#include "engine/database.h"

#include <fmt/core.h>
#include <sqlite3.h>
#include <stdio.h>

namespace kuramori {
namespace {

constexpr int kBusyMilliseconds = 5000;  // another process writes its few rows
// What a journal holds beside its file before it goes into that (SQLite's own 4 MiB each fill a small disk).
constexpr int kLogPages = 128;                       // of 4 KiB
constexpr int64_t kLogBytesKept = int64_t{1} << 20;  // it is cut to that afterwards

sqlite3_stmt* statement_of(void* raw) {
  return static_cast<sqlite3_stmt*>(raw);
}

}  // namespace

struct Database::Handle {
  sqlite3* raw = nullptr;
  std::string what;
  ~Handle() { sqlite3_close(raw); }

  Error error(std::string_view doing) const {
    return fail(sqlite3_errcode(raw) == SQLITE_FULL ? ErrorKind::kNoSpace : ErrorKind::kFailed,
                fmt::format("{}: {}", what, doing), sqlite3_errmsg(raw), "it is a cache: it may be removed");
  }
  Result<void> execute(const char* sql) {
    if (sqlite3_exec(raw, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error(sql);
    return {};
  }
};

Database::Database(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Database::~Database() = default;

Result<std::unique_ptr<Database::Handle>> Database::open_handle(const std::string& path,
                                                                const Options& options, bool& is_none) {
  auto handle = std::make_unique<Handle>();
  handle->what = options.what;
  const int opened =
      sqlite3_open_v2(path.c_str(), &handle->raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  if (opened != SQLITE_OK) return handle->error(path);
  sqlite3_busy_timeout(handle->raw, kBusyMilliseconds);
  Result<void> set_up;
  if (options.is_journal)
    set_up = handle->execute(fmt::format("pragma journal_mode = wal; pragma synchronous = full;"
                                         "pragma wal_autocheckpoint = {}; pragma journal_size_limit = {}",
                                         kLogPages, kLogBytesKept)
                                 .c_str());
  if (set_up) set_up = handle->execute(options.schema.c_str());
  if (set_up) return handle;
  is_none = sqlite3_errcode(handle->raw) == SQLITE_NOTADB || sqlite3_errcode(handle->raw) == SQLITE_CORRUPT;
  return std::move(set_up).error();
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, const Options& options) {
  bool is_none = false;
  auto handle = open_handle(path, options, is_none);
  if (!handle && is_none) {
    if (::rename(path.c_str(), (path + ".damaged").c_str()) != 0) return handle.error();
    // What belongs to the other file would be taken for a part of this one.
    for (const char* part : {"-wal", "-shm"}) ::remove((path + part).c_str());
    handle = open_handle(path, options, is_none);
  }
  if (!handle) return std::move(handle).error();
  return std::unique_ptr<Database>(new Database(std::move(*handle)));
}

Result<void> Database::query(const char* sql, std::initializer_list<Value> values,
                             const std::function<void(const Row&)>& row) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(handle_->raw, sql, -1, &statement, nullptr) != SQLITE_OK) return handle_->error(sql);
  std::unique_ptr<sqlite3_stmt, decltype(&sqlite3_finalize)> owner(statement, sqlite3_finalize);
  int index = 1;
  for (const Value& value : values) {
    switch (value.kind_) {
      case Value::Kind::kNull:
        sqlite3_bind_null(statement, index);
        break;
      case Value::Kind::kText:
        sqlite3_bind_text(statement, index, value.text_.data(), static_cast<int>(value.text_.size()),
                          SQLITE_STATIC);
        break;
      case Value::Kind::kNumber:
        sqlite3_bind_int64(statement, index, value.number_);
        break;
    }
    ++index;
  }
  for (;;) {
    const int status = sqlite3_step(statement);
    if (status == SQLITE_DONE) return {};
    if (status != SQLITE_ROW) return handle_->error(sql);
    if (row) row(Row(statement));
  }
}

Result<void> Database::at_once(const std::function<Result<void>()>& work) {
  TRY(handle_->execute("begin immediate"));
  auto done = work();
  if (done) done = handle_->execute("commit");
  if (done) return done;
  (void)handle_->execute("rollback");
  // It may be our own log that fills the disk: it shrinks only when something is committed, or now.
  if (done.error().kind == ErrorKind::kNoSpace) (void)handle_->execute("pragma wal_checkpoint(truncate)");
  return done;
}

std::string Database::Row::text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_of(statement_), column);
  return text == nullptr ? std::string() : reinterpret_cast<const char*>(text);
}
int64_t Database::Row::number(int column) const {
  return sqlite3_column_int64(statement_of(statement_), column);
}
bool Database::Row::is_null(int column) const {
  return sqlite3_column_type(statement_of(statement_), column) == SQLITE_NULL;
}

}  // namespace kuramori
