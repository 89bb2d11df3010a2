#include "conc/wait_out.h"

#include <condition_variable>
#include <mutex>

namespace kuramori {

bool wait_out(Duration duration, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any sleeper;
  std::unique_lock hold(mutex);
  sleeper.wait_for(hold, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace kuramori
