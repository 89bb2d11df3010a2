#include "vault/overview.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <set>

#include "base/cpu_limit.h"
#include "conc/task_group.h"
#include "vault/envelope.h"
#include "vault/names.h"
#include "vault/record_log.h"

namespace kuramori {
namespace {

constexpr uint64_t kRememberedBytesMax = 1 << 20;
// Ten thousand snapshots are listed one page after the other: cut, they would cost more pages.
constexpr size_t kPagesBeforeCuts = 14;
constexpr size_t kListsAtOnce = 8;
constexpr size_t kCutsMax = 32;
constexpr size_t kOpenedAtOnce = 8;  // records; a signature is a twentieth of a millisecond's work

// A record inside of another is remembered beside it, under a name that no object can have.
constexpr std::string_view kInside = "\ninside";

struct Copy {
  Bytes object;
  size_t catalog = 0;  // that holds it
};
using AtHand = std::map<std::string, Copy, std::less<>>;  // by full name

// "holds/" → "holds0": the first name after all that begin with it.
std::string end_of(std::string_view prefix) {
  std::string end(prefix);
  ++end.back();
  return end;
}

// A store whose names were listed beforehand, in ranges, and of whose objects some are at hand.
class ViewedStore final : public Store {
 public:
  // `missed`: called before an object that is not at hand is fetched.
  ViewedStore(Store& inner, const AtHand& at_hand, std::function<void()> missed)
      : inner_(inner), at_hand_(at_hand), missed_(std::move(missed)), versions_(*this) {}

  // Lists every name from `first` up to `end`. What lies between two of `cuts` (sorted) is listed at the same
  // time as the rest, once it is seen that there are many.
  Result<void> cover(std::string first, std::string end, std::vector<std::string> cuts = {}) {
    Range range{std::move(first), std::move(end), {}};
    // A prefix is no name of an object, so nothing in the range sorts at or before it.
    std::string after = range.first;
    TRY_ASSIGN(bool more, list_up_to(after, range.end, kPagesBeforeCuts, range.objects));
    if (more) {
      // A folder answers at once, and is read as a whole for each piece.
      const bool is_near = inner_.location().starts_with('/');
      std::erase_if(cuts,
                    [&](const std::string& cut) { return is_near || cut <= after || cut >= range.end; });
      cuts.push_back(range.end);
      std::vector<std::vector<ObjectInfo>> pieces(cuts.size());
      // Names at a cut itself belong to the piece before it: "after" is exclusive.
      TRY(parallel_for(cuts.size(), kListsAtOnce, {}, [&](size_t i, std::stop_token) -> Result<void> {
        std::string from = i == 0 ? after : cuts[i - 1];
        const std::string to = i + 1 == cuts.size() ? cuts[i] : cuts[i] + '\0';
        TRY(list_up_to(from, to, SIZE_MAX, pieces[i]));
        return {};
      }));
      for (std::vector<ObjectInfo>& piece : pieces) {
        std::ranges::move(piece, std::back_inserter(range.objects));
        piece = {};
      }
    }
    ranges_.push_back(std::move(range));
    return {};
  }

  // All of the range in which the prefix lies; null: it was not covered.
  const std::vector<ObjectInfo>* listed(std::string_view prefix) const {
    const Range* range = range_of(prefix);
    return range == nullptr ? nullptr : &range->objects;
  }
  const ObjectInfo* find(std::string_view name) const {
    const Range* range = range_of(name);
    if (range == nullptr) return nullptr;
    // Mostly they are asked for in order.
    const std::vector<ObjectInfo>& objects = range->objects;
    for (const size_t next : {range->found, range->found + 1}) {
      if (next >= objects.size() || objects[next].name != name) continue;
      range->found = next;
      return &objects[next];
    }
    auto at = std::ranges::lower_bound(objects, name, {}, &ObjectInfo::name);
    if (at == objects.end() || at->name != name) return nullptr;
    range->found = static_cast<size_t>(at - objects.begin());
    return &*at;
  }
  bool is_at_hand(std::string_view name) const {
    const ObjectInfo* seen = find(name);
    auto held = at_hand_.find(name);
    // Another size is another object: somebody put over it. What stands there is the truth.
    return seen != nullptr && held != at_hand_.end() && held->second.object.size() == seen->size;
  }

  // The bytes at hand, or null; they stay where they are until a catalog is taken.
  const Bytes* at_hand(std::string_view name) const {
    return is_at_hand(name) ? &at_hand_.find(name)->second.object : nullptr;
  }
  Store& inner() const { return inner_; }

  std::string location() const override { return inner_.location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return inner_.put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override { return inner_.create(name); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override { return inner_.open(name); }
  Result<ObjectInfo> head(std::string_view name) override { return inner_.head(name); }
  Result<void> remove(std::string_view name) override { return inner_.remove(name); }
  Retention* retention() override { return inner_.retention(); }
  Tiers* tiers() override { return inner_.tiers(); }
  Versions* versions() override { return &versions_; }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_.remove_unfinished(older_than);
  }

  Result<Bytes> get(std::string_view name) override {
    if (!is_at_hand(name)) missed_();  // perhaps it is now
    if (is_at_hand(name)) return at_hand_.find(name)->second.object;
    if (range_of(name) != nullptr && find(name) == nullptr)
      return fail(ErrorKind::kNotFound, fmt::format("{} was not there when the vault was listed", name));
    return inner_.get(name);
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    const Range* range = range_of(prefix);
    if (range == nullptr || range->end.starts_with(prefix)) return inner_.list(prefix, after, limit);
    TRY(check_list_request(prefix, limit));
    ListPage page;
    auto at = after < prefix ? std::ranges::lower_bound(range->objects, prefix, {}, &ObjectInfo::name)
                             : std::ranges::upper_bound(range->objects, after, {}, &ObjectInfo::name);
    for (; at != range->objects.end() && at->name.starts_with(prefix); ++at) {
      if (page.objects.size() == limit) {
        page.more = true;
        break;
      }
      page.objects.push_back(*at);
    }
    return page;
  }

 private:
  struct Range {
    std::string first, end;
    std::vector<ObjectInfo> objects;  // by name
    mutable size_t found = 0;         // what was asked for last
  };
  // At most `pages` pages of names after `after`, which goes along; whether there are more before `end`.
  Result<bool> list_up_to(std::string& after, std::string_view end, size_t pages,
                          std::vector<ObjectInfo>& into) {
    for (size_t number = 0; number < pages; ++number) {
      TRY_ASSIGN(ListPage page, inner_.list("", after, kListPageMax));
      if (page.more && page.objects.empty())
        return fail(ErrorKind::kFailed, "the store announced more names and listed none");
      for (ObjectInfo& object : page.objects) {
        if (object.name >= end) return false;
        after = object.name;
        into.push_back(std::move(object));
      }
      if (!page.more) return false;
    }
    return true;
  }
  // What stands there comes first of what may be behind bytes that were at hand and did not open.
  class Behind final : public Versions {
   public:
    explicit Behind(ViewedStore& store) : store_(store) {}
    Result<std::vector<ObjectVersion>> versions(std::string_view name) override {
      std::vector<ObjectVersion> all;
      if (store_.is_at_hand(name)) all.push_back({.name = std::string(name), .id = std::string(kStanding)});
      Versions* inner = store_.inner_.versions();
      if (inner == nullptr) return all;
      // Of signers every opening asks what hides behind names that are not there, so all are looked at
      // together.
      if (all.empty() && name.starts_with(names::kSigners)) {
        if (!signers_ever_) signers_ever_ = inner->names_ever(names::kSigners);
        if (*signers_ever_ && !std::ranges::binary_search(**signers_ever_, name)) return all;
      }
      auto older = inner->versions(name);
      if (!older && all.empty()) return older;
      if (older) all.insert(all.end(), older->begin(), older->end());
      return all;
    }
    Result<std::vector<std::string>> names_ever(std::string_view prefix) override {
      TRY_ASSIGN(Versions * inner, real());
      return inner->names_ever(prefix);
    }
    Result<Bytes> get_version(std::string_view name, std::string_view id) override {
      if (id == kStanding) return store_.inner_.get(name);
      TRY_ASSIGN(Versions * inner, real());
      return inner->get_version(name, id);
    }
    Result<std::unique_ptr<ObjectReader>> open_version(std::string_view name, std::string_view id) override {
      if (id == kStanding) return store_.inner_.open(name);
      TRY_ASSIGN(Versions * inner, real());
      return inner->open_version(name, id);
    }
    Result<void> remove_version(std::string_view name, std::string_view id) override {
      TRY_ASSIGN(Versions * inner, real());
      return inner->remove_version(name, id);
    }

   private:
    static constexpr std::string_view kStanding = "standing";
    Result<Versions*> real() {
      if (Versions* inner = store_.inner_.versions()) return inner;
      return fail(ErrorKind::kRefused, fmt::format("{} keeps no versions", store_.location()));
    }
    ViewedStore& store_;
    std::optional<Result<std::vector<std::string>>> signers_ever_;
  };

  const Range* range_of(std::string_view name) const {
    auto range =
        std::ranges::find_if(ranges_, [&](const Range& r) { return name >= r.first && name < r.end; });
    return range == ranges_.end() ? nullptr : &*range;
  }

  Store& inner_;
  const AtHand& at_hand_;
  std::function<void()> missed_;
  std::vector<Range> ranges_;
  Behind versions_;
};

}  // namespace

struct Overview::Parts final : KnownRecords {
  Parts(const Protocol& from, const Signers& who, OpenedMemory* remembered)
      : signers(who),
        memory(remembered),
        objects(from.store, at_hand, [this] { missed(); }),
        protocol{.store = objects,
                 .codec = from.codec,
                 .clock = from.clock,
                 .random = from.random,
                 .self = from.self,
                 .may_delete = from.may_delete,
                 .may_commit = from.may_commit,
                 .bugs = from.bugs,
                 .known = remembered != nullptr ? this : nullptr} {
    if (from.epoch == nullptr) return;
    epoch = *from.epoch;
    protocol.epoch = &epoch;
    if (epoch.ledger == nullptr) return;
    ledger = std::make_unique<ViewedStore>(*epoch.ledger, at_hand, [this] { missed(); });
    epoch.ledger = ledger.get();
  }

  // Prunes before commits, as everywhere.
  Result<void> list_names() {
    TRY(objects.cover(std::string(names::kProofs), end_of(names::kSigners)));
    if (protocol.epoch != nullptr) {
      const std::string prefix = names::epoch_prefix(epoch.number);
      TRY((ledger ? *ledger : objects).cover(prefix, end_of(prefix), cuts_of(prefix)));
      std::set<uint64_t> older;
      for (const AcceptedCommit& accepted : epoch.seal.accepted) older.insert(accepted.epoch);
      for (uint64_t number : older) {
        const std::string commits = names::epoch_prefix(number) + std::string(names::kCommits);
        TRY(objects.cover(commits, end_of(commits), cuts_of(names::epoch_prefix(number))));
      }
    }
    return objects.cover(std::string(names::kCatalog), end_of(names::kHolds), cuts_of(""));
  }

  // Where the names of commits can be cut into about equal pieces: they go on with the resource, which was
  // listed before, and then with random digits.
  std::vector<std::string> cuts_of(const std::string& in_front) {
    std::vector<std::string> cuts;
    const std::vector<ObjectInfo>* listed = objects.listed(names::kResources);
    if (listed == nullptr) return cuts;
    std::vector<std::string_view> resources;
    for (const ObjectInfo& object : *listed) {
      if (object.name.starts_with(names::kResources))
        resources.push_back(std::string_view(object.name).substr(names::kResources.size()));
    }
    const size_t each =
        std::max<size_t>(1, std::min<size_t>(16, kCutsMax / std::max<size_t>(1, resources.size())));
    const size_t step = std::max<size_t>(1, resources.size() / kCutsMax);
    for (size_t i = 0; i < resources.size(); i += step) {
      for (size_t piece = 0; piece < each; ++piece)
        cuts.push_back(
            fmt::format("{}{}{}/{:x}", in_front, names::kCommits, resources[i], piece * 16 / each));
    }
    std::ranges::sort(cuts);
    return cuts;
  }

  // KnownRecords: only what stands there with that size, and only while its signer's word counts. In doubt it
  // is read where it stands, which says in words what is wrong.
  std::optional<OpenedRecord> recall(std::string_view name) override {
    if (auto just = ahead.find(name); just != ahead.end()) return std::move(ahead.extract(just).mapped());
    const ObjectInfo* seen = place_of(name).find(name);
    if (seen == nullptr) return std::nullopt;
    auto known = recall_as(name, seen->size);
    if (!known) ++unknown;
    return known;
  }
  void remember(std::string_view name, uint64_t bytes, const OpenedRecord& record) override {
    // Unsigned types are bound by others, and large: they are no part of a look.
    if (record.signer != SignerId{} && bytes <= kRememberedBytesMax) memory->remember(name, bytes, record);
  }
  std::optional<OpenedRecord> recall_inner(std::string_view name, const Digest& digest) override {
    if (auto just = ahead_inside.find(name); just != ahead_inside.end() && just->second.digest == digest)
      return std::move(ahead_inside.extract(just).mapped());
    const ObjectInfo* seen = place_of(name).find(name);
    if (seen == nullptr) return std::nullopt;
    auto known = recall_as(inside_of(name), seen->size);
    return known && known->digest == digest ? std::move(known) : std::nullopt;
  }
  void remember_inner(std::string_view name, const OpenedRecord& record) override {
    const ObjectInfo* seen = place_of(name).find(name);
    if (seen != nullptr) remember(inside_of(name), seen->size, record);
  }

  // What was not opened on this machine yet is opened on several threads. Only what opens at once counts:
  // the rest is read again where it stands, one by one, and there it is said what is wrong with it.
  void expect(std::span<const std::string_view> names) override {
    ahead.clear();
    ahead_inside.clear();
    if (!memory->empty() && unknown <= kReadSinglyMax) return;  // a few are read singly
    struct Wanted {
      std::string_view name;
      ViewedStore* place;
      uint64_t bytes;
      const Bytes* at_hand = nullptr;
      std::optional<OpenedRecord> opened, inside;
    };
    std::vector<Wanted> wanted;
    for (const std::string_view name : names) {
      ViewedStore& place = place_of(name);
      const ObjectInfo* seen = place.find(name);
      if (seen == nullptr || seen->size > kRememberedBytesMax || memory->may_know(name)) continue;
      if (!place.is_at_hand(name)) missed();
      wanted.push_back({.name = name, .place = &place, .bytes = seen->size, .opened = {}, .inside = {}});
    }
    if (wanted.size() <= kReadSinglyMax) return;
    for (Wanted& one : wanted) one.at_hand = one.place->at_hand(one.name);
    // Nothing fails here: it would only be read once more.
    (void)parallel_for(wanted.size(), kOpenedAtOnce, {}, [&](size_t i, std::stop_token) -> Result<void> {
      Wanted& one = wanted[i];
      Bytes fetched;
      if (one.at_hand == nullptr) {
        Result<Bytes> object = one.place->inner().get(one.name);
        if (!object || object->size() != one.bytes) return {};
        fetched = std::move(*object);
      }
      pause_for_cpu();
      auto opened = protocol.codec.decode(one.name, one.at_hand ? ByteView(*one.at_hand) : fetched);
      if (!opened) return {};
      if (opened->type == RecordType::kCopy) {
        auto copy = decode<CopyRecord>(opened->body);
        auto inside = copy ? protocol.codec.decode(copy->origin, copy->commit) : std::move(copy).error();
        if (inside) one.inside = std::move(*inside);
      }
      one.opened = std::move(*opened);
      return {};
    });
    for (Wanted& one : wanted) {
      if (!one.opened) continue;
      remember(one.name, one.bytes, *one.opened);
      if (one.inside) {
        remember(inside_of(one.name), one.bytes, *one.inside);
        ahead_inside.emplace(one.name, std::move(*one.inside));
      }
      ahead.emplace(one.name, std::move(*one.opened));
    }
  }

  // Which of the two shows this name.
  ViewedStore& place_of(std::string_view name) {
    return ledger && ledger->find(name) != nullptr ? *ledger : objects;
  }
  static std::string inside_of(std::string_view name) { return std::string(name) + std::string(kInside); }
  std::optional<OpenedRecord> recall_as(std::string_view name, uint64_t bytes) {
    std::optional<OpenedRecord> known = memory->recall(name, bytes);
    if (!known) return std::nullopt;
    Result<const Signer*> signer = signers.find(known->signer);
    if (!signer || !may_sign((*signer)->role, known->type) || !(*signer)->counts(known->digest))
      return std::nullopt;
    return known;
  }

  void missed() {
    if (!catalog_wanted || ++misses <= kReadSinglyMax) return;
    // What the store did not answer here, it will not answer whoever asked either.
    (void)take_catalog();
  }

  // Nothing goes wrong here but for the store: whatever is no catalog is passed over.
  Result<void> take_catalog() {
    catalog_wanted = false;
    RecordLog log(protocol);
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::kCatalog));
    int tries = 0;
    for (auto object = listed.rbegin(); object != listed.rend() && tries < kCatalogTriesMax; ++object) {
      auto n = names::parse_catalog(object->name);
      if (!n) continue;
      ++tries;
      Result<CatalogRecord> catalog = read_catalog(object->name, *n);
      if (catalog) {
        in_use = *n;
        for (const std::string& part : take_entries(object->name, std::move(*catalog))) {
          auto number = names::parse_catalog(part);
          if (!number || catalogs.size() > kCatalogPartsMax) continue;
          // One that is gone or damaged: what it held is read where it stands.
          Result<CatalogRecord> more = read_catalog(part, *number);
          if (more)
            take_entries(part, std::move(*more));
          else if (more.error().kind == ErrorKind::kInterrupted)
            return std::move(more).error();
        }
        return {};
      }
      ErrorKind kind = catalog.error().kind;
      if (kind == ErrorKind::kInterrupted) return std::move(catalog).error();
      if (kind == ErrorKind::kDamaged) refused.push_back(object->name);
    }
    return {};
  }

  // The names of the catalogs it goes on in: entries that have no object.
  std::vector<std::string> take_entries(const std::string& name, CatalogRecord&& catalog) {
    std::vector<std::string> parts;
    catalogs.push_back({.name = name});
    for (CatalogRecord::Entry& entry : catalog.entries) {
      if (entry.object.empty() && entry.name.starts_with(names::kCatalog)) {
        parts.push_back(std::move(entry.name));
      } else if (parse_envelope(entry.name, entry.object)) {
        // What is cut or rotten in a catalog is not needed from it.
        ++catalogs.back().records;
        catalogs.back().bytes += entry.object.size();
        at_hand.emplace(std::move(entry.name), Copy{std::move(entry.object), catalogs.size() - 1});
      }
    }
    return parts;
  }

  Result<CatalogRecord> read_catalog(const std::string& name, uint64_t n) {
    TRY_ASSIGN(Bytes object, protocol.store.get(name));
    TRY_ASSIGN(Envelope envelope, parse_envelope(name, object));
    signers.meet(envelope.signer, objects);
    TRY_ASSIGN(OpenedRecord opened, protocol.codec.decode(name, object));
    object = {};
    if (opened.type != RecordType::kCatalog || !protocol.may_delete(opened.signer))
      return fail(ErrorKind::kDamaged, fmt::format("{} is no catalog of a keeper", name));
    TRY_ASSIGN(CatalogRecord catalog, decode<CatalogRecord>(opened.body));
    if (catalog.number != n)
      return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
    return catalog;
  }

  Result<void> meet_signers() {
    RecordLog log(protocol);
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::kSigners));
    for (const ObjectInfo& object : listed) {
      if (auto parsed = names::parse_signer(object.name)) signers.meet(parsed->signer, objects);
    }
    return {};
  }

  AtHand at_hand;
  const Signers& signers;
  OpenedMemory* memory;
  bool catalog_wanted = true;  // it was not looked for yet
  size_t misses = 0;
  size_t unknown = 0;                                                    // asked for, and not in the memory
  std::map<std::string, OpenedRecord, std::less<>> ahead, ahead_inside;  // of what is expected, by full name
  ViewedStore objects;
  std::unique_ptr<ViewedStore> ledger;
  Epoch epoch;
  Protocol protocol;
  uint64_t in_use = 0;  // the number of the catalog that was taken
  std::vector<Catalog> catalogs;
  std::vector<std::string> refused;
};

Overview::Overview(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Overview::~Overview() = default;

Result<std::unique_ptr<Overview>> Overview::look(const Protocol& protocol, const Signers& signers,
                                                 OpenedMemory* memory) {
  auto parts = std::make_unique<Parts>(protocol, signers, memory);
  TRY(parts->list_names());
  if (memory == nullptr || memory->empty()) TRY(parts->take_catalog());
  TRY(parts->meet_signers());
  return std::unique_ptr<Overview>(new Overview(std::move(parts)));
}

const Protocol& Overview::protocol() const {
  return parts_->protocol;
}
bool Overview::is_at_hand(const std::string& full_name) const {
  return parts_->objects.is_at_hand(full_name) || (parts_->ledger && parts_->ledger->is_at_hand(full_name));
}
uint64_t Overview::catalog_number() const {
  return parts_->in_use;
}
const std::vector<Overview::Catalog>& Overview::catalogs() const {
  return parts_->catalogs;
}
std::optional<size_t> Overview::catalog_of(const std::string& full_name) const {
  if (!is_at_hand(full_name)) return std::nullopt;
  return parts_->at_hand.find(full_name)->second.catalog;
}
const std::vector<std::string>& Overview::catalogs_refused() const {
  return parts_->refused;
}

}  // namespace kuramori
