#include "vault/key_bundle.h"

#include <fmt/core.h>

#include <charconv>

#include "base/check.h"
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "os/file.h"
#include "vault/wire.h"

namespace kuramori {
namespace {

constexpr std::string_view kFirstLine = "kuramori key bundle 1";
constexpr size_t kBundleBytesMax = 64 << 10;
// A bundle file from elsewhere must not make us take all of a machine's memory or a day of its time.
constexpr uint64_t kArgonMemoryMax = 4ull << 30;
constexpr uint32_t kArgonPassesMax = 64;

std::string encode_body(const KeyBundle& b) {
  std::string text;
  protozero::pbf_writer w(text);
  auto put = [&](uint32_t field, ByteView bytes) { w.add_bytes(field, as_text(bytes).data(), bytes.size()); };
  w.add_uint64(1, static_cast<uint64_t>(b.role));
  put(2, b.family.view());
  put(3, as_bytes(b.name));
  put(4, b.reader_public.view());
  if (b.reader) put(5, b.reader->secret_key.view());
  if (!b.structure.empty()) put(6, b.structure.view());
  if (!b.chunk.empty()) put(7, b.chunk.view());
  if (b.signing) put(8, b.signing->seed().view());
  put(9, b.owner_verify.view());
  return text;
}

Result<KeyBundle> decode_body(ByteView body) {
  KeyBundle b;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(body.data()), body.size());
    auto view = [&](size_t size) {
      auto v = r.get_view();
      if (v.size() != size) throw protozero::invalid_length_exception();
      return ByteView(reinterpret_cast<const uint8_t*>(v.data()), v.size());
    };
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          b.role = static_cast<Role>(r.get_uint64());
          break;
        case 2:
          b.family = *FamilyId::from_bytes(view(16));
          break;
        case 3:
          b.name = r.get_string();
          break;
        case 4:
          b.reader_public = *PublicKey::from_bytes(view(32));
          break;
        case 5:
          b.reader = BoxKeyPair::from_secret(view(32));
          break;
        case 6:
          b.structure = Secret::copy_of(view(32));
          break;
        case 7:
          b.chunk = Secret::copy_of(view(32));
          break;
        case 8:
          b.signing = SigningKey::from_seed(view(32));
          break;
        case 9:
          b.owner_verify = *VerifyKey::from_bytes(view(32));
          break;
        default:
          r.skip();
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorKind::kUsage, "the key bundle's body cannot be read", error.what());
  }
  bool whole = b.role >= Role::kOwner && b.role <= Role::kKeeper && !b.family.is_zero() &&
               !b.structure.empty() && b.signing && !b.owner_verify.is_zero() && !b.reader_public.is_zero();
  if (!whole) return fail(ErrorKind::kUsage, "the key bundle lacks a key that every role has");
  if (b.reader && b.reader->public_key != b.reader_public) {
    return fail(ErrorKind::kUsage, "the key bundle's reader keys do not belong together");
  }
  return b;
}

Error damaged(std::string why) {
  return fail(
      ErrorKind::kUsage, "the key file is damaged", std::move(why),
      "take the key from its other copy or from the recovery kit; nothing in the vault is lost by this");
}

// "key=value" numbers of the wrap line.
std::optional<uint64_t> number_after(std::string_view line, std::string_view key) {
  size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  uint64_t value = 0;
  auto [end, error] = std::from_chars(line.data() + at + key.size(), line.data() + line.size(), value);
  if (error != std::errc()) return {};
  return value;
}

std::string check_of(std::string_view text) {
  return sha256(as_bytes(text)).hex().substr(0, 16);
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kOwner:
      return "owner";
    case Role::kWriter:
      return "writer";
    case Role::kReader:
      return "reader";
    case Role::kKeeper:
      return "keeper";
  }
  return "unknown";
}

std::optional<Role> role_of(std::string_view name) {
  for (Role role : {Role::kOwner, Role::kWriter, Role::kReader, Role::kKeeper})
    if (name_of(role) == name) return role;
  return {};
}

KeyBundle KeyBundle::clone() const {
  KeyBundle copy;
  copy.role = role;
  copy.family = family;
  copy.name = name;
  copy.reader_public = reader_public;
  if (reader) copy.reader = BoxKeyPair::from_secret(reader->secret_key.view());
  copy.structure = structure.clone();
  copy.chunk = chunk.clone();
  if (signing) copy.signing = SigningKey::from_seed(signing->seed().view());
  copy.owner_verify = owner_verify;
  return copy;
}

KeyBundle KeyBundle::new_role(const KeyBundle& owner, Role role, std::string name, Random& random) {
  CHECK(owner.role == Role::kOwner && role != Role::kOwner);
  KeyBundle b;
  b.role = role;
  b.family = owner.family;
  b.name = std::move(name);
  b.reader_public = owner.reader_public;
  // Where content lies is structure: all need it, the reader to find what it opens.
  b.structure = owner.structure.clone();
  if (role == Role::kReader) b.reader = BoxKeyPair::from_secret(owner.reader->secret_key.view());
  if (role == Role::kWriter) b.chunk = owner.chunk.clone();
  b.signing = SigningKey::generate(random);
  b.owner_verify = owner.owner_verify;
  return b;
}

KeyBundle KeyBundle::new_owner(std::string name, Random& random) {
  KeyBundle b;
  b.role = Role::kOwner;
  b.family = random.id<FamilyId>();
  b.name = std::move(name);
  b.reader = BoxKeyPair::generate(random);
  b.reader_public = b.reader->public_key;
  b.structure = Secret::random(32, random);
  b.chunk = Secret::random(32, random);
  b.signing = SigningKey::generate(random);
  b.owner_verify = b.signing->verify_key();
  return b;
}

Result<std::string> write_bundle(const KeyBundle& bundle, const Secret* passphrase,
                                 Argon2Parameters parameters, Random& random) {
  std::string head = fmt::format("{}\nrole: {}\nfamily: {}\nname: {}\n", kFirstLine, name_of(bundle.role),
                                 bundle.family.hex(), bundle.name);
  std::string plain = encode_body(bundle);
  Bytes body;
  if (passphrase == nullptr) {
    head += "wrap: none\n";
    body = to_bytes(as_bytes(plain));
  } else {
    std::array<uint8_t, 16> salt;
    random.fill(salt);
    head += fmt::format("wrap: argon2id memory={} passes={} salt={}\n", parameters.memory_bytes,
                        parameters.passes, to_hex(salt));
    TRY_ASSIGN(Secret key, argon2id(passphrase->view(), salt, parameters));
    body = xseal(key, as_bytes(head), as_bytes(plain), random);
  }
  wipe({reinterpret_cast<uint8_t*>(plain.data()), plain.size()});
  std::string text = head + "body:\n";
  std::string base64 = to_base64(body);
  for (size_t i = 0; i < base64.size(); i += 76) text += base64.substr(i, 76) + "\n";
  text += fmt::format("check: {}\n", check_of(text));
  return text;
}

Result<KeyBundle> read_bundle(std::string_view text, const PassphraseSource& passphrase) {
  if (!text.starts_with("kuramori key bundle ")) return damaged("its first line is not that of a key bundle");
  size_t check_at = text.rfind("check: ");
  if (check_at == std::string_view::npos)
    return damaged("its last line, the check, is missing: it was cut short");
  std::string_view check = text.substr(check_at + 7);
  while (!check.empty() && (check.back() == '\n' || check.back() == '\r')) check.remove_suffix(1);
  if (check != check_of(text.substr(0, check_at)))
    return damaged("its check line does not fit: it was changed");
  if (!text.starts_with(std::string(kFirstLine) + "\n")) {
    return fail(ErrorKind::kRefused, "the key file has a format this program does not know",
                std::string(text.substr(0, text.find('\n'))),
                "use the kuramori version that wrote it, or a newer one");
  }
  size_t body_at = text.find("body:\n");
  if (body_at == std::string_view::npos) return damaged("it has no body");
  std::string_view head = text.substr(0, body_at);
  TRY_ASSIGN(Bytes body, from_base64(text.substr(body_at + 6, check_at - body_at - 6)));
  size_t wrap_at = head.find("\nwrap: ");
  if (wrap_at == std::string_view::npos) return damaged("it does not say how it is wrapped");
  std::string_view wrap = head.substr(wrap_at + 7);
  if (wrap.starts_with("none\n")) return decode_body(body);
  if (!wrap.starts_with("argon2id ")) return damaged("it is wrapped in an unknown way");
  auto memory = number_after(wrap, "memory="), passes = number_after(wrap, "passes=");
  size_t salt_at = wrap.find("salt=");
  if (!memory || !passes || *memory > kArgonMemoryMax || *passes > kArgonPassesMax ||
      salt_at == std::string_view::npos || wrap.size() < salt_at + 5 + 32) {
    return damaged("its Argon2id parameters cannot be");
  }
  TRY_ASSIGN(Bytes salt, from_hex(wrap.substr(salt_at + 5, 32)));
  TRY_ASSIGN(Secret phrase, passphrase());
  TRY_ASSIGN(Secret key, argon2id(phrase.view(), salt, {*memory, static_cast<uint32_t>(*passes)}));
  auto plain = xopen(key, as_bytes(head), body);
  if (!plain) {
    return fail(ErrorKind::kUsage, "the passphrase does not open the key file",
                "it is another one, or mistyped", "try again; the file itself is whole");
  }
  auto bundle = decode_body(*plain);
  wipe(*plain);
  return bundle;
}

Result<KeyBundle> read_bundle_file(const std::string& path, const PassphraseSource& passphrase) {
  auto bytes = read_file(path, kBundleBytesMax);
  if (!bytes) {
    return fail(ErrorKind::kUsage, fmt::format("the key file {} cannot be read", path), bytes.error().why,
                "give the right one with --key-file FILE or KURAMORI_KEY_FILE");
  }
  auto bundle = read_bundle(as_text(*bytes), passphrase);
  wipe(*bytes);
  if (!bundle) return std::move(bundle.error()).within(path);
  return bundle;
}

}  // namespace kuramori
