// vault scrub: what is damaged, which snapshots and files that touches, and with --heal what came back.
#include <fmt/core.h>

#include <map>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/limiting.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/damage.h"
#include "engine/heal.h"
#include "engine/local_state.h"

namespace kuramori {
namespace {

constexpr size_t kFilesTold = 10;  // names in text; the document has more

std::string_view name_of(ScrubSeverity severity) {
  switch (severity) {
    case ScrubSeverity::kNote:
      return "note";
    case ScrubSeverity::kUnreadable:
      return "unreadable";
    case ScrubSeverity::kDamage:
      return "damage";
  }
  return "note";
}

struct Copies {
  std::vector<std::unique_ptr<Vault>> vaults;
  std::vector<HealCopy> list;
};

// Where damage may be mended from: the vault that --from names, or every other configured one of the family
// that opens.
Result<Copies> open_copies(Context& context, const VaultChoice& self, const Vault& vault) {
  Copies copies;
  auto add = [&](const VaultChoice& choice, std::unique_ptr<Vault> copy) {
    copies.list.push_back({choice.shown(), copy.get()});
    copies.vaults.push_back(std::move(copy));
  };
  if (context.line().has("from")) {
    TRY_ASSIGN(VaultChoice from, context.choose_vault(context.line().value("from")));
    TRY_ASSIGN(auto copy, open_chosen(context, from));
    if (copy->info().id == vault.info().id) {
      return fail(ErrorKind::kRefused, "a vault is not healed from itself",
                  fmt::format("both are {}", vault.info().id.hex()), "name another vault: --from VAULT");
    }
    if (copy->info().family != vault.info().family) {
      return fail(ErrorKind::kRefused, "the two vaults are of different key families",
                  "bytes of another family do not open here",
                  "name a vault that was made with the same key file: --from VAULT");
    }
    add(from, std::move(copy));
    return copies;
  }
  TRY_ASSIGN(const Config* config, context.config_if_any());
  for (size_t i = 0; config && i < config->vaults.size(); ++i) {
    const VaultConfig& configured = config->vaults[i];
    if (configured.name == self.name) continue;
    auto choice = context.choose_vault(configured.name);
    auto copy =
        choice ? open_chosen(context, *choice) : Result<std::unique_ptr<Vault>>(std::move(choice).error());
    if (!copy) {
      context.console().note(fmt::format("{} is not asked: {}", configured.name, copy.error().what));
    } else if ((*copy)->info().family == vault.info().family && (*copy)->info().id != vault.info().id) {
      add(*choice, std::move(*copy));
    }
  }
  return copies;
}

void write_findings(JsonWriter& json, std::string& out, const ScrubResult& result,
                    const std::vector<TouchedFiles>& touched) {
  json.key("findings").begin_array();
  for (const ScrubFinding& finding : result.findings) {
    json.begin_object()
        .field("object", finding.object)
        .field("severity", name_of(finding.severity))
        .field("what", finding.what);
    json.key("snapshots").begin_array();
    out += fmt::format("{}: {}: {}\n", name_of(finding.severity), finding.object, finding.what);
    for (const SnapshotId& snapshot : finding.snapshots) {
      json.value(snapshot.hex());
      out += fmt::format("  snapshot {} cannot be fully restored because of it\n", snapshot.hex());
    }
    json.end_array();
    auto files = std::ranges::find(touched, finding.object, &TouchedFiles::object);
    if (finding.severity == ScrubSeverity::kDamage && files != touched.end()) {
      json.field("files_touched", files->count).key("files").begin_array();
      std::string told;
      for (size_t i = 0; i < files->paths.size(); ++i) {
        json.value(files->paths[i]);
        if (i < kFilesTold) told += fmt::format("{}{}", i == 0 ? "" : ", ", files->paths[i]);
      }
      json.end_array().field("files_unknown_because", files->unknown_because);
      if (files->count > kFilesTold) told += fmt::format(" and {} more", files->count - kFilesTold);
      if (!told.empty()) out += fmt::format("  files: {}\n", told);
      if (!files->unknown_because.empty())
        out += fmt::format("  not all file names can be read: {}\n", files->unknown_because);
    }
    json.end_object();
  }
  json.end_array();
}

void write_healed(JsonWriter& json, std::string& out, const HealOutcome& outcome) {
  json.field("sent_bytes", outcome.bytes).key("healed").begin_array();
  for (const HealOutcome::Healed& healed : outcome.healed) {
    json.begin_object().field("object", healed.object).field("note", healed.note).end_object();
    out += fmt::format("healed: {}{}{}\n", healed.object, healed.note.empty() ? "" : ": ", healed.note);
  }
  json.end_array().key("not_healed").begin_array();
  for (const HealOutcome::Left& left : outcome.left) {
    json.begin_object().field("object", left.object).field("why", left.why).end_object();
    out += fmt::format("NOT HEALED: {}: {}\n", left.object, left.why);
  }
  json.end_array();
}

}  // namespace

Result<int> run_vault_scrub(Context& context) {
  Console& console = context.console();
  ScrubRequest request;
  if (context.line().has("budget")) {
    TRY_ASSIGN(request.budget, parse_duration(context.line().value("budget")));
  }
  if (context.line().has("every")) {
    TRY_ASSIGN(request.every, parse_duration(context.line().value("every")));
  }
  TRY_ASSIGN(const Limits limits, limits_given(context, {}));
  TRY(keep_to(limits, Reads::kVault));
  const bool heals = context.line().has("heal");
  if (context.line().has("from") && !heals) {
    return fail(ErrorKind::kUsage, "--from says where to heal from, and --heal is not given",
                "a scrub alone changes nothing", "add --heal, or leave --from out");
  }
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  if (is_skipped(context, *vault, Act::kScrub, choice.shown())) return 0;
  Copies copies;
  if (heals) {
    TRY(may_heal(*vault));
    TRY_ASSIGN(copies, open_copies(context, choice, *vault));
  }
  TRY_ASSIGN(ScrubResult result, scrub_vault(*vault, request, console, context.stop()));
  std::optional<HealOutcome> healed;
  if (heals) {
    TRY_ASSIGN(healed, heal_vault(*vault, copies.list, result, console, context.stop()));
  }
  const bool damaged = healed ? !healed->left.empty() : result.damaged();
  int status = damaged                   ? exit_code(ErrorKind::kBrokenPromise)
               : result.unreadable()     ? exit_code(ErrorKind::kFailed)
               : result.objects_left > 0 ? exit_code(ErrorKind::kPartial)
                                         : 0;
  JsonWriter json;
  std::string out;
  json.begin_object()
      .field("schema", "kuramori/scrub/1")
      .field("damaged", damaged)
      .field("objects", result.objects);
  json.field("bytes", result.bytes)
      .field("objects_left", result.objects_left)
      .field("objects_cold", result.objects_cold)
      .field("snapshots", result.snapshots);
  std::string oldest;
  if (result.oldest_verified_ns) {
    const Time verified = from_unix_ns(*result.oldest_verified_ns);
    oldest = format_utc(verified);
    const Duration age = std::max(Duration::zero(), context.clock().now() - verified);
    if (age >= std::chrono::minutes(1) || request.every)
      out += fmt::format("the oldest verification of a pack or WAL object is {} old\n", format_duration(age));
  }
  json.field("oldest_verification", oldest).field("never_verified", result.never_verified);
  std::string findings;
  // Healed, the names can be read again.
  write_findings(json, findings, result, touched_files(*vault, result.findings));
  if (healed) write_healed(json, findings, *healed);
  write_limits(json, limits);
  json.end_object();
  if (console.json()) {
    console.print_document(json);
    return status;
  }
  out = findings +
        fmt::format("{}: {} objects checked, {} read, {} snapshots\n",
                    damaged                             ? "DAMAGED"
                    : healed && !healed->healed.empty() ? "healed"
                                                        : "sound",
                    result.objects, format_size(result.bytes), result.snapshots) +
        out;
  if (result.never_verified > 0)
    out += fmt::format("{} packs and WAL objects were never found whole from this machine\n",
                       result.never_verified);
  if (result.objects_cold > 0)
    out += fmt::format("{} packs lie in cold storage and were not read: kuramori thaw SNAPSHOT, then again\n",
                       result.objects_cold);
  if (result.objects_left > 0)
    out += fmt::format("{} objects were not reached within the budget: the next run begins with them\n",
                       result.objects_left);
  console.print(out + shown_limits(limits));
  return status;
}

}  // namespace kuramori
