#include "vault/audit_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "crypto/digest.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr int kAppendTriesMax = 100;     // records that others of this key put meanwhile
constexpr size_t kNotAuthenticMax = 16;  // objects of other people's at this key's names, looked past
// What the names of acts about keys begin with, up to the millionth; hardly any key's own chain does.
constexpr std::string_view kKeyActs = "audit/0000";
constexpr Duration kClockApartMax = std::chrono::hours(1);

// A chain: of a signer, or (none) what the owner did about keys.
using ChainId = std::optional<SignerId>;

// Opens one record and holds it against its name: whose chain, which number, which vault.
Result<AuditEntry> open_entry(Vault& vault, const std::string& name, const names::AuditName& parsed,
                              ByteView object) {
  TRY_ASSIGN(const OpenedRecord opened, vault.codec().decode(name, object));
  if (opened.type != RecordType::kAudit)
    return fail(ErrorKind::kDamaged, "it is a record of another type than belongs here");
  TRY_ASSIGN(AuditRecord record, decode<AuditRecord>(opened.body));
  if (record.number != parsed.from) return fail(ErrorKind::kDamaged, "it is the record of another number");
  if (parsed.signer && opened.signer != *parsed.signer)
    return fail(ErrorKind::kDamaged, "it is signed by another key than its chain's");
  if (record.vault != vault.info().id && (parsed.signer || !record.vault.is_zero()))
    return fail(ErrorKind::kDamaged, "it is a record of another vault");
  AuditEntry entry{.name = name,
                   .object = name,
                   .chain = parsed.signer,
                   .signer = opened.signer,
                   .number = record.number,
                   .at = from_unix_ns(record.at_ns),
                   .digest = opened.digest,
                   .previous = record.previous,
                   .heads = std::move(record.heads),
                   .expired = std::move(record.expired)};
  if (auto signer = vault.codec().signers().find(opened.signer)) {
    entry.key_name = (*signer)->name;
    entry.role = (*signer)->role;
  }
  if (!parsed.signer) {
    entry.act = AuditAct{.verb = record.action,
                         .object = record.object,
                         .result = "done",
                         .host = record.host,
                         .detail = record.detail};
  } else if (vault.keys().reader) {
    TRY_ASSIGN(const Secret plain, open_sealed(*vault.keys().reader, record.sealed));
    TRY_ASSIGN(entry.act, decode<AuditAct>(plain.view()));
  }
  return entry;
}

Result<AuditArchiveRecord> open_archive(Vault& vault, const std::string& name, ByteView object) {
  TRY_ASSIGN(const OpenedRecord opened, vault.codec().decode(name, object));
  if (opened.type != RecordType::kAuditArchive)
    return fail(ErrorKind::kDamaged, "it is a record of another type than belongs here");
  TRY_ASSIGN(AuditArchiveRecord archive, decode<AuditArchiveRecord>(opened.body));
  if (archive.vault != vault.info().id) return fail(ErrorKind::kDamaged, "it is an archive of another vault");
  return archive;
}

// The newest authentic record of this key's chain, and the highest number that is taken by anything.
struct Tail {
  std::optional<AuditHead> head;
  uint64_t taken = 0;
};

// `found`: names of the chain that come after `known`.
Result<Tail> tail_among(Vault& vault, const SignerId& chain, std::vector<names::AuditName> found,
                        const std::optional<AuditHead>& known) {
  Tail tail{known, known ? known->number : 0};
  std::ranges::stable_sort(found, {}, &names::AuditName::to);
  size_t looked_at = 0;
  for (auto one = found.rbegin(); one != found.rend(); ++one) {
    tail.taken = std::max(tail.taken, one->to);
    if (++looked_at > kNotAuthenticMax) break;
    const std::string name =
        one->is_archive ? names::audit_archive(chain, one->from, one->to) : names::audit(chain, one->from);
    TRY_ASSIGN(const Bytes object, vault.store().get(name));
    if (one->is_archive) {
      auto archive = open_archive(vault, name, object);
      if (!archive || archive->entries.empty()) continue;
      tail.head = AuditHead{chain, one->to, sha256(archive->entries.back().object)};
      break;
    }
    auto entry = open_entry(vault, name, *one, object);
    if (!entry && entry.error().kind != ErrorKind::kDamaged && entry.error().kind != ErrorKind::kRefused)
      return entry.error();
    if (!entry) continue;
    tail.head = AuditHead{chain, entry->number, entry->digest};
    break;
  }
  return tail;
}

Result<Tail> find_tail(Vault& vault, const SignerId& self, const std::optional<AuditHead>& known) {
  std::vector<names::AuditName> found;
  std::string after = known ? names::audit(self, known->number) : std::string();
  for (bool more = true; more;) {
    TRY_ASSIGN(const ListPage page, vault.store().list(names::audit_prefix(self), after, kListPageMax));
    for (const ObjectInfo& object : page.objects) {
      const auto parsed = names::parse_audit(object.name);
      if (parsed && (!known || parsed->to > known->number)) found.push_back(*parsed);
      after = object.name;
    }
    more = page.more && !page.objects.empty();
  }
  return tail_among(vault, self, std::move(found), known);
}

// Reads everything below audit/, an object at a time, and says what of it does not hold.
class AuditReader {
 public:
  explicit AuditReader(Vault& vault) : vault_(vault), store_(vault.store()) {}

  Result<AuditReading> read(const std::vector<AuditHead>& remembered) {
    TRY(read_objects());
    for (auto& [chain, entries] : chains_) check_chain(chain, entries);
    check_heads(remembered, "this machine has seen it");
    for (const auto& [chain, entries] : chains_) {
      for (const auto& [number, entry] : entries)
        check_heads(entry.heads, fmt::format("{} names it", entry.name));
    }
    for (auto& [chain, entries] : chains_) {
      if (entries.empty()) continue;
      if (chain) out_.heads.push_back({*chain, entries.rbegin()->first, entries.rbegin()->second.digest});
      for (auto& [number, entry] : entries) out_.entries.push_back(std::move(entry));
    }
    std::ranges::stable_sort(out_.entries, {}, &AuditEntry::at);
    std::ranges::stable_sort(out_.findings, {}, &AuditFinding::object);
    return std::move(out_);
  }

 private:
  void find(const std::string& object, const std::string& what) {
    for (const AuditFinding& there : out_.findings)
      if (there.object == object && there.what == what) return;
    out_.findings.push_back({object, what});
  }

  Result<void> read_objects() {
    std::vector<ObjectInfo> objects;
    TRY(for_each_object(store_, names::kAudit, [&](const ObjectInfo& object) -> Result<void> {
      objects.push_back(object);
      return {};
    }));
    for (const ObjectInfo& object : objects) {
      const auto parsed = names::parse_audit(object.name);
      if (!parsed) {
        find(object.name, "it is nothing that belongs here");
        continue;
      }
      auto bytes = store_.get(object.name);
      if (!bytes && bytes.error().kind == ErrorKind::kNotFound) continue;  // archived meanwhile
      if (!bytes) return bytes.error();
      if (parsed->is_archive)
        take_archive(object, *parsed, *bytes);
      else
        take_entry(object.name, *parsed, object.name, object.stored_at, *bytes);
    }
    return {};
  }

  void take_archive(const ObjectInfo& object, const names::AuditName& parsed, ByteView bytes) {
    ++out_.archives;
    auto archive = open_archive(vault_, object.name, bytes);
    if (!archive) return find(object.name, archive.error().what);
    const std::vector<AuditArchiveRecord::Entry>& entries = archive->entries;
    if (entries.size() != parsed.to - parsed.from + 1)
      return find(object.name, "it does not hold the records that its name says");
    for (uint64_t i = 0; i < entries.size(); ++i) {
      const std::string name = names::audit(*parsed.signer, parsed.from + i);
      if (entries[i].name != name)
        return find(object.name, "it does not hold the records that its name says");
      std::optional<Time> stored;
      if (entries[i].stored_ns != 0) stored = from_unix_ns(entries[i].stored_ns);
      take_entry(name, {parsed.signer, parsed.from + i, parsed.from + i, false}, object.name, stored,
                 entries[i].object);
    }
  }

  void take_entry(const std::string& name, const names::AuditName& parsed, const std::string& object,
                  std::optional<Time> stored_at, ByteView bytes) {
    auto entry = open_entry(vault_, name, parsed, bytes);
    if (!entry) {
      garbage_[parsed.signer].insert(parsed.from);
      return find(object, fmt::format("{}{}", object == name ? "" : name + ": ",
                                      entry.error().why.empty() ? entry.error().what : entry.error().why));
    }
    entry->object = object;
    entry->stored_at = stored_at;
    auto [there, added] = chains_[parsed.signer].try_emplace(parsed.from, *entry);
    if (added) return;
    if (there->second.digest != entry->digest)
      return find(object, fmt::format("it holds another {} than stands in {}", name, there->second.object));
    // Of the two the archive's counts: the other may go.
    out_.doubled.push_back(name);
    if (there->second.object == name) there->second = std::move(*entry);
  }

  std::string name_of(const ChainId& chain, uint64_t number) const {
    return chain ? names::audit(*chain, number) : names::audit(number);
  }

  // Whether somebody who may has said that the chain went up to there, and how it ended.
  bool is_expired(const ChainId& chain, uint64_t number, const Digest& digest) const {
    if (!chain) return false;
    for (const auto& [other, entries] : chains_) {
      for (const auto& [n, entry] : entries) {
        if (entry.role != Role::kOwner && entry.role != Role::kKeeper) continue;
        for (const AuditHead& head : entry.expired)
          if (head.signer == *chain && head.number == number && head.digest == digest) return true;
      }
    }
    return false;
  }

  void check_chain(const ChainId& chain, const std::map<uint64_t, AuditEntry>& entries) {
    const AuditEntry* before = nullptr;
    for (const auto& [number, entry] : entries) {
      const uint64_t from = before == nullptr ? 0 : before->number;
      const Digest previous = before == nullptr ? Digest() : before->digest;
      const bool fits = entry.previous == previous;
      if (fits && (number == from + 1 || before != nullptr)) {
        // As it should be; or the numbers between were taken by what was no record when it was put.
      } else if (number == from + 1) {
        find(name_of(chain, before == nullptr ? number : from),
             before == nullptr ? "what it follows is missing"
                               : fmt::format("it is not the record that {} follows", entry.name));
      } else if (before != nullptr || !is_expired(chain, number - 1, entry.previous)) {
        for (uint64_t n = from + 1; n < number; ++n) {
          if (garbage_[chain].contains(n)) continue;
          find(name_of(chain, n), fmt::format("missing: {} follows it", entry.name));
          if (n - from >= kNamedMax) break;
        }
      }
      before = &entry;
    }
  }

  void check_heads(const std::vector<AuditHead>& heads, const std::string& why) {
    for (const AuditHead& head : heads) {
      const std::string name = names::audit(head.signer, head.number);
      const auto chain = chains_.find(ChainId(head.signer));
      if (chain != chains_.end()) {
        const auto entry = chain->second.find(head.number);
        if (entry != chain->second.end()) {
          if (entry->second.digest != head.digest) find(name, fmt::format("it was another: {}", why));
          continue;
        }
        // Before what is there: its time was over, or the chain's own check tells.
        if (!chain->second.empty() && head.number < chain->second.begin()->first) continue;
      }
      if (is_expired(head.signer, head.number, head.digest)) continue;
      if (!garbage_[ChainId(head.signer)].contains(head.number)) find(name, fmt::format("missing: {}", why));
    }
  }

  static constexpr uint64_t kNamedMax = 100;  // records of one hole

  Vault& vault_;
  Store& store_;
  AuditReading out_;
  std::map<ChainId, std::map<uint64_t, AuditEntry>> chains_;
  std::map<ChainId, std::set<uint64_t>> garbage_;  // numbers at which something stands that is no record
};

// The later of what a record says of itself and what the store said of it: so neither a writer's clock nor
// its lie makes a record older than it is.
Time age_from(const AuditEntry& entry) {
  return entry.stored_at ? std::max(entry.at, *entry.stored_at) : entry.at;
}

// One run of tidy_audit(), over a log that holds.
class Tidying {
 public:
  Tidying(Vault& vault, const AuditKeeping& keeping, size_t at_least)
      : vault_(vault), keeping_(keeping), at_least_(at_least), now_(vault.clock().now()) {}

  Result<AuditTidied> run(const AuditReading& reading, const AuditAct& act) {
    std::map<SignerId, std::vector<const AuditEntry*>> chains;
    for (const AuditEntry& entry : reading.entries)
      if (entry.chain) chains[*entry.chain].push_back(&entry);
    for (const std::string& name : reading.doubled) TRY(remove(name));
    for (auto& [signer, entries] : chains) {
      std::ranges::sort(entries, {}, &AuditEntry::number);
      TRY(archive(signer, entries));
      choose_expired(signer, entries);
    }
    // What goes for good is said first, and by whom.
    if (!expired_.empty()) TRY(let_go(act, reading));
    return out_;
  }

 private:
  Result<void> archive(const SignerId& signer, const std::vector<const AuditEntry*>& entries) {
    std::vector<const AuditEntry*> due;
    for (const AuditEntry* entry : entries) {
      if (entry->object != entry->name) continue;  // an archive has it
      if (age_from(*entry) > earlier(now_, keeping_.online)) break;
      due.push_back(entry);
      if (due.size() < kAuditArchiveMax) continue;
      TRY(put_archive(signer, due));
      due.clear();
    }
    // The newest stays at hand: who appends next reads it.
    if (!due.empty() && due.back() == entries.back()) due.pop_back();
    if (due.size() < std::max<size_t>(at_least_, 1)) return {};
    return put_archive(signer, due);
  }

  Result<void> put_archive(const SignerId& signer, const std::vector<const AuditEntry*>& due) {
    AuditArchiveRecord record{.vault = vault_.info().id, .at_ns = to_unix_ns(now_)};
    for (const AuditEntry* entry : due) {
      TRY_ASSIGN(Bytes object, vault_.store().get(entry->name));
      if (sha256(object) != entry->digest)
        return fail(ErrorKind::kDamaged, fmt::format("{} is not what it was a moment ago", entry->name), "",
                    "kuramori audit verify");
      record.entries.push_back(
          {entry->name, std::move(object), entry->stored_at ? to_unix_ns(*entry->stored_at) : 0});
    }
    const std::string name = names::audit_archive(signer, due.front()->number, due.back()->number);
    auto put = vault_.put(RecordType::kAuditArchive, name, {}, encode(record));
    if (!put && put.error().kind != ErrorKind::kExists) return put.error();
    // Read back before anything of it goes: also somebody else's, who was first.
    TRY_ASSIGN(const Bytes stored, vault_.store().get(name));
    TRY_ASSIGN(const AuditArchiveRecord back, open_archive(vault_, name, stored));
    for (size_t i = 0; i < due.size(); ++i) {
      if (back.entries.size() != due.size() || back.entries[i].object != record.entries[i].object)
        return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what it should", name), "",
                    "kuramori audit verify");
    }
    out_.archived += due.size();
    for (const AuditEntry* entry : due) TRY(remove(entry->name));
    return {};
  }

  // Whole archives from a chain's beginning on, all of whose records are old enough.
  void choose_expired(const SignerId& signer, const std::vector<const AuditEntry*>& entries) {
    const Time before = earlier(now_, keeping_.archive);
    std::vector<const AuditEntry*> of_one;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i]->object == entries[i]->name || age_from(*entries[i]) > before) return;
      of_one.push_back(entries[i]);
      if (i + 1 < entries.size() && entries[i + 1]->object == entries[i]->object) continue;
      expired_objects_.push_back(entries[i]->object);
      std::erase_if(expired_, [&](const AuditHead& head) { return head.signer == signer; });
      expired_.push_back({signer, entries[i]->number, entries[i]->digest});
      out_.expired += of_one.size();
      of_one.clear();
    }
  }

  Result<void> let_go(const AuditAct& act, const AuditReading& reading) {
    const SignerId self = signer_id(vault_.keys().signing->verify_key());
    TRY_ASSIGN(const Tail tail, find_tail(vault_, self, std::nullopt));
    AuditRecord record{.at_ns = to_unix_ns(now_), .vault = vault_.info().id, .heads = reading.heads};
    record.number = tail.taken + 1;
    if (tail.head) record.previous = tail.head->digest;
    record.sealed = seal_to(vault_.keys().reader_public, encode(act));
    record.expired = expired_;
    const std::string name = names::audit(self, record.number);
    TRY(vault_.put(RecordType::kAudit, name, {}, encode(record)));
    // A clock that runs ahead would let go what is not due; the store's tells.
    TRY_ASSIGN(const ObjectInfo info, vault_.store().head(name));
    const Duration apart = info.stored_at ? now_ - *info.stored_at : Duration(0);
    if (apart > kClockApartMax || apart < -kClockApartMax) {
      return fail(ErrorKind::kRefused, "this machine's clock and the store's are more than an hour apart",
                  "by which of them the log's time is over cannot be told",
                  "set the clock, and run it again");
    }
    for (const std::string& object : expired_objects_) TRY(remove(object));
    return {};
  }

  Result<void> remove(const std::string& name) {
    auto gone = vault_.store().remove(name);
    if (!gone && gone.error().kind == ErrorKind::kInterrupted) return gone;
    // Locked, or not this key's to remove: an archive beside it says the same.
    (gone ? out_.removed : out_.left) += 1;
    return {};
  }

  Vault& vault_;
  const AuditKeeping& keeping_;
  size_t at_least_;
  Time now_;
  AuditTidied out_;
  std::vector<AuditHead> expired_;
  std::vector<std::string> expired_objects_;
};

}  // namespace

Result<AuditHead> append_act(Vault& vault, const AuditAct& act, Time when,
                             const std::optional<AuditHead>& known, const std::vector<AuditHead>& heads) {
  const SignerId self = signer_id(vault.keys().signing->verify_key());
  TRY_ASSIGN(const Signer* signer, vault.codec().signers().find(self));
  if (signer->revoked) return fail(ErrorKind::kDamaged, "this key was revoked: nothing it signs counts");
  AuditRecord record{.at_ns = to_unix_ns(when), .vault = vault.info().id, .heads = heads};
  record.sealed = seal_to(vault.keys().reader_public, encode(act));
  std::optional<AuditHead> last = known;
  for (int tries = 0; tries < kAppendTriesMax; ++tries) {
    TRY_ASSIGN(const Tail tail, find_tail(vault, self, last));
    last = tail.head;
    record.number = tail.taken + 1;
    record.previous = last ? last->digest : Digest();
    auto put = vault.put(RecordType::kAudit, names::audit(self, record.number), {}, encode(record));
    if (put) return AuditHead{self, record.number, *put};
    if (put.error().kind != ErrorKind::kExists) return put.error();
  }
  return fail(ErrorKind::kFailed, "the audit record could not be put",
              "others of this key put theirs all the time", "run the command again");
}

Result<std::optional<AuditEntry>> newest_key_act(Vault& vault, std::string_view action) {
  std::vector<names::AuditName> found;
  TRY(for_each_object(vault.store(), kKeyActs, [&](const ObjectInfo& object) -> Result<void> {
    const auto parsed = names::parse_audit(object.name);
    if (parsed && !parsed->signer) found.push_back(*parsed);
    return {};
  }));
  const SignerId owner = signer_id(vault.keys().owner_verify);
  std::ranges::sort(found, {}, &names::AuditName::from);
  for (auto one = found.rbegin(); one != found.rend(); ++one) {
    const std::string name = names::audit(one->from);
    TRY_ASSIGN(const Bytes object, vault.store().get(name));
    auto entry = open_entry(vault, name, *one, object);
    if (!entry && entry.error().kind != ErrorKind::kDamaged && entry.error().kind != ErrorKind::kRefused)
      return entry.error();
    if (entry && entry->signer == owner && entry->act->verb == action)
      return std::optional(std::move(*entry));
  }
  return std::optional<AuditEntry>();
}

Result<std::vector<AuditHead>> newest_heads(Vault& vault) {
  std::map<SignerId, std::vector<names::AuditName>> chains;
  TRY(for_each_object(vault.store(), names::kAudit, [&](const ObjectInfo& object) -> Result<void> {
    const auto parsed = names::parse_audit(object.name);
    if (parsed && parsed->signer) chains[*parsed->signer].push_back(*parsed);
    return {};
  }));
  std::vector<AuditHead> heads;
  for (auto& [signer, found] : chains) {
    TRY_ASSIGN(const Tail tail, tail_among(vault, signer, std::move(found), std::nullopt));
    if (tail.head) heads.push_back(*tail.head);
  }
  return heads;
}

Result<AuditReading> read_audit(Vault& vault, const std::vector<AuditHead>& remembered) {
  return AuditReader(vault).read(remembered);
}

namespace {

// Whether a listing alone says that something may be due: the log of a busy vault is long, and most runs find
// nothing to do.
Result<bool> may_be_due(Vault& vault, const AuditKeeping& keeping, size_t at_least) {
  const Time now = vault.clock().now();
  const Time at_hand = earlier(now, keeping.online), in_all = earlier(now, keeping.archive);
  std::map<SignerId, size_t> old;
  bool due = false;
  TRY(for_each_object(vault.store(), names::kAudit, [&](const ObjectInfo& object) -> Result<void> {
    const auto parsed = names::parse_audit(object.name);
    if (!parsed || !parsed->signer) return {};
    if (parsed->is_archive)
      due = due || !object.stored_at || *object.stored_at <= in_all;
    else if (!object.stored_at || *object.stored_at <= at_hand)
      due = ++old[*parsed->signer] >= at_least || due;
    return {};
  }));
  return due;
}

}  // namespace

Result<AuditTidied> tidy_audit(Vault& vault, const AuditKeeping& keeping, const AuditAct& act,
                               size_t at_least) {
  TRY_ASSIGN(const bool due, may_be_due(vault, keeping, at_least));
  if (!due) return AuditTidied{};
  TRY_ASSIGN(const AuditReading reading, read_audit(vault));
  if (!reading.findings.empty()) {
    const AuditFinding& first = reading.findings.front();
    return fail(ErrorKind::kRefused, "the audit log does not hold, so nothing of it is moved",
                fmt::format("{}: {}", first.object, first.what), "kuramori audit verify");
  }
  return Tidying(vault, keeping, at_least).run(reading, act);
}

}  // namespace kuramori
