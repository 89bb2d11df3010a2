#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kAlertsExamples[] = {
    {"kuramori alerts", "what is wrong, since when, and who has been told"},
    {"kuramori alerts --last 50", "also what is over"},
};
constexpr Option kAlertsOptions[] = {
    {.name = "last", .metavar = "N", .help = "how many of those that are over: 0"},
};

constexpr Example kAckExamples[] = {
    {"kuramori ack 17", "somebody looks after it: nobody else is called"},
    {"kuramori ack 17 18 --by mori", "for somebody else"},
};
constexpr Argument kAckArguments[] = {
    {"ALERT", "the number of an alert", Argument::Count::kAny},
};
constexpr Option kAckOptions[] = {
    {.name = "by", .metavar = "NAME", .help = "who looks after it (default: you)"},
};

constexpr Example kNotifyTestExamples[] = {
    {"kuramori notify test", "send a marked message to everybody that notify names"},
    {"kuramori notify test on-call", "to one entry and the steps of its escalation"},
};
constexpr Argument kNotifyTestArguments[] = {
    {"NAME", "the name of an entry of notify, or \"notify 2\"", Argument::Count::kOptional},
};
constexpr ExitMeaning kNotifyTestExits[] = {
    {0, "everybody took it"},
    {1, "nobody did"},
    {2, "wrong usage or configuration"},
    {3, "some did not take it; they are named"},
};

}  // namespace

constexpr Operation kAlerts = {
    .verb = "alerts",
    .summary = "what is wrong, since when, and who has been told",
    .about =
        "Reads what `kuramori serve` has written down in the state folder (KURAMORI_STATE). An alert is open "
        "as long as it is so; it is told once "
        "to each entry of notify that hears of it, again each day, and to the steps of the escalation until "
        "somebody "
        "acknowledges it: kuramori ack.",
    .examples = kAlertsExamples,
    .options = kAlertsOptions,
    .schema = "kuramori/alerts/1",
};

constexpr Operation kAck = {
    .verb = "ack",
    .summary = "acknowledge an alert: nobody else is called because of it",
    .about =
        "The escalation of the alert stops, and it is not told again while it is open. When it is over, "
        "everybody who was told is told that, too. "
        "The alert itself stays until what is wrong is put right.",
    .examples = kAckExamples,
    .arguments = kAckArguments,
    .options = kAckOptions,
    .schema = "kuramori/done/1",
};

constexpr Operation kNotifyTest = {
    .verb = "notify test",
    .summary = "send a marked message through every channel",
    .about =
        "To each entry of notify and each step of its escalation, now, whatever its quiet hours say. "
        "PagerDuty gets an incident that is resolved at "
        "once. Whoever does not take it is named with the reason.",
    .examples = kNotifyTestExamples,
    .arguments = kNotifyTestArguments,
    .needs = Needs::kConfig,
    .schema = "kuramori/notify-test/1",
    .exits = kNotifyTestExits,
};

}  // namespace kuramori::operation
