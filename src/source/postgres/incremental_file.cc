#include "source/postgres/incremental_file.h"

#include "codec/page_checksum.h"

namespace kuramori::postgres {
namespace {

Error damaged(std::string why) {
  return fail(ErrorKind::kDamaged, "the server sent an incremental file that is none", std::move(why),
              "run the backup again");
}

}  // namespace

std::optional<std::string> without_incremental_prefix(std::string_view path) {
  const size_t slash = path.rfind('/');
  const size_t name = slash == std::string_view::npos ? 0 : slash + 1;
  if (!path.substr(name).starts_with(kIncrementalPrefix)) return std::nullopt;
  return std::string(path.substr(0, name)) + std::string(path.substr(name + kIncrementalPrefix.size()));
}

Result<void> IncrementalReader::feed(ByteView& bytes) {
  while (!header_ && !bytes.empty()) {
    const size_t part = std::min(wanted_ - raw_.size(), bytes.size());
    append(raw_, bytes.first(part));
    bytes = bytes.subspan(part);
    if (raw_.size() < wanted_) return {};
    if (raw_.size() == kFixedBytes) TRY(fixed_part());
    if (raw_.size() == wanted_) TRY(numbers());
  }
  return {};
}

Result<void> IncrementalReader::fixed_part() {
  if (load_le<uint32_t>(raw_.data()) != kIncrementalMagic) return damaged("its magic number is another");
  count_ = load_le<uint32_t>(raw_.data() + 4);
  if (count_ > kPagesPerRelationFile) return damaged(fmt::format("it would have {} blocks", count_));
  // Padded to a page, unless there are no blocks to be aligned.
  if (count_ > 0) {
    const size_t used = kFixedBytes + count_ * sizeof(uint32_t);
    wanted_ = (used + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  if (file_bytes_ != wanted_ + uint64_t{count_} * kPageBytes)
    return damaged(fmt::format("{} blocks do not make {} bytes", count_, file_bytes_));
  return {};
}

Result<void> IncrementalReader::numbers() {
  IncrementalHeader header;
  header.length = std::min(load_le<uint32_t>(raw_.data() + 8), kPagesPerRelationFile);
  header.blocks.reserve(count_);
  for (uint32_t index = 0; index < count_; ++index) {
    const uint32_t block = load_le<uint32_t>(raw_.data() + kFixedBytes + index * sizeof(uint32_t));
    if (block >= kPagesPerRelationFile || (!header.blocks.empty() && block <= header.blocks.back()))
      return damaged(fmt::format("block {} stands in a wrong place", block));
    header.blocks.push_back(block);
  }
  header_ = std::move(header);
  raw_ = Bytes();
  return {};
}

}  // namespace kuramori::postgres
