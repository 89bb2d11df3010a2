// SIGINT and SIGTERM as a stop token, which long operations poll.
#pragma once
#include <stop_token>

namespace kuramori {

// Called once, first in `main`. From then on the first SIGINT, SIGTERM or SIGHUP asks the token to stop; the
// second ends the program at once with status 130: everything it does survives that. SIGPIPE is ignored.
std::stop_token stop_on_signals();

// From now on SIGHUP asks for something else: whoever runs on asks here, now and then, whether one came
// since. One that comes before anybody can ask waits for that.
void hangups_do_not_stop();
bool take_hangup();
// It asks to stop after all; so does one that has come meanwhile.
void hangups_stop();

// The signal that asked to stop; 0 if none did.
int stop_signal();

}  // namespace kuramori
