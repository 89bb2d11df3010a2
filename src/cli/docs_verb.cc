// `docs`: the handbook of recovery, written from the configuration, and whether it is behind.
#include <fmt/core.h>

#include <set>

#include "cli/verbs.h"
#include "os/file.h"
#include "policy/handbook.h"

namespace kuramori {
namespace {

constexpr std::string_view kRunbooks = "runbooks";

enum class State { kUnchanged, kMissing, kStale, kLeftOver };

struct Page {
  std::string path;
  State state;
  std::string text;  // as it should be; "" of one that is left over
};

std::string_view name_of(State state, bool check) {
  switch (state) {
    case State::kUnchanged:
      return "unchanged";
    case State::kMissing:
      return check ? "missing" : "written";
    case State::kStale:
      return check ? "stale" : "written";
    case State::kLeftOver:
      return check ? "left over" : "removed";
  }
  return "";
}

Result<bool> is_ours(const std::string& path) {
  TRY_ASSIGN(const Bytes content, read_file(path));
  return as_text(content).starts_with(kHandbookMark);
}

Result<State> state_of(const std::string& path, const std::string& wanted) {
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (!there) return State::kMissing;
  TRY_ASSIGN(const Bytes content, read_file(path));
  if (as_text(content) == wanted) return State::kUnchanged;
  if (as_text(content).starts_with(kHandbookMark)) return State::kStale;
  return fail(ErrorKind::kRefused, fmt::format("{} was not written by kuramori docs", path),
              "somebody's own words would be lost", "move it away, or name another folder with --to");
}

// Runbooks of what the configuration no longer has. What lies there without the mark is somebody's own.
Result<void> find_left_over(const std::string& folder, const std::set<std::string>& wanted,
                            std::vector<Page>& pages) {
  const std::string runbooks = join_path(folder, kRunbooks);
  TRY_ASSIGN(const auto there, status_if_there(runbooks));
  if (!there) return {};
  TRY_ASSIGN(const std::vector<FolderEntry> entries, list_folder(runbooks));
  for (const FolderEntry& entry : entries) {
    const std::string path = fmt::format("{}/{}", kRunbooks, entry.name);
    if (!entry.name.ends_with(".md") || wanted.contains(path)) continue;
    TRY_ASSIGN(const bool ours, is_ours(join_path(folder, path)));
    if (ours) pages.push_back({path, State::kLeftOver, ""});
  }
  return {};
}

// The longest gap of a schedule is looked for over a year from here: the same all year, so that pages do not
// change because a day has passed.
Time start_of_year(Time now) {
  const std::chrono::year_month_day today(std::chrono::floor<std::chrono::days>(now));
  return std::chrono::sys_days(today.year() / std::chrono::January / 1);
}

// Everything is looked at before anything is written.
Result<std::vector<Page>> compare(const std::string& folder, const Config& config, Time now) {
  const LintReport report = lint(config, {.now = start_of_year(now)});
  std::vector<Page> pages;
  std::set<std::string> wanted;
  for (HandbookPage& page : handbook(config, report)) {
    TRY_ASSIGN(const State state, state_of(join_path(folder, page.path), page.text));
    wanted.insert(page.path);
    pages.push_back({std::move(page.path), state, std::move(page.text)});
  }
  TRY(find_left_over(folder, wanted, pages));
  return pages;
}

Result<void> write(const std::string& folder, const std::vector<Page>& pages) {
  TRY(make_folders(join_path(folder, kRunbooks), 0755));
  for (const Page& page : pages) {
    const std::string path = join_path(folder, page.path);
    if (page.state == State::kLeftOver) TRY(remove_file(path));
    if (page.state == State::kMissing || page.state == State::kStale)
      TRY(write_file_durably(path, as_bytes(page.text), 0644));
  }
  return {};
}

}  // namespace

Result<int> run_docs(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  const std::string folder = context.line().value("to");
  const bool check = context.line().has("check");
  TRY_ASSIGN(const std::vector<Page> pages, compare(folder, *config, context.clock().now()));
  if (!check) TRY(write(folder, pages));

  const bool behind =
      std::ranges::any_of(pages, [](const Page& page) { return page.state != State::kUnchanged; });
  Console& console = context.console();
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/docs/1").field("to", folder).key("pages").begin_array();
    for (const Page& page : pages)
      json.begin_object().field("path", page.path).field("state", name_of(page.state, check)).end_object();
    json.end_array().end_object();
    console.print_document(json);
  } else {
    for (const Page& page : pages)
      if (page.state != State::kUnchanged)
        console.print(fmt::format("{}: {}\n", page.path, name_of(page.state, check)));
    if (!behind) console.note("the handbook says what the configuration says");
    if (behind && check) console.note(fmt::format("the handbook is behind: kuramori docs --to {}", folder));
  }
  return check && behind ? 4 : 0;
}

}  // namespace kuramori
