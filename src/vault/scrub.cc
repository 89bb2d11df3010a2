#include "vault/scrub.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "vault/chunk_run.h"
#include "vault/frame_ranges.h"
#include "vault/incarnations.h"
#include "vault/ledger.h"
#include "vault/names.h"
#include "vault/pack.h"
#include "vault/page_map.h"
#include "vault/record_log.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

constexpr size_t kSignerPrefixBytes = 4;  // of a session id: whose it is
constexpr int64_t kNever = INT64_MIN;     // of what was not found whole yet
constexpr size_t kRememberEvery = 8;      // objects; about so many are checked again after a kill
constexpr size_t kHeadersHeld = 64;       // of WAL objects

struct Bound {
  LivePack pack;
  std::set<SnapshotId> by;
};

struct SeenCommit {
  CommitRecord record;
  std::set<SnapshotId> self;  // the snapshot, while it is visible
  bool is_copy = false;       // what it names of other commits stands in another vault
};

// One run. The phases follow each other as scrub() calls them; each leaves what the next needs.
class Scrubber {
 public:
  Scrubber(Vault& vault, const ScrubOptions& options, Reporter& reporter)
      : vault_(vault),
        store_(vault.store()),
        protocol_{.store = store_,
                  .codec = vault.codec(),
                  .clock = vault.clock(),
                  .random = vault.random(),
                  .self = {},
                  .may_delete = [this](const SignerId& signer) { return vault_.codec().may_delete(signer); },
                  .may_commit = [this](const SignerId& signer) { return vault_.codec().may_commit(signer); },
                  .epoch = vault.epoch()},
        log_(protocol_),
        options_(options),
        reporter_(reporter) {}

  // One listing in byte order: commits before what they refer to, prunes after packs. So whatever a commit in
  // it needs was stored before it was listed, and what was removed meanwhile has its prune in it.
  //
  // Where there are two places, what the ledger decides is looked at in its mirror, by the name it has in one
  // place; what only the ledger holds — sessions, plans — is looked at there.
  Result<void> list_everything() {
    TRY(for_each_object(store_, "", [&](const ObjectInfo& object) -> Result<void> {
      auto in_epoch = vault_.epoch() ? names::parse_in_epoch(object.name) : std::nullopt;
      if (!in_epoch) {
        // What was put again is looked for under the name it was made under; its bytes are checked one by
        // one.
        std::string origin(names::origin_of(object.name));
        if (origin != object.name && names::owner_of(object.name)) {
          incarnations_[origin].push_back(object.name);
          if (present_.try_emplace(origin, object.size).second) only_again_.insert(origin);
        } else {
          present_[object.name] = object.size;
        }
        return {};
      }
      std::string name(in_epoch->name);
      if (log_.place_of(name).name != object.name) {
        find(object.name, "of a ledger that is no longer in force: it counts for nothing", {},
             ScrubSeverity::kNote);
        return {};
      }
      present_[name] = object.size;
      standing_[name] = {&store_, object.name};
      return {};
    }));
    const Epoch* epoch = vault_.epoch();
    if (epoch == nullptr || epoch->ledger == nullptr) return {};
    const std::string prefix = names::epoch_prefix(epoch->number);
    TRY(for_each_object(*epoch->ledger, prefix, [&](const ObjectInfo& object) -> Result<void> {
      std::string name = object.name.substr(prefix.size());
      in_ledger_.insert(name);
      if (present_.contains(name)) return {};
      present_[name] = object.size;
      standing_[name] = {epoch->ledger, object.name};
      return {};
    }));
    return {};
  }

  // What the ledger decided and what its mirror says are one thing: a difference is somebody's work.
  void check_ledger() {
    const Epoch* epoch = vault_.epoch();
    if (epoch == nullptr || epoch->ledger == nullptr) return;
    const std::string prefix = names::epoch_prefix(epoch->number);
    for (const auto& [name, place] : standing_) {
      if (place.store != &store_ || place.name != prefix + name)
        continue;  // ledger alone, or an older epoch's
      if (!in_ledger_.contains(name)) {
        damage(name, "missing in the ledger, which decided it: its mirror stands");
        continue;
      }
      auto decided = epoch->ledger->get(place.name);
      ++result_.objects;
      if (!decided) {
        refused(name, decided.error());
        continue;
      }
      auto mirrored = digests_.find(name);
      if (mirrored != digests_.end() && sha256(*decided) != mirrored->second)
        damage(name, "the ledger holds something else than its mirror: it was put over");
    }
  }

  void check_vault_objects() {
    for (const std::string& name : vault_object_names()) {
      auto object = read(name);
      if (!object) continue;
      auto info = read_vault_info(name, *object);
      if (!info) {
        damage(name, info.error().what);
      } else if (info->id != vault_.info().id || info->family != vault_.info().family ||
                 info->owner_verify != vault_.info().owner_verify) {
        damage(name, "it is another vault's");
      }
    }
  }

  Result<void> check_records() {
    reporter_.phase("checking records", 0);
    // What the owner disowned is read first: it explains damage that is found later.
    for (const auto& [name, size] : under(names::kDisowned)) {
      if (auto record = open<DisownedRecord>(name, {RecordType::kDisowned})) {
        if (names::disowned(record->object_digest.hex()) != name)
          damage(name, "it disowns another object than its name says");
        else
          disowned_.insert(record->object_digest);
      }
    }
    std::string before, listed_to;
    for (const auto& [name, size] : present_) {
      if (options_.stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the scrub was stopped");
      // What was listed last is fetched ahead (store/prefetch.h): a page of names is listed again when its
      // records are to be read. What it says is not looked at, only what the records say.
      if (name > listed_to && !name.starts_with(names::kPacks) && !name.starts_with(names::kWal)) {
        auto page = store_.list("", before, kListPageMax);
        listed_to = page && !page->objects.empty() ? page->objects.back().name : "\xff";
      }
      check_record(name);
      before = name;
    }
    return {};
  }

  // A catalog holds what stands, as it stands. Nobody believes it for more, so other bytes in it are
  // somebody's work; and what it holds was there, and is of what is never removed.
  void check_catalogs() {
    for (const auto& [catalog, held] : catalogs_) {
      for (const auto& [full, digest] : held) {
        auto in_epoch = vault_.epoch() ? names::parse_in_epoch(full) : std::nullopt;
        const std::string name(in_epoch ? in_epoch->name : std::string_view(full));
        if (log_.place_of(name).name != full) continue;  // of an older ledger
        auto there = digests_.find(name);
        if (!present_.contains(name))
          damage(name, fmt::format("missing: {} holds it", catalog));
        else if (there != digests_.end() && there->second != digest)
          damage(catalog, fmt::format("it holds other bytes than stand at {}", name));
      }
    }
  }

  void check_numbers() {
    // Plans and intents are the ledger's alone: without it there is only what was decided.
    if (vault_.epoch() != nullptr && vault_.epoch()->ledger == nullptr) {
      for (uint64_t n : gc_sweeps_) gc_plans_.insert(n);
      for (uint64_t n : prune_finals_) prune_intents_.insert(n);
    }
    if (vault_.epoch() != nullptr) {
      const EpochRecord& seal = vault_.epoch()->seal;
      pruned_.insert(seal.pruned.begin(), seal.pruned.end());
      swept_.insert(seal.swept.begin(), seal.swept.end());
    }
    check_rounds(gc_plans_, gc_sweeps_, "gc", names::gc_plan, names::gc_sweep);
    check_rounds(prune_intents_, prune_finals_, "prune", names::prune_intent, names::prune_final);
    for (const std::string& name : pruned_) {
      if (!present_.contains(name))
        damage(name, "missing: a prune record names it, and commit names stay for ever");
    }
    uint64_t newest = gc_plans_.empty() ? 0 : *gc_plans_.rbegin();
    for (const auto& [name, commit] : commits_) {
      // Of another vault's collections, or an older ledger's.
      if (commit.is_copy || log_.place_of(name).accepted != nullptr) continue;
      if (commit.record.newest_gc > newest)
        damage(names::gc_plan(commit.record.newest_gc), fmt::format("missing: {} was made after it", name));
    }
  }

  // What each visible commit binds, and its chain.
  void check_commits() {
    find_asked_runs();
    for (auto& [name, commit] : commits_) {
      const CommitRecord& c = commit.record;
      if (!pruned_.contains(name)) commit.self = {c.snapshot}, ++result_.snapshots;
      if (!c.previous.empty() && !commit.is_copy)
        check_head(c.previous, c.previous_digest, fmt::format("{} follows it", name));
      if (commit.self.empty()) continue;
      check_bound(c.live, commit.self);
      for (const ObjectRef& map : c.maps) {
        if (is_lost(map) && is_in_segments(c))
          tell_lost_run(map);
        else
          check_bound(map, commit.self);
      }
      auto live = lives_.find(c.live.name);
      if (live == lives_.end()) continue;  // named already
      if (live->second.maps != c.maps)
        damage(c.live.name, "it names other page maps than its commit", commit.self);
      std::set<std::string_view> packs;
      for (const LivePack& pack : live->second.packs) {
        packs.insert(pack.name);
        auto [it, fresh] = bound_.try_emplace(pack.name, Bound{pack, {}});
        if (!fresh) it->second.pack.frames = united(it->second.pack.frames, pack.frames);
        it->second.by.insert(c.snapshot);
        if (it->second.pack.trailer_digest != pack.trailer_digest || it->second.pack.size != pack.size)
          damage(pack.name, "two snapshots bind different contents of it", it->second.by);
        if (swept_.contains(pack.name) && !incarnations_.contains(pack.name))
          damage(pack.name, "a sweep condemned it while a snapshot needs it", it->second.by);
      }
      for (const FrameSpan& span : c.tree) {
        if (!packs.contains(span.pack))
          damage(name, fmt::format("its tree lies in {}, which it does not keep", span.pack), commit.self);
      }
    }
    for (const auto& [name, what] : damaged_runs_) {
      if (!lost_runs_.contains(name)) damage(name, what);
    }
    for (const auto& [name, bound] : bound_) {
      if (!present_.contains(name) && !pruned_since_listed(bound.by)) damage(name, "missing", bound.by);
    }
    for (const RememberedHead& head : options_.heads)
      check_head(head.commit, head.digest, "it was seen here before");
    for (const auto& [name, snapshot] : spoken_of_) {
      if (!snapshots_.contains(snapshot))
        damage(name, fmt::format("no commit stands for snapshot {}, which it is about", snapshot.hex()));
    }
  }

  // Headers of all WAL objects against their names and each other, and against the snapshots that need them.
  void check_wal() {
    std::map<std::pair<ResourceId, uint32_t>, std::vector<WalObject>> lines;
    const std::vector<std::pair<std::string, uint64_t>> objects = under(names::kWal);
    std::vector<std::optional<Result<WalHeader>>> headers(kHeadersHeld);
    for (size_t i = 0; i < objects.size(); ++i) {
      if (i % kHeadersHeld == 0) {
        at_once(i, std::min(i + kHeadersHeld, objects.size()), [&](size_t k) {
          headers[k - i] =
              read_wal_header(store_, vault_.keys(), objects[k].first, &vault_.codec().signers());
        });
      }
      const auto& [name, size] = objects[i];
      auto parsed = names::parse_wal(name);
      if (!parsed) continue;  // named as unknown
      const Result<WalHeader>& header = *headers[i % kHeadersHeld];
      if (!header) {
        refused(name, header.error());
        continue;
      }
      if (header->timeline != parsed->timeline || header->from != parsed->from || header->to != parsed->to ||
          !header->digest.hex().starts_with(parsed->digest)) {
        damage(name, "its header is not what its name says");
        continue;
      }
      lines[{parsed->resource, parsed->timeline}].push_back({*parsed, name, size});
    }
    for (const auto& [line, in_order] : lines) {
      for (size_t i = 1; i < in_order.size(); ++i) compare_neighbours(in_order, i);
      note_holes(in_order);
    }
    for (const auto& [name, commit] : commits_) {
      if (commit.self.empty() || !commit.record.wal) continue;
      const WalSpan& span = *commit.record.wal;
      const uint64_t at = reaches(span, lines[{commit.record.resource, span.timeline}]);
      if (at < span.to && !pruned_since_listed(commit.self))
        damage(names::wal_prefix(commit.record.resource, span.timeline) + fmt::format("{:016x}", at),
               fmt::format("missing: the WAL from {:X}/{:X} that {} needs", at >> 32, at & UINT32_MAX, name),
               commit.self);
    }
  }

  // Every byte of packs and WAL, those not verified for the longest time first.
  Result<void> check_bytes() {
    std::vector<Item> items = list_items();
    std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
      return std::tie(a.verified_ns, a.name) < std::tie(b.verified_ns, b.name);
    });
    const int64_t due_before = options_.verified_before_ns.value_or(INT64_MAX);
    uint64_t total = 0;
    for (const Item& item : items) total += item.verified_ns < due_before ? item.size : 0;
    reporter_.phase("checking packs and WAL", total);
    Duration began = vault_.clock().steady();
    Result<void> done;
    size_t due = 0;
    while (due < items.size() && items[due].verified_ns < due_before) ++due;
    for (size_t first = 0; first < due;) {
      if (options_.stop.stop_requested()) {
        done = fail(ErrorKind::kInterrupted, "the scrub was stopped");
        break;
      }
      if (options_.budget && vault_.clock().steady() - began >= *options_.budget) {
        result_.objects_left = due - first;
        break;
      }
      const size_t end = std::min(due, first + options_.read_at_once);
      std::vector<std::optional<Result<void>>> whole(end - first);
      at_once(first, end, [&](size_t i) { whole[i - first] = verify(items[i].name); });
      for (size_t i = first; i < end; ++i) check_item(items[i], std::move(*whole[i - first]));
      first = end;
      if (result_.verified.size() - remembered_ >= kRememberEvery) remember();
    }
    remember();
    TRY(std::move(done));
    for (const Item& item : items) {
      if (item.gone) continue;
      if (item.verified_ns == kNever) {
        ++result_.never_verified;
      } else {
        result_.oldest_verified_ns =
            std::min(result_.oldest_verified_ns.value_or(INT64_MAX), item.verified_ns);
      }
    }
    if (options_.last_verified == nullptr) return {};
    std::set<std::string_view> here;
    for (const Item& item : items) {
      if (item.verified_ns != kNever) here.insert(item.name);
    }
    for (const auto& [name, when] : *options_.last_verified) {
      if (!here.contains(name)) result_.gone.push_back(name);
    }
    return {};
  }

  ScrubResult finish() {
    auto& findings = result_.findings;
    std::sort(findings.begin(), findings.end(), [](auto& a, auto& b) {
      return std::tie(a.object, a.severity) < std::tie(b.object, b.severity);
    });
    return std::move(result_);
  }

 private:
  struct Item {
    int64_t verified_ns;  // kNever, or when it was last found whole
    std::string name;
    uint64_t size;
    bool gone = false;  // collected since it was listed
  };

  // Packs and WAL objects, each incarnation for itself.
  std::vector<Item> list_items() const {
    std::vector<Item> items;
    for (std::string_view prefix : {names::kPacks, names::kWal}) {
      for (const auto& [name, size] : under(prefix)) {
        if (unknown_.contains(name)) continue;
        for (const std::string& object : standing_as(name)) {
          int64_t when = kNever;
          if (options_.last_verified != nullptr) {
            if (auto it = options_.last_verified->find(object); it != options_.last_verified->end())
              when = it->second;
          }
          items.push_back({when, object, size});
        }
      }
    }
    return items;
  }

  // The names of objects that hold what was put under `origin`.
  std::vector<std::string> standing_as(const std::string& origin) const {
    std::vector<std::string> objects;
    if (auto again = incarnations_.find(origin); again != incarnations_.end()) objects = again->second;
    if (!only_again_.contains(origin)) objects.push_back(origin);
    return objects;
  }

  // `work(i)` for i in [first, end), several at the same time: what only reads, and fails by what it leaves.
  void at_once(size_t first, size_t end, const std::function<void(size_t)>& work) const {
    if (options_.read_at_once <= 1) {
      for (size_t i = first; i < end; ++i) work(i);
      return;
    }
    const Result<void> done =
        parallel_for(end - first, options_.read_at_once, {}, [&](size_t i, std::stop_token) -> Result<void> {
          work(first + i);
          return {};
        });
    CHECK(done);
  }

  // Every byte of one object; any thread may ask.
  Result<void> verify(const std::string& object) const {
    const std::string origin(names::origin_of(object));
    const auto bound = bound_.find(origin);
    return verify_pack_bytes(*only_incarnation(store_, object), origin,
                             bound == bound_.end() ? nullptr : &bound->second.pack);
  }

  void check_item(Item& item, Result<void> whole) {
    const std::string origin(names::origin_of(item.name));
    auto bound = bound_.find(origin);
    result_.bytes += item.size;
    ++result_.objects;
    reporter_.advance(item.size);
    if (whole) {
      item.verified_ns = to_unix_ns(vault_.clock().now());
      result_.verified.push_back(item.name);
      return;
    }
    // When it was last found whole stays true: nothing was read that says otherwise.
    if (whole.error().kind == ErrorKind::kRefused && is_cold(item.name)) {
      ++result_.objects_cold;
      return;
    }
    // Whatever it was the last time: now it is not.
    item.verified_ns = kNever;
    if (whole.error().kind == ErrorKind::kNotFound &&
        (bound == bound_.end() || all_are_pruned(bound->second.by))) {
      item.gone = true;  // collected since it was listed
      return;
    }
    for (const std::string& other : standing_as(origin)) {
      if (other == item.name || is_condemned(other) || !verify(other)) continue;
      // Gone since it was listed: a collection gave it up for the other.
      item.gone = whole.error().kind == ErrorKind::kNotFound;
      if (!item.gone) supersede(item.name, other, whole.error().what);
      return;
    }
    // Or for one that was put since then (vault/compactor.h).
    if (whole.error().kind == ErrorKind::kNotFound && stands_since(origin)) {
      item.gone = true;
      return;
    }
    refused(item.name, whole.error(), bound == bound_.end() ? std::set<SnapshotId>{} : bound->second.by);
  }

  // Whether what was put since everything was listed is whole.
  bool stands_since(const std::string& origin) {
    const std::vector<std::string> known = standing_as(origin);
    bool found = false;
    auto look = [&](const ObjectInfo& object) -> Result<void> {
      const bool is_new =
          names::origin_of(object.name) == origin && std::ranges::count(known, object.name) == 0;
      found = found || (is_new && verify(object.name));
      return {};
    };
    return for_each_object(store_, origin, look) && found;
  }

  bool is_cold(const std::string& object) {
    Tiers* tiers = store_.tiers();
    if (tiers == nullptr) return false;
    auto tier = tiers->tier(object);
    return tier && tier->state != Tiers::State::kReadable;
  }

  // A scrub takes hours: what it found visible may be pruned and collected before it comes to the packs.
  // One that is merely no longer there is lost, and that is damage.
  bool all_are_pruned(const std::set<SnapshotId>& snapshots) {
    if (std::ranges::includes(pruned_meanwhile_, snapshots)) return true;  // that is for ever
    Ledger ledger(protocol_);
    auto commits = ledger.read_commits();
    if (!commits) return false;
    for (const std::string& name : commits->pruned) {
      if (auto key = names::parse_commit(name)) pruned_meanwhile_.insert(key->snapshot);
    }
    for (const VisibleCommit* commit : commits->visible) pruned_meanwhile_.erase(commit->key.snapshot);
    return std::ranges::includes(pruned_meanwhile_, snapshots);
  }

  // A listing is no moment: what it found visible may be pruned, and collected, before it comes to the WAL.
  bool pruned_since_listed(const std::set<SnapshotId>& snapshots) {
    if (!std::exchange(looked_since_listed_, true)) (void)all_are_pruned(snapshots);
    return std::ranges::includes(pruned_meanwhile_, snapshots);
  }

  void remember() {
    if (!options_.remember || result_.verified.size() == remembered_) return;
    options_.remember(
        {result_.verified.begin() + static_cast<ptrdiff_t>(remembered_), result_.verified.end()});
    remembered_ = result_.verified.size();
  }

  // Damaged or gone, and nothing is lost by it.
  void supersede(const std::string& object, const std::string& by, const std::string& what) {
    const size_t before = result_.findings.size();
    find(object, fmt::format("{}; {} is whole, and readers take that", what, by), {}, ScrubSeverity::kNote);
    if (result_.findings.size() != before) result_.findings.back().superseded = true;
  }

  bool is_condemned(const std::string& object) const {
    return swept_.contains(object) || std::ranges::any_of(plans_, [&](const auto& plan) {
             return !gc_sweeps_.contains(plan.first) && std::ranges::binary_search(plan.second, object);
           });
  }

  // A small object that stands more than once: the first that `sound` accepts is what is checked further.
  template <class Sound>
  std::optional<Bytes> read_any(const std::string& name, Sound&& sound) {
    auto object = read(name);
    auto again = incarnations_.find(name);
    if (!object || again == incarnations_.end()) return object;
    Result<void> first = sound(ByteView(*object));
    if (first) return object;
    for (const std::string& other : again->second) {
      auto bytes = store_.get(other);
      if (!bytes || is_condemned(other) || !sound(ByteView(*bytes))) continue;
      supersede(name, other, first.error().what);
      result_.bytes += bytes->size();
      digests_[name] = sha256(*bytes);
      return std::move(*bytes);
    }
    return object;
  }

  void find(const std::string& object, std::string what, const std::set<SnapshotId>& by,
            ScrubSeverity severity) {
    // One finding an object: what was noticed first, and every snapshot that it touches.
    auto [it, fresh] = found_.try_emplace({object, severity}, result_.findings.size());
    if (fresh) result_.findings.push_back({object, std::move(what), {}, severity});
    std::vector<SnapshotId>& touched = result_.findings[it->second].snapshots;
    std::vector<SnapshotId> all;
    std::set_union(touched.begin(), touched.end(), by.begin(), by.end(), std::back_inserter(all));
    touched = std::move(all);
  }
  void damage(const std::string& object, std::string what, const std::set<SnapshotId>& by = {}) {
    find(object, std::move(what), by, ScrubSeverity::kDamage);
  }
  // An error of reading `object`: damage only where the bytes, not the store, are at fault (V1).
  void refused(const std::string& object, const Error& error, const std::set<SnapshotId>& by = {}) {
    bool bytes = error.kind == ErrorKind::kDamaged || error.kind == ErrorKind::kRefused;
    if (error.kind == ErrorKind::kNotFound) return damage(object, "missing", by);
    find(object, error.what, by, bytes ? ScrubSeverity::kDamage : ScrubSeverity::kUnreadable);
  }

  std::vector<std::pair<std::string, uint64_t>> under(std::string_view prefix) const {
    std::vector<std::pair<std::string, uint64_t>> found;
    for (auto it = present_.lower_bound(prefix); it != present_.end() && it->first.starts_with(prefix); ++it)
      found.emplace_back(it->first, it->second);
    return found;
  }

  std::optional<Bytes> read(const std::string& name) {
    auto standing = standing_.find(name);
    auto object =
        standing == standing_.end() ? store_.get(name) : standing->second.store->get(standing->second.name);
    ++result_.objects;
    if (!object) {
      // Sessions and what belongs to pruned snapshots may go between the listing and now.
      bool may_go = name.starts_with(names::kSessions) || name.starts_with(names::kLive) ||
                    name.starts_with(names::kMaps);
      if (object.error().kind != ErrorKind::kNotFound || !may_go) refused(name, object.error());
      return {};
    }
    result_.bytes += object->size();
    digests_[name] = sha256(*object);
    return std::move(*object);
  }

  // Reads and opens a record that must be one of `types`; what is wrong is named and nothing returned.
  std::optional<OpenedRecord> open_any(const std::string& name, std::initializer_list<RecordType> types,
                                       const std::set<SnapshotId>& by = {}) {
    auto object = read(name);
    if (!object) return {};
    // A record is bound to the name it stands under.
    auto standing = standing_.find(name);
    auto opened = vault_.codec().decode(standing == standing_.end() ? name : standing->second.name, *object);
    if (!opened) {
      if (disowned_.contains(digests_[name]))
        find(name, "disowned by the owner: " + opened.error().what, {}, ScrubSeverity::kNote);
      else
        damage(name, opened.error().what, by);
      return {};
    }
    if (std::find(types.begin(), types.end(), opened->type) == types.end()) {
      damage(name, "it is a record of another type than belongs here");
      return {};
    }
    return std::move(*opened);
  }
  template <class Record>
  std::optional<Record> parse(const std::string& name, const OpenedRecord& opened) {
    auto record = decode<Record>(opened.body);
    if (record) return std::move(*record);
    damage(name, record.error().what);
    return {};
  }
  template <class Record>
  std::optional<Record> open(const std::string& name, std::initializer_list<RecordType> types) {
    auto opened = open_any(name, types);
    if (!opened) return {};
    return parse<Record>(name, *opened);
  }

  void unknown(const std::string& name) {
    unknown_.insert(name);
    find(name, "unknown: nothing of this program has such a name; it is left alone", {},
         ScrubSeverity::kNote);
  }

  void check_record(const std::string& name) {
    std::string_view text = name;
    if (text.starts_with(names::kDisowned)) return;  // read before
    if (text.starts_with(names::kEpochs)) {
      (void)open<EpochRecord>(name, {RecordType::kEpoch});
      return;
    }
    if (text == "vault" || text == "vault.2" || text == "vault.3") return;
    if (text.starts_with(names::kPacks)) {
      if (!is_numbered(name, names::pack)) unknown(name);
    } else if (text.starts_with(names::kWal)) {
      if (!names::parse_wal(name)) unknown(name);
    } else if (text.starts_with(names::kCommits)) {
      check_commit(name);
    } else if (text.starts_with(names::kLive)) {
      auto owner = names::owner_of(name);
      if (!owner || names::live(*owner) != name) return unknown(name);
      check_live(name);
    } else if (text.starts_with(names::kMaps)) {
      if (!is_numbered(name, names::map)) return unknown(name);
      if (check_run(name)) return;
      auto decodes = [&](ByteView object) -> Result<void> {
        TRY(decode_map(object, vault_.keys(), name));
        return {};
      };
      if (auto object = read_any(name, decodes)) {
        if (auto sound = decodes(*object); !sound) damage(name, sound.error().what);
      }
    } else if (text.starts_with(names::kSessions)) {
      if (names::parse_session(name))
        (void)open<SessionRecord>(name, {RecordType::kSession});
      else if (names::parse_session_end(name))
        (void)open<FenceRecord>(name, {RecordType::kFence});
      else
        unknown(name);
    } else if (text.starts_with(names::kResources)) {
      auto record = open<ResourceRecord>(name, {RecordType::kResource});
      if (record && names::resource(record->id) != name) damage(name, "it is another resource's record");
    } else if (text.starts_with(names::kGc) || text.starts_with(names::kPrune)) {
      check_round(name);
    } else if (text.starts_with(names::kProbes)) {
      (void)open<ProbeRecord>(name, {RecordType::kProbe});
    } else if (text.starts_with(names::kApplied)) {
      auto number = names::parse_applied(name);
      if (!number) return unknown(name);
      auto record = open<AppliedRecord>(name, {RecordType::kApplied});
      if (record && record->number != *number) damage(name, "it is another number's record");
    } else if (text.starts_with(names::kProbeTrials)) {
      return;  // says nothing, refers to nothing
    } else if (text.starts_with(names::kHolds) || text.starts_with(names::kRetain) ||
               text.starts_with(names::kProofs)) {
      check_word(name);
    } else if (text.starts_with(names::kCatalog)) {
      if (!names::parse_catalog(name)) return unknown(name);
      auto catalog = open<CatalogRecord>(name, {RecordType::kCatalog});
      if (!catalog) return;
      auto& held = catalogs_[name];
      for (const CatalogRecord::Entry& entry : catalog->entries) {
        if (entry.object.empty()) continue;  // the name of another catalog, which is looked at by itself
        held.emplace_back(entry.name, sha256(entry.object));
      }
    } else if (text.starts_with(names::kLeases)) {
      if (!names::parse_lease(name)) unknown(name);  // says who works, refers to nothing
    } else if (text.starts_with(names::kSigners)) {
      check_signer(name);
    } else if (text.starts_with(names::kAudit)) {
      check_audit(name);
    } else if (text.starts_with(names::kApprovals)) {
      if (text.ends_with("/request"))
        (void)open<ApprovalRequestRecord>(name, {RecordType::kApprovalRequest});
      else
        (void)open<ApprovalRecord>(name, {RecordType::kApproval, RecordType::kApprovalUse});
    } else {
      unknown(name);
    }
  }

  // A run of the chunk index may take gigabytes: it goes by in pieces, where other small objects are read
  // whole. False: what stands at this name is none.
  bool check_run(const std::string& name) {
    auto object = store_.open(name);
    Bytes head(kRunBeginBytes);
    if (!object || (*object)->size() < head.size() || !(*object)->read(0, head) || !is_chunk_run(head))
      return false;  // or it cannot be read, which is told where it is looked at next
    ++result_.objects;
    auto sound = check_run_bytes(**object, name);
    if (sound) {
      digests_[name] = *sound;
      return true;
    }
    const auto again = incarnations_.find(name);
    for (const std::string& other :
         again == incarnations_.end() ? std::vector<std::string>() : again->second) {
      auto instead = store_.open(other);
      if (!instead || is_condemned(other)) continue;
      const auto digest = check_run_bytes(**instead, name);
      if (!digest) continue;
      supersede(name, other, sound.error().what);
      digests_[name] = *digest;
      return true;
    }
    const ErrorKind kind = sound.error().kind;
    if (kind != ErrorKind::kDamaged && kind != ErrorKind::kRefused) {
      refused(name, sound.error());  // the store did not answer: that says nothing of the bytes (V1)
      return true;
    }
    digests_[name] = Digest();  // of no object, so that whatever binds it is told
    damaged_runs_[name] = sound.error().what;
    return true;
  }
  Result<Digest> check_run_bytes(ObjectReader& object, const std::string& name) {
    result_.bytes += object.size();
    object.expect_stream(0, object.size());
    return check_chunk_run([&](uint64_t offset, MutableByteView out) { return object.read(offset, out); },
                           object.size(), vault_.keys(), name);
  }

  void check_live(const std::string& name) {
    auto object = read_any(name, [&](ByteView bytes) -> Result<void> {
      TRY(vault_.codec().decode(name, bytes));
      return {};
    });
    if (!object) return;
    auto opened = vault_.codec().decode(name, *object);
    if (!opened) return damage(name, opened.error().what);
    if (opened->type != RecordType::kLive)
      return damage(name, "it is a record of another type than belongs here");
    if (auto live = parse<LiveRecord>(name, *opened)) lives_[name] = std::move(*live);
  }

  // What the owner said of a signer, twice each.
  void check_signer(const std::string& name) {
    auto parsed = names::parse_signer(name);
    if (!parsed) return unknown(name);
    std::optional<SignerId> said;
    if (parsed->revoked) {
      if (auto record = open<RevocationRecord>(name, {RecordType::kRevocation})) said = record->signer;
    } else if (auto record = open<GrantRecord>(name, {RecordType::kSigner})) {
      said = signer_id(record->key);
    }
    if (said && *said != parsed->signer) return damage(name, "it is about another signer than its name says");
    for (int copy = 1; copy <= names::kSignerCopies; ++copy) {
      std::string twin =
          parsed->revoked ? names::revocation(parsed->signer, copy) : names::grant(parsed->signer, copy);
      if (!present_.contains(twin)) damage(twin, fmt::format("missing: it is the twin of {}", name));
    }
    if (parsed->revoked && !present_.contains(names::grant(parsed->signer, 1)) &&
        !present_.contains(names::grant(parsed->signer, 2)))
      damage(names::grant(parsed->signer, 1), fmt::format("missing: {} takes it back", name));
  }

  // Audit records are numbered and chained, so that none can be taken out; those about keys point to what
  // must stand: a revocation that somebody removed would put a thief's key in force again.
  void check_audit(const std::string& name) {
    const auto parsed = names::parse_audit(name);
    if (!parsed) return unknown(name);
    // The chains of acts are whole or not as a whole, which read_audit() finds out; here each object.
    if (parsed->is_archive) return (void)open<AuditArchiveRecord>(name, {RecordType::kAuditArchive});
    if (parsed->signer) {
      auto act = open<AuditRecord>(name, {RecordType::kAudit});
      if (act && act->number != parsed->from) damage(name, "it is the record of another number");
      return;
    }
    auto record = open<AuditRecord>(name, {RecordType::kAudit});
    if (!record) return;
    if (names::audit(record->number) != name) return damage(name, "it is the record of another number");
    if (record->number > 1) {
      std::string before = names::audit(record->number - 1);
      auto digest = digests_.find(before);
      if (!present_.contains(before))
        damage(before, fmt::format("missing: {} follows it", name));
      else if (digest != digests_.end() && digest->second != record->previous)
        damage(before, fmt::format("it is not the record that {} follows", name));
    }
    auto signer = SignerId::from_hex(record->object);
    if (!signer) return;
    for (int copy = 1; copy <= names::kSignerCopies; ++copy) {
      std::string stands = record->action == kAuditKeyRevoked ? names::revocation(*signer, copy)
                           : record->action == kAuditKeyMade  ? names::grant(*signer, copy)
                                                              : std::string();
      if (!stands.empty() && !present_.contains(stands))
        damage(stands, fmt::format("missing: {} tells of it", name));
    }
  }

  // "packs/3f/<sid>-17": in its folder, and its number written in one way only.
  bool is_numbered(const std::string& name, std::string (*build)(const SessionId&, uint32_t)) {
    auto owner = names::owner_of(name);
    uint32_t n = 0;
    size_t dash = name.rfind('-');
    if (!owner || dash == std::string::npos) return false;
    auto [end, error] = std::from_chars(name.data() + dash + 1, name.data() + name.size(), n);
    return error == std::errc() && end == name.data() + name.size() && build(*owner, n) == name;
  }

  void check_commit(const std::string& name) {
    auto key = names::parse_commit(name);
    if (!key) return unknown(name);
    snapshots_.insert(key->snapshot);
    auto opened =
        open_any(name, {RecordType::kCommit, RecordType::kFence, RecordType::kCopy}, {key->snapshot});
    if (!opened) return;
    if (opened->type == RecordType::kCopy) {
      Ledger ledger(protocol_);
      auto copy = ledger.read_commit(name);
      if (!copy) return damage(name, copy.error().what, {key->snapshot});
      commits_[name] = {(*copy)->record, {}, true};
      return;
    }
    // Whose session it is says the name; the first bytes are its signer's.
    bool own = std::equal(opened->signer.raw.begin(), opened->signer.raw.begin() + kSignerPrefixBytes,
                          key->session.raw.begin());
    if (opened->type == RecordType::kFence) {
      if (!own && !vault_.codec().may_delete(opened->signer))
        return damage(name, "its signer may not fence another's session");
      (void)parse<FenceRecord>(name, *opened);
      return;
    }
    if (!vault_.codec().may_commit(opened->signer)) return damage(name, "its signer may not make snapshots");
    // The owner may have signed for anybody.
    if (!own && !vault_.codec().may_delete(opened->signer))
      return damage(name, "its signer is not the one whose session it names");
    auto record = parse<CommitRecord>(name, *opened);
    if (!record) return;
    if (record->snapshot != key->snapshot || record->session != key->session ||
        record->resource != key->resource)
      return damage(name, "it is the commit of another snapshot");
    commits_[name] = {std::move(*record), {}, false};
  }

  void check_round(const std::string& name) {
    bool gc = name.starts_with(names::kGc);
    auto n = names::parse_number(name, gc ? names::kGc : names::kPrune);
    if (!n) return unknown(name);
    auto signed_by_keeper = [&](const OpenedRecord& opened) {
      if (vault_.codec().may_delete(opened.signer)) return true;
      damage(name, "its signer may not delete");
      return false;
    };
    if (gc) {
      bool sweep = name == names::gc_sweep(*n), plan = name == names::gc_plan(*n);
      if (!sweep && !plan && name != names::gc_waits(*n)) return unknown(name);
      if (sweep) gc_sweeps_.insert(*n);
      if (plan) gc_plans_.insert(*n);
      auto opened = open_any(name, {sweep ? RecordType::kGcSweep : RecordType::kGcPlan});
      if (!opened || !signed_by_keeper(*opened)) return;
      auto record = parse<GcRecord>(name, *opened);
      if (!record) return;
      if (record->number != *n) return damage(name, "it is the record of another number");
      if (sweep) swept_.insert(record->objects.begin(), record->objects.end());
      if (plan) plans_[*n] = std::move(record->objects);
    } else {
      bool final = name == names::prune_final(*n);
      if (!final && name != names::prune_intent(*n)) return unknown(name);
      (final ? prune_finals_ : prune_intents_).insert(*n);
      auto opened = open_any(name, {final ? RecordType::kPruneFinal : RecordType::kPruneIntent});
      if (!opened || !signed_by_keeper(*opened)) return;
      auto record = parse<PruneRecord>(name, *opened);
      if (!record) return;
      if (record->number != *n) return damage(name, "it is the record of another number");
      if (final) pruned_.insert(record->commits.begin(), record->commits.end());
    }
  }

  // Holds, extensions and proofs: each about one snapshot, which its name says.
  void check_word(const std::string& name) {
    std::string_view rest = std::string_view(name).substr(name.find('/') + 1);
    size_t slash = rest.find('/');
    auto snapshot = SnapshotId::from_hex(rest.substr(0, slash));
    if (slash == std::string_view::npos || !snapshot || snapshot->hex() != rest.substr(0, slash))
      return unknown(name);
    std::optional<SnapshotId> said;
    if (name.starts_with(names::kHolds)) {
      auto type = name.ends_with(".released") ? RecordType::kHoldRelease : RecordType::kHold;
      if (auto record = open<HoldRecord>(name, {type})) said = record->snapshot;
    } else if (name.starts_with(names::kRetain)) {
      if (auto record = open<RetainRecord>(name, {RecordType::kRetain})) said = record->snapshot;
    } else {
      if (auto record = open<ProofRecord>(name, {RecordType::kProof})) said = record->snapshot;
    }
    if (said && *said != *snapshot) return damage(name, "it is about another snapshot than its name says");
    if (said) spoken_of_.emplace_back(name, *snapshot);
  }

  template <class First, class Second>
  void check_rounds(const std::set<uint64_t>& begun, const std::set<uint64_t>& ended, std::string_view what,
                    First first, Second second) {
    uint64_t newest = std::max(begun.empty() ? 0 : *begun.rbegin(), ended.empty() ? 0 : *ended.rbegin());
    constexpr int kNamedMax = 100;  // of one kind: a forged number must not make a report without end
    int named = 0;
    for (uint64_t n = 1; n <= newest && named < kNamedMax; ++n) {
      // A round begins when the one before has ended; neither record is ever removed.
      if (!begun.contains(n))
        damage(first(n), fmt::format("missing: {} {} came after it", what, newest)), ++named;
      if (n < newest && !ended.contains(n))
        damage(second(n), fmt::format("missing: {} {} came after it", what, newest)), ++named;
    }
  }

  // A commit that something speaks of: it must stand, as it was. Pruning does not remove it.
  void check_head(const std::string& name, const Digest& digest, const std::string& why) {
    auto there = digests_.find(name);
    if (!present_.contains(name))
      damage(name, fmt::format("missing: {}", why));
    else if (there != digests_.end() && there->second != digest && !disowned_.contains(there->second))
      damage(name, fmt::format("it is not the commit that stood here: {}", why));
  }

  // Of each writer's newest visible snapshots of a resource, the page maps or runs: what the next is built
  // on.
  void find_asked_runs() {
    using Chain = std::pair<ResourceId, std::array<uint8_t, kSignerPrefixBytes>>;
    std::map<Chain, const CommitRecord*> newest;
    for (const auto& [name, commit] : commits_) {
      if (pruned_.contains(name)) continue;
      Chain chain{commit.record.resource, {}};
      std::copy_n(commit.record.session.raw.begin(), kSignerPrefixBytes, chain.second.begin());
      const CommitRecord*& last = newest[chain];
      if (last == nullptr || last->started_ns < commit.record.started_ns) last = &commit.record;
    }
    for (const auto& [chain, commit] : newest) {
      for (const ObjectRef& map : commit->maps) asked_runs_.insert(map.name);
    }
  }

  bool is_lost(const ObjectRef& ref) const {
    if (!present_.contains(ref.name)) return true;
    const auto digest = digests_.find(ref.name);
    return digest != digests_.end() && digest->second != ref.digest && !incarnations_.contains(ref.name);
  }

  // Then its maps are runs of the chunk index: the directory of the pack with its root says so, which the
  // commit binds; the type byte of an object is nobody's word.
  bool is_in_segments(const CommitRecord& commit) {
    const auto live = lives_.find(commit.live.name);
    if (live == lives_.end() || commit.tree.empty()) return false;
    const FrameSpan& root = commit.tree.front();
    const auto pack = std::ranges::find(live->second.packs, root.pack, &LivePack::name);
    if (pack == live->second.packs.end()) return false;
    const auto shape = read_pack_shape(store_, vault_.keys(), pack->name, *pack);
    return shape && root.first < shape->frames.size() &&
           shape->frames[root.first].type == FrameType::kTreeRoot;
  }

  // No restore needs it: it is damage as long as somebody will ask for it, who then mends it.
  void tell_lost_run(const ObjectRef& run) {
    lost_runs_.insert(run.name);
    const auto damaged = damaged_runs_.find(run.name);
    const std::string what = !present_.contains(run.name)     ? "missing"
                             : damaged == damaged_runs_.end() ? "it is not what its snapshot binds"
                                                              : damaged->second;
    if (asked_runs_.contains(run.name))
      damage(run.name, what +
                           "; a run of the chunk index: every snapshot is restored without it, and the "
                           "next backup of its resource finds again what it told of");
    else
      find(run.name,
           what + "; a run of the chunk index: no restore needs it, and newer snapshots have their own", {},
           ScrubSeverity::kNote);
  }

  void check_bound(const ObjectRef& ref, const std::set<SnapshotId>& by) {
    if (!present_.contains(ref.name)) return damage(ref.name, "missing", by);
    auto digest = digests_.find(ref.name);
    if (digest == digests_.end()) return;  // could not be read: named already
    if (digest->second != ref.digest ||
        (!incarnations_.contains(ref.name) && present_[ref.name] != ref.size)) {
      for (const std::string& other : standing_as(ref.name)) {
        auto bytes = store_.get(other);
        if (!bytes || is_condemned(other) || sha256(*bytes) != ref.digest) continue;
        digests_[ref.name] = ref.digest;
        if (auto opened = vault_.codec().decode(ref.name, *bytes);
            opened && opened->type == RecordType::kLive) {
          if (auto live = parse<LiveRecord>(ref.name, *opened)) lives_[ref.name] = std::move(*live);
        }
        return supersede(ref.name, other, "it is not what its snapshot binds");
      }
      const auto run = damaged_runs_.find(ref.name);
      damage(ref.name, run == damaged_runs_.end() ? "it is not what its snapshot binds" : run->second, by);
      lost_runs_.insert(ref.name);
    }
    if (swept_.contains(ref.name) && !incarnations_.contains(ref.name))
      damage(ref.name, "a sweep condemned it while a snapshot needs it", by);
  }

  void compare_neighbours(const std::vector<WalObject>& objects, size_t i) {
    const WalObject& object = objects[i];
    for (size_t j = i; j-- > 0;) {
      const WalObject& before = objects[j];
      if (before.name.kind != object.name.kind) continue;
      // Parts may overlap: a stream that was killed begins where it knows itself durable, and what it had on
      // its way may arrive after that. `wal stream` compares what it receives again with what is there.
      const bool may_overlap = object.name.kind == names::WalKind::kPart;
      const bool same = before.name.from == object.name.from && before.name.to == object.name.to;
      // Two labels at one place are two backups; two contents of a stretch or history are two servers.
      if (object.name.kind != names::WalKind::kLabel &&
          (same || (!may_overlap && before.name.to > object.name.from)))
        damage(object.object,
               fmt::format("split brain: {} claims the same WAL with other content", before.object));
      return;
    }
  }

  // Segments and parts together: one fills what the other leaves.
  void note_holes(const std::vector<WalObject>& objects) {
    uint64_t covered = 0;
    for (const WalObject& object : objects) {
      if (!is_stretch(object.name.kind)) continue;
      if (covered != 0 && covered < object.name.from)
        find(object.object,
             fmt::format("a hole before it: nothing from {:X}/{:X} on", covered >> 32, covered & UINT32_MAX),
             {}, ScrubSeverity::kNote);
      covered = std::max(covered, object.name.to);
    }
  }

  struct Standing {
    Store* store;
    std::string name;
  };

  Vault& vault_;
  Store& store_;
  Protocol protocol_;
  RecordLog log_;
  const ScrubOptions& options_;
  Reporter& reporter_;
  ScrubResult result_;
  std::map<std::pair<std::string, ScrubSeverity>, size_t> found_;  // index into result_.findings
  std::map<std::string, uint64_t, std::less<>> present_;           // name → size
  std::map<std::string, Standing, std::less<>>
      standing_;  // of what stands under another name than in one place
  std::set<std::string, std::less<>> in_ledger_;
  std::map<std::string, std::vector<std::string>, std::less<>> incarnations_;  // by origin
  std::set<std::string, std::less<>> only_again_;  // origins that stand as incarnations alone
  std::map<std::string, Digest> digests_;          // of the small objects read
  std::map<std::string, SeenCommit> commits_;      // verified ones
  std::map<std::string, std::vector<std::pair<std::string, Digest>>> catalogs_;  // by name: what each holds
  std::map<std::string, LiveRecord> lives_;
  std::map<std::string, Bound> bound_;               // packs of visible snapshots
  std::map<std::string, std::string> damaged_runs_;  // of the chunk index: what is wrong
  std::set<std::string> asked_runs_, lost_runs_;     // whose snapshot is built on next; told already
  std::set<std::string> pruned_, swept_, unknown_;
  std::set<uint64_t> gc_plans_, gc_sweeps_, prune_intents_, prune_finals_;
  std::set<SnapshotId> snapshots_;  // that have any commit name
  std::vector<std::pair<std::string, SnapshotId>> spoken_of_;
  std::set<Digest> disowned_;
  std::map<uint64_t, std::vector<std::string>> plans_;  // of collections: what each condemned
  size_t remembered_ = 0;                               // of result_.verified, told to the caller
  std::set<SnapshotId> pruned_meanwhile_;               // as far as was looked since the names were listed
  bool looked_since_listed_ = false;
};

}  // namespace

bool ScrubResult::damaged() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](auto& f) { return f.severity == ScrubSeverity::kDamage; });
}
bool ScrubResult::unreadable() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](auto& f) { return f.severity == ScrubSeverity::kUnreadable; });
}

Result<ScrubResult> scrub(Vault& vault, const ScrubOptions& options, Reporter& reporter) {
  Scrubber run(vault, options, reporter);
  TRY(run.list_everything());
  run.check_vault_objects();
  TRY(run.check_records());
  run.check_ledger();
  run.check_catalogs();
  run.check_numbers();
  run.check_commits();
  run.check_wal();
  TRY(run.check_bytes());
  return run.finish();
}

}  // namespace kuramori
