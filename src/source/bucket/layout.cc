#include "source/bucket/layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "base/time_text.h"
#include "conc/channel.h"
#include "source/bucket/bucket_source.h"
#include "source/bucket/key_path.h"

namespace kuramori::bucket {
namespace {

constexpr size_t kHistoriesAhead = 64;

// What a key is sorted by, whether it is met below objects/ (where it may have moved into a folder of its own
// name) or below versions/ (where it always is one).
std::string place_in_order(std::string_view key) {
  return path_of_key(key) + "/" + std::string(kVersionMark);
}

Error not_a_bucket(std::string_view path) {
  return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is no path of a bucket's snapshot", path), "",
              "kuramori vault scrub");
}

// Puts versions/ together key by key and hands it on, on a thread of its own.
class OlderVersions {
 public:
  OlderVersions(const CapturedTree& tree, const HistoryRequest& request) {
    thread_ = std::jthread([this, &tree, &request] {
      result_ = walk(tree, request);
      queue_.close();
    });
  }
  ~OlderVersions() { queue_.cancel(); }

  // The next one, until taken; null at the end.
  KeyHistory* peek() {
    if (!next_) next_ = queue_.pop();
    return next_ ? &*next_ : nullptr;
  }
  KeyHistory take() {
    KeyHistory taken = std::move(*next_);
    next_.reset();
    return taken;
  }
  // After the end.
  Result<uint64_t> end() {
    thread_.join();
    TRY(std::move(result_));
    return entries_;
  }

 private:
  Result<void> walk(const CapturedTree& tree, const HistoryRequest& request) {
    std::optional<KeyHistory> open;
    std::string folder;
    const auto flush = [&]() -> Result<void> {
      if (open && !queue_.push(std::move(*open)))
        return fail(ErrorKind::kInterrupted, "nobody wants more of it");
      open.reset();
      return {};
    };
    TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
      if (entry.path != kVersions && !entry.path.starts_with("versions/")) return {};
      if (entry.type == EntryType::kDirectory) {
        entries_ += request.only.empty() ? 1 : 0;
        return {};
      }
      const std::string above = entry.path.substr(0, entry.path.rfind('/'));
      if (!open || above != folder) {
        TRY(flush());
        TRY_ASSIGN(std::string key, key_of_entry(entry.path));
        folder = above;
        if (!is_wanted_key(request.only, key)) return {};
        open = KeyHistory{.key = std::move(key)};
      }
      ++entries_;
      open->older.push_back(entry);
      return {};
    }));
    return flush();
  }

  Channel<KeyHistory> queue_{kHistoriesAhead};
  std::optional<KeyHistory> next_;
  Result<void> result_;
  uint64_t entries_ = 0;
  std::jthread thread_;
};

}  // namespace

std::string version_name(const S3Listed& version, size_t nth) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(version.modified);
  std::string when = format_utc(whole);
  if (when.ends_with('Z')) when.pop_back();
  std::string id;
  for (const char c : version.version) id += c == '/' || c == '\0' ? '_' : c;
  return fmt::format("{}{}.{:09}Z-{:04}-{}", kVersionMark, when, (version.modified - whole).count(), nth,
                     id.substr(0, 150));
}

Result<std::string> key_of_entry(std::string_view path, std::string_view root) {
  const std::string_view whole = path;
  const size_t slash = path.find('/');
  const std::string_view folder = path.substr(0, slash);
  if (slash == path.npos || (folder != kObjects && folder != kVersions)) return not_a_bucket(whole);
  path.remove_prefix(slash + 1);
  if (folder == kVersions) {
    const size_t last = path.rfind('/');
    if (last == path.npos || !path.substr(last + 1).starts_with(kVersionMark)) return not_a_bucket(whole);
    path = path.substr(0, last);
  }
  TRY_ASSIGN(const std::string key, key_of_path(path));
  return std::string(root) + key;
}

const TreeEntry* KeyHistory::at(const std::optional<Time>& moment) const {
  if (!moment) return current ? &*current : nullptr;
  const auto was_there = [&](const TreeEntry& entry) { return entry.mtime_ns <= to_unix_ns(*moment); };
  if (current && was_there(*current)) return &*current;
  for (auto entry = older.rbegin(); entry != older.rend(); ++entry) {
    if (was_there(*entry)) return attribute(*entry, kMarkerAttribute).empty() ? &*entry : nullptr;
  }
  return nullptr;
}

bool is_wanted_key(const std::vector<std::string>& only, std::string_view key) {
  return only.empty() || std::ranges::any_of(only, [&](const std::string& one) {
           return key == one || (key.starts_with(one) && (one.ends_with('/') || key[one.size()] == '/'));
         });
}

Result<uint64_t> visit_histories(const CapturedTree& tree, const HistoryRequest& request,
                                 const std::stop_token& stop,
                                 const std::function<Result<void>(KeyHistory&&)>& visit) {
  std::optional<OlderVersions> older;
  if (request.older) older.emplace(tree, request);
  uint64_t entries = 0;
  const auto give = [&](KeyHistory&& history) -> Result<void> {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "it was asked to stop");
    return visit(std::move(history));
  };
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "it was asked to stop");
    if (entry.path == kVersions || entry.path.starts_with("versions/")) return {};
    const bool is_ours = entry.path.empty() || entry.path == kObjects || entry.path.starts_with("objects/");
    if (!is_ours) return not_a_bucket(entry.path);
    if (entry.type == EntryType::kDirectory) {
      entries += request.only.empty() ? 1 : 0;
      return {};
    }
    if (entry.type != EntryType::kFile) return not_a_bucket(entry.path);
    TRY_ASSIGN(std::string key, key_of_entry(entry.path));
    if (!is_wanted_key(request.only, key)) return {};
    ++entries;
    const std::string place = place_in_order(key);
    KeyHistory history{.key = std::move(key)};
    while (older) {
      const KeyHistory* next = older->peek();
      if (next == nullptr) break;
      if (next->key == history.key) {
        history.older = older->take().older;
        break;
      }
      if (!tree_order(place_in_order(next->key), place)) break;
      TRY(give(older->take()));
    }
    history.current = entry;
    return give(std::move(history));
  }));
  if (!older) return entries;
  while (older->peek() != nullptr) TRY(give(older->take()));
  TRY_ASSIGN(const uint64_t more, older->end());
  return entries + more;
}

}  // namespace kuramori::bucket
