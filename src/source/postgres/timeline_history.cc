#include "source/postgres/timeline_history.h"

#include <charconv>

namespace kuramori::postgres {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";

std::string_view trim_front(std::string_view text) {
  const size_t at = text.find_first_not_of(kBlanks);
  return at == std::string_view::npos ? std::string_view() : text.substr(at);
}

std::string_view take_word(std::string_view& text) {
  text = trim_front(text);
  const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
  text.remove_prefix(word.size());
  return word;
}

Error damaged(Timeline timeline, size_t line, std::string why) {
  return fail(ErrorKind::kDamaged, fmt::format("{} is damaged in line {}", history_name(timeline), line),
              std::move(why), "take the file from another copy of the archive or from the server's pg_wal");
}

}  // namespace

bool TimelineHistory::descends_from(Timeline ancestor) const {
  return switch_point(ancestor).has_value();
}

std::optional<Lsn> TimelineHistory::switch_point(Timeline ancestor) const {
  if (ancestor == timeline) return kLsnMax;
  for (const auto& entry : entries) {
    if (entry.timeline == ancestor) return entry.switch_lsn;
  }
  return std::nullopt;
}

std::optional<Lsn> TimelineHistory::begin_of(Timeline member) const {
  Lsn begin = 0;
  for (const auto& entry : entries) {
    if (entry.timeline == member) return begin;
    begin = entry.switch_lsn;
  }
  return member == timeline ? std::optional(begin) : std::nullopt;
}

Timeline TimelineHistory::timeline_at(Lsn lsn) const {
  for (const auto& entry : entries) {
    if (lsn < entry.switch_lsn) return entry.timeline;
  }
  return timeline;
}

Result<TimelineHistory> parse_timeline_history(std::string_view text, Timeline timeline) {
  if (text.size() > kTimelineHistoryBytesMax) return damaged(timeline, 1, "it is too long to be a history");
  TimelineHistory history{.timeline = timeline};
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    std::string_view line = trim_front(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.empty() || line[0] == '#') continue;

    TimelineHistoryEntry entry;
    const std::string_view id = take_word(line);
    auto [stop, error] = std::from_chars(id.data(), id.data() + id.size(), entry.timeline);
    if (error != std::errc() || stop != id.data() + id.size() || entry.timeline == 0) {
      return damaged(timeline, number, "a line begins with the number of a timeline");
    }
    auto lsn = parse_lsn(take_word(line));
    if (!lsn) return damaged(timeline, number, "behind the timeline stands the position where it was left");
    entry.switch_lsn = *lsn;
    entry.reason = trim_front(line);
    if (!history.entries.empty()) {
      const auto& before = history.entries.back();
      if (entry.timeline <= before.timeline) return damaged(timeline, number, "timelines do not ascend");
      if (entry.switch_lsn < before.switch_lsn) return damaged(timeline, number, "positions go back");
    }
    if (history.entries.size() == kTimelineHistoryEntriesMax)
      return damaged(timeline, number, "too many lines");
    history.entries.push_back(std::move(entry));
  }
  if (!history.entries.empty() && history.entries.back().timeline >= timeline) {
    return damaged(timeline, number,
                   fmt::format("it names timeline {} as an ancestor of timeline {}",
                               history.entries.back().timeline, timeline));
  }
  return history;
}

std::string format_timeline_history(const TimelineHistory& history) {
  std::string text;
  for (const auto& entry : history.entries) {
    text += fmt::format("{}\t{}\t{}\n", entry.timeline, format_lsn(entry.switch_lsn), entry.reason);
  }
  return text;
}

}  // namespace kuramori::postgres
