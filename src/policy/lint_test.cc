#include "policy/lint.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <set>

#include "base/time_text.h"
#include "policy/longest_gap.h"

namespace kuramori {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

const ConfigWorld kWorld{
    .environment = [](const std::string&) { return std::optional<std::string>("from-outside"); },
    .read_file = [](const std::string& path) -> Result<std::string> { return path; },
    .run_command = [](const std::string& command) -> Result<std::string> { return command; },
};

Time at(const char* text) {
  return parse_moment(text)->time;
}

Config config_of(const std::string& text) {
  auto config = parse_config(text, "/etc/kuramori/kuramori.yaml", kWorld);
  EXPECT_TRUE(config) << config.error().what << " " << config.error().why << " " << config.error().next;
  return config ? std::move(*config) : Config{};
}

LintReport lint_text(const std::string& text, LintFacts facts = {}) {
  facts.now = at("2026-11-22 00:00:00Z");
  return lint(config_of(text), facts);
}

// The findings of one id, as "level about: what | why | next (line)".
std::vector<std::string> found(const LintReport& report, std::string_view id) {
  std::vector<std::string> out;
  for (const LintFinding& one : report.findings)
    if (one.id == id)
      out.push_back(fmt::format("{} {}: {} | {} | {} ({})", name_of(one.level), one.about, one.what, one.why,
                                one.next, one.line));
  return out;
}

bool says(const LintReport& report, std::string_view id, std::string_view part) {
  for (const std::string& one : found(report, id))
    if (one.find(part) != one.npos) return true;
  return false;
}

// Two vaults at two sites, one server, one plan: `plan` are more of its keys, `more` more of the file.
std::string small(const std::string& plan, const std::string& more = "",
                  const std::string& objectives = "rpo: 3h") {
  return "vaults:\n"
         "  near: { at: /vault/near, site: tokyo }\n"
         "  far: { at: s3://far/x, site: osaka, copy_of: near }\n"
         "resources:\n"
         "  db: { kind: postgres, connect: x, criticality: critical, objectives: { " +
         objectives +
         " } }\n"
         "plans:\n"
         "  p:\n"
         "    resources: [db]\n"
         "    vault: near\n"
         "    copies: [ { to: far } ]\n"
         "    drill: { schedule: \"0 5 1 * *\", vault: alternate }\n" +
         plan + more;
}

constexpr const char* kTold = "notify: [ { to: \"smtp://m/a@b\", when: [all] } ]\n";

TEST(Lint, B6_a_weekly_plan_cannot_meet_an_rpo_of_three_hours) {
  const LintReport report = lint_text(small("    schedule: \"0 3 * * SUN\"\n    timezone: Asia/Tokyo\n"));
  ASSERT_EQ(found(report, "rpo").size(), 1u);
  EXPECT_TRUE(says(report, "rpo", "error resource \"db\": rpo: 3h is promised, and up to 7 d"))
      << found(report, "rpo")[0];
  EXPECT_TRUE(says(report, "rpo", "(12)")) << "the line of the schedule: " << found(report, "rpo")[0];
  EXPECT_TRUE(report.has_errors());
}

TEST(Lint, B5_what_runs_often_enough_is_green) {
  const LintReport report =
      lint_text(small("    schedule: \"0 */3 * * *\"\n    timezone: UTC\n    keep: 14d\n", kTold));
  EXPECT_TRUE(found(report, "rpo").empty());
  EXPECT_FALSE(report.has_errors()) << report.findings.front().what;
  ASSERT_EQ(report.promises.size(), 1u);
  EXPECT_EQ(report.promises[0].worst, Duration(hours(3)));
  EXPECT_EQ(report.promises[0].copies, 3);
  EXPECT_EQ(report.promises[0].elsewhere, 1);
}

TEST(Lint, B3_windows_count_towards_what_may_be_lost) {
  const LintReport report =
      lint_text(small("    every: 2h\n    start_window: 60m\n    completion_window: 8h\n"));
  EXPECT_EQ(report.promises[0].worst, Duration(hours(11)));
  EXPECT_TRUE(says(report, "rpo", "8 h 00 m until it must be done (completion_window)"));
  EXPECT_TRUE(says(report, "rpo", "add wal: stream"));
  std::string dump = small("    every: 2h\n    start_window: 60m\n    completion_window: 8h\n");
  dump.replace(dump.find("kind: postgres"), 14, "kind: dump");
  EXPECT_TRUE(says(lint_text(dump), "rpo",
                   "shorten start_window and completion_window of plan \"p\", together 9 h 00 m ("))
      << "no WAL helps there: " << found(lint_text(dump), "rpo").at(0);
  dump.replace(dump.find("every: 2h"), 9, "every: 1d");
  EXPECT_TRUE(says(lint_text(dump), "rpo", "together 9 h 00 m, and run it more often than every 3h"));
}

TEST(Lint, B2_a_change_of_clocks_makes_a_day_longer) {
  const auto worst = [](const std::string& zone) {
    return *lint_text(small("    schedule: \"0 3 * * *\"\n    timezone: " + zone + "\n")).promises[0].worst;
  };
  EXPECT_EQ(worst("Asia/Tokyo"), Duration(hours(24)));
  EXPECT_EQ(worst("Europe/Berlin"), Duration(hours(25))) << "in autumn";
}

TEST(Lint, D5_wal_bounds_what_snapshots_do_not) {
  const auto report =
      lint_text(small("    schedule: \"0 3 * * *\"\n    wal: stream\n    flush: 30s\n    window: 14d\n"));
  EXPECT_EQ(report.promises[0].worst, Duration(std::chrono::seconds(30)));
  EXPECT_TRUE(found(report, "rpo").empty());
  EXPECT_TRUE(says(report, "rpo-of-copies", "when site \"tokyo\" is lost: up to 1 d"))
      << "the copy has what was copied: " << found(report, "rpo-of-copies").size();
  const auto archive = lint_text(small("    schedule: \"0 3 * * *\"\n    wal: archive\n"));
  EXPECT_EQ(archive.promises[0].worst, Duration(hours(24)));
  EXPECT_EQ(found(archive, "archive-unbounded").size(), 1u);
}

TEST(Lint, S29_runs_that_a_maintenance_window_swallows_are_missing) {
  std::string text = small("    schedule: \"0 */3 * * *\"\n    timezone: UTC\n");
  text.replace(text.find("connect: x,"), 11,
               "connect: x, maintenance: [ { schedule: \"30 2 * * SUN\", lasts: 1h } ],");
  const LintReport report = lint_text(text);
  EXPECT_EQ(report.promises[0].worst, Duration(hours(6)));
  EXPECT_TRUE(says(report, "rpo", "up to 6 h"));
}

TEST(Lint, a_window_whose_base_nothing_succeeds_is_named) {
  const auto found_in = [](const std::string& keep) {
    return found(lint_text(small("    every: 3h\n    wal: stream\n    window: 14d\n" + keep)),
                 "window-longer-than-keep");
  };
  ASSERT_EQ(found_in("    keep: { hourly: 2d, daily: 7d }\n").size(), 1u);
  EXPECT_NE(
      found_in("    keep: { hourly: 2d, daily: 7d }\n")[0].find("is longer than anything is kept there (7d)"),
      std::string::npos);
  EXPECT_EQ(found_in("    keep: { last: 5 }\n").size(), 1u);
  EXPECT_TRUE(found_in("    keep: { hourly: 2d, daily: 14d }\n").empty());
  EXPECT_TRUE(found_in("    keep: { hourly: 2d, yearly: forever }\n").empty());
  EXPECT_TRUE(found_in("").empty()) << "for ever";
}

TEST(Lint, what_never_runs_is_named) {
  EXPECT_TRUE(says(lint_text(small("")), "never-runs", "risk plan \"p\""));
  EXPECT_TRUE(says(lint_text(small("")), "rpo", "nothing bounds what can be lost"));
  EXPECT_TRUE(found(lint_text(small("    schedule: manual\n")), "never-runs").empty());
  EXPECT_TRUE(says(lint_text(small("    schedule: \"0 3 30 2 *\"\n")), "never-runs", "error"));
  EXPECT_TRUE(says(lint_text(small("    every: change\n")), "every-change", "does not tell when it changes"));
}

TEST(Lint, S34_B7_retention_against_what_the_law_demands) {
  const std::string law = "compliance: { accounting: { keep: 7y } }\n";
  const auto report = lint_text(small("    every: 1h\n    keep: 30d\n", law));
  EXPECT_TRUE(says(report, "keep",
                   "error compliance rule \"accounting\": \"db\" must be there for 7y, and nothing of it is "
                   "kept longer than 30d"));
  EXPECT_TRUE(
      found(lint_text(small("    every: 1h\n    keep: { all: 30d, monthly: 7y }\n", law)), "keep").empty());
  EXPECT_TRUE(found(lint_text(small("    every: 1h\n", law)), "keep").empty()) << "no rule is for ever";
  EXPECT_FALSE(
      found(lint_text(small("    every: 1h\n    keep: { all: 30d, yearly: 7y }\n", law)), "keep").empty());
  std::string archive = small("    every: 1h\n    keep: 30d\n", law);
  archive.replace(archive.find("{ to: far }"), 11, "{ to: far, keep: { monthly: 7y } }");
  EXPECT_TRUE(found(lint_text(archive), "keep").empty()) << "an archive counts";
}

TEST(Lint, O3_O4_locks_copies_audit_and_proof_are_demanded) {
  const auto with = [](const std::string& demands, const std::string& more = "") {
    return lint_text(
        small("    every: 1h\n    keep: 1y\n", "compliance: { law: { " + demands + " } }\n" + more));
  };
  EXPECT_TRUE(says(with("locked: 1y"), "locked", "no vault locks it"));
  EXPECT_FALSE(found(with("copies: 4"), "copies").empty());
  EXPECT_TRUE(found(with("copies: 3, sites: 2"), "copies").empty());
  EXPECT_FALSE(found(with("sites: 3"), "sites").empty());
  EXPECT_EQ(found(with("audit: { online: 90d, archive: 3y }"), "audit").size(), 2u);
  EXPECT_TRUE(
      found(with("audit: { online: 90d, archive: 3y }", "audit: { online: 90d, archive: 3y }\n"), "audit")
          .empty());
  EXPECT_TRUE(says(with("audit: { archive: 3y }", "audit: { archive: 1y }\n"), "audit", "is kept for 1y"));
  EXPECT_TRUE(found(with("proof: 1mo"), "proof").empty()) << "a drill on the first of each month";
  EXPECT_TRUE(says(with("proof: 1w"), "proof", "up to 31 d"));
  EXPECT_FALSE(found(with("exercise: 1y"), "exercise").empty());
  EXPECT_TRUE(
      found(with("exercise: 1y", "exercises: { e: { schedule: \"0 9 1 9 *\" } }\n"), "exercise").empty());
  EXPECT_EQ(found(with("escrow: true, split_roles: true"), "unseen").size(), 2u);
}

TEST(Lint, a_store_of_which_nobody_says_what_fits_cannot_be_told_of_when_it_is_full) {
  const auto with = [](const std::string& when, const std::string& capacity) {
    std::string text =
        small("    every: 1h\n", "notify: [ { to: \"smtp://m/a@b\", when: [" + when + "] } ]\n");
    text.replace(text.find("site: osaka,"), 12, "site: osaka, " + capacity);
    return lint_text(text);
  };
  ASSERT_EQ(found(with("failure, full", ""), "unseen").size(), 1u) << "a folder's disk knows";
  EXPECT_TRUE(says(with("failure, full", ""), "unseen", "nobody can be told that it fills up"));
  EXPECT_TRUE(found(with("failure, full", "capacity: 2TiB,"), "unseen").empty());
  EXPECT_TRUE(found(with("all", ""), "unseen").empty()) << "nobody asked for this one by its name";
}

TEST(Lint, O3_a_lock_that_may_be_lifted_is_none) {
  std::string text = small("    every: 1h\n    keep: 1y\n", "compliance: { law: { locked: 1y } }\n");
  const auto with = [&](const std::string& lock) {
    std::string locked = text;
    locked.replace(locked.find("site: osaka,"), 12, "site: osaka, " + lock + ",");
    return lint_text(locked);
  };
  EXPECT_TRUE(found(with("lock: 14d"), "locked").empty()) << "prune renews it to what is kept";
  EXPECT_TRUE(says(with("lock: 14d, lock_mode: governance"), "locked", "lock_mode: compliance"));
}

TEST(Lint, S34_increments_that_nothing_makes) {
  const auto report = lint_text(small(
      "    schedule: \"0 2 * * *\"\n    timezone: Europe/Berlin\n    keep: { hourly: 7d, daily: 30d }\n"));
  ASSERT_EQ(found(report, "keep-finer-than-schedule").size(), 1u);
  EXPECT_TRUE(says(report, "keep-finer-than-schedule", "keep hourly: 7d promises what is never made"));
  EXPECT_TRUE(found(lint_text(small("    every: 1h\n    keep: { hourly: 7d }\n")), "keep-finer-than-schedule")
                  .empty());
}

TEST(Lint, S15_S34_quotas_windows_and_what_costs_all_the_same) {
  std::string text = small("    every: 1h\n    keep: 7d\n    window: 7d\n");
  EXPECT_TRUE(says(lint_text(text), "window-without-wal", "add wal: stream"));
  text.replace(text.find("site: osaka,"), 12, "site: osaka, class: STANDARD_IA, snapshots_max: 100,");
  EXPECT_TRUE(says(lint_text(text), "class-outlasts-keep", "paid for 30 days"));
  EXPECT_TRUE(says(lint_text(text), "quota", "at least 168 snapshots, and it takes 100"));
  std::string endless = small("    schedule: manual\n    keep: forever\n");
  endless.replace(endless.find("site: osaka,"), 12, "site: osaka, snapshots_max: 100,");
  EXPECT_TRUE(says(lint_text(endless), "quota", "kept for ever, and vault \"far\" takes 100"));
}

TEST(Lint, J1_without_a_copy_elsewhere_the_score_is_short) {
  std::string text = small("    every: 1h\n");
  EXPECT_TRUE(found(lint_text(text), "one-site").empty());
  text.replace(text.find("    copies: [ { to: far } ]\n"), 28, "");
  const LintReport report = lint_text(text);
  EXPECT_EQ(found(report, "one-site").size(), 1u);
  EXPECT_EQ(found(report, "copy-never-runs").size(), 1u);
  EXPECT_EQ(report.promises[0].copies, 2);
}

TEST(Lint, A1_what_is_unprotected_or_unranked_is_an_error) {
  EXPECT_TRUE(says(lint_text("resources: { a: { kind: files, paths: [/a], criticality: high } }\n"),
                   "unprotected", "error"));
  EXPECT_TRUE(says(lint_text("resources: { a: { kind: files, paths: [/a] } }\n"), "unprotected", "risk"));
  std::string text = small("    every: 1h\n");
  text.replace(text.find("criticality: critical, "), 23, "");
  EXPECT_EQ(found(lint_text(text), "criticality").size(), 1u);
}

TEST(Lint, a_vault_on_the_disk_of_its_original_is_one_disk) {
  LintFacts facts;
  facts.disk_of = [](const std::string& path) -> std::optional<uint64_t> {
    return path.starts_with("/other") ? 2 : 1;
  };
  const auto with = [&](const std::string& vault, const std::string& path) {
    return lint_text("vaults: { v: { at: " + vault +
                         ", key_file: /k } }\nresources: { r: { kind: files, paths: [" + path +
                         "], criticality: low } }\nplans: { p: { resources: [r], vault: v, every: 1h } }\n",
                     facts);
  };
  EXPECT_EQ(found(with("/srv/vault", "/srv/data"), "same-disk").size(), 1u);
  EXPECT_TRUE(found(with("/other/vault", "/srv/data"), "same-disk").empty());
  EXPECT_EQ(found(with("/srv/data/vault", "/srv/data"), "vault-in-resource").size(), 1u);
  EXPECT_TRUE(found(with("/srv/data-vault", "/srv/data"), "vault-in-resource").empty());
  EXPECT_EQ(found(with("/", "/srv/data"), "key-in-vault").size(), 1u);
}

TEST(Lint, S34_a_scenario_that_nothing_prepares) {
  std::string text = small("    every: 1h\n", "scenarios: { quake: { lost: tokyo, from: far } }\n");
  EXPECT_TRUE(found(lint_text(text), "scenario").empty());
  text.replace(text.find("    copies: [ { to: far } ]\n"), 28, "");
  EXPECT_TRUE(
      says(lint_text(text), "scenario", "recovers \"db\" from vault \"far\", where nothing ever puts it"));
  EXPECT_TRUE(says(lint_text(small("    every: 1h\n", "scenarios: { q: { lost: tokyo, from: near } }\n")),
                   "scenario", "which is lost with site \"tokyo\""));
}

TEST(Lint, N6_S34_what_is_due_before_what_it_needs) {
  const auto with = [](const std::string& services, const std::string& objectives = "rpo: 3h, rto: 4h") {
    return lint_text(small("    every: 1h\n", "services:\n" + services, objectives));
  };
  EXPECT_TRUE(says(with("  auth: { within: 30m, needs: [base] }\n  base: { within: 1h }\n"),
                   "due-before-need",
                   "service \"auth\": it is due within 30m, and needs \"base\", which is due within 1h"));
  EXPECT_TRUE(
      found(with("  auth: { within: 1h, needs: [base] }\n  base: { within: 1h }\n"), "due-before-need")
          .empty());
  EXPECT_TRUE(says(with("  a: { needs: [b] }\n  b: { needs: [c] }\n  c: { needs: [a] }\n"), "circle",
                   "a → b → c → a"));
  EXPECT_TRUE(says(with("  a: { within: 1h, takes: 30m, needs: [b] }\n  b: { takes: 45m }\n"), "too-late",
                   "takes 1 h 15 m at the least"));
  EXPECT_TRUE(
      says(with("  a: { within: 1h, resources: [db] }\n"), "data-later-than-service", "may take 4h (rto)"));
  EXPECT_TRUE(says(with("  a: { criticality: critical, needs: [b] }\n  b: { criticality: low }\n"),
                   "less-critical-need", "only low"));
  EXPECT_TRUE(says(with("  a: { within: 1h }\n  eyes: { within: 4h, watches: all }\n"), "watched-late",
                   "\"a\" is back within 1h"));
  EXPECT_TRUE(says(with("", "rto: 4h, mttr: 2h"), "mttr", "two definitions"));
  EXPECT_TRUE(says(with("", "rto: 2h, mttr: 4h"), "mttr", "error"));
}

TEST(Lint, P70_M4_a_target_that_cannot_work_is_named_without_its_secret) {
  const std::string text = small("    every: 1h\n", "notify: [ { to: x, when: [failure, late] } ]\n");
  const auto with = [&](LintFacts::Target target) {
    LintFacts facts;
    facts.targets = {{std::move(target)}};
    return found(lint_text(text, facts), "target");
  };
  for (const char* good :
       {"slack:https://hooks.example/x", "webhook:https://h/x", "smtp://mail/a@b", "pagerduty:k"})
    EXPECT_TRUE(with({.text = good}).empty()) << good;
  for (const char* bad :
       {"slack:https://hooks…", "slack:hooks.example/TOKEN", "webhook:https://", "smtp://mail",
        "smtp://mail/nobody", "mattermost:https://TOKEN", "pagerduty:", ""}) {
    ASSERT_EQ(with({.text = bad}).size(), 1u) << bad;
    EXPECT_EQ(with({.text = bad})[0].find("TOKEN"), std::string::npos) << with({.text = bad})[0];
  }
  EXPECT_EQ(with({.text = "command:notify-me", .program_is_there = false}).size(), 1u);
  EXPECT_TRUE(says(lint_text(small("    every: 1h\n")), "unheard", "nobody is told of failure of \"db\""));
  EXPECT_TRUE(found(lint_text(small("    every: 1h\n", kTold)), "unheard").empty());
}

TEST(Lint, I1_secrets_in_clear_are_found_and_not_repeated) {
  const auto with = [](const std::string& resource) {
    const LintReport report = lint_text("resources:\n  r: { " + resource + " }\n");
    for (const LintFinding& one : report.findings)
      for (const std::string& text : {one.what, one.why, one.next, one.about})
        EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
    return found(report, "secret-in-clear").size();
  };
  EXPECT_EQ(with("kind: redis, connect: \"redis://h\", password: hunter2"), 1u);
  EXPECT_EQ(with("kind: redis, connect: \"redis://u:hunter2@h\""), 1u);
  EXPECT_EQ(with("kind: postgres, connect: \"host=h password = hunter2\""), 1u);
  EXPECT_EQ(with("kind: git, url: \"https://u:hunter2@h/x.git\""), 1u);
  EXPECT_EQ(with("kind: command, run: [a], environment: { API_TOKEN: hunter2, LANG: C }"), 1u);
  EXPECT_EQ(with("kind: postgres, connect: \"host=h user=u\""), 0u);
  EXPECT_EQ(with("kind: redis, connect: \"redis://h\", password_file: p"), 0u);
  EXPECT_EQ(with("kind: redis, connect: \"redis://h\", password: \"${PASSWORD}\""), 0u);
  EXPECT_EQ(with("kind: git, url: \"https://u@h:8443/x@y.git\""), 0u);
}

TEST(Lint, drills_must_find_what_they_restore) {
  std::string text = small("    every: 1h\n");
  const auto with = [&](const std::string& drill) {
    std::string changed = text;
    const size_t begin = changed.find("    drill:");
    changed.replace(begin, changed.find('\n', begin) + 1 - begin, drill);
    return lint_text(changed);
  };
  EXPECT_EQ(found(with(""), "unproven").size(), 1u);
  EXPECT_EQ(found(with("    drill: { vault: alternate }\n"), "drill-never-runs").size(), 1u);
  EXPECT_EQ(found(with("    drill: { schedule: \"0 5 1 * *\" }\n"), "copies-unproven").size(), 1u);
  text.replace(text.find("    copies: [ { to: far } ]\n"), 28, "");
  EXPECT_TRUE(says(with("    drill: { schedule: \"0 5 1 * *\", vault: far }\n"), "drill-elsewhere",
                   "where it puts nothing"));
}

// An oracle of its own: every minute of a year is asked.
TEST(LongestGap, it_is_the_longest_of_a_year_of_minutes) {
  const Time start = at("2026-11-22 00:00:00Z");
  for (const char* text : {"0 3 * * *", "*/17 8-18 * * MON-FRI", "cron(0 5 ? * 6#3 *)", "30 2 * * *"}) {
    const Schedule schedule = *parse_schedule(text);
    std::set<Time> runs;
    for (Time minute = start; minute < start + std::chrono::days(400); minute += minutes(1))
      if (const auto next = next_run(schedule, "Europe/Berlin", minute - std::chrono::seconds(1));
          next == minute)
        runs.insert(minute);
    Duration longest{0};
    for (auto run = runs.begin(); std::next(run) != runs.end() && *run <= start + std::chrono::days(366);
         ++run)
      longest = std::max(longest, *std::next(run) - *run);
    const auto gap =
        longest_gap([&](Time after) { return next_run(schedule, "Europe/Berlin", after); }, start);
    ASSERT_TRUE(gap) << text;
    EXPECT_EQ(gap->length(), longest) << text;
  }
  EXPECT_FALSE(longest_gap([](Time) { return std::optional<Time>(); }, start));
  const Schedule leap = *parse_schedule("0 0 29 2 *");
  EXPECT_EQ(longest_gap([&](Time after) { return next_run(leap, "UTC", after); }, start)->length(),
            std::chrono::days(1461));
}

}  // namespace
}  // namespace kuramori
