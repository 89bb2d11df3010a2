#include "daemon/access.h"

#include <gtest/gtest.h>

#include <set>

namespace kuramori {
namespace {

using namespace std::chrono_literals;

TokenConfig known_by(std::string name, std::string role, std::string hash) {
  TokenConfig token;
  token.name = std::move(name);
  token.role = std::move(role);
  token.hash = std::move(hash);
  return token;
}

TEST(Access, ATokenIsFoundByItsDigestAlone) {
  const NewToken viewer = make_token(system_random()), owner = make_token(system_random());
  EXPECT_NE(viewer.text, owner.text);
  EXPECT_TRUE(is_token_hash(viewer.hash));
  EXPECT_EQ(viewer.hash.find(viewer.text), std::string::npos);
  const auto access =
      Access::of({known_by("watch", "viewer", viewer.hash), known_by("yuki", "owner", owner.hash)}, {});
  ASSERT_TRUE(access) << access.error().what;
  EXPECT_EQ(access->find(viewer.text)->name, "watch");
  EXPECT_EQ(access->find(owner.text)->role, AskerRole::kOwner);
  for (const std::string& wrong : {std::string(), viewer.text.substr(1), viewer.text + "0", viewer.hash,
                                   std::string(viewer.text.size(), 'a')})
    EXPECT_FALSE(access->find(wrong)) << wrong;
}

TEST(Access, ATokenOfASomebodysOwnMustBeLong) {
  TokenConfig token;
  token.name = "ci";
  token.role = "operator";
  token.token = Setting(Setting::From::kFile, "/somewhere");
  ConfigWorld world;
  std::string content = "a-token-of-somebodys-own-choice";
  world.read_file = [&](const std::string&) -> Result<std::string> { return content; };
  const auto access = Access::of({token}, world);
  ASSERT_TRUE(access) << access.error().what;
  EXPECT_EQ(access->find(content)->role, AskerRole::kOperator);
  content = "letmein";
  const auto refused = Access::of({token}, world);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_EQ((refused.error().what + refused.error().why + refused.error().next).find("letmein"),
            std::string::npos);
}

TEST(Guesses, WhoGuessesWaitsLongerEachTimeAndOthersDoNot) {
  Guesses guesses;
  Duration now = 100s;
  for (int i = 0; i < kGuessesFree; ++i) guesses.wrong("192.0.2.1", now);
  EXPECT_EQ(guesses.wait("192.0.2.1", now), 0s);
  guesses.wrong("192.0.2.1", now);
  EXPECT_EQ(guesses.wait("192.0.2.1", now), kGuessPauseFirst);
  EXPECT_EQ(guesses.wait("192.0.2.2", now), 0s);
  now += kGuessPauseFirst;
  EXPECT_EQ(guesses.wait("192.0.2.1", now), 0s);
  Duration last = kGuessPauseFirst;
  for (int i = 0; i < 30; ++i) {
    guesses.wrong("192.0.2.1", now);
    EXPECT_GE(guesses.wait("192.0.2.1", now), last);
    last = guesses.wait("192.0.2.1", now);
    EXPECT_LE(last, kGuessPauseMost);
    now += last;
  }
  EXPECT_EQ(last, kGuessPauseMost);
  guesses.right("192.0.2.1");
  guesses.wrong("192.0.2.1", now);
  EXPECT_EQ(guesses.wait("192.0.2.1", now), 0s);
}

TEST(Guesses, NoMoreAddressesAreRememberedThanAreAllowed) {
  Guesses guesses;
  for (size_t i = 0; i < kGuessersMax + 100; ++i)
    for (int n = 0; n <= kGuessesFree; ++n) guesses.wrong("a" + std::to_string(i), 1s);
  EXPECT_GT(guesses.wait("a0", 1s), 0s);
  EXPECT_EQ(guesses.wait("a" + std::to_string(kGuessersMax + 50), 1s), 0s);
  guesses.wrong("b", 1s + kGuessesForgotten + 1s);  // those of long ago make room
  for (int n = 0; n <= kGuessesFree; ++n) guesses.wrong("b", 1s + kGuessesForgotten + 1s);
  EXPECT_GT(guesses.wait("b", 1s + kGuessesForgotten + 1s), 0s);
}

}  // namespace
}  // namespace kuramori
