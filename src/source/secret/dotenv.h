// Files of KEY=value lines, as they stand beside an application (".env").
//
// A line is empty, a comment (#), or `KEY=value`, also `export KEY=value`, with or without blanks around "=".
// A value ends at the line's end or at " #"; in '…' it is taken as it stands, in "…" the escapes \n \r \t \"
// \\ \$ count; both may go on over lines. A key that stands twice has its last value.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/id.h"
#include "source/source.h"

namespace kuramori::secret {

// Of a value only what tells another one from it is kept.
struct DotenvKey {
  std::string name;
  Digest value;
  bool operator==(const DotenvKey&) const = default;
};

// Sorted by name. kUsage: a line that is none of these; the message has its number and nothing of it.
Result<std::vector<DotenvKey>> parse_dotenv(ByteView text);

// Each key with its value, in the order of the file; the value is wiped when `visit` returns. For who must
// know one: where a database is.
Result<void> visit_dotenv(ByteView text,
                          const std::function<void(std::string_view name, std::string_view value)>& visit);

// By key; nothing where the same keys have the same values, however they are written.
Result<std::vector<PartChange>> diff_keys(ByteView before, ByteView after);

}  // namespace kuramori::secret
