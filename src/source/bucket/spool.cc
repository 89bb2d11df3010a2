#include "source/bucket/spool.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>

#include "base/tree_entry.h"

namespace kuramori::bucket {
namespace {

constexpr size_t kRecordOverhead = 160;  // of one record in memory, about

void append_text(Bytes& to, std::string_view text) {
  append_le<uint32_t>(to, static_cast<uint32_t>(text.size()));
  append(to, as_bytes(text));
}

Bytes encode(const Listed& record) {
  Bytes body;
  append_text(body, record.path);
  append_text(body, record.object.version);
  append_text(body, record.object.etag);
  append_text(body, record.object.storage_class);
  append_le<uint64_t>(body, record.object.size);
  append_le<int64_t>(body, to_unix_ns(record.object.modified));
  append_le<uint8_t>(
      body, static_cast<uint8_t>((record.object.latest ? 1 : 0) | (record.object.delete_marker ? 2 : 0)));
  return body;
}

Result<Listed> decode(ByteView bytes) {
  ByteReader reader(bytes);
  Listed record;
  const auto text = [&](std::string& to) -> Result<void> {
    TRY_ASSIGN(const uint32_t size, reader.take_le<uint32_t>());
    TRY_ASSIGN(const ByteView view, reader.take(size));
    to = as_text(view);
    return {};
  };
  TRY(text(record.path));
  TRY(text(record.object.version));
  TRY(text(record.object.etag));
  TRY(text(record.object.storage_class));
  TRY_ASSIGN(record.object.size, reader.take_le<uint64_t>());
  TRY_ASSIGN(const int64_t modified, reader.take_le<int64_t>());
  record.object.modified = from_unix_ns(modified);
  TRY_ASSIGN(const uint8_t flags, reader.take_le<uint8_t>());
  record.object.latest = (flags & 1) != 0;
  record.object.delete_marker = (flags & 2) != 0;
  return record;
}

std::string temporary_folder() {
  const char* told = ::getenv("TMPDIR");
  return told != nullptr && *told != '\0' ? told : "/var/tmp";
}

}  // namespace

Result<void> Spool::add(Listed record) {
  record.object.key.clear();
  bytes_ += kRecordOverhead + record.path.size() + record.object.version.size() + record.object.etag.size();
  records_.push_back(std::move(record));
  return bytes_ < run_bytes_ ? Result<void>() : write_run();
}

Result<void> Spool::write_run() {
  std::ranges::stable_sort(records_,
                           [](const Listed& a, const Listed& b) { return tree_order(a.path, b.path); });
  if (!file_.valid()) {
    TRY_ASSIGN(file_, open_file(temporary_folder(), O_TMPFILE | O_RDWR, 0600));
  }
  Run run{.at = file_bytes_};
  Bytes out;
  const auto flush = [&]() -> Result<void> {
    TRY(pwrite_full(file_, file_bytes_, out, "the sorted list"));
    file_bytes_ += out.size();
    out.clear();
    return {};
  };
  for (const Listed& record : records_) {
    const Bytes body = encode(record);
    append_le<uint32_t>(out, static_cast<uint32_t>(body.size()));
    append(out, body);
    if (out.size() >= kReadBytes) TRY(flush());
  }
  TRY(flush());
  run.end = file_bytes_;
  runs_.push_back(std::move(run));
  records_.clear();
  bytes_ = 0;
  return {};
}

Result<void> Spool::end() {
  if (runs_.empty()) {
    std::ranges::stable_sort(records_,
                             [](const Listed& a, const Listed& b) { return tree_order(a.path, b.path); });
    return {};
  }
  if (!records_.empty()) TRY(write_run());
  records_ = {};
  for (Run& run : runs_) TRY(advance(run));
  return {};
}

// Reads the run's next record into `first`.
Result<void> Spool::advance(Run& run) {
  const auto fill = [&](size_t wanted) -> Result<void> {
    if (run.buffer.size() - run.taken >= wanted) return {};
    run.buffer.erase(run.buffer.begin(), run.buffer.begin() + static_cast<ptrdiff_t>(run.taken));
    run.taken = 0;
    const size_t had = run.buffer.size();
    const size_t more = std::min<uint64_t>(std::max(kReadBytes, wanted), run.end - run.at);
    run.buffer.resize(had + more);
    TRY_ASSIGN(const size_t got,
               pread_some(file_, run.at, MutableByteView(run.buffer).subspan(had), "the sorted list"));
    run.at += got;
    run.buffer.resize(had + got);
    if (run.buffer.size() < wanted) return fail(ErrorKind::kFailed, "the sorted list was cut short");
    return {};
  };
  run.first.reset();
  if (run.taken == run.buffer.size() && run.at == run.end) return {};
  TRY(fill(sizeof(uint32_t)));
  const uint32_t size = load_le<uint32_t>(run.buffer.data() + run.taken);
  TRY(fill(sizeof size + size));
  TRY_ASSIGN(run.first, decode(ByteView(run.buffer).subspan(run.taken + sizeof size, size)));
  run.taken += sizeof size + size;
  return {};
}

Result<std::optional<Listed>> Spool::next() {
  if (runs_.empty()) {
    if (given_ == records_.size()) return std::optional<Listed>();
    return std::optional(std::move(records_[given_++]));
  }
  Run* least = nullptr;
  for (Run& run : runs_) {
    if (run.first && (least == nullptr || tree_order(run.first->path, least->first->path))) least = &run;
  }
  if (least == nullptr) return std::optional<Listed>();
  Listed record = std::move(*least->first);
  TRY(advance(*least));
  return std::optional(std::move(record));
}

}  // namespace kuramori::bucket
