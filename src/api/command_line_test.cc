#include "api/command_line.h"

#include <gtest/gtest.h>

#include <set>

#include "api/completion.h"
#include "api/help.h"

namespace kuramori {
namespace {

Result<Invocation> parse(std::vector<std::string_view> words) {
  return parse_command_line(words);
}
std::string refusal(std::vector<std::string_view> words) {
  auto parsed = parse(std::move(words));
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
  return parsed.error().what + " | " + parsed.error().next;
}

TEST(CommandLine, OptionsStandBeforeOrAfterTheVerb) {
  for (const auto& words :
       {std::vector<std::string_view>{"--json", "--config", "x.yaml", "help", "a", "--format", "man"},
        std::vector<std::string_view>{"help", "--format=man", "a", "--config=x.yaml", "--json"}}) {
    auto parsed = parse(words);
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(parsed->operation->verb, "help");
    EXPECT_TRUE(parsed->has("json"));
    EXPECT_EQ(parsed->value("config"), "x.yaml");
    EXPECT_EQ(parsed->value("format"), "man");
    EXPECT_EQ(parsed->arguments, (std::vector<std::string>{"a"}));
  }
}

TEST(CommandLine, AfterTwoDashesEverythingIsAnArgument) {
  auto parsed = parse({"help", "--", "--json", "--"});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->arguments, (std::vector<std::string>{"--json", "--"}));
  EXPECT_FALSE(parsed->has("json"));
}

TEST(CommandLine, RefusalsNameTheNearestWord) {
  EXPECT_EQ(refusal({"resuorces"}), "there is no command \"resuorces\" | kuramori resources");
  EXPECT_EQ(refusal({"resources", "--jsn"}), "there is no option --jsn of resources | did you mean --json?");
  EXPECT_EQ(refusal({"resources", "x"}), "resources takes no \"x\" | kuramori resources --help");
  EXPECT_EQ(refusal({"completion"}), "completion needs SHELL | kuramori completion --help");
  EXPECT_EQ(refusal({"help", "--format", "pdf"}), "--format cannot be \"pdf\" | kuramori help --help");
  EXPECT_EQ(refusal({"help", "--format"}), "--format needs FORMAT | kuramori help --help");
  EXPECT_EQ(refusal({"help", "--format="}), "--format is empty | write --format FORMAT");
  EXPECT_EQ(refusal({"help", "--json=1"}), "--json takes no value | write --json");
  EXPECT_EQ(refusal({"--config", "a", "resources", "--config", "b"}),
            "--config is given twice | kuramori resources --help");
  EXPECT_EQ(refusal({"-x"}), "there is no option --x | kuramori --help");
  EXPECT_EQ(refusal({"--json"}), "no command is given | kuramori --help");
}

TEST(CommandLine, HelpIsAlwaysAnAnswer) {
  EXPECT_TRUE(parse({})->wants_help);
  EXPECT_TRUE(parse({"--help"})->wants_help);
  EXPECT_TRUE(parse({"completion", "-h"})->wants_help);
  EXPECT_EQ(parse({"--version"})->operation->verb, "version");
}

// What the table promises to its readers.
TEST(Operations, TheTableIsWhole) {
  std::set<std::string_view> verbs;
  for (const Operation* operation : operations()) {
    SCOPED_TRACE(operation->verb);
    EXPECT_TRUE(verbs.insert(operation->verb).second);
    EXPECT_TRUE(operations_in(operation->verb).empty()) << "a command must not be a group as well";
    EXPECT_FALSE(operation->summary.empty() || operation->summary.ends_with('.'));
    EXPECT_FALSE(operation->about.empty());
    EXPECT_FALSE(operation->examples.empty());
    std::set<std::string_view> names;
    for (const Option& option : operation->options) {
      EXPECT_TRUE(names.insert(option.name).second) << option.name;
      EXPECT_FALSE(option.help.empty());
      EXPECT_EQ(option.completes == Completes::kWord, !option.words.empty()) << option.name;
      for (const Option& global : global_options()) EXPECT_NE(option.name, global.name);
      // A secret never stands in an argument: only the file it is in.
      for (std::string_view secret : {"pass", "secret", "token"})
        EXPECT_TRUE(option.name.find(secret) == std::string_view::npos || option.name.ends_with("-file"))
            << option.name;
    }
    bool optional = false;
    for (const Argument& argument : operation->arguments) {
      EXPECT_FALSE(optional) << "only the last argument may be left out";
      optional = argument.count != Argument::Count::kOne;
    }
  }
}

TEST(Operations, EveryReaderOfTheTableShowsEveryVerb) {
  std::string man = man_page("1"), markdown = markdown_reference(), text = overview();
  for (const Operation* operation : operations()) {
    EXPECT_NE(text.find(operation->summary), std::string::npos);
    EXPECT_NE(man.find(".SS " + std::string(operation->verb)), std::string::npos);
    EXPECT_NE(markdown.find("## " + std::string(operation->verb)), std::string::npos);
    // Help opens with examples: before the usage.
    std::string help = help_of(*operation);
    EXPECT_LT(help.find(operation->examples.front().command), help.find("Usage"));
    for (const char* shell : {"bash", "zsh", "fish"}) {
      std::string script = *completion_script(shell);
      for (const Option& option : operation->options)
        EXPECT_NE(script.find(option.name), std::string::npos) << option.name;
    }
  }
}

}  // namespace
}  // namespace kuramori
