#include <fmt/core.h>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/key_files.h"

namespace kuramori {

Result<int> run_vault_key_list(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  const KeyBundle& keys = vault->keys();
  struct Row {
    std::string id, role, name;
    bool here;
  };
  SignerId self = signer_id(keys.signing->verify_key()), owner = signer_id(keys.owner_verify);
  std::vector<Row> rows{{self.hex(), std::string(name_of(keys.role)), keys.name, true}};
  if (owner != self) rows.push_back({owner.hex(), "owner", "", false});
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/keys/1").key("keys").begin_array();
    for (const Row& row : rows) {
      json.begin_object().field("id", row.id).field("role", row.role).field("name", row.name);
      json.field("in_use", row.here).end_object();
    }
    json.end_array().end_object();
    context.console().print_document(json);
    return 0;
  }
  Table table({{"key"}, {"role"}, {"name"}, {"in use here"}});
  for (const Row& row : rows) table.add({row.id, row.role, row.name, row.here ? "yes" : "no"});
  context.console().print(table.text());
  return 0;
}

Result<int> run_vault_key_rewrap(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  VaultAddress address = address_of(context, choice);
  TRY_ASSIGN(KeyBundle keys, read_bundle_file(address.key_file, address.passphrase));
  std::string to = context.line().value("to");
  Secret passphrase;
  bool wrapped = context.line().has("new-passphrase-file");
  if (wrapped) {
    Setting file(Setting::From::kFile, context.line().value("new-passphrase-file"));
    TRY_ASSIGN(std::string text, file.fetch(context.world()));
    passphrase = Secret::copy_of(as_bytes(text));
    wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  }
  TRY(rewrap_key(keys, to, wrapped ? &passphrase : nullptr));
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
