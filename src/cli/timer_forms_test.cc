#include "cli/timer_forms.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

const TimerWords kWords{
    .project = "shop",
    .log = "/srv/me/a log",
    .commands = {{"/usr/bin/kuramori", "--config", "/srv/me/it's 5%/k.yaml", "backup", "dev-db"},
                 {"/usr/bin/kuramori", "prune"}}};

TEST(TimerForms, cron_has_one_line_a_project_whatever_stands_there) {
  const std::string line = cron_line(kWords);
  EXPECT_EQ(line,
            "0 */3 * * * ( /usr/bin/kuramori --config '/srv/me/it'\\''s 5\\%/k.yaml' backup dev-db && "
            "/usr/bin/kuramori prune ) >>'/srv/me/a log' 2>&1 # kuramori shop");
  EXPECT_EQ(with_cron_line("", kWords), line + "\n");
  EXPECT_EQ(
      with_cron_line("5 4 * * * else\n0 0 * * * old # kuramori shop\n@daily x # kuramori shop-two", kWords),
      "5 4 * * * else\n@daily x # kuramori shop-two\n" + line + "\n");
  EXPECT_EQ(with_cron_line(with_cron_line("", kWords), kWords), line + "\n");
}

TEST(TimerForms, systemd_runs_one_after_the_other_and_makes_up_for_sleep) {
  const std::string service = systemd_service(kWords);
  EXPECT_NE(service.find("ExecStart=/usr/bin/kuramori --config \"/srv/me/it's 5%%/k.yaml\" backup dev-db\n"),
            service.npos)
      << service;
  EXPECT_NE(service.find("ExecStart=/usr/bin/kuramori prune\n"), service.npos);
  const std::string timer = systemd_timer(kWords);
  EXPECT_NE(timer.find("OnCalendar=*-*-* 00/3:00:00\n"), timer.npos);
  EXPECT_NE(timer.find("Persistent=true\n"), timer.npos);
}

TEST(TimerForms, launchd_has_eight_moments_and_no_bare_ampersand) {
  const std::string agent = launchd_agent(kWords);
  size_t hours = 0;
  for (size_t at = agent.find("<key>Hour</key>"); at != agent.npos;
       at = agent.find("<key>Hour</key>", at + 1))
    ++hours;
  EXPECT_EQ(hours, 8u);
  EXPECT_NE(agent.find(" &amp;&amp; "), agent.npos);
  EXPECT_EQ(agent.find(" && "), agent.npos);
}

}  // namespace
}  // namespace kuramori
