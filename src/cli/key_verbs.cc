#include <fmt/core.h>

#include "base/time_text.h"
#include "cli/approving.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/key_files.h"
#include "engine/keys.h"

namespace kuramori {
namespace {

// The secret in a file that an option names; nothing when it is not given.
Result<std::optional<Secret>> passphrase_of(Context& context, const std::string& option) {
  if (!context.line().has(option)) return std::optional<Secret>();
  Setting file(Setting::From::kFile, context.line().value(option));
  TRY_ASSIGN(std::string text, file.fetch(context.world()));
  Secret secret = Secret::copy_of(as_bytes(text));
  wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return std::optional(std::move(secret));
}

void write_keys(JsonWriter& json, const std::vector<KeyEntry>& keys) {
  json.begin_object().field("schema", "kuramori/keys/1").key("keys").begin_array();
  for (const KeyEntry& key : keys) {
    json.begin_object().field("id", key.id.hex()).field("role", name_of(key.role)).field("name", key.name);
    json.field("in_use", key.in_use).key("granted");
    key.granted_ns != 0 ? json.value(format_utc(from_unix_ns(key.granted_ns))) : json.null();
    json.key("revoked");
    key.revoked_ns ? json.value(format_utc(from_unix_ns(*key.revoked_ns))) : json.null();
    json.field("reason", key.revoked_reason).field("defect", key.defect).end_object();
  }
  json.end_array().end_object();
}

}  // namespace

std::string state_of(const KeyEntry& key) {
  if (!key.defect.empty()) return "COUNTS FOR NOTHING: " + key.defect;
  if (key.revoked_ns) return "revoked " + format_moment(from_unix_ns(*key.revoked_ns));
  if (key.granted_ns != 0) return "since " + format_moment(from_unix_ns(key.granted_ns));
  return "since the vault was made";
}

Result<int> run_vault_key_new(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  auto role = role_of(context.line().value("role"));
  if (!role) return fail(ErrorKind::kUsage, "that is no role", "", "writer, reader or keeper");
  TRY_ASSIGN(auto passphrase, passphrase_of(context, "passphrase-file"));
  NewKeyRequest request{.role = *role,
                        .name = context.line().value("name"),
                        .to = context.line().value("to"),
                        .passphrase = passphrase ? &*passphrase : nullptr,
                        .gpg_fingerprint = context.line().value("to-gpg")};
  TRY_ASSIGN(KeyEntry made, new_key(*vault, request));
  if (context.console().json()) {
    JsonWriter json;
    write_keys(json, {made});
    context.console().print_document(json);
    return 0;
  }
  context.console().print(fmt::format("made the {} key {} ({}) in {}\n", name_of(made.role), made.name,
                                      made.id.hex(), request.to));
  if (!request.gpg_fingerprint.empty())
    context.console().note(fmt::format("only {} can open it: gpg --decrypt {} > {}.key",
                                       request.gpg_fingerprint, request.to, made.name));
  context.console().note(
      fmt::format("bring it to its machine and name it there as key_file; here it can go"));
  return 0;
}

Result<int> run_vault_key_list(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(std::vector<KeyEntry> keys, list_keys(*vault));
  if (context.console().json()) {
    JsonWriter json;
    write_keys(json, keys);
    context.console().print_document(json);
    return 0;
  }
  Table table({{"key"}, {"role"}, {"name"}, {"in use here"}, {"counts"}});
  for (const KeyEntry& key : keys)
    table.add(
        {key.id.hex(), std::string(name_of(key.role)), key.name, key.in_use ? "yes" : "no", state_of(key)});
  context.console().print(table.text());
  return 0;
}

Result<int> run_vault_key_revoke(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(KeyEntry key, find_key(*vault, context.line().argument(1)));
  if (key.defect.empty() && !key.revoked_ns)
    TRY(must_be_approved(
        context, choice, *vault,
        {.act = "key-revoke",
         .lines = {fmt::format("revoke the {} key {} ({})", name_of(key.role), key.name, key.id.hex())}}));
  TRY_ASSIGN(RevokeOutcome outcome,
             revoke_key(*vault, key, context.line().value("reason"), context.console()));
  if (context.console().json()) {
    JsonWriter json;
    write_keys(json, {outcome.key});
    context.console().print_document(json);
    return 0;
  }
  context.console().print(
      fmt::format("revoked the {} key {} ({})\n", name_of(key.role), key.name, key.id.hex()));
  context.console().note(fmt::format(
      "{} records it signed go on counting, and {} WAL objects that stand; nothing else it signs will",
      outcome.counted, outcome.wal));
  if (key.role == Role::kReader)
    context.console().note(
        "it can still open what it can still fetch: take its access to the store away as well");
  return 0;
}

Result<int> run_vault_key_rewrap(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  VaultAddress address = address_of(context, choice);
  TRY_ASSIGN(KeyBundle keys, read_bundle_file(address.key_file, address.passphrase));
  std::string to = context.line().value("to");
  TRY_ASSIGN(auto passphrase, passphrase_of(context, "new-passphrase-file"));
  bool wrapped = passphrase.has_value();
  TRY(rewrap_key(keys, to, wrapped ? &*passphrase : nullptr));
  // No vault is touched, but for its log: who made another copy of a key stands there. One that is away keeps
  // nobody from it.
  context.set_act_object(to);
  address.keys = std::make_shared<const KeyBundle>(std::move(keys));
  address.purpose = VaultAddress::For::kWalAlone;  // the log needs no ledger
  if (auto vault = open_vault(address); vault)
    context.note_opened(choice, **vault);
  else
    context.console().warning(
        fmt::format("this does not stand in the audit log of {}: {}", choice.shown(), vault.error().what));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/done/1").field("action", "rewrapped").field("object", to);
    json.end_object();
    context.console().print_document(json);
  } else {
    context.console().print(
        fmt::format("wrote {}{}\n", to, wrapped ? ", under the new passphrase" : ", not wrapped"));
    context.console().note(
        fmt::format("{} still opens the vault: remove it when the new one is in use", address.key_file));
  }
  return 0;
}

}  // namespace kuramori
