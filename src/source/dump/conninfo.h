// A connection string of libpq, taken apart: so that another database can be named, a password added, and
// PostgreSQL's own programs be given it with nothing secret among their arguments.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace kuramori::dump {

class Conninfo {
 public:
  // Keywords ("host=… dbname=…") or a URI. kUsage: it is none.
  static Result<Conninfo> parse(const std::string& text);

  // "" if it is not given.
  std::string get(const std::string& keyword) const;
  void set(const std::string& keyword, std::string value);
  void set_if_missing(const std::string& keyword, const std::string& value);

  std::string text() const;  // of keywords, with everything: for libpq alone
  // Without what is secret: for a program's arguments.
  std::string public_text() const;
  // What of it programs take from their environment: the secrets.
  std::vector<std::pair<std::string, std::string>> environment() const;
  // For people: "orders at db.example.jp:5432".
  std::string describe() const;

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace kuramori::dump
