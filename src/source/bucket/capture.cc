#include <fmt/core.h>

#include <atomic>
#include <deque>
#include <set>

#include "base/time_text.h"
#include "crypto/digest.h"
#include "source/bucket/bucket_source.h"
#include "source/bucket/key_path.h"
#include "source/bucket/layout.h"
#include "source/bucket/spool.h"

namespace kuramori::bucket {
namespace {

constexpr uint32_t kFileMode = 0644, kFolderMode = 0755;

// The same number as long as the object is: what the store calls it, and when it was put.
uint64_t identity_of(const S3Listed& object) {
  const Digest digest =
      sha256(as_bytes(fmt::format("{}\n{}\n{}\n{}\n{}", object.version, object.etag, object.size,
                                  to_unix_ns(object.modified), object.storage_class)));
  return load_le<uint64_t>(digest.raw.data());
}

class BucketCapture final : public TreeCapture {
 public:
  BucketCapture(const BucketSettings& settings, std::unique_ptr<Bucket> bucket, Reporter& reporter,
                std::stop_token stop)
      : settings_(settings), bucket_(std::move(bucket)), reporter_(reporter), stop_(std::move(stop)) {}

  Result<std::optional<CaptureItem>> next() override {
    if (stop_.stop_requested()) return interrupted();
    if (!listed_) {
      TRY(list());
      listed_ = true;
      for (const std::string_view folder : {std::string_view(), kObjects}) add_folder(std::string(folder));
    }
    if (ready_.empty()) TRY(prepare());
    if (ready_.empty()) return std::optional<CaptureItem>();
    CaptureItem item = std::move(ready_.front());
    ready_.pop_front();
    return std::optional(std::move(item));
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (stop_.stop_requested()) return interrupted();
    if (!attribute(item.entry, kMarkerAttribute).empty()) return {};
    auto done = read_object(item, sink);
    // The counts are of what is in the snapshot.
    if (!done) {
      --(is_version(item.entry.path) ? versions_ : objects_);
      bytes_ -= item.entry.size;
    }
    return done;
  }

  Result<void> finish() override {
    if (stop_.stop_requested()) return interrupted();
    return {};
  }

  std::vector<Defect> defects() const override {
    std::vector<Defect> all;
    if (untagged_ > 0) {
      all.push_back(
          {"", fmt::format("the tags of {} object(s) could not be read: the store's policy for these "
                           "credentials does not allow it (s3:GetObjectTagging, "
                           "s3:GetObjectVersionTagging)",
                           untagged_.load())});
    }
    if (!why_no_versions_.empty()) all.push_back({std::string(kVersions), why_no_versions_});
    return all;
  }
  std::map<std::string, std::string> facts() const override {
    return {{"objects", std::to_string(objects_)},
            {"versions", std::to_string(versions_)},
            {"delete_markers", std::to_string(markers_)},
            {"bytes", std::to_string(bytes_)},
            {"requests", std::to_string(bucket_->client().requests())},
            {"lists", all_versions_ ? "versions" : "current"}};
  }

 private:
  static Error interrupted() { return fail(ErrorKind::kInterrupted, "the capture was stopped"); }
  static bool is_version(std::string_view path) { return path.starts_with("versions/"); }

  // --- the list, in tree order ---
  Result<void> list() {
    reporter_.phase("listing", 0);
    all_versions_ = settings_.versions != Versions::kCurrent;
    Result<void> listed = list_once();
    if (!listed && all_versions_ && settings_.versions == Versions::kWhereKept && !was_any_ &&
        (listed.error().kind == ErrorKind::kDenied || listed.error().kind == ErrorKind::kRefused)) {
      why_no_versions_ = fmt::format("older versions are not in it: {}", listed.error().why);
      reporter_.note("versions cannot be listed: only what stands in the bucket now is captured");
      all_versions_ = false;
      listed = list_once();
    }
    TRY(std::move(listed));
    return spool_.end();
  }

  Result<void> list_once() {
    std::vector<S3Listed> same;  // versions of one key and one time, newest first
    const auto flush = [&]() -> Result<void> {
      // What was put in the same tick is told apart by its place in the list, counted from the oldest, so
      // that what comes later does not rename what was there.
      for (size_t i = 0; i < same.size(); ++i) {
        const std::string key = same[i].key.substr(bucket_->root().size());
        if (key.empty()) continue;  // the prefix itself, as consoles make it
        std::string path = path_of_key(key);
        if (same[i].latest && !same[i].delete_marker)
          path = fmt::format("{}/{}", kObjects, path);
        else
          path = fmt::format("{}/{}/{}", kVersions, path, version_name(same[i], same.size() - 1 - i));
        TRY(spool_.add({.path = std::move(path), .object = std::move(same[i])}));
      }
      same.clear();
      return {};
    };
    TRY(bucket_->list("", all_versions_, stop_, [&](S3Listed&& object) -> Result<void> {
      was_any_ = true;
      if (!same.empty() && (same.front().key != object.key || same.front().modified != object.modified))
        TRY(flush());
      same.push_back(std::move(object));
      return {};
    }));
    return flush();
  }

  // The next object in tree order. One whose key is also the folder of others moves into that folder, and
  // waits there for its place among them.
  Result<std::optional<Listed>> next_listed() {
    for (;;) {
      if (!peeked_) {
        TRY_ASSIGN(peeked_, spool_.next());
      }
      const bool held_first = !held_.empty() && (!peeked_ || tree_order(held_.back().path, peeked_->path));
      if (held_first) {
        Listed held = std::move(held_.back());
        held_.pop_back();
        return std::optional(std::move(held));
      }
      if (!peeked_) return std::optional<Listed>();
      Listed record = std::move(*peeked_);
      TRY_ASSIGN(peeked_, spool_.next());
      if (!peeked_ || !peeked_->path.starts_with(record.path + "/")) return std::optional(std::move(record));
      record.path += "/" + std::string(kSelf);
      held_.push_back(std::move(record));
    }
  }

  Result<void> prepare() {
    TRY_ASSIGN(std::optional<Listed> record, next_listed());
    if (!record) return {};
    const S3Listed& object = record->object;
    for (size_t slash = record->path.find('/'); slash != std::string::npos;
         slash = record->path.find('/', slash + 1)) {
      const std::string folder = record->path.substr(0, slash);
      if (last_path_ == folder || last_path_.starts_with(folder + "/")) continue;
      add_folder(folder);
    }
    last_path_ = record->path;
    CaptureItem item{.entry = {.path = record->path,
                               .type = EntryType::kFile,
                               .content = ContentKind::kBytes,
                               .mode = kFileMode,
                               .mtime_ns = to_unix_ns(object.modified),
                               .size = object.size},
                     .inode = identity_of(object),
                     .ctime_ns = 1};  // the identity says all
    if (object.delete_marker) {
      item.entry.attributes = {{std::string(kMarkerAttribute), "1"},
                               {std::string(kVersionAttribute), object.version}};
      ++markers_;
    } else {
      // What reading needs: the version, and what was listed of it.
      item.entry.attributes = {{std::string(kEtagAttribute), object.etag},
                               {std::string(kVersionAttribute), object.version}};
      ++(is_version(record->path) ? versions_ : objects_);
      bytes_ += object.size;
    }
    ready_.push_back(std::move(item));
    return {};
  }

  void add_folder(std::string path) {
    last_path_ = path;
    ready_.push_back({.entry = {.path = std::move(path), .type = EntryType::kDirectory, .mode = kFolderMode},
                      .inode = 1,
                      .ctime_ns = 1});
  }

  // --- content ---
  Result<void> read_object(CaptureItem& item, ContentSink& sink) {
    TRY_ASSIGN(const std::string key, key_of_entry(item.entry.path, bucket_->root()));
    const std::string listed_etag(attribute(item.entry, kEtagAttribute));
    const std::string version(attribute(item.entry, kVersionAttribute));
    // "null" is a version like any other where there are some, and nothing to ask for where there are none:
    // there it can be overwritten.
    TRY_ASSIGN(const ObjectFacts facts,
               bucket_->read(key, version, item.entry.size,
                             {.begin = [](const ObjectFacts&) { return Result<void>(); },
                              .add = [&](ByteView bytes) { return sink.add(bytes); },
                              .restart = [&] { return sink.restart(); }},
                             stop_));
    S3Tags tags;
    if (facts.tag_count > 0) {
      auto told = bucket_->tags(key, facts.version.empty() ? version : facts.version);
      if (told)
        tags = std::move(*told);
      else if (told.error().kind == ErrorKind::kPartial)
        ++untagged_;
      else
        return told.error();
    }
    bytes_ += facts.size - item.entry.size;
    item.entry.size = facts.size;
    const bool is_listed = facts.etag == listed_etag;
    if (!is_listed) {
      // A newer one took its place since the list: next time it is looked at again.
      item.ctime_ns = 0;
      if (facts.modified) item.entry.mtime_ns = to_unix_ns(*facts.modified);
    }
    item.entry.attributes = attributes_of(facts, tags);
    return {};
  }

  const BucketSettings settings_;
  const std::unique_ptr<Bucket> bucket_;
  Reporter& reporter_;
  const std::stop_token stop_;
  bool listed_ = false, all_versions_ = false, was_any_ = false;
  std::string why_no_versions_;
  Spool spool_;
  std::optional<Listed> peeked_;
  std::vector<Listed> held_;  // innermost last, which is the first in order
  std::deque<CaptureItem> ready_;
  std::string last_path_;
  std::atomic<uint64_t> objects_ = 0, versions_ = 0, markers_ = 0, bytes_ = 0, untagged_ = 0;
};

}  // namespace

Result<std::unique_ptr<TreeCapture>> begin_capture(const BucketSettings& settings, Reporter& reporter,
                                                   std::stop_token stop) {
  TRY_ASSIGN(std::unique_ptr<Bucket> bucket, open_bucket(settings.place, settings.limits));
  return std::make_unique<BucketCapture>(settings, std::move(bucket), reporter, std::move(stop));
}

}  // namespace kuramori::bucket
