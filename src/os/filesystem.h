// What kind of filesystem a file lies on.
#pragma once

namespace kuramori {

// Whether other machines change it too (NFS, SMB, …) or a program keeps it (FUSE), so that this kernel does
// not know all of it. True as well when that cannot be told.
bool is_remote(int fd);

// Whether what is written there past the page cache comes to stand as if it had been written through it: on
// ext4 and XFS. btrfs would not compress it; others are not known.
bool takes_direct_writes_alike(int fd);

}  // namespace kuramori
