// Who is told what, and when. Pure: the troubles that hold now go in, messages come out. Whoever drives this
// writes down what a step says, all of it or nothing, before anything is sent: so nothing is told twice and
// nothing is lost, whenever the daemon is killed.
//
// An alert is one trouble from its beginning to its end, whatever its words do meanwhile. Each entry of
// `notify` that hears of it is told when it opens and when it is over; the steps of its escalation while
// nobody acknowledges it. What cannot be told now (quiet hours, a digest) waits; what came and went meanwhile
// is told as that.
//
// Two clocks: quiet hours and reports are moments of a zone's wall clock; escalation, digests and pauses are
// lengths and are measured by one that never jumps and goes on where the last daemon left it.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/units.h"
#include "policy/people_config.h"
#include "policy/scheduling.h"

namespace kuramori {

// Told so long after the last time, while it is open and nobody has acknowledged it.
constexpr Duration kTellAgainAfter = std::chrono::hours(24);
// Of one that comes and goes, an entry is told anew at most so often.
constexpr Duration kSameAgainAfter = std::chrono::minutes(15);
constexpr size_t kSinglyMax = 5;          // more at once are one message: a storm is not 300 mails
constexpr size_t kDigestItemsMax = 2000;  // of one message; the rest is the next one's
constexpr int kReportMinute = 8 * 60;     // of the day, where an entry does not say

// Something that is not as it should be, for as long as it is so.
struct Trouble {
  std::string key;       // the same as long as it lasts: "failure backup orders/orders-db"
  std::string event;     // of notify_events()
  std::string also;      // a second one that it is, or ""
  std::string resource;  // "" where it is none's
  std::string criticality;
  std::string what, next;   // a sentence, and what to type
  std::string about_label;  // it is about telling this one: told to all others
  Duration settles{0};      // it must have been gone for so long to be over
};
// Something that happened and is no trouble. To be given once.
struct Happening {
  std::string event, resource, criticality, what;
  Time at;
};

enum class TellKind {
  kOpened,
  kEscalated,  // opened, and nobody acknowledged it
  kAgain,      // still open
  kPassed,     // it came and went before it could be told
  kResolved,
  kSuccess,
  kReport,
  kDigest,  // a message of several
  kTest,
};
std::string_view name_of(TellKind kind);  // "opened"
std::optional<TellKind> tell_kind_of(std::string_view name);

struct TellItem {
  TellKind kind = TellKind::kOpened;
  int64_t alert = 0;  // 0: it belongs to none
  std::string key, event, resource, what, next;
  bool is_critical = false;
  Time at;  // when it was so
  bool operator==(const TellItem&) const = default;
};

// What one target is to be sent.
struct TellMessage {
  int64_t id = 0;     // never used twice by one journal
  std::string label;  // of whom: see label_of()
  TellKind kind = TellKind::kOpened;
  std::vector<TellItem> items;
  Time at;
};

struct Told {
  std::string label;
  Time at;             // the last time
  Duration steady{0};  // the same
  Duration first{0};
  int times = 0;
};
struct Alert {
  int64_t id = 0;
  Trouble trouble;
  Time opened;
  std::optional<Time> closed, acknowledged;
  std::string acknowledged_by;
  std::optional<Duration> gone_since;  // it does not hold, and has not settled yet
  std::vector<Told> told;
};

// What waits to be told.
struct PendingItem {
  std::string label;
  TellItem item;
  Duration since{0};
};

// All that must be kept between daemons.
struct AlertState {
  std::map<int64_t, Alert> alerts;  // open, or with something left to tell
  std::vector<PendingItem> pending;
  std::map<std::pair<std::string, std::string>, Duration> heard;  // by label and key: when last
  std::map<std::string, Time> reported;  // by label: up to when reports are dealt with
  int64_t next_alert = 1, next_message = 1;
};

struct AlertStep {
  std::vector<int64_t> changed;  // alerts that are to be written down
  std::vector<Alert> over;       // closed, and everybody told: no longer in the state
  std::vector<TellMessage> messages;
  bool is_nothing = true;  // nothing but perhaps words has changed
};

// Of an entry (its name, else "notify 2") and of a step of its escalation, which counts from 1.
std::string label_of(const NotifyConfig& entry, size_t index, size_t step = 0);
// Whether one of these entries, or a step of its escalation, is called so.
bool is_label_of(const std::vector<NotifyConfig>& entries, std::string_view label);
// True if the entry is told of this. `all` is everything.
bool hears(const NotifyConfig& entry, std::string_view event, std::string_view also,
           std::string_view resource, std::string_view criticality);
bool is_quiet(const QuietHours& quiet, Time now);
// The first moment after `after` that the entry's report is due.
std::optional<Time> next_report(const NotifyConfig& entry, Time after);

class AlertBook {
 public:
  explicit AlertBook(AlertState state) : state_(std::move(state)) {}

  // `report`: makes the text of a report; asked only when one is due.
  struct Seen {
    std::vector<Trouble> troubles;  // all that hold; of two with one key the first counts
    std::vector<Happening> happenings;
    std::function<std::string()> report;
    // Not everything could be looked at: what is missing from `troubles` may hold all the same. True for keys
    // that were looked at.
    std::function<bool(const Trouble&)> was_looked_at;
  };
  AlertStep step(const Seen& seen, std::span<const NotifyConfig> entries, Now now);
  // False: there is none that is open. A second time changes nothing.
  bool acknowledge(int64_t alert, const std::string& by, Time at);

  const AlertState& state() const { return state_; }

 private:
  void match(const Seen& seen, Now now);
  void close_gone(const Seen& seen, Now now);
  void tell_openings(std::span<const NotifyConfig> entries, Now now);
  void escalate(std::span<const NotifyConfig> entries, Now now);
  void take_happenings(const Seen& seen, std::span<const NotifyConfig> entries, Now now);
  void take_reports(const Seen& seen, std::span<const NotifyConfig> entries, Now now);
  void send_due(std::span<const NotifyConfig> entries, Now now);
  void send_of(const NotifyConfig& entry, const std::string& label, Now now);
  void send(const std::string& label, TellKind kind, std::vector<TellItem> items, Now now);
  void forget(Now now);

  bool is_pending(const std::string& label, int64_t alert, TellKind kind) const;
  void add(const std::string& label, TellKind kind, const Alert& alert, Now now);
  void touch(int64_t alert);

  AlertState state_;
  AlertStep out_;
};

}  // namespace kuramori
