#include "source/image/image_source.h"

#include <fmt/core.h>

#include <algorithm>

#include "source/image/reference.h"

namespace kuramori::image {
namespace {

class ImageSource final : public Source {
 public:
  explicit ImageSource(ImageSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return capture_images(settings_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return restore_images(settings_, tree, request, reporter, std::move(stop));
  }
  // Everything is read and computed; nothing is written, so the sandbox stays empty.
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string&, Reporter& reporter,
                                         std::stop_token stop) override {
    return drill_images(tree, reporter, std::move(stop));
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine_images(settings_); }

 private:
  const ImageSettings settings_;
};

bool is_platform_name(std::string_view text) {
  const auto parts = std::ranges::count(text, '/');
  return (parts == 1 || parts == 2) && !text.starts_with('/') && !text.ends_with('/') &&
         text.find("//") == text.npos && text.find(' ') == text.npos;
}

}  // namespace

Result<std::unique_ptr<Source>> make_source(ImageSettings settings) {
  for (const std::string& image : settings.images) TRY(parse_wanted(image));
  for (const std::string& platform : settings.platforms) {
    if (is_platform_name(platform)) continue;
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no platform", platform), "",
                "platforms: [ linux/amd64, linux/arm64 ]");
  }
  if (!settings.registry.url.empty()) TRY(Registry::open(settings.registry));
  if (settings.replicate) TRY(parse_target(settings.replicate->to, !settings.replicate->ca_file.empty()));
  return std::make_unique<ImageSource>(std::move(settings));
}

}  // namespace kuramori::image
