#include "cli/timer_forms.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>

namespace kuramori {
namespace {

constexpr int kEveryHours = 3;

std::string replaced(std::string_view text, char which, std::string_view by) {
  std::string out;
  for (const char c : text) c == which ? out += by : out += c;
  return out;
}

bool is_plain(std::string_view word) {
  return !word.empty() && word.find_first_not_of(
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              "_-./:=@+,") == word.npos;
}

// In a shell.
std::string quoted(std::string_view word) {
  return is_plain(word) ? std::string(word) : "'" + replaced(word, '\'', "'\\''") + "'";
}

// In a unit file: specifiers begin with %, variables with $.
std::string unit_word(std::string_view word) {
  if (is_plain(word)) return std::string(word);
  std::string out = replaced(replaced(word, '\\', "\\\\"), '"', "\\\"");
  return "\"" + replaced(replaced(out, '%', "%%"), '$', "$$") + "\"";
}

std::string in_shell(const TimerWords& words) {
  std::string out;
  for (const auto& command : words.commands) {
    if (!out.empty()) out += " && ";
    for (size_t i = 0; i < command.size(); ++i) out += (i > 0 ? " " : "") + quoted(command[i]);
  }
  return out;
}

std::string in_xml(std::string_view text) {
  return replaced(replaced(replaced(text, '&', "&amp;"), '<', "&lt;"), '>', "&gt;");
}

}  // namespace

std::string systemd_service(const TimerWords& words) {
  std::string out = fmt::format(
      "[Unit]\nDescription=Backup of {} on this developer's machine\nDocumentation=man:kuramori(1)\n\n"
      "[Service]\nType=oneshot\nNice=10\nIOSchedulingClass=idle\n",
      replaced(words.project, '%', "%%"));
  for (const auto& command : words.commands) {
    out += "ExecStart=";
    for (size_t i = 0; i < command.size(); ++i) out += (i > 0 ? " " : "") + unit_word(command[i]);
    out += '\n';
  }
  const std::string log = replaced(words.log, '%', "%%");
  return out + fmt::format("StandardOutput=append:{}\nStandardError=append:{}\n", log, log);
}

std::string systemd_timer(const TimerWords& words) {
  return fmt::format(
      "[Unit]\nDescription=Every {} hours: backup of {}\n\n[Timer]\nOnCalendar=*-*-* 00/{}:00:00\n"
      "# What was missed while the machine slept runs once, when it wakes.\nPersistent=true\n\n"
      "[Install]\nWantedBy=timers.target\n",
      kEveryHours, replaced(words.project, '%', "%%"), kEveryHours);
}

std::string cron_mark(const std::string& project) {
  return fmt::format("# kuramori {}", project);
}

std::string cron_line(const TimerWords& words) {
  // In a crontab % is a line break.
  return fmt::format("0 */{} * * * ( {} ) >>{} 2>&1 {}", kEveryHours, replaced(in_shell(words), '%', "\\%"),
                     replaced(quoted(words.log), '%', "\\%"), cron_mark(words.project));
}

std::string with_cron_line(const std::string& crontab, const TimerWords& words) {
  std::string out;
  std::string_view rest = crontab;
  const std::string mark = cron_mark(words.project);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    if (!line.ends_with(mark)) out += std::string(line) + "\n";
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out + cron_line(words) + "\n";
}

std::string launchd_agent(const TimerWords& words) {
  std::string hours;
  for (int hour = 0; hour < 24; hour += kEveryHours)
    hours += fmt::format(
        "    <dict><key>Hour</key><integer>{}</integer><key>Minute</key><integer>0</integer></dict>\n", hour);
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
      "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
      "<plist version=\"1.0\">\n<dict>\n  <key>Label</key><string>kuramori.{}</string>\n"
      "  <key>ProgramArguments</key>\n  <array>\n    <string>/bin/sh</string>\n    <string>-c</string>\n"
      "    <string>{}</string>\n  </array>\n  <key>StartCalendarInterval</key>\n  <array>\n{}  </array>\n"
      "  <key>StandardOutPath</key><string>{}</string>\n  <key>StandardErrorPath</key><string>{}</string>\n"
      "</dict>\n</plist>\n",
      in_xml(words.project), in_xml(in_shell(words)), hours, in_xml(words.log), in_xml(words.log));
}

}  // namespace kuramori
