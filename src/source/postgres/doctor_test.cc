#include "source/postgres/doctor.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

// A server nobody has to complain about.
ServerFacts good_facts() {
  ServerFacts facts;
  facts.version = 170002;
  facts.role = "kuramori";
  facts.may_replicate = true;
  facts.data_directory = "/data";
  facts.settings = {{"wal_level", "replica"},
                    {"full_page_writes", "on"},
                    {"wal_compression", "zstd"},
                    {"archive_mode", "on"},
                    {"archive_command", "kuramori wal push %p"},
                    {"archive_timeout", "300"},
                    {"max_wal_senders", "10"},
                    {"max_replication_slots", "10"},
                    {"wal_keep_size", "1024"},
                    {"max_slot_wal_keep_size", "20480"},
                    {"fsync", "on"},
                    {"data_checksums", "on"},
                    {"synchronous_commit", "on"}};
  return facts;
}

const Finding* about(const std::vector<Finding>& findings, std::string_view what) {
  for (const Finding& finding : findings) {
    if (finding.about == what) return &finding;
  }
  return nullptr;
}

TEST(Doctor, has_nothing_to_say_about_a_good_server) {
  const auto findings = judge(good_facts(), {});
  EXPECT_TRUE(findings.empty()) << findings.front().what;
}

// The server alone can tell it: on its host the files are read.
TEST(Doctor, summaries_are_asked_for_where_the_server_sends_its_files) {
  ServerFacts facts = good_facts();
  facts.settings["summarize_wal"] = "off";
  EXPECT_TRUE(judge(facts, {}).empty());
  const auto findings = judge(facts, {.over_the_wire = true});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].fix, "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();");
  EXPECT_EQ(findings[0].severity, Severity::kHint);
  facts.version = 160004;
  facts.settings.erase("summarize_wal");
  EXPECT_TRUE(judge(facts, {.over_the_wire = true}).empty());
}

// D3, S6, S9, P41: each wrong value alone makes exactly its own finding, with the line that mends it.
TEST(Doctor, each_wrong_setting_has_its_own_finding_and_fix) {
  struct Case {
    const char *name, *value, *fix;
    Severity severity;
    bool restart;
  };
  const Case cases[] = {
      {"wal_level", "minimal", "ALTER SYSTEM SET wal_level = 'replica';", Severity::kProblem, true},
      {"full_page_writes", "off", "ALTER SYSTEM SET full_page_writes = on;", Severity::kProblem, false},
      {"wal_compression", "off", "ALTER SYSTEM SET wal_compression = on;", Severity::kHint, false},
      {"archive_mode", "off", "ALTER SYSTEM SET archive_mode = on;", Severity::kProblem, true},
      {"archive_command", "", "ALTER SYSTEM SET archive_command = 'kuramori wal push %p';",
       Severity::kProblem, false},
      {"archive_command", "(disabled)", "ALTER SYSTEM SET archive_command = 'kuramori wal push %p';",
       Severity::kProblem, false},
      {"archive_command", "test ! -f /a/%f && cp %p /a/%f",
       "ALTER SYSTEM SET archive_command = 'kuramori wal push %p';", Severity::kProblem, false},
      {"archive_command", "pgbackrest archive-push %p",
       "ALTER SYSTEM SET archive_command = 'kuramori wal push %p';", Severity::kRisk, false},
      {"archive_timeout", "0", "ALTER SYSTEM SET archive_timeout = '300s';", Severity::kProblem, false},
      {"archive_timeout", "3600", "ALTER SYSTEM SET archive_timeout = '300s';", Severity::kRisk, false},
      {"max_wal_senders", "2", "ALTER SYSTEM SET max_wal_senders = 10;", Severity::kRisk, true},
      {"max_replication_slots", "0", "ALTER SYSTEM SET max_replication_slots = 10;", Severity::kRisk, true},
      {"wal_keep_size", "0", "ALTER SYSTEM SET wal_keep_size = '1GB';", Severity::kHint, false},
      {"max_slot_wal_keep_size", "-1", "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB';", Severity::kRisk,
       false},
      {"fsync", "off", "ALTER SYSTEM SET fsync = on;", Severity::kProblem, false},
      {"data_checksums", "off", "pg_checksums --enable", Severity::kRisk, false},
      {"synchronous_commit", "remote_apply", "ALTER SYSTEM SET synchronous_commit = 'on';", Severity::kRisk,
       false},
  };
  for (const Case& one : cases) {
    ServerFacts facts = good_facts();
    facts.settings[one.name] = one.value;
    const auto findings = judge(facts, {});
    ASSERT_EQ(findings.size(), 1u) << one.name << " = " << one.value;
    EXPECT_EQ(findings[0].about, one.name);
    EXPECT_EQ(findings[0].severity, one.severity) << one.name;
    EXPECT_EQ(findings[0].needs_restart, one.restart) << one.name;
    EXPECT_NE(findings[0].fix.find(one.fix), std::string::npos) << findings[0].fix;
    EXPECT_FALSE(findings[0].why.empty());
  }
}

TEST(Doctor, a_stream_that_commits_must_wait_for_alone_is_a_risk_P39) {
  for (const auto& [names, risky] : {std::pair{"kuramori_db", true},
                                     {"ANY 1 (kuramori_db)", true},
                                     {"FIRST 2 (a, kuramori_db)", true},
                                     {"ANY 1 (kuramori_db, standby1)", false},
                                     {"1 (kuramori_db, b)", false},
                                     {"kuramori_db, b", false},
                                     {"standby1", false},
                                     {"", false}}) {
    ServerFacts facts = good_facts();
    facts.settings["synchronous_standby_names"] = names;
    EXPECT_EQ(about(judge(facts, {}), "synchronous_standby_names") != nullptr, risky) << names;
  }
}

TEST(Doctor, wal_that_is_streamed_need_not_be_archived_too) {
  ServerFacts facts = good_facts();
  facts.settings["archive_mode"] = "off";
  facts.settings["archive_command"] = "(disabled)";
  facts.settings["archive_timeout"] = "0";
  EXPECT_TRUE(judge(facts, {.is_streamed = true}).empty());
  EXPECT_FALSE(judge(facts, {}).empty());
}

TEST(Doctor, tells_what_the_server_is_doing_wrong) {
  ServerActivity activity;
  activity.archive_failing = true;
  activity.archive_failures = 3;
  activity.last_failed_wal = "000000010000000000000007";
  activity.idle_slots = {"forgotten"};
  activity.has_relics = true;  // S1
  activity.directory_readable = false;
  activity.missing_rights = {"EXECUTE ON FUNCTION pg_backup_start(text, boolean)"};
  const auto findings = judge(good_facts(), activity);
  EXPECT_EQ(findings.size(), 5u);
  ASSERT_TRUE(about(findings, "archiver"));
  EXPECT_NE(about(findings, "archiver")->what.find("000000010000000000000007"), std::string::npos);
  EXPECT_EQ(about(findings, "slot")->fix, "SELECT pg_drop_replication_slot('forgotten');");
  // Our own is not to be dropped: what it keeps would be missing.
  const auto away = judge(good_facts(), {.idle_slots = {"kuramori_db"}});
  EXPECT_EQ(about(away, "slot")->fix, "kuramori wal stream RESOURCE");
  EXPECT_EQ(about(findings, "role")->fix,
            "GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO \"kuramori\";");
  EXPECT_TRUE(about(findings, "recovery.conf"));
  EXPECT_TRUE(about(findings, "data_directory"));
}

TEST(Doctor, an_old_major_is_named_with_its_last_day) {
  ServerFacts facts = good_facts();
  facts.version = 130023;
  ServerActivity activity;
  activity.now = 1762992000 + 86400;
  const auto findings = judge(facts, activity);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].about, "version");
  activity.now = 1762992000 - 86400;
  EXPECT_TRUE(judge(facts, activity).empty());
}

TEST(Doctor, S2_settings_of_old_versions_are_found_by_line) {
  const auto findings = judge_config_text(
      "/etc/postgresql.conf",
      "port = 5432\n#wal_keep_segments = 1\n  wal_keep_segments = 64\ntrigger_files = 'x'\n");
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].about, "wal_keep_segments");
  EXPECT_EQ(findings[0].fix, "sed -i '3s/^/#/' /etc/postgresql.conf");
}

// Of a server on another machine the files are not asked for, and what sends them is.
TEST(Doctor, a_server_elsewhere_needs_a_replication_connection_and_no_files) {
  ServerFacts facts = good_facts();
  ServerActivity activity;
  activity.is_elsewhere = true;
  activity.directory_readable = false;
  EXPECT_TRUE(judge(facts, activity).empty());
  activity.replication_refused = "no pg_hba.conf entry for replication connection";
  auto findings = judge(facts, activity);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kProblem);
  EXPECT_NE(findings[0].fix.find("host replication kuramori"), std::string::npos);
  activity.replication_refused.clear();
  activity.missing_rights = {"REPLICATION"};
  findings = judge(facts, activity);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kProblem);
  EXPECT_EQ(findings[0].fix, "ALTER ROLE \"kuramori\" REPLICATION;");
}

}  // namespace
}  // namespace kuramori::postgres
