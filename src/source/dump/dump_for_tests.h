// A real server with a database worth a dump.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "source/dump/dump.h"
#include "source/tree/captured_tree_for_tests.h"
#include "testing/postgres_server.h"

namespace kuramori::dump {

// A folder with pg_dump and the others for this major: its own where it comes with them, else the newest.
inline std::string clients_for(int major) {
  const bool has_own = major == 15 || major >= 17;
  return *PostgresServer::bin_folder_of(has_own ? major : 18);
}

inline std::unique_ptr<PostgresServer> server_of(int major = 15, std::vector<std::string> settings = {}) {
  auto server = PostgresServer::create({.major = major, .settings = std::move(settings)});
  EXPECT_TRUE(server) << server.error().what << ": " << server.error().why;
  // Where a drill finds the server programs.
  ::setenv(("KURAMORI_PG_BIN_" + std::to_string(major)).c_str(), (*server)->bin_folder().c_str(), 1);
  return std::move(*server);
}

inline std::unique_ptr<Source> source_for(const PostgresServer& server, const std::string& database,
                                          std::vector<std::string> tables = {},
                                          const std::string& user = "postgres") {
  auto source = open_dump({.connect = server.connect(database, user),
                           .tables = std::move(tables),
                           .program_folders = {clients_for(server.major())},
                           .timeout = std::chrono::minutes(5),
                           .lock_wait = std::chrono::seconds(5)});
  EXPECT_TRUE(source);
  return std::move(*source);
}

inline std::string url_of(const PostgresServer& server, const std::string& database) {
  return "postgresql://postgres@/" + database + "?host=" + server.folder();
}

inline std::string sql(PostgresServer& server, const std::string& query,
                       const std::string& database = "postgres") {
  auto answer = server.sql(query, database);
  EXPECT_TRUE(answer) << query << ": " << answer.error().why;
  return answer ? *answer : "";
}

// A shop: what a restore is apt to lose is in it.
inline void make_shop(PostgresServer& server) {
  for (const char* statement : {
           "CREATE ROLE app LOGIN PASSWORD 'not to be seen'",
           "CREATE ROLE \"Reader\"",
           "GRANT app TO \"Reader\"",
           "CREATE DATABASE shop OWNER app",
           "ALTER DATABASE shop SET search_path TO \"$user\", public, backup",
           "ALTER ROLE app IN DATABASE shop SET work_mem TO '7MB'",
           "REVOKE ALL ON DATABASE shop FROM PUBLIC",
           "COMMENT ON DATABASE shop IS 'it''s the shop'",
       })
    sql(server, statement);
  for (const char* statement : {
           "CREATE EXTENSION pg_trgm",
           "CREATE SCHEMA backup AUTHORIZATION app",
           "CREATE TYPE mood AS ENUM ('sad', 'happy')",
           "CREATE SEQUENCE tickets START 500",
           "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed := now(); "
           "RETURN NEW; "
           "END $$",
           "CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, feels mood, ticket "
           "bigint DEFAULT "
           "nextval('tickets'), changed timestamptz, CHECK (id > 0))",
           "CREATE INDEX users_name ON users USING gin (name gin_trgm_ops)",
           "CREATE INDEX users_feels ON users (feels) WHERE feels IS NOT NULL",
           "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()",
           "CREATE TABLE \"Order Items\" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \"user\" bigint "
           "REFERENCES "
           "users ON DELETE CASCADE, note text)",
           "CREATE INDEX ON \"Order Items\" (\"user\")",
           "CREATE TABLE backup.transformations (id uuid, at timestamptz)",
           "CREATE TABLE events (id bigint, day date) PARTITION BY RANGE (day)",
           "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
           "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
           "CREATE INDEX ON events (day)",
           "CREATE VIEW happy AS SELECT * FROM users WHERE feels = 'happy'",
           "CREATE MATERIALIZED VIEW moods AS SELECT feels, count(*) FROM users GROUP BY 1",
           "CREATE POLICY own ON users USING (name = current_user)",
           "CREATE STATISTICS together ON feels, ticket FROM users",
           "COMMENT ON TABLE users IS E'two\nlines'",
           "COMMENT ON COLUMN users.name IS 'whose'",
           "COMMENT ON INDEX users_feels IS 'an index'",
           "GRANT SELECT ON users TO \"Reader\"",
           "GRANT UPDATE (name) ON users TO \"Reader\"",
           "GRANT USAGE ON SEQUENCE users_id_seq TO \"Reader\"",
           "ALTER TABLE users OWNER TO app",
           "ALTER TABLE backup.transformations OWNER TO app",
           "INSERT INTO users (name, feels) SELECT 'user ' || i, CASE WHEN i % 3 = 0 THEN 'happy'::mood END "
           "FROM "
           "generate_series(1, 144) i",
           "INSERT INTO \"Order Items\" (\"user\", note) SELECT 1 + i % 144, repeat(md5(i::text), 20) FROM "
           "generate_series(1, 3000) i",
           "INSERT INTO backup.transformations SELECT NULL, '2026-01-15 00:00'::timestamptz + i * interval "
           "'1 hour' "
           "FROM generate_series(0, 23) i",
           "INSERT INTO events SELECT i, '2026-01-01'::date + i FROM generate_series(0, 58) i",
           "REFRESH MATERIALIZED VIEW moods",
           "SELECT lo_from_bytea(0, 'a large object')",
       })
    sql(server, statement, "shop");
}

// Everything of a database that a dump is to keep, as one text.
inline std::string state_of(PostgresServer& server, const std::string& database) {
  const std::string own = " NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ";
  std::string all;
  for (const std::string& query : {
           "SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl, c.relrowsecurity, "
           "obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
           "WHERE "
           "n.nspname" +
               own + "ORDER BY 1, 2",
           "SELECT indexdef FROM pg_indexes WHERE schemaname" + own + "ORDER BY 1",
           std::string("SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                       "WHERE conrelid "
                       "<> 0 AND contype <> 'n' ORDER BY 1::text, 2"),
           std::string("SELECT tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT "
                       "tgisinternal ORDER "
                       "BY 1::text, 2"),
           std::string(
               "SELECT attrelid::regclass, attname, attacl, col_description(attrelid, attnum) FROM "
               "pg_attribute WHERE attacl IS NOT NULL OR col_description(attrelid, attnum) IS NOT NULL AND "
               "attrelid >= 16384 ORDER BY 1::text, 2"),
           std::string("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"),
           std::string("SELECT extname FROM pg_extension ORDER BY 1"),
           std::string("SELECT polname, polrelid::regclass FROM pg_policy ORDER BY 1"),
           std::string("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata ORDER BY 1"),
       })
    all += sql(server, query, database) + "\n--\n";
  const std::string tables =
      sql(server,
          "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON "
          "n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND n.nspname" +
              own + "ORDER BY 1",
          database);
  std::string_view rest = tables;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string table(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    all += table + " " +
           sql(server, "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM " + table + " t",
               database) +
           "\n";
  }
  return all;
}

inline std::map<std::string, std::string> verdicts(const Result<std::vector<CheckResult>>& checks) {
  std::map<std::string, std::string> out;
  EXPECT_TRUE(checks) << checks.error().what << ": " << checks.error().why;
  if (!checks) return out;
  for (const CheckResult& check : *checks) {
    out[check.name] = check.verdict;
    if (check.verdict == "failed") out[check.name] += ": " + check.detail;
  }
  return out;
}

inline bool all_passed(const std::map<std::string, std::string>& found) {
  if (found.empty()) return false;
  for (const auto& [name, verdict] : found)
    if (verdict != "passed" && verdict != "uncounted") return false;
  return true;
}

// Says what there was where it is not so.
inline testing::AssertionResult holds(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess() << text;
  return testing::AssertionFailure() << "\"" << part << "\" is not in: " << text;
}

inline std::string all_notes(const SourceRestoreOutcome& outcome) {
  std::string notes;
  for (const std::string& note : outcome.notes) notes += note + "\n";
  return notes;
}

}  // namespace kuramori::dump
