#include "cli/top_frame.h"

#include <gtest/gtest.h>

#include "base/text_width.h"

namespace kuramori {
namespace {

Time at(int64_t seconds) {
  return from_unix_ns(seconds * 1'000'000'000);
}

TopFacts some(size_t resources = 3) {
  TopFacts facts{.from = "on this machine", .now = at(100'000)};
  facts.status = ShownStatus{.at = at(99'997), .resources = {}};
  for (size_t i = 0; i < resources; ++i) {
    ShownStatus::Resource one{
        .name = "resource-" + std::to_string(i) + "-蔵守", .state = "protected", .rpo = "1h"};
    one.restorable_to = at(99'000);
    one.next_run = at(100'600);
    one.places = {{.vault = "tokyo", .snapshots = 7}};
    facts.status->resources.push_back(one);
  }
  facts.status->resources.back().state = "unprotected";
  facts.status->resources.back().restorable_to.reset();
  facts.status->resources.back().broken = {"tokyo has no snapshot of it"};
  facts.jobs = {{.run = 7,
                 .job = "backup p/a",
                 .state = "RUNNING",
                 .progress = "copying, 1 GiB of 3 GiB",
                 .started = at(99'940)},
                {.run = 6, .job = "backup p/b", .state = "PENDING"},
                {.run = 5,
                 .job = "drill p/a",
                 .state = "FAILED",
                 .why = "it did not\033[2J open",
                 .ended = at(99'000)}};
  return facts;
}

std::vector<std::string> lines_of(const std::string& frame) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < frame.size();) {
    const size_t end = frame.find('\n', begin);
    lines.push_back(frame.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

TEST(TopFrame, TheWorstComesFirstAndEverythingIsSaid) {
  const std::string frame = top_frame(some(), {140, 40}, Colour::kNo);
  for (const std::string_view part :
       {"1 unprotected  2 protected", "on this machine, looked at 3.0 s ago", "could lose", "16 m 40 s",
        "everything", "in 10 m 00 s", "tokyo 7", "resource-2-蔵守: tokyo has no snapshot of it",
        "1 running, 1 waiting", "copying, 1 GiB of 3 GiB",
        "drill p/a FAILED 16 m 40 s ago: it did not?[2J open"})
    EXPECT_NE(frame.find(part), std::string::npos) << part << "\n" << frame;
  EXPECT_LT(frame.find("resource-2"), frame.find("resource-0"));
  EXPECT_EQ(frame.find('\033'), std::string::npos);
}

TEST(TopFrame, M5_AlertsAreListedWithTheirNumbersThoseNobodyLooksAfterFirst) {
  TopFacts facts = some();
  EXPECT_EQ(top_frame(facts, {140, 40}, Colour::kNo).find("alert"), std::string::npos);
  for (int64_t id = 1; id <= 20; ++id)
    facts.status->alerts.alerts.push_back({.id = 100 + id,
                                           .event = "failure",
                                           .what = "backup p/a failed\033[2J: no room",
                                           .acknowledged_by = id == 1 ? "sato" : "",
                                           .opened = at(99'400),
                                           .told = 2});
  const std::string frame = top_frame(facts, {140, 60}, Colour::kNo);
  for (const std::string_view part : {"2 protected  20 alerts", "kuramori ack NUMBER", "102", "10 m 00 s",
                                      "backup p/a failed?[2J: no room", "more alerts"})
    EXPECT_NE(frame.find(part), std::string::npos) << part << "\n" << frame;
  EXPECT_EQ(frame.find("sato"), std::string::npos) << frame;  // the others come first
  facts.status->alerts.alerts.resize(2);
  EXPECT_NE(top_frame(facts, {140, 60}, Colour::kNo).find("sato"), std::string::npos);
  for (size_t columns = 1; columns < 150; columns += 7)
    for (size_t rows = 1; rows < 60; rows += 5) {
      const auto lines = lines_of(top_frame(facts, {columns, rows}, Colour::kNo));
      EXPECT_LE(lines.size(), rows);
      for (const std::string& line : lines) EXPECT_LE(shown_width(line), columns) << line;
    }
}

TEST(TopFrame, NoLineIsWiderAndNoneMoreThanThereIsRoom) {
  for (const size_t resources : {1u, 3u, 200u})
    for (size_t columns = 1; columns < 150; columns += 7)
      for (size_t rows = 1; rows < 60; rows += 5) {
        const auto lines = lines_of(top_frame(some(resources), {columns, rows}, Colour::kNo));
        EXPECT_LE(lines.size(), rows);
        for (const std::string& line : lines) EXPECT_LE(shown_width(line), columns) << line;
      }
}

TEST(TopFrame, WhatDoesNotFitIsCounted) {
  const std::string frame = top_frame(some(200), {100, 30}, Colour::kNo);
  EXPECT_NE(frame.find("more resources"), std::string::npos) << frame;
  EXPECT_NE(frame.find("1 running, 1 waiting"), std::string::npos) << frame;
  const std::string narrow = top_frame(some(), {34, 24}, Colour::kNo);
  EXPECT_NE(narrow.find("unprotected"), std::string::npos) << narrow;
  EXPECT_EQ(narrow.find("snapshots"), narrow.find("snapshots of")) << narrow;  // that column went first
}

TEST(TopFrame, WithoutAnythingKnownItSaysSo) {
  TopFacts facts{.from = "https://db1:9847", .now = at(1)};
  EXPECT_NE(top_frame(facts, {}, Colour::kNo).find("looking at the vaults"), std::string::npos);
  facts.status_trouble = "db1 does not answer";
  facts.jobs_trouble = "no daemon has run plans here";
  const std::string frame = top_frame(facts, {}, Colour::kNo);
  EXPECT_NE(frame.find("db1 does not answer"), std::string::npos);
  EXPECT_NE(frame.find("no daemon has run plans here"), std::string::npos);
  EXPECT_NE(top_frame(some(), {}, Colour::kYes).find("\033[31munprotected"), std::string::npos);
}

}  // namespace
}  // namespace kuramori
