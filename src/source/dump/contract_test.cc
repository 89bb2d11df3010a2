// The kind `dump` keeps the contract of sources, on a real server.
#include <set>

#include "os/file.h"
#include "os/process.h"
#include "source/dump/dump_for_tests.h"
#include "source/dump/facts.h"
#include "testing/source_contract.h"

namespace kuramori::dump {
namespace {

class DumpFixture : public SourceFixture {
 public:
  DumpFixture() {
    sql(*server_, "CREATE DATABASE salaries");
    sql(*server_, "CREATE TABLE people (id serial PRIMARY KEY, name text, pay bigint)", "salaries");
    sql(*server_, "INSERT INTO people (name, pay) VALUES ('Sato', 9000000), ('Suzuki', 8000000)", "salaries");
    for (const char* folder : {"targets", "outside"}) EXPECT_TRUE(make_folders(ground_ / folder));
    EXPECT_TRUE(write_new_file(ground_ / "outside/precious", as_bytes("not to be touched")));
    source_ = source_for(*server_, "salaries");
    remember();
  }

  ~DumpFixture() override {
    source_.reset();
    const std::string names =
        sql(*server_, "SELECT datname FROM pg_database WHERE oid >= 16384 AND NOT datistemplate");
    std::string_view rest = names;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      sql(*server_, "DROP DATABASE \"" + std::string(rest.substr(0, end)) + "\" WITH (FORCE)");
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }

  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    return std::move(*open_dump({.connect = "host=" + (ground_ / "nowhere") + " dbname=salaries"}));
  }

  void change() override {
    const std::string number = std::to_string(++generation_);
    sql(*server_,
        "INSERT INTO people (name, pay) VALUES ('" + number + "', " + number +
            "); UPDATE people SET pay = pay + 1; "
            "CREATE TABLE made_" +
            number + " AS SELECT " + number + " AS n",
        "salaries");
    remember();
  }
  // When it was taken, and words that stand for nothing.
  void settle(TreeEntry& entry, std::string& content) override {
    if (entry.content != ContentKind::kBytes) return;
    entry.size = 0;
    if (entry.path == "database.dump") content = script_of(content);
    if (entry.path == "globals.sql") content = plain(content);
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    if (entry.path == "database.dump") return scripts_.contains(script_of(content));
    if (entry.path == "globals.sql") return plain(content) == globals_;
    if (entry.path != "database.json") return !content.empty();
    const auto facts = decode_facts(as_bytes(content));
    return facts && rows_.contains(rows_of(*facts));
  }

  std::string new_target() override { return url_of(*server_, "target" + std::to_string(++targets_)); }
  std::string occupied_target() override {
    const std::string name = "occupied" + std::to_string(++targets_);
    sql(*server_, "CREATE DATABASE " + name);
    sql(*server_, "CREATE TABLE precious (v int)", name);
    return url_of(*server_, name);
  }
  std::vector<std::string> differences(const std::string& target) override {
    const std::string name = name_of_target(target);
    if (state_of(*server_, name) == state_of(*server_, "salaries")) return {};
    return {"it holds " + state_of(*server_, name)};
  }
  std::string surroundings(const std::string& target) override {
    std::string all = sql(*server_, "SELECT rolname FROM pg_roles ORDER BY 1");
    const std::string names = sql(*server_, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
    std::string_view rest = names;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string name(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (name != name_of_target(target)) all += name + "\n" + state_of(*server_, name);
    }
    const auto outside = list_folder(ground_ / "outside");
    for (const FolderEntry& entry : *outside) all += entry.name;
    return all;
  }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override { return ground_ / "targets"; }
  std::vector<std::string> secrets() override { return {"salaries", "Sato", "people", server_->folder()}; }

 private:
  static std::string name_of_target(const std::string& url) {
    const size_t at = url.find("@/") + 2;
    return url.find("@/") == std::string::npos ? "" : url.substr(at, url.find('?') - at);
  }
  // Without remarks and psql's own commands, whose words are random.
  static std::string plain(std::string_view script) {
    std::string out;
    while (!script.empty()) {
      const size_t end = std::min(script.find('\n'), script.size());
      const std::string_view line = script.substr(0, end);
      script.remove_prefix(std::min(end + 1, script.size()));
      // Nor where a sequence stands: that is of no moment.
      const bool is_left_out = line.starts_with("--") || line.starts_with("\\restrict") ||
                               line.starts_with("\\unrestrict") ||
                               line.starts_with("SELECT pg_catalog.setval(");
      if (!is_left_out) out.append(line).append("\n");
    }
    return out;
  }
  std::string script_of(std::string_view dump) const {
    const TemporaryFolder folder = *TemporaryFolder::make("kuramori-dump-state-");
    EXPECT_TRUE(write_new_file(folder / "dump", as_bytes(dump)));
    const auto script = run({.argv = {clients_for(15) + "/pg_restore", "--file=-", folder / "dump"}});
    return script && script->exit.ok() ? plain(script->output) : "not whole";
  }
  static std::string rows_of(const DatabaseFacts& facts) {
    std::string out;
    for (const Table& table : facts.tables)
      out += table.name + " " + std::to_string(table.rows.value_or(0)) + "\n";
    return out;
  }
  std::string script_by(const std::string& program, const std::string& what) {
    const auto said = server_->run(program, {"-h", server_->folder(), "-U", "postgres", what});
    EXPECT_TRUE(said && said->status == 0);
    return plain(said->text);
  }
  // Every state there ever was. All fixtures begin alike, and so the first is asked for once.
  void remember() {
    static const std::string first = script_by("pg_dump", "salaries");
    static const std::string globals = script_by("pg_dumpall", "--globals-only");
    scripts_.insert(generation_ == 0 ? first : script_by("pg_dump", "salaries"));
    globals_ = globals;
    std::string rows;
    for (int made = 1; made <= generation_; ++made)
      rows_of_made_.insert("made_" + std::to_string(made) + " 1\n");
    for (const std::string& one : rows_of_made_) rows += one;
    rows_.insert(rows + "people " + sql(*server_, "SELECT count(*) FROM people", "salaries") + "\n");
  }

  TemporaryFolder ground_ = *TemporaryFolder::make("kuramori-dump-contract-");
  // One for all fixtures: to make one takes longer than all else. What a fixture makes goes with it.
  static PostgresServer* shared() {
    static const std::unique_ptr<PostgresServer> server = server_of();
    return server.get();
  }
  PostgresServer* const server_ = shared();
  std::unique_ptr<Source> source_;
  std::set<std::string> scripts_, rows_, rows_of_made_;
  std::string globals_;
  int generation_ = 0, targets_ = 0;
};

TEST(DumpContract, dump_keeps_the_contract_of_sources_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<DumpFixture>(); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::dump
