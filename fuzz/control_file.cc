// pg_control: any bytes are parsed or refused. The checksum is made right, so that what is behind it is
// reached.
#include "source/postgres/control_file.h"

#include "codec/crc32c.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  Bytes bytes(data, data + size);
  (void)postgres::parse_control_file(bytes);
  if (bytes.size() < postgres::kControlFileBytesMin) return 0;
  for (size_t at : {size_t{288}, size_t{292}}) {  // to 17, from 18
    store_le(&bytes[at], crc32c(ByteView(bytes).first(at)));
    if (auto file = postgres::parse_control_file(bytes)) {
      if (!postgres::is_segment_size(file->segment_bytes) || file->major < postgres::kMajorMin)
        __builtin_trap();
    }
  }
  return 0;
}
