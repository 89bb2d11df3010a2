#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kTokenNewExamples[] = {
    {"kuramori token new prometheus --to /etc/prometheus/kuramori.token",
     "for a program that reads it from a file"},
    {"kuramori token new yuki --role operator", "printed once, for a person to keep"},
};
constexpr Argument kTokenNewArguments[] = {{"NAME", "who will hold it"}};
constexpr Option kTokenNewOptions[] = {
    {.name = "role",
     .metavar = "ROLE",
     .help = "viewer (unless said otherwise), operator or owner",
     .completes = Completes::kWord,
     .words = "viewer operator owner"},
    {.name = "to",
     .metavar = "FILE",
     .help = "write it there (0600) instead of printing it; the file must be new",
     .completes = Completes::kFile},
};

}  // namespace

constexpr Operation kTokenNew = {
    .verb = "token new",
    .summary = "make a token for the daemon's HTTP interface",
    .about =
        "Makes a random token and says what kuramori.yaml needs to know it by: a digest, under listen: "
        "tokens:. "
        "The token itself stands nowhere else, so it cannot be stolen from the configuration, and one that "
        "is "
        "lost is made anew. A viewer reads; an operator also starts and ends jobs; an owner may do "
        "everything "
        "there is. Send SIGHUP to the daemon when the configuration knows it.",
    .examples = kTokenNewExamples,
    .arguments = kTokenNewArguments,
    .options = kTokenNewOptions,
    .schema = "kuramori/token/1",
};

}  // namespace kuramori::operation
