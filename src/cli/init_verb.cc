// `init`: looks around, proposes a kuramori.yaml, and makes the vault once it stands. `init --dev` does all
// of it for a developer's machine; run again it changes nothing that is there.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"
#include "base/time_text.h"
#include "base/units.h"
#include "cli/applying.h"
#include "cli/linting.h"
#include "cli/timer_forms.h"
#include "cli/verbs.h"
#include "engine/look_around.h"
#include "engine/open_vault.h"
#include "os/file.h"
#include "os/process.h"
#include "os/user.h"
#include "policy/yaml_tree.h"

namespace kuramori {
namespace {

constexpr const char* kHere = "kuramori.yaml";
constexpr Duration kFirstRunWithin = std::chrono::hours(2);
constexpr Duration kTimerToolWithin = std::chrono::seconds(20);
constexpr double kDevRtoSeconds = 15 * 60;

struct Step {
  std::string what, path;
  std::string state;  // "made", "there", "renewed", "told"
};

struct Measured {
  double backup_seconds = 0, restore_seconds = 0;
  bool passed = false;
  bool in_time() const { return passed && restore_seconds <= kDevRtoSeconds; }
};

struct Outcome {
  std::vector<std::string> found;
  std::string file, text;
  bool written = false;
  std::vector<Step> steps;
  std::optional<Measured> measured;
};

// --- places ----------------------------------------------------------------------------------------------

std::string home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return home;
  const auto user = user_of_uid(geteuid());
  return user ? user->home : "/";
}
std::string xdg(const char* variable, std::string_view below_home) {
  const char* set = std::getenv(variable);
  return set != nullptr && *set == '/' ? set : join_path(home_folder(), below_home);
}

std::string project_of(const Context& context, const std::string& folder) {
  std::string name = context.line().value("project");
  if (name.empty()) name = std::filesystem::path(folder).filename().string();
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    if (!plain) c = '-';
  }
  while (name.starts_with('.')) name.erase(0, 1);
  return name.empty() ? "project" : name;
}

ProposalPlace place_for(const Context& context, const std::string& project, bool dev) {
  const bool machine = geteuid() == 0 && !dev;
  ProposalPlace place;
  place.vault = machine ? "/var/lib/kuramori/vault"
                        : xdg("XDG_DATA_HOME", ".local/share") + "/kuramori/" + project + "/vault";
  place.key_file = machine ? "/etc/kuramori/owner.key"
                           : xdg("XDG_CONFIG_HOME", ".config") + "/kuramori/" + project + ".key";
  if (context.line().has("vault-at"))
    place.vault = std::filesystem::absolute(context.line().value("vault-at")).lexically_normal().string();
  place.site = dev ? "desk" : host_name();
  place.zone = machine_zone();
  return place;
}

std::string file_to_write(const Context& context) {
  const std::string given = context.line().value("config");
  return std::filesystem::absolute(given.empty() ? kHere : given).lexically_normal().string();
}

bool is_there(const std::string& path) {
  const auto status = status_if_there(path);
  return !status || *status;  // what cannot be looked at is not written over
}

// --- what was done, in words -------------------------------------------------------------------------------

void print_document(Context& context, const Outcome& out, const Config* config, const LintReport* report) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/init/1").key("found").begin_array();
  for (const std::string& one : out.found) json.value(one);
  json.end_array().field("file", out.file).field("written", out.written).field("text", out.text);
  if (config != nullptr && report != nullptr)
    write_findings(json, *config, *report);
  else
    json.key("findings").begin_array().end_array();
  json.key("steps").begin_array();
  for (const Step& one : out.steps)
    json.begin_object()
        .field("what", one.what)
        .field("path", one.path)
        .field("state", one.state)
        .end_object();
  json.end_array().key("measured");
  if (out.measured)
    json.begin_object()
        .field("backup_seconds", out.measured->backup_seconds)
        .field("restore_seconds", out.measured->restore_seconds)
        .field("rto_seconds", kDevRtoSeconds)
        .field("passed", out.measured->passed)
        .field("in_time", out.measured->in_time())
        .end_object();
  else
    json.null();
  json.end_object();
  context.console().print_document(json);
}

void note_found(Context& context, const std::vector<std::string>& found) {
  for (const std::string& one : found) context.console().note(one);
}

// --- init
// ----------------------------------------------------------------------------------------------------

bool says_yes(Context& context, const std::string& file) {
  if (context.line().has("write") || context.line().has("yes")) return true;
  if (context.console().json() || isatty(STDIN_FILENO) != 1) return false;
  std::fputs(fmt::format("write this to {}, and make the vault? [y/N] ", file).c_str(), stderr);
  const int c = std::getchar();
  for (int rest = c; rest != EOF && rest != '\n';) rest = std::getchar();
  return c == 'y' || c == 'Y';
}

// The vault of the file that now stands, its key, and that it was applied. False: lint found what a person
// must decide first, and nothing was made.
Result<bool> apply_file(Context& context, Outcome& out, std::optional<LintReport>& report) {
  TRY_ASSIGN(Planned planned, make_plan(context));
  report = planned.lint;
  if (planned.lint.has_errors()) return false;
  TRY_ASSIGN(const Applied applied, apply_planned(context, planned));
  for (const AppliedVault& vault : applied.vaults) {
    if (vault.trouble) return *vault.trouble;
    TRY_ASSIGN(const VaultConfig* configured, planned.config->vault(vault.vault));
    out.steps.push_back({"the vault", configured->at, vault.made ? "made" : "there"});
    out.steps.push_back(
        {"its key; keep a copy elsewhere", configured->key_file, vault.key_was_made ? "made" : "there"});
  }
  return true;
}

void print_steps(Context& context, const Outcome& out) {
  std::string text;
  for (const Step& one : out.steps) text += fmt::format("{:8} {}: {}\n", one.state, one.what, one.path);
  context.console().print(text);
}

Result<int> init_usual(Context& context) {
  Outcome out;
  std::error_code ignored;
  const std::string folder = std::filesystem::current_path(ignored).string();
  const LookedAround around = look_around({.folder = folder, .connect = context.line().value("connect")});
  out.found = words_of(around.found);
  out.file = file_to_write(context);
  Console& console = context.console();
  if (!console.json()) note_found(context, out.found);
  if (around.found.empty())
    return fail(ErrorKind::kFailed, fmt::format("nothing to protect was found in {}", folder),
                "no PostgreSQL or Redis answers here, and there is no compose file, .env or repository",
                "name a server (kuramori init --connect \"host=… dbname=…\"), or begin with the sample: "
                "docs/examples/kuramori.yaml");
  out.text = propose_config(around.found, place_for(context, project_of(context, folder), false),
                            context.clock().now());
  TRY(parse_config(out.text, out.file, context.world()));
  if (!console.json()) console.print(out.text);
  if (!says_yes(context, out.file)) {
    if (console.json()) print_document(context, out, nullptr, nullptr);
    console.note(fmt::format("nothing was written; kuramori init --write makes {} and the vault", out.file));
    return 0;
  }
  if (is_there(out.file))
    return fail(ErrorKind::kRefused, fmt::format("{} is there already", out.file), "it is never written over",
                "kuramori lint, kuramori plan; or write the proposal elsewhere: --config FILE");
  TRY(write_new_file(out.file, as_bytes(out.text), 0644));
  out.written = true;
  out.steps.push_back({"the configuration", out.file, "made"});
  std::optional<LintReport> report;
  TRY_ASSIGN(const bool applied, apply_file(context, out, report));
  TRY_ASSIGN(const Config* config, context.config());
  if (console.json()) {
    print_document(context, out, config, &*report);
  } else {
    console.print("\n" + shown_findings(*config, *report));
    print_steps(context, out);
    console.note(
        applied ? "next: kuramori vault kit here --to FILE; kuramori backup RESOURCE; kuramori drill RESOURCE"
                : "correct what cannot hold, then: kuramori apply");
  }
  return applied ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

// --- init --dev
// ------------------------------------------------------------------------------------------------

// Ours, and made from the same facts each time: what is the same is left, what is not is written anew.
Result<std::string> write_ours(const std::string& path, const std::string& text, mode_t mode = 0644) {
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (there) {
    TRY_ASSIGN(const Bytes bytes, read_file(path, kConfigBytesMax));
    if (as_text(bytes) == text) return std::string("there");
  }
  TRY(make_folders(folder_of(path)));
  TRY(write_file_durably(path, as_bytes(text), mode));
  return std::string(there ? "renewed" : "made");
}

// The configuration names places of this person's home: it does not belong into the repository.
Result<void> ignore_in_git(const Surroundings& found, Outcome& out) {
  if (found.repository.empty()) return {};
  const std::string line =
      "/" + std::filesystem::path(out.file).lexically_relative(found.repository).string();
  if (line.starts_with("/..")) return {};
  const std::string path = join_path(found.repository, ".gitignore");
  std::string text;
  mode_t mode = 0644;
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (there) {
    TRY_ASSIGN(const Bytes bytes, read_file(path, kConfigBytesMax));
    text = std::string(as_text(bytes));
    mode = there->mode;
  }
  const std::string marked = "\n" + text + (text.empty() || text.ends_with('\n') ? "" : "\n");
  if (marked.find("\n" + line + "\n") != marked.npos) {
    out.steps.push_back({"a line " + line, path, "there"});
    return {};
  }
  TRY(write_file_durably(path, as_bytes(marked.substr(1) + line + "\n"), mode));
  out.steps.push_back({"a line " + line, path, "made"});
  return {};
}

Result<TimerForm> choose_form(const Context& context) {
  const std::string given = context.line().value("form");
  if (given == "systemd") return TimerForm::kSystemd;
  if (given == "cron") return TimerForm::kCron;
  if (given == "launchd") return TimerForm::kLaunchd;
  const auto running = status_if_there("/run/systemd/system");
  if (running && *running) return TimerForm::kSystemd;
  if (find_program("launchctl")) return TimerForm::kLaunchd;
  return TimerForm::kCron;
}

// True: the machine's own tool took it.
bool tell(std::vector<std::string> argv, std::string input = {}) {
  if (!find_program(argv.front())) return false;
  const auto done = run({.argv = std::move(argv), .input = std::move(input), .timeout = kTimerToolWithin});
  return done && done->exit.ok();
}

Result<void> install_timer(Context& context, const std::string& project, Outcome& out) {
  const std::string config = xdg("XDG_CONFIG_HOME", ".config"), data = xdg("XDG_DATA_HOME", ".local/share");
  const std::string log = xdg("XDG_STATE_HOME", ".local/state") + "/kuramori/" + project + ".log";
  TRY(make_folders(folder_of(log)));
  const std::vector<std::string> program = {this_program(), "--config", out.file, "--quiet"};
  TimerWords words{.project = project, .log = log, .commands = {}};
  for (std::vector<std::string> verb : std::vector<std::vector<std::string>>{
           {"backup", kDevResource}, {"prune"}, {"vault", "collect", "here"}}) {
    std::vector<std::string> command = program;
    command.insert(command.end(), verb.begin(), verb.end());
    words.commands.push_back(std::move(command));
  }
  TRY_ASSIGN(const TimerForm form, choose_form(context));
  const auto write = [&](const std::string& what, const std::string& path,
                         const std::string& text) -> Result<void> {
    TRY_ASSIGN(std::string state, write_ours(path, text));
    out.steps.push_back({what, path, std::move(state)});
    return {};
  };
  std::string by_hand;
  bool running = false;
  switch (form) {
    case TimerForm::kSystemd: {
      const std::string unit = config + "/systemd/user/kuramori-" + project;
      TRY(write("what a timer runs", unit + ".service", systemd_service(words)));
      TRY(write("a timer, every three hours", unit + ".timer", systemd_timer(words)));
      const std::string name = "kuramori-" + project + ".timer";
      running = tell({"systemctl", "--user", "daemon-reload"}) &&
                tell({"systemctl", "--user", "enable", "--now", name});
      by_hand = fmt::format("systemctl --user enable --now {}", name);
      break;
    }
    case TimerForm::kCron: {
      const std::string path = data + "/kuramori/" + project + "/crontab";
      TRY(write("a line of cron's, every three hours", path, cron_line(words) + "\n"));
      std::string now;
      if (find_program("crontab")) {
        const auto listed = run({.argv = {"crontab", "-l"}, .timeout = kTimerToolWithin});
        if (listed && listed->exit.ok()) now = listed->output;
        const std::string wanted = with_cron_line(now, words);
        running = wanted == now || tell({"crontab", "-"}, wanted);
      }
      by_hand = fmt::format("(crontab -l; cat {}) | crontab -", path);
      break;
    }
    case TimerForm::kLaunchd: {
      const std::string path = home_folder() + "/Library/LaunchAgents/kuramori." + project + ".plist";
      TRY(write("an agent, every three hours", path, launchd_agent(words)));
      running = tell({"launchctl", "load", "-w", path});
      by_hand = fmt::format("launchctl load -w {}", path);
    }
  }
  if (!running) context.console().note(fmt::format("nothing here took the timer; start it: {}", by_hand));
  out.steps.push_back({"it runs", running ? "from now on" : by_hand, running ? "there" : "told"});
  return {};
}

const FoundPostgres* choose_database(const Surroundings& found) {
  for (const FoundPostgres& one : found.postgres)
    if (one.answers() && one.main() != nullptr) return &one;
  return found.postgres.empty() ? nullptr : &found.postgres.front();
}

Result<void> write_dev_config(Context& context, const LookedAround& around, const std::string& project,
                              Outcome& out) {
  if (is_there(out.file)) {
    TRY_ASSIGN(const Config* config, context.config());
    if (auto resource = config->resource(kDevResource); !resource)
      return fail(ErrorKind::kRefused, fmt::format("{} is there already, and is not of init --dev", out.file),
                  "it is never written over", "write another: kuramori init --dev --config FILE");
    TRY_ASSIGN(const Bytes bytes, read_file(out.file, kConfigBytesMax));
    out.text = std::string(as_text(bytes));
    out.steps.push_back({"the configuration", out.file, "there"});
    return {};
  }
  const FoundPostgres* database = choose_database(around.found);
  if (database == nullptr)
    return fail(
        ErrorKind::kFailed, fmt::format("no database was found from {}", around.found.folder),
        "nothing in .env, in a compose file, in the environment or on this machine's sockets names one",
        "start it (docker compose up -d db), or name it: kuramori init --dev --connect \"host=… dbname=…\"");
  if (!database->answers())
    context.console().warning(fmt::format("{} does not answer yet: {}", database->from, database->trouble));
  ProposalPlace place = place_for(context, project, true);
  if (const auto password = around.passwords.find(database->connect);
      database->has_password && password != around.passwords.end()) {
    place.password_file = xdg("XDG_CONFIG_HOME", ".config") + "/kuramori/" + project + ".password";
    TRY(make_folders(folder_of(place.password_file)));
    if (!is_there(place.password_file))
      TRY(write_new_file(place.password_file, password->second.view(), 0600));
    out.steps.push_back({"the database's password, as it was found", place.password_file, "made"});
  }
  out.text = propose_dev_config(*database, place, context.clock().now());
  TRY(parse_config(out.text, out.file, context.world()));
  TRY(write_new_file(out.file, as_bytes(out.text), 0644));
  out.written = true;
  out.steps.push_back({"the configuration", out.file, "made"});
  return {};
}

// A number of the document that another run of this program printed.
Result<double> number_in(std::string_view document, std::string_view object, std::string_view key) {
  TRY_ASSIGN(const YamlNode root, parse_yaml(document, "what kuramori printed"));
  const YamlNode* at = &root;
  for (const std::string_view name : {object, key}) {
    const auto found = std::ranges::find(at->keys, name);
    if (found == at->keys.end()) return fail(ErrorKind::kFailed, fmt::format("no {} was printed", key));
    at = &at->items[static_cast<size_t>(found - at->keys.begin())];
  }
  double value = 0;
  std::from_chars(at->text.data(), at->text.data() + at->text.size(), value);
  return value;
}

Result<void> back_up_and_prove(Context& context, Outcome& out) {
  const auto ran = [&](std::string_view verb) {
    return run({.argv = {this_program(), "--config", out.file, "--json", std::string(verb), kDevResource},
                .timeout = kFirstRunWithin,
                .stop = context.stop()});
  };
  const auto why = [](const Finished& done) {
    return done.errors.substr(0, 400) + done.output.substr(0, 400);
  };
  TRY_ASSIGN(const Finished backup, ran("backup"));
  if (!backup.exit.ok())
    return fail(ErrorKind::kFailed, "the first backup failed", why(backup),
                fmt::format("kuramori --config {} backup {}", out.file, kDevResource));
  Measured measured;
  TRY_ASSIGN(measured.backup_seconds, number_in(backup.output, "snapshot", "seconds"));
  TRY_ASSIGN(const Finished drill, ran("drill"));
  if (!drill.exit.ok() && drill.exit.code != exit_code(ErrorKind::kBrokenPromise))
    return fail(ErrorKind::kFailed, "the restore could not be tried", why(drill),
                fmt::format("kuramori --config {} drill {}", out.file, kDevResource));
  measured.passed = drill.exit.ok();
  TRY_ASSIGN(measured.restore_seconds, number_in(drill.output, "proof", "seconds_total"));
  out.measured = measured;
  return {};
}

Result<int> init_dev(Context& context) {
  Outcome out;
  std::error_code ignored;
  out.file = file_to_write(context);
  const std::string folder =
      context.line().has("config") ? folder_of(out.file) : std::filesystem::current_path(ignored).string();
  const std::string project = project_of(context, folder);
  const LookedAround around = look_around({.folder = folder, .connect = context.line().value("connect")});
  out.found = words_of(around.found);
  Console& console = context.console();
  if (!console.json()) note_found(context, out.found);
  TRY(write_dev_config(context, around, project, out));
  TRY(ignore_in_git(around.found, out));
  std::optional<LintReport> report;
  TRY_ASSIGN(const bool applied, apply_file(context, out, report));
  TRY_ASSIGN(const Config* config, context.config());
  if (applied) TRY(install_timer(context, project, out));
  if (applied && context.line().has("prove")) TRY(back_up_and_prove(context, out));
  if (console.json()) {
    print_document(context, out, config, &*report);
  } else {
    print_steps(context, out);
    if (!applied) console.print(shown_findings(*config, *report));
    if (out.measured) {
      const auto took = [](double seconds) {
        return format_duration(Duration(static_cast<int64_t>(seconds * 1e9)));
      };
      console.print(fmt::format("backed up in {}, restored and checked in {}: {} of 15 minutes\n",
                                took(out.measured->backup_seconds), took(out.measured->restore_seconds),
                                out.measured->in_time() ? "within the RTO" : "NOT within the RTO"));
    } else if (applied) {
      console.note("the first backup and a timed restore: kuramori init --dev --prove");
    }
  }
  const bool kept = applied && (!out.measured || out.measured->in_time());
  return kept ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

}  // namespace

Result<int> run_init(Context& context) {
  const Invocation& line = context.line();
  if (line.has("dev")) return init_dev(context);
  for (const char* option : {"form", "prove"})
    if (line.has(option))
      return fail(ErrorKind::kUsage, fmt::format("--{} goes with --dev", option), "", "kuramori init --dev");
  return init_usual(context);
}

}  // namespace kuramori
