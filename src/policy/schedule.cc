#include "policy/schedule.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>
#include <span>
#include <vector>

namespace kuramori {
namespace {

using std::string_view_literals::operator""sv;

struct Field {
  std::string_view name;
  int least, most;
  std::span<const std::string_view> words;  // the first means `first_word`
  int first_word = 0;
};

constexpr std::string_view kMonths[] = {"JAN"sv, "FEB"sv, "MAR"sv, "APR"sv, "MAY"sv, "JUN"sv,
                                        "JUL"sv, "AUG"sv, "SEP"sv, "OCT"sv, "NOV"sv, "DEC"sv};
constexpr std::string_view kDays[] = {"SUN"sv, "MON"sv, "TUE"sv, "WED"sv, "THU"sv, "FRI"sv, "SAT"sv};

constexpr Field kCronFields[] = {
    {"minute", 0, 59, {}},           {"hour", 0, 23, {}},
    {"day of month", 1, 31, {}},     {"month", 1, 12, kMonths, 1},
    {"day of week", 0, 7, kDays, 0},
};
constexpr Field kAwsFields[] = {
    {"minute", 0, 59, {}},           {"hour", 0, 23, {}},
    {"day of month", 1, 31, {}},     {"month", 1, 12, kMonths, 1},
    {"day of week", 1, 7, kDays, 1}, {"year", 1970, 2199, {}},
};

Error bad(std::string_view text, std::string why) {
  return fail(
      ErrorKind::kUsage, fmt::format("\"{}\" is not a schedule", text.substr(0, 60)), std::move(why),
      "write five fields, minute hour day month weekday: \"0 */3 * * *\", or AWS's cron(0 */3 * * ? *)");
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  for (;;) {
    size_t at = text.find(separator);
    out.push_back(text.substr(0, at));
    if (at == text.npos) return out;
    text.remove_prefix(at + 1);
  }
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::string_view word : split(text, ' '))
    if (!word.empty()) out.push_back(word);
  return out;
}

bool same_word(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if ((a[i] & ~0x20) != b[i]) return false;
  return true;
}

std::optional<int> value_of(std::string_view text, const Field& field) {
  for (size_t i = 0; i < field.words.size(); ++i)
    if (same_word(text, field.words[i])) return field.first_word + static_cast<int>(i);
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || text.starts_with('-')) return std::nullopt;
  if (number < field.least || number > field.most) return std::nullopt;
  return number;
}

// One of a field's comma-separated parts: *, N, A-B, each with /STEP.
bool is_part(std::string_view part, const Field& field) {
  size_t slash = part.find('/');
  std::string_view range = part.substr(0, slash);
  if (slash != part.npos) {
    std::string_view step = part.substr(slash + 1);
    int number = 0;
    auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), number);
    if (error != std::errc{} || end != step.data() + step.size() || number < 1 || number > field.most)
      return false;
  }
  if (range == "*") return true;
  size_t dash = range.find('-');
  auto first = value_of(range.substr(0, dash), field);
  if (!first) return false;
  if (dash == range.npos) return true;
  auto last = value_of(range.substr(dash + 1), field);
  return last && *last >= *first;
}

// What only AWS knows: L, LW, 15W in the day of month; L, 6L, 6#3 in the day of week.
bool is_aws_day(std::string_view part, const Field& field) {
  bool of_month = field.name == "day of month";
  if (part == "L" || (of_month && part == "LW")) return true;
  if (part.ends_with(of_month ? 'W' : 'L'))
    return value_of(part.substr(0, part.size() - 1), field).has_value();
  size_t hash = of_month ? part.npos : part.find('#');
  if (hash == part.npos) return false;
  std::string_view nth = part.substr(hash + 1);
  return value_of(part.substr(0, hash), field) && nth.size() == 1 && nth[0] >= '1' && nth[0] <= '5';
}

Result<void> check_fields(std::string_view text, std::string_view inside, std::span<const Field> fields,
                          bool aws) {
  std::vector<std::string_view> words = split_words(inside);
  if (words.size() != fields.size())
    return bad(text, fmt::format("it has {} fields instead of {}", words.size(), fields.size()));
  for (size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    bool is_day = field.name.starts_with("day");
    if (aws && is_day && words[i] == "?") continue;
    for (std::string_view part : split(words[i], ',')) {
      if (is_part(part, field) || (aws && is_day && is_aws_day(part, field))) continue;
      return bad(text, fmt::format("the {} cannot be \"{}\": it is * or {}–{}, with ranges, lists and steps",
                                   field.name, part.substr(0, 20), field.least, field.most));
    }
  }
  if (aws && (words[2] == "?") == (words[4] == "?"))
    return bad(text, "exactly one of day of month and day of week must be ?");
  return {};
}

}  // namespace

Result<Schedule> parse_schedule(std::string_view text) {
  if (text.starts_with("cron(") && text.ends_with(')')) {
    TRY(check_fields(text, text.substr(5, text.size() - 6), kAwsFields, true));
    return Schedule{std::string(text), Schedule::Dialect::kAws};
  }
  TRY(check_fields(text, text, kCronFields, false));
  return Schedule{std::string(text), Schedule::Dialect::kCron};
}

}  // namespace kuramori
