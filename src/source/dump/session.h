// Connections of ours, and what their errors mean to somebody who wants a dump.
#pragma once
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "source/dump/conninfo.h"
#include "source/dump/dump.h"
#include "source/postgres/binaries.h"
#include "source/postgres/connection.h"

namespace kuramori::dump {

// `connect` with the password, a limit for connecting and one for a line that went dead.
Result<Conninfo> conninfo_of(const std::string& connect, const std::string& password);

// A connection that a request to stop ends, in the middle of whatever it waits for.
class Session {
 public:
  // `database`: instead of the connection string's, if not empty.
  static Result<std::unique_ptr<Session>> open(const Conninfo& conninfo, const std::string& database,
                                               std::stop_token stop);
  postgres::Connection& operator*() { return connection_; }
  postgres::Connection* operator->() { return &connection_; }

 private:
  Session(postgres::Connection connection, std::stop_token stop);
  struct Close {
    int socket;
    void operator()() const;
  };
  postgres::Connection connection_;
  Fd socket_;
  std::stop_callback<Close> close_;
};

// What an error of the server or of its programs means here: its kind, and what to type.
Error explained(Error error, const std::stop_token& stop = {});

}  // namespace kuramori::dump
