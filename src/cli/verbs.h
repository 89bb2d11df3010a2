// Which code runs a verb of the table. One file a group; what a verb does is the engine's, here it is asked
// for and its answer printed.
#pragma once
#include <string_view>

#include "cli/context.h"

namespace kuramori {

// The exit status (0, or what the verb's table entry says), or an error.
using Handler = Result<int> (*)(Context&);

Handler find_handler(std::string_view verb);  // null if there is none

Result<int> run_resources(Context& context);
Result<int> run_vault_key_new(Context& context);
Result<int> run_vault_key_list(Context& context);
Result<int> run_vault_key_rewrap(Context& context);
Result<int> run_vault_key_revoke(Context& context);
Result<int> run_vault_policy(Context& context);
Result<int> run_vault_kit(Context& context);
Result<int> run_version(Context& context);
Result<int> run_completion(Context& context);
Result<int> run_help(Context& context);

Result<int> run_vault_init(Context& context);
Result<int> run_vault_probe(Context& context);
Result<int> run_vault_list(Context& context);
Result<int> run_vault_show(Context& context);
Result<int> run_vault_collect(Context& context);
Result<int> run_vault_disown(Context& context);

Result<int> run_snapshots(Context& context);
Result<int> run_show(Context& context);
Result<int> run_diff(Context& context);
Result<int> run_copy(Context& context);
Result<int> run_vault_ledger_new(Context& context);
Result<int> run_prune(Context& context);
Result<int> run_simulate(Context& context);
Result<int> run_review(Context& context);
Result<int> run_hold_add(Context& context);
Result<int> run_hold_remove(Context& context);
Result<int> run_extend(Context& context);
Result<int> run_thaw(Context& context);

Result<int> run_approve(Context& context);
Result<int> run_audit(Context& context);
Result<int> run_report(Context& context);
Result<int> run_compliance(Context& context);
Result<int> run_serve(Context& context);
Result<int> run_jobs(Context& context);
Result<int> run_token_new(Context& context);
Result<int> run_alerts(Context& context);
Result<int> run_ack(Context& context);
Result<int> run_notify_test(Context& context);
Result<int> run_wal_push(Context& context);
Result<int> run_wal_get(Context& context);
Result<int> run_wal_stream(Context& context);
Result<int> run_wal_show(Context& context);
Result<int> run_status(Context& context);
Result<int> run_top(Context& context);
Result<int> run_window(Context& context);

Result<int> run_backup(Context& context);
Result<int> run_watch(Context& context);
Result<int> run_restore(Context& context);
Result<int> run_mount(Context& context);
Result<int> run_drill(Context& context);

Result<int> run_replicate(Context& context);
Result<int> run_replicate_bucket(Context& context);  // its part of it
Result<int> run_bucket_versions(Context& context);
Result<int> run_bucket_fix(Context& context);
// `restore` with --undelete, --version or --in-bucket.
Result<int> run_restore_in_bucket(Context& context);

Result<int> run_doctor(Context& context);
Result<int> run_lint(Context& context);
Result<int> run_docs(Context& context);
Result<int> run_init(Context& context);
Result<int> run_plan(Context& context);
Result<int> run_apply(Context& context);
Result<int> run_vault_scrub(Context& context);

}  // namespace kuramori
