// Record bodies: the first byte chooses the type, the rest is decoded; what decodes comes back from its
// encoding.
#include "vault/records.h"

#include "fixed_keys.h"

namespace {

template <class Record>
void check(kuramori::ByteView body) {
  using namespace kuramori;
  auto record = decode<Record>(body);
  if (!record) return;
  Bytes again = encode(*record);
  auto back = decode<Record>(again);
  fuzz::expect(back && encode(*back) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  if (size == 0) return 0;
  ByteView body(data + 1, size - 1);
  void (*const checks[])(ByteView) = {check<ResourceRecord>,
                                      check<SessionRecord>,
                                      check<LiveRecord>,
                                      check<CommitRecord>,
                                      check<FenceRecord>,
                                      check<GcRecord>,
                                      check<PruneRecord>,
                                      check<HoldRecord>,
                                      check<RetainRecord>,
                                      check<ProofRecord>,
                                      check<DisownedRecord>,
                                      check<ProbeRecord>,
                                      check<CopyRecord>,
                                      check<EpochRecord>,
                                      check<CatalogRecord>,
                                      check<AuditRecord>,
                                      check<AuditAct>,
                                      check<AuditArchiveRecord>,
                                      check<ApprovalRequestRecord>,
                                      check<ApprovalRecord>,
                                      check<GrantRecord>,
                                      check<RevocationRecord>,
                                      check<AppliedRecord>};
  checks[data[0] % std::size(checks)](body);
  return 0;
}
