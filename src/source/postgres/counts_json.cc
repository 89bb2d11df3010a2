#include <nlohmann/json.hpp>

#include "source/postgres/counts.h"

namespace kuramori::postgres {
namespace {

constexpr int kCountsVersion = 1;
using Json = nlohmann::json;

Json to_json(const TableCount& table) {
  Json json = {{"schema", table.schema},   {"table", table.table},       {"oid", table.oid},
               {"bytes", table.bytes},     {"inserted", table.inserted}, {"updated", table.updated},
               {"deleted", table.deleted}, {"touched", table.touched},   {"file", table.file_number}};
  if (table.rows) {
    json["rows"] = *table.rows;
  } else {
    json["uncounted"] = table.uncounted;
  }
  return json;
}

TableCount table_from(const Json& json) {
  TableCount table;
  table.schema = json.at("schema").get<std::string>();
  table.table = json.at("table").get<std::string>();
  table.oid = json.at("oid").get<uint32_t>();
  table.bytes = json.at("bytes").get<uint64_t>();
  table.inserted = json.at("inserted").get<int64_t>();
  table.updated = json.at("updated").get<int64_t>();
  table.deleted = json.at("deleted").get<int64_t>();
  table.touched = json.at("touched").get<bool>();
  table.file_number = json.value("file", 0u);  // earlier counts lack it
  if (json.contains("rows")) {
    table.rows = json.at("rows").get<uint64_t>();
  } else {
    table.uncounted = json.at("uncounted").get<std::string>();
  }
  return table;
}

}  // namespace

Bytes encode_counts(const Counts& counts) {
  Json json = {{"version", kCountsVersion},
               {"taken_ns", counts.taken_ns},
               {"restore_point", counts.restore_point},
               {"restore_point_lsn", format_lsn(counts.restore_point_lsn)},
               {"databases", Json::array()}};
  for (const DatabaseCounts& database : counts.databases) {
    Json one = {{"name", database.name},           {"oid", database.oid},
                {"snapshot", database.snapshot},   {"exact", database.exact},
                {"uncounted", database.uncounted}, {"tables", Json::array()}};
    for (const TableCount& table : database.tables) one["tables"].push_back(to_json(table));
    json["databases"].push_back(std::move(one));
  }
  // A name in an encoding of old (SQL_ASCII) must not cost the snapshot its counts.
  return to_bytes(as_bytes(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

Result<Counts> decode_counts(ByteView text) {
  if (text.size() > kCountsBytesMax) return fail(ErrorKind::kDamaged, "row counts of an impossible size");
  try {
    const Json json = Json::parse(text.begin(), text.end());
    if (const int version = json.at("version").get<int>(); version != kCountsVersion) {
      return fail(ErrorKind::kRefused,
                  fmt::format("row counts of version {}, this program knows {}", version, kCountsVersion));
    }
    Counts counts;
    counts.taken_ns = json.at("taken_ns").get<int64_t>();
    counts.restore_point = json.at("restore_point").get<std::string>();
    TRY_ASSIGN(counts.restore_point_lsn, parse_lsn(json.at("restore_point_lsn").get<std::string>()));
    for (const Json& one : json.at("databases")) {
      DatabaseCounts database;
      database.name = one.at("name").get<std::string>();
      database.oid = one.value("oid", 0u);
      database.snapshot = one.at("snapshot").get<std::string>();
      database.exact = one.at("exact").get<bool>();
      database.uncounted = one.at("uncounted").get<std::string>();
      for (const Json& table : one.at("tables")) database.tables.push_back(table_from(table));
      counts.databases.push_back(std::move(database));
    }
    return counts;
  } catch (const std::exception& problem) {
    return fail(ErrorKind::kDamaged, "the row counts cannot be read", problem.what());
  }
}

}  // namespace kuramori::postgres
