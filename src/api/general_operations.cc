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

constexpr Example kLintExamples[] = {
    {"kuramori lint", "what the configuration promises and cannot keep"},
    {"kuramori lint --config examples/tonebridge.yaml", "of another file"},
    {"kuramori lint --json", "for programs and continuous integration"},
};
constexpr ExitMeaning kLintExits[] = {
    {0, "nothing that is promised cannot hold; risks and hints may be told of"},
    {2, "wrong usage, or a configuration that cannot be read"},
    {4, "a promise cannot hold"},
};

constexpr Example kDocsExamples[] = {
    {"kuramori docs --to docs/recovery", "write the strategy and a runbook for each resource"},
    {"kuramori docs --to docs/recovery --check",
     "for continuous integration: is it behind the configuration"},
};
constexpr Option kDocsOptions[] = {
    {.name = "to",
     .metavar = "FOLDER",
     .help = "where the pages lie, in a repository as a rule",
     .required = true,
     .completes = Completes::kFolder},
    {.name = "check", .help = "write nothing: only say which pages are behind"},
};
constexpr ExitMeaning kDocsExits[] = {
    {0, "the pages say what the configuration says"},
    {2, "wrong usage, or a configuration that cannot be read"},
    {4, "--check: pages are behind, missing or left over"},
    {5, "a page in the way is somebody's own: nothing was written"},
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
    {"kuramori help --format json-schema > kuramori.schema.json",
     "what an editor completes kuramori.yaml by"},
};
constexpr Argument kHelpArguments[] = {
    {"COMMAND", "what to explain", Argument::Count::kAny, Completes::kVerb},
};
constexpr Option kHelpOptions[] = {
    {.name = "format",
     .metavar = "FORMAT",
     .help = "text, man (roff) or markdown; without a command, man and markdown hold all of them; "
             "json-schema: of kuramori.yaml, for editors",
     .completes = Completes::kWord,
     .words = "text man markdown json-schema"},
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
        "what it is, what it must be and the statement or command that makes it so. Then the programs of "
        "others that the configured kinds need here, and which version there is. Nothing is changed.",
    .examples = kDoctorExamples,
    .arguments = kDoctorArguments,
    .needs = Needs::kConfig,
    .schema = "kuramori/doctor/1",
    .exits = kDoctorExits,
};

constexpr Operation kLint = {
    .verb = "lint",
    .summary = "does the configuration keep its own promises",
    .about =
        "Looks at kuramori.yaml alone, before anything runs: the longest time between two runs of each plan "
        "over a year of its zone, with windows and changes of clocks, against the rpo; retention against "
        "what "
        "laws demand and what locks and quotas allow; copies against 3-2-1 and sites; drills against what is "
        "due; what is to come back when against what it needs; people who cannot be told; secrets in "
        "clear.\n\n"
        "An error is a promise that cannot hold, a risk holds while nothing unlikely happens, a hint costs "
        "nothing to heed. Each says where it stands, why, and what to write. Nothing is changed, no vault "
        "and no "
        "server is asked. docs/lint.md has a line on every finding.",
    .examples = kLintExamples,
    .needs = Needs::kConfig,
    .schema = "kuramori/lint/1",
    .exits = kLintExits,
};

constexpr Operation kDocs = {
    .verb = "docs",
    .summary = "write the handbook of recovery from the configuration",
    .about =
        "Writes what kuramori.yaml amounts to as pages of Markdown: the strategy (what is protected, where, "
        "how, proved when, who is told, what does not hold), a runbook for each resource with the very lines "
        "to type, and one for each scenario, in the order in which things come back. Kept in a repository "
        "beside the configuration, --check tells when the pages say something else.\n\n"
        "Pages carry a mark in their first line; a file without it is never overwritten. No secret and no "
        "address that may be one is written.",
    .examples = kDocsExamples,
    .options = kDocsOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/docs/1",
    .exits = kDocsExits,
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
