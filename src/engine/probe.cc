#include "engine/probe.h"

#include <fmt/core.h>

#include <algorithm>
#include <barrier>
#include <set>
#include <thread>

#include "base/id.h"
#include "base/units.h"
#include "conc/guarded.h"
#include "conc/task_group.h"
#include "store/trials.h"

namespace kuramori {
namespace {

using Verdict = ProbeFinding::Verdict;

constexpr int kRacers = 16;
constexpr int kPutAttemptsMax = 20;  // at one name while the outcome is unknown
constexpr int kWrittenThenRead = 12;
constexpr size_t kRangedBytes = 300'000;  // more than any buffer on the way, and odd
constexpr Duration kTrialLock = std::chrono::seconds(2);
constexpr Duration kClockDifferenceMax = std::chrono::hours(1);  // prune refuses beyond

constexpr std::string_view kPagePrefix = "probe/page/";

using ProbeId = Id<8, struct ProbeIdTag>;

bool is_kind(const Error& error, ErrorKind kind) {
  return error.kind == kind;
}

std::string seconds_text(Duration duration) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(duration).count());
}

class Probe {
 public:
  Probe(Store& store, const ProbeOptions& options, Clock& clock, Random& random, Reporter& reporter)
      : store_(store),
        other_(options.other_endpoint ? *options.other_endpoint : store),
        options_(options),
        clock_(clock),
        random_(random),
        reporter_(reporter),
        root_(fmt::format("{}{}/", kProbePrefix, random.id<ProbeId>().hex())) {
    report_.location = store.location();
  }

  Result<ProbeReport> run() {
    const Duration begun = clock_.steady();
    TRY_ASSIGN(kept_, remove_all());
    reporter_.phase("probing", 0);
    TRY_ASSIGN(const bool knows_conditions, race());
    if (!knows_conditions) {
      report_.took = clock_.steady() - begun;
      return std::move(report_);
    }
    TRY(overwrite());
    TRY(write_then_read());
    TRY(look_at_versions());
    TRY(look_at_retention());
    TRY(ranges());
    TRY(wrong_checksum());
    if (options_.page_objects > 0) TRY(paging());
    TRY(look_at_clock());
    TRY(clean_up());
    report_.took = clock_.steady() - begun;
    return std::move(report_);
  }

 private:
  std::string name(std::string_view what, size_t n = 0) const {
    return fmt::format("{}{}-{:05}", root_, what, n);
  }
  void find(std::string_view what, bool holds, std::string detail) {
    report_.findings.push_back(
        {std::string(what), holds ? Verdict::kHolds : Verdict::kBroken, std::move(detail)});
  }
  void skip(std::string_view what, std::string why) {
    report_.findings.push_back({std::string(what), Verdict::kUnchecked, std::move(why)});
  }

  Bytes random_bytes(size_t size) {
    Bytes bytes(size);
    random_.fill(bytes);
    return bytes;
  }

  // Whether this put won: the outcome of a try that got no answer is found by trying again with the same
  // bytes.
  Result<bool> put(Store& at, const std::string& to, ByteView bytes) {
    for (int attempt = 1;; ++attempt) {
      Result<void> done = at.put_if_absent(to, bytes);
      if (done) return true;
      if (is_kind(done.error(), ErrorKind::kExists)) {
        if (attempt == 1) return false;
        TRY_ASSIGN(const Bytes there, at.get(to));
        return std::ranges::equal(there, bytes);
      }
      if (!is_kind(done.error(), ErrorKind::kUnknown) || attempt == kPutAttemptsMax) return done.error();
    }
  }

  // kDenied is an answer here: it is retained, and stays.
  Result<bool> remove(const std::string& what) {
    Result<void> done = store_.remove(what);
    if (done) return true;
    if (is_kind(done.error(), ErrorKind::kDenied)) return false;
    return done.error();
  }

  // All that stands below the prefix, this probe's and older ones'; what is retained is returned.
  Result<std::set<std::string>> remove_all() {
    std::vector<std::string> found;
    TRY(for_each_object(store_, kProbePrefix, [&](const ObjectInfo& object) -> Result<void> {
      found.push_back(object.name);
      return {};
    }));
    Guarded<std::set<std::string>> kept;
    TRY(parallel_for(found.size(), options_.parallel, options_.stop,
                     [&](size_t i, std::stop_token) -> Result<void> {
                       TRY_ASSIGN(const bool removed, remove(found[i]));
                       if (!removed) kept.lock()->insert(found[i]);
                       return {};
                     }));
    return std::move(*kept.lock());
  }

  // Of sixteen that put different bytes at one name at the same moment, one must win, the others must be
  // told, and what stands there must be the winner's.
  // False: the store refuses conditions in so many words; then nothing can be put as a vault puts it.
  Result<bool> race() {
    int broken_rounds = 0;
    std::string first;
    for (int round = 0; round < options_.rounds; ++round) {
      const std::string to = name("race", static_cast<size_t>(round));
      std::vector<Bytes> bodies;
      for (int i = 0; i < kRacers; ++i) bodies.push_back(random_bytes(64));
      std::barrier start(kRacers);
      Guarded<std::vector<int>> winners;
      Guarded<std::optional<Error>> failure;
      {
        std::vector<std::jthread> racers;
        for (int i = 0; i < kRacers; ++i) {
          racers.emplace_back([&, i] {
            start.arrive_and_wait();
            const Result<bool> won = put(i % 2 ? other_ : store_, to, bodies[static_cast<size_t>(i)]);
            if (!won)
              failure.with([&](auto& error) { error = won.error(); });
            else if (*won)
              winners.with([&](auto& list) { list.push_back(i); });
          });
        }
      }
      if (auto error = failure.with([](auto& kept) { return kept; })) {
        if (!is_kind(*error, ErrorKind::kRefused)) return std::move(*error).within("race");
        report_.knows_conditions = false;
        find(probe_names::kAtomicCreate, false, "the store knows no conditional put: " + error->why);
        return false;
      }
      TRY_ASSIGN(const Bytes there, store_.get(to));
      const std::vector<int> won = winners.with([](auto& list) { return list; });
      if (won.size() == 1 && std::ranges::equal(there, bodies[static_cast<size_t>(won.front())])) continue;
      ++broken_rounds;
      if (first.empty())
        first = won.size() == 1 ? "what stands there is not the winner's"
                                : fmt::format("{} of {} were told they won", won.size(), kRacers);
    }
    find(probe_names::kAtomicCreate, broken_rounds == 0,
         broken_rounds == 0 ? fmt::format("{} writers at once, {} times: one wins", kRacers, options_.rounds)
                            : fmt::format("{} writers at once: {}", kRacers, first));
    return true;
  }

  Result<void> overwrite() {
    const std::string to = name("overwrite");
    const Bytes mine = random_bytes(100), others = random_bytes(100);
    TRY(put(store_, to, mine));
    TRY_ASSIGN(const bool won, put(other_, to, others));
    TRY_ASSIGN(const Bytes there, store_.get(to));
    const bool intact = std::ranges::equal(there, mine);
    find(probe_names::kNoOverwrite, !won && intact,
         !won && intact ? "a second put at a name is refused"
         : intact       ? "a second put at a name was confirmed and did nothing"
                        : "a second put at a name replaced the first");
    return {};
  }

  Result<void> write_then_read() {
    int unread = 0, unlisted = 0, still_read = 0, still_listed = 0, kept = 0;
    for (int i = 0; i < kWrittenThenRead; ++i) {
      const std::string to = name("fresh", static_cast<size_t>(i));
      const Bytes bytes = random_bytes(200);
      TRY(put(store_, to, bytes));
      Result<Bytes> there = other_.get(to);
      if (!there && !is_kind(there.error(), ErrorKind::kNotFound)) return there.error();
      if (!there || !std::ranges::equal(*there, bytes)) ++unread;
      TRY_ASSIGN(bool listed, is_listed(to));
      if (!listed) ++unlisted;
      TRY_ASSIGN(const bool removed, remove(to));
      if (!removed) {
        ++kept;
        continue;
      }
      there = other_.get(to);
      if (!there && !is_kind(there.error(), ErrorKind::kNotFound)) return there.error();
      if (there) ++still_read;
      TRY_ASSIGN(listed, is_listed(to));
      if (listed) ++still_listed;
    }
    const std::string also = kept ? " (deletes are denied here, and were not tried)" : " and deleted";
    find(probe_names::kReadAfterWrite, unread + still_read == 0,
         unread       ? fmt::format("{} of {} objects could not be read when they were confirmed", unread,
                                    kWrittenThenRead)
         : still_read ? fmt::format("{} of {} objects could be read when they were deleted", still_read,
                                    kWrittenThenRead)
                      : "what is written" + also + " is seen at once");
    find(probe_names::kListAfterWrite, unlisted + still_listed == 0,
         unlisted       ? fmt::format("{} of {} objects were not listed when they were confirmed", unlisted,
                                      kWrittenThenRead)
         : still_listed ? fmt::format("{} of {} objects were listed when they were deleted", still_listed,
                                      kWrittenThenRead)
                        : "listings show at once what is written" + also);
    return {};
  }

  Result<bool> is_listed(const std::string& what) {
    TRY_ASSIGN(const ListPage page, other_.list(what, "", 2));
    return !page.objects.empty() && page.objects.front().name == what;
  }

  // What a name held before is kept: then two puts at one name are two versions, and the plain name of S3's
  // only version is "null".
  Result<void> look_at_versions() {
    Versions* versions = store_.versions();
    if (!versions) return {};
    TRY_ASSIGN(const std::vector<ObjectVersion> found, versions->versions(name("overwrite")));
    report_.versioned = std::ranges::any_of(
        found, [](const ObjectVersion& version) { return !version.id.empty() && version.id != "null"; });
    return {};
  }

  Result<void> look_at_retention() {
    Retention* retention = store_.retention();
    if (!retention) return {};
    const std::string to = name("lock");
    TRY(put(store_, to, random_bytes(50)));
    Result<std::optional<Time>> until = retention->retained_until(to);
    if (!until) {
      if (is_kind(until.error(), ErrorKind::kRefused)) return {};  // made without it
      return until.error();
    }
    if (*until && **until > clock_.now()) report_.default_retention = **until - clock_.now();
    const Time target = std::max(clock_.now() + kTrialLock, until->value_or(Time{}) + kTrialLock);
    if (Result<void> done = retention->retain_until(to, target); !done) {
      if (is_kind(done.error(), ErrorKind::kRefused) || is_kind(done.error(), ErrorKind::kDenied)) return {};
      return done.error();
    }
    TRY_ASSIGN(until, retention->retained_until(to));
    TRY_ASSIGN(const bool removed, remove(to));
    report_.can_retain = *until && !removed;
    return {};
  }

  Result<void> ranges() {
    const std::string to = name("ranges");
    const Bytes bytes = random_bytes(kRangedBytes);
    TRY(put(store_, to, bytes));
    TRY_ASSIGN(auto reader, other_.open(to));
    bool right = reader->size() == bytes.size();
    const std::pair<size_t, size_t> parts[] = {
        {0, 1}, {0, 4096}, {1, 65'537}, {kRangedBytes - 1, 1}, {kRangedBytes / 2, 100'000}};
    for (auto [offset, size] : parts) {
      Bytes part(size);
      Result<void> done = reader->read(offset, part);
      if (!done && !is_kind(done.error(), ErrorKind::kDamaged)) return done.error();
      right = right && done && std::ranges::equal(part, ByteView(bytes).subspan(offset, size));
    }
    find(probe_names::kRanges, right,
         right ? "parts of an object are what they should be"
               : "a part of an object was not what was asked for");
    return {};
  }

  Result<void> wrong_checksum() {
    auto* trials = dynamic_cast<Trials*>(&store_);
    if (!trials) return {};  // no network on the way
    TRY_ASSIGN(const bool refused, trials->refuses_wrong_body(name("checksum")));
    find(probe_names::kChecksum, refused,
         refused ? "a body that is not what its checksum says is refused"
                 : "a body that is not what its checksum says is stored");
    return {};
  }

  Result<void> paging() {
    reporter_.phase("listing", 0);
    // The same names each time: where nothing can be removed, a second probe adds nothing.
    std::vector<std::string> all;
    for (size_t i = 0; i < options_.page_objects; ++i) all.push_back(fmt::format("{}{:05}", kPagePrefix, i));
    TRY(parallel_for(all.size(), options_.parallel, options_.stop,
                     [&](size_t i, std::stop_token) -> Result<void> {
                       if (!kept_.contains(all[i])) TRY(put(store_, all[i], as_bytes("page")));
                       return {};
                     }));
    std::vector<std::string> listed;
    TRY(for_each_object(other_, kPagePrefix, [&](const ObjectInfo& object) -> Result<void> {
      listed.push_back(object.name);
      return {};
    }));
    find(probe_names::kPaging, listed == all,
         listed == all ? fmt::format("{} names, none missing, none twice, in order", all.size())
                       : fmt::format("{} names were put, {} were listed{}", all.size(), listed.size(),
                                     std::ranges::is_sorted(listed) ? "" : ", out of order"));
    return {};
  }

  Result<void> look_at_clock() {
    const std::string to = name("clock");
    const Time before = clock_.now();
    TRY(put(store_, to, as_bytes("clock")));
    const Time after = clock_.now();
    TRY_ASSIGN(const ObjectInfo info, store_.head(to));
    if (!info.stored_at) {
      skip(probe_names::kClock, "the store does not say when an object came");
      return {};
    }
    // A store that tells whole seconds cuts up to one off: what lies within the put and a second is no
    // difference.
    Duration difference{0};
    if (*info.stored_at > after) difference = *info.stored_at - after;
    if (*info.stored_at < before - std::chrono::seconds(1)) difference = *info.stored_at - before;
    report_.clock_difference = difference;
    const bool near = difference < kClockDifferenceMax && difference > -kClockDifferenceMax;
    find(probe_names::kClock, near,
         difference == Duration{0}
             ? "the store's agrees with ours to a second"
             : fmt::format("the store's is {} {} ours",
                           seconds_text(difference < Duration{0} ? -difference : difference),
                           difference < Duration{0} ? "behind" : "ahead of"));
    return {};
  }

  Result<void> clean_up() {
    TRY_ASSIGN(kept_, remove_all());
    report_.left_behind = kept_.size();
    return {};
  }

  Store& store_;
  Store& other_;
  const ProbeOptions& options_;
  Clock& clock_;
  Random& random_;
  Reporter& reporter_;
  const std::string root_;
  std::set<std::string> kept_;  // what an older probe put and nobody may remove yet
  ProbeReport report_;
};

}  // namespace

Result<ProbeReport> probe_store(Store& store, const ProbeOptions& options, Clock& clock, Random& random,
                                Reporter& reporter) {
  return Probe(store, options, clock, random, reporter).run();
}

}  // namespace kuramori
