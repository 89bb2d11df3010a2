#include "cli/verbs.h"

#include "cli/guard_verb.h"

namespace kuramori {
namespace {

struct Entry {
  std::string_view verb;
  Handler handler;
};
constexpr Entry kHandlers[] = {
    {"backup", run_backup},
    {"watch", run_watch},
    {"restore", run_restore},
    {"mount", run_mount},
    {"drill", run_drill},
    {"doctor", run_doctor},
    {"lint", run_lint},
    {"docs", run_docs},
    {"init", run_init},
    {"plan", run_plan},
    {"apply", run_apply},
    {"status", run_status},
    {"top", run_top},
    {"window", run_window},
    {"wal show", run_wal_show},
    {"vault scrub", run_vault_scrub},
    {"snapshots", run_snapshots},
    {"show", run_show},
    {"diff", run_diff},
    {"copy", run_copy},
    {"prune", run_prune},
    {"simulate", run_simulate},
    {"review", run_review},
    {"guard", run_guard},
    {"hold add", run_hold_add},
    {"hold remove", run_hold_remove},
    {"extend", run_extend},
    {"thaw", run_thaw},
    {"vault init", run_vault_init},
    {"vault list", run_vault_list},
    {"vault show", run_vault_show},
    {"vault probe", run_vault_probe},
    {"vault collect", run_vault_collect},
    {"vault disown", run_vault_disown},
    {"vault ledger new", run_vault_ledger_new},
    {"vault key new", run_vault_key_new},
    {"vault key list", run_vault_key_list},
    {"vault key rewrap", run_vault_key_rewrap},
    {"vault key revoke", run_vault_key_revoke},
    {"vault policy", run_vault_policy},
    {"vault kit", run_vault_kit},
    {"replicate", run_replicate},
    {"bucket versions", run_bucket_versions},
    {"bucket fix", run_bucket_fix},
    {"approve", run_approve},
    {"audit", run_audit},
    {"report", run_report},
    {"compliance", run_compliance},
    {"serve", run_serve},
    {"jobs", run_jobs},
    {"token new", run_token_new},
    {"alerts", run_alerts},
    {"ack", run_ack},
    {"notify test", run_notify_test},
    {"wal push", run_wal_push},
    {"wal get", run_wal_get},
    {"wal stream", run_wal_stream},
    {"resources", run_resources},
    {"version", run_version},
    {"completion", run_completion},
    {"help", run_help},
};

}  // namespace

Handler find_handler(std::string_view verb) {
  for (const Entry& entry : kHandlers)
    if (entry.verb == verb) return entry.handler;
  return nullptr;
}

}  // namespace kuramori
