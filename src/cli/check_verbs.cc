// `vault scrub` and `doctor`: what is not as it should be.
#include <fmt/core.h>

#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/local_state.h"
#include "source/postgres/doctor.h"

namespace kuramori {
namespace {

std::string_view name_of(ScrubSeverity severity) {
  switch (severity) {
    case ScrubSeverity::kNote:
      return "note";
    case ScrubSeverity::kUnreadable:
      return "unreadable";
    case ScrubSeverity::kDamage:
      return "damage";
  }
  return "note";
}

struct DoctorFinding {
  std::string resource;
  postgres::Finding finding;
};

// A vault that does not open is a finding like any other.
void examine_vaults(Context& context, const Config& config, std::vector<DoctorFinding>& findings) {
  for (const VaultConfig& vault : config.vaults) {
    auto choice = context.choose_vault(vault.name);
    Error error;
    if (!choice) {
      error = choice.error();
    } else {
      auto opened = open_chosen(context, *choice);
      if (opened) continue;
      error = opened.error();
    }
    findings.push_back({"",
                        {.severity = postgres::Severity::kProblem,
                         .about = "vault " + vault.name,
                         .what = error.what,
                         .why = error.why,
                         .fix = error.next}});
  }
}

void examine_resource(Context& context, const Config& config, const ResourceConfig& resource,
                      std::vector<DoctorFinding>& findings) {
  auto add = [&](postgres::Severity severity, std::string what, std::string why, std::string fix) {
    findings.push_back({resource.name,
                        {.severity = severity,
                         .about = "resource " + resource.name,
                         .what = std::move(what),
                         .why = std::move(why),
                         .fix = std::move(fix)}});
  };
  if (config.plans_of(resource.name).empty())
    add(postgres::Severity::kRisk, "no plan covers it", "it is named and not protected",
        "add it to the resources of a plan in " + config.path);
  if (auto supported = check_supported(resource); !supported)
    return add(postgres::Severity::kHint, supported.error().what, supported.error().why, "");
  auto connect = resource.connect.fetch(context.world());
  auto examined =
      connect ? postgres::examine_server(*connect) : Result<std::vector<postgres::Finding>>(connect.error());
  if (!examined)
    return add(postgres::Severity::kProblem, examined.error().what, examined.error().why,
               examined.error().next);
  for (postgres::Finding& finding : *examined) findings.push_back({resource.name, std::move(finding)});
}

}  // namespace

Result<int> run_vault_scrub(Context& context) {
  Console& console = context.console();
  std::optional<Duration> budget;
  if (context.line().has("budget")) {
    TRY_ASSIGN(budget, parse_duration(context.line().value("budget")));
  }
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(ScrubResult result, scrub_vault(*vault, budget, console, context.stop()));
  int status = result.damaged()          ? exit_code(ErrorKind::kBrokenPromise)
               : result.unreadable()     ? exit_code(ErrorKind::kFailed)
               : result.objects_left > 0 ? exit_code(ErrorKind::kPartial)
                                         : 0;
  JsonWriter json;
  json.begin_object()
      .field("schema", "kuramori/scrub/1")
      .field("damaged", result.damaged())
      .field("objects", result.objects);
  json.field("bytes", result.bytes)
      .field("objects_left", result.objects_left)
      .field("snapshots", result.snapshots);
  json.key("findings").begin_array();
  std::string out;
  for (const ScrubFinding& finding : result.findings) {
    json.begin_object()
        .field("object", finding.object)
        .field("severity", name_of(finding.severity))
        .field("what", finding.what);
    json.key("snapshots").begin_array();
    out += fmt::format("{}: {}: {}\n", name_of(finding.severity), finding.object, finding.what);
    for (const SnapshotId& snapshot : finding.snapshots) {
      json.value(snapshot.hex());
      out += fmt::format("  snapshot {} cannot be fully restored because of it\n", snapshot.hex());
    }
    json.end_array().end_object();
  }
  json.end_array().end_object();
  if (console.json()) {
    console.print_document(json);
    return status;
  }
  out +=
      fmt::format("{}: {} objects checked, {} read, {} snapshots\n", result.damaged() ? "DAMAGED" : "sound",
                  result.objects, format_size(result.bytes), result.snapshots);
  if (result.objects_left > 0)
    out += fmt::format("{} objects were not reached within the budget: the next run begins with them\n",
                       result.objects_left);
  console.print(out);
  return status;
}

Result<int> run_doctor(Context& context) {
  Console& console = context.console();
  std::string only = context.line().argument(0);
  TRY_ASSIGN(const Config* config, context.config());
  std::vector<DoctorFinding> findings;
  if (only.empty()) {
    examine_vaults(context, *config, findings);
    for (const ResourceConfig& resource : config->resources)
      examine_resource(context, *config, resource, findings);
  } else {
    TRY_ASSIGN(const ResourceConfig* resource, config->resource(only));
    examine_resource(context, *config, *resource, findings);
  }
  bool wrong = false;
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/doctor/1").key("findings").begin_array();
  std::string out;
  for (const DoctorFinding& one : findings) {
    const postgres::Finding& finding = one.finding;
    wrong |= finding.severity != postgres::Severity::kHint;
    json.begin_object()
        .field("resource", one.resource)
        .field("severity", postgres::name_of(finding.severity))
        .field("about", finding.about);
    json.field("what", finding.what)
        .field("why", finding.why)
        .field("fix", finding.fix)
        .field("needs_restart", finding.needs_restart)
        .end_object();
    out += fmt::format("{}{}: {}\n", one.resource.empty() ? "" : one.resource + ": ",
                       postgres::name_of(finding.severity), finding.what);
    if (!finding.why.empty()) out += fmt::format("  why: {}\n", finding.why);
    if (!finding.fix.empty())
      out += fmt::format("  fix: {}{}\n", finding.fix,
                         finding.needs_restart ? "   -- then restart the server" : "");
  }
  json.end_array().end_object();
  if (console.json())
    console.print_document(json);
  else
    console.print(out.empty() ? "nothing is wrong\n" : out);
  return wrong ? 1 : 0;
}

}  // namespace kuramori
