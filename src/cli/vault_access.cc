#include "cli/vault_access.h"

#include <fmt/core.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/bytes.h"
#include "crypto/secret.h"

namespace kuramori {
namespace {

constexpr size_t kPassphraseMax = 4096;  // bytes typed

Secret take_secret(std::string& text) {
  Secret secret = Secret::copy_of(as_bytes(text));
  wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return secret;
}

Result<Secret> ask_on_terminal() {
  std::fputs("passphrase of the key file: ", stderr);
  termios before{};
  bool hidden = tcgetattr(STDIN_FILENO, &before) == 0;
  if (hidden) {
    termios quiet = before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  std::string text;
  for (int c = std::getchar(); c != EOF && c != '\n' && text.size() < kPassphraseMax; c = std::getchar())
    text.push_back(static_cast<char>(c));
  if (hidden) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
  std::fputc('\n', stderr);
  return take_secret(text);
}

Result<Secret> find_passphrase(Context& context, const Setting& configured) {
  Setting source = configured;
  const char* file = std::getenv("KURAMORI_PASSPHRASE_FILE");
  const char* credentials = std::getenv("CREDENTIALS_DIRECTORY");
  std::string credential = credentials ? std::string(credentials) + "/kuramori.passphrase" : "";
  if (!source.is_set() && file) source = Setting(Setting::From::kFile, file);
  if (!source.is_set() && credentials && access(credential.c_str(), R_OK) == 0)
    source = Setting(Setting::From::kFile, credential);
  if (source.is_set()) {
    TRY_ASSIGN(std::string text, source.fetch(context.world()));
    return take_secret(text);
  }
  if (isatty(STDIN_FILENO) == 1) return ask_on_terminal();
  return fail(ErrorKind::kUsage, "the key file is under a passphrase, and none is given",
              "no passphrase_file in the configuration, no KURAMORI_PASSPHRASE_FILE, no terminal to ask",
              "set KURAMORI_PASSPHRASE_FILE=FILE");
}

}  // namespace

VaultAddress address_of(Context& context, const VaultChoice& choice) {
  return {.location = choice.location,
          .key_file = choice.key_file,
          .passphrase = [&context,
                         passphrase = choice.passphrase] { return find_passphrase(context, passphrase); },
          .ledger = choice.ledger,
          .store_keys = choice.store_keys};
}

Result<std::unique_ptr<Vault>> open_chosen(Context& context, const VaultChoice& choice) {
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_vault(address_of(context, choice)));
  context.note_opened(choice, *vault);
  return vault;
}

Result<std::unique_ptr<Vault>> open_for_wal(Context& context, const VaultChoice& choice) {
  VaultAddress address = address_of(context, choice);
  address.purpose = VaultAddress::For::kWalAlone;
  return open_vault(address);
}

Result<FoundSnapshot> find_typed_snapshot(Vault& vault, const std::string& typed) {
  if (typed.find('@') == typed.npos) return find_snapshot_in(vault, std::nullopt, typed);
  TRY_ASSIGN(const ResourceAtSnapshot parts, parse_resource_at_snapshot(typed));
  return find_snapshot_in(vault, parts.resource, parts.snapshot);
}

bool is_skipped(Context& context, const Vault& vault, Act act, const std::string& shown_vault) {
  const Role role = vault.keys().role;
  if (!context.line().has("if-allowed") || role_may(role, act)) return false;
  say_skipped(context, fmt::format("a {} key may not do this in {}", name_of(role), shown_vault));
  return true;
}

void say_skipped(Context& context, const std::string& why) {
  context.set_skipped();
  context.console().note("skipped: " + why);
  if (!context.console().json()) return;
  JsonWriter json;
  json.begin_object()
      .field("schema", "kuramori/done/1")
      .field("action", "skip")
      .field("object", why)
      .end_object();
  context.console().print_document(json);
}

}  // namespace kuramori
