#include "policy/handbook.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/time_text.h"

namespace kuramori {
namespace {

const ConfigWorld kWorld{
    .environment = [](const std::string&) { return std::optional<std::string>("from-outside"); },
    .read_file = [](const std::string& path) -> Result<std::string> { return path; },
    .run_command = [](const std::string& command) -> Result<std::string> { return command; },
};

std::vector<HandbookPage> pages_of(const std::string& text) {
  const auto config = parse_config(text, "/etc/kuramori/kuramori.yaml", kWorld);
  EXPECT_TRUE(config) << config.error().what << " " << config.error().why;
  if (!config) return {};
  return handbook(*config, lint(*config, {.now = parse_moment("2026-01-01 00:00:00Z")->time}));
}

std::string text_of(const std::vector<HandbookPage>& pages, std::string_view path) {
  const auto found = std::ranges::find(pages, path, &HandbookPage::path);
  EXPECT_NE(found, pages.end()) << path;
  return found == pages.end() ? "" : found->text;
}

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

const std::string kTwoSites =
    "vaults:\n"
    "  tokyo: { at: /srv/kuramori, site: tokyo, key_file: /k/tokyo.key }\n"
    "  osaka: { at: s3://osaka/prod, endpoint: https://s3.osaka.example, region: ap-northeast-3, site: "
    "osaka,\n"
    "           copy_of: tokyo, key_file: /k/osaka.key, credentials: { access_key_file: /k/a, "
    "secret_key_file: /k/s } }\n"
    "resources:\n"
    "  cache: { kind: redis, connect: \"redis://:hunter2@cache:6379\", criticality: medium }\n"
    "  shop/db: { kind: postgres, connect: \"host=db password=hunter2\", criticality: critical, owner: dba,\n"
    "             objectives: { rpo: 1h, rto: 4h }, depends_on: [settings] }\n"
    "  settings: { kind: files, paths: [/etc/shop], criticality: low }\n"
    "plans:\n"
    "  all: { resources: [shop/db, settings], vault: tokyo, schedule: \"0 3 * * *\", timezone: Asia/Tokyo,\n"
    "         wal: stream, window: 14d, keep: { all: 14d, monthly: 7y }, copies: [ { to: osaka, keep: 30d } "
    "] }\n"
    "scenarios:\n"
    "  no-tokyo: { lost: tokyo, from: osaka }\n"
    "services:\n"
    "  web: { within: 2h, needs: [login] }\n"
    "  login: { within: 1h, resources: [shop/db] }\n"
    "contacts: { ic: { phone: \"+81-3-0000\" } }\n"
    "notify:\n"
    "  - { name: ops, to: \"slack:https://hooks.example/hunter2\", when: [failure] }\n";

TEST(Handbook, EachThingHasItsPageAndTheIndexNamesThemAll_O7) {
  const auto pages = pages_of(kTwoSites);
  const std::string index = text_of(pages, "README.md");
  for (const HandbookPage& page : pages) {
    EXPECT_TRUE(page.text.starts_with(kHandbookMark)) << page.path;
    if (page.path != "README.md") {
      EXPECT_TRUE(holds(index, "(" + page.path + ")")) << page.path;
    }
  }
  EXPECT_EQ(pages.size(), 6u);
  // A slash of a name is none of a path.
  EXPECT_TRUE(holds(text_of(pages, "runbooks/shop~db.md"), "# Bring back shop/db"));
}

TEST(Handbook, TellsNoSecretAndNoAddressThatMayBeOne_O7) {
  for (const HandbookPage& page : pages_of(kTwoSites)) {
    EXPECT_FALSE(holds(page.text, "hunter2")) << page.path;
    EXPECT_FALSE(holds(page.text, "hooks.example")) << page.path;
    EXPECT_FALSE(holds(page.text, "host=db")) << page.path;
  }
}

TEST(Handbook, TheStrategySaysWhatIsPromisedAndWhatIsNotProtected_O7) {
  const std::string strategy = text_of(pages_of(kTwoSites), "strategy.md");
  EXPECT_TRUE(holds(strategy, "- Kept in tokyo: all 14d, monthly 7y\n"));
  EXPECT_TRUE(holds(strategy, "- Copied to osaka, kept there: all 30d\n"));
  EXPECT_TRUE(holds(strategy, "- Any second of the last 14d\n"));
  EXPECT_TRUE(holds(strategy, "- Proved by restoring it: **never**\n"));
  EXPECT_TRUE(holds(strategy, "**none: it is not protected**"));
  EXPECT_LT(strategy.find("[shop/db]"), strategy.find("[cache]")) << "the most critical first";
  EXPECT_TRUE(holds(strategy, "## What does not hold\n\n- **"));
}

TEST(Handbook, ARunbookSaysWhatToTypeAlsoWithoutItsSiteOrTheConfiguration_O7) {
  const std::string book = text_of(pages_of(kTwoSites), "runbooks/shop~db.md");
  EXPECT_TRUE(holds(book, "kuramori restore shop/db --to /srv/restored/shop/db --latest --start\n"));
  EXPECT_TRUE(
      holds(book, "kuramori restore shop/db --to /srv/restored/shop/db --vault osaka --latest --start\n"));
  EXPECT_TRUE(
      holds(book, "--vault \"s3://osaka/prod?endpoint=https://s3.osaka.example&region=ap-northeast-3\""));
  EXPECT_TRUE(holds(book, "Before it: [settings](settings.md)."));
  EXPECT_TRUE(holds(text_of(pages_of(kTwoSites), "runbooks/cache.md"), "No plan protects it"));
}

TEST(Handbook, AScenarioBringsBackInTheOrderOfTheNeeds_O7_K7) {
  const std::string book = text_of(pages_of(kTwoSites), "runbooks/lost-no-tokyo.md");
  const size_t settings = book.find("[settings]"), database = book.find("[shop/db]"),
               cache = book.find("[cache]");
  EXPECT_LT(settings, database) << "it depends on it";
  EXPECT_LT(database, cache);
  EXPECT_TRUE(holds(book, "[cache](cache.md): **no plan copies it to osaka**"));
  EXPECT_LT(book.find("1. login"), book.find("2. web"));
  EXPECT_TRUE(holds(book, "ic +81-3-0000"));
}

TEST(Handbook, ACircleOfNeedsDoesNotHang_O7) {
  const auto pages = pages_of(
      "vaults: { v: { at: /v, site: here } }\n"
      "resources:\n"
      "  a: { kind: files, paths: [/a], depends_on: [b] }\n"
      "  b: { kind: files, paths: [/b], depends_on: [a] }\n"
      "plans: { p: { resources: [a, b], vault: v, every: 1h } }\n"
      "services: { x: { needs: [y] }, y: { needs: [x] } }\n"
      "scenarios: { gone: { lost: here, from: v } }\n");
  EXPECT_TRUE(holds(text_of(pages, "runbooks/lost-gone.md"), "[a](a.md)"));
  EXPECT_TRUE(holds(text_of(pages, "strategy.md"), "- Kept in v: for ever\n"));
}

}  // namespace
}  // namespace kuramori
