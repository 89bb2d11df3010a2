#include "vault/incarnations.h"

#include "vault/names.h"

namespace kuramori {
namespace {

constexpr std::string_view kAgain = "again:";  // before an incarnation's name, as the id of a version

// What stands under a name may be damaged, and not removable yet (a lock), while a whole incarnation stands
// beside it: whoever looks behind a name's newest version finds its incarnations too.
class IncarnationVersions final : public Versions {
 public:
  explicit IncarnationVersions(Store& inner) : inner_(inner) {}
  Result<std::vector<ObjectVersion>> versions(std::string_view name) override {
    std::vector<ObjectVersion> all;
    if (Versions* own = inner_.versions()) {
      TRY_ASSIGN(all, own->versions(name));
    }
    if (!names::is_content(name) || names::origin_of(name) != name) return all;
    TRY(for_each_object(inner_, std::string(name) + ".", [&](const ObjectInfo& object) -> Result<void> {
      all.push_back({.name = std::string(name),
                     .id = std::string(kAgain) + object.name,
                     .size = object.size,
                     .stored_at = object.stored_at});
      return {};
    }));
    return all;
  }
  Result<std::vector<std::string>> names_ever(std::string_view prefix) override {
    if (Versions* own = inner_.versions()) return own->names_ever(prefix);
    return std::vector<std::string>();
  }
  Result<Bytes> get_version(std::string_view name, std::string_view id) override {
    if (id.starts_with(kAgain)) return inner_.get(id.substr(kAgain.size()));
    TRY_ASSIGN(Versions * own, own_versions());
    return own->get_version(name, id);
  }
  Result<std::unique_ptr<ObjectReader>> open_version(std::string_view name, std::string_view id) override {
    if (id.starts_with(kAgain)) return inner_.open(id.substr(kAgain.size()));
    TRY_ASSIGN(Versions * own, own_versions());
    return own->open_version(name, id);
  }
  Result<void> remove_version(std::string_view name, std::string_view id) override {
    if (id.starts_with(kAgain)) return fail(ErrorKind::kFailed, "an incarnation is an object of its own");
    TRY_ASSIGN(Versions * own, own_versions());
    return own->remove_version(name, id);
  }

 private:
  Result<Versions*> own_versions() {
    if (Versions* own = inner_.versions()) return own;
    return fail(ErrorKind::kNotFound, "this place keeps no versions");
  }
  Store& inner_;
};

class IncarnationStore final : public Store {
 public:
  explicit IncarnationStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    return inner_->create(name);
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    return inner_->list(prefix, after, limit);
  }
  Result<void> remove(std::string_view name) override { return inner_->remove(name); }
  Retention* retention() override { return inner_->retention(); }
  Versions* versions() override { return &versions_; }
  Tiers* tiers() override { return inner_->tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_->remove_unfinished(older_than);
  }

  Result<Bytes> get(std::string_view name) override {
    return find(name, [&](std::string_view n) { return inner_->get(n); });
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    return find(name, [&](std::string_view n) { return inner_->open(n); });
  }
  Result<ObjectInfo> head(std::string_view name) override {
    return find(name, [&](std::string_view n) { return inner_->head(n); });
  }

 private:
  template <class Call>
  auto find(std::string_view name, Call&& call) -> decltype(call(name)) {
    auto found = call(name);
    bool again = !found && found.error().kind == ErrorKind::kNotFound && names::is_content(name) &&
                 names::origin_of(name) == name;
    if (!again) return found;
    std::optional<Error> trouble;
    TRY(for_each_object(*inner_, std::string(name) + ".", [&](const ObjectInfo& object) -> Result<void> {
      if (found) return {};
      auto incarnation = call(object.name);
      if (incarnation) {
        found = std::move(incarnation);
      } else if (incarnation.error().kind != ErrorKind::kNotFound) {
        trouble = std::move(incarnation).error();
      }
      return {};
    }));
    if (!found && trouble) return std::move(*trouble);
    return found;
  }

  std::unique_ptr<Store> inner_;
  IncarnationVersions versions_{*inner_};
};

class PinnedObject final : public Store {
 public:
  PinnedObject(Store& store, std::string object) : store_(store), object_(std::move(object)) {}
  std::string location() const override { return store_.location(); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view) override { return store_.open(object_); }
  Result<Bytes> get(std::string_view) override { return store_.get(object_); }
  Result<ObjectInfo> head(std::string_view) override { return store_.head(object_); }
  Result<void> put_if_absent(std::string_view, ByteView) override { return unused(); }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view) override { return unused(); }
  Result<ListPage> list(std::string_view, std::string_view, size_t) override { return unused(); }
  Result<void> remove(std::string_view) override { return unused(); }

 private:
  static Error unused() { return fail(ErrorKind::kFailed, "one object is only read"); }
  Store& store_;
  std::string object_;
};

}  // namespace

std::unique_ptr<Store> only_incarnation(Store& store, std::string object) {
  return std::make_unique<PinnedObject>(store, std::move(object));
}

std::unique_ptr<Store> with_incarnations(std::unique_ptr<Store> store) {
  return std::make_unique<IncarnationStore>(std::move(store));
}

}  // namespace kuramori
