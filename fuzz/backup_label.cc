// backup_label, the backup history file, tablespace_map: what is accepted is written as it was read.
#include "source/postgres/backup_label.h"

#include "base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori::postgres;
  const std::string_view text = kuramori::as_text({data, size});
  if (auto label = parse_backup_label(text)) {
    auto again = parse_backup_label(compose_backup_label(*label));
    if (!again || compose_backup_label(*again) != compose_backup_label(*label)) __builtin_trap();
  }
  (void)parse_backup_history(text);
  if (auto links = parse_tablespace_map(text)) {
    auto again = parse_tablespace_map(compose_tablespace_map(*links));
    if (!again || *again != *links) __builtin_trap();
  }
  return 0;
}
