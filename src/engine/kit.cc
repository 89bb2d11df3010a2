#include "engine/kit.h"

#include <fmt/core.h>

#include "base/time_text.h"
#include "codec/qr_code.h"
#include "crypto/digest.h"
#include "engine/keys.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr size_t kKeyFileBytesMax = 64 << 10;
constexpr std::string_view kKeyName = "kuramori.key";

// A word for a POSIX shell.
std::string shell_word(std::string_view word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) return std::string(word);
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

bool is_wrapped(std::string_view key_text) {
  return key_text.find("\nwrap: none\n") == std::string_view::npos;
}

std::string commands_for(const KitPlace& place, const std::vector<ResourceRecord>& resources) {
  std::string given = fmt::format("--vault {} --key-file {}", shell_word(place.location), kKeyName);
  std::string out = fmt::format("    kuramori snapshots {}\n", given);
  for (const ResourceRecord& resource : resources)
    out += fmt::format("    kuramori restore {} --latest --to /new/{} {}\n", shell_word(resource.name),
                       shell_word(resource.name), given);
  if (resources.empty())
    out += fmt::format("    kuramori restore RESOURCE --latest --to /new/RESOURCE {}\n", given);
  return out;
}

}  // namespace

Result<std::string> make_kit(Vault& vault, const KitRequest& request) {
  TRY(must_be_allowed(vault, Act::kManageKeys));
  std::string key;
  if (request.passphrase != nullptr) {
    TRY_ASSIGN(key, write_bundle(vault.keys(), request.passphrase, {}, vault.random()));
  } else {
    TRY_ASSIGN(Bytes text, read_file(request.key_file, kKeyFileBytesMax));
    key = as_text(text);
    wipe(text);
  }
  TRY_ASSIGN(std::string square, qr_text(key));
  TRY_ASSIGN(std::vector<ResourceRecord> resources, vault.resources());
  const VaultInfo& info = vault.info();
  const std::string made = format_utc(vault.clock().now());
  TRY(put_audit(vault, std::string(kAuditKitMade), info.id.hex(),
                is_wrapped(key) ? "its key is under a passphrase" : "its key is not wrapped"));

  std::string out = fmt::format(
      "KURAMORI RECOVERY KIT                                       {}\n\n"
      "vault   {}\nid      {}\nfamily  {}\nmade    {} on {}\n\n",
      request.name, request.name, info.id.hex(), info.family.hex(), made, host_name());
  out += is_wrapped(key)
             ? "Who holds this page and the passphrase can read everything in the vault and destroy it.\n"
               "Keep the two apart: the passphrase is not on this page.\n\n"
             : "WHO HOLDS THIS PAGE CAN READ EVERYTHING IN THE VAULT AND DESTROY IT: the key on it is under\n"
               "no passphrase. Keep it where you would keep the data, or make another kit with\n"
               "--passphrase-file and burn this one.\n\n";
  out += "1. WHERE IT IS. Any one of these is enough.\n\n";
  for (const KitPlace& place : request.places) {
    out += fmt::format("    {}{}{}\n", place.location, place.name.empty() ? "" : "   " + place.name,
                       place.site.empty() ? "" : " at " + place.site);
  }
  out +=
      "\n   The access keys of a store in the network are not on this page; files that a line above names "
      "must be\n"
      "   brought along, or replaced: ?profile=NAME, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n\n"
      "2. THE KEY. With this page as a file, this makes the key file; from paper, scan the square at the "
      "end:\n"
      "   what it holds is the key file.\n\n";
  out += fmt::format("    (umask 077; sed -n '/^kuramori key bundle/,/^check: /p' THIS-PAGE > {})\n\n",
                     kKeyName);
  out +=
      "3. BRING IT BACK. Any Linux with kuramori and, for databases, PostgreSQL of the same major version; "
      "nothing\n"
      "   of the lost machine.";
  if (is_wrapped(key)) out += " The passphrase is asked for; or KURAMORI_PASSPHRASE_FILE=FILE.";
  out += "\n\n";
  for (const KitPlace& place : request.places) out += commands_for(place, resources) + "\n";
  out +=
      "   Another moment instead of --latest: --at '2026-02-11 03:00:00+09:00'. Which can be had: kuramori "
      "window.\n"
      "   Without kuramori: docs/vault-format.md describes every byte, and tests/format/reader.py reads "
      "them.\n\n";
  out += "--- the key, from here to the check line ---\n";
  out += key;
  out += "--- the same lines as a square ---\n\n" + square;
  wipe({reinterpret_cast<uint8_t*>(key.data()), key.size()});
  return out;
}

}  // namespace kuramori
