#include "source/dump/fill.h"

#include <fmt/core.h>

#include <algorithm>

#include "os/file.h"
#include "source/dump/layout.h"
#include "source/program/program.h"

namespace kuramori::dump {
namespace {

constexpr size_t kListingBytesMax = size_t{256} << 20;
constexpr size_t kHeadBytesMax = 16 << 10;  // of a script, in which its settings stand

// Takes a small file.
class MemorySink final : public ContentSink {
 public:
  explicit MemorySink(size_t most) : most_(most) {}
  Result<void> add(ByteView piece) override {
    if (bytes.size() + piece.size() > most_)
      return fail(ErrorKind::kDamaged, fmt::format("a file of more than {} bytes", most_));
    append(bytes, piece);
    return {};
  }
  Result<void> add_hole(uint64_t count) override { return add(Bytes(std::min<uint64_t>(count, most_ + 1))); }
  Result<void> restart() override {
    bytes.clear();
    return {};
  }
  Bytes bytes;

 private:
  const size_t most_;
};

// Hands on to a program that may have read enough before the end: then its exit status says whether it was.
class ProgramSink final : public ContentSink {
 public:
  ProgramSink(ContentSink& program, Reporter& reporter, const std::stop_token& stop)
      : program_(program), reporter_(reporter), stop_(stop) {}
  Result<void> add(ByteView bytes) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    reporter_.advance(bytes.size());
    return noted(program_.add(bytes));
  }
  Result<void> add_hole(uint64_t bytes) override { return noted(program_.add_hole(bytes)); }
  Result<void> restart() override { return program_.restart(); }
  bool has_enough() const { return has_enough_; }

 private:
  Result<void> noted(Result<void> added) {
    has_enough_ = has_enough_ || !added;
    return added;
  }
  ContentSink& program_;
  Reporter& reporter_;
  const std::stop_token& stop_;
  bool has_enough_ = false;
};

Result<void> feed(const CapturedTree& tree, ContentSink& program, Reporter& reporter,
                  const std::stop_token& stop) {
  ProgramSink sink(program, reporter, stop);
  Result<void> given = tree.read(kDumpFile, sink);
  if (!given && sink.has_enough()) return {};
  return given;
}

// pg_restore 17 and newer begins with a setting that an older server does not know, and the first error ends
// all. So the line is taken out of the script on its way to psql.
class WithoutNewerSettings {
 public:
  explicit WithoutNewerSettings(ContentSink& to) : to_(to) {}
  Result<void> add(ByteView bytes) {
    if (is_past_) return to_.add(bytes);
    head_ += as_text(bytes);
    const bool is_complete = head_.find("SET row_security = off;\n") != std::string::npos;
    return is_complete || head_.size() > kHeadBytesMax ? end() : Result<void>();
  }
  Result<void> end() {
    if (is_past_) return {};
    is_past_ = true;
    constexpr std::string_view kLine = "SET transaction_timeout = 0;\n";
    if (const size_t at = head_.find(kLine); at != std::string::npos) head_.erase(at, kLine.size());
    return to_.add(as_bytes(head_));
  }

 private:
  ContentSink& to_;
  std::string head_;
  bool is_past_ = false;
};

struct Steps {
  const CapturedTree& tree;
  const FillRequest& request;
  Reporter& reporter;
  const std::stop_token& stop;

  ProgramRequest program(std::vector<std::string> argv) const {
    return {.argv = std::move(argv),
            .environment = request.target.environment(),
            .timeout = request.timeout,
            .stop = stop};
  }

  Result<std::string> listing() const {
    std::string text;
    ProgramRequest list = program({request.clients.program("pg_restore"), "--list"});
    list.give_input = [&](ContentSink& sink) { return feed(tree, sink, silent_reporter(), stop); };
    list.on_output = [&](ByteView bytes) -> Result<void> {
      text += as_text(bytes);
      if (text.size() <= kListingBytesMax) return {};
      return fail(ErrorKind::kDamaged, "the dump's table of contents has no end");
    };
    TRY(run_program(list));
    return text;
  }

  std::vector<std::string> restore_arguments(const std::string& list_file) const {
    std::vector<std::string> arguments = {request.clients.program("pg_restore"), "--exit-on-error"};
    if (!list_file.empty()) arguments.push_back("--use-list=" + list_file);
    if (!request.with_tablespaces) arguments.emplace_back("--no-tablespaces");
    return arguments;
  }

  Result<void> directly(const std::string& list_file) const {
    ProgramRequest restore = program(restore_arguments(list_file));
    restore.argv.insert(restore.argv.end(), {"--no-password", "--dbname=" + request.target.public_text()});
    if (request.one_transaction) restore.argv.emplace_back("--single-transaction");
    restore.give_input = [&](ContentSink& sink) { return feed(tree, sink, reporter, stop); };
    return run_program(restore);
  }

  Result<void> through_psql(const std::string& list_file) const {
    if (!request.clients.has("psql")) {
      return fail(ErrorKind::kUsage, fmt::format("psql is not in {}", request.clients.folder),
                  fmt::format("pg_restore {} alone cannot serve a server of version {}",
                              request.clients.version, request.target_major),
                  fmt::format("install psql there, or pg_restore {}", request.target_major));
    }
    ProgramRequest psql = program({request.clients.program("psql"), "--no-psqlrc", "--quiet", "--no-password",
                                   "--set=ON_ERROR_STOP=1", "--dbname=" + request.target.public_text()});
    if (request.one_transaction) psql.argv.emplace_back("--single-transaction");
    psql.give_input = [&](ContentSink& to_psql) -> Result<void> {
      WithoutNewerSettings filter(to_psql);
      ProgramRequest restore = program(restore_arguments(list_file));
      restore.argv.emplace_back("--file=-");
      restore.give_input = [&](ContentSink& sink) { return feed(tree, sink, reporter, stop); };
      restore.on_output = [&](ByteView bytes) { return filter.add(bytes); };
      TRY(run_program(restore));
      return filter.end();
    };
    return run_program(psql);
  }
};

constexpr int kTransactionTimeoutSince = 17;

}  // namespace

std::string quoted_literal(std::string_view text) {
  const bool has_backslash = text.find('\\') != std::string_view::npos;
  std::string out = has_backslash ? " E'" : "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += c;
    out += c;
  }
  return out + "'";
}

std::string quoted_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

Result<DatabaseFacts> facts_of(const CapturedTree& tree) {
  MemorySink sink(kFactsBytesMax);
  if (auto read = tree.read(kFactsFile, sink); !read) {
    if (read.error().kind != ErrorKind::kNotFound) return std::move(read).error();
    return fail(ErrorKind::kRefused, "the snapshot is none of a database", "it has no database.json",
                "kuramori show SNAPSHOT lists what it has");
  }
  return decode_facts(sink.bytes);
}

Result<TreeSize> size_of(const CapturedTree& tree) {
  TreeSize size;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    ++size.entries;
    size.bytes += entry.content == ContentKind::kBytes ? entry.size : 0;
    return {};
  }));
  return size;
}

std::string create_statement(const DatabaseFacts& facts, const std::string& name, const std::string& owner,
                             uint32_t server_major) {
  std::string sql = fmt::format("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
                                quoted_name(name), quoted_literal(facts.encoding),
                                quoted_literal(facts.collate), quoted_literal(facts.ctype));
  if (server_major >= 15 && facts.locale_provider == "i")
    sql += fmt::format(" LOCALE_PROVIDER icu ICU_LOCALE {}", quoted_literal(facts.locale));
  if (server_major >= 17 && facts.locale_provider == "b")
    sql += fmt::format(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", quoted_literal(facts.locale));
  if (server_major >= 15 && facts.locale_provider == "c") sql += " LOCALE_PROVIDER libc";
  if (!owner.empty()) sql += " OWNER " + quoted_name(owner);
  return sql;
}

Result<void> fill_database(const CapturedTree& tree, const DatabaseFacts& facts, const FillRequest& request,
                           Reporter& reporter, const std::stop_token& stop) {
  const Steps steps{tree, request, reporter, stop};
  std::optional<TemporaryFolder> folder;
  std::string list_file;
  const auto fill = [&]() -> Result<void> {
    if (request.only) {
      TRY_ASSIGN(const std::string listing, steps.listing());
      TRY_ASSIGN(TemporaryFolder made, TemporaryFolder::make("kuramori-dump-list-"));
      folder.emplace(std::move(made));
      list_file = *folder / "list";
      TRY(write_new_file(list_file, as_bytes(choose_entries(listing, facts, *request.only))));
    }
    const bool is_known =
        request.clients.major < kTransactionTimeoutSince || request.target_major >= kTransactionTimeoutSince;
    return is_known ? steps.directly(list_file) : steps.through_psql(list_file);
  };
  Result<void> filled = fill();
  if (!filled) return explained(std::move(filled).error(), stop);
  return {};
}

Result<std::vector<std::string>> make_missing_roles(postgres::Connection& connection,
                                                    const std::vector<std::string>& roles) {
  std::vector<std::string> made;
  for (const std::string& role : roles) {
    TRY_ASSIGN(const postgres::QueryResult there,
               connection.query("SELECT FROM pg_roles WHERE rolname = $1", {role}));
    if (there.rows() > 0) continue;
    if (auto created = connection.run(fmt::format("CREATE ROLE {} NOLOGIN", quoted_name(role))); !created) {
      Error error = std::move(created).error();
      error.next =
          fmt::format("make it first, as a role that may: CREATE ROLE {} NOLOGIN", quoted_name(role));
      return std::move(error).within(fmt::format("make the role {}, which owns or may use something", role));
    }
    made.push_back(role);
  }
  return made;
}

std::vector<std::string> apply_to_database(postgres::Connection& connection, const DatabaseFacts& facts,
                                           const std::string& name) {
  std::vector<std::string> trouble;
  const auto attempt = [&](const std::string& what, const Result<void>& done) {
    if (!done) trouble.push_back(fmt::format("{} could not be set: {}", what, done.error().why));
  };
  for (const DatabaseSetting& setting : facts.settings) {
    // FROM CURRENT takes the value as it is, also a list, which SET would want quoted part by part.
    const auto set = [&]() -> Result<void> {
      TRY(connection.run("BEGIN"));
      TRY(connection.run("SELECT set_config($1, $2, true)", {setting.name, setting.value}));
      const std::string whom =
          setting.role.empty()
              ? "DATABASE " + quoted_name(name)
              : fmt::format("ROLE {} IN DATABASE {}", quoted_name(setting.role), quoted_name(name));
      // A setting's name may have a dot: two words.
      std::string words;
      std::string_view rest = setting.name;
      while (true) {
        const size_t dot = std::min(rest.find('.'), rest.size());
        words += (words.empty() ? "" : ".") + quoted_name(rest.substr(0, dot));
        if (dot == rest.size()) break;
        rest.remove_prefix(dot + 1);
      }
      TRY(connection.run(fmt::format("ALTER {} SET {} FROM CURRENT", whom, words)));
      return connection.run("COMMIT");
    };
    const Result<void> done = set();
    if (!done) (void)connection.run("ROLLBACK");
    attempt(fmt::format("the setting {}{}", setting.name,
                        setting.role.empty() ? "" : fmt::format(" of the role {}", setting.role)),
            done);
  }
  if (!facts.has_grants) return trouble;
  attempt("the grants of the database",
          connection.run(fmt::format("REVOKE ALL ON DATABASE {} FROM PUBLIC", quoted_name(name))));
  for (const Grant& grant : facts.grants) {
    // It becomes part of a statement as it is.
    constexpr std::string_view kPrivileges[] = {"CONNECT", "CREATE", "TEMPORARY"};
    if (std::ranges::count(kPrivileges, grant.privilege) == 0) {
      trouble.push_back(fmt::format("the database's right \"{}\" is not known here", grant.privilege));
      continue;
    }
    attempt(
        fmt::format("the right {} of {}", grant.privilege, grant.grantee.empty() ? "PUBLIC" : grant.grantee),
        connection.run(fmt::format("GRANT {} ON DATABASE {} TO {}{}", grant.privilege, quoted_name(name),
                                   grant.grantee.empty() ? "PUBLIC" : quoted_name(grant.grantee),
                                   grant.grantable ? " WITH GRANT OPTION" : "")));
  }
  return trouble;
}

}  // namespace kuramori::dump
