#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kAuditExamples[] = {
    {"kuramori audit", "who did what, in every vault"},
    {"kuramori audit --resource orders-db --since 30d", "what was done about one resource in a month"},
    {"kuramori audit verify", "does every chain hold, and is nothing of it missing"},
    {"kuramori audit archive", "records older than 90 days, brought together in larger objects"},
};
constexpr Argument kAuditArguments[] = {
    {"WHAT", "list (when nothing is named), verify or archive", Argument::Count::kOptional, Completes::kWord,
     "list verify archive"},
};
constexpr Option kAuditOptions[] = {
    {.name = "resource",
     .metavar = "RESOURCE",
     .help = "only about this one",
     .completes = Completes::kResource},
    {.name = "verb",
     .metavar = "VERB",
     .help = "only this: restore, \"hold remove\"",
     .completes = Completes::kVerb},
    {.name = "key", .metavar = "KEY", .help = "only by this key: its name, or the beginning of its id"},
    {.name = "since", .metavar = "WHEN", .help = "not before: a time with its zone, or how long ago (30d)"},
    {.name = "until", .metavar = "WHEN", .help = "before: the same"},
};
constexpr ExitMeaning kAuditExits[] = {
    {0, "listed; every chain holds; archived"},
    {1, "a vault could not be read, nothing was changed"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {4, "a record is damaged, missing, moved or replayed; it is named"},
    {5, "refused: this key's role may not, or the log does not hold and so is not moved"},
};

constexpr Example kReportExamples[] = {
    {"kuramori report --month last --to report.html", "last month, signed in report.html.sig"},
    {"kuramori report --quarter last --to report.pdf", "a quarter, printed (by weasyprint)"},
    {"kuramori report --quarter 2026-Q4 --format csv", "a quarter, for a spreadsheet"},
    {"kuramori report --day this --json", "today, for programs"},
    {"kuramori report --verify report.html", "is it what was signed, and by whom"},
};
constexpr Option kReportOptions[] = {
    {.name = "day", .metavar = "DAY", .help = "2026-11-22, this or last"},
    {.name = "month", .metavar = "MONTH", .help = "2026-11, this or last (when nothing is named: this)"},
    {.name = "quarter", .metavar = "QUARTER", .help = "2026-Q4, Q4 of this year, this or last"},
    {.name = "year", .metavar = "YEAR", .help = "2026, this or last"},
    {.name = "timezone", .metavar = "ZONE", .help = "whose calendar: the machine's"},
    {.name = "as-of", .metavar = "TIME", .help = "ages are counted to this moment: now, or the period's end"},
    {.name = "format",
     .metavar = "FORMAT",
     .help = "html, pdf, csv or json: by the file's name, else html",
     .completes = Completes::kWord,
     .words = "html pdf csv json"},
    {.name = "to",
     .metavar = "FILE",
     .help = "instead of standard output; FILE.sig is its signature",
     .completes = Completes::kFile},
    {.name = "verify",
     .metavar = "FILE",
     .help = "whether FILE is what FILE.sig says, and whose word it is",
     .completes = Completes::kFile},
};
constexpr ExitMeaning kReportExits[] = {
    {0, "written; or it is what was signed"},
    {1, "it could not be written"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {4, "--verify: it, or its signature, was changed"},
};

constexpr Example kComplianceExamples[] = {
    {"kuramori compliance", "every control: what is demanded, what is measured"},
    {"kuramori compliance --json", "for programs, with the evidence"},
};
constexpr ExitMeaning kComplianceExits[] = {
    {0, "no control fails"},
    {1, "a vault could not be read"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {4, "a control fails"},
};

constexpr Example kApproveExamples[] = {
    {"kuramori approve", "what waits for another person's word, and exactly what would be done"},
    {"kuramori approve 3f2a91bc --vault tokyo --key-file second.keeper.key",
     "agreed, by another key than who asked"},
};
constexpr Argument kApproveArguments[] = {
    {"REQUEST", "its id, or its first characters (at least 4)", Argument::Count::kOptional},
};
constexpr ExitMeaning kApproveExits[] = {
    {0, "listed, or approved"},
    {1, "it could not be written, nothing was changed"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "refused: one's own request, or one that is over or was used"},
};

}  // namespace

constexpr Operation kApprove = {
    .verb = "approve",
    .summary = "a second person's word for what cannot be taken back",
    .about =
        "What `approvals:` names (prune beyond a budget, restore-in-place, apply, hold-remove, key-revoke, "
        "disown, collect, ledger-new, bucket-fix, replicate-deletes) is refused until others agree: the "
        "command puts a request into the vault that says exactly what it would do, "
        "and "
        "names it. Somebody with a key of their own, not a writer's, reads and approves it; then the same "
        "command, "
        "typed again by who asked, does it: once, before the request is over, and only while what would be "
        "done is "
        "still the same.",
    .examples = kApproveExamples,
    .arguments = kApproveArguments,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/approvals/1",
    .exits = kApproveExits,
};

constexpr Operation kReport = {
    .verb = "report",
    .summary = "what was promised, done and measured in a day, month, quarter or year",
    .about =
        "Of every resource: its plans, where it is kept, RPO and RTO promised and measured beside those of "
        "the "
        "period before, runs made, failed and missing, the monthly checklist, drills due. Of the period: "
        "proofs "
        "with who, when and from which copy, failures, changes, deletions and by whom, holds, contacts, and "
        "the "
        "controls of kuramori compliance, with the digests that show it. What is told of the past is what "
        "the "
        "vaults still hold and the audit log says.\n\n"
        "The same facts give the same bytes. With --to it is signed by the vault's key. What others did is "
        "sealed "
        "to the reader: use an owner's or reader's key.",
    .examples = kReportExamples,
    .options = kReportOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/report/1",
    .exits = kReportExits,
};

constexpr Operation kCompliance = {
    .verb = "compliance",
    .summary = "the controls an auditor asks about, judged by what was measured",
    .about =
        "RPO and RTO met, in a plan, off-site copy, immutable, encrypted with its key in escrow, roles "
        "split, "
        "retention, audit log, proven regularly, recovery exercise: each passes, fails, or is not measured, "
        "with "
        "its evidence. What `compliance:` does not demand never fails. docs/report.md says how each is "
        "measured.",
    .examples = kComplianceExamples,
    .needs = Needs::kConfig,
    .schema = "kuramori/compliance/1",
    .exits = kComplianceExits,
};

constexpr Operation kAudit = {
    .verb = "audit",
    .summary = "who did what, and that nothing of it was changed",
    .about =
        "Every backup, copy, restore, mount, drill, prune, collection, hold, extension, scrub and act about "
        "keys "
        "stands in the vault's audit log, also what failed or was refused: which key, from which host, as "
        "which "
        "user, with what result. Each key's records are a chain, signed by it, sealed to the reader: writers "
        "and "
        "keepers add to it and cannot read what was done.\n\n"
        "verify reads every record and names what was changed, taken out, moved, replayed or cut off at the "
        "end, "
        "as far as other chains and this machine's memory prove it, and then binds what it saw by a record "
        "of "
        "its own. archive is also done by each vault collect: after audit.online (90d) records are brought "
        "together, and after audit.archive (3y) let go.",
    .examples = kAuditExamples,
    .arguments = kAuditArguments,
    .options = kAuditOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/audit/1",
    .exits = kAuditExits,
};

}  // namespace kuramori::operation
