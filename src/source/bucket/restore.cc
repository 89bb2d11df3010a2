#include <fmt/core.h>

#include <atomic>

#include "base/time_text.h"
#include "conc/channel.h"
#include "conc/task_group.h"
#include "source/bucket/bucket_source.h"
#include "source/bucket/folder_view.h"
#include "source/bucket/layout.h"
#include "source/files/write_tree.h"

namespace kuramori::bucket {
namespace {

constexpr size_t kWorkers = 8;                       // what counts is the way to the store
constexpr size_t kTransferBytes = size_t{64} << 20;  // in memory, of all of them
constexpr std::string_view kNoVersions =
    "the target keeps no versions: of each object only the newest is there";

Error stopped() {
  return fail(ErrorKind::kInterrupted, "the restore was stopped", "", "run the same again with --delta");
}

// Hands content to an upload.
class UploadSink final : public ContentSink {
 public:
  UploadSink(Upload& upload, Reporter& reporter, const std::stop_token& stop)
      : upload_(upload), reporter_(reporter), stop_(stop) {}
  Result<void> add(ByteView bytes) override {
    if (stop_.stop_requested()) return stopped();
    reporter_.advance(bytes.size());
    return upload_.add(bytes);
  }
  Result<void> add_hole(uint64_t bytes) override {
    static const Bytes kZeros(size_t{64} << 10);
    for (uint64_t left = bytes; left > 0; left -= std::min<uint64_t>(left, kZeros.size()))
      TRY(add(ByteView(kZeros).first(std::min<uint64_t>(left, kZeros.size()))));
    return {};
  }
  Result<void> restart() override { return fail(ErrorKind::kFailed, "a snapshot's content does not change"); }

 private:
  Upload& upload_;
  Reporter& reporter_;
  const std::stop_token& stop_;
};

class BucketRestore {
 public:
  BucketRestore(Bucket& bucket, const CapturedTree& tree, const SourceRestoreRequest& request,
                Reporter& reporter)
      : bucket_(bucket), tree_(tree), request_(request), reporter_(reporter) {}

  Result<SourceRestoreOutcome> run(const std::stop_token& stop) {
    TRY_ASSIGN(const Versioning versioning, bucket_.versioning());
    TRY_ASSIGN(const bool is_empty, bucket_.is_empty());
    const std::string place = bucket_.client().place();
    if (!is_empty && !request_.overwrite && !request_.delta) {
      return fail(ErrorKind::kRefused, fmt::format("{} is not empty", place),
                  "a restore goes into something new unless it is told otherwise",
                  "name another prefix, or add --delta (put only what differs) or --overwrite (put all)");
    }
    // In place the old is kept: in a bucket that is what versions are for.
    if (!is_empty && versioning != Versioning::kOn) {
      return fail(ErrorKind::kRefused, fmt::format("{} keeps no versions", place),
                  "what this restore writes over would be lost",
                  "switch versioning on there first (kuramori bucket fix RESOURCE --versioning), or name an "
                  "empty prefix");
    }
    keeps_history_ = versioning == Versioning::kOn && !request_.at;
    is_empty_ = is_empty;
    reporter_.phase("restoring", 0);
    TaskGroup group(stop);
    for (size_t i = 0; i < kWorkers; ++i) {
      group.start([this](std::stop_token token) {
        auto done = work(token);
        if (!done) queue_.cancel();
        return done;
      });
    }
    const std::stop_token token = group.token();
    Result<uint64_t> walked =
        visit_histories(tree_, {.only = request_.only, .older = keeps_history_ || request_.at}, token,
                        [&](KeyHistory&& history) -> Result<void> {
                          if (!queue_.push(std::move(history))) return stopped();
                          return {};
                        });
    if (!walked) {
      group.request_stop();
      queue_.cancel();
      auto why = group.wait();
      if (!why && why.error().kind != ErrorKind::kInterrupted) return why.error();
      return walked.error();
    }
    queue_.close();
    TRY(group.wait());
    SourceRestoreOutcome outcome{.target = place, .entries = *walked, .bytes = bytes_};
    if (request_.at) outcome.entries = puts_;
    if (!keeps_history_ && !request_.at && has_older()) outcome.notes.emplace_back(kNoVersions);
    if (in_place_ > 0) {
      outcome.notes.push_back(
          fmt::format("{} object(s) were there: of those the newest was compared and put, not the history",
                      in_place_.load()));
    }
    if (request_.delta)
      outcome.notes.push_back(fmt::format("{} object(s) were as they should be", same_.load()));
    return outcome;
  }

 private:
  bool has_older() const {
    const auto told = tree_.facts().find("versions");
    return told != tree_.facts().end() && told->second != "0";
  }

  Result<void> work(const std::stop_token& stop) {
    while (std::optional<KeyHistory> history = queue_.pop()) {
      if (stop.stop_requested()) return stopped();
      if (auto done = restore(*history, stop); !done) return std::move(done.error()).within(history->key);
    }
    return stop.stop_requested() ? Result<void>(stopped()) : Result<void>();
  }

  Result<void> restore(const KeyHistory& history, const std::stop_token& stop) {
    const std::string key = bucket_.root() + history.key;
    TRY_ASSIGN(const bool brings_history, may_bring_history(key, history));
    if (brings_history) {
      bool is_there = false;
      for (const TreeEntry& entry : history.older) {
        if (attribute(entry, kMarkerAttribute).empty()) {
          TRY(put(key, entry, stop));
          is_there = true;
        } else {
          TRY(bucket_.remove(key));
          is_there = false;
        }
      }
      if (!history.current && is_there) TRY(bucket_.remove(key));
    }
    const TreeEntry* now = history.at(request_.at);
    return now == nullptr ? Result<void>() : put(key, *now, stop);
  }

  // Not over what is in use: its readers would meet every older state, and deletions, before the newest.
  Result<bool> may_bring_history(const std::string& key, const KeyHistory& history) {
    if (!keeps_history_ || is_empty_ || history.older.empty()) return keeps_history_;
    TRY_ASSIGN(const auto there, bucket_.head(key));
    if (there) ++in_place_;
    return !there;
  }

  Result<void> put(const std::string& key, const TreeEntry& entry, const std::stop_token& stop) {
    if (request_.delta) {
      TRY_ASSIGN(const auto there, bucket_.head(key));
      const std::string_view etag = attribute(entry, kEtagAttribute);
      if (there && there->size == entry.size && !etag.empty() && there->etag == etag) {
        ++same_;
        return {};
      }
    }
    PutWords words = put_words(entry);
    Upload upload(bucket_, key, {.headers = std::move(words.headers), .tags = std::move(words.tags)},
                  entry.size, 0, budget_);
    UploadSink sink(upload, reporter_, stop);
    TRY(tree_.read(entry.path, sink));
    TRY(upload.finish());
    bytes_ += entry.size;
    ++puts_;
    return {};
  }

  Bucket& bucket_;
  const CapturedTree& tree_;
  const SourceRestoreRequest& request_;
  Reporter& reporter_;
  bool keeps_history_ = false, is_empty_ = false;
  ByteBudget budget_{kTransferBytes};
  Channel<KeyHistory> queue_{kWorkers * 2};
  std::atomic<uint64_t> bytes_ = 0, puts_ = 0, same_ = 0, in_place_ = 0;
};

// Where a restore goes: what the URL leaves out is as with the resource.
Result<Place> target_of(const BucketSettings& settings, const std::string& url) {
  TRY_ASSIGN(S3Location to, parse_s3_location(url));
  const S3Location& own = settings.place.location;
  const bool says_who =
      !to.profile.empty() || !to.access_key_file.empty() || to.from_environment || to.from_instance_role;
  const bool is_same_store = to.endpoint.empty() || to.endpoint == own.endpoint;
  Place place{.location = to};
  if (is_same_store && !own.endpoint.empty()) {
    place.location.endpoint = own.endpoint;
    if (to.region.empty()) place.location.region = own.region;
    if (to.ca_file.empty()) place.location.ca_file = own.ca_file;
    if (to.style == S3Location::Style::kAutomatic) place.location.style = own.style;
  }
  if (is_same_store && !says_who) {
    place.location.profile = own.profile;
    place.location.access_key_file = own.access_key_file;
    place.location.secret_key_file = own.secret_key_file;
    place.location.from_environment = own.from_environment;
    place.location.from_instance_role = own.from_instance_role;
    place.keys = settings.place.keys;
  }
  return place;
}

}  // namespace

Result<SourceRestoreOutcome> restore_bucket(const BucketSettings& settings, const CapturedTree& tree,
                                            const SourceRestoreRequest& request, Reporter& reporter,
                                            const std::stop_token& stop) {
  if (stop.stop_requested()) return stopped();
  if (request.at) {
    const auto lists = tree.facts().find("lists");
    if (lists == tree.facts().end() || lists->second != "versions") {
      return fail(ErrorKind::kRefused, "the snapshot has no versions to choose a moment from",
                  "it was captured without them",
                  "leave --at out, or name another snapshot: RESOURCE@SNAPSHOT");
    }
  }
  if (is_s3_location(request.to)) {
    TRY_ASSIGN(const Place place, target_of(settings, request.to));
    TRY_ASSIGN(const auto bucket, open_bucket(place, settings.limits));
    return BucketRestore(*bucket, tree, request, reporter).run(stop);
  }
  if (!request.to.starts_with('/')) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is neither an absolute path nor a bucket", request.to),
                "", "give a new folder, or s3://bucket/prefix?endpoint=…&region=…");
  }
  const FolderView view(tree, {.only = request.only, .at = request.at}, stop);
  SourceRestoreRequest whole = request;
  whole.only.clear();
  TRY_ASSIGN(SourceRestoreOutcome outcome, files::write_tree(view, whole, {}, reporter, stop));
  if (!request.at) outcome.entries = view.entries();
  if (!request.at && view.files() == 0 && !request.only.empty()) {
    outcome.notes.emplace_back("no key is, or lies below, what --only names");
  }
  return outcome;
}

}  // namespace kuramori::bucket
