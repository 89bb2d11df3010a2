#include "codec/qr_code.h"

#include <fmt/core.h>
#include <qrencode.h>

#include <memory>

namespace kuramori {
namespace {
constexpr int kQuietModules = 4;  // ISO/IEC 18004
}

Result<std::string> qr_text(std::string_view bytes) {
  if (bytes.size() > kQrBytesMax)
    return fail(ErrorKind::kUsage, fmt::format("{} bytes are too many for one QR code", bytes.size()));
  std::unique_ptr<QRcode, decltype(&QRcode_free)> code(
      QRcode_encodeData(static_cast<int>(bytes.size()), reinterpret_cast<const unsigned char*>(bytes.data()),
                        0, QR_ECLEVEL_M),
      QRcode_free);
  if (!code) return fail(ErrorKind::kFailed, "the QR code could not be made");
  const int width = code->width;
  // A module is dark by its lowest bit; outside, and in the border, it is light.
  auto dark = [&](int row, int column) {
    row -= kQuietModules;
    column -= kQuietModules;
    if (row < 0 || column < 0 || row >= width || column >= width) return false;
    return (code->data[row * width + column] & 1) != 0;
  };
  const int side = width + 2 * kQuietModules;
  std::string out;
  for (int row = 0; row < side; row += 2) {
    for (int column = 0; column < side; ++column) {
      bool upper = dark(row, column), lower = dark(row + 1, column);
      out += upper ? (lower ? "█" : "▀") : (lower ? "▄" : " ");
    }
    out += '\n';
  }
  return out;
}

}  // namespace kuramori
