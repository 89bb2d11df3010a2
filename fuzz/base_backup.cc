// The archives and the manifest of a base backup: whatever comes, cut in two anywhere, is taken apart the
// same way or refused, and never more than it said.
#include "base/bytes.h"
#include "source/postgres/backup_manifest.h"
#include "source/postgres/tar_stream.h"

namespace {

using namespace kuramori;

class Counting final : public postgres::TarReceiver {
 public:
  Result<void> entry(const postgres::TarEntry& entry) override {
    if (left_ != 0) __builtin_trap();
    left_ = entry.size;
    seen += entry.name + entry.link;
    return {};
  }
  Result<void> data(ByteView bytes) override {
    if (bytes.empty() || bytes.size() > left_) __builtin_trap();
    left_ -= bytes.size();
    seen += as_text(bytes);
    return {};
  }
  Result<void> end() override {
    if (left_ != 0) __builtin_trap();
    seen += '.';
    return {};
  }
  std::string seen;

 private:
  uint64_t left_ = 0;
};

bool take_apart(ByteView bytes, size_t cut, std::string& seen) {
  Counting counting;
  postgres::TarStream stream;
  const bool right =
      stream.feed(bytes.first(cut), counting) && stream.feed(bytes.subspan(cut), counting) && stream.finish();
  seen = counting.seen;
  return right;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  std::string whole, cut;
  const bool right = take_apart(bytes, 0, whole);
  if (take_apart(bytes, size / 3, cut) != right || (right && whole != cut)) __builtin_trap();
  postgres::BackupManifest manifest([](const postgres::ManifestFile& file) -> Result<void> {
    if (file.path.empty()) __builtin_trap();
    return {};
  });
  if (manifest.feed(bytes)) (void)manifest.finish();
  return 0;
}
