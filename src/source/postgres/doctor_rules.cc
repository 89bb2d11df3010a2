// The judgement of a server's settings: pure, so that every rule has a test.
#include <charconv>

#include "source/postgres/doctor.h"

namespace kuramori::postgres {
namespace {

constexpr int64_t kArchiveTimeoutMax = 300;  // seconds; the advice (D3)
constexpr int64_t kSenderHeadroomMin = 3;    // a streaming base backup takes two, a WAL stream one (S9)
constexpr int64_t kCheckpointsToJudge = 20;
constexpr uint32_t kNewestMajor = 18;
constexpr uint32_t kSummariesFrom = 170000;  // PG_VERSION_NUM

// The last day of each major's support (postgresql.org/support/versioning).
struct EndOfLife {
  uint32_t major;
  const char* day;
  int64_t unix_seconds;
};
constexpr EndOfLife kEndsOfLife[] = {
    {13, "2025-11-13", 1762992000}, {14, "2026-11-12", 1794441600}, {15, "2027-11-11", 1825891200},
    {16, "2028-11-09", 1857340800}, {17, "2029-11-08", 1888790400}, {18, "2030-11-14", 1920844800},
};

class Judge {
 public:
  Judge(const ServerFacts& facts, const ServerActivity& activity) : facts_(facts), activity_(activity) {}

  std::vector<Finding> run() {
    wal();
    archiving();
    headroom();
    durability();
    access();
    version();
    return std::move(findings_);
  }

 private:
  const std::string& setting(const char* name) const { return facts_.setting(name); }
  int64_t number(const char* name) const { return std::atoll(setting(name).c_str()); }
  // `value` as SQL writes it, quotes included where needed.
  static std::string alter(std::string_view name, std::string_view value, bool restart) {
    return fmt::format("ALTER SYSTEM SET {} = {};{}", name, value,
                       restart ? "" : " SELECT pg_reload_conf();");
  }
  void set(Severity severity, std::string about, std::string what, std::string why, std::string_view value,
           bool restart) {
    std::string fix = alter(about, value, restart);
    findings_.push_back(
        {severity, std::move(about), std::move(what), std::move(why), std::move(fix), restart});
  }
  void tell(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix), false});
  }

  void wal() {
    if (setting("wal_level") == "minimal") {
      set(Severity::kProblem, "wal_level", "wal_level is minimal", "a running server cannot be backed up",
          "'replica'", true);
    }
    if (setting("full_page_writes") == "off") {
      set(Severity::kProblem, "full_page_writes", "full_page_writes is off",
          "a page torn by a crash cannot be repaired, and a standby cannot be backed up", "on", false);
    }
    if (setting("wal_compression") == "off") {
      set(Severity::kHint, "wal_compression", "wal_compression is off",
          "full pages make up most WAL after a checkpoint; compressed, there is less to write and to keep",
          "on", false);
    }
    if (activity_.over_the_wire && facts_.version >= kSummariesFrom && setting("summarize_wal") == "off") {
      set(Severity::kHint, "summarize_wal", "summarize_wal is off",
          "with it the server sends a snapshot only what changed since the last one, and else all it has",
          "on", false);
    }
  }

  void archiving() {
    if (activity_.is_streamed && setting("archive_mode") == "off") return;  // WAL has another way
    const std::string& mode = setting("archive_mode");
    if (mode == "off") {
      set(Severity::kProblem, "archive_mode", "archive_mode is off",
          "nothing between two snapshots can be restored", "on", true);
    }
    const std::string& command = setting("archive_command");
    const bool library = !setting("archive_library").empty();
    // While archive_mode is off, the server shows "(disabled)".
    const bool empty = command.empty() || command == "(disabled)";
    if (!library && empty) {
      set(Severity::kProblem, "archive_command", "archive_command is empty",
          "WAL is kept in pg_wal and nowhere else, until the disk is full", "'kuramori wal push %p'", false);
    } else if (!library && command.find("cp ") != std::string::npos) {
      set(Severity::kProblem, "archive_command", fmt::format("archive_command copies with cp: {}", command),
          "it is not fsynced and not atomic: after a crash a torn file blocks archiving for ever (test ! -f) "
          "or is "
          "believed to be whole",
          "'kuramori wal push %p'", false);
    } else if (!library && command.find("kuramori") == std::string::npos) {
      set(Severity::kRisk, "archive_command", fmt::format("archive_command is not kuramori's: {}", command),
          "the vault does not receive WAL from it", "'kuramori wal push %p'", false);
    }
    const int64_t timeout = number("archive_timeout");
    if (timeout == 0) {
      set(Severity::kProblem, "archive_timeout", "archive_timeout is 0",
          "a quiet server archives nothing for days: what would be lost has no bound", "'300s'", false);
    } else if (timeout > kArchiveTimeoutMax) {
      set(Severity::kRisk, "archive_timeout", fmt::format("archive_timeout is {} s", timeout),
          "that much of a quiet server's work may be lost", "'300s'", false);
    }
    if (activity_.archive_failing) {
      tell(Severity::kProblem, "archiver",
           fmt::format("archiving fails: {} tries, the last of {}", activity_.archive_failures,
                       activity_.last_failed_wal),
           "WAL piles up in pg_wal; when the disk is full the server stops",
           "look into the server's log for what archive_command said");
    }
  }

  void headroom() {
    const int64_t senders = number("max_wal_senders");
    if (senders - activity_.senders_used < kSenderHeadroomMin) {
      set(Severity::kRisk, "max_wal_senders",
          fmt::format("max_wal_senders is {}, {} are in use", senders, activity_.senders_used),
          "a base backup takes two and a WAL stream one: the next one is turned away", "10", true);
    }
    if (number("max_replication_slots") < 1) {
      set(Severity::kRisk, "max_replication_slots", "max_replication_slots is 0",
          "nothing holds the WAL of a snapshot while it is taken", "10", true);
    }
    if (number("wal_keep_size") == 0) {
      set(Severity::kHint, "wal_keep_size", "wal_keep_size is 0",
          "without a slot, WAL of a snapshot may be recycled before it is kept", "'1GB'", false);
    }
    if (setting("max_slot_wal_keep_size") == "-1") {
      set(Severity::kRisk, "max_slot_wal_keep_size", "max_slot_wal_keep_size is unlimited",
          "a replication slot nobody reads keeps WAL until the disk is full and the server stops", "'20GB'",
          false);
    }
    for (const std::string& slot : activity_.idle_slots) {
      // Dropped, the slot of a stream that is only away would leave a hole.
      const bool is_stream = slot.starts_with("kuramori_");
      tell(Severity::kRisk, "slot",
           fmt::format("nobody reads replication slot {}{}", slot,
                       is_stream ? ": `wal stream` does not run" : ""),
           is_stream ? "it holds back WAL until the stream has read it" : "it holds back WAL for ever",
           is_stream ? "kuramori wal stream RESOURCE"
                     : fmt::format("SELECT pg_drop_replication_slot('{}');", slot));
    }
    const int64_t checkpoints = activity_.timed_checkpoints + activity_.requested_checkpoints;
    if (checkpoints >= kCheckpointsToJudge && activity_.requested_checkpoints > activity_.timed_checkpoints) {
      set(Severity::kHint, "max_wal_size",
          fmt::format("{} of {} checkpoints came early", activity_.requested_checkpoints, checkpoints),
          "each makes the WAL larger by whole pages", "'4GB'", false);
    }
  }

  void durability() {
    if (setting("fsync") == "off") {
      set(Severity::kProblem, "fsync", "fsync is off", "a power cut destroys the database", "on", false);
    }
    if (setting("data_checksums") == "off") {
      tell(Severity::kRisk, "data_checksums", "data checksums are off",
           "a page that the disk damaged is copied into every snapshot unnoticed",
           fmt::format("stop the server, then: pg_checksums --enable -D {}", facts_.data_directory));
    }
    if (all_must_answer(setting("synchronous_standby_names"))) {
      tell(Severity::kRisk, "synchronous_standby_names",
           fmt::format("commits wait for the vault alone: synchronous_standby_names is {}",
                       setting("synchronous_standby_names")),
           "while the vault or the stream is away, no transaction commits",
           "name a standby besides: ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (kuramori_…, "
           "standby1)'; SELECT pg_reload_conf();");
    }
    if (setting("synchronous_commit") == "remote_apply") {
      set(Severity::kRisk, "synchronous_commit", "synchronous_commit is remote_apply",
          "a WAL stream into a vault applies nothing: commits would wait for it for ever", "'on'", false);
    }
  }

  // True if a stream of ours is among the names and none may be missing: "kuramori_db", "ANY 2 (a,
  // kuramori_b)".
  static bool all_must_answer(std::string_view names) {
    if (names.find("kuramori") == std::string_view::npos) return false;
    int64_t wanted = 1;
    if (const size_t open = names.find('('); open != std::string_view::npos) {
      const std::string_view before = names.substr(0, open);
      if (const size_t digit = before.find_first_of("0123456789"); digit != std::string_view::npos)
        std::from_chars(before.data() + digit, before.data() + before.size(), wanted);
    }
    return std::ranges::count(names, ',') + 1 <= wanted;
  }

  void access() {
    if (activity_.has_relics) {
      tell(Severity::kProblem, "recovery.conf", "recovery.conf lies in the data directory",
           "since PostgreSQL 12 the server refuses to start with it (S1); use postgresql.auto.conf and "
           "recovery.signal",
           fmt::format("mv {0}/recovery.conf {0}/recovery.conf.old", facts_.data_directory));
    }
    if (!activity_.replication_refused.empty()) {
      tell(Severity::kProblem, "replication",
           fmt::format("no replication connection: {}", activity_.replication_refused),
           "the server's files are not on this machine, and over such a connection it sends them",
           fmt::format("a line in pg_hba.conf, then SELECT pg_reload_conf();: host replication {} samenet "
                       "scram-sha-256",
                       facts_.role));
    }
    if (!activity_.directory_readable && !activity_.is_elsewhere) {
      tell(Severity::kProblem, "data_directory",
           fmt::format("{} cannot be read by this user", facts_.data_directory),
           "a capture reads the files themselves",
           "run kuramori as the user the server runs as: sudo -u postgres kuramori …");
    }
    for (const std::string& right : activity_.missing_rights) {
      const bool replication = right == "REPLICATION";
      const bool slot_alone = replication && !activity_.is_elsewhere;
      tell(slot_alone ? Severity::kRisk : Severity::kProblem, "role",
           fmt::format("role {} lacks {}", facts_.role, right),
           slot_alone ? "it cannot make the slot that holds a snapshot's WAL" : "a backup needs it",
           replication ? fmt::format("ALTER ROLE \"{}\" REPLICATION;", facts_.role)
                       : fmt::format("GRANT {} TO \"{}\";", right, facts_.role));
    }
    if (facts_.superuser) {
      tell(Severity::kHint, "role", fmt::format("role {} is a superuser", facts_.role),
           "backups need far less: docs/postgres.md has a role with the least rights",
           "see docs/postgres.md, \"A role of its own\"");
    }
  }

  void version() {
    for (const EndOfLife& end : kEndsOfLife) {
      if (end.major == facts_.major() && activity_.now > end.unix_seconds) {
        tell(Severity::kRisk, "version",
             fmt::format("PostgreSQL {} is no longer supported since {}", end.major, end.day),
             "it gets no more fixes, not for lost data either", "plan an upgrade (pg_upgrade)");
      }
    }
    if (facts_.major() < kEndsOfLife[0].major) {
      tell(Severity::kProblem, "version", fmt::format("PostgreSQL {} is too old", facts_.major()),
           "13 and newer can be captured", "plan an upgrade (pg_upgrade)");
    } else if (facts_.major() > kNewestMajor) {
      tell(Severity::kProblem, "version",
           fmt::format("PostgreSQL {} is newer than this program", facts_.major()),
           fmt::format("its files are not known; {} is the newest", kNewestMajor), "update kuramori");
    }
  }

  const ServerFacts& facts_;
  const ServerActivity& activity_;
  std::vector<Finding> findings_;
};

}  // namespace

std::string_view name_of(Severity severity) {
  switch (severity) {
    case Severity::kProblem:
      return "problem";
    case Severity::kRisk:
      return "risk";
    case Severity::kHint:
      return "hint";
  }
  return "hint";
}

std::vector<Finding> judge(const ServerFacts& facts, const ServerActivity& activity) {
  return Judge(facts, activity).run();
}

std::vector<Finding> judge_config_text(const std::string& path, std::string_view text) {
  struct Relic {
    std::string_view name, since, instead;
  };
  constexpr Relic kRelics[] = {
      {"wal_keep_segments", "13", "wal_keep_size = '1GB'"},
      {"promote_trigger_file", "16", "pg_promote()"},
      {"trigger_file", "12", "pg_promote()"},
      {"standby_mode", "12", "an empty file standby.signal"},
  };
  std::vector<Finding> findings;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    for (const Relic& relic : kRelics) {
      const std::string_view rest = line.starts_with(relic.name) ? line.substr(relic.name.size()) : "x";
      if (!rest.starts_with(' ') && !rest.starts_with('=') && !rest.starts_with('\t')) continue;
      findings.push_back({Severity::kProblem, std::string(relic.name),
                          fmt::format("{} line {} sets {}", path, number, relic.name),
                          fmt::format("PostgreSQL {} and newer do not start with it (S2); use {}",
                                      relic.since, relic.instead),
                          fmt::format("sed -i '{}s/^/#/' {}", number, path), true});
    }
  }
  return findings;
}

}  // namespace kuramori::postgres
