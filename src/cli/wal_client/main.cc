// kuramori-wal: `wal push` and `wal get` as a small static program, for archive_command and restore_command.
//
// PostgreSQL starts one process a segment, so starting up must cost nothing: no shared libraries, no
// configuration, no table of operations. What it cannot do alone — read kuramori.yaml, ask for a passphrase —
// it leaves to the whole program beside it, which understands the same words.
//
//   kuramori-wal push [--socket PATH] [--config FILE] [--resource NAME] %p      asks the daemon
//   kuramori-wal push --vault LOCATION --key-file FILE [--resource NAME] %p
//   kuramori-wal get  --vault LOCATION --key-file FILE --resource NAME [--promise TEXT] %f %p
//   kuramori-wal get  --spool FOLDER %f %p
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "daemon/wal_client.h"
#include "engine/open_vault.h"
#include "engine/wal.h"
#include "engine/wal_spool.h"
#include "os/heap.h"

namespace kuramori {
namespace {

struct Words {
  std::string verb;
  std::map<std::string, std::string> options;
  std::vector<std::string> arguments;
  bool understood = true;
};

constexpr std::string_view kOptions[] = {"--vault", "--key-file", "--resource", "--promise",
                                         "--spool", "--config",   "--socket"};

Words read_words(int argc, char** argv) {
  Words words;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (words.arguments.empty() && words.verb.empty() && (word == "push" || word == "get")) {
      words.verb = word;
    } else if (words.verb.empty() && word == "wal") {
      continue;
    } else if (word.starts_with("--")) {
      size_t equals = word.find('=');
      std::string name(word.substr(0, equals));
      bool known = std::find(std::begin(kOptions), std::end(kOptions), name) != std::end(kOptions);
      if (!known || (equals == std::string_view::npos && i + 1 == argc)) {
        words.understood = false;
        return words;
      }
      words.options[name] =
          equals == std::string_view::npos ? argv[++i] : std::string(word.substr(equals + 1));
    } else {
      words.arguments.emplace_back(word);
    }
  }
  return words;
}

// The same line for the whole program, which stands beside this one or in PATH. Returns only if it is not
// there.
int hand_over(int argc, char** argv, bool daemon_was_asked) {
  std::vector<std::string> words{"kuramori"};
  bool has_wal = false;
  for (int i = 1; i < argc; ++i) has_wal = has_wal || std::string_view(argv[i]) == "wal";
  if (!has_wal) words.emplace_back("wal");
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (!daemon_was_asked) {
      words.emplace_back(word);
    } else if (word == "--socket" && i + 1 < argc) {
      ++i;
    } else if (!word.starts_with("--socket=")) {
      words.emplace_back(word);
    }
  }
  if (daemon_was_asked) setenv("KURAMORI_SOCKET", "off", 1);
  std::vector<char*> raw;
  for (std::string& word : words) raw.push_back(word.data());
  raw.push_back(nullptr);
  char path[4096];
  ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
  if (size > 0) {
    std::string self(path, static_cast<size_t>(size));
    std::string beside = self.substr(0, self.rfind('/') + 1) + "kuramori";
    execv(beside.c_str(), raw.data());
  }
  execvp("kuramori", raw.data());
  fmt::print(stderr,
             "kuramori-wal: it needs --vault FOLDER and --key-file FILE\n"
             "for anything else there is the whole program, kuramori, and it is not here\n"
             "kuramori-wal push --vault /srv/vault --key-file /etc/kuramori/key %p\n");
  return postgres::kGetStopServer;
}

int report(const Error& error) {
  fmt::print(stderr, "kuramori-wal: {}\n", error.what);
  if (!error.why.empty()) fmt::print(stderr, "{}\n", error.why);
  if (!error.next.empty()) fmt::print(stderr, "{}\n", error.next);
  return exit_code(error.kind);
}

Result<Secret> no_passphrase() {
  return fail(ErrorKind::kUsage, "the key file is wrapped under a passphrase", "kuramori-wal asks nobody",
              "use the whole program: kuramori wal push %p");
}

int run(int argc, char** argv) {
  Words words = read_words(argc, argv);
  auto option = [&](const char* name, const char* variable) -> std::string {
    auto it = words.options.find(name);
    if (it != words.options.end()) return it->second;
    const char* value = variable != nullptr ? getenv(variable) : nullptr;
    return value != nullptr ? value : "";
  };
  if (words.understood && words.verb == "get" && words.arguments.size() == 2 &&
      words.options.contains("--spool")) {
    std::string why;
    int status = get_from_spool(words.options["--spool"], words.arguments[0], words.arguments[1], why);
    if (status != 0)
      fmt::print(stderr, "kuramori-wal: {}: {}\n", words.arguments[0],
                 why.empty() ? "the archive ends before it" : why);
    return status;
  }
  // The daemon first. Whatever it cannot do is done here, or by the whole program.
  const bool whole_line =
      words.understood && words.arguments.size() == (words.verb == "push" ? 1u : 2u) && !words.verb.empty();
  if (whole_line) {
    DaemonWords asked{.socket = option("--socket", nullptr),
                      .vault = option("--vault", nullptr),
                      .key_file = option("--key-file", "KURAMORI_KEY_FILE"),
                      .config = option("--config", nullptr),
                      .resource = option("--resource", nullptr),
                      .promise = option("--promise", nullptr)};
    std::string trouble;
    if (words.verb == "push") {
      auto said = push_through_daemon(asked, words.arguments[0]);
      if (said.answer) return *said.answer ? 0 : report(said.answer->error());
      trouble = said.trouble;
    } else if (!asked.resource.empty()) {
      auto said = get_through_daemon(asked, words.arguments[0], words.arguments[1]);
      if (said.answer && said.answer->exit_status() != 0)
        fmt::print(stderr, "kuramori-wal: {}: {}\n", words.arguments[0], said.answer->why);
      if (said.answer) return said.answer->exit_status();
      trouble = said.trouble;
    }
    if (!trouble.empty()) fmt::print(stderr, "kuramori-wal: {}\n", trouble);
  }
  VaultAddress address{.location = option("--vault", nullptr),
                       .key_file = option("--key-file", "KURAMORI_KEY_FILE"),
                       .passphrase = no_passphrase,
                       .purpose = VaultAddress::For::kWalAlone};
  bool alone = whole_line && address.location.find('/') != std::string::npos && !address.key_file.empty() &&
               !words.options.contains("--config") && !address.location.starts_with("s3://") &&
               !address.location.starts_with("rclone:");
  if (!alone) return hand_over(argc, argv, whole_line);

  auto vault = open_vault(address);
  if (words.verb == "push") {
    if (!vault) return report(vault.error());
    auto pushed = push_wal(**vault, {.path = words.arguments[0],
                                     .resource = words.options["--resource"],
                                     .may_register = words.options.contains("--resource")});
    return pushed ? 0 : report(pushed.error());
  }
  // Whatever goes wrong must not look like the end of the archive (P44).
  if (!vault) {
    report(vault.error());
    return postgres::kGetStopServer;
  }
  WalGetRequest request{
      .resource = words.options["--resource"], .name = words.arguments[0], .path = words.arguments[1]};
  if (words.options.contains("--promise")) {
    auto promise = postgres::parse_promise(words.options["--promise"]);
    if (!promise) {
      report(promise.error());
      return postgres::kGetStopServer;
    }
    request.promise = *promise;
  }
  auto decision = get_wal_file(**vault, request);
  if (decision.exit_status() != 0) fmt::print(stderr, "kuramori-wal: {}: {}\n", request.name, decision.why);
  return decision.exit_status();
}

}  // namespace
}  // namespace kuramori

int main(int argc, char** argv) {
  kuramori::keep_freed_memory_in_one_arena();
  return kuramori::run(argc, argv);
}
