// A vault, opened: one store, one key family, and the records that stand in it.
#pragma once
#include <memory>
#include <optional>

#include "store/store.h"
#include "vault/envelope.h"
#include "vault/key_bundle.h"
#include "vault/older_versions.h"
#include "vault/protocol.h"
#include "vault/records.h"

namespace kuramori {

// What every vault says of itself, readable without a key, signed by its owner.
struct VaultInfo {
  VaultId id;
  FamilyId family;
  int64_t created_ns = 0;
  PublicKey reader_public;
  VerifyKey owner_verify;
  uint32_t page_bytes = 0, pages_per_frame = 0;
  std::string probe;  // what the store was found to do, in words
};

// A snapshot as a listing shows it.
struct Snapshot {
  std::string commit_name;
  Digest commit_digest;  // of the commit object
  SignerId signer;       // who made it
  CommitRecord commit;
  int64_t keep_until_ns = 0;                // with later extensions
  std::vector<HoldRecord> holds;            // in force
  std::optional<ProofRecord> proof;         // the latest
  std::vector<ProofRecord> earlier_proofs;  // in no order
};

class Vault {
 public:
  // Writes the three copies of the vault object into an empty place. kRefused where something stands already.
  // With a `ledger` the vault has two places (vault/epochs.h); it must be empty too. What a probe left is
  // nothing. `probe`: what the store was found to do, in words.
  static Result<std::unique_ptr<Vault>> init(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock,
                                             Random& random, std::unique_ptr<Store> ledger = nullptr,
                                             std::string probe = {});
  // kNotFound: no vault there; kRefused: another family's, or a format this program does not know; kDamaged.
  static Result<std::unique_ptr<Vault>> open(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock,
                                             Random& random);
  // Finds out which ledger is in force; to be called before anything that reads or writes commits. A vault of
  // two places whose ledger is not given, does not answer or is not in force is good for reading all the
  // same: `ledger_trouble()` says why, and whoever would decide something is refused.
  Result<void> open_ledger(Result<std::unique_ptr<Store>> ledger);
  // Founds a new ledger in place of a lost one. For the owner, who knows that nobody uses the old one.
  Result<void> rebuild_ledger(std::unique_ptr<Store> ledger);
  const Epoch* epoch() const { return epoch_.get(); }  // null: one place
  const std::optional<Error>& ledger_trouble() const { return ledger_trouble_; }

  Store& store() { return *store_; }
  const KeyBundle& keys() const { return keys_; }
  SealedRecordCodec& codec() { return codec_; }
  Clock& clock() { return clock_; }
  Random& random() { return random_; }
  const VaultInfo& info() const { return info_; }

  Result<std::vector<ResourceRecord>> resources();
  // The resource of this name; kNotFound.
  Result<ResourceRecord> resource(std::string_view name);
  // Finds or makes the record of (kind, name). kRefused when it is another system's.
  Result<ResourceRecord> ensure_resource(std::string_view name, std::string_view kind,
                                         std::string_view system);

  // Reads a record that must be of `type`.
  template <class Record>
  Result<Record> read(std::string_view name, RecordType type) {
    return read_sound<Record>(*store_, name, [&](ByteView object) -> Result<Record> {
      TRY_ASSIGN(OpenedRecord opened, codec_.decode(name, object));
      if (opened.type != type) return wrong_type(name);
      return decode<Record>(opened.body);
    });
  }
  // Encodes and puts a record; retries the same bytes while the outcome is unknown. kExists when the name is
  // taken by something else.
  Result<Digest> put(RecordType type, const std::string& name, std::optional<ResourceId> scope,
                     ByteView body);

 private:
  Vault(std::unique_ptr<Store> store, KeyBundle keys, Clock& clock, Random& random);
  Error wrong_type(std::string_view name) const;
  Protocol founder();

  std::unique_ptr<Store> store_, ledger_;
  std::unique_ptr<Epoch> epoch_;
  std::optional<Error> ledger_trouble_;
  KeyBundle keys_;
  SealedRecordCodec codec_;
  Clock& clock_;
  Random& random_;
  VaultInfo info_;
};

// The one of this name; kUsage, saying which there are.
Result<ResourceRecord> find_resource(const std::vector<ResourceRecord>& all, std::string_view name);

// The copies of the vault object: any whole one will do (V12).
std::vector<std::string> vault_object_names();
// Checks one copy without a key: framing, checksum, owner's signature.
Result<VaultInfo> read_vault_info(std::string_view name, ByteView object);

}  // namespace kuramori
