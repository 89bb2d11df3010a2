#include "vault/vault.h"

#include <fmt/core.h>

#include "crypto/digest.h"
#include "vault/epochs.h"
#include "vault/incarnations.h"
#include "vault/names.h"
#include "vault/page_map.h"
#include "vault/wire.h"

namespace kuramori {
namespace {

constexpr int kVaultPutAttemptsMax = 8;  // while the outcome is unknown
constexpr auto kPutPause = std::chrono::milliseconds(200);

Bytes encode_info(const VaultInfo& info) {
  std::string text;
  protozero::pbf_writer w(text);
  auto put = [&](uint32_t field, ByteView bytes) { w.add_bytes(field, as_text(bytes).data(), bytes.size()); };
  put(1, info.id.view());
  put(2, info.family.view());
  w.add_sint64(3, info.created_ns);
  put(4, info.reader_public.view());
  put(5, info.owner_verify.view());
  w.add_uint64(6, info.page_bytes);
  w.add_uint64(7, info.pages_per_frame);
  put(8, as_bytes(info.probe));
  return to_bytes(as_bytes(text));
}

Result<VaultInfo> decode_info(ByteView body) {
  VaultInfo info;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(body.data()), body.size());
    auto id = [&](auto& into) {
      auto view = r.get_view();
      if (view.size() != into.raw.size()) throw protozero::invalid_length_exception();
      std::memcpy(into.raw.data(), view.data(), view.size());
    };
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          id(info.id);
          break;
        case 2:
          id(info.family);
          break;
        case 3:
          info.created_ns = r.get_sint64();
          break;
        case 4:
          id(info.reader_public);
          break;
        case 5:
          id(info.owner_verify);
          break;
        case 6:
          info.page_bytes = static_cast<uint32_t>(r.get_uint64());
          break;
        case 7:
          info.pages_per_frame = static_cast<uint32_t>(r.get_uint64());
          break;
        case 8:
          info.probe = r.get_string();
          break;
        default:
          r.skip();
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("its fields cannot be read: {}", error.what()));
  }
  return info;
}

Bytes info_signature_input(const FamilyId& family, ByteView part) {
  Bytes bytes = to_bytes(as_bytes("kuramori vault 1"));
  append(bytes, family.view());
  append(bytes, part);
  return bytes;
}

}  // namespace

std::vector<std::string> vault_object_names() {
  return {"vault", "vault.2", "vault.3"};
}

Result<VaultInfo> read_vault_info(std::string_view name, ByteView object) {
  TRY_ASSIGN(Envelope e, parse_envelope(name, object));
  auto info = decode_info(e.body);
  if (!info) return std::move(info.error()).within(name);
  if (e.type != RecordType::kVault || !(e.flags & kSigned) || e.signer != signer_id(info->owner_verify) ||
      !verify(info->owner_verify, info_signature_input(info->family, e.signed_part), e.signature)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not authentic: its signature does not fit", name));
  }
  if (info->page_bytes != kPageBytes || info->pages_per_frame != kPagesPerFrame) {
    return fail(ErrorKind::kRefused, fmt::format("{} was made with other parameters", name),
                fmt::format("{} byte pages, {} a frame", info->page_bytes, info->pages_per_frame),
                "use the kuramori version that made it, or a newer one");
  }
  return info;
}

Vault::Vault(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock, Random& random)
    : store_(with_incarnations(std::move(store))),
      keys_(std::move(keys)),
      codec_(keys_, random),
      clock_(clock),
      random_(random) {
  codec_.signers().look_in(*store_);
}

Error Vault::wrong_type(std::string_view name) const {
  return fail(ErrorKind::kDamaged, fmt::format("{} is a record of another type", name));
}

Result<std::unique_ptr<Vault>> Vault::init(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock,
                                           Random& random, std::unique_ptr<Store> ledger, std::string probe) {
  for (Store* place : {store.get(), ledger.get()}) {
    if (!place) continue;
    TRY(for_each_object(*place, "", [&](const ObjectInfo& object) -> Result<void> {
      if (object.name.starts_with(names::kProbeTrials)) return {};
      return fail(ErrorKind::kRefused, fmt::format("{} is not empty", place->location()),
                  fmt::format("it holds {}", object.name),
                  "give an empty place, or open the vault that is there");
    }));
  }
  if (keys.role != Role::kOwner) {
    return fail(ErrorKind::kRefused, fmt::format("a {} key cannot make a vault", name_of(keys.role)), "",
                "use the owner's key file");
  }
  std::unique_ptr<Vault> vault(new Vault(std::move(store), std::move(keys), clock, random));
  VaultInfo& info = vault->info_;
  info = {.id = random.id<VaultId>(),
          .family = vault->keys_.family,
          .created_ns = to_unix_ns(clock.now()),
          .reader_public = vault->keys_.reader_public,
          .owner_verify = vault->keys_.owner_verify,
          .page_bytes = kPageBytes,
          .pages_per_frame = kPagesPerFrame,
          .probe = std::move(probe)};
  if (ledger) TRY(vault->rebuild_ledger(std::move(ledger)));
  // "vault" itself last: a vault exists once it stands, and then its other copies do too.
  auto names = vault_object_names();
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    Bytes object = envelope_head(RecordType::kVault, kSigned, *name, {});
    Bytes body = encode_info(info);
    append_le<uint32_t>(object, static_cast<uint32_t>(body.size()));
    append(object, body);
    Signature signature = vault->keys_.signing->sign(info_signature_input(info.family, object));
    append(object, signer_id(vault->keys_.signing->verify_key()).view());
    append(object, signature.view());
    append(object, sha256(object).view());
    TRY(vault->store_->put_if_absent(*name, object));
  }
  return vault;
}

Result<std::unique_ptr<Vault>> Vault::open(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock,
                                           Random& random) {
  std::unique_ptr<Vault> vault(new Vault(std::move(store), std::move(keys), clock, random));
  std::optional<Error> first;
  bool found = false;
  for (const std::string& name : vault_object_names()) {
    auto object = vault->store_->get(name);
    Result<VaultInfo> info = object ? read_vault_info(name, *object) : Result<VaultInfo>(object.error());
    if (info) {
      vault->info_ = *info;
      found = true;
      break;
    }
    // Keep the most telling error: damage or an unknown format before absence.
    if (!first || first->kind == ErrorKind::kNotFound) first = info.error();
  }
  if (!found) {
    if (first->kind != ErrorKind::kNotFound) return std::move(*first).within(vault->store_->location());
    return fail(ErrorKind::kNotFound, fmt::format("there is no vault at {}", vault->store_->location()), "",
                "check the location, or make one: kuramori vault init NAME");
  }
  if (vault->info_.family != vault->keys_.family || vault->info_.owner_verify != vault->keys_.owner_verify) {
    return fail(
        ErrorKind::kRefused,
        fmt::format("the vault at {} belongs to another key family", vault->store_->location()),
        fmt::format("the vault's is {}, the key's {}", vault->info_.family.hex(), vault->keys_.family.hex()),
        "give the key file that this vault was made with: --key-file FILE");
  }
  return vault;
}

Protocol Vault::founder() {
  return {.store = *store_,
          .codec = codec_,
          .clock = clock_,
          .random = random_,
          .self = signer_id(keys_.signing->verify_key()),
          .may_delete = [this](const SignerId& signer) { return codec_.may_delete(signer); },
          .may_commit = [this](const SignerId& signer) { return codec_.may_commit(signer); }};
}

Result<void> Vault::open_ledger(Result<std::unique_ptr<Store>> ledger) {
  MayFound may_found = [&](const SignerId& signer) { return signer == signer_id(keys_.owner_verify); };
  epoch_.reset();
  ledger_trouble_.reset();
  if (ledger) {
    ledger_ = std::move(*ledger);
  } else {
    ledger_trouble_ = std::move(ledger).error();
  }
  if (ledger_) {
    auto epoch = open_epoch(founder(), ledger_.get(), may_found);
    if (epoch) {
      epoch_ = std::move(*epoch);
      return {};
    }
    ledger_trouble_ = std::move(epoch).error();
  }
  auto epoch = open_epoch(founder(), nullptr, may_found);
  if (!epoch) return ledger_trouble_ ? std::move(*ledger_trouble_) : std::move(epoch).error();
  // One place, and a ledger was asked for: that is a mistake whatever is to be done.
  if (!*epoch && ledger_trouble_) return std::move(*ledger_trouble_);
  epoch_ = std::move(*epoch);
  return {};
}

Result<void> Vault::rebuild_ledger(std::unique_ptr<Store> ledger) {
  if (keys_.role != Role::kOwner) {
    return fail(ErrorKind::kRefused, fmt::format("a {} key cannot found a ledger", name_of(keys_.role)), "",
                "use the owner's key file");
  }
  MayFound may_found = [&](const SignerId& signer) { return signer == signer_id(keys_.owner_verify); };
  TRY_ASSIGN(auto epoch, found_epoch(founder(), *ledger, may_found));
  ledger_ = std::move(ledger);
  epoch_ = std::move(epoch);
  ledger_trouble_.reset();
  return {};
}

Result<Digest> Vault::put(RecordType type, const std::string& name, std::optional<ResourceId> scope,
                          ByteView body) {
  Bytes object = codec_.encode(type, name, scope, body);
  for (int attempt = 1;; ++attempt) {
    auto done = store_->put_if_absent(name, object);
    if (done) break;
    if (done.error().kind == ErrorKind::kUnknown && attempt < kVaultPutAttemptsMax) {
      clock_.sleep(kPutPause * attempt);
      continue;
    }
    if (done.error().kind == ErrorKind::kExists && attempt > 1) {
      auto there = store_->get(name);
      if (there && equal(*there, object)) break;  // our own earlier try
    }
    return done.error();
  }
  return sha256(object);
}

Result<std::vector<ResourceRecord>> Vault::resources() {
  std::vector<ResourceRecord> found;
  TRY(for_each_object(*store_, names::kResources, [&](const ObjectInfo& object) -> Result<void> {
    TRY_ASSIGN(ResourceRecord record, read<ResourceRecord>(object.name, RecordType::kResource));
    found.push_back(std::move(record));
    return {};
  }));
  return found;
}

Result<ResourceRecord> Vault::resource(std::string_view name) {
  TRY_ASSIGN(auto all, resources());
  return find_resource(all, name);
}

Result<ResourceRecord> find_resource(const std::vector<ResourceRecord>& all, std::string_view name) {
  std::string known;
  for (const ResourceRecord& record : all) {
    if (record.name == name) return record;
    known += (known.empty() ? "" : ", ") + record.name;
  }
  return fail(ErrorKind::kUsage, fmt::format("the vault has no resource \"{}\"", name),
              known.empty() ? "it has none yet" : fmt::format("it has {}", known), "kuramori snapshots");
}

Result<ResourceRecord> Vault::ensure_resource(std::string_view name, std::string_view kind,
                                              std::string_view system) {
  // The id follows from kind and name, so that two machines that begin at once make one resource.
  Secret key = structure_key(keys_, {});
  Bytes message = to_bytes(as_bytes("resource"));
  message.push_back(0);
  append(message, as_bytes(kind));
  message.push_back(0);
  append(message, as_bytes(name));
  ResourceRecord wanted{
      .id = {}, .name = std::string(name), .kind = std::string(kind), .system = std::string(system)};
  Digest digest = hmac_sha256(key.view(), message);
  std::copy_n(digest.raw.begin(), wanted.id.raw.size(), wanted.id.raw.begin());
  std::string object = names::resource(wanted.id);
  auto existing = read<ResourceRecord>(object, RecordType::kResource);
  if (!existing && existing.error().kind == ErrorKind::kNotFound) {
    auto made = put(RecordType::kResource, object, {}, encode(wanted));
    if (made) return wanted;
    if (made.error().kind != ErrorKind::kExists) return made.error();
    existing = read<ResourceRecord>(object, RecordType::kResource);
  }
  if (!existing) return existing.error();
  if (existing->system != system) {
    return fail(ErrorKind::kRefused, fmt::format("{} is another {} than the one in the vault", name, kind),
                fmt::format("the vault has system {}, this is {}: it was made anew or upgraded",
                            existing->system, system),
                "give it a resource name of its own in kuramori.yaml; the old one's snapshots stay");
  }
  return existing;
}

}  // namespace kuramori
