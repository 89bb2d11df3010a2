// Lists of refs: what a remote has, what a mirror has seen, and those that are kept although they moved away.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/world.h"

namespace kuramori::git {

// Where a ref goes that moved elsewhere than forward, or vanished: <this><time>/<its name without "refs/">.
constexpr std::string_view kKeptBelow = "refs/kuramori/kept/";

struct Ref {
  std::string name;  // "refs/heads/main"
  std::string oid;   // hexadecimal: 40 digits, or 64 of SHA-256
  auto operator<=>(const Ref&) const = default;
};
using Refs = std::vector<Ref>;  // by name, each once

struct RemoteRefs {
  Refs refs;
  std::string head;  // as a HEAD file has it: "ref: refs/heads/main", or an object's id; "" unknown
};

bool is_oid(std::string_view text);
const Ref* find_ref(const Refs& refs, std::string_view name);

// What `git ls-remote --symref` prints.
Result<RemoteRefs> parse_ls_remote(std::string_view text);
// Lines "oid name", as packed-refs has them; comments and peeled values are passed over.
Result<Refs> parse_refs(std::string_view text);
std::string refs_text(const Refs& refs);
// The file packed-refs of a repository that has both.
std::string packed_refs(const Refs& refs, const Refs& kept);

// The other half of a packed-refs: ours and theirs.
struct SplitRefs {
  Refs seen, kept;
};
SplitRefs split_refs(Refs all);

// What has to be kept when `before` becomes `now`. `went_forward` says of a ref that both have whether the
// new value holds the old one. What was kept by that name and value is not kept again.
struct Moves {
  Refs to_keep;      // under their new names
  size_t moved = 0;  // elsewhere than forward
  size_t gone = 0;
};
Moves moves_between(const Refs& before, const Refs& now, const Refs& kept, Time time,
                    const std::function<bool(const Ref& before, const Ref& now)>& went_forward);
// Both, by name.
Refs merged(Refs kept, Refs more);

}  // namespace kuramori::git
