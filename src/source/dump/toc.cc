#include "source/dump/toc.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace kuramori::dump {
namespace {

// "2985; 1259 16387 TABLE public users app"
struct Entry {
  uint32_t number = 0;
  ObjectId id;
  std::string_view rest;  // "TABLE public users app"
};

std::optional<uint32_t> take_number(std::string_view& text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  uint32_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

std::optional<Entry> parse(std::string_view line) {
  const auto number = take_number(line);
  if (!number || !line.starts_with(';')) return std::nullopt;
  line.remove_prefix(1);
  const auto catalog = take_number(line), oid = take_number(line);
  if (!catalog || !oid || !line.starts_with(' ')) return std::nullopt;
  return Entry{*number, {*catalog, *oid}, line.substr(1)};
}

// pg_restore lists a name with its line breaks as blanks.
std::string as_listed(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '\r', ' ');
  return text;
}

// Entries that have no number of the catalog are known by their words: the whole line, or how it begins.
class Words {
 public:
  void add(const std::string& words) { whole_.insert(as_listed(words)); }
  void add_beginning(const std::string& words) { beginnings_.push_back(as_listed(words)); }
  bool have(std::string_view rest) const {
    if (whole_.contains(rest)) return true;
    return std::ranges::any_of(beginnings_,
                               [&](const std::string& begin) { return rest.starts_with(begin); });
  }

 private:
  std::set<std::string, std::less<>> whole_;
  std::vector<std::string> beginnings_;
};

constexpr std::string_view kRemarks[] = {"COMMENT", "ACL", "SECURITY LABEL"};

void add_remarks(Words& words, const std::string& schema, const std::string& tag, const std::string& owner) {
  for (const std::string_view kind : kRemarks)
    words.add(fmt::format("{} {} {} {}", kind, schema, tag, owner));
}

std::string always_quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

void add_table(Words& words, const Table& table) {
  words.add(fmt::format("TABLE ATTACH {} {} {}", table.schema, table.name, table.owner));
  // The program and the server may disagree on which words are to be quoted.
  for (const std::string& name : {table.quoted, always_quoted(table.name)}) {
    for (const std::string_view kind : {"TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE"})
      add_remarks(words, table.schema, fmt::format("{} {}", kind, name), table.owner);
    for (const std::string_view kind : kRemarks)
      words.add_beginning(fmt::format("{} {} COLUMN {}.", kind, table.schema, name));
    for (const Part& part : table.parts) {
      const bool is_constraint = part.kind == "FK CONSTRAINT" || part.kind == "NOT NULL";
      const std::string_view kind = is_constraint ? "CONSTRAINT" : std::string_view(part.kind);
      add_remarks(words, part.schema, fmt::format("{} {}", kind, part.quoted), table.owner);
      add_remarks(words, part.schema, fmt::format("{} {} ON {}", kind, part.quoted, name), table.owner);
    }
  }
  for (const Part& part : table.parts)
    if (part.kind == "INDEX")
      words.add(fmt::format("INDEX ATTACH {} {} {}", part.schema, part.name, table.owner));
}

void add_sequence(Words& words, const Sequence& one, bool with_owner_table) {
  words.add(fmt::format("SEQUENCE SET {} {} {}", one.schema, one.name, one.owner));
  if (with_owner_table) words.add(fmt::format("SEQUENCE OWNED BY {} {} {}", one.schema, one.name, one.owner));
  for (const std::string& name : {one.quoted, always_quoted(one.name)})
    add_remarks(words, one.schema, fmt::format("SEQUENCE {}", name), one.owner);
}

}  // namespace

std::string choose_entries(std::string_view listing, const DatabaseFacts& facts,
                           const WantedEntries& wanted) {
  std::set<ObjectId> ids = wanted.besides;
  std::set<uint32_t> relations = wanted.tables;  // as pg_dump numbers what a table has once: its rows
  constexpr uint32_t kOfRelations = 1259;        // pg_class has this number everywhere
  Words words;
  for (const Table& table : facts.tables) {
    if (!wanted.tables.contains(table.oid)) continue;
    ids.insert({kOfRelations, table.oid});
    for (const Part& part : table.parts) ids.insert(part.id);
    add_table(words, table);
  }
  for (const Sequence& one : facts.sequences) {
    const bool is_owned = wanted.tables.contains(one.table_oid);
    if (!is_owned && !wanted.besides.contains({kOfRelations, one.oid})) continue;
    ids.insert({kOfRelations, one.oid});
    add_sequence(words, one, is_owned);
  }
  std::string chosen;
  while (!listing.empty()) {
    const size_t end = std::min(listing.find('\n'), listing.size());
    const auto entry = parse(listing.substr(0, end));
    listing.remove_prefix(std::min(end + 1, listing.size()));
    if (!entry || wanted.left_out.contains(entry->id)) continue;
    const bool is_wanted = entry->id.catalog != 0 ? ids.contains(entry->id)
                           : entry->id.oid != 0   ? relations.contains(entry->id.oid)
                                                  : words.have(entry->rest);
    if (is_wanted) chosen += fmt::format("{};\n", entry->number);
  }
  return chosen;
}

}  // namespace kuramori::dump
