// What alerts must not lose: what is open, who was told, what waits to be sent. A SQLite file of its own in
// the state folder, so that a message that is sent slowly never waits for the scheduler's journal, nor that
// for it. Losing it costs history, and what is wrong is told once more.
//
// Deciding and sending are apart: a decision is written down whole, its messages with it; then each is sent
// until somebody took it. Killed between the two, the next daemon sends it; killed between sending and
// writing that down, it goes out twice, with the same number.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/database.h"
#include "policy/alerts.h"
#include "policy/pings.h"

namespace kuramori {

constexpr const char* kAlertStoreFile = "alerts.sqlite";  // in the state folder
constexpr Duration kResendFirst = std::chrono::seconds(5), kResendMost = std::chrono::minutes(15);
constexpr Duration kResendFor = std::chrono::hours(24);  // then nobody waits for it any more
constexpr Duration kMessagesKept = std::chrono::hours(24 * 90), kAlertsKept = std::chrono::hours(24 * 400);

class AlertStore {
 public:
  // `path` may be ":memory:".
  static Result<std::unique_ptr<AlertStore>> open(const std::string& path);

  const std::string& name() const { return name_; }  // of this store, in the numbers of its messages

  // What is kept beside the alerts: the clock that does not jump, and which runs were told of.
  struct Marks {
    Duration steady{0};
    std::optional<Time> wall;        // when that was so; nothing: the store is new
    int64_t runs_until = 0;          // these and all before are dealt with …
    std::set<int64_t> runs_besides;  // … and these
  };
  struct Kept {
    AlertState state;
    Marks marks;
  };
  Result<Kept> read();
  // What a daemon decided while this file could not be opened comes into it from where that is kept in
  // memory, all of it or nothing: nothing is lost, nobody told again. `shift`: of its steady clock to this
  // one's. Where nothing was decided here yet, names and numbers stay; otherwise an alert of the same trouble
  // is the one that stands here, and former() says by which names others know it.
  struct Moved {
    Kept kept;                            // as it stands here now
    std::map<int64_t, int64_t> messages;  // the numbers they have here; of some there was nothing left to say
  };
  Result<Moved> take_over(AlertStore& memory, Duration shift);
  // All of it, or nothing.
  Result<void> write(const AlertStep& step, const AlertState& state, const Marks& marks);
  Result<void> write_marks(const Marks& marks);

  // Who acknowledged what, each told once. Another process writes that.
  struct Acknowledgement {
    int64_t alert = 0;
    std::string by;
    Time at;
  };
  Result<std::vector<Acknowledgement>> take_acknowledged();
  // Also by a number of former(). kNotFound: there is no such alert. kRefused: it is over.
  Result<void> acknowledge(int64_t told_as, const std::string& by, Time at);

  // The next message for `label` that is to go out at `now`; in their order.
  struct Waiting {
    TellMessage message;
    int tries = 0;
    Time created;
  };
  Result<std::optional<Waiting>> next_to_send(const std::string& label, Time now);
  // Before it is sent: nobody tries it again before `again`. What cannot be written down is not sent.
  Result<void> set_trying(int64_t message, Time again);
  Result<void> set_sent(int64_t message, Time at);
  // It is tried again at `again`; never, where that is nothing.
  Result<void> set_not_sent(int64_t message, int tries, const std::string& why, std::optional<Time> again);

  // Other people's scripts: these are watched from `now` on, or from when they first were; others are
  // forgotten.
  Result<void> watch_pings(const std::vector<PingFacts>& pings, Time now);
  // Another process or thread writes that.
  Result<void> take_ping(const std::string& name, PingCall call, Time at);
  // Who called when.
  Result<std::map<std::string, PingCalls>> pings();

  // Of whom the newest message could not be delivered, and why.
  Result<std::vector<std::pair<std::string, std::string>>> undelivered();

  struct Listed {
    Alert alert;
    std::vector<std::pair<std::string, std::string>>
        deliveries;  // label, and "sent", "waits: why", "failed: why"
  };
  // By which number which of them went in a store that was taken over (take_over).
  struct Former {
    std::string store;
    int64_t there = 0, alert = 0;
    bool is_new = false;  // nobody had been told of it under the number it has here
  };
  Result<std::vector<Former>> former();
  // One of them, open or over, without who was told; nothing: there is none.
  Result<std::optional<Alert>> find(int64_t alert);
  // Those that are open, and the newest `closed` of those that are over.
  Result<std::vector<Listed>> list(int64_t closed);
  Result<void> trim(Time now);

 private:
  explicit AlertStore(std::unique_ptr<Database> database) : database_(std::move(database)) {}
  Result<void> begin();
  Result<void> no_ping_ahead(Time now);
  Result<std::string> meta(const std::string& key);
  Result<void> set_meta(const std::string& key, const std::string& value);
  Result<void> write_alert(const Alert& alert);
  Result<void> put_marks(const Marks& marks);
  Result<void> put_state(const AlertState& state);
  Result<std::vector<Told>> told_of(int64_t alert);

  std::unique_ptr<Database> database_;
  std::string name_;
};

// How long after the `tries`th try the next one comes.
Duration resend_pause(int tries);

}  // namespace kuramori
