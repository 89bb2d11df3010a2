// What a snapshot says of its database beside the dump: how to make it again under another name, whose it is,
// what it needs, how many rows each table had, and what of the dump belongs to which table.
//
// All of it is read in the transaction that exports the snapshot the dump is made of, so it speaks of the
// same moment. Two things have no moment: sequences, which PostgreSQL never takes back, and roles.
//
// What belongs to a table is kept by the catalog's own numbers, which pg_restore lists as well: no name is
// ever parsed, and a name may hold anything (S10).
#pragma once
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "source/postgres/connection.h"

namespace kuramori::dump {

constexpr size_t kFactsBytesMax = size_t{512} << 20;  // of the encoded form

// An object of the catalog: which of its tables, and the row's number.
struct ObjectId {
  uint32_t catalog = 0, oid = 0;
  auto operator<=>(const ObjectId&) const = default;
};

struct DatabaseSetting {
  std::string role;  // "": of everyone
  std::string name, value;
};

struct Grant {
  std::string grantee;  // "": PUBLIC
  std::string privilege;
  bool grantable = false;
};

struct Extension {
  std::string name, version, schema;
};

struct Schema {
  std::string name, owner;
};

// Of a table: an index, a constraint, a trigger …
struct Part {
  ObjectId id;
  // As pg_dump calls it: "INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "STATISTICS",
  // "DEFAULT"; and "NOT NULL", which PostgreSQL 18 keeps as a constraint and older ones do not.
  std::string kind;
  std::string schema, name, quoted;  // `quoted` as the server writes it inside SQL
};

struct ForeignKey {
  uint32_t oid = 0;
  std::string name;
  uint32_t target_oid = 0;
  std::string target_schema, target_table;
  std::string statement;  // that makes it again
};

// What a table refers to and does not own: a type, a function, a sequence.
struct Need {
  ObjectId id;
  std::string kind;      // "type", "function", "sequence" …
  std::string identity;  // "public.mood"
};

struct Sequence {
  uint32_t oid = 0, table_oid = 0;  // 0: of no table
  std::string schema, name, quoted, owner;
  std::optional<int64_t> last;  // none: never used, or not for us to see
};

struct Table {
  uint32_t oid = 0;
  std::string schema, name, quoted, owner;
  char kind = 'r';                // of pg_class: r, p (partitioned), m (materialised view), f (foreign)
  std::vector<uint32_t> parents;  // it is a partition of, or inherits from
  std::optional<uint64_t> rows;
  std::string uncounted;  // why there are no rows
  std::vector<Part> parts;
  std::vector<ForeignKey> foreign_keys;
  std::vector<Need> needs;
  std::vector<std::string> extensions;  // it uses
  std::string full_name() const { return schema + "." + name; }
};

// What a whole database has, so that a restored one can be held to it.
struct ObjectCounts {
  uint64_t tables = 0, indexes = 0, constraints = 0, triggers = 0, views = 0, functions = 0, sequences = 0;
  uint64_t large_objects = 0, policies = 0;
  bool operator==(const ObjectCounts&) const = default;
};

struct DatabaseFacts {
  std::string database, owner, encoding, collate, ctype, locale_provider, locale, comment;
  uint32_t server_version = 0;  // 150018
  std::string client_version;   // of the pg_dump that was run: "15.18"
  int client_major = 0;
  std::string superuser;        // the cluster's first role
  bool whole = true;            // else only the tables below
  bool role_passwords = false;  // whether globals.sql has them
  bool standby = false;
  std::vector<DatabaseSetting> settings;
  bool has_grants = false;  // else the database's are the default ones
  std::vector<Grant> grants;
  std::vector<std::string> roles;  // owners, and who was granted something
  std::vector<std::string> tablespaces;
  std::vector<Extension> extensions;
  std::vector<Schema> schemas;
  std::vector<Table> tables;
  std::vector<Sequence> sequences;
  ObjectCounts counts;

  int server_major() const { return static_cast<int>(server_version / 10000); }
  const Table* table(uint32_t oid) const;
};

// The tables of the database we are connected to, or those of `wanted` with their partitions; names and oids
// alone. kUsage: one of `wanted` is not there, or several are.
Result<std::vector<Table>> list_tables(postgres::Connection& connection,
                                       const std::vector<std::string>& wanted);
// Fills in the rest but rows. `tables` are of the same transaction.
Result<DatabaseFacts> read_facts(postgres::Connection& connection, std::vector<Table> tables, bool whole);
// Counts the rows of each table in the connection's transaction, whatever locks that takes being given back.
Result<void> count_rows(postgres::Connection& connection, DatabaseFacts& facts, const std::stop_token& stop);
// Of the whole database; its own, none of extensions.
Result<ObjectCounts> count_objects(postgres::Connection& connection);

Bytes encode_facts(const DatabaseFacts& facts);       // JSON
Bytes encode_extensions(const DatabaseFacts& facts);  // JSON, for people
Result<DatabaseFacts> decode_facts(ByteView text);    // kDamaged

}  // namespace kuramori::dump
