// `mount`: until somebody ends it.
#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iterator>

#include "base/time_text.h"
#include "cli/limiting.h"
#include "cli/recovery_target.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/mount.h"
#include "os/heap.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr const char* kBackground =
    "KURAMORI_IN_BACKGROUND";  // of the process that --background leaves behind
constexpr int kLookAroundMs = 100;

// The words this was called with, behind the program's name.
Result<std::vector<std::string>> own_words() {
  TRY_ASSIGN(const Bytes line, read_file("/proc/self/cmdline", size_t{1} << 20));
  std::vector<std::string> words;
  for (auto at = line.begin(); at != line.end();) {
    const auto end = std::find(at, line.end(), uint8_t{0});
    words.emplace_back(at, end);
    at = end == line.end() ? end : std::next(end);
  }
  if (!words.empty()) words.erase(words.begin());
  return words;
}

// Passes on what can be read now, and adds it to `said`; false at its end.
bool pass_on(const Fd& from, int to, std::string& said) {
  char piece[4096];
  const ssize_t got = ::read(from.get(), piece, sizeof piece);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  said.append(piece, static_cast<size_t>(got));
  for (ssize_t done = 0; done < got;) {
    const ssize_t put = ::write(to, piece + done, static_cast<size_t>(got - done));
    if (put <= 0) break;
    done += put;
  }
  return true;
}

// The same command again, in a process group of its own. It prints one document when the mount stands, and
// not before: then it is left to itself. What it says until then, and how it fails, is ours.
Result<int> mount_in_background(Context& context) {
  Command command{.argv = {this_program()}};
  TRY_ASSIGN(const std::vector<std::string> words, own_words());
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.set = {{kBackground, "1"}};
  TRY_ASSIGN(Pipe output, make_pipe());
  TRY_ASSIGN(Pipe errors, make_pipe());
  TRY_ASSIGN(Child child, Child::start(command, {.input = {},
                                                 .output = std::move(output.write),
                                                 .errors = std::move(errors.write)}));
  for (std::string answer, ignored;;) {
    pollfd ready[] = {
        {output.read.get(), POLLIN, 0}, {errors.read.get(), POLLIN, 0}, {child.handle().get(), POLLIN, 0}};
    (void)::poll(ready, std::size(ready), kLookAroundMs);
    if (ready[1].revents != 0) (void)pass_on(errors.read, STDERR_FILENO, ignored);
    if (ready[0].revents != 0) (void)pass_on(output.read, STDOUT_FILENO, answer);
    if (ready[2].revents != 0) {
      while (pass_on(errors.read, STDERR_FILENO, ignored)) {
      }
      while (pass_on(output.read, STDOUT_FILENO, ignored)) {
      }
      TRY_ASSIGN(const Exit exit, child.wait());
      return exit.signal != 0 ? exit_code(ErrorKind::kFailed) : exit.code;
    }
    if (answer.ends_with('\n') && answer.find("\"kuramori/error/") == answer.npos) {
      (void)new Child(std::move(child));  // never destroyed: that would end it
      return 0;
    }
    if (context.stop().stop_requested()) {
      TRY(child.terminate());
      return fail(ErrorKind::kInterrupted, "nothing was mounted");
    }
  }
}

// As it will be looked for among the mounts: whole, and without links on the way where it is there.
std::string whole_path(const std::string& typed) {
  std::error_code none;
  std::filesystem::path path = std::filesystem::absolute(typed, none).lexically_normal();
  const auto above = std::filesystem::weakly_canonical(path.parent_path(), none);
  if (!none && path.has_filename()) path = above / path.filename();
  std::string text = path.string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

// The folder of a vault that lies in one; "" for others.
std::string folder_of_vault(const std::string& location) {
  constexpr std::string_view kFile = "file://";
  std::string path = split_location(location).objects;
  if (path.starts_with(kFile)) path.erase(0, kFile.size());
  return path.find("://") == std::string::npos && path.starts_with('/') ? whole_path(path) : std::string();
}

void tell(Context& context, const MountRequest& request, const MountOutcome& outcome) {
  Console& console = context.console();
  if (!outcome.removed_dead.empty())
    console.note(
        fmt::format("took away the mount that a killed process had left at {}", outcome.removed_dead));
  if (!outcome.is_protected)
    console.note("this key may not announce a reader: what is mounted is not kept from being collected");
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/mount/1").key("mount").begin_object();
    json.field("resource", request.resource).field("path", request.path).key("snapshot");
    if (outcome.snapshot)
      json.value(outcome.snapshot->commit.snapshot.hex());
    else
      json.null();
    json.field("snapshots", static_cast<uint64_t>(outcome.snapshots))
        .field("pid", static_cast<uint64_t>(::getpid()));
    json.end_object().end_object();
    console.print_document(json);
  } else {
    std::string out;
    if (outcome.snapshot) {
      const CommitRecord& commit = outcome.snapshot->commit;
      out = fmt::format("mounted snapshot {} of {}, of {}, read-only at {}\n", commit.snapshot.hex(),
                        request.resource, format_moment(from_unix_ns(commit.started_ns)), request.path);
    } else {
      out = fmt::format("mounted {} snapshots of {} read-only at {}; the newest is {}/latest\n",
                        outcome.snapshots, request.resource, request.path, request.path);
    }
    if (std::getenv(kBackground) != nullptr)
      out += fmt::format("  fusermount3 -u {} ends it, or kill {}\n", request.path, ::getpid());
    else
      out += fmt::format("  Ctrl-C here ends it, or elsewhere: fusermount3 -u {}\n", request.path);
    console.print(out);  // at once: who waits in front of a background reads no further
  }
  std::fflush(stdout);  // whoever started it waits for this
}

}  // namespace

Result<int> run_mount(Context& context) {
  const Invocation& line = context.line();
  if (line.has("background") && std::getenv(kBackground) == nullptr) return mount_in_background(context);
  TRY_ASSIGN(const Limits limits, limits_given(context, {}));
  TRY(keep_to(limits, Reads::kVault));
  give_back_large_blocks_of_two_arenas();
  TRY_ASSIGN(ResourceAtSnapshot named, parse_resource_at_snapshot(line.argument(0)));
  MountRequest request{
      .resource = named.resource, .snapshot = named.snapshot, .path = whole_path(line.argument(1))};
  if (line.has("at")) {
    if (!named.snapshot.empty())
      return fail(ErrorKind::kUsage, "--at and @SNAPSHOT both say which one", "", "keep one of them");
    TRY_ASSIGN(const TypedTarget target, read_target(context, named.resource));
    request.at = target.request.time_ns;
  }
  request.for_others = line.has("allow-other");
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, named.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  request.vault_text = choice.shown();
  request.vault_folder = folder_of_vault(choice.location);
  TRY(mount_snapshots(*vault, request, context.console(), context.stop(),
                      [&](const MountOutcome& outcome) { tell(context, request, outcome); }));
  context.console().note(fmt::format("{} is unmounted", request.path));
  return 0;
}

}  // namespace kuramori
