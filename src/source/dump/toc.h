// Which entries of a dump belong to which tables. pg_restore's own --table brings rows alone, without an
// index or a constraint, and says that all is well (S10); so the entries are chosen here, from what
// pg_restore lists and from what the catalog said belongs together when the dump was taken.
#pragma once
#include <set>
#include <string>
#include <string_view>

#include "source/dump/facts.h"

namespace kuramori::dump {

struct WantedEntries {
  std::set<uint32_t> tables;
  std::set<ObjectId> besides;   // types, functions, sequences they need
  std::set<ObjectId> left_out;  // foreign keys to what is not there
};

// `listing`: what pg_restore --list prints. Returns the entries' numbers, one a line, as --use-list reads
// them.
std::string choose_entries(std::string_view listing, const DatabaseFacts& facts, const WantedEntries& wanted);

}  // namespace kuramori::dump
