#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kTopExamples[] = {
    {"kuramori top", "of everything that is configured here"},
    {"kuramori top --once", "one frame, for a log or a mail"},
    {"kuramori top --from https://db1.example.jp:9847 --token-file ~/.kuramori.token",
     "of a daemon elsewhere, by its HTTP interface"},
};
constexpr Option kTopOptions[] = {
    {.name = "once", .metavar = "", .help = "print one frame and end"},
    {.name = "from", .metavar = "URL", .help = "a daemon elsewhere, as its listen: says"},
    {.name = "token-file",
     .metavar = "FILE",
     .help = "with a token that it knows (or KURAMORI_TOKEN_FILE)",
     .completes = Completes::kFile},
    {.name = "ca-file",
     .metavar = "FILE",
     .help = "the authority its certificate is from, where that is a private one",
     .completes = Completes::kFile},
};

}  // namespace

constexpr Operation kTop = {
    .verb = "top",
    .summary = "how everything is, live, for a terminal",
    .about =
        "Every resource, the worst first: whether it is protected, how much would be lost now beside its "
        "RPO, when "
        "its next run is, when it was last proven; promises that do not hold; what runs and how far it is; "
        "what "
        "ended otherwise than it should. Drawn anew each second; jobs are looked at as often, vaults every "
        "five "
        "seconds, or less often where that takes long. q ends it.\n\n"
        "It needs no daemon: without --from it looks at the vaults and at the journal itself, as status and "
        "jobs "
        "do.",
    .examples = kTopExamples,
    .options = kTopOptions,
};

}  // namespace kuramori::operation
