#include <fmt/core.h>

#include <charconv>
#include <set>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/maintenance.h"
#include "policy/simulate.h"

namespace kuramori {
namespace {

constexpr int kYears = 8;

std::string shown_duration(Duration duration) {
  return format_duration(std::chrono::floor<std::chrono::seconds>(duration));
}

Result<SimulationRequest> read_request(Context& context) {
  const Invocation& line = context.line();
  SimulationRequest request;
  request.from = std::chrono::floor<std::chrono::seconds>(context.clock().now());
  const bool from_vault = line.value("starting-with") == "vault";
  if (line.has("from")) {
    if (from_vault)
      return fail(ErrorKind::kUsage, "--from and --starting-with vault do not go together",
                  "what the vault holds, it holds now", "leave out one of the two");
    TRY_ASSIGN(const Moment from, parse_moment(line.value("from")));
    request.from = from.time;
  }
  int years = kYears;
  if (line.has("years")) {
    const std::string text = line.value("years");
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), years);
    if (error != std::errc{} || end != text.data() + text.size() || years < 1 || years > kSimulatedYearsMax)
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no number of years", text.substr(0, 40)),
                  fmt::format("it is 1 to {}", kSimulatedYearsMax), "write --years 8");
  }
  request.until = later(request.from, Period{.months = 12 * years});
  if (request.until == kForever)
    return fail(ErrorKind::kUsage, "that is further than time is counted here", {}, "write fewer --years");
  if (line.has("prune-every")) {
    TRY_ASSIGN(request.prune_every, parse_duration(line.value("prune-every")));
  }
  if (line.has("change-every")) {
    TRY_ASSIGN(request.change_every, parse_duration(line.value("change-every")));
  }
  request.plan = line.value("plan");
  request.resource = line.value("resource");
  return request;
}

// What each vault of the plans holds now, as prune would look at it.
Result<void> read_existing(Context& context, const Config& config, SimulationRequest& request) {
  std::set<std::string> vaults;
  for (const PlanConfig& plan : config.plans) {
    if (!request.plan.empty() && plan.name != request.plan) continue;
    vaults.insert(plan.vault);
    for (const CopyConfig& copy : plan.copies) vaults.insert(copy.to);
  }
  for (const std::string& name : vaults) {
    TRY_ASSIGN(const VaultChoice choice, context.choose_vault(name));
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(PruneFacts facts, prune_facts(*vault, promises_in(config, name, request.from)));
    for (PruneQuestion& question : facts.questions)
      request.existing[{name, question.resource}] = std::move(question.snapshots);
  }
  return {};
}

void write_span(JsonWriter& json, std::string_view name, const std::optional<Span>& span) {
  json.key(name);
  if (!span) {
    json.null();
    return;
  }
  json.begin_object().field("from", format_utc(span->from)).field("to", format_utc(span->to));
  json.field("seconds", std::chrono::floor<std::chrono::seconds>(span->length()).count()).end_object();
}

// Those that are there at the end, by rule.
struct OfRule {
  size_t count = 0;
  Time oldest = kForever, newest = Time::min();
};
std::map<std::string, OfRule> by_rule(const SimulatedPlace& place) {
  std::map<std::string, OfRule> rules;
  for (const SimulatedSnapshot& snapshot : place.snapshots) {
    if (snapshot.dropped_at) continue;
    OfRule& of = rules[snapshot.rule];
    ++of.count;
    of.oldest = std::min(of.oldest, snapshot.time);
    of.newest = std::max(of.newest, snapshot.time);
  }
  return rules;
}

void write_snapshots(JsonWriter& json, const SimulatedPlace& place) {
  json.key("snapshots").begin_array();
  for (const SimulatedSnapshot& snapshot : place.snapshots) {
    json.begin_object()
        .field("id", snapshot.id.hex())
        .field("time", format_utc(snapshot.time))
        .field("keep_until", format_utc(snapshot.keep_until))
        .field("rule", snapshot.rule)
        .field("made_because", snapshot.reason);
    write_time(json, "dropped_at", snapshot.dropped_at);
    json.field("reason", snapshot.end_reason).end_object();
  }
  json.end_array();
}

void write_place(JsonWriter& json, const SimulatedPlace& place, bool each) {
  json.begin_object().field("resource", place.resource).field("vault", place.vault);
  json.field("copy", place.is_copy).key("plans").begin_array();
  for (const std::string& plan : place.plans) json.value(plan);
  json.end_array().field("made", place.made).field("dropped", place.dropped);
  json.field("at_end", place.over_time.back().count).key("peak").begin_object();
  json.field("count", place.peak);
  write_time(json, "at", place.peak > 0 ? std::optional(place.peak_at) : std::nullopt);
  json.end_object();
  write_time(json, "first_made", place.first_made);
  write_time(json, "last_made", place.last_made);
  write_time(json, "first_drop", place.first_drop);
  write_time(json, "last_drop", place.last_drop);
  write_span(json, "longest_wait", place.longest_wait);
  write_span(json, "widest_gap", place.widest_gap);
  json.key("refused_prunes").begin_object().field("count", place.refused);
  write_time(json, "first", place.first_refused);
  json.field("why", place.refused_why).end_object();
  json.key("by_rule").begin_array();
  for (const auto& [rule, of] : by_rule(place)) {
    json.begin_object().field("rule", rule).field("count", of.count);
    json.field("oldest", format_utc(of.oldest)).field("newest", format_utc(of.newest)).end_object();
  }
  json.end_array().key("over_time").begin_array();
  for (const CountAt& counted : place.over_time) {
    json.begin_object().field("at", format_utc(counted.at)).field("count", counted.count);
    json.key("by_rule").begin_object();
    for (const auto& [rule, count] : counted.by_rule) json.field(rule, count);
    json.end_object().end_object();
  }
  json.end_array();
  if (each) write_snapshots(json, place);
  json.end_object();
}

void print_document(Context& context, const Simulation& simulation, bool each) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/simulation/1");
  json.field("from", format_utc(simulation.from)).field("until", format_utc(simulation.until));
  json.key("places").begin_array();
  for (const SimulatedPlace& place : simulation.places) write_place(json, place, each);
  json.end_array().key("notes").begin_array();
  for (const std::string& note : simulation.notes) json.value(note);
  json.end_array().end_object();
  context.console().print_document(json);
}

std::string shown_span(const Span& span) {
  return fmt::format("{}, from {} to {}", shown_duration(span.length()), format_local(span.from),
                     format_local(span.to));
}

void print_place(Context& context, const SimulatedPlace& place, bool each) {
  Console& console = context.console();
  std::string plans;
  for (const std::string& plan : place.plans) plans += (plans.empty() ? "" : ", ") + plan;
  std::string out = fmt::format("{} in {}{} (plan {})\n", place.resource, place.vault,
                                place.is_copy ? ", copies" : "", plans);
  out += fmt::format("  {} made, {} dropped, {} at the end", place.made, place.dropped,
                     place.over_time.back().count);
  if (place.peak > 0)
    out += fmt::format("; most at once {}, first on {}", place.peak, format_local(place.peak_at));
  out += '\n';
  if (place.first_drop)
    out += fmt::format("  the first goes on {}, the last on {}\n", format_local(*place.first_drop),
                       format_local(*place.last_drop));
  else
    out += "  nothing goes\n";
  if (place.longest_wait)
    out += fmt::format("  longest without a new one: {}\n", shown_span(*place.longest_wait));
  if (place.widest_gap)
    out += fmt::format("  widest gap between two that are kept: {}\n", shown_span(*place.widest_gap));
  if (place.refused > 0)
    out += fmt::format("  {} prunes are refused, the first on {}: {}\n", place.refused,
                       format_local(*place.first_refused), place.refused_why);
  console.print(out + "\n");

  Table rules({{"kept by"}, {"count", Table::Align::kRight}, {"oldest"}, {"newest"}});
  for (const auto& [rule, of] : by_rule(place))
    rules.add({rule, std::to_string(of.count), format_local(of.oldest), format_local(of.newest)});
  if (!rules.empty()) console.print(rules.text() + "\n");
  Table years({{"on"}, {"count", Table::Align::kRight}, {"by rule"}});
  for (const CountAt& counted : place.over_time) {
    std::string shares;
    for (const auto& [rule, count] : counted.by_rule)
      shares += fmt::format("{}{} {}", shares.empty() ? "" : ", ", count, rule);
    years.add({format_local(counted.at), std::to_string(counted.count), shares});
  }
  console.print(years.text() + "\n");
  if (!each || place.snapshots.empty()) return;
  Table lines({{""}, {"made"}, {"because"}, {"on"}, {"why"}});
  for (const SimulatedSnapshot& snapshot : place.snapshots)
    lines.add({snapshot.dropped_at ? "went" : "stays", format_local(snapshot.time), snapshot.reason,
               snapshot.dropped_at ? format_local(*snapshot.dropped_at) : "", snapshot.end_reason});
  console.print(lines.text() + "\n");
}

}  // namespace

Result<int> run_simulate(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(SimulationRequest request, read_request(context));
  if (context.line().value("starting-with") == "vault") TRY(read_existing(context, *config, request));
  TRY_ASSIGN(const Simulation simulation, simulate(*config, request));
  const bool each = context.line().has("each");
  if (context.console().json()) {
    print_document(context, simulation, each);
    return 0;
  }
  context.console().print(
      fmt::format("from {} to {}\n\n", format_moment(simulation.from), format_moment(simulation.until)));
  for (const SimulatedPlace& place : simulation.places) print_place(context, place, each);
  for (const std::string& note : simulation.notes) context.console().note(note);
  if (simulation.places.empty()) context.console().note("no plan covers anything: there is nothing to play");
  return 0;
}

}  // namespace kuramori
