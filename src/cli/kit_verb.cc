#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/key_files.h"
#include "engine/kit.h"
#include "engine/vault_location.h"

namespace kuramori {
namespace {

constexpr std::string_view kTerminal = "-";
constexpr size_t kTypedMax = 4096;

// The vault itself, then every configured vault that is a copy of it, or that it is a copy of.
Result<std::vector<KitPlace>> places_of_all(Context& context, const VaultChoice& choice) {
  std::vector<KitPlace> places{{.name = choice.name, .site = "", .location = choice.location}};
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (config == nullptr || choice.name.empty()) return places;
  auto origin_of = [](const VaultConfig& vault) {
    return vault.copy_of.empty() ? vault.name : vault.copy_of;
  };
  TRY_ASSIGN(const VaultConfig* self, config->vault(choice.name));
  places.front().site = self->site;
  for (const VaultConfig& vault : config->vaults) {
    if (vault.name == self->name || origin_of(vault) != origin_of(*self)) continue;
    TRY_ASSIGN(VaultPlaces where, places_of(vault, context.world()));
    places.push_back({.name = vault.name, .site = vault.site, .location = where.objects});
  }
  return places;
}

// A key on a screen is read by whoever stands behind: only for somebody who means it.
Result<void> must_type(const std::string& name) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) {
    return fail(ErrorKind::kRefused, "a recovery kit goes to a file, or to a terminal",
                "standard input and output are no terminal", "give a file: --to FILE");
  }
  std::fputs(
      fmt::format("the kit holds the key. To print it here, type the vault's name ({}): ", name).c_str(),
      stderr);
  std::string typed;
  for (int c = std::getchar(); c != EOF && c != '\n' && typed.size() < kTypedMax; c = std::getchar())
    typed.push_back(static_cast<char>(c));
  if (typed == name) return {};
  return fail(ErrorKind::kRefused, fmt::format("\"{}\" is not the vault's name", typed),
              "nothing was printed", "give a file: --to FILE");
}

}  // namespace

Result<int> run_vault_kit(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  const std::string to = context.line().value("to");
  KitRequest request{.name = choice.shown()};
  TRY_ASSIGN(request.places, places_of_all(context, choice));
  request.key_file = choice.key_file;
  std::optional<Secret> passphrase;
  if (context.line().has("passphrase-file")) {
    Setting file(Setting::From::kFile, context.line().value("passphrase-file"));
    TRY_ASSIGN(std::string text, file.fetch(context.world()));
    passphrase = Secret::copy_of(as_bytes(text));
    wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    request.passphrase = &*passphrase;
  }
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  if (to == kTerminal) TRY(must_type(request.name));
  TRY_ASSIGN(std::string page, make_kit(*vault, request));
  if (to == kTerminal) {
    context.console().print(page);
  } else {
    TRY(write_new_key_file(to, page));
  }
  wipe({reinterpret_cast<uint8_t*>(page.data()), page.size()});
  if (to == kTerminal) return 0;
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/done/1").field("action", "vault kit").field("object", to);
    json.end_object();
    context.console().print_document(json);
    return 0;
  }
  context.console().print(fmt::format("wrote the recovery kit of {} to {}\n", request.name, to));
  context.console().note("print it, keep the paper where the vault is not, and remove the file");
  return 0;
}

}  // namespace kuramori
