#include "source/dump/facts.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

namespace kuramori::dump {
namespace {

using postgres::Connection;
using postgres::QueryResult;

// Of a row `n` of pg_namespace and an object `x` of `catalog`: the database's own, not PostgreSQL's, not a
// session's, not an extension's.
std::string own_object(std::string_view catalog) {
  return fmt::format(
      "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend e "
      "WHERE e.classid = '{}'::regclass AND e.objid = x.oid AND e.deptype = 'e')",
      catalog);
}

uint32_t oid_at(const QueryResult& rows, size_t row, size_t column) {
  const auto number = rows.number(row, column);
  return number ? static_cast<uint32_t>(*number) : 0;
}

std::string text_at(const QueryResult& rows, size_t row, size_t column) {
  return std::string(rows.text(row, column));
}

// "{1,2,3}"
std::string oid_list(const std::vector<Table>& tables) {
  std::string list = "{";
  for (const Table& table : tables) list += fmt::format("{}{}", list.size() > 1 ? "," : "", table.oid);
  return list + "}";
}

// "public.users", "users", with names quoted or not; in lower letters where it is not there as it stands.
std::vector<size_t> matches(const std::vector<Table>& tables, const std::vector<std::string>& full_quoted,
                            const std::string& word) {
  std::vector<size_t> whole, bare_public, bare;
  for (size_t i = 0; i < tables.size(); ++i) {
    const Table& table = tables[i];
    if (table.full_name() == word || full_quoted[i] == word) whole.push_back(i);
    if (table.name != word && table.quoted != word) continue;
    bare.push_back(i);
    if (table.schema == "public") bare_public.push_back(i);
  }
  if (!whole.empty()) return whole;
  return bare_public.empty() ? bare : bare_public;
}

Result<std::set<size_t>> choose(const std::vector<Table>& tables, const std::vector<std::string>& full_quoted,
                                const std::vector<std::string>& wanted) {
  std::set<size_t> chosen;
  for (const std::string& word : wanted) {
    std::vector<size_t> found = matches(tables, full_quoted, word);
    if (found.empty()) {
      std::string lower = word;
      std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
      found = matches(tables, full_quoted, lower);
    }
    if (found.empty()) {
      return fail(ErrorKind::kUsage, fmt::format("there is no table {}", word),
                  fmt::format("the database has {} tables that we can see", tables.size()),
                  "write schema.table as psql's \\dt shows it, or remove it from `tables`");
    }
    if (found.size() > 1) {
      return fail(ErrorKind::kUsage, fmt::format("there are {} tables {}", found.size(), word),
                  fmt::format("{} and {}", tables[found[0]].full_name(), tables[found[1]].full_name()),
                  "write schema.table");
    }
    chosen.insert(found[0]);
  }
  return chosen;
}

Result<void> read_database(Connection& connection, DatabaseFacts& facts) {
  const uint32_t major = connection.major();
  const std::string locale = major >= 17 ? "datlocale" : major >= 15 ? "daticulocale" : "NULL::text";
  TRY_ASSIGN(
      const QueryResult row,
      connection.query(fmt::format(
          "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, "
          "{}, {}, shobj_description(oid, 'pg_database'), datacl IS NOT NULL, pg_is_in_recovery(), "
          "(SELECT rolname FROM pg_roles r WHERE r.oid = 10) "
          "FROM pg_database WHERE datname = current_database()",
          major >= 15 ? "datlocprovider" : "'c'", locale)));
  if (row.rows() != 1) return fail(ErrorKind::kFailed, "the database does not know itself");
  facts.database = text_at(row, 0, 0);
  facts.owner = text_at(row, 0, 1);
  facts.encoding = text_at(row, 0, 2);
  facts.collate = text_at(row, 0, 3);
  facts.ctype = text_at(row, 0, 4);
  facts.locale_provider = text_at(row, 0, 5);
  facts.locale = text_at(row, 0, 6);
  facts.comment = text_at(row, 0, 7);
  facts.has_grants = row.is_true(0, 8);
  facts.standby = row.is_true(0, 9);
  facts.superuser = text_at(row, 0, 10);
  facts.server_version = connection.server_version();

  TRY_ASSIGN(const QueryResult settings,
             connection.query("SELECT coalesce(r.rolname, ''), split_part(c, '=', 1), "
                              "substr(c, strpos(c, '=') + 1) FROM pg_db_role_setting s "
                              "LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c "
                              "WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = "
                              "current_database()) ORDER BY 1, 2"));
  for (size_t i = 0; i < settings.rows(); ++i)
    facts.settings.push_back({text_at(settings, i, 0), text_at(settings, i, 1), text_at(settings, i, 2)});

  TRY_ASSIGN(const QueryResult grants,
             connection.query("SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable "
                              "FROM pg_database d, aclexplode(d.datacl) a "
                              "LEFT JOIN pg_roles r ON r.oid = a.grantee "
                              "WHERE d.datname = current_database() AND (a.grantee = 0 OR r.oid IS NOT NULL) "
                              "ORDER BY 1, 2"));
  for (size_t i = 0; i < grants.rows(); ++i)
    facts.grants.push_back({text_at(grants, i, 0), text_at(grants, i, 1), grants.is_true(i, 2)});
  return {};
}

// What the database needs of its cluster.
Result<void> read_surroundings(Connection& connection, DatabaseFacts& facts) {
  TRY_ASSIGN(
      const QueryResult roles,
      connection.query(
          "SELECT DISTINCT r.rolname FROM pg_roles r WHERE r.oid IN ("
          "SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND (dbid = (SELECT "
          "oid FROM pg_database WHERE datname = current_database()) OR (classid = 'pg_database'::regclass "
          "AND objid = (SELECT oid FROM pg_database WHERE datname = current_database()))) "
          "UNION SELECT datdba FROM pg_database WHERE datname = current_database() "
          "UNION SELECT relowner FROM pg_class UNION SELECT nspowner FROM pg_namespace "
          "UNION SELECT proowner FROM pg_proc UNION SELECT typowner FROM pg_type "
          "UNION SELECT lomowner FROM pg_largeobject_metadata) AND r.rolname !~ '^pg_' ORDER BY 1"));
  for (size_t i = 0; i < roles.rows(); ++i) facts.roles.push_back(text_at(roles, i, 0));
  for (const DatabaseSetting& setting : facts.settings) {
    if (!setting.role.empty() && std::ranges::count(facts.roles, setting.role) == 0)
      facts.roles.push_back(setting.role);
  }
  TRY_ASSIGN(const QueryResult spaces,
             connection.query("SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = "
                              "c.reltablespace WHERE t.spcname !~ '^pg_' ORDER BY 1"));
  for (size_t i = 0; i < spaces.rows(); ++i) facts.tablespaces.push_back(text_at(spaces, i, 0));
  TRY_ASSIGN(
      const QueryResult extensions,
      connection.query("SELECT extname, extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON "
                       "n.oid = e.extnamespace ORDER BY 1"));
  for (size_t i = 0; i < extensions.rows(); ++i)
    facts.extensions.push_back(
        {text_at(extensions, i, 0), text_at(extensions, i, 1), text_at(extensions, i, 2)});
  TRY_ASSIGN(const QueryResult schemas,
             connection.query("SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname <> "
                              "'information_schema' AND nspname !~ '^pg_' ORDER BY 1"));
  for (size_t i = 0; i < schemas.rows(); ++i)
    facts.schemas.push_back({text_at(schemas, i, 0), text_at(schemas, i, 1)});
  return {};
}

Result<void> read_sequences(Connection& connection, DatabaseFacts& facts) {
  TRY_ASSIGN(
      const QueryResult rows,
      connection.query(fmt::format(
          "SELECT x.oid, coalesce(d.refobjid, 0), n.nspname, x.relname, quote_ident(x.relname), "
          "pg_get_userbyid(x.relowner), CASE WHEN has_sequence_privilege(x.oid, 'SELECT') THEN "
          "pg_sequence_last_value(x.oid) END FROM pg_class x JOIN pg_namespace n ON n.oid = x.relnamespace "
          "LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = x.oid AND d.refclassid = "
          "'pg_class'::regclass AND d.deptype IN ('a', 'i') WHERE x.relkind = 'S' AND x.relpersistence <> "
          "'t' "
          "{} AND {} ORDER BY 3, 4",
          facts.standby ? "AND x.relpersistence <> 'u'" : "", own_object("pg_class"))));
  for (size_t i = 0; i < rows.rows(); ++i) {
    Sequence one{.oid = oid_at(rows, i, 0),
                 .table_oid = oid_at(rows, i, 1),
                 .schema = text_at(rows, i, 2),
                 .name = text_at(rows, i, 3),
                 .quoted = text_at(rows, i, 4),
                 .owner = text_at(rows, i, 5)};
    if (!rows.is_null(i, 6)) {
      TRY_ASSIGN(one.last, rows.number(i, 6));
    }
    if (facts.whole || facts.table(one.table_oid) != nullptr) facts.sequences.push_back(std::move(one));
  }
  return {};
}

constexpr std::string_view kPartsQuery =
    "SELECT i.indrelid, 'pg_class'::regclass::oid, c.oid, 'INDEX', n.nspname, c.relname, "
    "quote_ident(c.relname) "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE i.indrelid = ANY($1::oid[]) "
    "UNION ALL SELECT conrelid, 'pg_constraint'::regclass::oid, oid, CASE contype WHEN 'f' THEN 'FK "
    "CONSTRAINT' "
    "WHEN 'n' THEN 'NOT NULL' ELSE 'CONSTRAINT' END, '', conname, quote_ident(conname) FROM pg_constraint "
    "WHERE conrelid = "
    "ANY($1::oid[]) "
    "UNION ALL SELECT tgrelid, 'pg_trigger'::regclass::oid, oid, 'TRIGGER', '', tgname, quote_ident(tgname) "
    "FROM pg_trigger WHERE tgrelid = ANY($1::oid[]) AND NOT tgisinternal AND tgparentid = 0 "
    "UNION ALL SELECT ev_class, 'pg_rewrite'::regclass::oid, oid, 'RULE', '', rulename, "
    "quote_ident(rulename) "
    "FROM pg_rewrite WHERE ev_class = ANY($1::oid[]) "
    "UNION ALL SELECT polrelid, 'pg_policy'::regclass::oid, oid, 'POLICY', '', polname, quote_ident(polname) "
    "FROM pg_policy WHERE polrelid = ANY($1::oid[]) "
    "UNION ALL SELECT s.stxrelid, 'pg_statistic_ext'::regclass::oid, s.oid, 'STATISTICS', n.nspname, "
    "s.stxname, "
    "quote_ident(s.stxname) FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE "
    "s.stxrelid = ANY($1::oid[]) "
    "UNION ALL SELECT adrelid, 'pg_attrdef'::regclass::oid, oid, 'DEFAULT', '', '', '' FROM pg_attrdef WHERE "
    "adrelid = ANY($1::oid[]) ORDER BY 1, 2, 3";

// From each table and its parts, whatever they refer to, and what that refers to: types, functions, and
// sequences. `root` is the table.
constexpr std::string_view kNeedsWith =
    "WITH RECURSIVE root(root, classid, objid) AS ("
    "SELECT o, 'pg_class'::regclass::oid, o FROM unnest($1::oid[]) o "
    "UNION ALL SELECT adrelid, 'pg_attrdef'::regclass::oid, oid FROM pg_attrdef WHERE adrelid = "
    "ANY($1::oid[]) "
    "UNION ALL SELECT conrelid, 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE conrelid = "
    "ANY($1::oid[]) AND contype <> 'f' "
    "UNION ALL SELECT tgrelid, 'pg_trigger'::regclass::oid, oid FROM pg_trigger WHERE tgrelid = "
    "ANY($1::oid[]) "
    "AND NOT tgisinternal AND tgparentid = 0 "
    "UNION ALL SELECT polrelid, 'pg_policy'::regclass::oid, oid FROM pg_policy WHERE polrelid = "
    "ANY($1::oid[]) "
    "UNION ALL SELECT indrelid, 'pg_class'::regclass::oid, indexrelid FROM pg_index WHERE indrelid = "
    "ANY($1::oid[])), "
    "d(root, classid, objid) AS (SELECT root, classid, objid FROM root UNION "
    "SELECT d.root, p.refclassid, p.refobjid FROM d JOIN pg_depend p ON p.classid = d.classid AND p.objid = "
    "d.objid WHERE p.refobjid >= 16384 AND p.deptype IN ('n', 'i', 'a') AND (p.refclassid IN "
    "('pg_type'::regclass, 'pg_proc'::regclass) OR (p.refclassid = 'pg_class'::regclass AND EXISTS (SELECT "
    "FROM "
    "pg_class s WHERE s.oid = p.refobjid AND s.relkind = 'S')))) ";

Result<void> read_parts(Connection& connection, DatabaseFacts& facts) {
  const std::string oids = oid_list(facts.tables);
  std::map<uint32_t, Table*> by_oid;
  for (Table& table : facts.tables) by_oid[table.oid] = &table;
  const auto table_at = [&](const QueryResult& rows, size_t row) -> Table* {
    const auto found = by_oid.find(oid_at(rows, row, 0));
    return found == by_oid.end() ? nullptr : found->second;
  };

  TRY_ASSIGN(const QueryResult parts, connection.query(std::string(kPartsQuery), {oids}));
  for (size_t i = 0; i < parts.rows(); ++i) {
    Table* table = table_at(parts, i);
    if (table == nullptr) continue;
    table->parts.push_back({.id = {oid_at(parts, i, 1), oid_at(parts, i, 2)},
                            .kind = text_at(parts, i, 3),
                            .schema = parts.text(i, 4).empty() ? table->schema : text_at(parts, i, 4),
                            .name = text_at(parts, i, 5),
                            .quoted = text_at(parts, i, 6)});
  }
  TRY_ASSIGN(
      const QueryResult keys,
      connection.query("SELECT k.conrelid, k.oid, k.conname, k.confrelid, n.nspname, c.relname, "
                       "format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, "
                       "pg_get_constraintdef(k.oid)) FROM pg_constraint k JOIN pg_class c ON c.oid = "
                       "k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.conrelid = "
                       "ANY($1::oid[]) AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2",
                       {oids}));
  for (size_t i = 0; i < keys.rows(); ++i) {
    if (Table* table = table_at(keys, i); table != nullptr) {
      table->foreign_keys.push_back({oid_at(keys, i, 1), text_at(keys, i, 2), oid_at(keys, i, 3),
                                     text_at(keys, i, 4), text_at(keys, i, 5), text_at(keys, i, 6)});
    }
  }
  TRY_ASSIGN(
      const QueryResult needs,
      connection.query(std::string(kNeedsWith) +
                           "SELECT d.root, d.classid, d.objid, i.type, i.identity FROM d, "
                           "pg_identify_object(d.classid, d.objid, 0) i WHERE NOT EXISTS (SELECT FROM root r "
                           "WHERE r.classid = d.classid AND r.objid = d.objid) AND NOT EXISTS (SELECT FROM "
                           "pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = "
                           "'e') AND i.identity IS NOT NULL ORDER BY 1, 2, 3",
                       {oids}));
  for (size_t i = 0; i < needs.rows(); ++i) {
    Table* table = table_at(needs, i);
    const ObjectId id{oid_at(needs, i, 1), oid_at(needs, i, 2)};
    const bool is_own = std::ranges::any_of(facts.sequences, [&](const Sequence& sequence) {
      return table != nullptr && sequence.oid == id.oid && sequence.table_oid == table->oid;
    });
    if (table != nullptr && !is_own) table->needs.push_back({id, text_at(needs, i, 3), text_at(needs, i, 4)});
  }
  TRY_ASSIGN(
      const QueryResult extensions,
      connection.query(std::string(kNeedsWith) +
                           "SELECT DISTINCT d.root, x.extname FROM d JOIN pg_depend p ON p.classid = "
                           "d.classid AND p.objid = d.objid JOIN pg_depend e ON e.classid = p.refclassid "
                           "AND e.objid = p.refobjid AND e.deptype = 'e' AND e.refclassid = "
                           "'pg_extension'::regclass JOIN pg_extension x ON x.oid = e.refobjid ORDER BY 1, 2",
                       {oids}));
  for (size_t i = 0; i < extensions.rows(); ++i) {
    if (Table* table = table_at(extensions, i); table != nullptr)
      table->extensions.push_back(text_at(extensions, i, 1));
  }
  return {};
}

}  // namespace

const Table* DatabaseFacts::table(uint32_t oid) const {
  const auto found = std::ranges::find_if(tables, [&](const Table& table) { return table.oid == oid; });
  return found == tables.end() ? nullptr : &*found;
}

Result<std::vector<Table>> list_tables(Connection& connection, const std::vector<std::string>& wanted) {
  TRY_ASSIGN(
      const QueryResult rows,
      connection.query(fmt::format(
          "SELECT x.oid, n.nspname, x.relname, quote_ident(x.relname), pg_get_userbyid(x.relowner), "
          "x.relkind, quote_ident(n.nspname) || '.' || quote_ident(x.relname), CASE WHEN x.relkind = 'f' "
          "THEN 'its rows are another server''s' WHEN x.relkind = 'm' AND NOT x.relispopulated THEN 'it was "
          "never filled' WHEN x.relpersistence = 'u' AND pg_is_in_recovery() THEN 'it is unlogged, and a "
          "standby has none of it' END FROM pg_class x JOIN pg_namespace n ON n.oid = x.relnamespace WHERE "
          "x.relkind IN ('r', 'p', 'm', 'f') AND x.relpersistence <> 't' AND {} ORDER BY 2, 3",
          own_object("pg_class"))));
  TRY_ASSIGN(const QueryResult inherits,
             connection.query("SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = "
                              "i.inhrelid WHERE c.relkind IN ('r', 'p', 'f') ORDER BY 1, 2"));
  std::vector<Table> tables;
  std::vector<std::string> full_quoted;
  std::map<uint32_t, size_t> by_oid;
  for (size_t i = 0; i < rows.rows(); ++i) {
    by_oid[oid_at(rows, i, 0)] = tables.size();
    tables.push_back({.oid = oid_at(rows, i, 0),
                      .schema = text_at(rows, i, 1),
                      .name = text_at(rows, i, 2),
                      .quoted = text_at(rows, i, 3),
                      .owner = text_at(rows, i, 4),
                      .kind = rows.text(i, 5)[0],
                      .uncounted = text_at(rows, i, 7)});
    full_quoted.push_back(text_at(rows, i, 6));
  }
  std::multimap<uint32_t, size_t> children;
  for (size_t i = 0; i < inherits.rows(); ++i) {
    const auto child = by_oid.find(oid_at(inherits, i, 0));
    if (child == by_oid.end()) continue;
    tables[child->second].parents.push_back(oid_at(inherits, i, 1));
    children.emplace(oid_at(inherits, i, 1), child->second);
  }
  if (wanted.empty()) return tables;
  TRY_ASSIGN(std::set<size_t> chosen, choose(tables, full_quoted, wanted));
  // A table's rows are also those of its partitions.
  std::vector<size_t> open(chosen.begin(), chosen.end());
  while (!open.empty()) {
    const uint32_t parent = tables[open.back()].oid;
    open.pop_back();
    const auto [from, to] = children.equal_range(parent);
    for (auto at = from; at != to; ++at)
      if (chosen.insert(at->second).second) open.push_back(at->second);
  }
  std::vector<Table> out;
  for (const size_t i : chosen) out.push_back(std::move(tables[i]));
  return out;
}

Result<DatabaseFacts> read_facts(Connection& connection, std::vector<Table> tables, bool whole) {
  DatabaseFacts facts;
  facts.whole = whole;
  facts.tables = std::move(tables);
  TRY(read_database(connection, facts));
  TRY(read_surroundings(connection, facts));
  TRY(read_sequences(connection, facts));
  TRY(read_parts(connection, facts));
  if (whole) {
    TRY_ASSIGN(facts.counts, count_objects(connection));
  }
  return facts;
}

Result<void> count_rows(Connection& connection, DatabaseFacts& facts, const std::stop_token& stop) {
  for (Table& table : facts.tables) {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    if (!table.uncounted.empty()) continue;
    if (table.kind == 'p') {
      table.uncounted = "its rows are its partitions'";
      continue;
    }
    // Planning a count locks the table's indexes, too: of thousands of tables that would be more locks than a
    // server has.
    TRY(connection.run("SAVEPOINT one_table"));
    const auto rows =
        connection.query(fmt::format("SELECT count(*) FROM ONLY {}.{}", connection.quoted_name(table.schema),
                                     connection.quoted_name(table.name)));
    if (!rows) return Error(rows.error()).within(fmt::format("count the rows of {}", table.full_name()));
    TRY_ASSIGN(const int64_t number, rows->number(0, 0));
    table.rows = static_cast<uint64_t>(number);
    TRY(connection.run("ROLLBACK TO SAVEPOINT one_table"));
    TRY(connection.run("RELEASE SAVEPOINT one_table"));
  }
  return {};
}

Result<ObjectCounts> count_objects(Connection& connection) {
  const std::string relations =
      "FROM pg_class x JOIN pg_namespace n ON n.oid = x.relnamespace WHERE "
      "x.relpersistence <> 't' AND " +
      own_object("pg_class");
  const std::string of_relations = fmt::format("IN (SELECT x.oid {})", relations);
  // What is internal or comes with the version (constraints for NOT NULL from 18 on) is not counted.
  TRY_ASSIGN(
      const QueryResult row,
      connection.query(fmt::format(
          "SELECT (SELECT count(*) {0} AND x.relkind IN ('r', 'p', 'f')), (SELECT count(*) {0} AND x.relkind "
          "IN "
          "('i', 'I')), (SELECT count(*) FROM pg_constraint WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND "
          "conrelid {1}), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 AND "
          "tgrelid {1}), (SELECT "
          "count(*) {0} AND x.relkind IN ('v', 'm')), (SELECT count(*) FROM pg_proc x JOIN pg_namespace n ON "
          "n.oid = x.pronamespace WHERE {2}), (SELECT count(*) {0} AND x.relkind = 'S'), (SELECT count(*) "
          "FROM "
          "pg_largeobject_metadata), (SELECT count(*) FROM pg_policy WHERE polrelid {1})",
          relations, of_relations, own_object("pg_proc"))));
  ObjectCounts counts;
  size_t column = 0;
  for (uint64_t* into :
       {&counts.tables, &counts.indexes, &counts.constraints, &counts.triggers, &counts.views,
        &counts.functions, &counts.sequences, &counts.large_objects, &counts.policies}) {
    TRY_ASSIGN(const int64_t number, row.number(0, column++));
    *into = static_cast<uint64_t>(number);
  }
  return counts;
}

}  // namespace kuramori::dump
