// A QR code as text: what a phone or scanner reads back from paper or a terminal.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

constexpr size_t kQrBytesMax = 2331;  // of version 40 with medium error correction (15 % of it may be lost)

// Dark on light, two modules a character (UTF-8 half blocks), with the quiet border scanners need. kUsage:
// more than kQrBytesMax.
Result<std::string> qr_text(std::string_view bytes);

}  // namespace kuramori
