// Where a stream of bytes may be cut into chunks: places that depend on the eight bytes before them alone.
//
// A candidate is a place p for which x·kFirst + y·kSecond + kAdded (mod 2^32; x and y the little-endian
// numbers of bytes p-8 … p-5 and p-4 … p-1) is below 2^32 / kCandidateEvery. This is no secret and decides
// nothing: it only spares the keyed decision (vault/chunker.h) most places. Eight of them are looked at in
// one instruction where the processor can (AVX2); the result is the same everywhere.
#pragma once
#include "base/bytes.h"

namespace kuramori {

constexpr size_t kCandidateWindowBytes = 8;
constexpr size_t kCandidateEvery = 2048;  // bytes, on average of data without pattern

// The first candidate p with from ≤ p < data.size(); data.size() when there is none. `from` is at least
// kCandidateWindowBytes.
size_t next_candidate(ByteView data, size_t from);

// The same, a place after the other: what the faster way is tested against.
size_t next_candidate_plainly(ByteView data, size_t from);

}  // namespace kuramori
