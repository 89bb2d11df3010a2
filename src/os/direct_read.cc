#include "os/direct_read.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace kuramori {
namespace {

constexpr size_t kMinimalPageBytes = 4096;     // of any machine's memory
constexpr size_t kAskBytes = size_t{1} << 20;  // of the file, in one question

}  // namespace

std::optional<Fd> open_direct(const Fd& file) {
  auto direct = open_file(fmt::format("/proc/self/fd/{}", file.get()), O_RDONLY | O_DIRECT);
  if (!direct) return std::nullopt;
  return std::move(*direct);
}

bool is_cached(const Fd& file, uint64_t offset, size_t length) {
  const size_t system_page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  while (length > 0) {
    const size_t step = std::min(length, kAskBytes);
    void* mapped = ::mmap(nullptr, step, PROT_READ, MAP_SHARED, file.get(), static_cast<off_t>(offset));
    if (mapped == MAP_FAILED) return false;
    std::array<unsigned char, kAskBytes / kMinimalPageBytes> resident;
    const bool known = ::mincore(mapped, step, resident.data()) == 0;
    ::munmap(mapped, step);
    const auto end = resident.begin() + static_cast<ptrdiff_t>((step + system_page - 1) / system_page);
    if (!known || !std::all_of(resident.begin(), end, [](unsigned char page) { return page & 1; }))
      return false;
    offset += step;
    length -= step;
  }
  return true;
}

}  // namespace kuramori
