// An audit log to which things are done: bytes changed, objects removed, copied and put by a keeper who holds
// its key and tells lies in archives. Reading it never fails; and whatever stands there that is not what was
// put is told of, but for a chain's end.
#include "vault/audit_log.h"

#include <algorithm>

#include "fixed_keys.h"
#include "vault/names.h"

namespace {

using namespace kuramori;

constexpr uint64_t kActs = 4;

// A chain of a few acts, all in memory.
struct Log {
  test::OpenStore store;
  test::StandingClock clock;
  std::unique_ptr<Vault> vault;
  SignerId signer;
  Log() {
    auto made = Vault::init(std::make_unique<test::BorrowedStore>(store), fuzz::keys().clone(), clock,
                            fuzz::random());
    CHECK(made.has_value());
    vault = std::move(*made);
    signer = signer_id(vault->keys().signing->verify_key());
    for (uint64_t n = 1; n <= kActs; ++n)
      CHECK(append_act(*vault, {.verb = "backup"}, from_unix_ns(static_cast<int64_t>(n))).has_value());
  }
  std::string name(uint64_t n) const { return names::audit(signer, n); }
};

void check_name(std::string_view text) {
  const auto parsed = names::parse_audit(text);
  if (!parsed) return;
  const std::string again = !parsed->signer ? names::audit(parsed->from)
                            : parsed->is_archive
                                ? names::audit_archive(*parsed->signer, parsed->from, parsed->to)
                                : names::audit(*parsed->signer, parsed->from);
  fuzz::expect(again == text && parsed->from <= parsed->to);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  static Log log;
  static const auto whole = log.store.objects;
  log.store.objects = whole;
  const ByteView rest(data + 4, size - 4);
  const std::string target = log.name(1 + data[1] % kActs);
  Bytes& object = log.store.objects[target];
  bool told = true;  // whether it must be
  switch (data[0] % 5) {
    case 0: {  // one byte, anywhere
      const size_t at = load_le<uint16_t>(data + 2) % object.size();
      const uint8_t by = rest.empty() ? 0 : rest[0];
      object[at] ^= by;
      told = by != 0;
      break;
    }
    case 1:  // gone: seen unless it was the last
      told = target != log.name(kActs);
      log.store.objects.erase(target);
      break;
    case 2: {  // another's bytes at this name
      const std::string other = log.name(1 + data[2] % kActs);
      object = whole.at(other);
      told = other != target;
      break;
    }
    case 3:  // whatever bytes, as an archive's body that its holder signed
      (void)log.vault->put(RecordType::kAuditArchive,
                           names::audit_archive(log.signer, 1, 1 + data[1] % kActs), {}, rest);
      told = false;  // it may say the truth
      break;
    default: {  // whatever bytes, as the next record of the chain, signed; and as a name
      (void)log.vault->put(RecordType::kAudit, log.name(kActs + 1), {}, rest);
      check_name(as_text(rest));
      told = false;
    }
  }
  const auto reading = read_audit(*log.vault);
  fuzz::expect(reading.has_value());
  if (told) fuzz::expect(!reading->findings.empty());
  // What nobody put is no act: of each number there is one, and it is the chain's.
  for (const AuditEntry& entry : reading->entries)
    if (entry.number <= kActs) fuzz::expect(entry.digest == sha256(whole.at(log.name(entry.number))));
  return 0;
}
