// A report of a day, month, quarter or year: what was promised, what was done, what it came to, and what
// shows it. Pure: accounts of vaults and a period in, the report out; the same facts give the same bytes.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/accounts.h"
#include "policy/config.h"

namespace kuramori {

struct ReportPeriod {
  std::string kind;      // "day", "month", "quarter", "year"
  std::string name;      // "2026-11", "2026-Q4"
  std::string zone;      // whose calendar it is
  Time from, until;      // half open
  Time as_of;            // what ages are counted to: not after `until`
  bool is_past = false;  // as_of is not when the vaults are looked at: what is as of that is said to be
};
// "2026-11-22", "2026-11", "2026-Q4" (or "Q4", of this year), "2026"; "" is the one that holds `now`. kUsage
// in words.
Result<ReportPeriod> parse_report_period(const std::string& kind, const std::string& text,
                                         const std::string& zone, Time now);

struct Report {
  ReportPeriod period;
  struct Check {
    std::string name, verdict, detail;  // "pass", "fail", "not measured"
  };
  struct Resource {
    std::string name, kind, owner, criticality, state;
    std::vector<std::string> plans, schedules, vaults, sites;
    std::string copies_score;  // "3-2-1"
    bool copies_kept = false;
    std::optional<Period> rpo, rto;
    std::optional<double> rpo_now;                // seconds
    std::optional<double> rpo_worst, rpo_before;  // longest time between two snapshots; the period before
    std::optional<double> rto_now, rto_before;    // the last proof of the period, and of the one before
    size_t made = 0, failed = 0, expected = 0, missed = 0;
    size_t snapshots = 0, held = 0;
    std::optional<Time> oldest, newest, kept_until;  // the latest end of any
    std::vector<Check> checks;                       // the five of the monthly checklist
    std::vector<std::string> problems, improvements;
    std::optional<Time> drill_due;  // the next, or the one that is overdue
    bool drill_overdue = false;
  };
  std::vector<Resource> resources;
  std::vector<Control> controls;
  struct Proof {
    std::string resource, snapshot, vault, site, by;
    Time at;
    bool passed = false;
    double seconds_to_open = 0, seconds_total = 0;
    std::vector<Check> checks;
  };
  std::vector<Proof> proofs;  // of the period
  struct Act {
    std::string vault, key, user, verb, resource, object, result, reason, sha256;
    Time at;
  };
  std::vector<Act> failures;  // acts that were not done
  std::vector<Act> changes;   // what changed besides snapshots and proofs
  struct Deletion {
    std::string vault, resource, snapshot, reason, by;
    Time at;
  };
  std::vector<Deletion> deletions;
  struct Hold {
    std::string vault, resource, snapshot, names;
    Time keep_until;
  };
  std::vector<Hold> holds;
  struct Contact {
    std::string name, role, mail, phone, slack;
  };
  std::vector<Contact> contacts;
  struct Evidence {
    std::string what, vault, sha256;
  };
  std::vector<Evidence> evidence;  // commits of the period, and the newest record of each audit chain
  std::vector<std::string> notes;  // what could not be looked at

  size_t red() const;  // controls that fail
};

Report build_report(const Config& config, const std::vector<VaultAccount>& vaults,
                    const std::vector<ProtectionPromise>& promises, const ReportPeriod& period);

std::string report_json(const Report& report);  // kuramori/report/1
std::string report_csv(const Report& report);   // a section after the other, each with its heading
std::string report_html(const Report& report);  // one file, nothing fetched
// That, printed. kRefused in words where WeasyPrint is not installed.
Result<std::string> report_pdf(const Report& report, std::stop_token stop);

}  // namespace kuramori
