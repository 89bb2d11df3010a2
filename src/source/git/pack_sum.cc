#include "source/git/pack_sum.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "os/file.h"

namespace kuramori::git {

std::string_view sum_in_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  constexpr std::string_view kBefore = "pack-";
  if (!name.starts_with(kBefore)) return "";
  return name.substr(kBefore.size(), name.find('.') - kBefore.size());
}

struct PackSum::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  std::string expected;
  size_t sum_bytes = 0;
  Bytes held;  // the last bytes, which may be the sum itself
};

PackSum::PackSum(std::string_view path) : state_(std::make_unique<State>()) {
  state_->expected = sum_in_name(path);
  state_->sum_bytes = state_->expected.size() / 2;
  const EVP_MD* kind = state_->sum_bytes == 32 ? EVP_sha256() : EVP_sha1();
  CHECK(state_->context != nullptr && EVP_DigestInit_ex(state_->context, kind, nullptr) == 1);
}

PackSum::~PackSum() {
  EVP_MD_CTX_free(state_->context);
}

void PackSum::add(ByteView bytes) {
  Bytes& held = state_->held;
  append(held, bytes);
  if (held.size() <= state_->sum_bytes) return;
  const size_t sure = held.size() - state_->sum_bytes;
  CHECK(EVP_DigestUpdate(state_->context, held.data(), sure) == 1);
  held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(sure));
}

bool PackSum::is_whole() {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, digest, &size) == 1);
  const std::string sum = to_hex(ByteView(digest, size));
  return sum == state_->expected && sum == to_hex(state_->held);
}

Result<bool> has_its_end(const std::string& path) {
  const std::string_view expected = sum_in_name(path);
  TRY_ASSIGN(const Fd fd, open_file(path, O_RDONLY | O_NOFOLLOW));
  TRY_ASSIGN(const FileStatus status, status_of(fd, path));
  Bytes end(expected.size() / 2);
  if (end.empty() || status.size < end.size()) return false;
  TRY(pread_full(fd, status.size - end.size(), end, path));
  return to_hex(end) == expected;
}

}  // namespace kuramori::git
