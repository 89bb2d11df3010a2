#include "engine/transfer.h"

#include <algorithm>

namespace kuramori {

constexpr size_t kChunkBytes = 4u << 20;  // read and sent at once

Result<uint64_t> send_object(Store& from, const std::string& name, Store& to, const std::string& target,
                             Reporter& reporter) {
  TRY_ASSIGN(auto reader, from.open(name));
  TRY_ASSIGN(auto writer, to.create(target));
  Bytes chunk;
  for (uint64_t at = 0; at < reader->size(); at += chunk.size()) {
    chunk.resize(std::min<uint64_t>(kChunkBytes, reader->size() - at));
    TRY(reader->read(at, chunk));
    TRY(writer->append(chunk));
    reporter.advance(chunk.size());
  }
  Result<void> done = writer->commit();
  bool open = done || done.error().kind == ErrorKind::kExists || done.error().kind == ErrorKind::kUnknown;
  if (!open) return std::move(done).error();
  return reader->size();
}

}  // namespace kuramori
