#include <fmt/core.h>

#include <exception>
#include <nlohmann/json.hpp>

#include "source/dump/facts.h"

namespace kuramori::dump {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kFactsVersion = 1;

// A name in an encoding of old (SQL_ASCII) must not cost the snapshot its facts.
Bytes text_of(const Json& json, int indent) {
  return to_bytes(as_bytes(json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n"));
}

Json to_json(const Table& table) {
  Json json = {{"oid", table.oid},        {"schema", table.schema}, {"name", table.name},
               {"quoted", table.quoted},  {"owner", table.owner},   {"kind", std::string(1, table.kind)},
               {"parents", table.parents}};
  if (table.rows)
    json["rows"] = *table.rows;
  else
    json["uncounted"] = table.uncounted;
  json["parts"] = Json::array();
  for (const Part& part : table.parts)
    json["parts"].push_back({part.id.catalog, part.id.oid, part.kind, part.schema, part.name, part.quoted});
  json["foreign_keys"] = Json::array();
  for (const ForeignKey& key : table.foreign_keys) {
    json["foreign_keys"].push_back({{"oid", key.oid},
                                    {"name", key.name},
                                    {"target", {key.target_oid, key.target_schema, key.target_table}},
                                    {"statement", key.statement}});
  }
  json["needs"] = Json::array();
  for (const Need& need : table.needs)
    json["needs"].push_back({need.id.catalog, need.id.oid, need.kind, need.identity});
  json["extensions"] = table.extensions;
  return json;
}

Table table_from(const Json& json) {
  Table table;
  table.oid = json.at("oid");
  table.schema = json.at("schema");
  table.name = json.at("name");
  table.quoted = json.at("quoted");
  table.owner = json.at("owner");
  table.kind = json.at("kind").get<std::string>().at(0);
  table.parents = json.at("parents").get<std::vector<uint32_t>>();
  if (json.contains("rows"))
    table.rows = json.at("rows").get<uint64_t>();
  else
    table.uncounted = json.at("uncounted");
  for (const Json& part : json.at("parts"))
    table.parts.push_back({{part.at(0), part.at(1)}, part.at(2), part.at(3), part.at(4), part.at(5)});
  for (const Json& key : json.at("foreign_keys")) {
    const Json& target = key.at("target");
    table.foreign_keys.push_back(
        {key.at("oid"), key.at("name"), target.at(0), target.at(1), target.at(2), key.at("statement")});
  }
  for (const Json& need : json.at("needs"))
    table.needs.push_back({{need.at(0), need.at(1)}, need.at(2), need.at(3)});
  table.extensions = json.at("extensions").get<std::vector<std::string>>();
  return table;
}

Json to_json(const ObjectCounts& counts) {
  return {{"tables", counts.tables},
          {"indexes", counts.indexes},
          {"constraints", counts.constraints},
          {"triggers", counts.triggers},
          {"views", counts.views},
          {"functions", counts.functions},
          {"sequences", counts.sequences},
          {"large_objects", counts.large_objects},
          {"policies", counts.policies}};
}

ObjectCounts counts_from(const Json& json) {
  ObjectCounts counts;
  counts.tables = json.at("tables");
  counts.indexes = json.at("indexes");
  counts.constraints = json.at("constraints");
  counts.triggers = json.at("triggers");
  counts.views = json.at("views");
  counts.functions = json.at("functions");
  counts.sequences = json.at("sequences");
  counts.large_objects = json.at("large_objects");
  counts.policies = json.at("policies");
  return counts;
}

Json to_json(const std::vector<Extension>& extensions) {
  Json json = Json::array();
  for (const Extension& one : extensions)
    json.push_back({{"name", one.name}, {"version", one.version}, {"schema", one.schema}});
  return json;
}

}  // namespace

Bytes encode_extensions(const DatabaseFacts& facts) {
  return text_of(Json{{"extensions", to_json(facts.extensions)}}, 2);
}

Bytes encode_facts(const DatabaseFacts& facts) {
  Json json = {{"version", kFactsVersion},
               {"database", facts.database},
               {"owner", facts.owner},
               {"encoding", facts.encoding},
               {"collate", facts.collate},
               {"ctype", facts.ctype},
               {"locale_provider", facts.locale_provider},
               {"locale", facts.locale},
               {"comment", facts.comment},
               {"server_version", facts.server_version},
               {"client_version", facts.client_version},
               {"client_major", facts.client_major},
               {"superuser", facts.superuser},
               {"whole", facts.whole},
               {"role_passwords", facts.role_passwords},
               {"standby", facts.standby}};
  json["settings"] = Json::array();
  for (const DatabaseSetting& one : facts.settings)
    json["settings"].push_back({one.role, one.name, one.value});
  json["has_grants"] = facts.has_grants;
  json["grants"] = Json::array();
  for (const Grant& one : facts.grants) json["grants"].push_back({one.grantee, one.privilege, one.grantable});
  json["roles"] = facts.roles;
  json["tablespaces"] = facts.tablespaces;
  json["extensions"] = to_json(facts.extensions);
  json["schemas"] = Json::array();
  for (const Schema& one : facts.schemas) json["schemas"].push_back({one.name, one.owner});
  json["sequences"] = Json::array();
  for (const Sequence& one : facts.sequences) {
    Json sequence = {{"oid", one.oid},   {"table", one.table_oid}, {"schema", one.schema},
                     {"name", one.name}, {"quoted", one.quoted},   {"owner", one.owner}};
    if (one.last) sequence["last"] = *one.last;
    json["sequences"].push_back(std::move(sequence));
  }
  json["counts"] = to_json(facts.counts);
  json["tables"] = Json::array();
  for (const Table& table : facts.tables) json["tables"].push_back(to_json(table));
  return text_of(json, 1);
}

Result<DatabaseFacts> decode_facts(ByteView text) {
  try {
    const Json json = Json::parse(text.begin(), text.end());
    if (const int version = json.at("version").get<int>(); version != kFactsVersion) {
      return fail(
          ErrorKind::kRefused,
          fmt::format("database.json is of version {}, this program knows {}", version, kFactsVersion),
          "a newer program made this snapshot", "use that one");
    }
    DatabaseFacts facts;
    facts.database = json.at("database");
    facts.owner = json.at("owner");
    facts.encoding = json.at("encoding");
    facts.collate = json.at("collate");
    facts.ctype = json.at("ctype");
    facts.locale_provider = json.at("locale_provider");
    facts.locale = json.at("locale");
    facts.comment = json.at("comment");
    facts.server_version = json.at("server_version");
    facts.client_version = json.at("client_version");
    facts.client_major = json.at("client_major");
    facts.superuser = json.at("superuser");
    facts.whole = json.at("whole");
    facts.role_passwords = json.at("role_passwords");
    facts.standby = json.at("standby");
    for (const Json& one : json.at("settings")) facts.settings.push_back({one.at(0), one.at(1), one.at(2)});
    facts.has_grants = json.at("has_grants");
    for (const Json& one : json.at("grants")) facts.grants.push_back({one.at(0), one.at(1), one.at(2)});
    facts.roles = json.at("roles").get<std::vector<std::string>>();
    facts.tablespaces = json.at("tablespaces").get<std::vector<std::string>>();
    for (const Json& one : json.at("extensions"))
      facts.extensions.push_back({one.at("name"), one.at("version"), one.at("schema")});
    for (const Json& one : json.at("schemas")) facts.schemas.push_back({one.at(0), one.at(1)});
    for (const Json& one : json.at("sequences")) {
      Sequence sequence{one.at("oid"),
                        one.at("table"),
                        one.at("schema"),
                        one.at("name"),
                        one.at("quoted"),
                        one.at("owner"),
                        {}};
      if (one.contains("last")) sequence.last = one.at("last").get<int64_t>();
      facts.sequences.push_back(std::move(sequence));
    }
    facts.counts = counts_from(json.at("counts"));
    for (const Json& table : json.at("tables")) facts.tables.push_back(table_from(table));
    return facts;
  } catch (const std::exception& problem) {
    return fail(ErrorKind::kDamaged, "database.json cannot be read", problem.what(),
                "the dump itself may be whole: restore into a folder, and use pg_restore");
  }
}

}  // namespace kuramori::dump
