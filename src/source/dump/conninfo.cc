#include "source/dump/conninfo.h"

#include <fmt/core.h>
#include <libpq-fe.h>

#include <memory>

namespace kuramori::dump {
namespace {

struct FreeOptions {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};

// Keywords whose value is a secret, and the variable that libpq reads in its place.
constexpr std::pair<const char*, const char*> kSecrets[] = {{"password", "PGPASSWORD"}};

std::string quoted(std::string_view value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

bool is_secret(std::string_view keyword) {
  return keyword == "password" || keyword == "sslpassword";
}

}  // namespace

Result<Conninfo> Conninfo::parse(const std::string& text) {
  char* why = nullptr;
  const std::unique_ptr<PQconninfoOption, FreeOptions> options(PQconninfoParse(text.c_str(), &why));
  if (!options) {
    // libpq quotes what it could not read, and that may be part of a password.
    PQfreemem(why);
    return fail(ErrorKind::kUsage, "the connection string cannot be read",
                "libpq takes keywords or a URI, with special characters quoted",
                "write \"host=… user=… dbname=…\" or postgresql://USER@HOST:PORT/DATABASE");
  }
  Conninfo out;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option)
    if (option->val != nullptr && *option->val != '\0') out.values_[option->keyword] = option->val;
  return out;
}

std::string Conninfo::get(const std::string& keyword) const {
  const auto found = values_.find(keyword);
  return found == values_.end() ? "" : found->second;
}

void Conninfo::set(const std::string& keyword, std::string value) {
  values_[keyword] = std::move(value);
}

void Conninfo::set_if_missing(const std::string& keyword, const std::string& value) {
  values_.try_emplace(keyword, value);
}

std::string Conninfo::text() const {
  std::string out;
  for (const auto& [keyword, value] : values_) out += fmt::format("{}={} ", keyword, quoted(value));
  return out;
}

std::string Conninfo::public_text() const {
  std::string out;
  for (const auto& [keyword, value] : values_)
    if (!is_secret(keyword)) out += fmt::format("{}={} ", keyword, quoted(value));
  return out;
}

std::vector<std::pair<std::string, std::string>> Conninfo::environment() const {
  std::vector<std::pair<std::string, std::string>> out = {{"PGAPPNAME", "kuramori"}};
  for (const auto& [keyword, variable] : kSecrets)
    if (const std::string value = get(keyword); !value.empty()) out.emplace_back(variable, value);
  return out;
}

std::string Conninfo::describe() const {
  const std::string host = get("host").empty() ? get("hostaddr") : get("host");
  std::string out = get("dbname").empty() ? "a database" : get("dbname");
  if (!host.empty()) out += " at " + host;
  if (!get("port").empty()) out += (host.empty() ? " at port " : ":") + get("port");
  return out;
}

}  // namespace kuramori::dump
