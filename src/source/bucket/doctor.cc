#include <fmt/core.h>

#include <cstdlib>

#include "base/units.h"
#include "source/bucket/bucket_source.h"

namespace kuramori::bucket {
namespace {

constexpr Duration kSkewMax = std::chrono::minutes(2);
constexpr int kNoncurrentDaysLeast = 7;  // fewer leave no time to notice, where nothing is promised

class Examination {
 public:
  Examination(const BucketSettings& settings, Bucket& bucket) : settings_(settings), bucket_(bucket) {}

  Result<std::vector<SourceFinding>> run() {
    if (!look_at_list()) return std::move(findings_);
    look_at_versioning();
    look_at_lifecycle();
    look_at_public_access();
    look_at_encryption();
    look_at_rights();
    look_at_clock();
    return std::move(findings_);
  }

 private:
  using Severity = SourceFinding::Severity;
  void add(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    if (why.empty()) why = "the store did not say more";
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix)});
  }
  std::string bucket_name() const { return bucket_.client().location().bucket; }
  // The answer to a question about the bucket; nothing: it cannot be asked.
  std::optional<S3Answer> ask(const std::string& about) {
    auto answer = bucket_.client().send({.query = {{about, ""}}, .patience = S3Request::Patience::kNone});
    if (!answer) return std::nullopt;
    return std::move(*answer);
  }

  bool look_at_list() {
    const auto listed = bucket_.is_empty();
    if (!listed) {
      const Error& error = listed.error();
      add(Severity::kProblem, bucket_.client().place(), error.what, error.why,
          error.next.empty() ? "check bucket, endpoint, region and credentials" : error.next);
      return false;
    }
    return true;
  }

  // A4: whoever switches it off takes the way back from the next accident.
  void look_at_versioning() {
    const auto versioning = bucket_.versioning();
    if (!versioning) {
      add(Severity::kHint, "versioning", "it cannot be seen whether the bucket keeps versions",
          versioning.error().why, "allow s3:GetBucketVersioning to these credentials");
      return;
    }
    if (*versioning == Versioning::kOn) return;
    const bool was_on = *versioning == Versioning::kSuspended;
    const bool is_promised = settings_.versions == Versions::kAll || settings_.keep_versions;
    add(was_on || is_promised ? Severity::kProblem : Severity::kRisk, "versioning",
        was_on ? "versioning was switched off: it is suspended" : "the bucket keeps no versions",
        "what is overwritten or deleted between two snapshots is gone",
        "kuramori bucket fix RESOURCE --versioning");
  }

  void look_at_lifecycle() {
    const auto answer = ask("lifecycle");
    if (!answer || answer->status == 404 || answer->is("NoSuchLifecycleConfiguration")) return;
    if (!answer->ok()) {
      if (answer->status == 403)
        add(Severity::kHint, "lifecycle", "it cannot be seen what the bucket lets expire", "access is denied",
            "allow s3:GetLifecycleConfiguration to these credentials");
      return;
    }
    const auto rules = parse_lifecycle(answer->http.body);
    if (!rules) {
      add(Severity::kHint, "lifecycle", rules.error().what, rules.error().why, "look at the bucket's rules");
      return;
    }
    const std::string& root = bucket_.root();
    for (const S3LifecycleRule& rule : *rules) {
      const bool is_ours = rule.prefix.starts_with(root) || root.starts_with(rule.prefix);
      if (!rule.enabled || !is_ours) continue;
      if (rule.days) {
        add(Severity::kHint, fmt::format("lifecycle rule \"{}\"", rule.id),
            fmt::format("objects expire after {} days", *rule.days),
            "they are in snapshots as long as those are kept, and in the bucket no longer",
            "keep snapshots longer than what is promised, or change the rule");
      }
      if (!rule.noncurrent_days) continue;
      const Duration kept = std::chrono::hours(24) * *rule.noncurrent_days;
      if (settings_.keep_versions && kept < *settings_.keep_versions) {
        add(Severity::kProblem, fmt::format("lifecycle rule \"{}\"", rule.id),
            fmt::format("older versions go after {} days, {} are promised", *rule.noncurrent_days,
                        format_duration(*settings_.keep_versions)),
            "the promise of keep_versions does not hold",
            fmt::format("kuramori bucket fix RESOURCE --keep-versions {}d",
                        std::chrono::ceil<std::chrono::days>(*settings_.keep_versions).count()));
      } else if (!settings_.keep_versions && *rule.noncurrent_days < kNoncurrentDaysLeast) {
        add(Severity::kRisk, fmt::format("lifecycle rule \"{}\"", rule.id),
            fmt::format("older versions go after {} days", *rule.noncurrent_days),
            "an accident that is noticed later cannot be undone in the bucket",
            "kuramori bucket fix RESOURCE --keep-versions 30d");
      }
    }
  }

  void look_at_public_access() {
    const auto acl = ask("acl");
    if (acl && acl->ok()) {
      const auto everybody = grants_everybody(acl->http.body);
      if (everybody && *everybody)
        add(Severity::kRisk, "access", "the bucket's access control list lets everybody in",
            "who is not you can read or change what is protected here",
            fmt::format("aws s3api put-bucket-acl --bucket {} --acl private", bucket_name()));
    }
    const auto policy = ask("policyStatus");
    if (policy && policy->ok() && as_text(policy->http.body).find(">true<") != std::string_view::npos)
      add(Severity::kRisk, "access", "the bucket's policy makes it public",
          "who is not you can read or change what is protected here",
          fmt::format("aws s3api get-bucket-policy --bucket {}", bucket_name()));
  }

  void look_at_encryption() {
    if (!bucket_.client().at_amazon()) return;  // elsewhere the answer tells nothing of what lies on disks
    const auto answer = ask("encryption");
    if (answer && answer->status == 404)
      add(Severity::kHint, "encryption", "the bucket encrypts nothing unless a put asks for it",
          "there is no default encryption", "set the bucket's default encryption");
  }

  // Asks for the deletion of a version that cannot exist, of a key that does not: nothing can come of it but
  // the answer whether it would be allowed.
  void look_at_rights() {
    Bytes raw(16);
    system_random().fill(raw);
    const std::string name = to_hex(raw);
    const auto answer = bucket_.client().send({.method = "DELETE",
                                               .key = bucket_.root() + "kuramori-doctor-" + name,
                                               .query = {{"versionId", name + name}},
                                               .patience = S3Request::Patience::kNone});
    if (!answer || answer->status == 403 || answer->status == 401) return;
    add(Severity::kHint, "credentials", "these credentials may delete versions for ever",
        "reading is all that a backup needs; who steals them can take the history away",
        "deny s3:DeleteObjectVersion and s3:PutLifecycleConfiguration to them");
  }

  void look_at_clock() {
    const Duration offset = bucket_.client().clock_offset();
    if (offset < kSkewMax && offset > -kSkewMax) return;
    add(Severity::kRisk, "clock",
        fmt::format("this machine's clock and the store's are {} apart",
                    format_duration(std::chrono::abs(offset))),
        "stores refuse requests that seem too old, and times of versions are the store's",
        "timedatectl status");
  }

  const BucketSettings& settings_;
  Bucket& bucket_;
  std::vector<SourceFinding> findings_;
};

}  // namespace

Result<std::vector<SourceFinding>> examine_bucket(const BucketSettings& settings) {
  TRY_ASSIGN(const auto bucket, open_bucket(settings.place, settings.limits));
  return Examination(settings, *bucket).run();
}

}  // namespace kuramori::bucket
