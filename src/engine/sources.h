// Which source knows a resource: a new kind is one folder of src/source and one line here.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "policy/config.h"
#include "source/bucket/bucket_source.h"
#include "source/bucket/replicate.h"
#include "source/image/image_source.h"
#include "source/source.h"

namespace kuramori {

// Of any kind but postgres, whose pages go their own way (engine/backup.h).
struct OpenedSource {
  std::unique_ptr<Source> source;
  std::string origin;  // lines of name=value: what is captured and where; names, for the reader alone
};
// `bytes_before`: of its newest snapshot, against which a sudden shrink shows; nothing: there is none.
Result<OpenedSource> open_source(const ResourceConfig& resource, const ConfigWorld& world,
                                 std::optional<uint64_t> bytes_before = {});

// A bucket's own settings, for what acts on the bucket itself.
Result<bucket::BucketSettings> bucket_settings_of(const ResourceConfig& resource, const ConfigWorld& world);

// What kind `image` needs, also for the way from one registry to another that leads through no vault.
Result<image::ImageSettings> image_settings(const ResourceConfig& resource, const ConfigWorld& world);
// Where it is copied to all the time, and how. kUsage: it is not.
Result<bucket::ReplicateSettings> replicate_settings_of(const ResourceConfig& resource,
                                                        const ConfigWorld& world);

}  // namespace kuramori
