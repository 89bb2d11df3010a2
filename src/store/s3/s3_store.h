// A store in a bucket, or below a prefix of one: Amazon's S3, Ceph RGW, and what speaks like them.
//
// What is atomic, and what is not:
//   - put_if_absent: one PUT with `If-None-Match: *`, a Content-MD5 and a signed payload. Atomic wherever the
//   store
//     honours the condition. Ceph ignores it, and says 200, in versioned and locked buckets: `vault probe`
//     finds out, and such a bucket holds objects, not the ledger. There this store looks first, so that
//     nothing that stands is shadowed; of two at the same moment both may win.
//   - create(): below one part (kPartBytes) the same PUT at commit(). Above, a multipart upload: the object
//   appears
//     whole at commit() or not at all, but "if absent" is a look before and a look after. Amazon decides it;
//     with others, two writers at one name at the same moment: the later one stands, and the earlier one is
//     told kExists or has already been told that it won. The names of packs are unique, so none meets
//     another.
//   - An attempt whose answer was lost is settled by looking: every object carries the number of the attempt
//   that
//     made it (x-amz-meta-kuramori-put), so "it is there" and "it is mine" are different answers. Where it
//     cannot be settled: kUnknown.
//   - With a lock, what put_if_absent() or commit() confirmed is retained. A PUT carries its lock; Ceph does
//   not read
//     that of a multipart upload, which is locked between its end and the confirmation.
//   - remove() in a versioned bucket removes every version; kDenied while one is retained.
#pragma once
#include <memory>

#include "store/s3/credentials.h"
#include "store/s3/s3_client.h"
#include "store/s3/s3_location.h"
#include "store/store.h"

namespace kuramori {

struct S3StoreOptions {
  S3Limits limits;
  // Credentials that the location does not point to. Null: find_credentials().
  std::unique_ptr<CredentialSource> credentials;
  size_t part_bytes = size_t{8} << 20;  // of a multipart upload; it grows with the object
  size_t parts_in_flight = 6;           // of all uploads together: each holds its bytes in memory
  Clock* clock = nullptr;               // null: the machine's
  Random* random = nullptr;
};

// Sends nothing: a store that cannot be reached fails at the first call.
Result<std::unique_ptr<Store>> open_s3_store(const S3Location& location, S3StoreOptions options = {});

}  // namespace kuramori
