#include "engine/probe_vault.h"

#include <fmt/core.h>

#include "store/s3/s3_location.h"
#include "vault/names.h"

namespace kuramori {
namespace {

// The location without its lock and storage class, and through another gateway if one is given.
Result<std::string> plain_location(const std::string& location, const std::string& through) {
  if (!is_s3_location(location)) return location;
  TRY_ASSIGN(S3Location place, parse_s3_location(location));
  place.lock.reset();
  place.storage_class.clear();
  if (!through.empty()) place.endpoint = through;
  return format_s3_location(place);
}

Result<ProbeReport> probe_place(const std::string& location, const VaultAddress& address,
                                ProbeOptions options, Reporter& reporter, const std::string& through) {
  TRY_ASSIGN(const std::string here, plain_location(location, {}));
  TRY_ASSIGN(const std::string there, plain_location(location, through));
  TRY_ASSIGN(auto store, open_store(here, address.store_keys.get()));
  // Its own connections, as another machine would have.
  TRY_ASSIGN(auto other, open_store(there, address.store_keys.get()));
  options.other_endpoint = other.get();
  TRY_ASSIGN(ProbeReport report, probe_store(*store, options, system_clock(), system_random(), reporter));
  if (!through.empty()) report.location += " and through " + through;
  return report;
}

Result<bool> wants_lock(const std::string& location) {
  if (!is_s3_location(location)) return false;
  TRY_ASSIGN(const S3Location place, parse_s3_location(location));
  return place.lock.has_value();
}

Result<std::string> record(Vault& vault, const PlacesProbe& probe) {
  ProbeRecord record{.at_ns = to_unix_ns(vault.clock().now()),
                     .objects = probe.objects.in_words(),
                     .ledger = probe.ledger ? probe.ledger->in_words() : "",
                     .host = host_name()};
  const std::string name = names::probe(record.at_ns, vault.random().id<Id<8, names::ProbeIdTag>>());
  TRY(vault.put(RecordType::kProbe, name, {}, encode(record)));
  return name;
}

std::string joined(const std::string& objects, const std::string& ledger) {
  return ledger.empty() ? objects : fmt::format("{}. ledger: {}", objects, ledger);
}

}  // namespace

std::string PlacesProbe::in_words() const {
  return joined(objects.in_words(), ledger ? ledger->in_words() : "");
}

Result<PlacesProbe> probe_places(const VaultAddress& address, ProbeOptions options, Reporter& reporter,
                                 const std::string& through) {
  TwoLocations locations = split_location(address.location);
  if (!address.ledger.empty()) locations.ledger = address.ledger;
  PlacesProbe probe;
  TRY_ASSIGN(const bool lock, wants_lock(locations.objects));
  TRY_ASSIGN(probe.objects, probe_place(locations.objects, address, options, reporter, through));
  if (!locations.ledger.empty()) {
    TRY_ASSIGN(probe.ledger, probe_place(locations.ledger, address, options, reporter, through));
  }
  Result<void> accepted = accept_places(probe.objects, probe.ledger ? &*probe.ledger : nullptr, lock);
  if (!accepted) probe.refused = accepted.error();
  return probe;
}

Result<void> probe_ledger(const VaultAddress& address, ProbeOptions options, Reporter& reporter) {
  TRY_ASSIGN(const ProbeReport report, probe_place(address.ledger, address, options, reporter, {}));
  return accept_places(report, &report, false);
}

Result<VaultProbe> probe_vault(const VaultAddress& address, ProbeOptions options, Reporter& reporter,
                               const std::string& through) {
  VaultProbe probe;
  TRY_ASSIGN(probe.places, probe_places(address, options, reporter, through));
  TRY_ASSIGN(auto store, open_store(split_location(address.location).objects, address.store_keys.get()));
  TRY_ASSIGN(const bool taken, is_taken(*store));
  if (!taken) return probe;
  auto vault = open_vault(address);
  if (!vault) return std::move(vault.error()).within("the probe cannot be recorded");
  TRY_ASSIGN(probe.recorded, record(**vault, probe.places));
  return probe;
}

Result<bool> is_taken(Store& store) {
  bool taken = false;
  std::string after;
  while (!taken) {
    TRY_ASSIGN(const ListPage page, store.list("", after, kListPageMax));
    for (const ObjectInfo& object : page.objects) {
      taken = taken || !object.name.starts_with(names::kProbeTrials);
      after = object.name;
    }
    if (!page.more) break;
  }
  return taken;
}

Result<std::string> latest_probe_words(Vault& vault) {
  std::string newest;
  TRY(for_each_object(vault.store(), names::kProbes, [&](const ObjectInfo& object) -> Result<void> {
    newest = object.name;  // names sort by time
    return {};
  }));
  if (newest.empty()) return vault.info().probe;
  TRY_ASSIGN(const ProbeRecord record, vault.read<ProbeRecord>(newest, RecordType::kProbe));
  return joined(record.objects, record.ledger);
}

}  // namespace kuramori
