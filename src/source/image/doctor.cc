#include <fmt/core.h>

#include <algorithm>

#include "source/image/discover.h"
#include "source/image/image_source.h"

namespace kuramori::image {
namespace {

using Severity = SourceFinding::Severity;

constexpr size_t kTagsLookedAtMax = 20;
// Tokens are given for minutes: a clock that is farther off makes them too old or too young.
constexpr Duration kClockOffMax = std::chrono::minutes(2);

std::string why_of(const Error& error) {
  return error.why.empty() ? "nothing can be captured" : error.why;
}
std::string fix_of(const Error& error, std::string other) {
  return error.next.empty() ? std::move(other) : error.next;
}

// The registry itself: false where nothing more can be asked of it.
bool examine_registry(Registry& registry, const ImageSettings& settings, std::string about,
                      std::vector<SourceFinding>& findings) {
  auto greeting = registry.greet({});
  if (!greeting) {
    const bool denied = greeting.error().kind == ErrorKind::kDenied;
    // A registry may refuse its greeting to somebody without a name and still hand out what is public.
    if (denied && settings.registry.user.empty()) return true;
    findings.push_back(
        {Severity::kProblem, std::move(about), greeting.error().what, why_of(greeting.error()),
         fix_of(greeting.error(), denied ? "check user: and password:"
                                         : fmt::format("curl -v https://{}/v2/", registry.name()))});
    return false;
  }
  if (greeting->ahead && std::chrono::abs(*greeting->ahead) > kClockOffMax) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*greeting->ahead).count();
    findings.push_back({Severity::kRisk, "clock",
                        fmt::format("the registry's clock is {} s {} ours", std::abs(seconds),
                                    seconds > 0 ? "before" : "behind"),
                        "tokens are given for minutes, and would be too old or too young",
                        "let both machines have their time from NTP"});
  }
  return true;
}

void examine_image(Registry& registry, const Wanted& wanted, const std::string& text,
                   std::vector<SourceFinding>& findings) {
  const auto problem = [&](const Error& error, std::string fix) {
    findings.push_back({Severity::kProblem, text, error.what, why_of(error), fix_of(error, std::move(fix))});
  };
  std::vector<std::string> references;
  if (!wanted.digest.empty()) {
    references.push_back(wanted.digest.text());
  } else if (!wanted.tag.empty() && wanted.tag.find('*') == wanted.tag.npos) {
    references.push_back(wanted.tag);
  } else {
    auto tags = registry.tags(wanted.repository, {});
    if (!tags) return problem(tags.error(), "check the name in images:");
    for (const std::string& tag : *tags) {
      if (is_tag(tag) && (wanted.tag.empty() || matches(wanted.tag, tag))) references.push_back(tag);
    }
    if (references.empty()) {
      findings.push_back({Severity::kProblem, text, fmt::format("{} has no such tag", wanted.repository),
                          "there is nothing to keep", "check the name in images:"});
    }
  }
  for (size_t i = 0; i < std::min(references.size(), kTagsLookedAtMax); ++i) {
    auto found = registry.resolve(wanted.repository, references[i], {});
    if (!found) return problem(found.error(), "check the name in images:");
    auto manifest = registry.manifest(wanted.repository, found->digest.text(), {});
    if (!manifest) return problem(manifest.error(), "push the image again");
    if (auto parsed = parse_manifest(manifest->bytes, manifest->media_type); !parsed)
      return problem(parsed.error(), "push the image again");
  }
}

void examine_replica(const ImageSettings& settings, std::vector<SourceFinding>& findings) {
  const ReplicaSettings& replica = *settings.replicate;
  const auto place = parse_target(replica.to, !replica.ca_file.empty());
  auto target =
      place ? Registry::open({.url = place->url,
                              .user = replica.user,
                              .password = replica.password,
                              .ca_file = replica.ca_file,
                              .insecure = replica.insecure || replica.to.starts_with("docker+http://"),
                              .is_written = true})
            : Result<std::unique_ptr<Registry>>(place.error());
  if (!target) {
    findings.push_back({Severity::kProblem, "replicate", target.error().what, why_of(target.error()),
                        fix_of(target.error(), "check replicate: { to: … }")});
    return;
  }
  examine_registry(**target, settings, "replicate", findings);
}

}  // namespace

Result<std::vector<SourceFinding>> examine_images(const ImageSettings& settings) {
  std::vector<SourceFinding> findings;
  if (settings.images.empty()) {
    findings.push_back({Severity::kProblem, "images", "images: names nothing", "nothing would be kept",
                        "images: [ team/app, team/api:v1 ]"});
    return findings;
  }
  if (settings.registry.url.empty()) {
    findings.push_back({Severity::kProblem, "registry", "there is no registry:", "nothing can be captured",
                        "registry: https://registry.example"});
    return findings;
  }
  TRY_ASSIGN(const auto registry, Registry::open(settings.registry));
  if (!settings.registry.user.empty() && settings.registry.password.empty()) {
    findings.push_back({Severity::kProblem, "password", "there is a user: and no password:",
                        "the registry will refuse it", "password_file: FILE"});
  }
  if (settings.registry.insecure) {
    findings.push_back(
        {Severity::kRisk, "insecure", "the registry may be spoken to without TLS",
         "whoever is on the way can read credentials; content is safe by its digests, tags are not",
         "let the registry have a certificate, and ca_file: FILE"});
  }
  if (!examine_registry(*registry, settings, "registry", findings)) return findings;
  for (const std::string& text : settings.images) {
    TRY_ASSIGN(const Wanted wanted, parse_wanted(text));
    if (!wanted.is_pattern()) {
      examine_image(*registry, wanted, text, findings);
      continue;
    }
    auto catalog = registry->catalog({});
    if (!catalog) {
      findings.push_back({Severity::kProblem, text, catalog.error().what, why_of(catalog.error()),
                          settings.registry.user.empty()
                              ? "give user: and password_file:, or name each repository in images:, without *"
                              : "name each repository in images:, without *"});
    } else if (std::ranges::none_of(*catalog, [&](const std::string& one) {
                 return is_repository(one) && matches(wanted.repository, one);
               })) {
      findings.push_back({Severity::kProblem, text, "no repository of the registry is called so",
                          "there is nothing to keep", "check the pattern in images:"});
    }
  }
  if (settings.replicate) examine_replica(settings, findings);
  return findings;
}

}  // namespace kuramori::image
