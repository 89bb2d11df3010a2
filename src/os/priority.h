// How much this process gets of processors and disks when others want them too: nice and ionice.
#pragma once
#include "base/error.h"

namespace kuramori {

constexpr int kNiceMax = 19;    // the last in the queue
constexpr int kIoLevelMax = 7;  // of best effort: the last in that queue

// Of every thread there is; those that start later have what their maker has, and so do programs that are
// run. Lowering is for everybody, and for good: only root may raise again.
Result<void> be_nice(int nice);
Result<void> be_idle_on_disks();             // served when nobody else wants the disk
Result<void> be_modest_on_disks(int level);  // best effort, 0 to kIoLevelMax

}  // namespace kuramori
