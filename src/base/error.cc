#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace kuramori {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return 2;
    case ErrorKind::kPartial:
      return 3;
    case ErrorKind::kBrokenPromise:
    case ErrorKind::kDamaged:
      return 4;
    case ErrorKind::kRefused:
      return 5;
    case ErrorKind::kInterrupted:
      return 130;
    case ErrorKind::kFailed:
    case ErrorKind::kNotFound:
    case ErrorKind::kExists:
    case ErrorKind::kUnknown:
    case ErrorKind::kDenied:
    case ErrorKind::kNoSpace:
      return 1;
  }
  return 1;
}

std::string_view name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kFailed:
      return "failed";
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kPartial:
      return "partial";
    case ErrorKind::kBrokenPromise:
      return "broken_promise";
    case ErrorKind::kRefused:
      return "refused";
    case ErrorKind::kInterrupted:
      return "interrupted";
    case ErrorKind::kNotFound:
      return "not_found";
    case ErrorKind::kExists:
      return "exists";
    case ErrorKind::kUnknown:
      return "unknown_outcome";
    case ErrorKind::kDenied:
      return "denied";
    case ErrorKind::kNoSpace:
      return "no_space";
    case ErrorKind::kDamaged:
      return "damaged";
  }
  return "failed";
}

Error system_error(std::string what, int code) {
  ErrorKind kind = ErrorKind::kFailed;
  switch (code) {
    case ENOENT:
      kind = ErrorKind::kNotFound;
      break;
    case EEXIST:
      kind = ErrorKind::kExists;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      kind = ErrorKind::kDenied;
      break;
    case ENOSPC:
    case EDQUOT:
      kind = ErrorKind::kNoSpace;
      break;
    default:
      break;
  }
  char text[128];
  // GNU strerror_r: returns the text, which may or may not be in the buffer.
  const char* message = strerror_r(code, text, sizeof text);
  return fail(kind, std::move(what), message);
}

}  // namespace kuramori
