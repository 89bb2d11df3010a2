// Dumps of real servers of every major, and back.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "os/process.h"
#include "source/dump/dump_for_tests.h"

namespace kuramori::dump {
namespace {

class EveryMajor : public testing::TestWithParam<int> {};

TEST_P(EveryMajor, a_database_comes_back_under_a_new_name_with_all_it_had_C2_S11_S13) {
  const auto server = server_of(GetParam());
  make_shop(*server);
  const auto source = source_for(*server, "shop");
  const TreeForTests tree(capture_of(*source));
  ASSERT_EQ(tree.entries.size(), 6u);
  EXPECT_EQ(tree.told.at("rows"), std::to_string(144 + 3000 + 24 + 59 + 2));
  const auto restored =
      source->restore(tree, {.to = url_of(*server, "shop_restored")}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(state_of(*server, "shop_restored"), state_of(*server, "shop"));
  const auto about = [&](const std::string& name) {
    return sql(
        *server,
        "SELECT pg_get_userbyid(datdba), datacl, shobj_description(oid, 'pg_database'), "
        "pg_encoding_to_char(encoding), datcollate, (SELECT array_agg(setconfig ORDER BY setrole) FROM "
        "pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = '" +
            name + "'");
  };
  EXPECT_EQ(about("shop_restored"), about("shop"));

  // Into a cluster that knows none of its roles.
  const auto empty = server_of(GetParam());
  const auto elsewhere = source->restore(tree, {.to = url_of(*empty, "shop")}, silent_reporter(), {});
  ASSERT_TRUE(elsewhere) << elsewhere.error().what << ": " << elsewhere.error().why;
  EXPECT_EQ(state_of(*empty, "shop"), state_of(*server, "shop"));
  EXPECT_EQ(
      sql(*empty, "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname IN ('app', 'Reader') ORDER BY 1"),
      "Reader|f\napp|f");
  EXPECT_TRUE(holds(all_notes(*elsewhere), "made the roles Reader, app"));
  EXPECT_TRUE(holds(tree.entries[5].bytes, "CREATE ROLE app"));

  EXPECT_TRUE(all_passed(verdicts(source->drill(tree, "", silent_reporter(), {}))))
      << testing::PrintToString(verdicts(source->drill(tree, "", silent_reporter(), {})));
}

TEST_P(EveryMajor, two_tables_are_of_one_moment_while_others_write_C1_S13) {
  const auto server = server_of(GetParam());
  sql(*server, "CREATE TABLE a (v bigint)");
  sql(*server, "CREATE TABLE b (v bigint)");
  sql(*server, "CREATE TABLE big AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i");
  // Both get the same in one transaction; now and then both are emptied, which a snapshot alone does not see.
  ASSERT_TRUE(
      server->sql("CREATE FUNCTION move(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF n % 40 = 0 THEN "
                  "TRUNCATE a, b; END IF; INSERT INTO a VALUES (n); PERFORM pg_sleep(0.001); INSERT INTO b "
                  "VALUES (n); END $$"));
  std::atomic<bool> stop = false;
  std::atomic<int> moved = 0;
  std::jthread writer([&] {
    for (int n = 1; !stop; ++n, ++moved)
      if (!server->sql("SELECT move(" + std::to_string(n) + ")")) break;
  });
  std::vector<TreeForTests> trees;
  for (int round = 0; round < 3; ++round) {
    const auto source =
        source_for(*server, "postgres",
                   round == 1 ? std::vector<std::string>{"b", "public.a"} : std::vector<std::string>{});
    trees.emplace_back(capture_of(*source));
  }
  stop = true;
  writer.join();
  EXPECT_GT(moved, 5);
  const auto source = source_for(*server, "postgres");
  int number = 0;
  for (const TreeForTests& tree : trees) {
    const std::string name = "moment" + std::to_string(++number);
    const auto restored = source->restore(tree, {.to = url_of(*server, name)}, silent_reporter(), {});
    ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
    EXPECT_EQ(sql(*server, "SELECT (SELECT coalesce(sum(v), 0) FROM a) = (SELECT coalesce(sum(v), 0) FROM b)",
                  name),
              "t");
    EXPECT_EQ(sql(*server, "SELECT to_regclass('public.big') IS NULL", name), number == 2 ? "t" : "f");
  }
}

TEST_P(EveryMajor, single_tables_come_back_with_all_that_is_theirs_S10_S11) {
  const auto server = server_of(GetParam());
  make_shop(*server);
  const auto source = source_for(*server, "shop");
  const TreeForTests tree(capture_of(*source));
  const auto about_users = [&](const std::string& database) {
    return sql(
        *server,
        "SELECT (SELECT count(*) FROM users), (SELECT string_agg(indexdef, ';' ORDER BY indexname) FROM "
        "pg_indexes WHERE tablename = 'users'), (SELECT string_agg(pg_get_constraintdef(oid), ';' ORDER BY "
        "conname) FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype <> 'n'), (SELECT "
        "string_agg(pg_get_triggerdef(oid), ';') FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT "
        "tgisinternal), c.relacl, pg_get_userbyid(c.relowner), obj_description(c.oid, 'pg_class'), "
        "col_description(c.oid, 2), obj_description('users_feels'::regclass, 'pg_class'), (SELECT attacl "
        "FROM "
        "pg_attribute WHERE attrelid = c.oid AND attname = 'name'), (SELECT last_value FROM users_id_seq), "
        "(SELECT last_value FROM tickets), (SELECT relacl FROM pg_class WHERE relname = 'users_id_seq'), "
        "(SELECT "
        "count(*) FROM pg_policy), (SELECT count(*) FROM pg_statistic_ext), pg_get_serial_sequence('users', "
        "'id') FROM pg_class c WHERE c.oid = 'users'::regclass",
        database);
  };
  // Into a new database, which then has it alone, and what it needs.
  const auto alone = source->restore(tree, {.to = url_of(*server, "alone"), .only = {"public.users"}},
                                     silent_reporter(), {});
  ASSERT_TRUE(alone) << alone.error().what << ": " << alone.error().why;
  EXPECT_EQ(about_users("alone"), about_users("shop"));
  EXPECT_EQ(sql(*server,
                "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relnamespace = "
                "'public'::regnamespace",
                "alone"),
            "1");
  // Back into the database that lost it.
  const std::string before = about_users("shop");
  sql(*server, "DROP TABLE users CASCADE", "shop");
  const auto back =
      source->restore(tree, {.to = url_of(*server, "shop"), .only = {"users"}}, silent_reporter(), {});
  ASSERT_TRUE(back) << back.error().what << ": " << back.error().why;
  EXPECT_EQ(about_users("shop"), before);
  // Once more: nothing is doubled.
  const auto again =
      source->restore(tree, {.to = url_of(*server, "shop"), .only = {"public.users"}}, silent_reporter(), {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(about_users("shop"), before);
  EXPECT_EQ(sql(*server, "INSERT INTO users (name) VALUES ('new') RETURNING id", "shop"), "145");

  // A table that refers to one that is not there, in another schema, or in parts.
  const auto others = source->restore(
      tree,
      {.to = url_of(*server, "others"), .only = {"\"public\".\"Order Items\"", "transformations", "events"}},
      silent_reporter(), {});
  ASSERT_TRUE(others) << others.error().what << ": " << others.error().why;
  EXPECT_TRUE(holds(all_notes(*others), "ALTER TABLE public.\"Order Items\" ADD CONSTRAINT"));
  EXPECT_TRUE(holds(all_notes(*others), "made the schema backup"));
  EXPECT_EQ(
      sql(*server,
          "SELECT (SELECT count(*) FROM \"Order Items\"), (SELECT count(*) FROM backup.transformations "
          "WHERE id IS NULL AND at >= '2026-01-15' AND at < '2026-01-16'), (SELECT count(*) FROM events), "
          "(SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'events%'), (SELECT last_value FROM "
          "\"Order Items_id_seq\")",
          "others"),
      "3000|24|59|3|3000");
}

// What differs between them is theirs: one is enough for a sanitizer, which looks at us.
std::vector<int> majors_to_try() {
  if (std::getenv("KURAMORI_TEST_SANITIZED") != nullptr) return {15};
  return PostgresServer::majors();
}
INSTANTIATE_TEST_SUITE_P(Postgres, EveryMajor, testing::ValuesIn(majors_to_try()));

class Dump : public testing::Test {
 protected:
  void SetUp() override {
    server_ = server_of();
    make_shop(*server_);
  }
  std::string databases() { return sql(*server_, "SELECT datname FROM pg_database ORDER BY 1"); }
  std::unique_ptr<PostgresServer> server_;
};

TEST_F(Dump, an_existing_database_is_replaced_only_by_name_and_stays_beside_C3_S12) {
  const auto source = source_for(*server_, "shop");
  const TreeForTests tree(capture_of(*source));
  sql(*server_, "INSERT INTO users (name) VALUES ('newer than the dump')", "shop");
  const std::string before = databases();
  const auto refused = source->restore(tree, {.to = url_of(*server_, "shop")}, silent_reporter(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_TRUE(holds(refused.error().next, "--overwrite"));
  EXPECT_EQ(databases(), before);
  const auto unnamed =
      source->restore(tree, {.to = "postgresql://postgres@/?host=" + server_->folder(), .overwrite = true},
                      silent_reporter(), {});
  ASSERT_FALSE(unnamed);
  EXPECT_EQ(unnamed.error().kind, ErrorKind::kUsage);

  {
    // Somebody is in it.
    auto client =
        server_->start_program("psql", {"-h", server_->folder(), "-d", "shop", "-c", "SELECT pg_sleep(60)"});
    ASSERT_TRUE(client);
    while (sql(*server_, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'") == "0") {
    }
    const auto in_use =
        source->restore(tree, {.to = url_of(*server_, "shop"), .overwrite = true}, silent_reporter(), {});
    ASSERT_FALSE(in_use);
    EXPECT_EQ(in_use.error().kind, ErrorKind::kRefused);
    EXPECT_TRUE(holds(in_use.error().next, "pg_terminate_backend"));
    sql(*server_, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop'");
  }
  EXPECT_EQ(databases(), before);
  const auto replaced =
      source->restore(tree, {.to = url_of(*server_, "shop"), .overwrite = true}, silent_reporter(), {});
  ASSERT_TRUE(replaced) << replaced.error().what << ": " << replaced.error().why;
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM users", "shop"), "144");
  const std::string old = sql(*server_, "SELECT datname FROM pg_database WHERE datname LIKE 'shop.old-%'");
  EXPECT_EQ(replaced->moved_aside, "the database " + old);
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM users WHERE name = 'newer than the dump'", old), "1");
}

TEST_F(Dump, a_drill_counts_what_was_counted_when_the_dump_was_taken_L5) {
  const auto source = source_for(*server_, "shop");
  TreeForTests tree(capture_of(*source));
  EXPECT_TRUE(all_passed(verdicts(source->drill(tree, "", silent_reporter(), {}))));
  sql(*server_, "DELETE FROM \"Order Items\" WHERE id IN (5, 7)", "shop");
  sql(*server_, "DROP INDEX users_feels", "shop");
  const TreeForTests later(capture_of(*source));
  // The later, smaller dump under the earlier one's counts.
  tree.entries[2].bytes = later.entries[2].bytes;
  ASSERT_EQ(tree.entries[2].item.entry.path, "database.dump");
  auto found = verdicts(source->drill(tree, "", silent_reporter(), {}));
  EXPECT_TRUE(holds(found["rows of every table"], "public.Order Items has 2998 rows, 3000 were counted"));
  EXPECT_TRUE(holds(found["indexes, constraints, triggers, owners"], "public.users"));
  tree.entries[2].bytes.resize(tree.entries[2].bytes.size() / 2);
  found = verdicts(source->drill(tree, "", silent_reporter(), {}));
  EXPECT_TRUE(holds(found["it is restored"], "failed"));
}

TEST_F(Dump, a_restore_that_fails_leaves_nothing_and_one_that_was_killed_is_cleaned_up) {
  const auto source = source_for(*server_, "shop");
  const TreeForTests tree(capture_of(*source));
  const auto other = server_of();
  const std::string before = sql(*other, "SELECT datname FROM pg_database ORDER BY 1");
  TreeForTests broken = tree;
  broken.entries[2].bytes.resize(broken.entries[2].bytes.size() - 3000);
  const auto failed = source->restore(broken, {.to = url_of(*other, "new")}, silent_reporter(), {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(sql(*other, "SELECT datname FROM pg_database ORDER BY 1"), before);
  EXPECT_EQ(sql(*other, "SELECT count(*) FROM pg_roles WHERE rolname = 'app'"), "0");
  // An empty database that was there stays, and stays empty.
  sql(*other, "CREATE DATABASE ready");
  ASSERT_FALSE(source->restore(broken, {.to = url_of(*other, "ready")}, silent_reporter(), {}));
  EXPECT_EQ(sql(*other, "SELECT count(*) FROM pg_class WHERE oid >= 16384", "ready"), "0");
  // A killed restore's.
  sql(*other, "CREATE DATABASE \"ready2.kuramori-new\"");
  const auto strange = source->restore(tree, {.to = url_of(*other, "ready2")}, silent_reporter(), {});
  ASSERT_FALSE(strange);
  EXPECT_EQ(strange.error().kind, ErrorKind::kRefused);
  sql(*other, "COMMENT ON DATABASE \"ready2.kuramori-new\" IS 'kuramori: a restore that is not finished'");
  const auto restored = source->restore(tree, {.to = url_of(*other, "ready2")}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(state_of(*other, "ready2"), state_of(*server_, "shop"));
  const auto filled = source->restore(tree, {.to = url_of(*other, "ready")}, silent_reporter(), {});
  ASSERT_TRUE(filled) << filled.error().what << filled.error().why;
  EXPECT_EQ(state_of(*other, "ready"), state_of(*server_, "shop"));
  EXPECT_EQ(sql(*other, "SELECT count(*) FROM pg_database WHERE datname LIKE '%kuramori%'"), "0");
}

TEST_F(Dump, rows_that_a_policy_hides_and_tables_that_may_not_be_read_are_no_snapshot) {
  sql(*server_, "ALTER TABLE users ENABLE ROW LEVEL SECURITY", "shop");
  sql(*server_, "CREATE ROLE dumper LOGIN");
  sql(*server_, "GRANT pg_read_all_data TO dumper");
  sql(*server_, "GRANT CONNECT ON DATABASE shop TO dumper");
  const auto source = source_for(*server_, "shop", {}, "dumper");
  const auto hidden = capture_of(*source);
  ASSERT_TRUE(hidden.error);
  EXPECT_EQ(hidden.error->kind, ErrorKind::kDenied) << hidden.error->what << hidden.error->why;
  EXPECT_TRUE(holds(hidden.error->next, "BYPASSRLS"));
  const auto problems = [&] {
    std::string all;
    const auto findings = source->doctor();
    EXPECT_TRUE(findings);
    for (const SourceFinding& one : *findings)
      if (one.severity == SourceFinding::Severity::kProblem)
        all += one.what + " " + one.why + " " + one.fix + "\n";
    return all;
  };
  EXPECT_TRUE(holds(problems(), "ALTER ROLE \"dumper\" BYPASSRLS"));
  sql(*server_, "ALTER ROLE dumper BYPASSRLS");
  sql(*server_, "ALTER ROLE dumper SET statement_timeout TO '500ms'");
  sql(*server_, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata", "shop");
  EXPECT_EQ(problems(), "");
  // Its statements take longer than that role may: they wait for a table.
  const auto holder = server_->start_program(
      "psql", {"-h", server_->folder(), "-d", "shop", "-c", "BEGIN; LOCK TABLE users; SELECT pg_sleep(2)"});
  while (sql(*server_, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") ==
         "0") {
  }
  const auto whole = capture_of(*source);
  EXPECT_FALSE(whole.error) << whole.error->what << whole.error->why;
  EXPECT_EQ(whole.facts.at("role_passwords"), "yes");  // pg_read_all_data reads those, too

  sql(*server_, "REVOKE pg_read_all_data FROM dumper");
  sql(*server_, "CREATE DATABASE plain OWNER dumper");
  const auto plain = capture_of(*source_for(*server_, "plain", {}, "dumper"));
  EXPECT_FALSE(plain.error) << plain.error->what << plain.error->why;
  EXPECT_EQ(plain.facts.at("role_passwords"), "no");
  const auto denied = capture_of(*source);
  ASSERT_TRUE(denied.error);
  EXPECT_EQ(denied.error->kind, ErrorKind::kDenied);
  EXPECT_TRUE(holds(problems(), "GRANT pg_read_all_data"));
}

TEST_F(Dump, names_may_hold_anything_and_a_database_may_be_of_another_encoding) {
  sql(*server_,
      "CREATE DATABASE \"O\"\"Neil-DB\" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
  const std::string database = "O\"Neil-DB";
  sql(*server_, "CREATE SCHEMA \"a.b\"", database);
  sql(*server_, "CREATE TABLE \"a.b\".\"quo\"\"te\nline *\" (id serial PRIMARY KEY, \"sp ace\" text UNIQUE)",
      database);
  sql(*server_, "CREATE TABLE \"a.b\".\"quo\"\"te\" (id serial PRIMARY KEY)", database);
  sql(*server_, "COMMENT ON TABLE \"a.b\".\"quo\"\"te\nline *\" IS 'caf\u00e9'", database);
  sql(*server_, "INSERT INTO \"a.b\".\"quo\"\"te\nline *\" (\"sp ace\") VALUES ('caf\u00e9'), ('\\')",
      database);
  const auto source = source_for(*server_, database, {"a.b.quo\"te\nline *"});
  const TreeForTests tree(capture_of(*source));
  EXPECT_EQ(tree.told.at("rows"), "2");
  EXPECT_TRUE(all_passed(verdicts(source->drill(tree, "", silent_reporter(), {}))));
  const auto restored =
      source->restore(tree, {.to = url_of(*server_, "Copy%20of%20it")}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(sql(*server_,
                "SELECT count(*), max(obj_description('\"a.b\".\"quo\"\"te\nline *\"'::regclass)) FROM "
                "\"a.b\".\"quo\"\"te\nline *\" "
                "WHERE \"sp ace\" IN ('caf\u00e9', '\\')",
                "Copy of it"),
            "2|caf\u00e9");
  EXPECT_EQ(
      sql(*server_, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'Copy of it'"),
      "LATIN1");
  // All of it, and single tables out of that.
  const auto everything = source_for(*server_, database);
  const TreeForTests all(capture_of(*everything));
  const auto one = everything->restore(all, {.to = url_of(*server_, "one"), .only = {"a.b.quo\"te\nline *"}},
                                       silent_reporter(), {});
  ASSERT_TRUE(one) << one.error().what << one.error().why;
  EXPECT_EQ(sql(*server_,
                "SELECT count(*), (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
                "'\"a.b\"'::regnamespace) FROM \"a.b\".\"quo\"\"te\nline *\"",
                "one"),
            "2|1");
}

TEST_F(Dump, what_happens_to_tables_meanwhile_ends_it_or_waits) {
  const auto source = source_for(*server_, "shop");
  auto capture = source->capture(silent_reporter(), {});
  ASSERT_TRUE(capture) << capture.error().what;
  // Locked from the first moment: nobody takes it away under us.
  const auto dropped = server_->sql("SET lock_timeout = '200ms'; DROP TABLE users CASCADE", "shop");
  EXPECT_FALSE(dropped);
  // A table that somebody else has locked is waited for, not for ever.
  const auto holder =
      server_->start_program("psql", {"-h", server_->folder(), "-d", "shop", "-c",
                                      "BEGIN; LOCK TABLE backup.transformations; SELECT pg_sleep(30)"});
  capture->reset();
  while (sql(*server_, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") ==
         "0") {
  }
  const auto waited = capture_of(*source);
  ASSERT_TRUE(waited.error);
  EXPECT_TRUE(holds(waited.error->next, "pg_locks"));
}

TEST_F(Dump, a_connection_that_is_lost_midway_is_no_snapshot) {
  sql(*server_, "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i",
      "shop");
  const auto source = source_for(*server_, "shop");
  for (const bool restart : {false, true}) {
    std::atomic<bool> done = false;
    std::jthread killer([&] {
      while (!done) {
        const auto at_work = server_->sql(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY public.big%' AND pid <> "
            "pg_backend_pid()");
        if (!at_work || *at_work == "0") continue;
        if (restart) {
          server_->kill();
        } else {
          (void)server_->sql(
              "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY public.big%'");
        }
        return;
      }
    });
    // Slowly, so that it is still at it when the killer has looked.
    const auto slowly = [&] {
      if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    };
    const auto capture = source->capture(silent_reporter(), {});
    files::Captured captured;
    if (capture) captured = files::run_capture(**capture, slowly);
    done = true;
    killer.join();
    // By this thread, whose end would end the server.
    if (restart) {
      EXPECT_TRUE(server_->start());
    }
    ASSERT_TRUE(capture) << capture.error().what;
    ASSERT_TRUE(captured.error);
    EXPECT_FALSE(captured.error->why.empty());
  }
  const auto after = capture_of(*source);
  EXPECT_FALSE(after.error) << after.error->what << ": " << after.error->why;
}

TEST_F(Dump, an_older_program_is_not_let_near_a_newer_server_S13) {
  const auto newer = server_of(18);
  const auto source =
      open_dump({.connect = newer->connect("postgres"), .program_folders = {clients_for(15)}});
  const char* path = std::getenv("PATH");
  ASSERT_NE(path, nullptr);
  const auto captured = capture_of(**source);
  ASSERT_TRUE(captured.error);
  EXPECT_TRUE(holds(captured.error->what, "PostgreSQL 18"));
  EXPECT_TRUE(holds(captured.error->why, "15."));
  EXPECT_TRUE(holds(captured.error->next, "postgresql-client-18"));
  // A dump of a newer program cannot be read by an older one: named, and nothing is touched.
  sql(*newer, "CREATE TABLE t (v int)");
  const TreeForTests tree(capture_of(*source_for(*newer, "postgres")));
  const auto restored = (*source)->restore(tree, {.to = url_of(*newer, "new")}, silent_reporter(), {});
  ASSERT_FALSE(restored);
  EXPECT_TRUE(holds(restored.error().next, "postgresql-client-18"));
  // Nor into an older server.
  const auto older =
      source_for(*newer, "postgres")->restore(tree, {.to = url_of(*server_, "new")}, silent_reporter(), {});
  ASSERT_FALSE(older);
  EXPECT_EQ(older.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM pg_database WHERE datname LIKE 'new%'"), "0");
}

TEST_F(Dump, two_thousand_tables_fit_into_the_servers_locks_and_a_minute_C5) {
  sql(*server_, "CREATE DATABASE wide");
  for (int part = 0; part < 10; ++part) {
    sql(*server_,
        "DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format('CREATE TABLE t%s_%s (id int PRIMARY KEY, v text "
        "UNIQUE)', " +
            std::to_string(part) + ", i); END LOOP; END $$",
        "wide");
  }
  const auto source = source_for(*server_, "wide");
  const auto begun = std::chrono::steady_clock::now();
  const TreeForTests tree(capture_of(*source));
  EXPECT_EQ(tree.told.at("tables"), "2000");
  const auto restored = source->restore(tree, {.to = url_of(*server_, "wide2")}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'", "wide2"), "4000");
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::minutes(5));
  // In one transaction they do not: told, with what to type, and the empty database stays empty.
  sql(*server_, "CREATE DATABASE wide3");
  const auto too_many = source->restore(tree, {.to = url_of(*server_, "wide3")}, silent_reporter(), {});
  if (!too_many) {
    EXPECT_TRUE(holds(too_many.error().next, "max_locks_per_transaction"));
    EXPECT_EQ(sql(*server_, "SELECT count(*) FROM pg_class WHERE oid >= 16384", "wide3"), "0");
  }
}

TEST_F(Dump, of_a_standby_is_one_too) {
  ASSERT_TRUE(server_->add_settings({"wal_level = replica", "max_wal_senders = 4"}));
  ASSERT_TRUE(server_->stop());
  ASSERT_TRUE(server_->start());
  const std::string folder = server_->folder() + "/standby";
  const auto made = server_->run("pg_basebackup", {"-h", server_->folder(), "-U", "postgres", "-D", folder,
                                                   "-R", "-X", "stream", "-c", "fast"});
  ASSERT_TRUE(made && made->status == 0) << made->text;
  const auto standby = PostgresServer::adopt(folder, 15);
  ASSERT_TRUE(standby) << standby.error().why;
  const auto source = source_for(**standby, "shop");
  const TreeForTests tree(capture_of(*source));
  EXPECT_EQ(tree.told.at("standby"), "yes");
  const auto restored = source->restore(tree, {.to = url_of(*server_, "copy")}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(state_of(*server_, "copy"), state_of(*server_, "shop"));
  const auto refused = source->restore(tree, {.to = url_of(**standby, "copy2")}, silent_reporter(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
}

TEST_F(Dump, accidents_are_undone_A4) {
  const auto source = source_for(*server_, "shop");
  const TreeForTests tree(capture_of(*source));
  // A wrong UPDATE: the table beside, and the values from there.
  sql(*server_, "UPDATE users SET name = 'x' || id, feels = 'sad'", "shop");
  ASSERT_TRUE(
      source->restore(tree, {.to = url_of(*server_, "shop_then"), .only = {"users"}}, silent_reporter(), {}));
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM users WHERE name LIKE 'user %'", "shop_then"), "144");
  // A dropped database.
  const std::string before = state_of(*server_, "shop_then");
  sql(*server_, "DROP DATABASE shop");
  const auto back = source->restore(tree, {.to = url_of(*server_, "shop")}, silent_reporter(), {});
  ASSERT_TRUE(back) << back.error().what << back.error().why;
  EXPECT_EQ(sql(*server_, "SELECT count(*) FROM happy", "shop"), "48");
}

TEST_F(Dump, a_disk_that_is_full_fails_the_drill_in_words) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts";
  sql(*server_, "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i",
      "shop");
  const auto source = source_for(*server_, "shop");
  const TreeForTests tree(capture_of(*source));
  const TemporaryFolder small = *TemporaryFolder::make("kuramori-small-");
  ASSERT_EQ(::chmod(small.path().c_str(), 0755), 0);
  if (!run_checked({.argv = {"mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", small.path()}}))
    GTEST_SKIP() << "this machine mounts nothing";
  ::setenv("TMPDIR", small.path().c_str(), 1);
  const auto checks = source->drill(tree, "", silent_reporter(), {});
  ::unsetenv("TMPDIR");
  const bool is_left_empty = list_folder(small.path())->empty();
  ASSERT_TRUE(run_checked({.argv = {"umount", small.path()}}));
  EXPECT_TRUE(is_left_empty);
  if (checks) {
    EXPECT_FALSE(all_passed(verdicts(checks)));
  } else {
    EXPECT_TRUE(holds(checks.error().what + checks.error().why, "space"));
  }
}

TEST_F(Dump, files_are_plain_and_tell_nobody_a_password) {
  const auto source = source_for(*server_, "shop");
  const TreeForTests tree(capture_of(*source));
  const TemporaryFolder ground = *TemporaryFolder::make("kuramori-dump-");
  ASSERT_TRUE(source->restore(tree, {.to = ground / "files"}, silent_reporter(), {}));
  for (const char* name :
       {"README.txt", "database.dump", "database.json", "extensions.json", "globals.sql"}) {
    EXPECT_EQ(status_of(ground / "files/" + name)->mode, 0600u) << name;
    EXPECT_FALSE(holds(text_of(ground / "files/" + name), "not to be seen"));
  }
  EXPECT_TRUE(holds(text_of(ground / "files/extensions.json"), "pg_trgm"));
  // The kind's own word for a secret: no argument has it, no error tells it.
  const auto wrong =
      open_dump({.connect = "host=" + server_->folder() + " dbname=nothing", .password = "s3cr3t"});
  const auto failed = capture_of(**wrong);
  ASSERT_TRUE(failed.error);
  EXPECT_FALSE(holds(failed.error->what + failed.error->why + failed.error->next, "s3cr3t"));
  EXPECT_FALSE(open_dump({.connect = "postgresql://u:s3cr3t@[broken"}));
  EXPECT_FALSE(source->restore(tree, {.to = "nowhere"}, silent_reporter(), {}));
}

}  // namespace
}  // namespace kuramori::dump
