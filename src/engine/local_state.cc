#include "engine/local_state.h"

#include <fmt/core.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/database.h"
#include "engine/roles.h"
#include "engine/snapshots.h"
#include "os/file.h"
#include "vault/chunk_index.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr size_t kScrubbedAtOnce = 4;
constexpr const char* kSchema =
    "create table if not exists heads(vault text, resource text, commit_name text, digest text,"
    " primary key(vault, resource));"
    "create table if not exists verified(vault text, object text, at_ns integer, primary key(vault, "
    "object));"
    "create table if not exists copied(vault text, replica text, at_ns integer, primary key(vault, "
    "replica));"
    "create table if not exists audit_heads(vault text, signer text, number integer, digest text,"
    " primary key(vault, signer));"
    "create table if not exists pending_acts(id integer primary key, vault text, at_ns integer, act text);";

const char* environment(const char* name) {
  const char* value = getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

}  // namespace

std::string state_folder() {
  if (const char* folder = environment("KURAMORI_STATE")) return folder;
  if (const char* folder = environment("STATE_DIRECTORY")) return folder;
  if (const char* folder = environment("XDG_STATE_HOME")) return std::string(folder) + "/kuramori";
  if (const char* home = environment("HOME")) return std::string(home) + "/.local/state/kuramori";
  return "/var/lib/kuramori";
}

LocalState::LocalState(std::unique_ptr<Database> database) : database_(std::move(database)) {}
LocalState::~LocalState() = default;

Result<std::unique_ptr<LocalState>> LocalState::open(const std::string& folder) {
  TRY(make_folders(folder, 0700));
  TRY_ASSIGN(auto database, Database::open(join_path(folder, "state.sqlite"), {.schema = kSchema}));
  return std::unique_ptr<LocalState>(new LocalState(std::move(database)));
}

Result<std::vector<RememberedHead>> LocalState::heads(const VaultId& vault) {
  std::vector<RememberedHead> heads;
  std::string id = vault.hex();
  TRY(database_->query("select commit_name, digest from heads where vault = ?", {id},
                       [&](const Database::Row& row) {
                         auto digest = Digest::from_hex(row.text(1));
                         if (digest) heads.push_back({row.text(0), *digest});
                       }));
  return heads;
}

Result<void> LocalState::remember_head(const VaultId& vault, const ResourceId& resource,
                                       const std::string& commit, const Digest& digest) {
  std::string id = vault.hex(), resource_id = resource.hex(), hex = digest.hex();
  return database_->query("insert or replace into heads values(?, ?, ?, ?)", {id, resource_id, commit, hex});
}

Result<std::map<std::string, int64_t>> LocalState::last_verified(const VaultId& vault) {
  std::map<std::string, int64_t> verified;
  std::string id = vault.hex();
  TRY(database_->query("select object, at_ns from verified where vault = ?", {id},
                       [&](const Database::Row& row) { verified[row.text(0)] = row.number(1); }));
  return verified;
}

Result<std::optional<Time>> LocalState::last_copied(const VaultId& vault, const std::string& replica) {
  std::optional<Time> at;
  std::string id = vault.hex();
  TRY(database_->query("select at_ns from copied where vault = ? and replica = ?", {id, replica},
                       [&](const Database::Row& row) { at = from_unix_ns(row.number(0)); }));
  return at;
}

Result<void> LocalState::set_copied(const VaultId& vault, const std::string& replica, Time when) {
  std::string id = vault.hex();
  return database_->query("insert or replace into copied values(?, ?, ?)", {id, replica, to_unix_ns(when)});
}

Result<void> LocalState::set_verified(const VaultId& vault, const std::vector<std::string>& objects,
                                      Time when) {
  std::string id = vault.hex();
  return database_->at_once([&]() -> Result<void> {
    for (const std::string& object : objects)
      TRY(database_->query("insert or replace into verified values(?, ?, ?)",
                           {id, object, to_unix_ns(when)}));
    return {};
  });
}

Result<void> LocalState::forget_verified(const VaultId& vault, const std::vector<std::string>& objects) {
  if (objects.empty()) return {};
  std::string id = vault.hex();
  return database_->at_once([&]() -> Result<void> {
    for (const std::string& object : objects)
      TRY(database_->query("delete from verified where vault = ? and object = ?", {id, object}));
    return {};
  });
}

Result<std::vector<AuditHead>> LocalState::audit_heads(const VaultId& vault) {
  std::vector<AuditHead> heads;
  std::string id = vault.hex();
  TRY(database_->query("select signer, number, digest from audit_heads where vault = ?", {id},
                       [&](const Database::Row& row) {
                         auto signer = SignerId::from_hex(row.text(0));
                         auto digest = Digest::from_hex(row.text(2));
                         if (signer && digest)
                           heads.push_back({*signer, static_cast<uint64_t>(row.number(1)), *digest});
                       }));
  return heads;
}

Result<void> LocalState::remember_audit_head(const VaultId& vault, const AuditHead& head) {
  std::string id = vault.hex(), signer = head.signer.hex(), digest = head.digest.hex();
  // Of two processes the one that put the earlier record may be the later to say so.
  return database_->query(
      "insert into audit_heads values(?, ?, ?, ?) on conflict(vault, signer) do update set number = "
      "excluded.number, digest = excluded.digest where excluded.number > number",
      {id, signer, static_cast<int64_t>(head.number), digest});
}

Result<std::vector<LocalState::PendingAct>> LocalState::pending_acts(const VaultId& vault) {
  std::vector<PendingAct> pending;
  std::string id = vault.hex();
  TRY(database_->query("select id, at_ns, act from pending_acts where vault = ? order by id", {id},
                       [&](const Database::Row& row) {
                         auto bytes = from_hex(row.text(2));
                         auto act = bytes ? decode<AuditAct>(*bytes) : Result<AuditAct>(bytes.error());
                         if (act)
                           pending.push_back({row.number(0), from_unix_ns(row.number(1)), std::move(*act)});
                       }));
  return pending;
}

Result<void> LocalState::add_pending_act(const VaultId& vault, Time at, const AuditAct& act) {
  std::string id = vault.hex(), hex = to_hex(encode(act));
  return database_->query("insert into pending_acts(vault, at_ns, act) values(?, ?, ?)",
                          {id, to_unix_ns(at), hex});
}

Result<void> LocalState::drop_pending_act(int64_t id) {
  return database_->query("delete from pending_acts where id = ?", {id});
}

Result<ScrubResult> scrub_vault(Vault& vault, const ScrubRequest& request, Reporter& reporter,
                                std::stop_token stop) {
  TRY(must_be_allowed(vault, Act::kScrub));
  const VaultId& id = vault.info().id;
  ScrubOptions options{.budget = request.budget, .read_at_once = kScrubbedAtOnce, .stop = stop};
  if (request.every) options.verified_before_ns = to_unix_ns(vault.clock().now() - *request.every);
  std::map<std::string, int64_t> verified;
  auto state = LocalState::open(state_folder());
  if (state) {
    auto heads = (*state)->heads(id);
    auto seen = (*state)->last_verified(id);
    if (heads) options.heads = std::move(*heads);
    if (seen) verified = std::move(*seen);
    options.last_verified = &verified;
    options.remember = [&, told = false](const std::vector<std::string>& objects) mutable {
      auto kept = (*state)->set_verified(id, objects, vault.clock().now());
      if (!kept && !std::exchange(told, true)) reporter.note(kept.error().what);
    };
  } else {
    reporter.note(
        fmt::format("nothing is remembered of earlier scrubs: {} {}", state.error().what, state.error().why));
  }
  TRY_ASSIGN(ScrubResult result, scrub(vault, options, reporter));
  // Of a rotten run of the chunk index nobody who has it here would take notice: the next backup shall.
  for (const ScrubFinding& finding : result.findings) {
    const bool is_damaged =
        finding.severity == ScrubSeverity::kDamage && finding.object.starts_with(names::kMaps);
    if (is_damaged && vault.store().head(finding.object))
      ChunkIndex::forget(join_path(state_folder(), "index"), finding.object);
  }
  if (state) {
    if (auto kept = (*state)->forget_verified(id, result.gone); !kept) reporter.note(kept.error().what);
    // What was found sound is what the next scrub expects: a newest snapshot that somebody took away or
    // replaced is missed only by whoever saw it.
    if (!result.damaged() && !result.unreadable()) {
      auto list = list_snapshots(vault, std::nullopt);
      if (list) remember_heads(vault, *list, reporter);
    }
  }
  return result;
}

void remember_heads(Vault& vault, const SnapshotList& list, Reporter& reporter) {
  if (list.snapshots.empty()) return;
  auto state = LocalState::open(state_folder());
  if (!state) {
    reporter.note(fmt::format("the newest snapshots are not remembered here: {}", state.error().what));
    return;
  }
  std::map<ResourceId, const Snapshot*> newest;
  for (const Snapshot& snapshot : list.snapshots)
    newest[snapshot.commit.resource] = &snapshot;  // oldest first
  for (const auto& [resource, snapshot] : newest) {
    auto kept =
        (*state)->remember_head(vault.info().id, resource, snapshot->commit_name, snapshot->commit_digest);
    if (!kept) reporter.note(kept.error().what);
  }
}

}  // namespace kuramori
