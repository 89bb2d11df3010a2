// What kind of filesystem a file lies on.
#pragma once

namespace kuramori {

// Whether other machines change it too (NFS, SMB, …) or a program keeps it (FUSE), so that this kernel does
// not know all of it. True as well when that cannot be told.
bool is_remote(int fd);

}  // namespace kuramori
