// Keys of a bucket as paths of a tree, and back. An ordinary key is its own path, so that a snapshot restores
// to the folders and files that everybody expects; what cannot be a path is escaped:
//
//   an empty part ("a//b", "/a", "a/")   %-          a part of more than 200 bytes   cut in pieces, each but
//   the parts "." and ".."               %2E  %2E.                                   the last ending in %+
//   NUL                                  %00         '%' before what looks like one of these   %25
//
// Two more are names that no key gives, for what stands beside keys: "%=" is an object whose key is also the
// folder of others ("a" beside "a/b" is "a/%="), and "%v…" a version.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori::bucket {

constexpr std::string_view kSelf = "%=";         // the part that stands for the folder's own key
constexpr std::string_view kVersionMark = "%v";  // begins the name of a version

// `key` is not empty.
std::string path_of_key(std::string_view key);
// kDamaged: no key has this path.
Result<std::string> key_of_path(std::string_view path);

}  // namespace kuramori::bucket
