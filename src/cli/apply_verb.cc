// `apply`: makes what is missing, records the configuration in every vault, has the daemon read it, and then
// reads back what stands there. With --canary it ends in a backup and a restore through each vault.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/bytes.h"
#include "base/time_text.h"
#include "base/units.h"
#include "cli/applying.h"
#include "cli/approving.h"
#include "cli/tree_verbs.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "daemon/job_journal.h"
#include "engine/applied.h"
#include "engine/local_state.h"
#include "engine/locks.h"
#include "os/file.h"
#include "os/user.h"

namespace kuramori {
namespace {

constexpr Duration kDaemonAnswersWithin = std::chrono::seconds(10);
constexpr Duration kDaemonPause = std::chrono::milliseconds(100);
constexpr const char* kCanary = "kuramori-canary";  // a resource of its own in each vault
constexpr Period kCanaryKeep = Period::of_seconds(86400);
constexpr size_t kCanaryBytes = size_t{3} << 20;  // of its largest file: more than one chunk
constexpr size_t kTypedMax = 64;

std::string_view name_of(Daemon daemon) {
  switch (daemon) {
    case Daemon::kNotAsked:
      return "not asked";
    case Daemon::kNone:
      return "none";
    case Daemon::kTook:
      return "read it";
    case Daemon::kSilent:
      return "silent";
  }
  return "none";
}

// What is given up is given up only by somebody who says so.
Result<void> must_be_meant(Context& context, const Planned& planned) {
  if (!planned.plan.loses() || context.line().has("yes")) return {};
  std::string lost;
  for (const Consequence& one : planned.plan.consequences)
    if (one.loses) lost += fmt::format("{}{}: {}", lost.empty() ? "" : "; ", one.about, one.what);
  const auto refusal = [&](std::string_view why) {
    return fail(ErrorKind::kRefused, "applying this gives something up", fmt::format("{} ({})", lost, why),
                "look: kuramori plan; then say so: kuramori apply --yes");
  };
  if (isatty(STDIN_FILENO) != 1 || context.console().json()) return refusal("nobody was asked");
  std::fputs(
      fmt::format("{}\n! {}\nto do this all the same, type the configuration's name ({}): ",
                  shown_plan(planned), lost, planned.config->name.empty() ? "apply" : planned.config->name)
          .c_str(),
      stderr);
  std::string typed;
  for (int c = std::getchar(); c != EOF && c != '\n' && typed.size() < kTypedMax; c = std::getchar())
    typed.push_back(static_cast<char>(c));
  if (typed == (planned.config->name.empty() ? "apply" : planned.config->name)) return {};
  return refusal("something else was typed");
}

Result<void> make_vault(Context& context, AppliedVault& out) {
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault(out.vault));
  const VaultAddress address = address_of(context, choice);
  Secret passphrase;
  if (choice.passphrase.is_set()) {
    TRY_ASSIGN(passphrase, address.passphrase());
  }
  TRY_ASSIGN(const InitOutcome made,
             init_vault(address, choice.shown(), choice.passphrase.is_set() ? &passphrase : nullptr));
  out.made = true;
  out.key_was_made = made.key_was_made;
  context.note_opened(choice, *made.vault);
  if (made.key_was_made)
    context.console().note(fmt::format(
        "made the key {}: whoever loses it loses the vault. Print what brings everything back, and lock it "
        "away: kuramori vault kit {} --to FILE",
        choice.key_file, out.vault));
  return {};
}

Result<std::unique_ptr<Vault>> open_named(Context& context, const std::string& name) {
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault(name));
  return open_chosen(context, choice);
}

std::string user_name() {
  const auto user = user_of_uid(geteuid());
  return user ? user->name : std::to_string(geteuid());
}

AppliedRecord record_of(const Planned& planned, Time now) {
  // Nothing changed, and some vault has it not yet: it gets what the others have.
  if (planned.applied && planned.changes.empty()) return *planned.applied;
  return {.number = planned.applied ? planned.applied->number + 1 : 1,
          .configuration = planned.config->name,
          .text = planned.text,
          .host = host_name(),
          .user = user_name(),
          .at_ns = to_unix_ns(now)};
}

// In every vault that can be reached. What was read back stands in the outcome.
void apply_to(Context& context, const AppliedRecord& record, bool write, AppliedVault& out) {
  auto done = [&]() -> Result<void> {
    if (write) {
      TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_named(context, out.vault));
      TRY(record_applied(*vault, record));
    }
    // By a reader of its own, as the next one will.
    TRY_ASSIGN(const std::unique_ptr<Vault> again, open_named(context, out.vault));
    out.id = again->info().id.hex();
    TRY_ASSIGN(out.stands, last_applied(*again, record.configuration));
    out.reads_back = out.stands == record;
    return {};
  }();
  if (!done) out.trouble = std::move(done).error();
}

// A daemon of this machine's state folder reads the configuration anew.
Result<Daemon> tell_daemon(Context& context) {
  const std::string path = join_path(state_folder(), kJobJournalFile);
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (!there) return Daemon::kNone;
  TRY_ASSIGN(const std::unique_ptr<JobJournal> journal, JobJournal::open(path));
  TRY(journal->ask_to_reload());
  Clock& clock = context.clock();
  for (const Duration deadline = clock.steady() + kDaemonAnswersWithin; clock.steady() < deadline;) {
    TRY_ASSIGN(const bool waits, journal->is_reload_asked());
    if (!waits) return Daemon::kTook;
    clock.sleep(kDaemonPause);
  }
  // Whatever daemon begins later reads it anyway.
  TRY(journal->take_reload());
  return Daemon::kSilent;
}

// --- the canary -----------------------------------------------------------------------------------------

Result<void> write_canary(const std::string& folder) {
  Bytes content(kCanaryBytes);
  system_random().fill(content);
  TRY(make_folders(join_path(folder, "below")));
  TRY(write_new_file(join_path(folder, "large"), content));
  TRY(write_new_file(join_path(folder, "below/small"), ByteView(content).first(1000)));
  return write_new_file(join_path(folder, "empty"), {});
}

// A small resource that exists for this alone is backed up through the vault, restored and compared.
Result<void> fly_canary(Context& context, const std::string& name, CanaryFlight& out) {
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault(name));
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const TemporaryFolder folder, TemporaryFolder::make("kuramori-canary-"));
  TRY(write_canary(folder.path()));
  ResourceConfig resource{.name = kCanary, .kind = ResourceKind::kFiles};
  resource.files.paths = {folder.path()};
  SnapshotWishes wishes{.resource = kCanary, .keep = kCanaryKeep};
  TRY_ASSIGN(wishes.lock, lock_of(choice.location));
  TRY_ASSIGN(const TreeBackupOutcome made, back_up_tree(context, *vault, resource, wishes, {}));
  out.snapshot = made.commit.snapshot.hex();
  if (context.act_object().empty()) context.set_act_object("canary " + out.snapshot);
  out.backup_seconds = made.seconds;
  TRY_ASSIGN(const OpenedSource opened, open_source(resource, context.world()));
  TRY_ASSIGN(const TreeDrillOutcome drilled,
             drill_tree(*vault, *opened.source,
                        {.resource = kCanary,
                         .snapshot = out.snapshot,
                         .state_folder = std::filesystem::path(folder.path()).parent_path().string(),
                         .vault_text = choice.shown()},
                        context.console(), context.stop()));
  out.passed = drilled.proof.passed && made.defects.empty();
  out.restore_seconds = drilled.proof.seconds_total;
  return {};
}

// --- what was done, in words ------------------------------------------------------------------------------

void print_document(Context& context, const Planned& planned, const std::vector<AppliedVault>& vaults,
                    Daemon daemon, size_t changes_left) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/applied/1");
  write_changes(json, planned.changes);
  json.key("vaults").begin_array();
  for (const AppliedVault& one : vaults) {
    json.begin_object().field("vault", one.vault).field("made", one.made);
    json.field("key_made", one.key_was_made).field("id", one.id).key("number");
    one.stands ? json.value(one.stands->number) : json.null();
    json.field("reads_back", one.reads_back).field("trouble", one.trouble ? one.trouble->what : "");
    json.key("canary");
    if (one.canary)
      json.begin_object()
          .field("snapshot", one.canary->snapshot)
          .field("passed", one.canary->passed)
          .field("backup_seconds", one.canary->backup_seconds)
          .field("restore_seconds", one.canary->restore_seconds)
          .field("trouble", one.canary->trouble ? one.canary->trouble->what : "")
          .end_object();
    else
      json.null();
    json.end_object();
  }
  json.end_array().field("daemon", name_of(daemon)).field("changes_left", changes_left);
  json.end_object();
  context.console().print_document(json);
}

std::string shown_vault(const AppliedVault& one) {
  const auto trouble_of = [](const Error& error) {
    return fmt::format("{}{}{}", error.what, error.why.empty() ? "" : ": ", error.why);
  };
  std::string out = fmt::format("  {}: ", one.vault);
  if (one.trouble) return out + trouble_of(*one.trouble) + "\n";
  out += fmt::format("{}vault {} has {}{}\n", one.made ? "made; " : "", one.id,
                     one.stands ? shown_applied(*one.stands) : "nothing",
                     one.reads_back ? ", as the file says" : ", which is NOT what was applied");
  if (!one.canary) return out;
  const auto took = [](double seconds) {
    return format_duration(Duration(static_cast<int64_t>(seconds * 1e9)));
  };
  if (one.canary->trouble) return out + fmt::format("    canary: {}\n", trouble_of(*one.canary->trouble));
  return out + fmt::format("    canary {}: backed up in {}, restored and compared in {}{}\n",
                           one.canary->snapshot, took(one.canary->backup_seconds),
                           took(one.canary->restore_seconds), one.canary->passed ? "" : ": FAILED");
}

void print_words(Context& context, const Planned& planned, const std::vector<AppliedVault>& vaults,
                 Daemon daemon, size_t changes_left) {
  std::string out =
      fmt::format("{} change{} applied\n{}", planned.changes.size(), planned.changes.size() == 1 ? "" : "s",
                  planned.applied ? shown_changes(planned.changes) : "");
  out += "read back\n";
  for (const AppliedVault& one : vaults) out += shown_vault(one);
  if (daemon == Daemon::kTook) out += "  the daemon reads it now\n";
  if (daemon == Daemon::kSilent) out += "  no daemon answered: it reads it when it is started\n";
  out += fmt::format("{} change{} left\n", changes_left, changes_left == 1 ? "" : "s");
  context.console().print(out);
}

int exit_of(const std::vector<AppliedVault>& vaults) {
  bool partial = false, broken = false;
  for (const AppliedVault& one : vaults) {
    partial |= one.trouble.has_value() || !one.reads_back;
    if (!one.canary) continue;
    partial |= one.canary->trouble.has_value();
    broken |= !one.canary->trouble && !one.canary->passed;
  }
  return broken ? exit_code(ErrorKind::kBrokenPromise) : partial ? exit_code(ErrorKind::kPartial) : 0;
}

}  // namespace

Result<Applied> apply_planned(Context& context, const Planned& planned) {
  const AppliedRecord record = record_of(planned, context.clock().now());
  Applied applied;
  for (const PlannedVault& vault : planned.vaults) {
    AppliedVault& out = applied.vaults.emplace_back(AppliedVault{.vault = vault.look.vault});
    if (vault.look.state == VaultLook::State::kUnknown) {
      out.trouble = vault.look.trouble;
      continue;
    }
    if (vault.look.state == VaultLook::State::kMissing) {
      if (auto made = make_vault(context, out); !made) {
        out.trouble = std::move(made).error();
        continue;
      }
    }
    const bool write = vault.applied != record;
    apply_to(context, record, write, out);
    // For the audit log: what now stands there.
    if (write || out.made)
      context.set_act_object(fmt::format("{}{}{}", record.configuration,
                                         record.configuration.empty() ? "" : " ", record.number));
  }
  if (planned.anything_to_do()) {
    auto told = tell_daemon(context);
    if (told)
      applied.daemon = *told;
    else
      context.console().warning(fmt::format("the daemon could not be told: {}", told.error().what));
  }
  return applied;
}

Result<int> run_apply(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(const Planned planned, make_plan(context));
  if (!line.argument(0).empty()) TRY(must_still_hold(line.argument(0), planned));
  if (planned.lint.has_errors() && !line.has("despite-lint")) {
    const LintFinding& first = planned.lint.findings.front();  // errors come first
    return fail(ErrorKind::kBrokenPromise, "the configuration promises what it cannot keep",
                fmt::format("{}: {}", first.about, first.what),
                "kuramori lint tells all; to apply it as it is: kuramori apply --despite-lint");
  }
  TRY(must_be_meant(context, planned));
  TRY(apply_must_be_approved(context, planned));

  TRY_ASSIGN(Applied applied, apply_planned(context, planned));
  std::vector<AppliedVault>& vaults = applied.vaults;
  if (line.has("canary")) {
    for (AppliedVault& one : vaults) {
      if (one.trouble) continue;
      one.canary.emplace();
      if (auto flown = fly_canary(context, one.vault, *one.canary); !flown)
        one.canary->trouble = std::move(flown).error();
    }
  }
  TRY_ASSIGN(const Planned after, make_plan(context));
  if (context.console().json())
    print_document(context, planned, vaults, applied.daemon, after.changes.size());
  else
    print_words(context, planned, vaults, applied.daemon, after.changes.size());
  return exit_of(vaults);
}

}  // namespace kuramori
