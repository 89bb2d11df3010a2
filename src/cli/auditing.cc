#include "cli/auditing.h"

#include <algorithm>

#include "cli/vault_access.h"
#include "engine/audit.h"

namespace kuramori {
namespace {

constexpr size_t kTypedMax = 1000;  // bytes of a command line that are kept

// What an argument of the verb names.
enum class About { kResource, kSnapshot, kVault, kRequest };
enum class Records {
  kAlways,
  kIfNamed,  // done, it says what it did (Context::set_act_object); where it says nothing it changed nothing
  kUnlessDone,  // what was done stands in the vault's first chain already (engine/keys.h)
};
struct Row {
  std::string_view verb;
  About about;
  Tie tie = Tie::kNo;  // keepers' work looks at the whole vault anyway: it binds what other keys did
  Records records = Records::kAlways;
};
constexpr Row kAudited[] = {
    {"backup", About::kResource},
    {"copy", About::kResource},
    {"restore", About::kResource},
    {"mount", About::kResource},
    {"drill", About::kResource},
    {"bucket fix", About::kResource},
    {"prune", About::kResource, Tie::kOtherChains},
    {"hold add", About::kSnapshot},
    {"hold remove", About::kSnapshot},
    {"extend", About::kSnapshot},
    {"review", About::kSnapshot},
    {"thaw", About::kSnapshot},
    {"approve", About::kRequest},
    {"audit", About::kVault, Tie::kOtherChains},
    {"vault scrub", About::kVault},
    {"vault collect", About::kVault, Tie::kOtherChains},
    {"vault disown", About::kVault},
    {"vault ledger new", About::kVault},
    {"vault key new", About::kVault, Tie::kNo, Records::kUnlessDone},
    {"vault key revoke", About::kVault, Tie::kNo, Records::kUnlessDone},
    {"vault kit", About::kVault, Tie::kNo, Records::kUnlessDone},
    {"vault key rewrap", About::kVault},
    {"vault init", About::kVault},
    {"vault probe", About::kVault, Tie::kNo, Records::kIfNamed},
    {"apply", About::kVault, Tie::kNo, Records::kIfNamed},
    {"init", About::kVault, Tie::kNo, Records::kIfNamed},
    {"watch", About::kResource, Tie::kNo, Records::kIfNamed},
};

constexpr std::string_view kLooks = "it only looks";
constexpr std::string_view kOutside = "what it changes is in no vault";
constexpr std::string_view kSegments = "a segment at a time, many a minute: the WAL itself is the record";
constexpr std::string_view kRuns = "all that it does it does by commands of this program, which are recorded";
struct Exception {
  std::string_view verb, why;
};
constexpr Exception kNotAudited[] = {
    {"lint", kLooks},
    {"plan", kLooks},
    {"docs", kLooks},
    {"doctor", kLooks},
    {"resources", kLooks},
    {"status", kLooks},
    {"top", kLooks},
    {"snapshots", kLooks},
    {"show", kLooks},
    {"diff", "it only looks; that it does so stands in the vault for as long (a session)"},
    {"window", kLooks},
    {"simulate", kLooks},
    {"bucket versions", kLooks},
    {"report", kLooks},
    {"compliance", kLooks},
    {"alerts", kLooks},
    {"wal show", kLooks},
    {"vault list", kLooks},
    {"vault show", kLooks},
    {"vault key list", kLooks},
    {"vault policy", kLooks},
    {"guard", kRuns},
    {"serve", kRuns},
    {"jobs", kOutside},
    {"ack", kOutside},
    {"notify test", kOutside},
    {"token new", kOutside},
    {"replicate", kOutside},
    {"wal push", kSegments},
    {"wal get", kSegments},
    {"wal stream", kSegments},
    {"version", kLooks},
    {"completion", kLooks},
    {"help", kLooks},
};

const Row* row_of(const Invocation& line) {
  const auto row = std::ranges::find(kAudited, line.operation->verb, &Row::verb);
  if (row == std::end(kAudited)) return nullptr;
  // What only looks.
  for (std::string_view look : {"dry-run", "estimate"})
    if (line.has(look)) return nullptr;
  if ((row->verb == "review" || row->verb == "approve") && line.arguments.empty()) return nullptr;
  // verify: a checkpoint, what was seen to hold is bound by whoever saw it. archive: by it records go.
  if (row->verb == "audit" && line.argument(0) != "verify" && line.argument(0) != "archive") return nullptr;
  return row;
}

std::string result_of(const Result<int>& status) {
  if (!status) return std::string(name_of(status.error().kind));
  if (*status == 0) return "done";
  if (*status == exit_code(ErrorKind::kPartial)) return "partial";
  if (*status == exit_code(ErrorKind::kBrokenPromise)) return "broken-promise";
  if (*status == exit_code(ErrorKind::kRefused)) return "refused";
  return "failed";
}

std::string typed(const Invocation& line) {
  std::string out(line.operation->verb);
  for (const std::string& word : line.arguments) out += " " + word;
  for (const auto& [name, values] : line.options) {
    for (const std::string& value : values) out += " --" + name + (value.empty() ? "" : " " + value);
  }
  if (out.size() > kTypedMax) out.resize(kTypedMax);
  return out;
}

}  // namespace

AuditAct act_of(const Context& context, const Result<int>& status) {
  const Invocation& line = context.line();
  AuditAct act{.verb = std::string(line.operation->verb), .result = result_of(status), .detail = typed(line)};
  const Row* row = row_of(line);
  const std::string first = line.argument(0);
  const size_t at = first.find('@');
  if (row != nullptr && (row->about == About::kResource || row->about == About::kSnapshot)) {
    const bool named = row->about == About::kResource || at != first.npos;
    if (named) act.resource = first.substr(0, at);
    if (at != first.npos) act.object = first.substr(at + 1);
    if (!named) act.object = first;
  } else {
    act.object =
        line.argument(row != nullptr && (row->verb == "audit" || row->about == About::kRequest) ? 0 : 1);
  }
  if (!context.act_object().empty()) act.object = context.act_object();
  if (!status) {
    act.reason = status.error().what;
    if (!status.error().why.empty()) act.reason += ": " + status.error().why;
  }
  return act;
}

AuditKeeping audit_keeping(const Config* config) {
  AuditKeeping keeping;
  if (config == nullptr || !config->audit) return keeping;
  if (config->audit->online) keeping.online = *config->audit->online;
  if (config->audit->archive) keeping.archive = *config->audit->archive;
  return keeping;
}

bool is_audited(std::string_view verb) {
  return std::ranges::find(kAudited, verb, &Row::verb) != std::end(kAudited);
}
std::string_view why_not_audited(std::string_view verb) {
  const auto found = std::ranges::find(kNotAudited, verb, &Exception::verb);
  return found == std::end(kNotAudited) ? std::string_view() : found->why;
}

void record_run(Context& context, const Result<int>& status) {
  const Row* row = row_of(context.line());
  if (row == nullptr || context.opened().empty() || context.is_skipped()) return;
  const bool is_done = status && *status == 0;
  if (row->records == Records::kUnlessDone && is_done) return;
  if (row->records == Records::kIfNamed && is_done && context.act_object().empty()) return;
  const AuditAct act = act_of(context, status);
  const Time now = context.clock().now();
  // Opened anew: what the verb opened is closed, and may have been broken by what went wrong.
  for (const Context::OpenedVault& opened : context.opened()) {
    VaultAddress address = address_of(context, opened.choice);
    address.keys = opened.keys;
    address.purpose = VaultAddress::For::kWalAlone;  // the log needs no ledger
    auto vault = open_vault(address);
    if (!vault)
      keep_act(opened.id, act, now, vault.error(), context.console());
    else if ((*vault)->info().id == opened.id)
      record_act(**vault, act, row->tie, context.console());
  }
}

}  // namespace kuramori
