// An rclone of our own, that answers on loopback (`rclone rcd`) as long as this object lives: one process for
// all requests, since starting one for each would cost a login each time.
//
// Whoever else is on this machine is kept out by a password that only this process and its child know. It
// ends with us: also when we are killed.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/http.h"

namespace kuramori {

class RcloneServer {
 public:
  // Started by a thread that outlives it. kRefused in words where there is no rclone.
  static Result<std::unique_ptr<RcloneServer>> start();
  virtual ~RcloneServer() = default;

  enum class Wait { kShort, kTransfer };  // for the answer
  // A command of rclone's remote control. kNotFound: it said that what was named is not there. kUnknown: it
  // may have been done. kFailed: rclone's own words.
  virtual Result<Bytes> call(std::string_view command, const std::string& json, Wait wait) = 0;
  // The bytes of an object, or with `into` those from `offset`. kNotFound, kFailed as above; kDamaged: there
  // are fewer.
  virtual Result<Bytes> read(std::string_view place, std::string_view name) = 0;
  virtual Result<void> read(std::string_view place, std::string_view name, uint64_t offset,
                            MutableByteView into) = 0;
};

}  // namespace kuramori
