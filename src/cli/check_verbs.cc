// `doctor`: what is not as it should be.
#include <fmt/core.h>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/backup.h"
#include "engine/sources.h"
#include "os/fuse/fuse.h"
#include "source/postgres/doctor.h"

namespace kuramori {
namespace {

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

// Nothing is lost where snapshots cannot be mounted; but it is good to know before one wants to.
void examine_mounts(std::vector<DoctorFinding>& findings) {
  const auto may = may_mount();
  if (may) return;
  findings.push_back({"",
                      {.severity = postgres::Severity::kHint,
                       .about = "mount",
                       .what = "snapshots cannot be mounted here: " + may.error().what,
                       .why = may.error().why,
                       .fix = may.error().next}});
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
  if (resource.kind != ResourceKind::kPostgres) {
    auto opened = open_source(resource, context.world());
    auto found = opened ? opened->source->doctor() : Result<std::vector<SourceFinding>>(opened.error());
    if (!found)
      return add(postgres::Severity::kProblem, found.error().what, found.error().why, found.error().next);
    for (SourceFinding& finding : *found) {
      // A source does not know what its resource is called.
      constexpr std::string_view kResource = "RESOURCE";
      if (const size_t at = finding.fix.find(kResource); at != std::string::npos)
        finding.fix.replace(at, kResource.size(), resource.name);
      findings.push_back({resource.name,
                          {.severity = static_cast<postgres::Severity>(finding.severity),
                           .about = std::move(finding.about),
                           .what = std::move(finding.what),
                           .why = std::move(finding.why),
                           .fix = std::move(finding.fix)}});
    }
    return;
  }
  auto connect = resource.connect.fetch(context.world());
  auto examined = connect ? postgres::examine_server(*connect, capture_way(resource))
                          : Result<std::vector<postgres::Finding>>(connect.error());
  if (!examined)
    return add(postgres::Severity::kProblem, examined.error().what, examined.error().why,
               examined.error().next);
  for (postgres::Finding& finding : *examined) findings.push_back({resource.name, std::move(finding)});
}

}  // namespace

Result<int> run_doctor(Context& context) {
  Console& console = context.console();
  std::string only = context.line().argument(0);
  TRY_ASSIGN(const Config* config, context.config());
  std::vector<DoctorFinding> findings;
  if (only.empty()) {
    examine_vaults(context, *config, findings);
    examine_mounts(findings);
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
