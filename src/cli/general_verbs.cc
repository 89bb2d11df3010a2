#include <fmt/core.h>

#include "api/completion.h"
#include "api/help.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "policy/config_schema.h"

#ifndef KURAMORI_VERSION
#define KURAMORI_VERSION "0.1.0"
#endif

namespace kuramori {
namespace {

constexpr int kVaultFormat = 1;  // docs/vault-format.md

std::string_view name_of_wal(WalMode mode) {
  switch (mode) {
    case WalMode::kStream:
      return "stream";
    case WalMode::kArchive:
      return "archive";
    case WalMode::kNone:
      return "none";
  }
  return "none";
}

void write_plan(JsonWriter& json, const PlanConfig& plan) {
  json.begin_object().field("name", plan.name).field("vault", plan.vault).field("wal", name_of_wal(plan.wal));
  json.key("window");
  plan.window ? json.value(format_period(*plan.window)) : json.null();
  json.end_object();
}

// The configured names, one a line. A configuration that cannot be read completes to nothing.
Result<int> print_names(Context& context, std::string_view noun) {
  auto config = context.config();
  if (!config) return 0;
  if (noun == "vaults")
    for (const VaultConfig& vault : (*config)->vaults) context.console().print(vault.name + "\n");
  else
    for (const ResourceConfig& resource : (*config)->resources) context.console().print(resource.name + "\n");
  return 0;
}

}  // namespace

Result<int> run_resources(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  const std::vector<const ResourceConfig*> resources = config->by_criticality();
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/resources/1").key("resources").begin_array();
    for (const ResourceConfig* resource : resources) {
      json.begin_object().field("name", resource->name).field("kind", name_of(resource->kind));
      json.field("supported", check_supported(*resource).has_value()).field("owner", resource->owner);
      json.field("criticality", resource->criticality).key("plans").begin_array();
      for (const PlanConfig* plan : config->plans_of(resource->name)) write_plan(json, *plan);
      json.end_array().end_object();
    }
    json.end_array().end_object();
    context.console().print_document(json);
    return 0;
  }
  Table table({{"resource"}, {"kind"}, {"plan"}, {"vault"}, {"wal"}, {"window"}, {"owner"}});
  for (const ResourceConfig* resource : resources) {
    std::string kind(name_of(resource->kind));
    if (!check_supported(*resource)) kind += " (not supported yet)";
    auto plans = config->plans_of(resource->name);
    if (plans.empty()) table.add({resource->name, kind, "unprotected", "", "", "", resource->owner});
    for (const PlanConfig* plan : plans)
      table.add({resource->name, kind, plan->name, plan->vault, std::string(name_of_wal(plan->wal)),
                 plan->window ? format_period(*plan->window) : "", resource->owner});
  }
  if (table.empty())
    context.console().note("no resource is configured in " + config->path);
  else
    context.console().print(table.text());
  return 0;
}

Result<int> run_version(Context& context) {
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/version/1").field("version", KURAMORI_VERSION);
    json.field("vault_format", kVaultFormat).field("compiler", __VERSION__).end_object();
    context.console().print_document(json);
    return 0;
  }
  context.console().print(fmt::format("kuramori {} (vault format {}, compiler {})\n", KURAMORI_VERSION,
                                      kVaultFormat, __VERSION__));
  return 0;
}

Result<int> run_completion(Context& context) {
  TRY_ASSIGN(std::string script, completion_script(context.line().argument(0)));
  context.console().print(script);
  return 0;
}

Result<int> run_help(Context& context) {
  const Invocation& line = context.line();
  if (line.has("names")) return print_names(context, line.value("names"));
  std::string format = line.value("format");
  std::string topic = joined(line.arguments, " ");
  if (format == "man") {
    context.console().print(man_page(KURAMORI_VERSION));
  } else if (format == "markdown") {
    context.console().print(markdown_reference());
  } else if (format == "json-schema") {
    context.console().print(config_schema());
  } else if (topic.empty()) {
    context.console().print(overview());
  } else if (const Operation* operation = find_operation(topic)) {
    context.console().print(help_of(*operation));
  } else if (!operations_in(topic).empty()) {
    context.console().print(group_help(topic));
  } else {
    return fail(ErrorKind::kUsage, fmt::format("there is no command \"{}\"", topic.substr(0, 40)), "",
                "kuramori --help");
  }
  return 0;
}

}  // namespace kuramori
