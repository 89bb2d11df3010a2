// A report as one HTML file: its style is in it, nothing is fetched, and it prints on A4.
#include <fmt/core.h>

#include <algorithm>

#include "base/text.h"
#include "base/time_text.h"
#include "engine/report.h"

namespace kuramori {
namespace {

constexpr std::string_view kStyle = R"(
:root{--paper:#fdfcfa;--ink:#1d1f23;--soft:#676b73;--line:#e3dfd8;--card:#fff;--good:#1f7a4d;--bad:#b3261e;--dim:#8a6d1f;
--goodbg:#e7f4ec;--badbg:#fbe9e7;--dimbg:#f6f1e1;--accent:#2b4a7f}
@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#e8e6e1;--soft:#9a9ea6;--line:#2e3238;--card:#1d2025;--good:#6fcf97;
--bad:#ff8a80;--dim:#e0c070;--goodbg:#17301f;--badbg:#3a1a18;--dimbg:#302a16;--accent:#9db8e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 "Noto Sans","Noto Sans CJK JP","Hiragino Sans","Yu Gothic",
system-ui,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:48px 28px 72px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:19px;margin:44px 0 12px;padding-bottom:6px;border-bottom:2px solid var(--line)}
h3{font-size:16px;margin:0}
p{margin:.4em 0}.soft{color:var(--soft)}.small{font-size:13px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:26px 0 0}
.figure{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.figure b{display:block;font-size:26px;line-height:1.2;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12px;white-space:nowrap}
th,td{padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}code{font:12px/1.4 ui-monospace,"DejaVu Sans Mono",monospace;word-break:break-all}
.tag{display:inline-block;border-radius:999px;padding:1px 9px;font-size:12px;font-weight:600;white-space:nowrap}
.pass{color:var(--good);background:var(--goodbg)}.fail{color:var(--bad);background:var(--badbg)}.none{color:var(--dim);background:var(--dimbg)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:14px 0}
.card header{display:flex;flex-wrap:wrap;gap:10px;align-items:baseline;margin-bottom:8px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:10px 0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0}ul{margin:6px 0;padding-left:20px}
@media(max-width:640px){main{padding:24px 14px 48px}h1{font-size:24px}dl{grid-template-columns:1fr}dt{margin-top:6px}}
@media print{:root{--paper:#fff;--ink:#000;--card:#fff;--soft:#444;--line:#ccc;--good:#1f7a4d;--bad:#b3261e;--dim:#6b5518;
--goodbg:#fff;--badbg:#fff;--dimbg:#fff}
main{max-width:none;padding:0}body{font-size:10.5pt}table{font-size:8.5pt}.tag{border:1px solid currentColor}
h2{break-after:avoid}.card,tr{break-inside:avoid}.scroll{overflow:visible}
.card header>*{margin-right:6px}.figures{display:flex;flex-wrap:wrap}.figure{width:31%}dl{display:block}dt{float:left;clear:left;width:48mm}dd{margin-left:50mm}@page{size:A4;margin:16mm 14mm}}
)";

std::string took(const std::optional<double>& seconds) {
  return seconds ? format_duration(std::chrono::milliseconds(static_cast<int64_t>(*seconds * 1000))) : "–";
}
std::string shown(const std::optional<Period>& period) {
  return period ? format_period(*period) : "–";
}
std::string tag(std::string_view verdict) {
  const bool good = verdict == "pass" || verdict == "passed" || verdict == "protected" || verdict == "done";
  const bool dim =
      verdict == "not measured" || verdict == "partial" || verdict == "bounded" || verdict == "uncounted";
  return fmt::format("<span class=\"tag {}\">{}</span>",
                     good  ? "pass"
                     : dim ? "none"
                           : "fail",
                     markup_escaped(verdict));
}

class Page {
 public:
  explicit Page(const Report& report) : report_(report), zone_(report.period.zone) {}

  std::string text() {
    head();
    figures();
    controls();
    resources();
    proofs();
    acts("Failures and refusals", report_.failures, "Nothing failed and nothing was refused.");
    acts("Change log", report_.changes, "Nothing changed besides snapshots and proofs.");
    deletions();
    holds();
    contacts();
    evidence();
    out_ += "</main></body></html>\n";
    return std::move(out_);
  }

 private:
  std::string when(Time at) const {
    return markup_escaped(format_local(std::chrono::floor<std::chrono::seconds>(at), zone_));
  }
  std::string when(const std::optional<Time>& at) const { return at ? when(*at) : "–"; }

  void head() {
    const ReportPeriod& period = report_.period;
    out_ += fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">"
        "<title>Backup and recovery, {0}</title><style>{1}</style></head><body><main>\n"
        "<h1>Backup and recovery, {0}</h1>\n<p class=\"soft\">{2} to {3}, as of {4}</p>\n",
        markup_escaped(period.name), kStyle, when(period.from), when(period.until), when(period.as_of));
  }

  void figure(const std::string& number, std::string_view what) {
    out_ += fmt::format("<div class=\"figure\"><b>{}</b><span class=\"soft small\">{}</span></div>\n", number,
                        what);
  }
  void figures() {
    size_t made = 0, missed = 0, failed = 0, protected_now = 0;
    for (const Report::Resource& one : report_.resources) {
      made += one.made;
      missed += one.missed;
      failed += one.failed;
      protected_now += one.state == "protected";
    }
    const size_t passed =
        static_cast<size_t>(std::ranges::count(report_.proofs, true, &Report::Proof::passed));
    out_ += "<section class=\"figures\">\n";
    figure(fmt::format("{} / {}", protected_now, report_.resources.size()), "resources protected");
    figure(std::to_string(report_.red()), "controls that fail");
    figure(std::to_string(made), "snapshots made");
    figure(fmt::format("{} / {}", failed, missed), "failed / missing runs");
    figure(fmt::format("{} / {}", passed, report_.proofs.size()), "proofs passed");
    out_ += "</section>\n";
    if (report_.notes.empty()) return;
    out_ += "<div class=\"card\"><h3>Not whole</h3><ul>";
    for (const std::string& note : report_.notes) out_ += "<li>" + markup_escaped(note) + "</li>";
    out_ += "</ul></div>\n";
  }

  void open_table(std::initializer_list<std::string_view> names) {
    out_ += "<div class=\"scroll\"><table><thead><tr>";
    for (const std::string_view name : names) out_ += fmt::format("<th>{}</th>", name);
    out_ += "</tr></thead><tbody>\n";
  }
  void row(std::initializer_list<std::string> cells) {  // HTML already
    out_ += "<tr>";
    for (const std::string& cell : cells) out_ += "<td>" + cell + "</td>";
    out_ += "</tr>\n";
  }
  void close_table() { out_ += "</tbody></table></div>\n"; }

  void controls() {
    out_ += "<h2>Controls</h2>\n";
    open_table({"Control", "About", "Verdict", "Demanded", "Measured", "Evidence"});
    for (const Control& one : report_.controls)
      row({markup_escaped(one.title), markup_escaped(one.about), tag(name_of(one.verdict)),
           markup_escaped(one.demanded), markup_escaped(one.measured),
           "<code>" + markup_escaped(one.evidence) + "</code>"});
    close_table();
  }

  void pair(std::string_view name, const std::string& html) {
    out_ += fmt::format("<dt>{}</dt><dd>{}</dd>", name, html);
  }
  void resources() {
    out_ += "<h2>Resources</h2>\n";
    for (const Report::Resource& one : report_.resources) {
      out_ += fmt::format(
          "<article class=\"card\"><header><h3>{}</h3>{}<span class=\"soft "
          "small\">{}{}{}</span></header><dl>",
          markup_escaped(one.name), tag(one.state), markup_escaped(one.kind),
          one.owner.empty() ? "" : ", " + markup_escaped(one.owner),
          one.criticality.empty() ? "" : ", " + markup_escaped(one.criticality));
      pair("Plans",
           one.plans.empty() ? "none" : markup_escaped(joined(one.plans) + ": " + joined(one.schedules)));
      pair("Kept in", one.vaults.empty()
                          ? "–"
                          : markup_escaped(fmt::format("{} ({})", joined(one.vaults), joined(one.sites))));
      if (!one.copies_score.empty())
        pair("Copies, media, off-site",
             fmt::format("{} {}", markup_escaped(one.copies_score), tag(one.copies_kept ? "pass" : "fail")));
      pair("RPO", fmt::format("promised {}, now {}, longest gap {} (before: {})", shown(one.rpo),
                              took(one.rpo_now), took(one.rpo_worst), took(one.rpo_before)));
      pair("RTO", fmt::format("promised {}, measured {} (before: {})", shown(one.rto), took(one.rto_now),
                              took(one.rto_before)));
      pair("Runs", fmt::format("{} made, {} failed, {} of {} missing", one.made, one.failed, one.missed,
                               one.expected));
      pair("Snapshots", fmt::format("{}, {} held; {} to {}; kept until {}", one.snapshots, one.held,
                                    when(one.oldest), when(one.newest), when(one.kept_until)));
      pair("Next drill",
           fmt::format("{}{}", when(one.drill_due), one.drill_overdue ? " " + tag("overdue") : ""));
      out_ += "</dl>";
      list("Problems", one.problems);
      list("Improvements", one.improvements);
      open_table({"Checklist", "", ""});
      for (const Report::Check& check : one.checks)
        row({markup_escaped(check.name), tag(check.verdict), markup_escaped(check.detail)});
      close_table();
      out_ += "</article>\n";
    }
  }
  void list(std::string_view title, const std::vector<std::string>& lines) {
    if (lines.empty()) return;
    out_ += fmt::format("<p><b>{}</b></p><ul>", title);
    for (const std::string& line : lines) out_ += "<li>" + markup_escaped(line) + "</li>";
    out_ += "</ul>";
  }

  void proofs() {
    out_ += "<h2>Proofs</h2>\n";
    if (report_.proofs.empty()) return nothing("Nothing was restored and checked in this time.");
    open_table({"When", "Resource", "Snapshot", "From", "By", "Result", "Open in", "Done in", "Checks"});
    for (const Report::Proof& one : report_.proofs) {
      std::string checks;
      for (const Report::Check& check : one.checks)
        checks += fmt::format("{}{} {}", checks.empty() ? "" : "<br>", markup_escaped(check.name),
                              tag(check.verdict));
      row({when(one.at), markup_escaped(one.resource), "<code>" + markup_escaped(one.snapshot) + "</code>",
           markup_escaped(one.site.empty() ? one.vault : one.vault + ", " + one.site), markup_escaped(one.by),
           tag(one.passed ? "passed" : "failed"), took(one.seconds_to_open), took(one.seconds_total),
           checks});
    }
    close_table();
  }
  void nothing(std::string_view sentence) { out_ += fmt::format("<p class=\"soft\">{}</p>\n", sentence); }

  void acts(std::string_view title, const std::vector<Report::Act>& acts, std::string_view none) {
    out_ += fmt::format("<h2>{}</h2>\n", title);
    if (acts.empty()) return nothing(none);
    open_table({"When", "Vault", "Who", "What", "About", "Result"});
    for (const Report::Act& act : acts)
      row({when(act.at), markup_escaped(act.vault),
           markup_escaped(act.user + (act.key.empty() ? "" : " (" + act.key + ")")), markup_escaped(act.verb),
           markup_escaped(act.resource + (act.object.empty() ? "" : " " + act.object)),
           tag(act.result) + (act.reason.empty() ? "" : "<br>" + markup_escaped(act.reason))});
    close_table();
  }

  void deletions() {
    out_ += "<h2>Deletions</h2>\n";
    if (report_.deletions.empty()) return nothing("Nothing was pruned.");
    open_table({"When", "Vault", "Resource", "Snapshot", "By", "Why"});
    for (const Report::Deletion& one : report_.deletions)
      row({when(one.at), markup_escaped(one.vault), markup_escaped(one.resource),
           "<code>" + markup_escaped(one.snapshot) + "</code>", markup_escaped(one.by),
           markup_escaped(one.reason)});
    close_table();
  }
  void holds() {
    out_ += "<h2>Holds</h2>\n";
    if (report_.holds.empty()) return nothing("Nothing is held.");
    open_table({"Vault", "Resource", "Snapshot", "Held by", "Kept until"});
    for (const Report::Hold& one : report_.holds)
      row({markup_escaped(one.vault), markup_escaped(one.resource),
           "<code>" + markup_escaped(one.snapshot) + "</code>", markup_escaped(one.names),
           when(one.keep_until)});
    close_table();
  }
  void contacts() {
    if (report_.contacts.empty()) return;
    out_ += "<h2>Contacts</h2>\n";
    open_table({"Name", "Role", "Mail", "Telephone", "Slack"});
    for (const Report::Contact& one : report_.contacts)
      row({markup_escaped(one.name), markup_escaped(one.role), markup_escaped(one.mail),
           markup_escaped(one.phone), markup_escaped(one.slack)});
    close_table();
  }
  void evidence() {
    out_ += "<h2>Evidence</h2>\n";
    if (report_.evidence.empty()) return nothing("There is none of this time.");
    open_table({"What", "Vault", "SHA-256"});
    for (const Report::Evidence& one : report_.evidence)
      row({markup_escaped(one.what), markup_escaped(one.vault),
           "<code>" + markup_escaped(one.sha256) + "</code>"});
    close_table();
  }

  const Report& report_;
  const std::string zone_;
  std::string out_;
};

}  // namespace

std::string report_html(const Report& report) {
  return Page(report).text();
}

}  // namespace kuramori
