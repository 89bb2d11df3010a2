// What `kuramori wal get` answers PostgreSQL's restore_command. The exit status carries data: 0 "here it is",
// 1 "there certainly is no such file: the archive ends here" (the server ends recovery and PROMOTES), 200
// anything else (above 125 the server stops and says so). A wrong 1 is silent loss, so 1 must be proven
// (P44).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "source/postgres/archive.h"

namespace kuramori::postgres {

constexpr int kGetFound = 0;
constexpr int kGetBeyondEnd = 1;
constexpr int kGetStopServer = 200;

// What a restore found out before it wrote a byte, kept beside the restored directory for its
// restore_command.
struct RecoveryPromise {
  Lineage lineage;  // to the timeline that was chosen
  Lsn until = 0;    // WAL up to here was there; recovery must not end before
  Timeline timeline() const { return lineage.empty() ? 0 : lineage.back().timeline; }
};
std::string format_promise(const RecoveryPromise& promise);  // one line of text, for a file or an argument
Result<RecoveryPromise> parse_promise(std::string_view text);

enum class Get : uint8_t { kFound, kBeyondEnd, kStopServer };

struct GetDecision {
  Get answer = Get::kStopServer;
  std::optional<SegmentSource> segment;  // kFound, a segment: its pieces, in order; the rest is zeros
  std::optional<size_t> object;          // kFound, another file: index into Archive::pieces()
  std::string why;                       // one line for the server's log
  int exit_status() const {
    return answer == Get::kFound ? kGetFound : answer == Get::kBeyondEnd ? kGetBeyondEnd : kGetStopServer;
  }
};

// `name`: what PostgreSQL asks for (%f). A failed listing (`archive` is an error) always stops the server.
// A found object that then turns out to be damaged or unreadable does so too: stop_server(error).
GetDecision decide_get(const Result<Archive>& archive, std::string_view name,
                       const std::optional<RecoveryPromise>& promise = {});
GetDecision stop_server(const Error& error);

}  // namespace kuramori::postgres
