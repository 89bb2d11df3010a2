#include "policy/config_text.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "policy/config.h"

namespace kuramori {
namespace {

std::string canonical(std::string_view text) {
  auto out = canonical_config(text, "kuramori.yaml");
  EXPECT_TRUE(out) << (out ? "" : out.error().what);
  return out ? *out : "";
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> out;
  auto found = lines_of_config(canonical(text));
  EXPECT_TRUE(found);
  for (const ConfigLine& line : *found) out.push_back(fmt::format("{} = {}", line.key, line.value));
  return out;
}

using Lines = std::vector<std::string>;

TEST(ConfigText, names_each_value_by_its_keys_whatever_the_layout_and_order) {
  const Lines expected = {"plans.p.copies[far].keep.all = 7d", "plans.p.copies[far].to = far",
                          "plans.p.keep.all = 14d", "plans.p.resources = [a, b]", "vaults.near.at = /v"};
  EXPECT_EQ(lines("vaults: { near: { at: /v } }\nplans:\n  p:\n    resources: [a, b]\n    keep: 14d\n"
                  "    copies: [ { to: far, keep: 7d } ]\n"),
            expected);
  EXPECT_EQ(lines("# a comment\nplans:\n  p:\n    copies:\n      - keep: { all: 7d }\n        to: \"far\"\n"
                  "    keep: { all: '14d' }\n    resources:\n      - a\n      - b\nvaults: { near: { at: "
                  "\"/v\" } }\n"),
            expected);
}

TEST(ConfigText, is_a_configuration_that_reads_as_the_file_did) {
  auto text = machine_world().read_file(KURAMORI_SAMPLE_YAML);
  ASSERT_TRUE(text);
  ConfigWorld world = machine_world();
  auto config = parse_config(*text, "/etc/kuramori/kuramori.yaml", world);
  ASSERT_TRUE(config) << config.error().what;
  auto again = parse_config(canonical(*text), "/etc/kuramori/kuramori.yaml", world);
  ASSERT_TRUE(again) << again.error().what << again.error().why;
  EXPECT_EQ(again->vaults.size(), config->vaults.size());
  ASSERT_EQ(again->plans.size(), config->plans.size());
  EXPECT_EQ(again->resources.size(), config->resources.size());
  EXPECT_EQ(again->notify.size(), config->notify.size());
  EXPECT_EQ(canonical(canonical(*text)), canonical(*text));
}

TEST(ConfigText, I1_holds_no_secret) {
  const std::string text = canonical(
      "vaults: { v: { at: /v, passphrase: hush-1, credentials: { access_key: AK, secret_key: hush-2 } } }\n"
      "resources:\n"
      "  a: { kind: dump, connect: \"postgresql://me:hush-3@db/app\", password: hush-4 }\n"
      "  b: { kind: postgres, connect: \"host=db password = 'hush \\\\' 5' user=me\" }\n"
      "  c: { kind: command, run: [x], environment: { ANY: hush-6, FILE_file: /etc/where } }\n"
      "  d: { kind: git, url: \"https://user:hush-7@git.example/x?token=hush-8\", password_file: /etc/pw }\n"
      "notify:\n"
      "  - { to: \"slack:https://hooks.example/hush/9\" }\n"
      "  - { to: \"pagerduty:hush-10\" }\n"
      "  - { to: \"smtp://me:hush-11@mail.example/ops@example\" }\n");
  EXPECT_EQ(text.find("hush"), text.npos) << text;
  for (const char* stays : {"postgresql://me:", "@db/app", "user=me", "/etc/where", "/etc/pw",
                            "hooks.example", "mail.example", "AK"})
    EXPECT_NE(text.find(stays), text.npos) << stays << " in " << text;
}

TEST(ConfigText, changes_name_what_came_what_went_and_old_and_new) {
  const auto of = [](std::string_view text) { return *lines_of_config(canonical(text)); };
  const auto changes =
      changes_between(of("vaults: { v: { at: /v, site: a } }\nplans: { p: { keep: 14d } }\n"),
                      of("vaults: { v: { at: /v, lock: 7d } }\nplans: { p: { keep: 7d } }\n"));
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_EQ(changes[0].key, "plans.p.keep.all");
  EXPECT_EQ(*changes[0].before, "14d");
  EXPECT_EQ(*changes[0].after, "7d");
  EXPECT_EQ(changes[1].key, "vaults.v.lock");
  EXPECT_FALSE(changes[1].before);
  EXPECT_EQ(changes[2].key, "vaults.v.site");
  EXPECT_FALSE(changes[2].after);
  EXPECT_TRUE(changes_between(of("a: 1"), of("a: 1")).empty());
}

}  // namespace
}  // namespace kuramori
