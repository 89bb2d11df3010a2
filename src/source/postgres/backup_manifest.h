// backup_manifest, as the server sends it at the end of a base backup (PostgreSQL, "Backup Manifest Format"):
// JSON with a line to each file, closed by a SHA-256 over all that stands before. Read line by line as it
// arrives: with a million files it is larger than the memory there is.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/digest.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

constexpr size_t kManifestLineBytesMax = 64u << 10;

struct ManifestFile {
  std::string path;
  uint64_t size = 0;
  std::string algorithm;  // "CRC32C", "SHA256" …; "" where the file has no checksum
  std::string checksum;   // hex
};

struct ManifestWal {
  Timeline timeline = 0;
  Lsn start = 0, end = 0;
};

class BackupManifest {
 public:
  using TakeFile = std::function<Result<void>(const ManifestFile&)>;
  explicit BackupManifest(TakeFile take) : take_(std::move(take)) {}

  // More of it, cut anywhere. kDamaged: not what a server writes.
  Result<void> feed(ByteView bytes);
  // All has come: the checksum stood at its end and was right.
  Result<void> finish();
  const std::vector<ManifestWal>& wal() const { return wal_; }

 private:
  enum class Part { kHead, kFiles, kWal, kTail, kDone };
  Result<void> line(std::string_view line);

  TakeFile take_;
  Part part_ = Part::kHead;
  std::string pending_;  // a line that is not whole yet
  Sha256 sum_;
  std::vector<ManifestWal> wal_;
};

// A manifest for UPLOAD_MANIFEST. By it the server knows from where on changes are wanted (the start of the
// range) and which files the older backup has: one that is not named is sent whole. It asks for names and
// sizes, the identity of the cluster, and the checksum over all.
class ManifestWriter {
 public:
  ManifestWriter(uint64_t system_id, const ManifestWal& range) : system_id_(system_id), range_(range) {}
  // The next text: the head first, then a file each, the tail last.
  std::string head();
  std::string file(std::string_view path, uint64_t size);
  std::string tail();

 private:
  std::string summed(std::string text);

  const uint64_t system_id_;
  const ManifestWal range_;
  Sha256 sum_;
  bool any_ = false;
};

// How a CRC-32C stands in a manifest: its bytes as they lie in memory.
std::string manifest_crc32c(uint32_t crc);

}  // namespace kuramori::postgres
