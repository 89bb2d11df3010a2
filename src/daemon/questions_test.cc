#include "daemon/questions.h"

#include <gtest/gtest.h>

#include "daemon/shown_documents.h"
#include "os/file.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

// Instead of this program a shell: what it is told is the question.
std::vector<std::string> shell(const std::vector<std::string>& words) {
  return {"/bin/sh", "-c", words.front()};
}

TEST(Questions, AnAnswerIsKeptForAWhileAndAskedForAgainThen) {
  const TemporaryFolder folder = *TemporaryFolder::make("questions");
  const std::string count = "echo >> " + (folder / "count") + "; wc -l < " + (folder / "count");
  Questions questions(shell);
  const auto first = questions.ask({count}, 60s, 30s);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->document, "1\n");
  EXPECT_EQ(first->code, 0);
  EXPECT_EQ(questions.ask({count}, 60s, 30s), first);
  questions.forget();
  EXPECT_EQ(questions.ask({count}, 60s, 30s)->document, "2\n");
}

TEST(Questions, P71_OneThatHangsLeavesTheOldAnswerAndHoldsUpNoOther) {
  const TemporaryFolder folder = *TemporaryFolder::make("questions");
  const std::string hangs = "test -e " + (folder / "hang") + " && sleep 600; echo well";
  Questions questions(shell);
  ASSERT_TRUE(questions.ask({hangs}, 0s, 30s));
  ASSERT_TRUE(write_new_file(folder / "hang", {}));
  // What took long is kept longer: until then the old answer is new enough.
  std::shared_ptr<const Answered> old;
  const Duration begun = system_clock().steady();
  do {
    old = questions.ask({hangs}, 0s, 300ms);
    ASSERT_TRUE(old);
    EXPECT_EQ(old->document, "well\n");
  } while (system_clock().steady() - begun < 2s);
  EXPECT_EQ(questions.ask({"echo other"}, 0s, 30s)->document, "other\n");
  EXPECT_FALSE(questions.ask({"sleep 600; echo never"}, 0s, 100ms));
}

TEST(Questions, WhatGivesNoDocumentIsAnErrorInWords) {
  Questions questions(shell);
  const auto silent = questions.ask({"exit 3"}, 0s, 30s);
  ASSERT_TRUE(silent);
  const auto error = read_error(silent->document);
  ASSERT_TRUE(error) << silent->document;
  EXPECT_EQ(error->why, "exit status 3");
  EXPECT_EQ(silent->code, -1);
  // One that ends itself with a status of its own and a document is an answer.
  const auto answered = questions.ask({"echo '{}'; exit 4"}, 0s, 30s);
  EXPECT_EQ(answered->code, 4);
  EXPECT_EQ(answered->document, "{}\n");
}

TEST(Questions, MoreThanCanWaitAreTurnedAway) {
  Questions questions(shell);
  size_t refused = 0;
  const Duration begun = system_clock().steady();
  for (size_t i = 0; i < kQuestionsAtOnce + kQuestionsWaiting + 5; ++i)
    refused += questions.ask({"sleep 600; echo " + std::to_string(i)}, 0s, 1ms) == nullptr;
  EXPECT_EQ(refused, kQuestionsAtOnce + kQuestionsWaiting + 5);
  EXPECT_LT(system_clock().steady() - begun, 30s);
}

}  // namespace
}  // namespace kuramori
