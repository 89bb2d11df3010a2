#include "source/redis/copy_keys.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori::redis {
namespace {

constexpr const char* kKeysAtOnce = "64";  // asked for in one go; of their values one is in memory at a time

class Copy {
 public:
  Copy(PrivateServer& source, Connection& target, Reporter& reporter, std::stop_token stop)
      : source_(source.connection()),
        source_version_(source.program().version),
        target_(target),
        reporter_(reporter),
        stop_(std::move(stop)) {}

  Result<CopiedKeys> run(What what) {
    TRY(look_at_versions());
    TRY_ASSIGN(const Info info, read_info(source_, "keyspace"));
    for (const auto& [database, keys] : keys_in(info)) TRY(select_in_target(database));
    if (what == What::kReplace) TRY(target_.call({"FLUSHALL"}));
    TRY(copy_functions());
    for (const auto& [database, keys] : keys_in(info)) TRY(copy_database(database));
    return copied_;
  }

 private:
  Result<void> look_at_versions() {
    TRY_ASSIGN(const Info info, read_info(target_, "server"));
    target_version_ = version_in(info);
    const int have = rdb_version_of(source_version_), takes = rdb_version_of(target_version_);
    const bool foreign = have > 11 && source_version_.flavour != target_version_.flavour;
    if (have <= takes && !foreign) return {};
    return fail(ErrorKind::kRefused,
                fmt::format("{} cannot take the keys of this snapshot", target_.endpoint().describe()),
                fmt::format("it is {} {}, and what loads the snapshot here is {} {}",
                            name_of(target_version_.flavour), target_version_.text,
                            name_of(source_version_.flavour), source_version_.text),
                "restore into a newer server, or put a redis-server of the target's version into PATH here");
  }

  Result<void> copy_functions() {
    if (source_version_.major < 7) return {};
    TRY_ASSIGN(const Reply libraries, source_.call({"FUNCTION", "LIST"}));
    if (libraries.elements.empty()) return {};
    TRY_ASSIGN(const Reply dump, source_.call({"FUNCTION", "DUMP"}));
    TRY(target_.call({"FUNCTION", "RESTORE", dump.text, "FLUSH"}));
    return {};
  }

  Result<void> select_in_target(uint64_t database) {
    const Arguments select{"SELECT", std::to_string(database)};
    TRY_ASSIGN(const Reply selected, target_.ask(select));
    if (!selected.is_error()) return {};
    Error error = target_.error_of(selected, select);
    error.next = fmt::format("the target needs at least {} databases: set \"databases\" in its configuration",
                             database + 1);
    return error;
  }

  Result<void> copy_database(uint64_t database) {
    TRY(source_.call({"SELECT", std::to_string(database)}));
    TRY(select_in_target(database));
    std::string cursor = "0";
    do {
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
      TRY_ASSIGN(const Reply page, source_.call({"SCAN", cursor, "COUNT", kKeysAtOnce}));
      if (page.elements.size() != 2) return fail(ErrorKind::kFailed, "SCAN answered with something else");
      cursor = page.elements[0].text;
      TRY(copy_page(page.elements[1].elements));
    } while (cursor != "0");
    ++copied_.databases;
    return compare(database);
  }

  Result<void> copy_page(const std::vector<Reply>& keys) {
    // Nothing is written to the source, so a key that is listed twice is the same one, and REPLACE takes it.
    const bool exact = source_version_.major >= 7;
    for (const Reply& key : keys) {
      TRY(source_.send(Arguments{exact ? "PEXPIRETIME" : "PTTL", key.text}));
      TRY(source_.send(Arguments{"DUMP", key.text}));
    }
    std::vector<const Reply*> sent;
    for (const Reply& key : keys) {
      TRY_ASSIGN(const Reply time, source_.receive());
      TRY_ASSIGN(Reply value, source_.receive());
      if (time.is_error()) return source_.error_of(time, {"PEXPIRETIME"});
      if (value.is_error()) return source_.error_of(value, {"DUMP"});
      if (value.type == Reply::Type::kNothing) {
        ++copied_.expired;
        continue;
      }
      copied_.bytes += value.text.size();
      reporter_.advance(value.text.size());
      Arguments command{"RESTORE", key.text, std::to_string(std::max<int64_t>(0, time.integer)),
                        std::move(value.text), "REPLACE"};
      if (exact && time.integer > 0) command.emplace_back("ABSTTL");
      TRY(target_.send(command));
      sent.push_back(&key);
    }
    for (size_t i = 0; i < sent.size(); ++i) {
      TRY_ASSIGN(const Reply reply, target_.receive());
      if (!reply.is_error()) continue;
      Error error = target_.error_of(reply, {"RESTORE"});
      error.what += fmt::format(", after {} keys", copied_.keys + i);
      if (reply.error_code() == "OOM")
        error.next = "give it more memory: CONFIG SET maxmemory …, then restore again";
      return error;
    }
    copied_.keys += sent.size();
    return {};
  }

  Result<void> compare(uint64_t database) {
    TRY_ASSIGN(const Reply here, source_.call({"DBSIZE"}));
    TRY_ASSIGN(const Reply there, target_.call({"DBSIZE"}));
    if (here.integer == there.integer) return {};
    // Either side drops what has expired when it comes to it.
    TRY_ASSIGN(const Info info, read_info(source_, "keyspace"));
    const std::string text = text_in(info, fmt::format("db{}", database));
    const bool may_expire = text.find("expires=0,") == std::string::npos || copied_.expired > 0;
    if (may_expire && there.integer <= here.integer + static_cast<int64_t>(copied_.expired)) return {};
    return fail(ErrorKind::kBrokenPromise,
                fmt::format("{} does not hold all keys", target_.endpoint().describe()),
                fmt::format("database {}: {} of {}", database, there.integer, here.integer),
                "does it evict (maxmemory-policy), or does somebody write to it?");
  }

  Connection& source_;
  const ServerVersion source_version_;
  Connection& target_;
  Reporter& reporter_;
  std::stop_token stop_;
  ServerVersion target_version_;
  CopiedKeys copied_;
};

}  // namespace

Result<CopiedKeys> copy_keys(PrivateServer& source, Connection& target, What what, Reporter& reporter,
                             std::stop_token stop) {
  return Copy(source, target, reporter, std::move(stop)).run(what);
}

}  // namespace kuramori::redis
