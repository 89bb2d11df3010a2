// Errors are values. A function that can fail returns Result<T>; what a caller may do about a failure
// follows from its kind, in one table (`exit_code`, `is_worth_retrying`).
#pragma once
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace kuramori {

// Few and closed: a kind exists only if some caller acts on it.
enum class ErrorKind {
  kFailed,         // it did not work, nothing is lost                         exit 1
  kUsage,          // wrong usage or configuration, wrong or damaged key      exit 2
  kPartial,        // done in part; the message names what is missing         exit 3
  kBrokenPromise,  // a proof failed, a scrub found damage                    exit 4
  kRefused,        // refused for safety                                      exit 5
  kInterrupted,    // the user or the system asked to stop                    exit 130
  kNotFound,       // the store answered: there is no such object             exit 1
  kExists,         // put_if_absent answered: the name is taken               exit 1
  kUnknown,        // the outcome is not known (time-out, lost connection): retry with the same bytes  exit 1
  kDenied,         // the store or the system does not allow it               exit 1
  kNoSpace,        // disk or quota full                                      exit 1
  kDamaged,        // bytes were read and are not what was written            exit 4
};

struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::kFailed;
  std::string what;  // "pack 3f2a… is truncated: need 8192 bytes, have 4096"
  std::string why;   // the cause, when it is not plain from `what`
  std::string next;  // what to type next

  // The same error seen from one level up: "copy segment 0/3: " + what.
  Error within(std::string_view context) && {
    what = std::string(context) + ": " + what;
    return std::move(*this);
  }
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
  Result(Error error) : std::expected<T, Error>(std::unexpect, std::move(error)) {}
};

template <>
class [[nodiscard]] Result<void> : public std::expected<void, Error> {
 public:
  using std::expected<void, Error>::expected;
  Result(Error error) : std::expected<void, Error>(std::unexpect, std::move(error)) {}
};

inline Error fail(ErrorKind kind, std::string what, std::string why = {}, std::string next = {}) {
  return Error{kind, std::move(what), std::move(why), std::move(next)};
}

// The process exit status of a kind, as docs/interface.md promises.
int exit_code(ErrorKind kind);
// The word programs read in `error.kind` of a JSON error.
std::string_view name_of(ErrorKind kind);
// The text of errno value `code`, and the kind that follows from it (ENOSPC → kNoSpace …).
Error system_error(std::string what, int code);

}  // namespace kuramori

#define KURAMORI_CONCAT_(a, b) a##b
#define KURAMORI_CONCAT(a, b) KURAMORI_CONCAT_(a, b)
// TRY(statement): leave the function with the error, if there is one.
#define TRY_(tmp, ...)                       \
  do {                                       \
    auto&& tmp = (__VA_ARGS__);              \
    if (!tmp) return std::move(tmp).error(); \
  } while (0)
#define TRY(...) TRY_(KURAMORI_CONCAT(try_result_, __COUNTER__), __VA_ARGS__)
// TRY_ASSIGN(auto value, expression): take the value, or leave the function with the error.
#define TRY_ASSIGN_(tmp, target, ...)      \
  auto tmp = (__VA_ARGS__);                \
  if (!tmp) return std::move(tmp).error(); \
  target = std::move(*tmp)
#define TRY_ASSIGN(target, ...) TRY_ASSIGN_(KURAMORI_CONCAT(try_value_, __COUNTER__), target, __VA_ARGS__)
