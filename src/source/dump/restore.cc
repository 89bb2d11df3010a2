#include "source/dump/restore.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "source/dump/fill.h"
#include "source/dump/layout.h"
#include "source/files/write_tree.h"
#include "source/tree/views.h"

namespace kuramori::dump {
namespace {

using postgres::Connection;
using postgres::QueryResult;

constexpr std::string_view kNewSuffix = ".kuramori-new";
constexpr std::string_view kNewComment = "kuramori: a restore that is not finished";
constexpr size_t kNameBytesMax = 63;  // of PostgreSQL
constexpr int kRenameAttempts = 4;    // each waits five seconds for sessions to end
constexpr Duration kSessionsEndLimit = std::chrono::seconds(5);
constexpr Duration kSessionsStep = std::chrono::milliseconds(100);
constexpr size_t kListedMax = 8;  // names in one sentence

bool is_url(std::string_view to) {
  return to.starts_with("postgresql://") || to.starts_with("postgres://");
}

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kListedMax); ++i) out += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kListedMax) out += fmt::format(" and {} more", names.size() - kListedMax);
  return out;
}

std::string with_suffix(std::string name, std::string_view suffix) {
  size_t keep = std::min(name.size(), kNameBytesMax - suffix.size());
  // Not in the middle of a character of UTF-8.
  while (keep < name.size() && keep > 0 && (static_cast<unsigned char>(name[keep]) & 0xC0) == 0x80) --keep;
  return name.substr(0, keep) + std::string(suffix);
}

// The tables that --only names, with their partitions.
Result<std::set<uint32_t>> tables_named(const DatabaseFacts& facts, const std::vector<std::string>& only) {
  std::set<uint32_t> chosen;
  for (const std::string& word : only) {
    std::vector<const Table*> whole, bare;
    for (const Table& table : facts.tables) {
      const std::string quoted = fmt::format("{}.{}", quoted_name(table.schema), quoted_name(table.name));
      if (table.full_name() == word || quoted == word) whole.push_back(&table);
      if (table.name == word || quoted_name(table.name) == word) bare.push_back(&table);
    }
    const std::vector<const Table*>& found = whole.empty() ? bare : whole;
    if (found.size() == 1) {
      chosen.insert(found[0]->oid);
      continue;
    }
    std::vector<std::string> names;
    for (const Table* table : found) names.push_back(table->full_name());
    if (names.empty())
      for (const Table& table : facts.tables) names.push_back(table.full_name());
    return fail(ErrorKind::kUsage,
                fmt::format("the snapshot has {} {}", found.empty() ? "no table" : "several tables", word),
                fmt::format("it has {}", listed(names)), "write --only SCHEMA.TABLE");
  }
  for (bool grew = true; grew;) {
    grew = false;
    for (const Table& table : facts.tables) {
      const bool is_part =
          std::ranges::any_of(table.parents, [&](uint32_t oid) { return chosen.contains(oid); });
      if (is_part && chosen.insert(table.oid).second) grew = true;
    }
  }
  return chosen;
}

class ServerRestore {
 public:
  ServerRestore(const DumpSettings& settings, const CapturedTree& tree, const SourceRestoreRequest& request,
                Reporter& reporter, const std::stop_token& stop)
      : settings_(settings), tree_(tree), request_(request), reporter_(reporter), stop_(stop) {}

  Result<SourceRestoreOutcome> run() {
    Result<void> done = prepare();
    if (done) {
      done = restore();
      if (!done) undo();
    }
    if (!done) return explained(std::move(done).error(), stop_);
    return std::move(outcome_);
  }

 private:
  enum class Into : uint8_t { kNew, kEmpty, kBesideOthers, kReplace };

  // --- what is looked at before anything is written ------------------------------------------------------

  Result<void> prepare() {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    TRY_ASSIGN(facts_, facts_of(tree_));
    TRY_ASSIGN(const TreeSize size, size_of(tree_));
    outcome_.entries = size.entries;
    outcome_.bytes = size.bytes;
    TRY(read_target());
    TRY(choose_what());
    TRY(connect());
    TRY_ASSIGN(clients_, choose_clients(find_clients(settings_.program_folders), facts_.client_major,
                                        fmt::format("a dump of pg_dump {}", facts_.client_version)));
    TRY(look_at_server());
    return look_at_database();
  }

  Result<void> read_target() {
    TRY_ASSIGN(target_, conninfo_of(request_.to, ""));
    name_ = target_.get("dbname");
    if (name_.empty()) {
      return fail(ErrorKind::kUsage, "the target names no database", "",
                  "write --to postgresql://USER@HOST:PORT/NAME");
    }
    // The password of the resource is for the resource's own server and role alone.
    if (const auto own = conninfo_of(settings_.connect, settings_.password);
        own && target_.get("password").empty()) {
      const bool same =
          std::ranges::all_of(std::to_array<const char*>({"host", "hostaddr", "port", "user"}),
                              [&](const char* keyword) { return own->get(keyword) == target_.get(keyword); });
      if (same && !own->get("password").empty()) target_.set("password", own->get("password"));
    }
    outcome_.target = target_.describe();
    if (request_.delta)
      return fail(ErrorKind::kUsage, "--delta is of files", "a database is restored as a whole, or by tables",
                  "leave it out");
    return {};
  }

  Result<void> choose_what() {
    if (!request_.only.empty()) {
      if (request_.overwrite) {
        return fail(
            ErrorKind::kUsage, "--only and --overwrite exclude each other",
            "single tables are added, none is replaced",
            "rename the table that is there (ALTER TABLE … RENAME TO …), then restore without --overwrite");
      }
      TRY_ASSIGN(std::set<uint32_t> tables, tables_named(facts_, request_.only));
      only_.emplace().tables = std::move(tables);
    } else if (!facts_.whole) {
      only_.emplace();
      for (const Table& table : facts_.tables) only_->tables.insert(table.oid);
    }
    return {};
  }

  // Roles and databases are the cluster's: asked and made from a database that is not the one concerned.
  Result<void> connect() {
    Error first;
    for (const char* database : {"postgres", "template1"}) {
      if (name_ == database) continue;
      auto session = Session::open(target_, database, stop_);
      if (session) {
        cluster_ = std::move(*session);
        return {};
      }
      if (first.what.empty()) first = std::move(session).error();
    }
    return first;
  }

  Result<void> look_at_server() {
    const int major = static_cast<int>((*cluster_)->major());
    if (major < facts_.server_major()) {
      return fail(
          ErrorKind::kRefused,
          fmt::format("the target is PostgreSQL {}, and the dump is of {}", major, facts_.server_major()),
          "an older version does not know all that a newer one writes",
          fmt::format("restore into a server of version {} or newer", facts_.server_major()));
    }
    TRY_ASSIGN(const std::string standby, (*cluster_)->value("SELECT pg_is_in_recovery()"));
    if (standby == "t") {
      return fail(ErrorKind::kRefused, "the target is a standby", "it takes changes from its primary alone",
                  "restore into the primary");
    }
    std::vector<std::string> missing;
    for (const Extension& extension : extensions()) {
      TRY_ASSIGN(const QueryResult there,
                 (*cluster_)->query("SELECT FROM pg_available_extensions WHERE name = $1", {extension.name}));
      if (there.rows() == 0) missing.push_back(fmt::format("{} {}", extension.name, extension.version));
    }
    if (!missing.empty()) {
      return fail(ErrorKind::kRefused, fmt::format("the target lacks the extensions {}", listed(missing)),
                  "the database uses them", "install their packages there (Debian: postgresql-VERSION-NAME)");
    }
    std::vector<std::string> spaces;
    for (const std::string& space : facts_.tablespaces) {
      TRY_ASSIGN(const QueryResult there,
                 (*cluster_)->query("SELECT FROM pg_tablespace WHERE spcname = $1", {space}));
      if (there.rows() == 0) spaces.push_back(space);
    }
    if (!spaces.empty()) {
      with_tablespaces_ = false;
      outcome_.notes.push_back(
          fmt::format("the target has no tablespace {}: everything is in the default one (CREATE TABLESPACE "
                      "first, to have it "
                      "otherwise)",
                      listed(spaces)));
    }
    return {};
  }

  // Those that are to be made.
  std::vector<Extension> extensions() const {
    std::vector<Extension> out;
    for (const Extension& extension : facts_.extensions) {
      const bool is_used = !only_ || std::ranges::any_of(facts_.tables, [&](const Table& table) {
        return only_->tables.contains(table.oid) && std::ranges::count(table.extensions, extension.name) > 0;
      });
      if (is_used && extension.name != "plpgsql") out.push_back(extension);
    }
    return out;
  }

  Result<void> look_at_database() {
    if (name_ == "template0" || name_ == "template1") {
      return fail(ErrorKind::kRefused, fmt::format("{} is what every new database is made of", name_), "",
                  "name another database");
    }
    TRY_ASSIGN(const QueryResult there,
               (*cluster_)->query("SELECT FROM pg_database WHERE datname = $1", {name_}));
    if (there.rows() == 0) {
      into_ = Into::kNew;
      return look_for_leftovers();
    }
    TRY_ASSIGN(database_, Session::open(target_, "", stop_));
    if (!request_.only.empty()) {
      into_ = Into::kBesideOthers;
      return look_for_tables();
    }
    TRY_ASSIGN(const std::string something,
               (*database_)
                   ->value("SELECT EXISTS (SELECT FROM pg_class WHERE oid >= 16384 AND relnamespace <> "
                           "'pg_toast'::regnamespace) OR EXISTS (SELECT FROM pg_proc WHERE oid >= 16384) "
                           "OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384) OR EXISTS (SELECT FROM "
                           "pg_largeobject_metadata)"));
    if (something != "t") {
      into_ = Into::kEmpty;
      return {};
    }
    if (!request_.overwrite) {
      return fail(
          ErrorKind::kRefused, fmt::format("there is a database {}, and it is not empty", name_),
          "what it holds may be newer than the snapshot",
          "name a database that does not exist, or say --overwrite with this name: the old one is kept "
          "beside it, renamed");
    }
    into_ = Into::kReplace;
    database_.reset();
    TRY(expect_no_sessions());
    return look_for_leftovers();
  }

  // An old database can be renamed only when nobody is in it. Ending people's sessions is theirs to decide.
  Result<void> expect_no_sessions() {
    const auto ask = [&] {
      return (*cluster_)->query(
          "SELECT coalesce(usename, ''), coalesce(application_name, '') FROM pg_stat_activity WHERE "
          "datname = $1 AND backend_type = 'client backend'",
          {name_});
    };
    TRY_ASSIGN(QueryResult sessions, ask());
    // One that has just ended, such as our own, is seen a moment longer.
    const Duration deadline = system_clock().steady() + kSessionsEndLimit;
    while (sessions.rows() > 0 && system_clock().steady() < deadline && !stop_.stop_requested()) {
      system_clock().sleep(kSessionsStep);
      TRY_ASSIGN(sessions, ask());
    }
    if (sessions.rows() == 0) return {};
    return fail(
        ErrorKind::kRefused, fmt::format("{} sessions are at work in {}", sessions.rows(), name_),
        fmt::format("one of {} ({})", sessions.text(0, 0), sessions.text(0, 1)),
        fmt::format("stop what uses it, or end them: ALTER DATABASE {} ALLOW_CONNECTIONS false; SELECT "
                    "pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {};",
                    quoted_name(name_), quoted_literal(name_)));
  }

  Result<void> look_for_leftovers() {
    new_name_ = with_suffix(name_, kNewSuffix);
    TRY_ASSIGN(const QueryResult left,
               (*cluster_)->query(
                   "SELECT coalesce(shobj_description(oid, 'pg_database'), ''), (SELECT count(*) FROM "
                   "pg_stat_activity a WHERE a.datid = d.oid) FROM pg_database d WHERE datname = $1",
                   {new_name_}));
    if (left.rows() == 0) return {};
    if (left.text(0, 0) != kNewComment) {
      return fail(
          ErrorKind::kRefused, fmt::format("there is a database {}, which is not of a restore", new_name_),
          "that name is needed while the restore is at work", "rename it, or restore to another name");
    }
    if (left.text(0, 1) != "0") {
      return fail(ErrorKind::kRefused, fmt::format("another restore to {} is at work", name_),
                  fmt::format("{} is in use", new_name_), "wait for it, or restore to another name");
    }
    TRY((*cluster_)->run("DROP DATABASE " + quoted_name(new_name_)));
    outcome_.notes.push_back(fmt::format("{}, left by a restore that was killed, was dropped", new_name_));
    return {};
  }

  Result<void> look_for_tables() {
    std::vector<std::string> there;
    for (const Table& table : facts_.tables) {
      if (!only_->tables.contains(table.oid)) continue;
      TRY_ASSIGN(const bool is_there, has_relation(table.schema, table.name));
      if (is_there) there.push_back(table.full_name());
    }
    if (there.empty()) return {};
    return fail(
        ErrorKind::kRefused, fmt::format("{} has the table {}", name_, listed(there)),
        "its rows would be mixed with the snapshot's, or lost",
        fmt::format("rename it (ALTER TABLE … RENAME TO …), or restore into a new database and compare: --to "
                    "…/{}_restored",
                    name_));
  }

  Result<bool> has_relation(const std::string& schema, const std::string& name) {
    TRY_ASSIGN(const std::string there,
               (*database_)
                   ->value("SELECT pg_catalog.to_regclass($1) IS NOT NULL",
                           {fmt::format("{}.{}", quoted_name(schema), quoted_name(name))}));
    return there == "t";
  }

  // --- the restore -----------------------------------------------------------------------------------------

  Result<void> restore() {
    reporter_.phase("restoring", outcome_.bytes);
    TRY_ASSIGN(made_roles_, make_missing_roles(**cluster_, facts_.roles));
    if (into_ == Into::kNew || into_ == Into::kReplace) TRY(make_database());
    if (!database_) {
      Conninfo made = target_;
      made.set("dbname", new_name_);
      TRY_ASSIGN(database_, Session::open(made, "", stop_));
    }
    if (only_) TRY(make_way());
    FillRequest fill{.target = target_,
                     .target_major = static_cast<int>((*cluster_)->major()),
                     .clients = clients_,
                     .only = only_,
                     .one_transaction = into_ == Into::kEmpty || into_ == Into::kBesideOthers,
                     .with_tablespaces = with_tablespaces_,
                     .timeout = settings_.timeout};
    if (!new_name_.empty()) fill.target.set("dbname", new_name_);
    TRY(fill_database(tree_, facts_, fill, reporter_, stop_));
    if (only_) TRY(expect_all());
    database_.reset();
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    if (!only_) {
      const std::string& name = new_name_.empty() ? name_ : new_name_;
      for (std::string& one : apply_to_database(**cluster_, facts_, name))
        outcome_.notes.push_back(std::move(one));
    }
    if (!new_name_.empty()) TRY(put_in_place());
    say_what_was_done();
    return {};
  }

  Result<void> make_database() {
    auto made = (*cluster_)->run(create_statement(facts_, new_name_, facts_.owner, (*cluster_)->major()));
    if (!made) {
      Error error = std::move(made).error();
      if (error.next.empty()) {
        error.next = fmt::format(
            "the role needs CREATEDB and to be a member of {}; a locale must be installed there. Or make the "
            "database yourself, empty: it is then filled",
            facts_.owner);
      }
      return std::move(error).within(fmt::format("make the database {}", new_name_));
    }
    has_made_database_ = true;
    return (*cluster_)->run(
        fmt::format("COMMENT ON DATABASE {} IS {}", quoted_name(new_name_), quoted_literal(kNewComment)));
  }

  // What single tables need and a dump of them does not bring: schemas, extensions; of types, functions and
  // sequences those that are not there. A foreign key to what is not there is left out, and told.
  Result<void> make_way() {
    std::set<std::string> wanted;
    for (const Table& table : facts_.tables)
      if (only_->tables.contains(table.oid)) wanted.insert(table.schema);
    for (const Extension& extension : extensions()) wanted.insert(extension.schema);
    std::set<ObjectId> needs;
    for (const Table& table : facts_.tables) {
      if (!only_->tables.contains(table.oid)) continue;
      for (const Need& need : table.needs) {
        TRY_ASSIGN(const bool is_there, has_need(need));
        if (is_there || !facts_.whole) continue;
        needs.insert(need.id);
      }
    }
    // A type or function may be of a schema that has none of the tables.
    for (const Schema& schema : facts_.schemas) {
      const bool is_named = wanted.contains(schema.name) || !needs.empty();
      if (!is_named) continue;
      TRY_ASSIGN(const QueryResult there,
                 (*database_)->query("SELECT FROM pg_namespace WHERE nspname = $1", {schema.name}));
      if (there.rows() > 0) continue;
      const std::string name = quoted_name(schema.name);
      TRY((*database_)
              ->run(fmt::format("CREATE SCHEMA {} AUTHORIZATION {}", name, quoted_name(schema.owner))));
      undo_.push_back("DROP SCHEMA " + name);
      outcome_.notes.push_back(fmt::format("made the schema {}", schema.name));
    }
    for (const Extension& extension : extensions()) {
      TRY_ASSIGN(const QueryResult there,
                 (*database_)->query("SELECT FROM pg_extension WHERE extname = $1", {extension.name}));
      if (there.rows() > 0) continue;
      TRY((*database_)
              ->run(fmt::format("CREATE EXTENSION {} SCHEMA {}", quoted_name(extension.name),
                                quoted_name(extension.schema))));
      undo_.push_back("DROP EXTENSION " + quoted_name(extension.name));
      outcome_.notes.push_back(fmt::format("made the extension {}", extension.name));
    }
    only_->besides = std::move(needs);
    for (const Table& table : facts_.tables) {
      if (!only_->tables.contains(table.oid)) continue;
      for (const ForeignKey& key : table.foreign_keys) {
        if (only_->tables.contains(key.target_oid)) continue;
        TRY_ASSIGN(const bool is_there, has_relation(key.target_schema, key.target_table));
        if (is_there) continue;
        constexpr uint32_t kOfConstraints = 2606;  // pg_constraint has this number everywhere
        only_->left_out.insert({kOfConstraints, key.oid});
        outcome_.notes.push_back(
            fmt::format("left out the foreign key {} of {}, since there is no table {}.{}; when "
                        "there is, type: {};",
                        key.name, table.full_name(), key.target_schema, key.target_table, key.statement));
      }
    }
    return {};
  }

  Result<bool> has_need(const Need& need) {
    const std::string_view look = need.kind == "type"       ? "to_regtype"
                                  : need.kind == "function" ? "to_regprocedure"
                                                            : "to_regclass";
    TRY_ASSIGN(
        const std::string there,
        (*database_)->value(fmt::format("SELECT pg_catalog.{}($1) IS NOT NULL", look), {need.identity}));
    return there == "t";
  }

  // pg_restore says that all is well of a list in which something is missing (S10).
  Result<void> expect_all() {
    for (const Table& table : facts_.tables) {
      if (!only_->tables.contains(table.oid)) continue;
      TRY_ASSIGN(
          const QueryResult found,
          (*database_)
              ->query(
                  "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = c.oid), (SELECT count(*) FROM "
                  "pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgparentid = 0), (SELECT "
                  "count(*) FROM pg_constraint "
                  "WHERE conrelid = c.oid AND contype IN ('c', 'f', 'p', 'u', 'x')), (SELECT count(*) FROM "
                  "pg_policy WHERE polrelid = c.oid) FROM pg_class c WHERE c.oid = to_regclass($1)",
                  {fmt::format("{}.{}", quoted_name(table.schema), quoted_name(table.name))}));
      if (found.rows() != 1)
        return fail(ErrorKind::kBrokenPromise, fmt::format("{} did not come back", table.full_name()));
      const auto had = [&](std::string_view kind) {
        return std::ranges::count_if(table.parts, [&](const Part& part) { return part.kind == kind; });
      };
      int64_t left_out = 0;
      for (const ForeignKey& key : table.foreign_keys)
        left_out += only_->left_out.contains({2606, key.oid}) ? 1 : 0;
      const int64_t expected[] = {had("INDEX"), had("TRIGGER"), -1, had("POLICY")};
      const char* words[] = {"indexes", "triggers", "constraints", "policies"};
      for (size_t i = 0; i < 4; ++i) {
        TRY_ASSIGN(const int64_t there, found.number(0, i));
        // A newer server keeps NOT NULL as constraints; those are not counted on either side.
        const int64_t want = i == 2 ? constraints_of(table) - left_out : expected[i];
        if (there == want) continue;
        return fail(ErrorKind::kBrokenPromise, fmt::format("{} came back with {} of its {} {}",
                                                           table.full_name(), there, want, words[i]));
      }
    }
    return {};
  }
  static int64_t constraints_of(const Table& table) {
    return std::ranges::count_if(table.parts, [](const Part& part) {
      return part.kind == "CONSTRAINT" || part.kind == "FK CONSTRAINT";
    });
  }

  // Both renames are one: at no moment is there no database of this name.
  Result<void> put_in_place() {
    const std::string aside =
        with_suffix(name_, fmt::format(".old-{}", to_unix_ns(system_clock().now()) / 1'000'000'000));
    Result<void> renamed;
    for (int attempt = 0; attempt < kRenameAttempts; ++attempt) {
      is_in_use_ = false;
      renamed = rename(aside);
      if (renamed || !is_in_use_ || stop_.stop_requested()) break;
    }
    if (!renamed) {
      // Hours of work are not thrown away for a client that came back too early.
      keeps_new_ = true;
      Error error = std::move(renamed).error();
      error.kind = ErrorKind::kRefused;
      error.next = fmt::format(
          "the restored one is whole, as {}: when nobody is in {}, type ALTER DATABASE … RENAME TO … for "
          "both",
          quoted_name(new_name_), quoted_name(name_));
      (void)(*cluster_)->run("COMMENT ON DATABASE " + quoted_name(new_name_) +
                             " IS 'kuramori: restored, to be renamed'");
      return std::move(error).within("give the restored database its name");
    }
    if (into_ == Into::kReplace) outcome_.moved_aside = "the database " + aside;
    return {};
  }

  Result<void> rename(const std::string& aside) {
    TRY((*cluster_)->run("BEGIN"));
    const auto steps = [&]() -> Result<void> {
      if (into_ == Into::kReplace) {
        TRY((*cluster_)->run(
            fmt::format("ALTER DATABASE {} RENAME TO {}", quoted_name(name_), quoted_name(aside))));
      }
      TRY((*cluster_)->run(
          fmt::format("ALTER DATABASE {} RENAME TO {}", quoted_name(new_name_), quoted_name(name_))));
      return (*cluster_)->run(
          fmt::format("COMMENT ON DATABASE {} IS {}", quoted_name(name_),
                      facts_.comment.empty() || only_ ? "NULL" : quoted_literal(facts_.comment)));
    };
    if (auto done = steps(); !done) {
      is_in_use_ = (*cluster_)->sqlstate() == "55006";
      (void)(*cluster_)->run("ROLLBACK");
      return done;
    }
    return (*cluster_)->run("COMMIT");
  }

  void say_what_was_done() {
    auto& notes = outcome_.notes;
    if (only_) {
      std::vector<std::string> names;
      uint64_t rows = 0;
      for (const Table& table : facts_.tables) {
        if (!only_->tables.contains(table.oid)) continue;
        names.push_back(table.full_name());
        rows += table.rows.value_or(0);
      }
      notes.insert(notes.begin(), fmt::format("{} rows in {} tables: {}", rows, names.size(), listed(names)));
    } else {
      uint64_t rows = 0;
      for (const Table& table : facts_.tables) rows += table.rows.value_or(0);
      notes.insert(notes.begin(), fmt::format("{} tables with {} rows", facts_.tables.size(), rows));
    }
    if (!made_roles_.empty()) {
      notes.push_back(
          fmt::format("made the roles {}, which may not log in: globals.sql in the snapshot has their "
                      "{}rights and memberships "
                      "(--only globals.sql --to FOLDER)",
                      listed(made_roles_), facts_.role_passwords ? "passwords, " : ""));
    }
    notes.emplace_back("a dump has no statistics: type ANALYZE in it");
  }

  // --- when it failed --------------------------------------------------------------------------------------

  void undo() {
    database_.reset();
    // A stop has ended our connections; what is cleaned up here is cleaned up after it, too.
    auto cluster = Session::open(target_, name_ == "postgres" ? "template1" : "postgres", {});
    if (!cluster) return;
    if (has_made_database_ && !keeps_new_) {
      (void)(**cluster)->run(fmt::format("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted_name(new_name_)));
    }
    if (!undo_.empty() && !has_made_database_) {
      if (auto database = Session::open(target_, "", {})) {
        for (auto step = undo_.rbegin(); step != undo_.rend(); ++step) (void)(**database)->run(*step);
      }
    }
    if (!keeps_new_)
      for (const std::string& role : made_roles_) (void)(**cluster)->run("DROP ROLE " + quoted_name(role));
  }

  const DumpSettings& settings_;
  const CapturedTree& tree_;
  const SourceRestoreRequest& request_;
  Reporter& reporter_;
  const std::stop_token& stop_;

  SourceRestoreOutcome outcome_;
  DatabaseFacts facts_;
  Conninfo target_;
  std::string name_, new_name_;  // of the database; under which it is made, if it is
  std::optional<WantedEntries> only_;
  Clients clients_;
  std::unique_ptr<Session> cluster_, database_;
  Into into_ = Into::kNew;
  bool with_tablespaces_ = true, has_made_database_ = false, keeps_new_ = false, is_in_use_ = false;
  std::vector<std::string> made_roles_;
  std::vector<std::string> undo_;  // statements in the target database, the last first
};

Result<SourceRestoreOutcome> restore_files(const CapturedTree& tree, const SourceRestoreRequest& request,
                                           Reporter& reporter, const std::stop_token& stop) {
  if (request.overwrite || request.delta) {
    return fail(ErrorKind::kRefused, "a dump's files are written into something new only", "",
                "name a folder that does not exist with --to");
  }
  TRY_ASSIGN(SourceRestoreOutcome outcome, files::write_tree(PrivateTree(tree), request, {}, reporter, stop));
  ++outcome.entries;  // the root, which has become the target
  outcome.notes.emplace_back("README.txt there says what to type to make a database of it");
  return outcome;
}

}  // namespace

Result<SourceRestoreOutcome> restore_dump(const DumpSettings& settings, const CapturedTree& tree,
                                          const SourceRestoreRequest& request, Reporter& reporter,
                                          const std::stop_token& stop) {
  if (request.to.starts_with('/')) return restore_files(tree, request, reporter, stop);
  if (is_url(request.to)) return ServerRestore(settings, tree, request, reporter, stop).run();
  return fail(ErrorKind::kUsage, "the target is neither a folder nor a database", "",
              "give an absolute path, or postgresql://USER@HOST:PORT/NAME (a database that does not exist)");
}

}  // namespace kuramori::dump
