// `doctor`: what is not as it should be.
#include <fmt/core.h>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/applied.h"
#include "engine/backup.h"
#include "engine/sources.h"
#include "os/fuse/fuse.h"
#include "os/process.h"
#include "source/postgres/binaries.h"
#include "source/postgres/connection.h"
#include "source/postgres/doctor.h"

namespace kuramori {
namespace {

struct DoctorFinding {
  std::string resource;
  postgres::Finding finding;
};
// A program of others, and whose need it is.
struct DoctorClient {
  std::string needed_by;  // "resource orders-db"
  SourceClient client;
};
struct Doctor {
  std::vector<DoctorFinding> findings;
  std::vector<DoctorClient> clients;
};

// Drills start a server of the same major version; restores of the data directory too, where they look at it.
SourceClient client_of_server(const Result<std::string>& connect) {
  SourceClient client{.program = "postgres", .purpose = "drills"};
  auto connection = connect ? postgres::Connection::open(*connect) : connect.error();
  if (!connection) {
    client.needed = "of the server's major version, which does not answer";
    client.fits = true;  // as far as anybody can tell
    return client;
  }
  const int major = static_cast<int>(connection->major());
  client.needed = std::to_string(major);
  if (const auto programs = postgres::find_programs(major)) {
    client.found = fmt::format("{} in {}", programs->major, programs->folder);
    client.fits = true;
  }
  return client;
}

// A place that only rclone reaches.
void look_for_rclone(const Config& config, Doctor& doctor) {
  for (const VaultConfig& vault : config.vaults) {
    if (!vault.at.starts_with("rclone:")) continue;
    SourceClient client{.program = "rclone", .purpose = "reaches it", .needed = "any version"};
    if (const auto program = find_program("rclone")) client.found = *program;
    client.fits = !client.found.empty();
    doctor.clients.push_back({"vault " + vault.name, std::move(client)});
  }
}

std::string shown_clients(const std::vector<DoctorClient>& clients) {
  Table table({{"needed by"}, {"program"}, {"for"}, {"version"}, {"here"}});
  for (const auto& [needed_by, client] : clients) {
    std::string here = client.found.empty() ? client.fits ? "not known" : "missing" : client.found;
    if (!client.fits && !client.found.empty()) here += ": too old";
    table.add({needed_by, client.program, client.purpose, client.needed, std::move(here)});
  }
  return table.empty() ? "" : "\n" + table.text();
}

// Somebody changed the file and did not apply it, or applied another elsewhere.
void examine_drift(Vault& vault, const Config& config, const std::string& name,
                   std::vector<DoctorFinding>& findings) {
  const auto drift = drift_in(vault, config);
  if (drift && !*drift) return;
  postgres::Finding finding{.severity = postgres::Severity::kRisk, .about = "vault " + name};
  if (drift) {
    const Drift& found = **drift;
    finding.what = fmt::format("{} is not what was applied to {}: {} change{}", config.path, name,
                               found.changes.size(), found.changes.size() == 1 ? "" : "s");
    finding.why = fmt::format("the first: {}; {}@{} applied it", found.changes.front().key,
                              found.applied.user, found.applied.host);
    finding.fix = "kuramori plan, then kuramori apply";
  } else {
    finding.what = drift.error().what;
    finding.why = drift.error().why;
    finding.fix = drift.error().next;
  }
  findings.push_back({"", std::move(finding)});
}

// A vault that does not open is a finding like any other.
void examine_vaults(Context& context, const Config& config, std::vector<DoctorFinding>& findings) {
  for (const VaultConfig& vault : config.vaults) {
    auto choice = context.choose_vault(vault.name);
    Error error;
    if (!choice) {
      error = choice.error();
    } else {
      auto opened = open_chosen(context, *choice);
      if (opened) {
        examine_drift(**opened, config, vault.name, findings);
        continue;
      }
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
                      Doctor& doctor) {
  std::vector<DoctorFinding>& findings = doctor.findings;
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
    if (opened)
      for (SourceClient& client : opened->source->clients())
        doctor.clients.push_back({"resource " + resource.name, std::move(client)});
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
  doctor.clients.push_back({"resource " + resource.name, client_of_server(connect)});
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
  Doctor doctor;
  const std::vector<DoctorFinding>& findings = doctor.findings;
  if (only.empty()) {
    examine_vaults(context, *config, doctor.findings);
    look_for_rclone(*config, doctor);
    examine_mounts(doctor.findings);
    for (const ResourceConfig& resource : config->resources)
      examine_resource(context, *config, resource, doctor);
  } else {
    TRY_ASSIGN(const ResourceConfig* resource, config->resource(only));
    examine_resource(context, *config, *resource, doctor);
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
  json.end_array().key("clients").begin_array();
  for (const auto& [needed_by, client] : doctor.clients) {
    json.begin_object().field("needed_by", needed_by).field("program", client.program);
    json.field("purpose", client.purpose).field("needed", client.needed).field("found", client.found);
    json.field("fits", client.fits).end_object();
  }
  json.end_array().end_object();
  if (console.json())
    console.print_document(json);
  else
    console.print((out.empty() ? "nothing is wrong\n" : out) + shown_clients(doctor.clients));
  return wrong ? 1 : 0;
}

}  // namespace kuramori
