#include "vault/overview.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "vault/envelope.h"
#include "vault/names.h"
#include "vault/record_log.h"

namespace kuramori {
namespace {

using AtHand = std::map<std::string, Bytes, std::less<>>;  // by full name

// "holds/" → "holds0": the first name after all that begin with it.
std::string end_of(std::string_view prefix) {
  std::string end(prefix);
  ++end.back();
  return end;
}

// A store whose names were listed beforehand, in ranges, and of whose objects some are at hand.
class ViewedStore final : public Store {
 public:
  ViewedStore(Store& inner, const AtHand& at_hand) : inner_(inner), at_hand_(at_hand), versions_(*this) {}

  // Lists every name from `first` up to `end`.
  Result<void> cover(std::string first, std::string end) {
    Range range{std::move(first), std::move(end), {}};
    // A prefix is no name of an object, so nothing in the range sorts at or before it.
    std::string after = range.first;
    for (bool more = true; more;) {
      TRY_ASSIGN(ListPage page, inner_.list("", after, kListPageMax));
      more = page.more;
      if (more && page.objects.empty())
        return fail(ErrorKind::kFailed, "the store announced more names and listed none");
      for (ObjectInfo& object : page.objects) {
        if (object.name >= range.end) {
          more = false;
          break;
        }
        after = object.name;
        range.objects.push_back(std::move(object));
      }
    }
    ranges_.push_back(std::move(range));
    return {};
  }

  bool is_at_hand(std::string_view name) const {
    const ObjectInfo* seen = find(name);
    auto held = at_hand_.find(name);
    // Another size is another object: somebody put over it. What stands there is the truth.
    return seen != nullptr && held != at_hand_.end() && held->second.size() == seen->size;
  }

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
    if (is_at_hand(name)) return at_hand_.find(name)->second;
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
  };
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
  const ObjectInfo* find(std::string_view name) const {
    const Range* range = range_of(name);
    if (range == nullptr) return nullptr;
    auto at = std::ranges::lower_bound(range->objects, name, {}, &ObjectInfo::name);
    return at != range->objects.end() && at->name == name ? &*at : nullptr;
  }

  Store& inner_;
  const AtHand& at_hand_;
  std::vector<Range> ranges_;
  Behind versions_;
};

}  // namespace

struct Overview::Parts {
  Parts(const Protocol& from, const Signers& who)
      : signers(who),
        objects(from.store, at_hand),
        protocol{.store = objects,
                 .codec = from.codec,
                 .clock = from.clock,
                 .random = from.random,
                 .self = from.self,
                 .may_delete = from.may_delete,
                 .may_commit = from.may_commit,
                 .bugs = from.bugs} {
    if (from.epoch == nullptr) return;
    epoch = *from.epoch;
    protocol.epoch = &epoch;
    if (epoch.ledger == nullptr) return;
    ledger = std::make_unique<ViewedStore>(*epoch.ledger, at_hand);
    epoch.ledger = ledger.get();
  }

  // Prunes before commits, as everywhere.
  Result<void> list_names() {
    if (protocol.epoch != nullptr) {
      const std::string prefix = names::epoch_prefix(epoch.number);
      TRY((ledger ? *ledger : objects).cover(prefix, end_of(prefix)));
      std::set<uint64_t> older;
      for (const AcceptedCommit& accepted : epoch.seal.accepted) older.insert(accepted.epoch);
      for (uint64_t number : older) {
        const std::string commits = names::epoch_prefix(number) + std::string(names::kCommits);
        TRY(objects.cover(commits, end_of(commits)));
      }
    }
    TRY(objects.cover(std::string(names::kProofs), end_of(names::kSigners)));
    return objects.cover(std::string(names::kCatalog), end_of(names::kHolds));
  }

  // Nothing goes wrong here but for the store: whatever is no catalog is passed over.
  Result<void> take_catalog() {
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
        for (CatalogRecord::Entry& entry : catalog->entries) {
          // What is cut or rotten in a catalog is not needed from it.
          if (parse_envelope(entry.name, entry.object))
            at_hand.emplace(std::move(entry.name), std::move(entry.object));
        }
        return {};
      }
      ErrorKind kind = catalog.error().kind;
      if (kind == ErrorKind::kInterrupted) return std::move(catalog).error();
      if (kind == ErrorKind::kDamaged) refused.push_back(object->name);
    }
    return {};
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
  ViewedStore objects;
  std::unique_ptr<ViewedStore> ledger;
  Epoch epoch;
  Protocol protocol;
  uint64_t in_use = 0;  // the number of the catalog that was taken
  std::vector<std::string> refused;
};

Overview::Overview(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Overview::~Overview() = default;

Result<std::unique_ptr<Overview>> Overview::look(const Protocol& protocol, const Signers& signers) {
  auto parts = std::make_unique<Parts>(protocol, signers);
  TRY(parts->list_names());
  TRY(parts->take_catalog());
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
const std::vector<std::string>& Overview::catalogs_refused() const {
  return parts_->refused;
}

}  // namespace kuramori
