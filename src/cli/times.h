// Moments as verbs show them.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/json_writer.h"
#include "base/world.h"

namespace kuramori {

// A field of a document: UTC, or null.
void write_time(JsonWriter& json, std::string_view name, const std::optional<Time>& time);
// In a table whole seconds are enough; local, "forever" for what never comes.
std::string shown_time(Time time);

}  // namespace kuramori
