// The program git, run so that nobody's configuration acts but ours: not the machine's, not the user's, not a
// hook, and of what a repository says only what it is. Never through a shell.
//
// Credentials: git asks for them by a small script of ours in a private folder, which answers from its
// environment, and only when the question names exactly the site they are for: a redirect, or an address out
// of a repository's content, gets none. They are in no argument, no file and no message.
#pragma once
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "os/process.h"
#include "source/git/remote.h"

namespace kuramori::git {

constexpr Duration kAskTimeout = std::chrono::minutes(2);  // for a list of refs
constexpr Duration kLocalTimeout = std::chrono::hours(6);  // for what nobody gave a limit
constexpr size_t kRefListBytesMax = size_t{48} << 20;      // some half a million refs

// What to reach a remote with.
struct Access {
  std::string user, password;    // over HTTP
  std::string ca_file;           // over HTTPS, instead of the machine's
  std::string ssh_key_file;      // else the agent's and the user's own
  std::string known_hosts_file;  // else the user's own
};

struct GitCall {
  std::vector<std::string> arguments;
  std::string repository;  // a git folder, or "" for none
  std::string input;
  std::function<Result<void>(ByteView)> on_output;
  std::optional<Duration> timeout;
  size_t output_max = kRefListBytesMax;
  bool lenient = false;                                       // objects that git fsck would refuse are taken
  std::vector<std::pair<std::string, std::string>> settings;  // of configuration, for this call
};

class Git {
 public:
  // `home` is a private folder of ours for what git wants to find in files; it is made. kFailed: no git.
  static Result<Git> make(const Remote& remote, const Access& access, std::string home, std::stop_token stop);

  // Runs it; how it ended is in the result.
  Result<Finished> run(GitCall call) const;
  // The same, and an exit status other than 0 is an error with what it said.
  Result<std::string> checked(GitCall call) const;
  // git-lfs, by itself: killed with us, where below git it would go on.
  Result<Finished> run_lfs(GitCall call) const;
  // kNotFound: it is not installed.
  static Result<std::string> lfs_version();
  static Result<std::string> version();  // "2.39.5"

  const Remote& remote() const { return remote_; }
  // What went wrong with the remote, from what git said.
  Error explain(std::string_view doing, const Finished& finished) const;

 private:
  Git(Remote remote, std::vector<std::string> environment, std::stop_token stop)
      : remote_(std::move(remote)), environment_(std::move(environment)), stop_(std::move(stop)) {}
  Result<Finished> run_program(std::vector<std::string> argv, GitCall call) const;

  Remote remote_;
  std::vector<std::string> environment_;
  std::stop_token stop_;
};

// The end of what a program said, on one line.
std::string last_words(std::string_view errors);

}  // namespace kuramori::git
