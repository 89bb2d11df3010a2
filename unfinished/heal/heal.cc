#include "engine/heal.h"

#include <fmt/core.h>

#include <map>
#include <optional>

#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "engine/transfer.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/session.h"

namespace kuramori {
namespace {

// What a copy's signed commits bind, by the name it was made under.
struct Bound {
  std::optional<LivePack> pack;
  std::optional<ObjectRef> small;
  ResourceId resource;
};
using BoundObjects = std::map<std::string, Bound, std::less<>>;

Result<BoundObjects> bound_in(Vault& copy) {
  Protocol protocol = protocol_of(copy);
  Ledger ledger(protocol);
  TRY_ASSIGN(CommitListing commits, ledger.read_commits());
  BoundObjects bound;
  for (const VisibleCommit* commit : commits.visible) {
    Result<const LiveRecord*> live = ledger.live_of(*commit);
    if (!live) continue;  // damaged there: another copy may know it
    const ResourceId& resource = commit->key.resource;
    bound[commit->record.live.name] = {{}, commit->record.live, resource};
    for (const ObjectRef& map : (*live)->maps) bound[map.name] = {{}, map, resource};
    for (const ObjectRef& map : commit->record.maps) bound[map.name] = {{}, map, resource};
    for (const LivePack& pack : (*live)->packs) bound[pack.name] = {pack, {}, resource};
  }
  return bound;
}

class Healer {
 public:
  Healer(Vault& vault, Vault& copy, BoundObjects bound, Reporter& reporter, HealOutcome& outcome)
      : vault_(vault),
        copy_(copy),
        bound_(std::move(bound)),
        reporter_(reporter),
        outcome_(outcome),
        protocol_(protocol_of(vault)) {}

  // kNotFound: this copy does not have it; kRefused: there is nothing to heal.
  Result<void> heal(const std::string& object) {
    if (names::parse_wal(object)) return heal_wal(object);
    const std::string origin(names::origin_of(object));
    auto at = bound_.find(origin);
    if (at == bound_.end()) {
      return fail(ErrorKind::kNotFound, fmt::format("no snapshot in {} needs it", copy_.store().location()));
    }
    TRY_ASSIGN(Standing standing, look(origin, at->second));
    if (!standing.whole) TRY(put_again(origin, at->second));
    if (standing.whole && standing.damaged.empty()) return nothing_to_heal(origin);
    for (const std::string& damaged : standing.damaged) TRY(vault_.store().remove(damaged));
    return {};
  }

 private:
  struct Standing {
    bool whole = false;
    std::vector<std::string> damaged;
  };

  static Error nothing_to_heal(const std::string& object) {
    return fail(ErrorKind::kRefused,
                fmt::format("the bytes of {} are whole: what is wrong is not in them", object));
  }

  // Every incarnation here, held to what is bound.
  Result<Standing> look(const std::string& origin, const Bound& bound) {
    Standing standing;
    TRY(for_each_object(vault_.store(), origin, [&](const ObjectInfo& object) -> Result<void> {
      if (names::origin_of(object.name) != origin) return {};
      auto one = only_incarnation(vault_.store(), object.name);
      Result<void> sound;
      if (bound.pack) {
        sound = verify_pack_bytes(*one, origin, &*bound.pack);
      } else {
        TRY_ASSIGN(Bytes bytes, one->get(object.name));
        if (sha256(bytes) != bound.small->digest) sound = fail(ErrorKind::kDamaged, "its digest differs");
      }
      if (sound) {
        standing.whole = true;
      } else if (sound.error().kind == ErrorKind::kDamaged || sound.error().kind == ErrorKind::kRefused) {
        standing.damaged.push_back(object.name);
      } else if (sound.error().kind != ErrorKind::kNotFound) {
        return sound;
      }
      return {};
    }));
    return standing;
  }

  Result<void> put_again(const std::string& origin, const Bound& bound) {
    TRY_ASSIGN(auto session, WriterSession::open(protocol_, {.kind = SessionKind::kCopy,
                                                             .resource = bound.resource,
                                                             .snapshot = vault_.random().id<SnapshotId>(),
                                                             .host = host_name()}));
    Result<void> done = send(*session, origin, bound);
    // What was put stays because something visible needs it, not because of this session.
    TRY(session->abandon("healed"));
    return done;
  }

  Result<void> send(WriterSession& session, const std::string& origin, const Bound& bound) {
    const std::string name = names::incarnation(origin, session.id());
    auto again = only_incarnation(vault_.store(), name);
    if (bound.pack) {
      TRY(verify_pack_bytes(copy_.store(), origin, &*bound.pack));
      TRY_ASSIGN(uint64_t sent, send_object(copy_.store(), origin, vault_.store(), name, reporter_));
      TRY(verify_pack_bytes(*again, origin, &*bound.pack));
      outcome_.bytes += sent;
      return {};
    }
    TRY_ASSIGN(Bytes bytes, copy_.store().get(origin));
    if (sha256(bytes) != bound.small->digest) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("{} is damaged in {} too", origin, copy_.store().location()));
    }
    TRY(session.put_object(name, bytes));
    TRY_ASSIGN(Bytes stored, again->get(name));
    if (!equal(stored, bytes)) return fail(ErrorKind::kDamaged, fmt::format("{} does not read back", name));
    outcome_.bytes += bytes.size();
    return {};
  }

  Result<void> heal_wal(const std::string& object) {
    if (verify_pack_bytes(vault_.store(), object, nullptr)) return nothing_to_heal(object);
    TRY(verify_pack_bytes(copy_.store(), object, nullptr));
    TRY(vault_.store().remove(object));
    TRY_ASSIGN(uint64_t sent, send_object(copy_.store(), object, vault_.store(), object, reporter_));
    TRY(verify_pack_bytes(vault_.store(), object, nullptr));
    outcome_.bytes += sent;
    return {};
  }

  Vault& vault_;
  Vault& copy_;
  BoundObjects bound_;
  Reporter& reporter_;
  HealOutcome& outcome_;
  Protocol protocol_;
};

}  // namespace

Result<HealOutcome> heal_vault(Vault& vault, const std::vector<Vault*>& copies,
                               const std::vector<ScrubFinding>& findings, Reporter& reporter,
                               std::stop_token stop) {
  TRY(must_be_allowed(vault, Act::kPrune));
  HealOutcome outcome;
  reporter.phase("healing", 0);
  std::vector<Healer> healers;
  for (Vault* copy : copies) {
    if (copy->info().family != vault.info().family || copy->info().id == vault.info().id) continue;
    TRY_ASSIGN(BoundObjects bound, bound_in(*copy));
    healers.emplace_back(vault, *copy, std::move(bound), reporter, outcome);
  }
  for (const ScrubFinding& finding : findings) {
    if (finding.severity != ScrubSeverity::kDamage) continue;
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "healing was interrupted");
    const bool can = names::is_content(finding.object) || names::parse_wal(finding.object);
    std::string why = can ? "no other vault was asked"
                          : "packs, maps, live records and WAL objects are healed; missing WAL comes back "
                            "with kuramori copy";
    bool healed = false;
    for (Healer& healer : healers) {
      if (!can || healed) break;
      Result<void> done = healer.heal(finding.object);
      healed = done.has_value();
      if (!done) why = done.error().what;
    }
    if (healed) {
      outcome.healed.push_back(finding.object);
    } else {
      outcome.left.push_back({finding.object, std::move(why)});
    }
  }
  return outcome;
}

}  // namespace kuramori
