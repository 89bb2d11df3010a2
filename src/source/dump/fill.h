// What a restore and a drill have in common: the steps that make a database from a snapshot.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "source/dump/clients.h"
#include "source/dump/facts.h"
#include "source/dump/session.h"
#include "source/dump/toc.h"

namespace kuramori::dump {

std::string quoted_literal(std::string_view text);
std::string quoted_name(std::string_view name);

// What the snapshot holds. kRefused: it is none of a database.
Result<DatabaseFacts> facts_of(const CapturedTree& tree);
// Entries and bytes of its files.
struct TreeSize {
  uint64_t entries = 0, bytes = 0;
};
Result<TreeSize> size_of(const CapturedTree& tree);

// CREATE DATABASE with the encoding, locale and owner that it had. `owner` may be "".
std::string create_statement(const DatabaseFacts& facts, const std::string& name, const std::string& owner,
                             uint32_t server_major);

struct FillRequest {
  Conninfo target;  // with the database's name
  int target_major = 0;
  Clients clients;
  std::optional<WantedEntries> only;  // nothing: all of the dump
  bool one_transaction = false;       // nothing is left of it when it fails
  bool with_tablespaces = true;
  std::optional<Duration> timeout;
};

// The dump into an existing database, streamed through pg_restore: it takes no place on this machine. Stops
// at the first error of the server.
Result<void> fill_database(const CapturedTree& tree, const DatabaseFacts& facts, const FillRequest& request,
                           Reporter& reporter, const std::stop_token& stop);

// Makes the roles that are not there, without login; returns them.
Result<std::vector<std::string>> make_missing_roles(postgres::Connection& connection,
                                                    const std::vector<std::string>& roles);

// What belongs to the database and not into it: settings, grants. What could not be set, in sentences.
std::vector<std::string> apply_to_database(postgres::Connection& connection, const DatabaseFacts& facts,
                                           const std::string& name);

}  // namespace kuramori::dump
