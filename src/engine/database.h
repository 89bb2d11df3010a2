// A SQLite file of this machine's own: what may be lost, or is kept a second time. SQLite ends here:
// statements are text, values and rows are ours.
#pragma once
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

class Database {
 public:
  struct Options {
    std::string what = "the local state";  // what messages call it
    std::string schema;                    // statements that make what is not there yet
    // Each commit is there also after the power went, and others read while it is written: what is more than
    // a cache.
    bool is_journal = false;
  };
  // Made if absent. A file that is no database is set aside as PATH.damaged and begun anew. ":memory:" is one
  // that is gone with the process.
  static Result<std::unique_ptr<Database>> open(const std::string& path, const Options& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  class Value {
   public:
    Value(std::string_view text) : text_(text), kind_(Kind::kText) {}
    Value(const std::string& text) : Value(std::string_view(text)) {}
    Value(const char* text) : Value(std::string_view(text)) {}
    Value(int64_t number) : number_(number), kind_(Kind::kNumber) {}
    Value(std::nullptr_t) {}

   private:
    friend Database;
    enum class Kind { kNull, kText, kNumber };
    std::string_view text_;
    int64_t number_ = 0;
    Kind kind_ = Kind::kNull;
  };
  class Row {
   public:
    std::string text(int column) const;
    int64_t number(int column) const;
    bool is_null(int column) const;

   private:
    friend Database;
    explicit Row(void* statement) : statement_(statement) {}
    void* statement_;
  };

  // One statement; `row` for each row of its answer.
  Result<void> query(const char* sql, std::initializer_list<Value> values = {},
                     const std::function<void(const Row&)>& row = {});
  // All that `work` writes, or nothing of it.
  Result<void> at_once(const std::function<Result<void>()>& work);

 private:
  struct Handle;
  explicit Database(std::unique_ptr<Handle> handle);
  static Result<std::unique_ptr<Handle>> open_handle(const std::string& path, const Options& options,
                                                     bool& is_none);
  std::unique_ptr<Handle> handle_;
};

}  // namespace kuramori
