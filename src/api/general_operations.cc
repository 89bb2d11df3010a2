#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kDoctorExamples[] = {
    {"kuramori doctor", "everything that is configured"},
    {"kuramori doctor orders-db", "one resource"},
};
constexpr Argument kDoctorArguments[] = {
    {"RESOURCE", "only this one", Argument::Count::kOptional, Completes::kResource},
};
constexpr ExitMeaning kDoctorExits[] = {
    {0, "nothing is wrong"},
    {1, "something is wrong; each finding names its fix"},
    {2, "wrong usage or configuration"},
};

constexpr Example kResourcesExamples[] = {
    {"kuramori resources", "what is protected, and by which plan"},
    {"kuramori resources --json", "the same for programs"},
};

constexpr Example kVersionExamples[] = {{"kuramori version", "the version and what it was built with"}};

constexpr Example kCompletionExamples[] = {
    {"source <(kuramori completion bash)", "for this shell"},
    {"kuramori completion bash > /usr/share/bash-completion/completions/kuramori",
     "for everyone on this machine"},
    {"kuramori completion zsh > \"${fpath[1]}/_kuramori\"", "zsh"},
    {"kuramori completion fish > ~/.config/fish/completions/kuramori.fish", "fish"},
};
constexpr Argument kCompletionArguments[] = {
    {"SHELL", "bash, zsh or fish", Argument::Count::kOne, Completes::kWord, "bash zsh fish"},
};

constexpr Example kHelpExamples[] = {
    {"kuramori help restore", "one command"},
    {"kuramori help vault", "a group of commands"},
};
constexpr Argument kHelpArguments[] = {
    {"COMMAND", "what to explain", Argument::Count::kAny, Completes::kVerb},
};
constexpr Option kHelpOptions[] = {
    {.name = "format",
     .metavar = "FORMAT",
     .help = "text, man (roff) or markdown; without a command, man and markdown hold all of them",
     .completes = Completes::kWord,
     .words = "text man markdown"},
    {.name = "names",
     .metavar = "NOUN",
     .help = "the configured vaults or resources, one a line (for completion)",
     .completes = Completes::kWord,
     .words = "vaults resources"},
};

}  // namespace

constexpr Operation kDoctor = {
    .verb = "doctor",
    .summary = "what is wrong, why, and the exact fix",
    .about =
        "Looks at the configuration, the vaults and the servers as a backup would need them. Every finding "
        "names the setting, "
        "what it is, what it must be and the statement or command that makes it so. Nothing is changed.",
    .examples = kDoctorExamples,
    .arguments = kDoctorArguments,
    .needs = Needs::kConfig,
    .schema = "kuramori/doctor/1",
    .exits = kDoctorExits,
};

constexpr Operation kResources = {
    .verb = "resources",
    .summary = "what is protected, by which plan",
    .about =
        "Lists every resource of the configuration with its kind and the plans that cover it. A resource "
        "without a plan is "
        "named as unprotected.",
    .examples = kResourcesExamples,
    .needs = Needs::kConfig,
    .schema = "kuramori/resources/1",
};

constexpr Operation kVersion = {
    .verb = "version",
    .summary = "the version of this program",
    .about = "Prints the version, the vault format it writes and the compiler it was built with.",
    .examples = kVersionExamples,
    .schema = "kuramori/version/1",
};

constexpr Operation kCompletion = {
    .verb = "completion",
    .summary = "a completion script for your shell",
    .about = "Prints a script that completes commands, options and the names in the configuration.",
    .examples = kCompletionExamples,
    .arguments = kCompletionArguments,
};

constexpr Operation kHelp = {
    .verb = "help",
    .summary = "explain a command",
    .about = "The same as COMMAND --help. As man or markdown it is what the packages install.",
    .examples = kHelpExamples,
    .arguments = kHelpArguments,
    .options = kHelpOptions,
};

}  // namespace kuramori::operation
