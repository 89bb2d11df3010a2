// Extended attributes, ACLs among them, of whatever stands in a tree: also of links, pipes and devices, which
// cannot be opened for it. The system calls take a path; "/proc/self/fd/N" is one that cannot be replaced
// meanwhile.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/file.h"

namespace kuramori::files {

using Attributes = std::vector<std::pair<std::string, std::string>>;  // sorted by name

// `opened` may be O_PATH. Names that are there and could not be read go into `unreadable`, with the reason.
// kNotFound: on a network filesystem, another machine removed it since it was opened.
// A filesystem without attributes has none. An ACL of NFS 4 that only says what the mode says is left out.
// `name` is for messages.
Result<Attributes> read_attributes(const Fd& opened, std::string_view name,
                                   std::vector<std::pair<std::string, std::string>>& unreadable);

// Makes the attributes of `opened` these: sets what differs, removes ACLs and `user.` attributes that are not
// among them (a new file may inherit an ACL). What this machine or filesystem does not allow is counted.
Result<void> write_attributes(const Fd& opened, std::string_view name, const Attributes& attributes,
                              uint64_t& not_allowed);

// Whether an ACL of NFS 4, as the attribute system.nfs4_acl has it, is of the owner, the group and everyone
// alone, and is inherited by nobody: then the server makes it of the mode.
bool is_mode_as_nfs4_acl(std::string_view acl);

// The path by which system calls reach what `opened` stands for.
std::string path_of(const Fd& opened);

}  // namespace kuramori::files
