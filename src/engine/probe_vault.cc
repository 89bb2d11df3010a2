#include "engine/probe_vault.h"

#include "vault/names.h"

namespace kuramori {
namespace {

Result<std::string> record(Vault& vault, const VaultProbe& probe) {
  ProbeRecord record{.at_ns = to_unix_ns(vault.clock().now()),
                     .objects = probe.objects.in_words(),
                     .ledger = probe.ledger ? probe.ledger->in_words() : "",
                     .host = host_name()};
  const std::string name = names::probe(record.at_ns, vault.random().id<Id<8, names::ProbeIdTag>>());
  TRY(vault.put(RecordType::kProbe, name, {}, encode(record)));
  return name;
}

}  // namespace

Result<VaultProbe> probe_vault(const VaultAddress& address, std::stop_token stop, Reporter& reporter) {
  TRY_ASSIGN(auto store, open_store(address.location));
  VaultProbe probe;
  TRY_ASSIGN(probe.objects, probe_store(*store, {.stop = stop}, system_clock(), system_random(), reporter));
  if (Result<void> accepted = accept_places(probe.objects, nullptr, false); !accepted)
    probe.refused = accepted.error();
  auto vault = open_vault(address);
  if (!vault) {
    if (vault.error().kind == ErrorKind::kNotFound) return probe;
    return std::move(vault.error()).within("the probe cannot be recorded");
  }
  TRY_ASSIGN(probe.recorded, record(**vault, probe));
  return probe;
}

Result<std::string> latest_probe_words(Vault& vault) {
  std::string newest;
  TRY(for_each_object(vault.store(), names::kProbes, [&](const ObjectInfo& object) -> Result<void> {
    newest = object.name;  // names sort by time
    return {};
  }));
  if (newest.empty()) return vault.info().probe;
  TRY_ASSIGN(const ProbeRecord record, vault.read<ProbeRecord>(newest, RecordType::kProbe));
  return record.objects;
}

}  // namespace kuramori
