// Where a repository is, taken apart: what git may be told, and what only a prompt is answered with.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori::git {

struct Remote {
  enum class Way : uint8_t { kFolder, kHttp, kSsh, kGit } way = Way::kFolder;
  std::string scheme;          // as protocol.<name>.allow has it: "file", "https", "http", "ssh", "git"
  std::string url;             // for git's command line; over HTTP without user and password
  std::string site;            // over HTTP: "https://host:port", as git's prompts have it
  std::string path;            // of a folder on this machine
  std::string user, password;  // over HTTP, where the URL had them

  // Whether credentials of one may be given to the other.
  bool is_same_site(const Remote& other) const { return !site.empty() && site == other.site; }
};

// An absolute path, or a URL of http, https, ssh, git or file, or user@host:path. kUsage for all else: a
// helper program's name ("ext::…"), what would be read as an option, control characters. Messages never hold
// the password.
Result<Remote> parse_remote(std::string_view text);

}  // namespace kuramori::git
