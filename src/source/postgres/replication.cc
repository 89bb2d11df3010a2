#include "source/postgres/replication.h"

#include <libpq-fe.h>
#include <poll.h>

#include <cerrno>
#include <charconv>
#include <vector>

#include "source/postgres/replication_connection.h"

namespace kuramori::postgres {
namespace {

// The server counts microseconds from 2000-01-01.
constexpr int64_t kPostgresEpochUnixSeconds = 946684800;
constexpr size_t kWalHeaderBytes = 1 + 8 + 8 + 8;       // 'w', start, end, time
constexpr size_t kKeepaliveBytes = 1 + 8 + 8 + 1;       // 'k', end, time, wants reply
constexpr size_t kStatusBytes = 1 + 8 + 8 + 8 + 8 + 1;  // 'r', write, flush, apply, time, ask

uint64_t load_be64(const char* at) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<uint8_t>(at[i]);
  return value;
}

void store_be64(char* at, uint64_t value) {
  for (int i = 7; i >= 0; --i, value >>= 8) at[i] = static_cast<char>(value & 0xff);
}

Time from_postgres_time(uint64_t microseconds) {
  return Time(std::chrono::seconds(kPostgresEpochUnixSeconds) +
              std::chrono::microseconds(static_cast<int64_t>(microseconds)));
}

std::string trimmed(const char* text) {
  std::string message = text ? text : "";
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.pop_back();
  return message;
}

struct FreeResult {
  void operator()(PGresult* raw) const { PQclear(raw); }
};
using AnyResult = std::unique_ptr<PGresult, FreeResult>;

struct FreeMemory {
  void operator()(char* raw) const { PQfreemem(raw); }
};

}  // namespace

struct Replication::State {
  PGconn* raw = nullptr;
  std::unique_ptr<char, FreeMemory> message;

  ~State() {
    if (raw) PQfinish(raw);
  }
  Result<AnyResult> ask(const std::string& command, ExecStatusType wanted, std::string what) {
    AnyResult result(PQexec(raw, command.c_str()));
    if (PQresultStatus(result.get()) != wanted) return replication_error(raw, result.get(), std::move(what));
    return result;
  }
  Result<Arrival> ended();
};

Replication::Replication(std::unique_ptr<State> state) : state_(std::move(state)) {}
Replication::Replication(Replication&&) noexcept = default;
Replication& Replication::operator=(Replication&&) noexcept = default;
Replication::~Replication() = default;

Result<Replication> Replication::open(const std::string& connect, const std::string& application_name) {
  auto state = std::make_unique<State>();
  TRY_ASSIGN(state->raw, open_replication(connect, application_name));
  return Replication(std::move(state));
}

int Replication::backend_pid() const {
  return PQbackendPID(state_->raw);
}

std::string Replication::where() const {
  const char *host = PQhost(state_->raw), *port = PQport(state_->raw);
  return fmt::format("{}:{}", host ? host : "", port ? port : "");
}

std::string Replication::same_host(const std::string& connect) const {
  // Of two settings of one name in a connection string the later wins; a URI takes them as parameters.
  const std::string host = PQhost(state_->raw), port = PQport(state_->raw);
  if (connect.find("://") != std::string::npos) return connect;
  auto quoted = [](const std::string& value) {
    std::string out = "'";
    for (char c : value) {
      if (c == '\'' || c == '\\') out += '\\';
      out += c;
    }
    return out + "'";
  };
  if (connect.find(',') == std::string::npos) return connect;  // one host: as it was given
  return fmt::format("{} host={} port={} hostaddr=''", connect, quoted(host), quoted(port));
}

Result<SystemIdentity> Replication::identify() {
  TRY_ASSIGN(const AnyResult raw,
             state_->ask("IDENTIFY_SYSTEM", PGRES_TUPLES_OK, "the server does not say which it is"));
  if (PQntuples(raw.get()) != 1 || PQnfields(raw.get()) < 3)
    return fail(ErrorKind::kFailed, "the server does not say which it is");
  SystemIdentity identity;
  identity.system_id = std::strtoull(PQgetvalue(raw.get(), 0, 0), nullptr, 10);
  identity.timeline = static_cast<Timeline>(std::strtoul(PQgetvalue(raw.get(), 0, 1), nullptr, 10));
  TRY_ASSIGN(identity.flushed, parse_lsn(PQgetvalue(raw.get(), 0, 2)));
  return identity;
}

Result<std::string> Replication::timeline_history(Timeline timeline) {
  TRY_ASSIGN(const AnyResult raw,
             state_->ask(fmt::format("TIMELINE_HISTORY {}", timeline), PGRES_TUPLES_OK,
                         fmt::format("the server does not have {}", history_name(timeline))));
  if (PQntuples(raw.get()) != 1 || PQnfields(raw.get()) != 2)
    return fail(ErrorKind::kFailed, fmt::format("the server does not have {}", history_name(timeline)));
  return std::string(PQgetvalue(raw.get(), 0, 1), static_cast<size_t>(PQgetlength(raw.get(), 0, 1)));
}

Result<void> Replication::make_slot(const std::string& name) {
  TRY(state_->ask(fmt::format("CREATE_REPLICATION_SLOT \"{}\" PHYSICAL RESERVE_WAL", name), PGRES_TUPLES_OK,
                  fmt::format("replication slot {} cannot be made", name)));
  return {};
}

Result<bool> Replication::start(const std::string& slot, Lsn from, Timeline timeline) {
  const std::string through = slot.empty() ? "" : fmt::format("SLOT \"{}\" ", slot);
  const std::string command =
      fmt::format("START_REPLICATION {}PHYSICAL {} TIMELINE {}", through, format_lsn(from), timeline);
  AnyResult result(PQexec(state_->raw, command.c_str()));
  const ExecStatusType status = PQresultStatus(result.get());
  if (status == PGRES_COPY_BOTH) return true;
  if (status != PGRES_TUPLES_OK) {
    return replication_error(
        state_->raw, result.get(),
        fmt::format("the server does not send timeline {} from {}", timeline, format_lsn(from)));
  }
  while (AnyResult more{PQgetResult(state_->raw)}) {
  }
  return false;
}

Result<Arrival> Replication::State::ended() {
  AnyResult result(PQgetResult(raw));
  const ExecStatusType status = PQresultStatus(result.get());
  // Our direction is still open: the timeline has ended. A server that goes away closes both.
  if (status == PGRES_COPY_IN) return Arrival{.kind = Arrival::Kind::kEndOfTimeline};
  if (status == PGRES_COMMAND_OK)
    return fail(ErrorKind::kUnknown, "the server ended the WAL stream", "it shuts down");
  return replication_error(raw, result.get(), "the server ended the WAL stream");
}

Result<Arrival> Replication::receive() {
  auto unreadable = [&] { return fail(ErrorKind::kFailed, "the server sent a message nobody understands"); };
  char* buffer = nullptr;
  int bytes = PQgetCopyData(state_->raw, &buffer, 1);
  if (bytes == 0) {
    if (PQconsumeInput(state_->raw) == 0) {
      return fail(ErrorKind::kUnknown, "the connection to PostgreSQL was lost",
                  trimmed(PQerrorMessage(state_->raw)));
    }
    bytes = PQgetCopyData(state_->raw, &buffer, 1);
  }
  state_->message.reset(buffer);
  if (bytes == 0) return Arrival{};
  if (bytes < 0) return state_->ended();
  const auto size = static_cast<size_t>(bytes);
  Arrival arrival;
  if (buffer[0] == 'w' && size >= kWalHeaderBytes) {
    arrival.kind = Arrival::Kind::kWal;
    arrival.from = load_be64(buffer + 1);
    arrival.server_end = load_be64(buffer + 9);
    arrival.sent = from_postgres_time(load_be64(buffer + 17));
    arrival.bytes = as_bytes(std::string_view(buffer + kWalHeaderBytes, size - kWalHeaderBytes));
    return arrival;
  }
  if (buffer[0] != 'k' || size < kKeepaliveBytes) return unreadable();
  arrival.kind = Arrival::Kind::kKeepalive;
  arrival.server_end = load_be64(buffer + 1);
  arrival.sent = from_postgres_time(load_be64(buffer + 9));
  arrival.wants_reply = buffer[17] != 0;
  return arrival;
}

Result<void> Replication::wait(int wake, Duration limit) {
  pollfd places[2] = {{.fd = PQsocket(state_->raw), .events = POLLIN, .revents = 0},
                      {.fd = wake, .events = POLLIN, .revents = 0}};
  // Rounded up: a wait of less than a millisecond must not become a loop that burns the processor.
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(std::max(limit, Duration::zero()));
  if (::poll(places, 2, static_cast<int>(milliseconds.count())) < 0 && errno != EINTR)
    return system_error("cannot wait for the server", errno);
  return {};
}

Result<void> Replication::report(Lsn received, Lsn durable, Time now, bool ask) {
  char status[kStatusBytes];
  const auto since = now - Time(std::chrono::seconds(kPostgresEpochUnixSeconds));
  status[0] = 'r';
  store_be64(status + 1, received);
  store_be64(status + 9, durable);
  store_be64(status + 17, durable);  // apply: never ahead of flush (P39)
  store_be64(status + 25,
             static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(since).count()));
  status[33] = ask ? 1 : 0;
  if (PQputCopyData(state_->raw, status, kStatusBytes) <= 0 || PQflush(state_->raw) != 0) {
    return fail(ErrorKind::kUnknown, "the connection to PostgreSQL was lost",
                trimmed(PQerrorMessage(state_->raw)));
  }
  return {};
}

Result<void> Replication::finish_timeline() {
  if (PQputCopyEnd(state_->raw, nullptr) <= 0 || PQflush(state_->raw) != 0) {
    return fail(ErrorKind::kUnknown, "the connection to PostgreSQL was lost",
                trimmed(PQerrorMessage(state_->raw)));
  }
  // The next timeline and its begin, then the command's end. What follows is decided from the histories.
  while (AnyResult result{PQgetResult(state_->raw)}) {
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
      return replication_error(state_->raw, result.get(), "the server ended the WAL stream");
  }
  return {};
}

}  // namespace kuramori::postgres
