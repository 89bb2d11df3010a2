// Bytes a second, shared by all workers of a capture.
#pragma once
#include "base/throttle.h"
