#include "daemon/alert_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_writer.h"

namespace kuramori {
namespace {

// Times are nanoseconds since 1970 in UTC; steady ones of the clock that goes on across daemons.
constexpr const char* kSchema =
    "create table if not exists meta(key text primary key, value text);"
    "create table if not exists alert(id integer primary key, key text, event text, also text, resource text,"
    " criticality text, what text, next text, about text, settles integer, opened integer, closed integer,"
    " acknowledged integer, acknowledged_by text, gone_since integer);"
    "create index if not exists alert_open on alert(id) where closed is null;"
    "create table if not exists told(alert integer, label text, at integer, steady integer, first integer,"
    " times integer, primary key(alert, label));"
    "create table if not exists pending(n integer primary key, label text, item text, since integer);"
    "create table if not exists heard(label text, key text, steady integer, primary key(label, key));"
    "create table if not exists reported(label text primary key, at integer);"
    "create table if not exists outbox(id integer primary key, label text, kind text, items text, at integer,"
    " state text, tries integer, again integer, why text, sent integer);"
    "create index if not exists outbox_waiting on outbox(label, id) where state = 'waiting';"
    "create index if not exists outbox_label on outbox(label, id);"
    "create table if not exists delivery(message integer, alert integer, primary key(alert, message));"
    "create table if not exists ping(name text primary key, watched_from integer, start integer, done "
    "integer,"
    " fail integer);"
    "create table if not exists acknowledged(alert integer primary key, by text, at integer, is_taken "
    "integer);"
    "create table if not exists formerly(store text, there integer, alert integer, is_new integer,"
    " primary key(store, there));";

using Json = nlohmann::json;

Database::Value optional_number(const std::optional<int64_t>& number) {
  return number ? Database::Value(*number) : Database::Value(nullptr);
}
std::optional<int64_t> ns_of(const std::optional<Time>& time) {
  return time ? std::optional(to_unix_ns(*time)) : std::nullopt;
}

void write_item(JsonWriter& json, const TellItem& item) {
  json.begin_object().field("kind", name_of(item.kind)).field("alert", item.alert).field("key", item.key);
  json.field("event", item.event).field("resource", item.resource).field("what", item.what);
  json.field("next", item.next)
      .field("critical", item.is_critical)
      .field("at", to_unix_ns(item.at))
      .end_object();
}
std::string text_of(const std::vector<TellItem>& items) {
  JsonWriter json;
  json.begin_array();
  for (const TellItem& item : items) write_item(json, item);
  json.end_array();
  return json.take();
}
// What is damaged is left out: it is our own file, and an alert is better told in part.
std::vector<TellItem> items_of(const std::string& text) {
  std::vector<TellItem> items;
  const Json read = Json::parse(text, nullptr, false);
  if (!read.is_array()) return items;
  for (const Json& one : read) {
    if (!one.is_object()) continue;
    const auto word = [&](const char* key) {
      const auto at = one.find(key);
      return at != one.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    const auto number = [&](const char* key) {
      const auto at = one.find(key);
      return at != one.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
    };
    TellItem item;
    item.kind = tell_kind_of(word("kind")).value_or(TellKind::kOpened);
    item.alert = number("alert");
    item.key = word("key");
    item.event = word("event");
    item.resource = word("resource");
    item.what = word("what");
    item.next = word("next");
    item.is_critical = one.value("critical", Json(false)) == Json(true);
    item.at = from_unix_ns(number("at"));
    items.push_back(std::move(item));
  }
  return items;
}

const std::string kSelectAlerts =
    "select id, key, event, also, resource, criticality, what, next, about, settles, opened, closed, "
    "acknowledged, acknowledged_by, gone_since from alert ";

Alert alert_of(const Database::Row& row) {
  Alert alert;
  alert.id = row.number(0);
  Trouble& trouble = alert.trouble;
  trouble.key = row.text(1);
  trouble.event = row.text(2);
  trouble.also = row.text(3);
  trouble.resource = row.text(4);
  trouble.criticality = row.text(5);
  trouble.what = row.text(6);
  trouble.next = row.text(7);
  trouble.about_label = row.text(8);
  trouble.settles = Duration(row.number(9));
  alert.opened = from_unix_ns(row.number(10));
  if (!row.is_null(11)) alert.closed = from_unix_ns(row.number(11));
  if (!row.is_null(12)) alert.acknowledged = from_unix_ns(row.number(12));
  alert.acknowledged_by = row.text(13);
  if (!row.is_null(14)) alert.gone_since = Duration(row.number(14));
  return alert;
}

int64_t number_of(const std::string& text) {
  return text.empty() ? 0 : std::strtoll(text.c_str(), nullptr, 10);
}

std::string random_hex(size_t bytes) {
  Bytes raw(bytes);
  system_random().fill(raw);
  return to_hex(raw);
}

}  // namespace

Duration resend_pause(int tries) {
  Duration pause = kResendFirst;
  for (int i = 1; i < tries && pause < kResendMost; ++i) pause *= 2;
  return std::min(pause, kResendMost);
}

Result<std::unique_ptr<AlertStore>> AlertStore::open(const std::string& path) {
  TRY_ASSIGN(auto database,
             Database::open(path, {.what = "the daemon's alerts", .schema = kSchema, .is_journal = true}));
  std::unique_ptr<AlertStore> store(new AlertStore(std::move(database)));
  TRY(store->begin());
  return store;
}

Result<std::string> AlertStore::meta(const std::string& key) {
  std::string value;
  TRY(database_->query("select value from meta where key = ?", {key},
                       [&](const Database::Row& row) { value = row.text(0); }));
  return value;
}

Result<void> AlertStore::set_meta(const std::string& key, const std::string& value) {
  return database_->query("insert or replace into meta values(?, ?)", {key, value});
}

Result<void> AlertStore::begin() {
  return database_->at_once([&]() -> Result<void> {
    TRY_ASSIGN(name_, meta("name"));
    if (name_.empty()) {
      name_ = random_hex(6);
      TRY(set_meta("name", name_));
    }
    return {};
  });
}

Result<AlertStore::Kept> AlertStore::read() {
  Kept kept;
  AlertState& state = kept.state;
  TRY(database_->query("select n, label, item, since from pending order by n", {},
                       [&](const Database::Row& row) {
                         for (TellItem& item : items_of(row.text(2)))
                           state.pending.push_back({row.text(1), std::move(item), Duration(row.number(3))});
                       }));
  TRY(database_->query((kSelectAlerts + "where closed is null").c_str(), {}, [&](const Database::Row& row) {
    Alert alert = alert_of(row);
    state.alerts.emplace(alert.id, std::move(alert));
  }));
  for (const PendingItem& one : state.pending) {
    if (one.item.alert == 0 || state.alerts.contains(one.item.alert)) continue;
    TRY(database_->query(
        (kSelectAlerts + "where id = ?").c_str(), {one.item.alert},
        [&](const Database::Row& row) { state.alerts.emplace(row.number(0), alert_of(row)); }));
  }
  for (auto& [id, alert] : state.alerts) {
    TRY_ASSIGN(alert.told, told_of(id));
  }
  // Taken by a daemon that did not live to write it down: it counts.
  for (auto& [id, alert] : state.alerts)
    TRY(database_->query("select by, at from acknowledged where alert = ?", {id},
                         [&](const Database::Row& row) {
                           alert.acknowledged_by = row.text(0);
                           alert.acknowledged = from_unix_ns(row.number(1));
                         }));
  TRY(database_->query("select label, key, steady from heard", {}, [&](const Database::Row& row) {
    state.heard[{row.text(0), row.text(1)}] = Duration(row.number(2));
  }));
  TRY(database_->query("select label, at from reported", {}, [&](const Database::Row& row) {
    state.reported[row.text(0)] = from_unix_ns(row.number(1));
  }));
  TRY(database_->query("select coalesce(max(id), 0) + 1 from alert", {},
                       [&](const Database::Row& row) { state.next_alert = row.number(0); }));
  // Old ones are trimmed: their numbers are not used again all the same.
  TRY_ASSIGN(const std::string next_alert, meta("next_alert"));
  TRY_ASSIGN(const std::string next_message, meta("next_message"));
  state.next_alert = std::max(state.next_alert, number_of(next_alert));
  state.next_message = std::max<int64_t>(1, number_of(next_message));

  TRY_ASSIGN(const std::string steady, meta("steady"));
  TRY_ASSIGN(const std::string wall, meta("wall"));
  TRY_ASSIGN(const std::string runs, meta("runs"));
  kept.marks.steady = Duration(number_of(steady));
  if (!wall.empty()) kept.marks.wall = from_unix_ns(number_of(wall));
  size_t at = 0;
  for (bool is_first = true; at <= runs.size() && !runs.empty(); is_first = false) {
    const size_t end = std::min(runs.find(' ', at), runs.size());
    const int64_t run = number_of(runs.substr(at, end - at));
    if (is_first)
      kept.marks.runs_until = run;
    else
      kept.marks.runs_besides.insert(run);
    at = end + 1;
  }
  return kept;
}

Result<std::vector<Told>> AlertStore::told_of(int64_t alert) {
  std::vector<Told> out;
  TRY(database_->query("select label, at, steady, first, times from told where alert = ? order by rowid",
                       {alert}, [&](const Database::Row& row) {
                         out.push_back({.label = row.text(0),
                                        .at = from_unix_ns(row.number(1)),
                                        .steady = Duration(row.number(2)),
                                        .first = Duration(row.number(3)),
                                        .times = static_cast<int>(row.number(4))});
                       }));
  return out;
}

Result<void> AlertStore::put_marks(const Marks& marks) {
  std::string runs = std::to_string(marks.runs_until);
  for (int64_t run : marks.runs_besides) runs += fmt::format(" {}", run);
  TRY(set_meta("steady", std::to_string(marks.steady.count())));
  if (marks.wall) TRY(set_meta("wall", std::to_string(to_unix_ns(*marks.wall))));
  return set_meta("runs", runs);
}

Result<void> AlertStore::write_marks(const Marks& marks) {
  return database_->at_once([&] { return put_marks(marks); });
}

Result<void> AlertStore::write_alert(const Alert& alert) {
  const Trouble& trouble = alert.trouble;
  const std::optional<int64_t> gone =
      alert.gone_since ? std::optional(alert.gone_since->count()) : std::nullopt;
  TRY(database_->query(
      "insert or replace into alert values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      {alert.id, trouble.key, trouble.event, trouble.also, trouble.resource, trouble.criticality,
       trouble.what, trouble.next, trouble.about_label, static_cast<int64_t>(trouble.settles.count()),
       to_unix_ns(alert.opened), optional_number(ns_of(alert.closed)),
       optional_number(ns_of(alert.acknowledged)), alert.acknowledged_by, optional_number(gone)}));
  for (const Told& told : alert.told)
    TRY(database_->query(
        "insert into told values(?, ?, ?, ?, ?, ?) on conflict(alert, label) do update set"
        " at = excluded.at, steady = excluded.steady, times = excluded.times",
        {alert.id, told.label, to_unix_ns(told.at), static_cast<int64_t>(told.steady.count()),
         static_cast<int64_t>(told.first.count()), static_cast<int64_t>(told.times)}));
  return {};
}

Result<void> AlertStore::write(const AlertStep& step, const AlertState& state, const Marks& marks) {
  return database_->at_once([&]() -> Result<void> {
    for (int64_t id : step.changed)
      if (auto at = state.alerts.find(id); at != state.alerts.end()) TRY(write_alert(at->second));
    for (const Alert& alert : step.over) TRY(write_alert(alert));
    for (const TellMessage& message : step.messages) {
      TRY(database_->query("insert into outbox values(?, ?, ?, ?, ?, 'waiting', 0, ?, '', null)",
                           {message.id, message.label, name_of(message.kind), text_of(message.items),
                            to_unix_ns(message.at), to_unix_ns(message.at)}));
      for (const TellItem& item : message.items)
        if (item.alert != 0)
          TRY(database_->query("insert or ignore into delivery values(?, ?)", {message.id, item.alert}));
    }
    TRY(put_state(state));
    return put_marks(marks);
  });
}

// All but its alerts.
Result<void> AlertStore::put_state(const AlertState& state) {
  TRY(database_->query("delete from pending"));
  for (const PendingItem& one : state.pending)
    TRY(database_->query(
        "insert into pending(label, item, since) values(?, ?, ?)",
        {one.label, text_of(std::vector{one.item}), static_cast<int64_t>(one.since.count())}));
  TRY(database_->query("delete from heard"));
  for (const auto& [who, steady] : state.heard)
    TRY(database_->query("insert into heard values(?, ?, ?)",
                         {who.first, who.second, static_cast<int64_t>(steady.count())}));
  for (const auto& [label, at] : state.reported)
    TRY(database_->query("insert or replace into reported values(?, ?)", {label, to_unix_ns(at)}));
  TRY(set_meta("next_alert", std::to_string(state.next_alert)));
  return set_meta("next_message", std::to_string(state.next_message));
}

namespace {

// Of one trouble, by two daemons' books: `here` goes on, with what was decided since.
void go_on(Alert& here, const Alert& since) {
  here.trouble = since.trouble;
  here.closed = since.closed;
  here.gone_since = since.gone_since;
  if (!here.acknowledged) {
    here.acknowledged = since.acknowledged;
    here.acknowledged_by = since.acknowledged_by;
  }
  for (const Told& told : since.told) {
    const auto known = std::ranges::find(here.told, told.label, &Told::label);
    if (known == here.told.end()) {
      here.told.push_back(told);
      continue;
    }
    known->at = told.at;
    known->steady = told.steady;
    known->times += told.times;
  }
}

struct OutboxRow {
  int64_t id = 0;
  std::string label, kind, state, why;
  std::vector<TellItem> items;
  int64_t at = 0, tries = 0;
  std::optional<int64_t> again, sent;
};

}  // namespace

Result<AlertStore::Moved> AlertStore::take_over(AlertStore& memory, Duration shift) {
  Moved moved;
  const std::string name_before = name_;
  auto done = database_->at_once([&]() -> Result<void> {
    TRY_ASSIGN(moved.kept, read());
    TRY_ASSIGN(const Kept theirs, memory.read());
    AlertState& state = moved.kept.state;
    const bool is_fresh = state.next_alert == 1 && state.next_message == 1;
    const auto number = [&](int64_t there, int64_t& next) { return is_fresh ? there : next++; };
    if (is_fresh) {
      name_ = memory.name_;
      TRY(set_meta("name", name_));
    }

    std::vector<Alert> alerts;
    TRY(memory.database_->query((kSelectAlerts + "order by id").c_str(), {},
                                [&](const Database::Row& row) { alerts.push_back(alert_of(row)); }));
    std::map<int64_t, int64_t> ids;
    std::set<int64_t> stood_here;
    std::set<std::pair<int64_t, std::string>> told_before;  // of an alert that stood here: to whom
    for (Alert& alert : alerts) {
      const int64_t there = alert.id;
      TRY_ASSIGN(alert.told, memory.told_of(there));
      for (Told& told : alert.told) told.steady += shift, told.first += shift;
      if (alert.gone_since) *alert.gone_since += shift;
      const auto same = std::ranges::find_if(state.alerts, [&](const auto& one) {
        return !one.second.closed && one.second.trouble.key == alert.trouble.key;
      });
      const bool goes_on = same != state.alerts.end();
      const int64_t id = goes_on ? same->first : number(there, state.next_alert);
      ids[there] = id;
      if (goes_on) {
        stood_here.insert(id);
        for (const Told& told : same->second.told) told_before.emplace(id, told.label);
        Alert one = same->second;
        go_on(one, alert);
        alert = std::move(one);
      }
      const bool is_of_state = theirs.state.alerts.contains(there);
      alert.id = id;
      TRY(write_alert(alert));
      if (is_of_state)
        state.alerts.insert_or_assign(id, std::move(alert));
      else
        state.alerts.erase(id);
    }
    const auto id_here = [&](int64_t alert) {
      const auto at = ids.find(alert);
      return at == ids.end() ? alert : at->second;
    };

    std::vector<OutboxRow> rows;
    TRY(memory.database_->query(
        "select id, label, kind, items, at, state, tries, again, why, sent from outbox order by id", {},
        [&](const Database::Row& row) {
          OutboxRow& one = rows.emplace_back(OutboxRow{.id = row.number(0),
                                                       .label = row.text(1),
                                                       .kind = row.text(2),
                                                       .state = row.text(5),
                                                       .why = row.text(8),
                                                       .items = items_of(row.text(3)),
                                                       .at = row.number(4),
                                                       .tries = row.number(6),
                                                       .again = {},
                                                       .sent = {}});
          if (!row.is_null(7)) one.again = row.number(7);
          if (!row.is_null(9)) one.sent = row.number(9);
        }));
    for (OutboxRow& one : rows) {
      for (TellItem& item : one.items) item.alert = item.alert == 0 ? 0 : id_here(item.alert);
      // It opened long ago, and they know.
      const size_t dropped = one.state != "waiting" ? 0 : std::erase_if(one.items, [&](const TellItem& item) {
        return item.kind == TellKind::kOpened && told_before.contains({item.alert, one.label});
      });
      if (dropped > 0 && one.items.empty()) continue;
      const int64_t id = number(one.id, state.next_message);
      moved.messages[one.id] = id;
      TRY(database_->query("insert into outbox values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                           {id, one.label, one.kind, text_of(one.items), one.at, one.state, one.tries,
                            optional_number(one.again), one.why, optional_number(one.sent)}));
      for (const TellItem& item : one.items)
        if (item.alert != 0)
          TRY(database_->query("insert or ignore into delivery values(?, ?)", {id, item.alert}));
    }

    for (PendingItem one : theirs.state.pending) {
      one.item.alert = one.item.alert == 0 ? 0 : id_here(one.item.alert);
      one.since += shift;
      state.pending.push_back(std::move(one));
    }
    for (const auto& [who, steady] : theirs.state.heard) {
      Duration& here = state.heard.try_emplace(who, steady + shift).first->second;
      here = std::max(here, steady + shift);
    }
    for (const auto& [label, at] : theirs.state.reported) {
      Time& here = state.reported.try_emplace(label, at).first->second;
      here = std::max(here, at);
    }
    if (is_fresh) {
      state.next_alert = theirs.state.next_alert;
      state.next_message = theirs.state.next_message;
    }
    // What was told of them names them by what they were there: links, incidents at PagerDuty.
    if (!is_fresh)
      for (const auto& [there, here] : ids)
        TRY(database_->query("insert or replace into formerly values(?, ?, ?, ?)",
                             {memory.name_, there, here, int64_t{stood_here.contains(here) ? 0 : 1}}));
    TRY(put_state(state));
    // The runs that were dealt with since are all those that were dealt with.
    if (theirs.marks.wall) moved.kept.marks = theirs.marks;
    moved.kept.marks.steady += theirs.marks.wall ? shift : Duration(0);
    TRY(put_marks(moved.kept.marks));

    TRY_ASSIGN(const auto calls, memory.pings());
    for (const auto& [name, call] : calls)
      TRY(
          database_->query("insert into ping(name, watched_from) values(?, ?) on conflict(name) do update set"
                           " watched_from = min(watched_from, excluded.watched_from)",
                           {name, to_unix_ns(call.watched_from)}));
    return {};
  });
  if (done) return moved;
  name_ = name_before;
  return std::move(done).error();
}

Result<std::vector<AlertStore::Acknowledgement>> AlertStore::take_acknowledged() {
  std::vector<Acknowledgement> out;
  TRY(database_->query("select alert, by, at from acknowledged where is_taken = 0", {},
                       [&](const Database::Row& row) {
                         out.push_back({row.number(0), row.text(1), from_unix_ns(row.number(2))});
                       }));
  if (!out.empty()) TRY(database_->query("update acknowledged set is_taken = 1 where is_taken = 0"));
  return out;
}

Result<void> AlertStore::acknowledge(int64_t told_as, const std::string& by, Time at) {
  return database_->at_once([&]() -> Result<void> {
    int64_t alert = told_as;
    bool is_there = false, is_over = false;
    const auto look = [&] {
      return database_->query("select closed from alert where id = ?", {alert},
                              [&](const Database::Row& row) {
                                is_there = true;
                                is_over = !row.is_null(0);
                              });
    };
    TRY(look());
    if (!is_there) {  // by the number under which it was told before it came here
      TRY(database_->query("select alert from formerly where there = ? order by rowid", {told_as},
                           [&](const Database::Row& row) { alert = row.number(0); }));
      TRY(look());
    }
    if (!is_there)
      return fail(ErrorKind::kNotFound, fmt::format("there is no alert {}", told_as), "",
                  "kuramori alerts lists those that are open");
    if (is_over)
      return fail(ErrorKind::kRefused, fmt::format("alert {} is over", alert),
                  "nobody is called because of it", "kuramori alerts lists those that are open");
    // Stands at once where alerts are listed; a daemon takes it from the other table.
    TRY(
        database_->query("update alert set acknowledged = coalesce(acknowledged, ?), acknowledged_by ="
                         " case when acknowledged is null then ? else acknowledged_by end where id = ?",
                         {to_unix_ns(at), by, alert}));
    return database_->query("insert or ignore into acknowledged values(?, ?, ?, 0)",
                            {alert, by, to_unix_ns(at)});
  });
}

Result<void> AlertStore::watch_pings(const std::vector<PingFacts>& pings, Time now) {
  return database_->at_once([&]() -> Result<void> {
    std::vector<std::string> gone;
    TRY(database_->query("select name from ping", {}, [&](const Database::Row& row) {
      if (std::ranges::find(pings, row.text(0), &PingFacts::name) == pings.end()) gone.push_back(row.text(0));
    }));
    for (const std::string& name : gone) TRY(database_->query("delete from ping where name = ?", {name}));
    for (const PingFacts& ping : pings)
      TRY(database_->query("insert or ignore into ping(name, watched_from) values(?, ?)",
                           {ping.name, to_unix_ns(now)}));
    return no_ping_ahead(now);
  });
}

// A clock that was ahead and put right leaves no moment that is still to come: nobody would be late until
// then.
Result<void> AlertStore::no_ping_ahead(Time now) {
  for (const char* sql :
       {"update ping set watched_from = ?1 where watched_from > ?1",
        "update ping set start = ?1 where start > ?1", "update ping set done = ?1 where done > ?1",
        "update ping set fail = ?1 where fail > ?1"})
    TRY(database_->query(sql, {to_unix_ns(now)}));
  return {};
}

Result<void> AlertStore::take_ping(const std::string& name, PingCall call, Time at) {
  return database_->at_once([&]() -> Result<void> {
    TRY(database_->query("insert or ignore into ping(name, watched_from) values(?, ?)",
                         {name, to_unix_ns(at)}));
    // What came last counts, whatever a clock that was moved since says.
    const char* sql = "update ping set start = ?1, done = min(done, ?1) where name = ?2";
    if (call == PingCall::kFail) sql = "update ping set fail = ?1, done = min(done, ?1) where name = ?2";
    if (call == PingCall::kDone) sql = "update ping set done = ?1, start = null, fail = null where name = ?2";
    return database_->query(sql, {to_unix_ns(at), name});
  });
}

Result<std::map<std::string, PingCalls>> AlertStore::pings() {
  std::map<std::string, PingCalls> out;
  TRY(database_->query("select name, watched_from, start, done, fail from ping", {},
                       [&](const Database::Row& row) {
                         const auto moment = [&](int column) -> std::optional<Time> {
                           if (row.is_null(column)) return std::nullopt;
                           return from_unix_ns(row.number(column));
                         };
                         out[row.text(0)] = {.watched_from = from_unix_ns(row.number(1)),
                                             .started = moment(2),
                                             .done = moment(3),
                                             .failed = moment(4)};
                       }));
  return out;
}

Result<std::optional<AlertStore::Waiting>> AlertStore::next_to_send(const std::string& label, Time now) {
  std::optional<Waiting> next;
  // In their order: what is over is not told before it began. A clock that was put back delays nothing long.
  TRY(database_->query(
      "select id, label, kind, items, at, tries, again from outbox where label = ? and"
      " state = 'waiting' order by id limit 1",
      {label}, [&](const Database::Row& row) {
        const Time again = from_unix_ns(row.number(6));
        if (again > now && again - now <= kResendMost) return;
        Waiting waiting;
        waiting.message = {row.number(0), row.text(1), tell_kind_of(row.text(2)).value_or(TellKind::kOpened),
                           items_of(row.text(3)), from_unix_ns(row.number(4))};
        waiting.tries = static_cast<int>(row.number(5));
        waiting.created = waiting.message.at;
        next = std::move(waiting);
      }));
  return next;
}

Result<void> AlertStore::set_trying(int64_t message, Time again) {
  return database_->query("update outbox set again = ? where id = ?", {to_unix_ns(again), message});
}

Result<void> AlertStore::set_sent(int64_t message, Time at) {
  return database_->query(
      "update outbox set state = 'sent', sent = ?, why = '', tries = tries + 1 where id = ?",
      {to_unix_ns(at), message});
}

Result<void> AlertStore::set_not_sent(int64_t message, int tries, const std::string& why,
                                      std::optional<Time> again) {
  return database_->query("update outbox set state = ?, tries = ?, why = ?, again = ? where id = ?",
                          {again ? "waiting" : "failed", static_cast<int64_t>(tries), why,
                           optional_number(ns_of(again)), message});
}

Result<std::vector<std::pair<std::string, std::string>>> AlertStore::undelivered() {
  std::vector<std::pair<std::string, std::string>> out;
  TRY(
      database_->query("select label, why from outbox o where state = 'failed' and id ="
                       " (select max(id) from outbox n where n.label = o.label and state != 'waiting')",
                       {}, [&](const Database::Row& row) { out.emplace_back(row.text(0), row.text(1)); }));
  return out;
}

Result<std::vector<AlertStore::Former>> AlertStore::former() {
  std::vector<Former> out;
  TRY(database_->query("select store, there, alert, is_new from formerly order by rowid", {},
                       [&](const Database::Row& row) {
                         out.push_back({row.text(0), row.number(1), row.number(2), row.number(3) != 0});
                       }));
  return out;
}

Result<std::optional<Alert>> AlertStore::find(int64_t alert) {
  std::optional<Alert> found;
  TRY(database_->query((kSelectAlerts + "where id = ?").c_str(), {alert},
                       [&](const Database::Row& row) { found = alert_of(row); }));
  return found;
}

Result<std::vector<AlertStore::Listed>> AlertStore::list(int64_t closed) {
  std::vector<Listed> out;
  const auto take = [&](const Database::Row& row) { out.push_back({alert_of(row), {}}); };
  TRY(database_->query((kSelectAlerts + "where closed is null order by id").c_str(), {}, take));
  TRY(database_->query((kSelectAlerts + "where closed is not null order by id desc limit ?").c_str(),
                       {closed}, take));
  for (Listed& one : out) {
    TRY(database_->query("select label, at, times from told where alert = ? order by rowid", {one.alert.id},
                         [&](const Database::Row& row) {
                           Told told;
                           told.label = row.text(0);
                           told.at = from_unix_ns(row.number(1));
                           told.times = static_cast<int>(row.number(2));
                           one.alert.told.push_back(std::move(told));
                         }));
    TRY(
        database_->query("select o.label, o.state, o.why from outbox o join delivery d on d.message = o.id"
                         " where d.alert = ? and o.id = (select max(o2.id) from outbox o2 join delivery d2 on"
                         " d2.message = o2.id where d2.alert = d.alert and o2.label = o.label) order by o.id",
                         {one.alert.id}, [&](const Database::Row& row) {
                           const std::string why = row.text(2);
                           std::string state = row.text(1) == "waiting" ? "waits" : row.text(1);
                           if (!why.empty()) state += ": " + why;
                           one.deliveries.emplace_back(row.text(0), std::move(state));
                         }));
  }
  return out;
}

Result<void> AlertStore::trim(Time now) {
  return database_->at_once([&]() -> Result<void> {
    const int64_t messages = to_unix_ns(now - kMessagesKept), alerts = to_unix_ns(now - kAlertsKept);
    TRY(database_->query(
        "delete from delivery where message in (select id from outbox where state != 'waiting'"
        " and at < ?)",
        {messages}));
    TRY(database_->query("delete from outbox where state != 'waiting' and at < ?", {messages}));
    TRY(database_->query("delete from told where alert in (select id from alert where closed < ?)",
                         {alerts}));
    TRY(database_->query("delete from acknowledged where alert in (select id from alert where closed < ?)",
                         {alerts}));
    TRY(no_ping_ahead(now));
    TRY(database_->query("delete from alert where closed < ?", {alerts}));
    return database_->query("delete from formerly where alert not in (select id from alert)");
  });
}

}  // namespace kuramori
