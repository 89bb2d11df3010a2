// The replication protocol's physical half: who the server is, a timeline's history, and its WAL as it is
// flushed. One connection, one thread; nothing here knows a vault.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/world.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

struct SystemIdentity {
  uint64_t system_id = 0;
  Timeline timeline = 0;  // the server's own
  Lsn flushed = 0;        // its WAL is there up to here
};

// What the server sent. `bytes` lives until the next receive().
struct Arrival {
  enum class Kind : uint8_t {
    kNothing,        // nothing yet
    kWal,            // `bytes` from `from` on, flushed on the server
    kKeepalive,      // no WAL, but how far the server is
    kEndOfTimeline,  // the timeline ends here; finish_timeline() comes next
  };
  Kind kind = Kind::kNothing;
  Lsn from = 0;
  ByteView bytes;
  Lsn server_end = 0;  // the server's WAL ended here
  Time sent{};         // by the server's clock
  bool wants_reply = false;
};

class Replication {
 public:
  // `connect` may name several hosts (libpq picks one by target_session_attrs). `application_name` is the
  // name synchronous_standby_names knows.
  static Result<Replication> open(const std::string& connect, const std::string& application_name);
  Replication(Replication&&) noexcept;
  Replication& operator=(Replication&&) noexcept;
  ~Replication();

  int backend_pid() const;    // the server's process of this connection
  std::string where() const;  // "db1:5432", for people
  // A connection string of the very host that was picked, for questions in SQL.
  std::string same_host(const std::string& connect) const;

  Result<SystemIdentity> identify();
  // The content of the timeline's .history file. kNotFound: the server has none.
  Result<std::string> timeline_history(Timeline timeline);
  // Makes a physical slot that holds WAL from now on. kExists.
  Result<void> make_slot(const std::string& name);

  // From `from` on, of `timeline`, through `slot` ("": none). true: WAL follows; false: the timeline ended
  // before, there is none. kUnknown when somebody else reads the slot.
  Result<bool> start(const std::string& slot, Lsn from, Timeline timeline);
  // The next message, or kNothing. kNotFound: the server has removed this WAL. kUnknown: the connection is
  // lost or the server shuts down.
  Result<Arrival> receive();
  // Until something arrives, `wake` (a file descriptor) can be read, or `limit` has passed.
  Result<void> wait(int wake, Duration limit);
  // write: received; flush, apply: durable. `ask`: the server shall answer with a keep-alive at once.
  Result<void> report(Lsn received, Lsn durable, Time now, bool ask);
  Result<void> finish_timeline();

 private:
  struct State;
  explicit Replication(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kuramori::postgres
