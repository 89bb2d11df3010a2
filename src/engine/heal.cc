#include "engine/heal.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "engine/thaw.h"
#include "engine/transfer.h"
#include "vault/healer.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

constexpr int kRoundsMax = 4;  // live record → its packs and maps → nothing new

Result<void> go_on_unless(const std::stop_token& stop) {
  if (!stop.stop_requested()) return {};
  return fail(ErrorKind::kInterrupted, "healing was interrupted", "what was healed stays so",
              "run the same command again: it goes on from there");
}

// Another vault as a source of whole bytes.
class CopySource final : public HealSource {
 public:
  CopySource(Vault& vault, const HealCopy& copy, Reporter& reporter, std::stop_token stop)
      : vault_(vault), copy_(copy), reporter_(reporter), stop_(std::move(stop)) {}

  std::string name() const override { return copy_.name; }

  // Any incarnation there that is whole; it is read to the end before it is sent.
  Result<uint64_t> send(const LivePack& pack, const std::string& to) override {
    Error last = fail(ErrorKind::kNotFound, fmt::format("{} does not have {}", copy_.name, pack.name));
    Store& store = copy_.vault->store();
    std::vector<std::string> there;
    TRY(for_each_object(store, pack.name, [&](const ObjectInfo& object) -> Result<void> {
      if (names::origin_of(object.name) == pack.name) there.push_back(object.name);
      return {};
    }));
    for (const std::string& object : there) {
      auto one = only_incarnation(store, object);
      Result<void> whole = verify_pack_bytes(*one, pack.name, &pack);
      if (whole) return send_object(store, object, vault_.store(), to, reporter_);
      last = std::move(whole).error().within(copy_.name);
    }
    return last;
  }
  Result<void> check(const LivePack& pack, const std::string& at) override {
    return read_back(vault_.store(), at, pack);
  }
  bool fits(const ObjectRef& ref, ByteView bytes) override {
    return bytes.size() == ref.size && sha256(bytes) == ref.digest;
  }
  Result<Bytes> fetch(const ObjectRef& ref) override {
    Result<Bytes> bytes = get_bound(copy_.vault->store(), ref);
    if (!bytes) return std::move(bytes).error().within(copy_.name);
    return bytes;
  }
  Result<void> go_on() override { return go_on_unless(stop_); }

 private:
  Vault& vault_;
  HealCopy copy_;
  Reporter& reporter_;
  std::stop_token stop_;
};

// WAL of one resource: what is damaged is replaced, what is missing between what stands is put.
class WalHealer {
 public:
  WalHealer(Vault& vault, const std::vector<HealCopy>& copies, const Healer& healer, Reporter& reporter,
            std::stop_token stop, HealOutcome& outcome)
      : vault_(vault),
        copies_(copies),
        healer_(healer),
        reporter_(reporter),
        stop_(std::move(stop)),
        outcome_(outcome),
        protocol_(protocol_of(vault)) {}

  Result<void> replace(const std::string& name) {
    TRY(go_on_unless(stop_));
    const Result<void> sound = verify_pack_bytes(vault_.store(), name, nullptr);
    if (sound) return fail(ErrorKind::kRefused, "its bytes are whole", "what is wrong is not in them");
    // What the store did not give for another reason may be whole.
    const ErrorKind kind = sound.error().kind;
    if (kind != ErrorKind::kDamaged && kind != ErrorKind::kRefused && kind != ErrorKind::kNotFound)
      return sound;
    TRY(read_condemned());
    if (is_condemned(name)) {
      return fail(ErrorKind::kRefused, "a collection condemned it", "no snapshot needs it");
    }
    TRY_ASSIGN(const HealCopy* copy, whole_in(name));
    // From here to the end of the put the stretch is missing; it was of no use before either. A removal whose
    // answer was lost could land on what is put after it: then nothing is put, and the next run does.
    if (Result<void> removed = vault_.store().remove(name); !removed) {
      Error error = std::move(removed).error();
      if (error.kind != ErrorKind::kDenied) return error;
      return fail(ErrorKind::kRefused, "the store does not let the damaged object go",
                  error.why.empty() ? error.what : error.why,
                  fmt::format("until then restore from {}: --vault {}", copy->name, copy->name));
    }
    return put(name, *copy);
  }

  // What the copies have, and here is missing between what stands or within what a snapshot needs.
  Result<void> fill(const ResourceId& resource, uint64_t floor) {
    std::set<std::string> here;
    std::map<std::string, std::string> claims;  // range and kind → digest
    std::map<uint32_t, uint64_t> reached;       // timeline → where the newest WAL here ends
    TRY(for_each_object(vault_.store(), names::wal_prefix(resource),
                        [&](const ObjectInfo& object) -> Result<void> {
                          auto wal = names::parse_wal(object.name);
                          if (!wal) return {};
                          here.insert(object.name);
                          claims[names::wal_claim(*wal)] = wal->digest;
                          reached[wal->timeline] = std::max(reached[wal->timeline], wal->to);
                          return {};
                        }));
    auto is_wanted = [&](const names::WalName& wal) {
      if (wal.kind == names::WalKind::kHistory) return true;
      if (wal.to <= floor) return false;  // would be collected at once
      auto end = reached.find(wal.timeline);
      if (end != reached.end() && wal.to <= end->second) return true;
      return std::ranges::any_of(healer_.visible(), [&](const VisibleCommit* commit) {
        const auto& span = commit->record.wal;
        return span && commit->key.resource == resource && span->timeline == wal.timeline &&
               wal.from < span->to && wal.to > span->from;
      });
    };
    for (const HealCopy& copy : copies_) {
      std::vector<std::string> missing;
      TRY(for_each_object(
          copy.vault->store(), names::wal_prefix(resource), [&](const ObjectInfo& object) -> Result<void> {
            auto wal = names::parse_wal(object.name);
            if (!wal || here.contains(object.name) || !is_wanted(*wal)) return {};
            auto rival = claims.find(names::wal_claim(*wal));
            bool same =
                rival == claims.end() || rival->second == wal->digest || wal->kind == names::WalKind::kLabel;
            if (same) missing.push_back(object.name);  // else a scrub names the split brain
            return {};
          }));
      if (missing.empty()) continue;
      TRY(read_condemned());
      for (const std::string& name : missing) {
        TRY(go_on_unless(stop_));
        if (is_condemned(name)) continue;
        // Damaged there: another copy may have it, else the next scrub names the hole.
        if (!verify_pack_bytes(copy.vault->store(), name, nullptr)) continue;
        TRY(put(name, copy));
        outcome_.healed.push_back({name, "it was missing"});
        here.insert(name);
      }
    }
    return {};
  }

 private:
  Result<void> read_condemned() {
    if (condemned_) return {};
    Ledger ledger(protocol_);
    TRY_ASSIGN(std::vector<GcRound> rounds, ledger.read_gc());
    condemned_ = condemned_by(rounds);
    return {};
  }
  bool is_condemned(const std::string& name) const { return std::ranges::binary_search(*condemned_, name); }

  Result<const HealCopy*> whole_in(const std::string& name) {
    Error last = fail(ErrorKind::kNotFound, "no other vault was asked");
    for (const HealCopy& copy : copies_) {
      Result<void> whole = verify_pack_bytes(copy.vault->store(), name, nullptr);
      if (whole) return &copy;
      last = std::move(whole).error().within(copy.name);
    }
    return fail(ErrorKind::kNotFound, fmt::format("no copy has it whole: {}", last.what), last.why);
  }

  Result<void> put(const std::string& name, const HealCopy& copy) {
    TRY_ASSIGN(uint64_t sent, send_object(copy.vault->store(), name, vault_.store(), name, reporter_));
    TRY(verify_pack_bytes(vault_.store(), name, nullptr));
    outcome_.bytes += sent;
    return {};
  }

  Vault& vault_;
  const std::vector<HealCopy>& copies_;
  const Healer& healer_;
  Reporter& reporter_;
  std::stop_token stop_;
  HealOutcome& outcome_;
  Protocol protocol_;
  std::optional<std::vector<std::string>> condemned_;
};

bool is_content(const std::string& object) {
  return names::is_content(object) && names::owner_of(object).has_value();
}

std::string words_of(const Error& error) {
  return error.why.empty() ? error.what : fmt::format("{}: {}", error.what, error.why);
}

// What is damage, or stands damaged beside a whole incarnation.
bool is_to_heal(const ScrubFinding& finding) {
  return finding.severity == ScrubSeverity::kDamage || finding.superseded;
}

}  // namespace

Result<void> may_heal(Vault& vault) {
  return must_be_allowed(vault, Act::kCopy);
}

Result<HealOutcome> heal_vault(Vault& vault, const std::vector<HealCopy>& copies, const ScrubResult& found,
                               Reporter& reporter, std::stop_token stop) {
  TRY(may_heal(vault));
  HealOutcome outcome;
  reporter.phase("healing", 0);
  std::vector<std::unique_ptr<CopySource>> owned;
  std::vector<HealSource*> sources;
  for (const HealCopy& copy : copies) {
    owned.push_back(std::make_unique<CopySource>(vault, copy, reporter, stop));
    sources.push_back(owned.back().get());
  }
  put_readable(vault.store());
  Protocol protocol = protocol_of(vault);
  Healer healer(protocol, sources, host_name());
  WalHealer wal(vault, copies, healer, reporter, stop, outcome);

  std::map<std::string, std::string> why;  // of what could not be healed, by object
  std::set<std::string> done;
  auto heal_one = [&](const ScrubFinding& finding) -> Result<void> {
    const std::string& object = finding.object;
    std::string note;
    if (names::parse_wal(object)) {
      TRY(wal.replace(object));
    } else if (is_content(object)) {
      TRY_ASSIGN(HealedObject healed, healer.heal(std::string(names::origin_of(object))));
      outcome.bytes += healed.sent_bytes;
      if (!healed.retained.empty())
        note = fmt::format("the damaged one stays: {}; readers take the whole one", healed.retained_why);
      if (finding.superseded && healed.removed.empty()) return {};  // no news: it is still retained
    } else {
      return fail(ErrorKind::kRefused, "packs, maps, live records and WAL are healed",
                  "a snapshot that is missing comes back with kuramori copy");
    }
    outcome.healed.push_back({object, std::move(note)});
    return {};
  };

  std::vector<ScrubFinding> open;
  std::ranges::copy_if(found.findings, std::back_inserter(open), is_to_heal);
  for (int round = 0; round < kRoundsMax; ++round) {
    TRY(go_on_unless(stop));
    const size_t healed_before = outcome.healed.size();
    TRY(healer.look());
    if (round == 0) {
      for (const auto& [resource, floor] : healer.wal_floors()) TRY(wal.fill(resource, floor));
    }
    for (const ScrubFinding& finding : open) {
      if (done.contains(finding.object)) continue;
      Result<void> healed = heal_one(finding);
      if (healed) {
        done.insert(finding.object);
        why.erase(finding.object);
        continue;
      }
      if (healed.error().kind == ErrorKind::kInterrupted) return std::move(healed).error();
      why[finding.object] = words_of(healed.error());
    }
    if (outcome.healed.size() == healed_before) break;
    // The structure again, without the bytes of packs and WAL, each of which was read back.
    TRY_ASSIGN(ScrubResult again, scrub(vault, {.budget = Duration::zero(), .stop = stop}, reporter));
    std::vector<ScrubFinding> next;
    std::ranges::copy_if(again.findings, std::back_inserter(next), is_to_heal);
    for (ScrubFinding& finding : open) {
      const bool of_bytes = finding.object.starts_with(names::kPacks) || names::parse_wal(finding.object);
      const bool known = std::ranges::count(next, finding.object, &ScrubFinding::object) != 0;
      if (of_bytes && !known && !done.contains(finding.object)) next.push_back(std::move(finding));
    }
    // What is found again although it was healed is tried once more.
    for (const ScrubFinding& finding : next) done.erase(finding.object);
    open = std::move(next);
  }
  TRY(healer.finish());
  for (const ScrubFinding& finding : open) {
    if (finding.severity != ScrubSeverity::kDamage || done.contains(finding.object)) continue;
    auto reason = why.find(finding.object);
    outcome.left.push_back({finding.object, reason == why.end() ? finding.what : reason->second});
  }
  return outcome;
}

}  // namespace kuramori
