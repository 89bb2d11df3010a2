#include "source/bucket/live.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/text.h"
#include "source/bucket/layout.h"

namespace kuramori::bucket {
namespace {

constexpr int kAbortDays = 7;  // uploads that were begun and not finished
constexpr std::string_view kExpireId = "kuramori-expire:", kVersionsId = "kuramori-versions:";

Result<void> must_keep_versions(Bucket& bucket) {
  TRY_ASSIGN(const Versioning versioning, bucket.versioning());
  if (versioning == Versioning::kOn) return {};
  return fail(ErrorKind::kRefused, fmt::format("{} keeps no versions now", bucket.client().place()),
              "what this replaces would be lost", "kuramori bucket fix RESOURCE --versioning");
}

// Key by key: all its versions, newest first.
Result<void> visit_keys(Bucket& bucket, const std::vector<std::string>& only, const std::stop_token& stop,
                        const std::function<Result<void>(std::vector<S3Listed>&&)>& visit) {
  // One prefix to list below, where one is enough.
  const std::string below = only.size() == 1 ? only.front() : "";
  std::vector<S3Listed> versions;
  TRY(bucket.list(below, true, stop, [&](S3Listed&& entry) -> Result<void> {
    entry.key.erase(0, bucket.root().size());
    if (!is_wanted_key(only, entry.key)) return {};
    if (!versions.empty() && versions.front().key != entry.key) TRY(visit(std::exchange(versions, {})));
    versions.push_back(std::move(entry));
    return {};
  }));
  return versions.empty() ? Result<void>() : visit(std::move(versions));
}

void tell(const LiveRequest& request, const S3Listed& now, std::string what) {
  if (request.tell) request.tell({.key = now.key, .what = std::move(what), .version = now.version});
}

std::string_view word_of(Versioning versioning) {
  return versioning == Versioning::kOn ? "on" : versioning == Versioning::kNever ? "off" : "suspended";
}

Result<std::vector<S3LifecycleRule>> lifecycle_of(Bucket& bucket) {
  TRY_ASSIGN(const S3Answer answer, bucket.client().send({.query = {{"lifecycle", ""}}}));
  if (answer.status == 404) return std::vector<S3LifecycleRule>();
  if (!answer.ok()) return bucket.client().error_of(answer, "read the lifecycle");
  return parse_lifecycle(answer.http.body);
}

std::string rule_xml(const std::string& id, const std::string& root, const std::string& what) {
  return fmt::format("<Rule><ID>{}</ID><Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>{}</Rule>",
                     markup_escaped(id), markup_escaped(root), what);
}

Result<void> put_configuration(Bucket& bucket, const std::string& about, const std::string& body) {
  TRY_ASSIGN(const S3Answer answer, bucket.client().send({.method = "PUT",
                                                          .query = {{about, ""}},
                                                          .headers = {{"Content-Type", "application/xml"}},
                                                          .body = as_bytes(body),
                                                          .content_md5 = md5_of(as_bytes(body))}));
  if (!answer.ok()) return bucket.client().error_of(answer, fmt::format("set the {}", about));
  return {};
}

Error not_so(const std::string& what) {
  return fail(ErrorKind::kBrokenPromise, fmt::format("the store said yes, and {} is not as it was set", what),
              "", "look at the bucket with the store's own tools");
}

}  // namespace

Result<LiveOutcome> undelete(Bucket& bucket, const std::string& what, const LiveRequest& request,
                             const std::stop_token& stop) {
  LiveOutcome outcome;
  bool is_any = false;
  TRY(visit_keys(bucket, {what}, stop, [&](std::vector<S3Listed>&& versions) -> Result<void> {
    is_any = true;
    const auto newest =
        std::ranges::find_if(versions, [](const S3Listed& one) { return !one.delete_marker; });
    if (newest == versions.begin() || newest == versions.end()) {
      ++outcome.as_they_should_be;
      return {};
    }
    // The oldest first: stopped in between, the key is as deleted as it was.
    for (auto marker = newest; marker != versions.begin();) {
      --marker;
      if (!request.only_say) TRY(bucket.remove(bucket.root() + marker->key, marker->version));
    }
    if (!request.only_say) {
      TRY_ASSIGN(const auto now, bucket.head(bucket.root() + newest->key));
      if (!now) return not_so(fmt::format("\"{}\"", newest->key));
    }
    ++outcome.changed;
    tell(request, *newest, "undeleted");
    return {};
  }));
  if (!is_any) {
    return fail(ErrorKind::kNotFound, fmt::format("{} has and had no \"{}\"", bucket.client().place(), what),
                "", "kuramori bucket versions RESOURCE lists what there is");
  }
  return outcome;
}

Result<LiveOutcome> bring_back(Bucket& bucket, const std::string& key, const std::string& version,
                               const LiveRequest& request) {
  TRY(must_keep_versions(bucket));
  TRY_ASSIGN(const auto wanted, bucket.head(bucket.root() + key, version));
  if (!wanted) {
    return fail(ErrorKind::kNotFound, fmt::format("\"{}\" has no version {}", key, version), "",
                fmt::format("kuramori bucket versions RESOURCE '{}'", key));
  }
  TRY_ASSIGN(const auto now, bucket.head(bucket.root() + key));
  if (now && now->version == version) return LiveOutcome{.as_they_should_be = 1};
  if (!request.only_say) {
    TRY(bucket.copy_back(bucket.root() + key, version, wanted->size));
    TRY_ASSIGN(const auto after, bucket.head(bucket.root() + key));
    if (!after || after->size != wanted->size) return not_so(fmt::format("\"{}\"", key));
  }
  tell(request, {.key = key, .version = version}, "brought back");
  return LiveOutcome{.changed = 1};
}

Result<LiveOutcome> set_back(Bucket& bucket, const std::vector<std::string>& only, Time moment,
                             const LiveRequest& request, const std::stop_token& stop) {
  TRY(must_keep_versions(bucket));
  LiveOutcome outcome;
  TRY(visit_keys(bucket, only, stop, [&](std::vector<S3Listed>&& versions) -> Result<void> {
    const S3Listed& now = versions.front();
    const auto then =
        std::ranges::find_if(versions, [&](const S3Listed& one) { return one.modified <= moment; });
    const bool was_there = then != versions.end() && !then->delete_marker;
    const bool is_same =
        was_there ? !now.delete_marker &&
                        (then == versions.begin() || (now.etag == then->etag && now.size == then->size))
                  : now.delete_marker;
    if (is_same) {
      ++outcome.as_they_should_be;
      return {};
    }
    ++outcome.changed;
    tell(request, was_there ? *then : now, was_there ? "brought back" : "deleted");
    if (request.only_say) return {};
    const std::string key = bucket.root() + now.key;
    return was_there ? bucket.copy_back(key, then->version, then->size) : bucket.remove(key);
  }));
  return outcome;
}

Result<void> visit_versions(Bucket& bucket, const std::string& what, const std::stop_token& stop,
                            const std::function<Result<void>(const S3Listed&)>& visit) {
  const std::vector<std::string> only = what.empty() ? std::vector<std::string>() : std::vector{what};
  return visit_keys(bucket, only, stop, [&](std::vector<S3Listed>&& versions) -> Result<void> {
    for (const S3Listed& version : versions) TRY(visit(version));
    return {};
  });
}

Result<FixOutcome> fix_bucket(Bucket& bucket, const FixRequest& request) {
  FixOutcome outcome;
  TRY_ASSIGN(const Versioning before, bucket.versioning());
  outcome.versioning_before = outcome.versioning_after = word_of(before);
  TRY_ASSIGN(outcome.rules_before, lifecycle_of(bucket));
  outcome.rules_after = outcome.rules_before;
  const std::string place = bucket.client().location().bucket;
  if (request.versioning && before != Versioning::kOn) {
    outcome.done.push_back(fmt::format("versioning of {} switched on; it was {}", place, word_of(before)));
    outcome.versioning_after = "on";
    if (!request.only_say) {
      TRY(put_configuration(bucket, "versioning",
                            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                            "<Status>Enabled</Status></VersioningConfiguration>"));
      TRY_ASSIGN(const Versioning after, bucket.versioning());
      if (after != Versioning::kOn) return not_so("versioning");
    }
  }
  if (!request.expire_days && !request.versions_days) return outcome;
  const std::string &root = bucket.root(), below = root.empty() ? "the bucket" : root;
  const std::string expire_id = std::string(kExpireId) + root, versions_id = std::string(kVersionsId) + root;
  std::string body = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
  std::erase_if(outcome.rules_after, [&](const S3LifecycleRule& rule) {
    return (request.expire_days && rule.id == expire_id) || (request.versions_days && rule.id == versions_id);
  });
  for (const S3LifecycleRule& rule : outcome.rules_after) body += rule.xml;
  const auto add = [&](const std::string& id, const std::string& what, std::optional<int> days,
                       std::optional<int> noncurrent) {
    S3LifecycleRule rule{.id = id,
                         .prefix = root,
                         .enabled = true,
                         .days = days,
                         .noncurrent_days = noncurrent,
                         .xml = rule_xml(id, root, what)};
    body += rule.xml;
    outcome.rules_after.push_back(std::move(rule));
  };
  if (request.expire_days) {
    add(expire_id, fmt::format("<Expiration><Days>{}</Days></Expiration>", *request.expire_days),
        request.expire_days, {});
    outcome.done.push_back(fmt::format("objects below {} expire after {} days", below, *request.expire_days));
  }
  if (request.versions_days) {
    add(versions_id,
        fmt::format(
            "<NoncurrentVersionExpiration><NoncurrentDays>{}</NoncurrentDays></NoncurrentVersionExpiration>"
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>{}</DaysAfterInitiation>"
            "</AbortIncompleteMultipartUpload>",
            *request.versions_days, kAbortDays),
        {}, request.versions_days);
    outcome.done.push_back(
        fmt::format("older versions below {} go after {} days, unfinished uploads after {}", below,
                    *request.versions_days, kAbortDays));
  }
  body += "</LifecycleConfiguration>";
  if (request.only_say) return outcome;
  TRY(put_configuration(bucket, "lifecycle", body));
  TRY_ASSIGN(const auto read_back, lifecycle_of(bucket));
  for (const S3LifecycleRule& wanted : outcome.rules_after) {
    const bool is_there = std::ranges::any_of(read_back, [&](const S3LifecycleRule& rule) {
      return rule.id == wanted.id && rule.days == wanted.days &&
             rule.noncurrent_days == wanted.noncurrent_days && rule.enabled == wanted.enabled;
    });
    if (!is_there) return not_so(fmt::format("the rule \"{}\"", wanted.id));
  }
  outcome.rules_after = read_back;
  return outcome;
}

}  // namespace kuramori::bucket
