#include "cli/top_frame.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/text_width.h"
#include "base/time_text.h"
#include "base/units.h"

namespace kuramori {
namespace {

constexpr size_t kGap = 2;      // columns between two
constexpr size_t kNameMin = 8;  // columns that a name keeps
constexpr size_t kJobsShown = 6, kBrokenShown = 8, kEndedShown = 4, kAlertsShown = 6;

constexpr std::string_view kRed = "\033[31m", kYellow = "\033[33m", kGreen = "\033[32m", kBold = "\033[1m",
                           kDim = "\033[2m", kPlain = "\033[0m";

std::string long_ago(Time since, Time now) {
  return format_duration(std::chrono::floor<std::chrono::seconds>(std::max(Duration(0), now - since)));
}

std::string_view colour_of(std::string_view state) {
  return state == "protected" ? kGreen : state == "at risk" ? kYellow : kRed;
}
int rank_of(std::string_view state) {
  return state == "unprotected" ? 0 : state == "at risk" ? 1 : 2;
}

struct Cell {
  std::string text;
  std::string_view colour = {};
};

// Columns that fit: the first keeps its place and is cut, the others go by their importance, least first.
class Grid {
 public:
  struct Column {
    std::string name;
    int importance = 0;
  };
  explicit Grid(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  size_t rows() const { return rows_.size(); }

  // The head, and as many rows as are asked for.
  std::vector<std::string> lines(size_t width, size_t rows, Colour colour) const {
    std::vector<size_t> widths;
    for (size_t i = 0; i < columns_.size(); ++i) {
      size_t most = shown_width(columns_[i].name);
      for (const auto& row : rows_) most = std::max(most, shown_width(row[i].text));
      widths.push_back(most);
    }
    std::vector<bool> shown(columns_.size(), true);
    const auto total = [&](size_t first) {
      size_t sum = first;
      for (size_t i = 1; i < columns_.size(); ++i)
        if (shown[i]) sum += kGap + widths[i];
      return sum;
    };
    while (total(std::min(widths[0], kNameMin)) > width) {
      size_t least = 0;
      for (size_t i = 1; i < columns_.size(); ++i)
        if (shown[i] && (least == 0 || columns_[i].importance < columns_[least].importance)) least = i;
      if (least == 0) break;
      shown[least] = false;
    }
    const size_t others = total(0);
    widths[0] = std::min(widths[0], width > others ? width - others : width);
    const auto line = [&](auto&& cell_of, std::string_view whole) {
      std::string text;
      for (size_t i = 0; i < columns_.size(); ++i) {
        if (!shown[i]) continue;
        if (i > 0) text += std::string(kGap, ' ');
        const Cell cell = cell_of(i);
        const std::string_view own = whole.empty() ? cell.colour : whole;
        const bool painted = colour == Colour::kYes && !own.empty();
        if (painted) text += own;
        text += padded(cell.text, widths[i]);
        if (painted) text += kPlain;
      }
      return text;
    };
    std::vector<std::string> out{line([&](size_t i) { return Cell{columns_[i].name}; }, kDim)};
    for (size_t n = 0; n < std::min(rows, rows_.size()); ++n)
      out.push_back(line([&](size_t i) { return rows_[n][i]; }, {}));
    return out;
  }

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

Grid resources_of(const ShownStatus& status, Time now) {
  Grid grid({{"resource", 0},
             {"now", 9},
             {"could lose", 8},
             {"rpo", 7},
             {"next run", 5},
             {"proven", 6},
             {"opens in", 3},
             {"rto", 2},
             {"snapshots", 1}});
  std::vector<const ShownStatus::Resource*> sorted;
  for (const auto& one : status.resources) sorted.push_back(&one);
  std::ranges::stable_sort(sorted, {}, [](const auto* one) { return rank_of(one->state); });
  for (const ShownStatus::Resource* one : sorted) {
    std::string proven = "never", next, snapshots;
    if (one->proof) proven = long_ago(one->proof->at, now) + " ago";
    if (one->proof && !one->proof->passed) proven = "FAILED " + proven;
    if (one->next_run) next = *one->next_run <= now ? "now" : "in " + long_ago(now, *one->next_run);
    for (const auto& place : one->places)
      snapshots += fmt::format("{}{} {}", snapshots.empty() ? "" : ", ", place.vault,
                               place.trouble.empty() ? std::to_string(place.snapshots) : "?");
    const std::string opens = one->rto_seconds
                                  ? format_duration(std::chrono::milliseconds(
                                        static_cast<int64_t>(std::clamp(*one->rto_seconds, 0.0, 1e9) * 1000)))
                                  : "";
    grid.add({{one->name},
              {one->state, colour_of(one->state)},
              {one->restorable_to ? long_ago(*one->restorable_to, now) : "everything"},
              {one->rpo},
              {next},
              {proven, one->proof && !one->proof->passed ? kRed : std::string_view()},
              {opens},
              {one->rto},
              {snapshots}});
  }
  return grid;
}

Grid jobs_of(const std::vector<const ShownJob*>& jobs, Time now) {
  Grid grid({{"job", 0}, {"run", 2}, {"for", 6}, {"progress", 4}});
  for (const ShownJob* one : jobs)
    grid.add({{one->job},
              {std::to_string(one->run)},
              {one->started ? long_ago(*one->started, now) : ""},
              {one->state == "RUNNING" ? one->progress : one->why}});
  return grid;
}

// The number is what `ack` wants. Whom nobody looks after comes first.
Grid alerts_of(const ShownAlerts& alerts, Time now) {
  Grid grid({{"what is wrong", 0}, {"alert", 9}, {"open for", 7}, {"told", 4}, {"acknowledged by", 6}});
  std::vector<const ShownAlerts::Alert*> sorted;
  for (const auto& one : alerts.alerts) sorted.push_back(&one);
  std::ranges::stable_sort(sorted, {}, [](const auto* one) { return !one->acknowledged_by.empty(); });
  for (const ShownAlerts::Alert* one : sorted) {
    const bool is_mine = one->acknowledged_by.empty();
    grid.add({{one->what, is_mine ? kRed : std::string_view()},
              {std::to_string(one->id)},
              {one->opened ? long_ago(*one->opened, now) : ""},
              {one->told == 0 ? "nobody" : std::to_string(one->told)},
              {is_mine ? "nobody" : one->acknowledged_by}});
  }
  return grid;
}

// Lines, as long as there is room.
class Page {
 public:
  Page(TerminalSize size, Colour colour) : size_(size), colour_(colour) {}
  size_t left() const { return size_.rows > lines_.size() ? size_.rows - lines_.size() : 0; }
  void line(std::string_view text, std::string_view paint = {}) {
    std::string fit = fitted(text, size_.columns);
    if (colour_ == Colour::kYes && !paint.empty()) fit = std::string(paint) + fit + std::string(kPlain);
    whole(std::move(fit));
  }
  // As many rows as fit into `most` lines with its head; the others are counted.
  void grid(const Grid& grid, size_t most, std::string_view noun) {
    most = std::min(most, left());
    if (most < 2) return;
    const bool all = grid.rows() + 1 <= most;
    const size_t rows = all ? grid.rows() : most - 2;
    for (std::string& one : grid.lines(size_.columns, rows, colour_)) whole(std::move(one));
    if (!all) line(fmt::format("… {} more {}", grid.rows() - rows, noun), kDim);
  }
  std::string text() const {
    std::string out;
    for (const std::string& one : lines_) out += one + "\n";
    return out;
  }

 private:
  void whole(std::string text) {
    if (left() > 0) lines_.push_back(std::move(text));
  }
  TerminalSize size_;
  Colour colour_;
  std::vector<std::string> lines_;
};

// The sum of it, at the left; the time, at the right where there is room.
void write_head(Page& page, const TopFacts& facts, size_t columns) {
  std::string head = "kuramori";
  std::string_view paint = kBold;
  if (facts.status) {
    size_t counts[3] = {};
    for (const auto& one : facts.status->resources) ++counts[rank_of(one.state)];
    if (counts[0] > 0) head += fmt::format("  {} unprotected", counts[0]);
    if (counts[1] > 0) head += fmt::format("  {} at risk", counts[1]);
    head += fmt::format("  {} protected", counts[2]);
    if (const size_t open = facts.status->alerts.alerts.size(); open > 0)
      head += fmt::format("  {} alert{}", open, open == 1 ? "" : "s");
    paint = counts[0] > 0 ? kRed : counts[1] > 0 ? kYellow : kGreen;
  }
  const std::string clock = format_local(std::chrono::floor<std::chrono::seconds>(facts.now));
  const size_t used = shown_width(head) + shown_width(clock);
  if (used + kGap <= columns) head += std::string(columns - used, ' ') + clock;
  page.line(head, paint);
  std::string looked = facts.from;
  if (facts.status) looked += fmt::format(", looked at {} ago", long_ago(facts.status->at, facts.now));
  page.line(looked, kDim);
  if (!facts.status_trouble.empty()) page.line(facts.status_trouble, kRed);
}

}  // namespace

std::string top_frame(const TopFacts& facts, TerminalSize size, Colour colour) {
  Page page(size, colour);
  write_head(page, facts, size.columns);

  std::vector<const ShownJob*> running, waiting, failed;
  for (const ShownJob& job : facts.jobs) {
    if (job.state == "RUNNING")
      running.push_back(&job);
    else if (job.state == "CREATED" || job.state == "PENDING")
      waiting.push_back(&job);
    else if (job.state != "COMPLETED" && job.state != "CANCELLED")
      failed.push_back(&job);
  }
  std::vector<std::string> broken;
  if (facts.status)
    for (const auto& one : facts.status->resources)
      for (const std::string& sentence : one.broken) broken.push_back(one.name + ": " + sentence);

  // What the sections below need at most, so that resources have the rest.
  const auto need = [](size_t rows, size_t most) { return rows == 0 ? 0 : std::min(rows, most) + 2; };
  const size_t below = need(broken.size(), kBrokenShown) + 2 +
                       std::max<size_t>(1, std::min(running.size(), kJobsShown)) +
                       need(failed.size(), kEndedShown) +
                       (facts.status ? need(facts.status->alerts.alerts.size(), kAlertsShown) + 1 : 0);
  page.line("");
  if (!facts.status)
    page.line(facts.status_trouble.empty() ? "looking at the vaults …" : "nothing is known yet");
  else if (facts.status->resources.empty())
    page.line("nothing is protected yet: there are no resources");
  else {
    const size_t most = page.left() > below + 4 ? page.left() - below : page.left() / 2 + 1;
    page.grid(resources_of(*facts.status, facts.now), most, "resources");
  }
  if (facts.status && !facts.status->alerts.alerts.empty()) {
    page.line("");
    page.line("alerts: kuramori ack NUMBER says that you look after one", kBold);
    page.grid(alerts_of(facts.status->alerts, facts.now), kAlertsShown + 1, "alerts");
  }
  if (!broken.empty()) {
    page.line("");
    page.line("promises that do not hold", kBold);
    const size_t shown = broken.size() <= kBrokenShown ? broken.size() : kBrokenShown - 1;
    for (size_t i = 0; i < shown; ++i) page.line("  " + broken[i]);
    if (shown < broken.size()) page.line(fmt::format("  … {} more", broken.size() - shown), kDim);
  }
  page.line("");
  if (!facts.jobs_trouble.empty()) {
    page.line(facts.jobs_trouble, kDim);
  } else {
    std::string sum = fmt::format("{} running", running.size());
    if (!waiting.empty()) sum += fmt::format(", {} waiting", waiting.size());
    page.line(sum, kBold);
    if (!running.empty()) page.grid(jobs_of(running, facts.now), kJobsShown + 1, "runs");
  }
  if (!failed.empty()) {
    page.line("");
    page.line("ended otherwise than they should, the newest first", kBold);
    for (size_t i = 0; i < std::min(failed.size(), kEndedShown); ++i) {
      const ShownJob& job = *failed[i];
      page.line(fmt::format("  {} {}{}: {}", job.job, job.state,
                            job.ended ? " " + long_ago(*job.ended, facts.now) + " ago" : "", job.why));
    }
  }
  return page.text();
}

}  // namespace kuramori
