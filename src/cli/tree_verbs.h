// backup, restore, drill and doctor of resources that are kept as a tree: everything but a PostgreSQL
// cluster.
#pragma once
#include <string>

#include "cli/context.h"
#include "cli/vault_access.h"
#include "engine/backup_tree.h"
#include "engine/drill_tree.h"
#include "engine/restore_tree.h"
#include "engine/sources.h"
#include "policy/limits.h"

namespace kuramori {

Result<TreeBackupOutcome> back_up_tree(Context& context, Vault& vault, const ResourceConfig& resource,
                                       const SnapshotWishes& wishes, const Limits& limits);
// The members of "snapshot" in the document of a backup.
void write_tree_backup(JsonWriter& json, const std::string& vault, const std::string& resource,
                       const TreeBackupOutcome& outcome, const Limits& limits);
void print_tree_backup(Context& context, const std::string& vault, const std::string& resource,
                       const TreeBackupOutcome& outcome, const Limits& limits);

// Of the kind the vault says the resource is, with the configuration's settings where it has any.
Result<OpenedSource> source_of(Context& context, const ResourceRecord& resource);
// `to`: as typed.
Result<int> restore_named_tree(Context& context, const VaultChoice& choice, Vault& vault,
                               const ResourceRecord& resource, const std::string& snapshot,
                               const Limits& limits);
Result<int> drill_named_tree(Context& context, Vault& vault, const ResourceRecord& resource,
                             const std::string& snapshot, const std::string& vault_text);
// A proof as `drill` shows it.
void print_proof(Context& context, const std::string& resource, const ProofRecord& proof,
                 const std::string& proof_name);

}  // namespace kuramori
