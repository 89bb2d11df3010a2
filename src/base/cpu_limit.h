// A share of the machine's processors that this process keeps to: whoever has work for them asks before each
// piece of it (a frame, a block of pages) and sleeps while the process has used more than its share.
//
// CPU time is the process's, whichever thread used it, so this is one account for all. It needs no right and
// no cgroup, and it cannot leave the process stopped, as stopping it from outside could. What does not ask
// goes on and is paid for by what does.
#pragma once
#include "base/world.h"

namespace kuramori {

void limit_cpu(double cores);  // 0.5: half of one; 0: no limit
void pause_for_cpu();          // costs nothing where there is no limit

struct CpuUse {
  double cores = 0;  // the limit
  Duration used{}, waited{};
};
CpuUse cpu_use();  // of the process, since it began

}  // namespace kuramori
