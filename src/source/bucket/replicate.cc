#include "source/bucket/replicate.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <set>
#include <thread>
#include <unordered_set>

#include "base/time_text.h"
#include "conc/channel.h"
#include "conc/guarded.h"
#include "conc/task_group.h"
#include "os/file.h"

namespace kuramori::bucket {
namespace {

constexpr size_t kTransferBytes = size_t{56} << 20;  // in memory, of all workers
constexpr size_t kJobsAhead = 64;
constexpr size_t kDeletesKept = 100'000;  // of one pass; what is more comes with the next
constexpr size_t kKnownMax = 500'000;     // copies that were looked at: 8 MB or so
constexpr Duration kBudgetWindow = std::chrono::hours(24);
constexpr Duration kLookLate = std::chrono::seconds(3);
constexpr Duration kPauseMost = std::chrono::seconds(10);  // after a pass that failed
// Sizes of parts that programs use, where the store does not tell.
constexpr uint64_t kUsualParts[] = {8u << 20, 5u << 20, 16u << 20, 15u << 20, 10u << 20, 32u << 20};

Error stopped() {
  return fail(ErrorKind::kInterrupted, "the replication was stopped", "", "start it again: it goes on");
}

std::string version_of(const std::string& version) {
  return version.empty() || version == "null" ? "-" : version;
}
std::string origin_of(const S3Listed& original) {
  return fmt::format("{} {} {}", version_of(original.version), original.etag,
                     std::chrono::floor<std::chrono::seconds>(original.modified).time_since_epoch().count());
}

// All versions of one key, newest first; of a list without versions one.
using Group = std::vector<S3Listed>;

// A list, key by key. Keys are without the root.
class Groups {
 public:
  Groups(Bucket& bucket, bool versions) : root_(bucket.root().size()), walk_(bucket, "", versions) {}
  // Null at the end.
  Result<const Group*> next(const std::stop_token& stop) {
    group_.clear();
    for (;;) {
      if (!ahead_ && !ended_) {
        TRY_ASSIGN(const S3Listed* entry, walk_.next(stop));
        ended_ = entry == nullptr;
        if (entry != nullptr) {
          ahead_ = *entry;
          ahead_->key.erase(0, root_);
          if (ahead_->key.empty()) ahead_.reset();  // the prefix itself
        }
        if (!ended_ && !ahead_) continue;
      }
      if (!ahead_ || (!group_.empty() && group_.front().key != ahead_->key)) break;
      group_.push_back(std::move(*ahead_));
      ahead_.reset();
    }
    return group_.empty() ? nullptr : &group_;
  }

 private:
  const size_t root_;
  Bucket::Walk walk_;
  Group group_;
  std::optional<S3Listed> ahead_;
  bool ended_ = false;
};

bool is_there(const Group* group) {
  return group != nullptr && !group->empty() && !group->front().delete_marker;
}

class Replication {
 public:
  Replication(const ReplicateSettings& settings, std::unique_ptr<Bucket> from, std::unique_ptr<Bucket> to)
      : settings_(settings), from_(std::move(from)), to_(std::move(to)) {}

  Result<ReplicateStatus> run(bool once, const std::function<void(const ReplicateStatus&)>& tell,
                              const std::stop_token& stop) {
    read_deletions();
    std::jthread teller([&](const std::stop_token& ended) {
      std::mutex mutex;
      std::condition_variable_any wake;
      std::unique_lock hold(mutex);
      while (!ended.stop_requested()) {
        wake.wait_for(hold, ended, settings_.tell_every, [] { return false; });
        if (!ended.stop_requested()) say(tell);
      }
    });
    Result<void> outcome = loop(once, stop);
    teller.request_stop();
    teller.join();
    say(tell);
    if (!outcome) return outcome.error();
    return status();
  }

 private:
  struct Shared {
    ReplicateStatus status;
    std::multiset<int64_t> missing;  // times of what is on its way or waits for it
    std::optional<int64_t> stuck;    // the oldest that could not be read
    bool failing = false;
    Duration pass_took{};  // the last whole one
  };

  Result<void> loop(bool once, const std::stop_token& stop) {
    Duration pause = settings_.every;
    for (;;) {
      const Result<void> passed = pass(stop);
      if (stop.stop_requested()) return once ? Result<void>(stopped()) : Result<void>();
      if (!passed) {
        if (once || passed.error().kind == ErrorKind::kUsage) return passed;
        shared_.with([&](Shared& shared) {
          shared.failing = true;
          shared.status.trouble = fmt::format("{}: {}", passed.error().what, passed.error().why);
        });
        pause = std::min(kPauseMost, pause * 2);
      } else {
        if (once) return {};
        pause = settings_.every;
      }
      std::mutex mutex;
      std::condition_variable_any wake;
      std::unique_lock hold(mutex);
      wake.wait_for(hold, stop, pause, [] { return false; });
      if (stop.stop_requested()) return {};
    }
  }

  // --- what is told ---
  ReplicateStatus status() {
    return shared_.with([&](Shared& shared) {
      ReplicateStatus now = shared.status;
      now.waiting = shared.missing.size();
      now.requests = from_->client().requests() + to_->client().requests();
      const int64_t clock = to_unix_ns(from_->client().server_now());
      std::optional<int64_t> since;
      if (!shared.missing.empty()) since = *shared.missing.begin();
      if (shared.stuck) since = std::min(since.value_or(*shared.stuck), *shared.stuck);
      // A pass that takes much longer than the last one may see nothing of what is put meanwhile: the store
      // it waits for is away.
      const auto looked_at = now.in_sync_at ? to_unix_ns(*now.in_sync_at) : clock;
      const Duration expected = settings_.every + 2 * shared.pass_took + kLookLate;
      if (now.in_sync_at && (shared.failing || Duration(clock - looked_at) > expected))
        since = std::min(since.value_or(to_unix_ns(*now.in_sync_at)), to_unix_ns(*now.in_sync_at));
      if (since) now.lag_seconds = std::max(0.0, static_cast<double>(clock - *since) / 1e9);
      return now;
    });
  }

  void say(const std::function<void(const ReplicateStatus&)>& tell) {
    const ReplicateStatus now = status();
    if (!settings_.state_file.empty()) {
      JsonWriter json;
      json.begin_object().field("schema", "kuramori/replication/1").key("replication");
      write_status(json, now);
      json.end_object();
      (void)write_file_durably(settings_.state_file, as_bytes(json.take()));
    }
    if (tell) tell(now);
  }

  // --- one pass ---
  Result<void> pass(const std::stop_token& stop) {
    TRY_ASSIGN(const Versioning from_keeps, from_->versioning());
    TRY_ASSIGN(const Versioning to_keeps, to_->versioning());
    const Time begun = from_->client().server_now();
    const Duration started = system_clock().steady();
    history_ = from_keeps != Versioning::kNever && to_keeps == Versioning::kOn;
    shared_.with([](Shared& shared) {
      shared.missing.clear();
      shared.stuck.reset();
      shared.status.unreadable = 0;
    });
    unreadable_why_.clear();
    deletes_.clear();
    more_deletes_ = 0;
    Channel<std::pair<Group, Group>> queue(kJobsAhead);
    TaskGroup group(stop);
    for (unsigned i = 0; i < settings_.workers; ++i) {
      group.start([&](std::stop_token token) {
        auto done = work(queue, token);
        if (!done) queue.cancel();
        return done;
      });
    }
    uint64_t objects = 0, target_objects = 0;
    Result<void> walked = compare(queue, group.token(), objects, target_objects);
    if (!walked) {
      group.request_stop();
      queue.cancel();
      const auto why = group.wait();
      if (!why && why.error().kind != ErrorKind::kInterrupted) return why;
      return walked;
    }
    queue.close();
    TRY(group.wait());
    TRY(follow_deletions(objects, target_objects, stop));
    shared_.with([&](Shared& shared) {
      shared.failing = false;
      shared.pass_took = system_clock().steady() - started;
      shared.status.objects = objects;
      shared.status.target_objects = target_objects;
      ++shared.status.passes;
      shared.status.trouble = unreadable_why_;
      if (!shared.stuck) shared.status.in_sync_at = begun;
    });
    return {};
  }

  Result<void> compare(Channel<std::pair<Group, Group>>& queue, const std::stop_token& stop,
                       uint64_t& objects, uint64_t& target_objects) {
    Groups here(*from_, history_), there(*to_, history_);
    TRY_ASSIGN(const Group* source, here.next(stop));
    TRY_ASSIGN(const Group* target, there.next(stop));
    while (source != nullptr || target != nullptr) {
      if (stop.stop_requested()) return stopped();
      const int order = source == nullptr   ? 1
                        : target == nullptr ? -1
                                            : source->front().key.compare(target->front().key);
      const Group* s = order <= 0 ? source : nullptr;
      const Group* t = order >= 0 ? target : nullptr;
      objects += is_there(s) ? 1 : 0;
      target_objects += is_there(t) ? 1 : 0;
      if (is_there(s)) {
        TRY_ASSIGN(const bool same, is_same(*s, t));
        if (!same) TRY(send(queue, *s, t));
      } else if (is_there(t)) {
        if (deletes_.size() < kDeletesKept)
          deletes_.push_back(t->front().key);
        else
          ++more_deletes_;
      }
      if (order <= 0) {
        TRY_ASSIGN(source, here.next(stop));
      }
      if (order >= 0) {
        TRY_ASSIGN(target, there.next(stop));
      }
    }
    return {};
  }

  Result<void> send(Channel<std::pair<Group, Group>>& queue, const Group& source, const Group* target) {
    shared_.with([&](Shared& shared) { shared.missing.insert(to_unix_ns(source.front().modified)); });
    if (!queue.push({source, target == nullptr ? Group() : *target})) return stopped();
    return {};
  }

  // Whether the newest at the source is the newest at the target. Asks only where lists mislead.
  Result<bool> is_same(const Group& source, const Group* target) {
    if (!is_there(target)) return false;
    const S3Listed &original = source.front(), &copy = target->front();
    if (original.size != copy.size) return false;
    const bool was_before = std::any_of(source.begin() + 1, source.end(), [&](const S3Listed& older) {
      return older.etag == original.etag;  // the copy may be of that one
    });
    if (original.etag == copy.etag && !was_before) return true;
    const size_t known = std::hash<std::string>()(fmt::format(
        "{}\n{}\n{}\n{}", original.key, origin_of(original), copy.etag, version_of(copy.version)));
    if (known_.contains(known)) return true;
    TRY_ASSIGN(const auto found, to_->head(to_->root() + copy.key));
    if (!found || found->origin != origin_of(original)) return false;
    if (known_.size() >= kKnownMax) known_.clear();
    known_.insert(known);
    return true;
  }

  // --- copying ---
  Result<void> work(Channel<std::pair<Group, Group>>& queue, const std::stop_token& stop) {
    while (auto job = queue.pop()) {
      if (stop.stop_requested()) return stopped();
      const auto& [source, target] = *job;
      auto done = bring_up_to_date(source, target, stop);
      const int64_t time = to_unix_ns(source.front().modified);
      if (!done && done.error().kind != ErrorKind::kPartial)
        return std::move(done.error()).within(source.front().key);
      shared_.with([&](Shared& shared) {
        shared.missing.erase(shared.missing.find(time));
        if (done) return;
        ++shared.status.unreadable;
        shared.stuck = std::min(shared.stuck.value_or(time), time);
        if (unreadable_why_.empty())
          unreadable_why_ = fmt::format("{}: {}", done.error().what, done.error().why);
      });
    }
    return stop.stop_requested() ? Result<void>(stopped()) : Result<void>();
  }

  Result<void> bring_up_to_date(const Group& source, const Group& target, const std::stop_token& stop) {
    // Newest first in the list; put oldest first, so that both histories have one order.
    size_t count = 1;
    if (history_) {
      TRY_ASSIGN(count, missing_versions(source, target));
    }
    for (size_t i = count; i-- > 0;) {
      const S3Listed& original = source[i];
      if (original.delete_marker) {
        // Not the last word: something newer follows. In front of nothing it would be noise.
        const bool is_hidden = i + 1 == count && !is_there(&target);
        if (!is_hidden) TRY(to_->remove(to_->root() + original.key));
        continue;
      }
      TRY(copy(original, stop));
    }
    return {};
  }

  // How many of the newest versions are not at the target, by what its newest copy says it is of.
  Result<size_t> missing_versions(const Group& source, const Group& target) {
    const auto newest = std::ranges::find_if(target, [](const S3Listed& one) { return !one.delete_marker; });
    if (newest == target.end()) return source.size();
    // Where only one version can be meant, lists tell it.
    const auto may_be = [&](const S3Listed& one) {
      return !one.delete_marker && one.etag == newest->etag && one.size == newest->size;
    };
    if (std::ranges::count_if(source, may_be) == 1) {
      const auto original = std::ranges::find_if(source, may_be);
      return std::max<size_t>(static_cast<size_t>(original - source.begin()), 1);
    }
    TRY_ASSIGN(const auto found, to_->head(to_->root() + newest->key, newest->version));
    if (!found || found->origin.empty()) return size_t{1};
    for (size_t i = 0; i < source.size(); ++i) {
      if (!source[i].delete_marker && origin_of(source[i]) == found->origin) return std::max<size_t>(i, 1);
    }
    return size_t{1};
  }

  // The size of the original's parts, so that the copy's ETag is the same. 0: as fits.
  size_t parts_of(const S3Listed& original) {
    const size_t dash = original.etag.rfind('-');
    if (dash == std::string::npos) return 0;
    uint64_t count = 0;
    (void)std::from_chars(original.etag.data() + dash + 1, original.etag.data() + original.etag.size(),
                          count);
    if (count == 0 || original.size == 0) return 0;
    const auto fits = [&](uint64_t bytes) {
      return bytes > 0 && bytes <= kPartBytesKept && (original.size + bytes - 1) / bytes == count;
    };
    if (count == 1) return fits(original.size) ? original.size : 0;
    const auto told = from_->part_bytes(from_->root() + original.key, original.version);
    if (told && fits(*told)) return *told;
    for (const uint64_t usual : kUsualParts)
      if (fits(usual)) return usual;
    return 0;
  }

  Result<void> copy(const S3Listed& original, const std::stop_token& stop) {
    const std::string key = from_->root() + original.key;
    const size_t part_bytes = parts_of(original);
    std::optional<Upload> upload;
    const auto begin = [&](const ObjectFacts& facts) -> Result<void> {
      S3Listed read = original;  // what is read may be newer than what was listed
      if (facts.etag != original.etag) {
        read.etag = facts.etag;
        if (facts.modified) read.modified = *facts.modified;
      }
      Upload::Words words{.headers = facts.headers, .tags = {}};
      words.headers.push_back({std::string(kOriginHeader), origin_of(read)});
      if (facts.tag_count > 0) {
        TRY_ASSIGN(words.tags, from_->tags(key, original.version));
      }
      upload.emplace(*to_, to_->root() + original.key, std::move(words), facts.size,
                     facts.size == original.size ? part_bytes : 0, budget_);
      return {};
    };
    const auto facts = from_->read(key, original.version, original.size,
                                   {.begin = begin,
                                    .add = [&](ByteView bytes) { return upload->add(bytes); },
                                    .restart =
                                        [&] {
                                          upload.reset();
                                          return Result<void>();
                                        }},
                                   stop);
    // What is gone meanwhile the next pass will see.
    if (!facts && facts.error().kind == ErrorKind::kNotFound) return {};
    if (!facts) return facts.error();
    TRY(upload->finish());
    shared_.with([&](Shared& shared) {
      ++shared.status.copied;
      shared.status.bytes += facts->size;
    });
    return {};
  }

  // --- deletions ---
  void read_deletions() {
    if (settings_.state_file.empty()) return;
    const auto text = read_file(settings_.state_file + ".deletes", 1 << 20);
    if (!text) return;
    std::string_view rest = as_text(*text);
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      int64_t seconds = 0;
      uint64_t count = 0;
      const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), seconds);
      if (error != std::errc{} || end == line.data() + line.size()) continue;
      (void)std::from_chars(end + 1, line.data() + line.size(), count);
      deletions_.emplace_back(from_unix_ns(seconds * 1'000'000'000), count);
    }
  }
  uint64_t deleted_in_window() {
    const Time now = from_->client().server_now();
    std::erase_if(deletions_, [&](const auto& one) { return one.first + kBudgetWindow < now; });
    uint64_t sum = 0;
    for (const auto& [when, count] : deletions_) sum += count;
    return sum;
  }
  // Written down before it is done: what is killed in between has spent its budget.
  Result<void> note_deletions(uint64_t count) {
    deletions_.emplace_back(from_->client().server_now(), count);
    if (settings_.state_file.empty()) return {};
    std::string text;
    for (const auto& [when, some] : deletions_)
      text += fmt::format("{} {}\n", to_unix_ns(when) / 1'000'000'000, some);
    return write_file_durably(settings_.state_file + ".deletes", as_bytes(text));
  }

  Result<void> follow_deletions(uint64_t objects, uint64_t target_objects, const std::stop_token& stop) {
    const uint64_t wanted = deletes_.size() + more_deletes_;
    std::string why;
    if (wanted > 0 && !settings_.mirror) {
      why = "deletions are kept, as configured";
    } else if (wanted > 0 && settings_.delete_once) {
      if (wanted > *settings_.delete_once)
        why = fmt::format("{} are more than the {} that were allowed", wanted, *settings_.delete_once);
    } else if (wanted > 0) {
      const auto share = static_cast<uint64_t>(settings_.delete_share * static_cast<double>(target_objects));
      const uint64_t budget = settings_.delete_share > 0 ? std::max(settings_.delete_least, share) : 0;
      const uint64_t used = deleted_in_window();
      if (objects == 0)
        why = "the source is empty";
      else if (used + wanted > budget)
        why = fmt::format("{} are more than what is left of the budget of {} a day ({} were followed)",
                          wanted, budget, used);
    }
    if (wanted > 0 && why.empty()) {
      TRY(note_deletions(wanted));
      for (const std::string& key : deletes_) {
        if (stop.stop_requested()) return stopped();
        TRY(follow_deletion(key));
      }
    }
    shared_.with([&](Shared& shared) {
      shared.status.held_deletes = why.empty() ? 0 : wanted;
      shared.status.why_held = why;
    });
    return {};
  }

  Result<void> follow_deletion(const std::string& key) {
    TRY_ASSIGN(const auto copy, to_->head(to_->root() + key));
    if (!copy || copy->origin.empty()) return {};  // gone already, or not of our making
    TRY_ASSIGN(const auto original, from_->head(from_->root() + key));
    if (original) return {};  // it came back since the list
    TRY(to_->remove(to_->root() + key));
    shared_.with([](Shared& shared) { ++shared.status.deleted; });
    return {};
  }

  const ReplicateSettings settings_;
  const std::unique_ptr<Bucket> from_, to_;
  ByteBudget budget_{kTransferBytes};
  Guarded<Shared> shared_;
  // Of the thread that makes passes.
  bool history_ = false;
  std::unordered_set<size_t> known_;
  std::vector<std::string> deletes_;
  uint64_t more_deletes_ = 0;
  std::string unreadable_why_;  // under shared_'s lock while workers run
  std::vector<std::pair<Time, uint64_t>> deletions_;
};

}  // namespace

void write_status(JsonWriter& json, const ReplicateStatus& status) {
  json.begin_object().field("lag_seconds", status.lag_seconds).key("in_sync_at");
  if (status.in_sync_at)
    json.value(format_utc(*status.in_sync_at));
  else
    json.null();
  json.field("passes", status.passes).field("objects", status.objects);
  json.field("target_objects", status.target_objects).field("waiting", status.waiting);
  json.field("copied", status.copied).field("bytes", status.bytes).field("deleted", status.deleted);
  json.field("held_deletes", status.held_deletes).field("why_held", status.why_held);
  json.field("unreadable", status.unreadable).field("trouble", status.trouble);
  json.field("requests", status.requests).end_object();
}

Result<ReplicateStatus> replicate(const ReplicateSettings& settings, bool once,
                                  const std::function<void(const ReplicateStatus&)>& tell,
                                  const std::stop_token& stop) {
  TRY_ASSIGN(std::unique_ptr<Bucket> from, open_bucket(settings.from, settings.limits));
  TRY_ASSIGN(std::unique_ptr<Bucket> to, open_bucket(settings.to, settings.limits));
  const S3Location &a = settings.from.location, &b = settings.to.location;
  const bool is_same_bucket = a.bucket == b.bucket && a.endpoint == b.endpoint;
  const auto lies_in = [](const std::string& inner, const std::string& outer) {
    return inner.starts_with(outer);
  };
  if (is_same_bucket && (lies_in(from->root(), to->root()) || lies_in(to->root(), from->root()))) {
    return fail(ErrorKind::kUsage, "a bucket cannot be replicated into itself",
                fmt::format("{} and {} overlap", from->client().place(), to->client().place()),
                "name another bucket, at another site, in replicate: { to: … }");
  }
  return Replication(settings, std::move(from), std::move(to)).run(once, tell, stop);
}

}  // namespace kuramori::bucket
