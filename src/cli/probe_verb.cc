#include <fmt/core.h>

#include "base/units.h"
#include "cli/lock_keeping.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/probe_vault.h"

namespace kuramori {
namespace {

std::string_view word_of(ProbeFinding::Verdict verdict) {
  switch (verdict) {
    case ProbeFinding::Verdict::kHolds:
      return "holds";
    case ProbeFinding::Verdict::kBroken:
      return "broken";
    case ProbeFinding::Verdict::kUnchecked:
      return "unchecked";
  }
  return "unchecked";
}

double seconds_of(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

void write_seconds(JsonWriter& json, std::string_view name, const std::optional<Duration>& duration) {
  json.key(name);
  duration ? json.value(seconds_of(*duration)) : json.null();
}

void write_place(JsonWriter& json, std::string_view place, const ProbeReport& report) {
  json.begin_object()
      .field("place", place)
      .field("location", report.location)
      .field("in_words", report.in_words());
  json.field("versioned", report.versioned).field("can_lock", report.can_retain);
  write_seconds(json, "default_lock_seconds", report.default_retention);
  write_seconds(json, "clock_difference_seconds", report.clock_difference);
  json.field("left_behind", report.left_behind)
      .field("seconds", seconds_of(report.took))
      .key("findings")
      .begin_array();
  for (const ProbeFinding& finding : report.findings)
    json.begin_object()
        .field("name", finding.name)
        .field("verdict", word_of(finding.verdict))
        .field("detail", finding.detail)
        .end_object();
  json.end_array().end_object();
}

std::string shown(std::string_view place, const ProbeReport& report) {
  std::string out = fmt::format("{}: {}\n", place, report.location);
  Table table({{"finding"}, {"verdict"}, {"what came of it"}});
  for (const ProbeFinding& finding : report.findings)
    table.add({finding.name, std::string(word_of(finding.verdict)), finding.detail});
  out += table.text();
  out += report.versioned ? "versioned: what is put over or deleted stays\n" : "not versioned\n";
  if (report.default_retention)
    out += "locks whatever is put, asked or not\n";
  else
    out += report.can_retain ? "can lock objects until a date\n" : "cannot lock objects\n";
  if (report.left_behind > 0)
    out += fmt::format("{} small objects below {} are retained and stay for now\n", report.left_behind,
                       kProbePrefix);
  return out;
}

}  // namespace

Result<int> run_vault_probe(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(VaultProbe done, probe_vault(address_of(context, choice), {.stop = context.stop()}, console,
                                          context.line().value("through")));
  const PlacesProbe& probe = done.places;
  // What was found out stands in the vault: by whom is for the audit log, which wants it opened.
  if (!done.recorded.empty() && open_chosen(context, choice)) context.set_act_object(done.recorded);
  TRY(say_remarks(context));
  if (console.json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/probe/1")
        .field("vault", choice.name)
        .field("accepted", !probe.refused)
        .field("refused", probe.refused ? probe.refused->what : "")
        .field("recorded", done.recorded)
        .key("places")
        .begin_array();
    write_place(json, "objects", probe.objects);
    if (probe.ledger) write_place(json, "ledger", *probe.ledger);
    json.end_array().end_object();
    console.print_document(json);
  } else {
    console.print(shown("objects", probe.objects));
    if (probe.ledger) console.print(shown("ledger", *probe.ledger));
    if (probe.refused) console.report(*probe.refused);
  }
  return probe.refused ? exit_code(probe.refused->kind) : 0;
}

}  // namespace kuramori
