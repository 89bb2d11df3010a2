// The kind `image`: images of a registry, kept by digest as an OCI image layout.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "source/image/registry.h"
#include "source/source.h"

namespace kuramori::image {

// A second registry.
struct ReplicaSettings {
  std::string to;  // "docker://HOST:PORT/PREFIX"
  std::string user, password, ca_file;
  bool insecure = false;
};

struct ImageSettings {
  RegistrySettings registry;           // url "": a snapshot is restored or proven, and no registry is asked
  std::vector<std::string> images;     // "team/app", "team/api:v1", "base@sha256:…", "team/*"
  std::vector<std::string> platforms;  // of images that have several; empty: all
  std::string cache_folder;            // manifests seen before; "": none are remembered
  std::optional<ReplicaSettings> replicate;
  std::string target_user, target_password;  // for a registry to restore to that is neither of these
};

// kUsage for settings that cannot be meant. Connects to nothing yet.
Result<std::unique_ptr<Source>> make_source(ImageSettings settings);

// --- without a vault -------------------------------------------------------------------------------------
struct ReplicateOutcome {
  std::string target;
  uint64_t images = 0;  // now at the target as they are at the source
  uint64_t images_as_before = 0, blobs = 0, blobs_mounted = 0, bytes = 0;  // blobs and bytes: what was sent
  std::vector<Defect> defects;
  std::vector<std::string> notes;
};
// Gives the second registry what it lacks, lets tags there stand for what they stand for here, and reads back
// every digest. Nothing is deleted there.
Result<ReplicateOutcome> replicate(const ImageSettings& settings, Reporter& reporter, std::stop_token stop);

// --- what its parts share --------------------------------------------------------------------------------
Result<std::unique_ptr<TreeCapture>> capture_images(const ImageSettings& settings, Reporter& reporter,
                                                    std::stop_token stop);
Result<SourceRestoreOutcome> restore_images(const ImageSettings& settings, const CapturedTree& tree,
                                            const SourceRestoreRequest& request, Reporter& reporter,
                                            std::stop_token stop);
Result<std::vector<CheckResult>> drill_images(const CapturedTree& tree, Reporter& reporter,
                                              std::stop_token stop);
Result<std::vector<SourceFinding>> examine_images(const ImageSettings& settings);

}  // namespace kuramori::image
