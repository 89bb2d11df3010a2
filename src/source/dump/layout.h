// The files of a snapshot: plain ones, of use to whoever has PostgreSQL and not us.
#pragma once
#include <string_view>

namespace kuramori::dump {

constexpr std::string_view kReadmeFile = "README.txt";
constexpr std::string_view kDumpFile = "database.dump";   // pg_dump's custom format, not compressed
constexpr std::string_view kFactsFile = "database.json";  // see facts.h
constexpr std::string_view kExtensionsFile = "extensions.json";
constexpr std::string_view kGlobalsFile = "globals.sql";  // pg_dumpall --globals-only

}  // namespace kuramori::dump
