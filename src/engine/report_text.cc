// A report as JSON and as CSV.
#include <fmt/core.h>

#include "base/json_writer.h"
#include "base/text.h"
#include "base/time_text.h"
#include "engine/report.h"

namespace kuramori {
namespace {

void write(JsonWriter& json, std::string_view key, const std::optional<Time>& time) {
  json.key(key);
  time ? json.value(format_utc(*time)) : json.null();
}
void write(JsonWriter& json, std::string_view key, const std::optional<double>& number) {
  json.key(key);
  number ? json.value(*number) : json.null();
}
void write(JsonWriter& json, std::string_view key, const std::optional<Period>& period) {
  json.key(key);
  period ? json.value(format_period(*period)) : json.null();
}
void write(JsonWriter& json, std::string_view key, const std::vector<std::string>& words) {
  json.key(key).begin_array();
  for (const std::string& word : words) json.value(word);
  json.end_array();
}
void write(JsonWriter& json, std::string_view key, const std::vector<Report::Check>& checks) {
  json.key(key).begin_array();
  for (const Report::Check& check : checks)
    json.begin_object()
        .field("name", check.name)
        .field("verdict", check.verdict)
        .field("detail", check.detail)
        .end_object();
  json.end_array();
}

void write_resource(JsonWriter& json, const Report::Resource& one) {
  json.begin_object().field("resource", one.name).field("kind", one.kind).field("owner", one.owner);
  json.field("criticality", one.criticality).field("state", one.state);
  write(json, "plans", one.plans);
  write(json, "schedules", one.schedules);
  write(json, "vaults", one.vaults);
  write(json, "sites", one.sites);
  json.field("copies_score", one.copies_score).field("copies_kept", one.copies_kept);
  write(json, "rpo", one.rpo);
  write(json, "rpo_now_seconds", one.rpo_now);
  write(json, "rpo_worst_seconds", one.rpo_worst);
  write(json, "rpo_worst_before_seconds", one.rpo_before);
  write(json, "rto", one.rto);
  write(json, "rto_seconds", one.rto_now);
  write(json, "rto_before_seconds", one.rto_before);
  json.field("made", one.made).field("failed", one.failed).field("expected", one.expected);
  json.field("missed", one.missed).field("snapshots", one.snapshots).field("held", one.held);
  write(json, "oldest", one.oldest);
  write(json, "newest", one.newest);
  write(json, "kept_until", one.kept_until);
  write(json, "checks", one.checks);
  write(json, "problems", one.problems);
  write(json, "improvements", one.improvements);
  write(json, "drill_due", one.drill_due);
  json.field("drill_overdue", one.drill_overdue).end_object();
}

void write_acts(JsonWriter& json, std::string_view key, const std::vector<Report::Act>& acts) {
  json.key(key).begin_array();
  for (const Report::Act& act : acts) {
    json.begin_object().field("time", format_utc(act.at)).field("vault", act.vault).field("key", act.key);
    json.field("user", act.user).field("verb", act.verb).field("resource", act.resource);
    json.field("object", act.object).field("result", act.result).field("reason", act.reason);
    json.field("sha256", act.sha256).end_object();
  }
  json.end_array();
}

// A row of cells; quoted where a comma, a quote or a line break would tear it. What a spreadsheet would take
// for a formula begins with an apostrophe.
class Csv {
 public:
  void heading(std::string_view text) { out_ += fmt::format("{}# {}\r\n", out_.empty() ? "" : "\r\n", text); }
  void row(std::initializer_list<std::string> cells) {
    bool first = true;
    for (const std::string& cell : cells) {
      if (!std::exchange(first, false)) out_ += ',';
      add(cell);
    }
    out_ += "\r\n";
  }
  std::string take() { return std::move(out_); }

 private:
  void add(std::string cell) {
    if (!cell.empty() && std::string_view("=+-@\t").find(cell.front()) != std::string_view::npos)
      cell.insert(0, "'");
    if (cell.find_first_of(",\"\r\n") == std::string::npos) {
      out_ += cell;
      return;
    }
    out_ += '"';
    for (const char c : cell) out_.append(c == '"' ? 2 : 1, c);
    out_ += '"';
  }
  std::string out_;
};

std::string text_of(const std::optional<Time>& time) {
  return time ? format_utc(*time) : "";
}
std::string text_of(const std::optional<double>& number) {
  return number ? fmt::format("{:.3f}", *number) : "";
}
std::string text_of(const std::optional<Period>& period) {
  return period ? format_period(*period) : "";
}
}  // namespace

std::string report_json(const Report& report) {
  JsonWriter json(JsonWriter::Style::kIndented);
  const ReportPeriod& period = report.period;
  json.begin_object().field("schema", "kuramori/report/1").key("period").begin_object();
  json.field("kind", period.kind).field("name", period.name).field("zone", period.zone);
  json.field("from", format_utc(period.from)).field("until", format_utc(period.until));
  json.field("as_of", format_utc(period.as_of)).end_object();
  json.field("red", report.red()).key("resources").begin_array();
  for (const Report::Resource& one : report.resources) write_resource(json, one);
  json.end_array().key("controls").begin_array();
  for (const Control& one : report.controls) {
    json.begin_object().field("id", one.id).field("title", one.title).field("about", one.about);
    json.field("verdict", name_of(one.verdict)).field("demanded", one.demanded);
    json.field("measured", one.measured).field("evidence", one.evidence).end_object();
  }
  json.end_array().key("proofs").begin_array();
  for (const Report::Proof& one : report.proofs) {
    json.begin_object().field("time", format_utc(one.at)).field("resource", one.resource);
    json.field("snapshot", one.snapshot).field("vault", one.vault).field("site", one.site);
    json.field("by", one.by).field("passed", one.passed).field("seconds_to_open", one.seconds_to_open);
    json.field("seconds_total", one.seconds_total);
    write(json, "checks", one.checks);
    json.end_object();
  }
  json.end_array();
  write_acts(json, "failures", report.failures);
  write_acts(json, "changes", report.changes);
  json.key("deletions").begin_array();
  for (const Report::Deletion& one : report.deletions)
    json.begin_object()
        .field("time", format_utc(one.at))
        .field("vault", one.vault)
        .field("resource", one.resource)
        .field("snapshot", one.snapshot)
        .field("reason", one.reason)
        .field("by", one.by)
        .end_object();
  json.end_array().key("holds").begin_array();
  for (const Report::Hold& one : report.holds)
    json.begin_object()
        .field("vault", one.vault)
        .field("resource", one.resource)
        .field("snapshot", one.snapshot)
        .field("names", one.names)
        .field("keep_until", format_utc(one.keep_until))
        .end_object();
  json.end_array().key("contacts").begin_array();
  for (const Report::Contact& one : report.contacts)
    json.begin_object()
        .field("name", one.name)
        .field("role", one.role)
        .field("mail", one.mail)
        .field("phone", one.phone)
        .field("slack", one.slack)
        .end_object();
  json.end_array().key("evidence").begin_array();
  for (const Report::Evidence& one : report.evidence)
    json.begin_object()
        .field("what", one.what)
        .field("vault", one.vault)
        .field("sha256", one.sha256)
        .end_object();
  json.end_array();
  write(json, "notes", report.notes);
  json.end_object();
  return json.take() + "\n";
}

std::string report_csv(const Report& report) {
  Csv csv;
  const ReportPeriod& period = report.period;
  csv.heading(fmt::format("Kuramori {} {} ({}), as of {}", period.kind, period.name, period.zone,
                          format_utc(period.as_of)));
  csv.heading("controls");
  csv.row({"control", "about", "verdict", "demanded", "measured", "evidence"});
  for (const Control& one : report.controls)
    csv.row(
        {one.title, one.about, std::string(name_of(one.verdict)), one.demanded, one.measured, one.evidence});
  csv.heading("resources");
  csv.row({"resource",
           "kind",
           "owner",
           "criticality",
           "state",
           "plans",
           "schedules",
           "vaults",
           "sites",
           "copies-media-offsite",
           "rpo",
           "rpo now s",
           "longest gap s",
           "longest gap before s",
           "rto",
           "restore s",
           "restore before s",
           "made",
           "failed",
           "expected",
           "missed",
           "snapshots",
           "held",
           "oldest",
           "newest",
           "kept until",
           "drill due",
           "problems",
           "improvements"});
  for (const Report::Resource& one : report.resources)
    csv.row({one.name,
             one.kind,
             one.owner,
             one.criticality,
             one.state,
             joined(one.plans, "; "),
             joined(one.schedules, "; "),
             joined(one.vaults, "; "),
             joined(one.sites, "; "),
             one.copies_score,
             text_of(one.rpo),
             text_of(one.rpo_now),
             text_of(one.rpo_worst),
             text_of(one.rpo_before),
             text_of(one.rto),
             text_of(one.rto_now),
             text_of(one.rto_before),
             std::to_string(one.made),
             std::to_string(one.failed),
             std::to_string(one.expected),
             std::to_string(one.missed),
             std::to_string(one.snapshots),
             std::to_string(one.held),
             text_of(one.oldest),
             text_of(one.newest),
             text_of(one.kept_until),
             text_of(one.drill_due),
             joined(one.problems, "; "),
             joined(one.improvements, "; ")});
  csv.heading("checklist");
  csv.row({"resource", "check", "verdict", "detail"});
  for (const Report::Resource& one : report.resources)
    for (const Report::Check& check : one.checks)
      csv.row({one.name, check.name, check.verdict, check.detail});
  csv.heading("proofs");
  csv.row(
      {"time", "resource", "snapshot", "vault", "site", "by", "passed", "seconds to open", "seconds in all"});
  for (const Report::Proof& one : report.proofs)
    csv.row({format_utc(one.at), one.resource, one.snapshot, one.vault, one.site, one.by,
             one.passed ? "yes" : "NO", text_of(std::optional(one.seconds_to_open)),
             text_of(std::optional(one.seconds_total))});
  for (const auto& [title, acts] :
       {std::pair<std::string_view, const std::vector<Report::Act>*>{"failures", &report.failures},
        {"changes", &report.changes}}) {
    csv.heading(title);
    csv.row({"time", "vault", "key", "user", "verb", "resource", "object", "result", "reason", "sha256"});
    for (const Report::Act& act : *acts)
      csv.row({format_utc(act.at), act.vault, act.key, act.user, act.verb, act.resource, act.object,
               act.result, act.reason, act.sha256});
  }
  csv.heading("deletions");
  csv.row({"time", "vault", "resource", "snapshot", "reason", "by"});
  for (const Report::Deletion& one : report.deletions)
    csv.row({format_utc(one.at), one.vault, one.resource, one.snapshot, one.reason, one.by});
  csv.heading("holds");
  csv.row({"vault", "resource", "snapshot", "holds", "kept until"});
  for (const Report::Hold& one : report.holds)
    csv.row({one.vault, one.resource, one.snapshot, one.names, format_utc(one.keep_until)});
  csv.heading("contacts");
  csv.row({"name", "role", "mail", "phone", "slack"});
  for (const Report::Contact& one : report.contacts)
    csv.row({one.name, one.role, one.mail, one.phone, one.slack});
  csv.heading("evidence");
  csv.row({"what", "vault", "sha256"});
  for (const Report::Evidence& one : report.evidence) csv.row({one.what, one.vault, one.sha256});
  csv.heading("not looked at");
  for (const std::string& note : report.notes) csv.row({note});
  return csv.take();
}

}  // namespace kuramori
