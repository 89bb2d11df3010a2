// What acts on buckets themselves: `replicate`, `bucket versions`, `bucket fix`, and `restore` in the bucket.
#include <fmt/core.h>

#include <charconv>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/verbs.h"
#include "engine/local_state.h"
#include "engine/sources.h"
#include "os/file.h"
#include "source/bucket/live.h"
#include "source/bucket/replicate.h"

namespace kuramori {
namespace {

constexpr size_t kChangesShown = 200;  // for people; --json has them all

Result<const ResourceConfig*> bucket_resource(Context& context, const std::string& name) {
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(const ResourceConfig* resource, config->resource(name));
  if (resource->kind == ResourceKind::kBucket) return resource;
  return fail(ErrorKind::kUsage,
              fmt::format("\"{}\" is no bucket: its kind is {}", name, name_of(resource->kind)));
}

Result<std::unique_ptr<bucket::Bucket>> live_bucket(Context& context, const std::string& name) {
  TRY_ASSIGN(const ResourceConfig* resource, bucket_resource(context, name));
  TRY_ASSIGN(const bucket::BucketSettings settings, bucket_settings_of(*resource, context.world()));
  return bucket::open_bucket(settings.place);
}

// "the next" of an error speaks of RESOURCE: here its name is known.
Error with_name(Error error, const std::string& name) {
  constexpr std::string_view kWord = "RESOURCE";
  if (const size_t at = error.next.find(kWord); at != std::string::npos)
    error.next.replace(at, kWord.size(), name);
  return error;
}

Result<int> days_of(const Context& context, const char* option) {
  TRY_ASSIGN(const Period period, parse_period(context.line().value(option)));
  const Time now = context.line().has(option) ? system_clock().now() : Time();
  if (period.endless)
    return fail(ErrorKind::kUsage, fmt::format("--{} forever is no rule", option), "", "leave it out");
  return static_cast<int>(std::chrono::ceil<std::chrono::days>(later(now, period) - now).count());
}

std::string shown(const S3Location& place) {
  return fmt::format("s3://{}{}{}{}", place.bucket, place.prefix.empty() ? "" : "/" + place.prefix,
                     place.endpoint.empty() ? "" : " at ", place.endpoint);
}

std::string without_slash(std::string key) {
  while (key.starts_with("./")) key.erase(0, 2);
  return key;
}

}  // namespace

Result<int> run_bucket_versions(Context& context) {
  const std::string name = context.line().argument(0), key = without_slash(context.line().argument(1));
  TRY_ASSIGN(const auto live, live_bucket(context, name));
  Table table({{"key"}, {"version"}, {"time"}, {"size", Table::Align::kRight}, {"is"}});
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/bucket/1").key("bucket").begin_object();
  json.field("resource", name).field("place", live->client().place()).key("versions").begin_array();
  TRY(bucket::visit_versions(*live, key, context.stop(), [&](const S3Listed& one) -> Result<void> {
    const std::string_view is = one.delete_marker ? "deleted" : one.latest ? "newest" : "older";
    if (context.console().json()) {
      json.begin_object().field("key", one.key).field("version", one.version);
      json.field("time", format_utc(one.modified)).field("size_bytes", one.size);
      json.field("etag", one.etag)
          .field("newest", one.latest)
          .field("delete_marker", one.delete_marker)
          .end_object();
    } else {
      table.add({one.key, one.version, format_local(one.modified),
                 one.delete_marker ? "" : format_size(one.size), std::string(is)});
    }
    return {};
  }));
  json.end_array().end_object().end_object();
  if (context.console().json())
    context.console().print_document(json);
  else
    context.console().print(table.text());
  return 0;
}

Result<int> run_bucket_fix(Context& context) {
  const Invocation& line = context.line();
  const std::string name = line.argument(0);
  bucket::FixRequest request{.versioning = line.has("versioning"), .only_say = line.has("dry-run")};
  if (line.has("lifecycle")) {
    TRY_ASSIGN(request.expire_days, days_of(context, "lifecycle"));
  }
  if (line.has("keep-versions")) {
    TRY_ASSIGN(request.versions_days, days_of(context, "keep-versions"));
  }
  if (!request.versioning && !request.expire_days && !request.versions_days)
    return fail(ErrorKind::kUsage, "nothing is to be done", "",
                "add --versioning, --keep-versions 30d or --lifecycle 90d");
  TRY_ASSIGN(const auto live, live_bucket(context, name));
  if (!request.only_say && (request.expire_days || request.versions_days)) {
    bucket::FixRequest look = request;
    look.only_say = true;
    auto would = bucket::fix_bucket(*live, look);
    if (!would) return with_name(std::move(would).error(), name);
    PlannedAct planned{.act = "bucket-fix", .lines = {"in " + live->client().place()}};
    planned.lines.insert(planned.lines.end(), would->done.begin(), would->done.end());
    if (!would->done.empty()) TRY(change_must_be_approved(context, name, planned));
  }
  auto outcome = bucket::fix_bucket(*live, request);
  if (!outcome) return with_name(std::move(outcome).error(), name);
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/bucket/1").key("bucket").begin_object();
    json.field("resource", name).field("place", live->client().place()).field("dry_run", request.only_say);
    json.field("versioning", outcome->versioning_after).key("done").begin_array();
    for (const std::string& one : outcome->done) json.value(one);
    json.end_array().key("lifecycle").begin_array();
    for (const S3LifecycleRule& rule : outcome->rules_after) {
      json.begin_object().field("id", rule.id).field("prefix", rule.prefix).field("enabled", rule.enabled);
      json.key("days");
      rule.days ? json.value(*rule.days) : json.null();
      json.key("noncurrent_days");
      rule.noncurrent_days ? json.value(*rule.noncurrent_days) : json.null();
      json.end_object();
    }
    json.end_array().end_object().end_object();
    context.console().print_document(json);
    return 0;
  }
  std::string out;
  for (const std::string& one : outcome->done)
    out += fmt::format("{}{}\n", request.only_say ? "would be: " : "", one);
  if (outcome->done.empty()) out = "it is as it should be\n";
  context.console().print(out);
  return 0;
}

Result<int> run_restore_in_bucket(Context& context) {
  const Invocation& line = context.line();
  const std::string name = line.argument(0);
  const std::vector<std::string> only = line.values("only");
  const bool replaces = !line.has("undelete");
  bucket::LiveRequest request{.only_say = line.has("estimate")};
  for (const char* other : {"to", "delta", "lsn", "xid", "name", "latest", "start", "standby", "continue"}) {
    if (line.has(other))
      return fail(ErrorKind::kUsage, fmt::format("--{} has no meaning in the bucket itself", other), "",
                  "leave it out, or restore a snapshot: kuramori restore RESOURCE --to …");
  }
  if (replaces && !line.has("overwrite") && !request.only_say) {
    return fail(ErrorKind::kRefused, "this changes what stands in the bucket now",
                "what stands there stays as an older version",
                "add --overwrite; --estimate only says what it would do");
  }
  TRY_ASSIGN(const auto live, live_bucket(context, name));
  std::optional<Time> moment_back;
  if (line.has("at")) {
    TRY_ASSIGN(const Moment moment, parse_moment(line.value("at")));
    moment_back = moment.time;
  }
  if (replaces && !request.only_say && (line.has("version") || moment_back)) {
    PlannedAct planned{.act = "restore-in-place", .lines = {}};
    planned.lines.push_back(
        line.has("version")
            ? fmt::format("bring version {} back in {}", line.value("version"), live->client().place())
            : fmt::format("set {} back to {}", live->client().place(), format_utc(*moment_back)));
    for (const std::string& one : only) planned.lines.push_back("only " + one);
    TRY(change_must_be_approved(context, name, planned));
  }
  std::vector<bucket::LiveChange> changes;
  request.tell = [&](const bucket::LiveChange& change) { changes.push_back(change); };
  auto outcome = [&]() -> Result<bucket::LiveOutcome> {
    if (line.has("undelete"))
      return bucket::undelete(*live, without_slash(line.value("undelete")), request, context.stop());
    if (line.has("version")) {
      if (only.size() != 1)
        return fail(ErrorKind::kUsage, "--version is of one key", "", "name it: --only KEY --version ID");
      return bucket::bring_back(*live, without_slash(only.front()), line.value("version"), request);
    }
    if (!moment_back)
      return fail(ErrorKind::kUsage, "--in-bucket sets the bucket back to a moment", "",
                  "name it: --at TIME");
    return bucket::set_back(*live, only, *moment_back, request, context.stop());
  }();
  if (!outcome) return with_name(std::move(outcome).error(), name);
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/bucket/1").key("bucket").begin_object();
    json.field("resource", name).field("place", live->client().place()).field("dry_run", request.only_say);
    json.field("changed", outcome->changed).field("as_they_should_be", outcome->as_they_should_be);
    json.key("changes").begin_array();
    for (const bucket::LiveChange& change : changes)
      json.begin_object()
          .field("key", change.key)
          .field("what", change.what)
          .field("version", change.version)
          .end_object();
    json.end_array().end_object().end_object();
    context.console().print_document(json);
    return 0;
  }
  std::string out;
  for (size_t i = 0; i < std::min(changes.size(), kChangesShown); ++i)
    out += fmt::format("{}{}: {}\n", request.only_say ? "would be " : "", changes[i].what, changes[i].key);
  if (changes.size() > kChangesShown) out += fmt::format("and {} more\n", changes.size() - kChangesShown);
  out += fmt::format("{} key(s) {}changed, {} as they should be\n", outcome->changed,
                     request.only_say ? "would be " : "", outcome->as_they_should_be);
  context.console().print(out);
  return 0;
}

Result<int> run_replicate_bucket(Context& context) {
  const Invocation& line = context.line();
  const std::string name = line.argument(0);
  TRY_ASSIGN(const ResourceConfig* resource, bucket_resource(context, name));
  TRY_ASSIGN(bucket::ReplicateSettings settings, replicate_settings_of(*resource, context.world()));
  const bool once = line.has("once");
  if (line.has("allow-deletes")) {
    const std::string text = line.value("allow-deletes");
    uint64_t count = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (!once || error != std::errc{} || end != text.data() + text.size())
      return fail(ErrorKind::kUsage, "--allow-deletes is a number, of one pass", "",
                  "--once --allow-deletes 5000");
    settings.delete_once = count;
    TRY(change_must_be_approved(
        context, name,
        {.act = "replicate-deletes",
         .lines = {fmt::format("delete up to {} in {} in one pass, as {} has them no longer", count,
                               shown(settings.to.location), shown(settings.from.location))}}));
  }
  const std::string folder = join_path(state_folder(), "replication");
  TRY(make_folders(folder, 0700));
  settings.state_file = join_path(folder, name + ".json");

  Console& console = context.console();
  std::string told_held, told_trouble;
  const auto tell = [&](const bucket::ReplicateStatus& status) {
    if (console.json()) {
      JsonWriter json;
      json.begin_object()
          .field("schema", "kuramori/replication/1")
          .field("resource", name)
          .key("replication");
      bucket::write_status(json, status);
      json.end_object();
      return console.print_document(json);
    }
    if (!status.why_held.empty() && status.why_held != told_held)
      console.warning(
          fmt::format("{} deletion(s) are not followed: {}", status.held_deletes, status.why_held));
    if (!status.trouble.empty() && status.trouble != told_trouble) console.warning(status.trouble);
    told_held = status.why_held;
    told_trouble = status.trouble;
    const std::string text =
        fmt::format("lag {:.1f} s, {} waiting, {} copied ({}), {} deleted", status.lag_seconds,
                    status.waiting, status.copied, format_size(status.bytes), status.deleted);
    if (console.options().terminal)
      console.show_progress(text);
    else if (!once || status.passes > 0)
      console.print(text + "\n");
  };
  TRY_ASSIGN(const bucket::ReplicateStatus status, bucket::replicate(settings, once, tell, context.stop()));
  if (!console.json() && console.options().terminal)
    console.print(fmt::format("{}: lag {:.1f} s, {} copied ({}), {} deleted\n", name, status.lag_seconds,
                              status.copied, format_size(status.bytes), status.deleted));
  if (status.held_deletes > 0) return exit_code(ErrorKind::kRefused);
  return status.unreadable > 0 ? exit_code(ErrorKind::kPartial) : 0;
}

}  // namespace kuramori
