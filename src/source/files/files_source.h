// The kind `files`: trees and mounts of this machine.
#pragma once
#include <memory>

#include "source/files/capture.h"
#include "source/files/settings.h"
#include "source/source.h"

namespace kuramori::files {

constexpr uint64_t kDoctorEntriesMax = 500'000;  // looked at; more would take minutes

std::unique_ptr<Source> make_files_source(FilesSettings settings, MountFiles mounts = {});

// What is wrong with the paths and patterns of a resource.
Result<std::vector<SourceFinding>> examine(const FilesSettings& settings, const MountFiles& mounts);

}  // namespace kuramori::files
