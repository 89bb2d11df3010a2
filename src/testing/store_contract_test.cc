// The suite must fail for stores that are broken the way real ones were: one planted fault each.
#include "testing/store_contract.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <thread>

#include "store/memory/memory_store.h"

namespace kuramori {
namespace {

// A right store in memory; each broken one overrides the one thing it does wrong.
class Delegating : public Store {
 public:
  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> checked, inner_->create(name));
    return std::unique_ptr<ObjectWriter>(new Writer(*this, std::string(name)));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override { return inner_->open(name); }
  Result<Bytes> get(std::string_view name) override { return inner_->get(name); }
  Result<ObjectInfo> head(std::string_view name) override { return inner_->head(name); }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    return inner_->list(prefix, after, limit);
  }
  Result<void> remove(std::string_view name) override { return inner_->remove(name); }

 protected:
  // Commits through the (broken) put_if_absent.
  struct Writer : ObjectWriter {
    Writer(Delegating& to, std::string object) : store(to), name(std::move(object)) {}
    Result<void> append(ByteView more) override {
      kuramori::append(bytes, more);
      return {};
    }
    Result<void> commit() override { return store.put_if_absent(name, bytes); }
    Delegating& store;
    std::string name;
    Bytes bytes;
  };
  std::unique_ptr<MemoryStore> inner_ = make_memory_store();
};

struct ChecksThenPuts : Delegating {  // the window between the look and the put
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    if (inner_->head(name)) return fail(ErrorKind::kExists, "exists");
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    inner_->tamper(name, to_bytes(bytes));
    return {};
  }
};

struct Overwrites : Delegating {  // a bucket that ignores If-None-Match
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    inner_->tamper(name, to_bytes(bytes));
    return {};
  }
};

struct CommitOverwrites : Delegating {  // conditional put honoured, but not for multipart uploads
  struct RudeWriter : Writer {
    using Writer::Writer;
    MemoryStore* memory = nullptr;
    Result<void> commit() override {
      memory->tamper(name, bytes);
      return {};
    }
  };
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    auto writer = std::make_unique<RudeWriter>(*this, std::string(name));
    writer->memory = inner_.get();
    return writer;
  }
};

struct ShowsHalves : Delegating {  // writes in place
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    if (bytes.size() < 100'000) return inner_->put_if_absent(name, bytes);
    TRY(inner_->put_if_absent(name, bytes.first(bytes.size() / 2)));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    inner_->tamper(name, to_bytes(bytes));
    return {};
  }
};

struct KeepsPartialPuts : Delegating {  // V28: a cut-off upload kept as content
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return inner_->put_if_absent(name, bytes.first(std::min(bytes.size(), size_t{4} << 20)));
  }
};

struct EndsListsEarly : Delegating {  // V2
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    if (page.objects.size() == kListPageMax) page.more = false;
    return page;
  }
};

struct ListsByFolder : Delegating {  // sorts within folders by bare names: "a" (a folder) before "a-b"
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    auto key = [](std::string name) {
      std::replace(name.begin(), name.end(), '/', '\x01');
      return name;
    };
    std::sort(page.objects.begin(), page.objects.end(),
              [&](const ObjectInfo& a, const ObjectInfo& b) { return key(a.name) < key(b.name); });
    return page;
  }
};

struct RepeatsAfter : Delegating {  // `after` is included
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    Result<ObjectInfo> same =
        after.starts_with(prefix) && !after.empty() ? inner_->head(after) : fail(ErrorKind::kFailed, "");
    if (same) page.objects.insert(page.objects.begin(), *same);
    if (page.objects.size() > limit) page.objects.pop_back(), page.more = true;
    return page;
  }
};

struct PrefixIsAFolder : Delegating {  // "pre/ab" does not find "pre/abc/1"
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    if (prefix.empty() || prefix.ends_with('/')) return page;
    std::erase_if(page.objects, [&](const ObjectInfo& object) {
      return object.name.size() > prefix.size() && object.name[prefix.size()] != '/';
    });
    return page;
  }
};

struct ListsLate : Delegating {  // eventually consistent: the newest name is missing
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(inner_->put_if_absent(name, bytes));
    std::lock_guard hold(mutex);
    newest = name;
    return {};
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    std::lock_guard hold(mutex);
    std::erase_if(page.objects, [&](const ObjectInfo& object) { return object.name == newest; });
    return page;
  }
  std::mutex mutex;
  std::string newest;
};

struct ReadsLate : Delegating {  // a cached "not found": the first look at an absent name is remembered
  Result<ObjectInfo> head(std::string_view name) override {
    std::lock_guard hold(mutex);
    if (missing.erase(std::string(name)) > 0) return fail(ErrorKind::kNotFound, "cached");
    Result<ObjectInfo> info = inner_->head(name);
    if (!info && info.error().kind == ErrorKind::kNotFound) missing.emplace(name);
    return info;
  }
  std::mutex mutex;
  std::set<std::string> missing;
};

struct RemoveComplains : Delegating {
  Result<void> remove(std::string_view name) override {
    TRY(inner_->head(name));
    return inner_->remove(name);
  }
};

struct RemovesFolders : Delegating {  // rm -r
  Result<void> remove(std::string_view name) override {
    TRY(inner_->remove(name));
    return for_each_object(*inner_, std::string(name) + "/",
                           [&](const ObjectInfo& object) { return inner_->remove(object.name); });
  }
};

struct ReadsShort : Delegating {
  struct ShortReader : ObjectReader {
    explicit ShortReader(std::unique_ptr<ObjectReader> to) : inner(std::move(to)) {}
    uint64_t size() const override { return inner->size(); }
    Result<void> read(uint64_t offset, MutableByteView out) override {
      uint64_t have = size() - std::min<uint64_t>(offset, size());
      return inner->read(std::min<uint64_t>(offset, size()), out.first(std::min<uint64_t>(have, out.size())));
    }
    std::unique_ptr<ObjectReader> inner;
  };
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectReader> reader, inner_->open(name));
    return std::unique_ptr<ObjectReader>(new ShortReader(std::move(reader)));
  }
};

struct KeepsAbandoned : Delegating {  // the object appears when the writer goes, committed or not
  struct Clinging : Writer {
    using Writer::Writer;
    ~Clinging() override { (void)store.put_if_absent(name, bytes); }
  };
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    return std::unique_ptr<ObjectWriter>(new Clinging(*this, std::string(name)));
  }
};

struct AbsenceIsFailure : Delegating {
  Result<Bytes> get(std::string_view name) override {
    Result<Bytes> bytes = inner_->get(name);
    if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return fail(ErrorKind::kFailed, "http 404");
    return bytes;
  }
};

struct BadNameIsAbsence : Delegating {
  Result<Bytes> get(std::string_view name) override {
    Result<Bytes> bytes = inner_->get(name);
    if (!bytes) return fail(ErrorKind::kNotFound, "no");
    return bytes;
  }
};

struct FoldsCase : Delegating {  // a case-insensitive filesystem
  static std::string lower(std::string_view name) {
    std::string folded(name);
    for (char& c : folded) c = static_cast<char>(std::tolower(c));
    return folded;
  }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    std::lock_guard hold(mutex);
    if (!taken.insert(lower(name)).second) return fail(ErrorKind::kExists, "exists");
    return inner_->put_if_absent(name, bytes);
  }
  Result<void> remove(std::string_view name) override {
    std::lock_guard hold(mutex);
    taken.erase(lower(name));
    return inner_->remove(name);
  }
  std::mutex mutex;
  std::set<std::string> taken;
};

template <class Broken>
struct Planted : testing::Test {};
using BrokenStores =
    testing::Types<ChecksThenPuts, Overwrites, CommitOverwrites, ShowsHalves, KeepsPartialPuts,
                   EndsListsEarly, ListsByFolder, RepeatsAfter, PrefixIsAFolder, ListsLate, ReadsLate,
                   RemoveComplains, RemovesFolders, ReadsShort, KeepsAbandoned, AbsenceIsFailure,
                   BadNameIsAbsence, FoldsCase>;
TYPED_TEST_SUITE(Planted, BrokenStores);

TYPED_TEST(Planted, is_caught_by_the_contract_suite) {
  std::vector<std::string> violations = check_store_contract([] { return std::make_unique<TypeParam>(); });
  EXPECT_FALSE(violations.empty());
}

TEST(StoreContract, the_base_of_the_planted_stores_is_right) {
  EXPECT_EQ(check_store_contract([] { return std::make_unique<Delegating>(); }), std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori
