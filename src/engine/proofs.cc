#include "engine/proofs.h"

#include <fmt/core.h>

#include "engine/open_vault.h"
#include "vault/holds.h"
#include "vault/names.h"

namespace kuramori {

Result<std::string> keep_proof(Vault& vault, const ProofRecord& proof, Reporter& reporter) {
  uint8_t suffix[4];
  vault.random().fill(suffix);
  const std::string id = fmt::format("{:016x}-{}", proof.started_ns, to_hex(suffix));
  auto put = put_proof(protocol_of(vault), proof, id);
  if (!put && put.error().kind != ErrorKind::kPartial) return put.error();
  if (!put) reporter.warning(put.error().what);
  return names::proof(proof.snapshot, id);
}

}  // namespace kuramori
