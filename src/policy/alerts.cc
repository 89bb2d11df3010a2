#include "policy/alerts.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/time_text.h"
#include "policy/resource_config.h"

namespace kuramori {
namespace {

constexpr std::pair<TellKind, std::string_view> kKinds[] = {
    {TellKind::kOpened, "opened"}, {TellKind::kEscalated, "escalated"}, {TellKind::kAgain, "again"},
    {TellKind::kPassed, "passed"}, {TellKind::kResolved, "resolved"},   {TellKind::kSuccess, "success"},
    {TellKind::kReport, "report"}, {TellKind::kDigest, "digest"},       {TellKind::kTest, "test"},
};

constexpr Duration kReportAheadMost = std::chrono::hours(25);  // a day on which the clocks go back

// A month counts thirty days: here it is a pause, not a date.
Duration length_of(const Period& period) {
  constexpr auto kMost = std::chrono::hours(24 * 365 * 100);
  if (period.endless) return kMost;
  const auto length = std::chrono::seconds(period.seconds) + std::chrono::hours(24 * 30) * period.months;
  return std::min<Duration>(kMost, length);
}

bool is_critical(std::string_view criticality) {
  return criticality == criticality_words().front();
}

Told* told_of(Alert& alert, const std::string& label) {
  const auto at = std::ranges::find(alert.told, label, &Told::label);
  return at == alert.told.end() ? nullptr : &*at;
}

// A step's trouble is its entry's, too; "ops-pager" is not "ops".
bool is_about(const Trouble& trouble, const std::string& label) {
  return trouble.about_label == label || trouble.about_label.starts_with(label + ", step ");
}

// What came and went before it was told is one thing that is over.
std::vector<TellItem> merged(std::vector<TellItem> items) {
  std::vector<TellItem> out;
  for (TellItem& item : items) {
    const auto opening = std::ranges::find_if(out, [&](const TellItem& one) {
      return one.alert == item.alert && one.alert != 0 && one.kind == TellKind::kOpened;
    });
    if (item.kind == TellKind::kResolved && opening != out.end())
      opening->kind = TellKind::kPassed;
    else
      out.push_back(std::move(item));
  }
  return out;
}

}  // namespace

std::string_view name_of(TellKind kind) {
  for (const auto& [one, name] : kKinds)
    if (one == kind) return name;
  return "opened";
}

std::optional<TellKind> tell_kind_of(std::string_view name) {
  for (const auto& [kind, one] : kKinds)
    if (one == name) return kind;
  return std::nullopt;
}

std::string label_of(const NotifyConfig& entry, size_t index, size_t step) {
  const std::string label = entry.name.empty() ? fmt::format("notify {}", index + 1) : entry.name;
  return step == 0 ? label : fmt::format("{}, step {}", label, step);
}

bool hears(const NotifyConfig& entry, std::string_view event, std::string_view also,
           std::string_view resource, std::string_view criticality) {
  const bool event_fits = std::ranges::any_of(entry.when, [&](const std::string& word) {
    return word == "all" || word == event || (!also.empty() && word == also);
  });
  // What belongs to no resource (a vault, the daemon) is everybody's.
  const bool resource_fits = entry.resources.empty() || resource.empty() ||
                             std::ranges::find(entry.resources, resource) != entry.resources.end();
  const bool weighs_enough =
      resource.empty() || rank_of_criticality(criticality) >= rank_of_criticality(entry.least);
  return event_fits && resource_fits && weighs_enough;
}

bool is_label_of(const std::vector<NotifyConfig>& entries, std::string_view label) {
  for (size_t i = 0; i < entries.size(); ++i)
    for (size_t step = 0; step <= entries[i].escalate.size(); ++step)
      if (label_of(entries[i], i, step) == label) return true;
  return false;
}

bool is_quiet(const QuietHours& quiet, Time now) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const auto local = seconds.time_since_epoch() + zone_span(seconds, quiet.timezone).offset;
  const auto minute = std::chrono::floor<std::chrono::minutes>(local) % std::chrono::days(1);
  const int at = static_cast<int>(std::chrono::floor<std::chrono::minutes>(minute).count());
  if (quiet.from < quiet.until) return at >= quiet.from && at < quiet.until;
  return at >= quiet.from || at < quiet.until;
}

std::optional<Time> next_report(const NotifyConfig& entry, Time after) {
  const int minute = entry.report_at.value_or(kReportMinute);
  auto schedule = parse_schedule(fmt::format("{} {} * * *", minute % 60, minute / 60));
  if (!schedule) return std::nullopt;
  const std::string& zone = !entry.timezone.empty() ? entry.timezone
                            : entry.quiet           ? entry.quiet->timezone
                                                    : entry.timezone;
  return next_run(*schedule, zone, after);
}

void AlertBook::touch(int64_t alert) {
  out_.is_nothing = false;
  if (std::ranges::find(out_.changed, alert) == out_.changed.end()) out_.changed.push_back(alert);
}

bool AlertBook::is_pending(const std::string& label, int64_t alert, TellKind kind) const {
  return std::ranges::any_of(state_.pending, [&](const PendingItem& one) {
    return one.label == label && one.item.alert == alert && one.item.kind == kind;
  });
}

void AlertBook::add(const std::string& label, TellKind kind, const Alert& alert, Now now) {
  const Trouble& trouble = alert.trouble;
  state_.pending.push_back({.label = label,
                            .item = {.kind = kind,
                                     .alert = alert.id,
                                     .key = trouble.key,
                                     .event = trouble.event,
                                     .resource = trouble.resource,
                                     .what = trouble.what,
                                     .next = trouble.next,
                                     .is_critical = is_critical(trouble.criticality),
                                     .at = kind == TellKind::kResolved ? now.wall : alert.opened},
                            .since = now.steady});
  out_.is_nothing = false;
}

void AlertBook::match(const Seen& seen, Now now) {
  std::map<std::string, int64_t> open;
  for (const auto& [id, alert] : state_.alerts)
    if (!alert.closed) open.emplace(alert.trouble.key, id);
  std::set<std::string> given;
  for (const Trouble& trouble : seen.troubles) {
    if (!given.insert(trouble.key).second) continue;
    const auto at = open.find(trouble.key);
    if (at == open.end()) {
      const int64_t id = state_.next_alert++;
      Alert alert;
      alert.id = id;
      alert.trouble = trouble;
      alert.opened = now.wall;
      state_.alerts.emplace(id, std::move(alert));
      touch(id);
      continue;
    }
    Alert& alert = state_.alerts.at(at->second);
    if (alert.gone_since) touch(alert.id);
    alert.gone_since.reset();
    alert.trouble = trouble;  // newer words; nobody is told because of them
    open.erase(at);
  }
  for (const auto& [key, id] : open) {
    Alert& alert = state_.alerts.at(id);
    if (seen.was_looked_at && !seen.was_looked_at(alert.trouble)) continue;
    if (alert.gone_since) continue;
    alert.gone_since = now.steady;
    touch(id);
  }
}

void AlertBook::close_gone(const Seen&, Now now) {
  for (auto& [id, alert] : state_.alerts) {
    if (alert.closed || !alert.gone_since || now.steady - *alert.gone_since < alert.trouble.settles) continue;
    alert.closed = now.wall;
    touch(id);
    std::set<std::string> labels;
    for (const Told& told : alert.told) labels.insert(told.label);
    for (const PendingItem& one : state_.pending)
      if (one.item.alert == id && one.item.kind == TellKind::kOpened) labels.insert(one.label);
    // Nobody is bothered with "still open" of what is over.
    std::erase_if(state_.pending, [&, over = id](const PendingItem& one) {
      return one.item.alert == over &&
             (one.item.kind == TellKind::kAgain || one.item.kind == TellKind::kEscalated);
    });
    for (const std::string& label : labels) add(label, TellKind::kResolved, alert, now);
  }
}

// Whoever should know and does not: that is also an entry that is new in the configuration.
void AlertBook::tell_openings(std::span<const NotifyConfig> entries, Now now) {
  for (auto& [id, alert] : state_.alerts) {
    if (alert.closed || alert.gone_since) continue;
    const Trouble& trouble = alert.trouble;
    for (size_t i = 0; i < entries.size(); ++i) {
      const std::string label = label_of(entries[i], i);
      if (!hears(entries[i], trouble.event, trouble.also, trouble.resource, trouble.criticality)) continue;
      if (is_about(trouble, label)) continue;
      if (told_of(alert, label) != nullptr || is_pending(label, id, TellKind::kOpened)) continue;
      add(label, TellKind::kOpened, alert, now);
    }
  }
}

void AlertBook::escalate(std::span<const NotifyConfig> entries, Now now) {
  for (auto& [id, alert] : state_.alerts) {
    if (alert.closed || alert.acknowledged || alert.gone_since) continue;
    for (size_t i = 0; i < entries.size(); ++i) {
      const NotifyConfig& entry = entries[i];
      const Duration again = entry.again ? length_of(*entry.again) : kTellAgainAfter;
      const Told* first = told_of(alert, label_of(entry, i));
      if (first == nullptr) continue;
      for (size_t step = 0; step <= entry.escalate.size(); ++step) {
        const std::string label = label_of(entry, i, step);
        const Told* told = told_of(alert, label);
        if (told != nullptr) {
          if (now.steady - told->steady >= again && !is_pending(label, id, TellKind::kAgain))
            add(label, TellKind::kAgain, alert, now);
        } else if (now.steady - first->first >= length_of(entry.escalate[step - 1].after) &&
                   !is_pending(label, id, TellKind::kEscalated)) {
          add(label, TellKind::kEscalated, alert, now);
        }
      }
    }
  }
}

void AlertBook::take_happenings(const Seen& seen, std::span<const NotifyConfig> entries, Now now) {
  for (const Happening& one : seen.happenings) {
    for (size_t i = 0; i < entries.size(); ++i) {
      if (!hears(entries[i], one.event, {}, one.resource, one.criticality)) continue;
      state_.pending.push_back({.label = label_of(entries[i], i),
                                .item = {.kind = TellKind::kSuccess,
                                         .alert = 0,
                                         .key = {},
                                         .event = one.event,
                                         .resource = one.resource,
                                         .what = one.what,
                                         .next = {},
                                         .is_critical = false,
                                         .at = one.at},
                                .since = now.steady});
    }
    out_.is_nothing = false;
  }
}

void AlertBook::take_reports(const Seen& seen, std::span<const NotifyConfig> entries, Now now) {
  std::string text;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!hears(entries[i], "daily-report", {}, {}, {})) continue;
    const std::string label = label_of(entries[i], i);
    const auto [at, is_new] = state_.reported.emplace(label, now.wall);
    if (is_new) out_.is_nothing = false;
    // Remembered by a clock that was ahead: nobody would hear anything until that time comes. Less than a day
    // ahead is a moment that had its report.
    if (at->second - now.wall > kReportAheadMost) {
      at->second = now.wall;
      out_.is_nothing = false;
    }
    const auto due = next_report(entries[i], at->second);
    if (is_new || !due || *due > now.wall) continue;
    // Of days that nobody saw there is one report; and a clock that is put back gets no second one.
    at->second = now.wall;
    if (text.empty() && seen.report) text = seen.report();
    state_.pending.push_back({.label = label,
                              .item = {.kind = TellKind::kReport,
                                       .alert = 0,
                                       .key = {},
                                       .event = "daily-report",
                                       .resource = {},
                                       .what = text,
                                       .next = {},
                                       .is_critical = false,
                                       .at = now.wall},
                              .since = now.steady});
    out_.is_nothing = false;
  }
}

void AlertBook::send(const std::string& label, TellKind kind, std::vector<TellItem> items, Now now) {
  for (const TellItem& item : items) {
    if (!item.key.empty()) state_.heard[{label, item.key}] = now.steady;
    const auto at = state_.alerts.find(item.alert);
    if (at == state_.alerts.end() || item.kind == TellKind::kResolved || item.kind == TellKind::kPassed)
      continue;
    Alert& alert = at->second;
    Told* told = told_of(alert, label);
    if (told == nullptr)
      told = &alert.told.emplace_back(Told{.label = label, .at = {}, .steady = {}, .first = now.steady});
    told->at = now.wall;
    told->steady = now.steady;
    ++told->times;
    touch(alert.id);
  }
  out_.messages.push_back({state_.next_message++, label, kind, std::move(items), now.wall});
  out_.is_nothing = false;
}

void AlertBook::send_of(const NotifyConfig& entry, const std::string& label, Now now) {
  const bool quiet = entry.quiet && is_quiet(*entry.quiet, now.wall);
  std::optional<Duration> oldest;
  for (const PendingItem& one : state_.pending)
    if (one.label == label) oldest = std::min(oldest.value_or(one.since), one.since);
  if (!oldest || (entry.digest && now.steady - *oldest < length_of(*entry.digest))) return;

  const auto came_again = [&](const PendingItem& one) {
    if (one.item.kind != TellKind::kOpened) return false;
    const auto heard = state_.heard.find({label, one.item.key});
    return heard != state_.heard.end() && now.steady - heard->second < kSameAgainAfter;
  };
  std::set<int64_t> waiting;  // alerts whose opening is not told yet: so is their end not
  std::vector<TellItem> items;
  bool waited = entry.digest.has_value();
  std::vector<PendingItem> kept;
  for (PendingItem& one : state_.pending) {
    const bool is_mine = one.label == label;
    const bool waits = is_mine && ((quiet && !one.item.is_critical) || came_again(one) ||
                                   (one.item.alert != 0 && waiting.contains(one.item.alert)));
    if (waits && one.item.kind == TellKind::kOpened) waiting.insert(one.item.alert);
    if (!is_mine || waits || items.size() >= kDigestItemsMax) {
      kept.push_back(std::move(one));
      continue;
    }
    waited |= one.since < now.steady;
    items.push_back(std::move(one.item));
  }
  state_.pending = std::move(kept);
  items = merged(std::move(items));
  // A report is a message of its own: nobody looks for it in a digest.
  std::vector<TellItem> together;
  for (TellItem& item : items) {
    if (item.kind == TellKind::kReport)
      send(label, TellKind::kReport, {std::move(item)}, now);
    else
      together.push_back(std::move(item));
  }
  if (together.empty()) return;
  if (together.size() > 1 && (waited || together.size() > kSinglyMax))
    return send(label, TellKind::kDigest, std::move(together), now);
  for (TellItem& item : together) {
    const TellKind kind = item.kind;
    send(label, kind, {std::move(item)}, now);
  }
}

void AlertBook::send_due(std::span<const NotifyConfig> entries, Now now) {
  std::set<std::string> known;
  for (size_t i = 0; i < entries.size(); ++i)
    for (size_t step = 0; step <= entries[i].escalate.size(); ++step) {
      known.insert(label_of(entries[i], i, step));
      send_of(entries[i], label_of(entries[i], i, step), now);
    }
  // Who is no longer in the configuration.
  if (std::erase_if(state_.pending, [&](const PendingItem& one) { return !known.contains(one.label); }) > 0)
    out_.is_nothing = false;
}

void AlertBook::forget(Now now) {
  std::erase_if(state_.heard, [&](const auto& one) { return now.steady - one.second >= kSameAgainAfter; });
  for (auto at = state_.alerts.begin(); at != state_.alerts.end();) {
    const bool is_told = std::ranges::none_of(
        state_.pending, [&](const PendingItem& one) { return one.item.alert == at->first; });
    if (!at->second.closed || !is_told) {
      ++at;
      continue;
    }
    std::erase(out_.changed, at->first);
    out_.over.push_back(std::move(at->second));
    out_.is_nothing = false;
    at = state_.alerts.erase(at);
  }
}

AlertStep AlertBook::step(const Seen& seen, std::span<const NotifyConfig> entries, Now now) {
  out_ = {};
  match(seen, now);
  close_gone(seen, now);
  tell_openings(entries, now);
  escalate(entries, now);
  take_happenings(seen, entries, now);
  take_reports(seen, entries, now);
  send_due(entries, now);
  forget(now);
  return std::move(out_);
}

bool AlertBook::acknowledge(int64_t alert, const std::string& by, Time at) {
  const auto found = state_.alerts.find(alert);
  if (found == state_.alerts.end() || found->second.closed) return false;
  if (found->second.acknowledged) return true;
  found->second.acknowledged = at;
  found->second.acknowledged_by = by;
  std::erase_if(state_.pending, [&](const PendingItem& one) {
    return one.item.alert == alert &&
           (one.item.kind == TellKind::kAgain || one.item.kind == TellKind::kEscalated);
  });
  return true;
}

}  // namespace kuramori
