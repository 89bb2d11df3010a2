// How a machine without a daemon runs a backup every three hours: a timer of systemd's, a line of cron's, an
// agent of launchd's. Text alone; who writes it where is init_verb.cc.
#pragma once
#include <string>
#include <vector>

namespace kuramori {

enum class TimerForm { kSystemd, kCron, kLaunchd };

struct TimerWords {
  std::string project;                             // "shop"
  std::string log;                                 // what the runs said
  std::vector<std::vector<std::string>> commands;  // one after the other, while each succeeds
};

std::string systemd_service(const TimerWords& words);
std::string systemd_timer(const TimerWords& words);
// One line; `kuramori PROJECT` at its end tells it from others.
std::string cron_line(const TimerWords& words);
std::string cron_mark(const std::string& project);
// `crontab` with this line in it, in place of an earlier one of the project.
std::string with_cron_line(const std::string& crontab, const TimerWords& words);
std::string launchd_agent(const TimerWords& words);

}  // namespace kuramori
