// `lint`: does the configuration keep its own promises.
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "cli/linting.h"
#include "cli/verbs.h"
#include "os/process.h"

namespace kuramori {
namespace {

// Named by a path, or found where a shell would look.
bool program_is_there(const std::string& command) {
  const auto program = find_program(command.substr(0, command.find(' ')));
  return program && access(program->c_str(), X_OK) == 0;
}

// A file that is not there on this machine may be there on the one that tells: only what was read is judged.
LintFacts::Target look_at(const Setting& to, const ConfigWorld& world) {
  LintFacts::Target target;
  auto text = to.fetch(world);
  if (!text) {
    target.trouble = fmt::format("{}: {}", to.origin(), text.error().what);
    return target;
  }
  target.text = std::move(*text);
  constexpr std::string_view kCommand = "command:";
  if (target.text.starts_with(kCommand))
    target.program_is_there = program_is_there(target.text.substr(kCommand.size()));
  return target;
}

// The disk of the path, or of the nearest folder above it that is there.
std::optional<uint64_t> disk_of(const std::string& path) {
  std::filesystem::path at(path);
  for (;;) {
    struct stat facts{};
    if (stat(at.c_str(), &facts) == 0) return facts.st_dev;
    if (!at.has_parent_path() || at.parent_path() == at) return {};
    at = at.parent_path();
  }
}

}  // namespace

LintReport lint_here(Context& context, const Config& config) {
  LintFacts facts;
  facts.now = context.clock().now();
  facts.disk_of = disk_of;
  for (const NotifyConfig& entry : config.notify) {
    auto& targets = facts.targets.emplace_back();
    targets.push_back(look_at(entry.to, context.world()));
    for (const EscalationStep& step : entry.escalate) targets.push_back(look_at(step.to, context.world()));
  }
  return lint(config, facts);
}

void write_findings(JsonWriter& json, const Config& config, const LintReport& report) {
  json.key("findings").begin_array();
  for (const LintFinding& one : report.findings) {
    json.begin_object().field("id", one.id).field("level", name_of(one.level)).field("about", one.about);
    json.field("what", one.what).field("why", one.why).field("next", one.next);
    json.field("file", config.path).field("line", one.line).end_object();
  }
  json.end_array();
}

std::string shown_findings(const Config& config, const LintReport& report) {
  std::string out;
  for (const LintFinding& one : report.findings) {
    out += fmt::format("{}:{} {}: {}: {}\n", config.path, one.line > 0 ? fmt::format("{}:", one.line) : "",
                       name_of(one.level), one.about, one.what);
    if (!one.why.empty()) out += fmt::format("  why: {}\n", one.why);
    if (!one.next.empty()) out += fmt::format("  fix: {}\n", one.next);
  }
  return out;
}

namespace {

void write_json(Console& console, const Config& config, const LintReport& report) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/lint/1");
  write_findings(json, config, report);
  json.key("promises").begin_array();
  for (const LintPromise& one : report.promises) {
    json.begin_object().field("resource", one.resource).key("rpo");
    one.rpo ? json.value(format_period(*one.rpo)) : json.null();
    json.key("worst_seconds");
    if (one.worst)
      json.value(std::chrono::duration_cast<std::chrono::seconds>(*one.worst).count());
    else
      json.null();
    json.field("plan", one.plan).field("copies", one.copies).field("media", one.media);
    json.field("elsewhere", one.elsewhere).end_object();
  }
  json.end_array().end_object();
  console.print_document(json);
}

}  // namespace

Result<int> run_lint(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  const LintReport report = lint_here(context, *config);
  Console& console = context.console();
  if (console.json()) {
    write_json(console, *config, report);
    return report.has_errors() ? 4 : 0;
  }
  const std::string out = shown_findings(*config, report);
  Table table({{"resource"}, {"promised"}, {"at worst"}, {"by plan"}, {"copies-media-elsewhere"}});
  for (const LintPromise& one : report.promises)
    table.add({one.resource, one.rpo ? format_period(*one.rpo) : "",
               one.worst ? format_duration(*one.worst) : "unbounded", one.plan,
               fmt::format("{}-{}-{}", one.copies, one.media, one.elsewhere)});
  const std::string between = out.empty() || table.empty() ? "" : "\n";
  console.print(out + between + (table.empty() ? "" : table.text()));
  if (!report.has_errors()) console.note("nothing that is promised cannot hold");
  return report.has_errors() ? 4 : 0;
}

}  // namespace kuramori
