// A libpq connection that speaks the replication protocol, for the two who use it: WAL streams and base
// backups.
#pragma once
#include <string>

#include "base/error.h"

struct pg_conn;
struct pg_result;

namespace kuramori::postgres {

// The caller closes it (PQfinish).
Result<pg_conn*> open_replication(const std::string& connect, const std::string& application_name);
// What the server or the connection says, by SQLSTATE: the words come in the server's language. `result` may
// be null.
Error replication_error(pg_conn* connection, const pg_result* result, std::string what);

}  // namespace kuramori::postgres
