// Users and groups of this machine, by name and by number.
#pragma once
#include <sys/types.h>

#include <string>

#include "base/error.h"

namespace kuramori {

struct User {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;  // the primary group
  std::string home;
};

Result<User> user_of_name(const std::string& name);  // kNotFound when there is none
Result<User> user_of_uid(uid_t uid);
Result<gid_t> gid_of_name(const std::string& name);
Result<std::string> group_name_of(gid_t gid);

}  // namespace kuramori
