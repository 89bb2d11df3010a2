// `replicate`: from a resource straight to a second place of its kind, through no vault. Of buckets:
// bucket_verbs.cc.
#include <fmt/core.h>

#include "base/json_writer.h"
#include "base/units.h"
#include "cli/verbs.h"
#include "engine/sources.h"

namespace kuramori {
namespace {

// Once, and then it ends, with --once or without: tags are looked at one by one, and no registry tells of
// changes.
Result<int> replicate_images(Context& context, const ResourceConfig& resource) {
  if (context.line().has("allow-deletes"))
    return fail(ErrorKind::kUsage, "--allow-deletes is of buckets", "of images nothing is ever deleted there",
                "leave it out");
  TRY_ASSIGN(const image::ImageSettings settings, image_settings(resource, context.world()));
  TRY_ASSIGN(const image::ReplicateOutcome outcome,
             image::replicate(settings, context.console(), context.stop()));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/replicate/1").field("resource", resource.name);
    json.field("target", outcome.target).field("images", outcome.images);
    json.field("images_as_before", outcome.images_as_before).field("blobs", outcome.blobs);
    json.field("blobs_mounted", outcome.blobs_mounted).field("bytes", outcome.bytes);
    json.key("defects").begin_array();
    for (const Defect& defect : outcome.defects)
      json.begin_object().field("path", defect.path).field("why", defect.why).end_object();
    json.end_array().end_object();
    context.console().print_document(json);
  } else {
    context.console().print(
        fmt::format("replicated {} to {}: {} images, {} of them as before; {} blobs, {} sent; every digest "
                    "that was sent is "
                    "read back\n",
                    resource.name, outcome.target, outcome.images, outcome.images_as_before, outcome.blobs,
                    format_size(outcome.bytes)));
    for (const Defect& defect : outcome.defects)
      context.console().warning(fmt::format("{}: {}", defect.path, defect.why));
  }
  return outcome.defects.empty() ? 0 : exit_code(ErrorKind::kPartial);
}

}  // namespace

Result<int> run_replicate(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(const ResourceConfig* resource, config->resource(context.line().argument(0)));
  switch (resource->kind) {
    case ResourceKind::kImage:
      return replicate_images(context, *resource);
    case ResourceKind::kBucket:
      return run_replicate_bucket(context);
    default:
      return fail(ErrorKind::kUsage,
                  fmt::format("a resource of kind {} is not replicated", name_of(resource->kind)),
                  "that is for buckets and images", "kuramori copy brings its snapshots to a second vault");
  }
}

}  // namespace kuramori
