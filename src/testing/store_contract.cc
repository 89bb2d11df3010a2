#include "testing/store_contract.h"

#include <fmt/core.h>

#include <barrier>
#include <mutex>
#include <thread>

namespace kuramori {
namespace {

constexpr size_t kRacers = 16;
constexpr size_t kRaceRounds = 24;
constexpr size_t kLargeObjectBytes = (size_t{5} << 20) + 12345;  // more than one buffer of any store, and odd
constexpr size_t kManyNames = kListPageMax + 137;                // more than one page

Bytes pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  for (uint8_t& byte : bytes) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(seed >> 24);
  }
  return bytes;
}

class Suite {
 public:
  explicit Suite(const StoreFactory& make_store) : make_store_(make_store) {}

  std::vector<std::string> run() {
    small_objects();
    large_objects();
    name_rules();
    removal();
    writers();
    short_reads();
    order_of_names();
    prefixes();
    many_names();
    read_after_write();
    race();
    visibility();
    return std::move(violations_);
  }

 private:
  // `what` says what the store must do.
  bool expect(bool holds, std::string_view what) {
    if (holds) return true;
    std::lock_guard hold(mutex_);
    violations_.emplace_back(what);
    return false;
  }
  template <class T>
  bool succeeds(const Result<T>& result, std::string_view what) {
    if (result) return true;
    return expect(
        false, fmt::format("{} (it said {}: {})", what, name_of(result.error().kind), result.error().what));
  }
  template <class T>
  void fails(const Result<T>& result, ErrorKind kind, std::string_view what) {
    if (result) {
      expect(false, fmt::format("{} (it succeeded)", what));
    } else if (result.error().kind != kind) {
      expect(false,
             fmt::format("{} (it said {}: {})", what, name_of(result.error().kind), result.error().what));
    }
  }
  void holds(Store& store, std::string_view name, ByteView bytes, std::string_view what) {
    Result<Bytes> got = store.get(name);
    if (!succeeds(got, fmt::format("{}: get gives the object", what))) return;
    expect(equal(*got, bytes),
           fmt::format("{}: get gives {} bytes as written (got {})", what, bytes.size(), got->size()));
    Result<ObjectInfo> info = store.head(name);
    if (!succeeds(info, fmt::format("{}: head finds the object", what))) return;
    expect(info->size == bytes.size() && info->name == name,
           fmt::format("{}: head tells its name and size", what));
  }
  void absent(Store& store, std::string_view name, std::string_view what) {
    fails(store.get(name), ErrorKind::kNotFound, fmt::format("{}: get says not found", what));
    fails(store.head(name), ErrorKind::kNotFound, fmt::format("{}: head says not found", what));
    fails(store.open(name), ErrorKind::kNotFound, fmt::format("{}: open says not found", what));
    expect(!listed(store, "").contains(std::string(name)), fmt::format("{}: list does not show it", what));
  }
  std::set<std::string> listed(Store& store, std::string_view prefix) {
    std::vector<std::string> names = list_all(store, prefix, kListPageMax);
    return {names.begin(), names.end()};
  }
  // All pages, each held to the rules for pages.
  std::vector<std::string> list_all(Store& store, std::string_view prefix, size_t limit,
                                    std::string after = {}) {
    std::vector<std::string> names;
    for (;;) {
      Result<ListPage> page = store.list(prefix, after, limit);
      if (!succeeds(page, "list succeeds")) return names;
      expect(page->objects.size() <= limit, "a page has at most `limit` names");
      expect(!page->more || page->objects.size() == limit, "a page that is not the last is full");
      for (const ObjectInfo& object : page->objects) {
        expect(object.name.starts_with(prefix),
               fmt::format("list shows only names with the prefix \"{}\"", prefix));
        if (!expect(object.name > after,
                    fmt::format("\"{}\" is listed after \"{}\" in byte order", object.name, after))) {
          return names;
        }
        after = object.name;
        names.push_back(object.name);
      }
      if (!page->more || page->objects.empty()) return names;
    }
  }

  void small_objects() {
    auto store = make_store_();
    absent(*store, "a/none", "an object never put");
    for (size_t size : {size_t{0}, size_t{1}, size_t{4095}, size_t{70'000}}) {
      std::string name = fmt::format("small/{}", size);
      Bytes bytes = pattern(size, 1);
      succeeds(store->put_if_absent(name, bytes), "put_if_absent stores an absent object");
      holds(*store, name, bytes, fmt::format("a put of {} bytes", size));
      fails(store->put_if_absent(name, pattern(size + 1, 2)), ErrorKind::kExists, "a second put says exists");
      fails(store->put_if_absent(name, bytes), ErrorKind::kExists,
            "a second put of the same bytes says exists");
      holds(*store, name, bytes, "an object after a refused second put");
    }
  }

  void large_objects() {
    auto store = make_store_();
    Bytes bytes = pattern(kLargeObjectBytes, 3);
    succeeds(store->put_if_absent("large/put", bytes), "put_if_absent stores a large object");
    holds(*store, "large/put", bytes, "a large put");  // V28: a part of it must never pass for the whole
    Result<std::unique_ptr<ObjectWriter>> writer = store->create("large/written");
    if (!succeeds(writer, "create begins an object")) return;
    ByteView rest = bytes;
    for (size_t step = 1; !rest.empty(); step = step * 3 + 1) {
      size_t take = std::min(step, rest.size());
      succeeds((*writer)->append(rest.first(take)), "append takes bytes");
      rest = rest.subspan(take);
    }
    absent(*store, "large/written", "an object not yet committed");
    succeeds((*writer)->commit(), "commit makes the object");
    holds(*store, "large/written", bytes, "a committed object");
  }

  void name_rules() {
    auto store = make_store_();
    std::string long_name(513, 'x');
    for (std::string_view bad :
         {std::string_view(""), std::string_view("/a"), std::string_view("a/"), std::string_view("a//b"),
          std::string_view("../a"), std::string_view("a/../b"), std::string_view("a/./b"),
          std::string_view(".a"), std::string_view("a/.b"), std::string_view("a b"), std::string_view("ä"),
          std::string_view("a\0b", 3), std::string_view(long_name)}) {
      std::string what = fmt::format("the name \"{}\" is refused as usage", bad);
      fails(store->put_if_absent(bad, {}), ErrorKind::kUsage, what + " by put_if_absent");
      fails(store->create(bad), ErrorKind::kUsage, what + " by create");
      fails(store->open(bad), ErrorKind::kUsage, what + " by open");
      fails(store->get(bad), ErrorKind::kUsage, what + " by get");
      fails(store->head(bad), ErrorKind::kUsage, what + " by head");
      fails(store->remove(bad), ErrorKind::kUsage, what + " by remove");
    }
    fails(store->list("", "", 0), ErrorKind::kUsage, "a page of no names is refused");
    fails(store->list("", "", kListPageMax + 1), ErrorKind::kUsage, "a page of too many names is refused");
    std::string deep = "p";
    while (deep.size() < 480) deep += "/0123456789._=@-";
    for (const std::string& good : {std::string("A"), std::string("a"), std::string("a.b_c=d@e-f"), deep}) {
      succeeds(store->put_if_absent(good, as_bytes(good)), fmt::format("\"{}\" is a name of its own", good));
    }
    for (const std::string& good : {std::string("A"), std::string("a"), deep}) {
      holds(*store, good, as_bytes(good), fmt::format("the object \"{}\"", good));
    }
  }

  void removal() {
    auto store = make_store_();
    succeeds(store->remove("r/none"), "removing what is not there succeeds");
    succeeds(store->put_if_absent("r/a", as_bytes("1")), "put succeeds");
    succeeds(store->put_if_absent("r/b", as_bytes("2")), "put succeeds");
    succeeds(store->remove("r/a"), "remove succeeds");
    absent(*store, "r/a", "a removed object");
    holds(*store, "r/b", as_bytes("2"), "the neighbour of a removed object");
    succeeds(store->remove("r/a"), "removing twice succeeds");
    succeeds(store->remove("r"), "removing what is only a folder of names succeeds");
    holds(*store, "r/b", as_bytes("2"), "an object below a \"removed\" folder");
    fails(store->get("r"), ErrorKind::kNotFound, "what is only a folder of names is not found");
    fails(store->get("r/b/c"), ErrorKind::kNotFound, "a name below an object is not found");
    succeeds(store->remove("r/b/c"), "removing a name below an object succeeds");
  }

  void writers() {
    auto store = make_store_();
    {
      Result<std::unique_ptr<ObjectWriter>> abandoned = store->create("w/abandoned");
      if (succeeds(abandoned, "create begins an object")) {
        succeeds((*abandoned)->append(pattern(kLargeObjectBytes, 4)), "append takes bytes");
      }
    }
    absent(*store, "w/abandoned", "an object whose writer was destroyed before commit");
    succeeds(store->put_if_absent("w/abandoned", as_bytes("x")), "a name abandoned by a writer can be used");

    Result<std::unique_ptr<ObjectWriter>> first = store->create("w/a"), second = store->create("w/a");
    if (!succeeds(first, "create begins an object") || !succeeds(second, "two writers at one name may begin"))
      return;
    succeeds((*first)->append(as_bytes("first")), "append takes bytes");
    succeeds((*second)->append(as_bytes("second")), "append takes bytes");
    succeeds((*second)->commit(), "the writer that commits first wins");
    fails((*first)->commit(), ErrorKind::kExists, "commit at a taken name says exists");
    holds(*store, "w/a", as_bytes("second"), "an object after a refused commit");
    Result<std::unique_ptr<ObjectWriter>> empty = store->create("w/empty");
    if (succeeds(empty, "create begins an object"))
      succeeds((*empty)->commit(), "an empty object can be committed");
    holds(*store, "w/empty", {}, "an empty object");
  }

  void short_reads() {
    auto store = make_store_();
    Bytes bytes = pattern(10'000, 5);
    succeeds(store->put_if_absent("s/a", bytes), "put succeeds");
    Result<std::unique_ptr<ObjectReader>> reader = store->open("s/a");
    if (!succeeds(reader, "open finds the object")) return;
    expect((*reader)->size() == bytes.size(), "an open object tells its size");
    Bytes out(1000);
    succeeds((*reader)->read(9000, out), "the last bytes can be read");
    expect(equal(out, ByteView(bytes).subspan(9000)), "a read gives the bytes at its offset");
    succeeds((*reader)->read(10'000, MutableByteView{}), "no bytes can be read at the end");
    fails((*reader)->read(9001, out), ErrorKind::kDamaged, "a read past the end is damage, not a short read");
    fails((*reader)->read(20'000, out), ErrorKind::kDamaged, "a read far past the end is damage");
  }

  void order_of_names() {
    auto store = make_store_();
    // Around '/': '-' and '.' sort before it, digits and letters after.
    std::set<std::string> names = {"o/a-b", "o/a.b",   "o/a/x",    "o/a/y/z", "o/a0",      "o/a=b",  "o/aB",
                                   "o/ab",  "o/a-b.c", "o/a.b-",   "o/A/x",   "o/a_/x",    "o/a@/x", "o0",
                                   "o-",    "o.x/y",   "o.x-/y/z", "o/a/y-z", "o/a/y.z/1", "p",      "O"};
    for (const std::string& name : names)
      succeeds(store->put_if_absent(name, as_bytes(name)), "put succeeds");
    std::vector<std::string> expected(names.begin(), names.end());
    for (size_t limit : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, names.size(), kListPageMax}) {
      expect(list_all(*store, "", limit) == expected,
             fmt::format("pages of {} give every name once, in byte order", limit));
    }
    // From anywhere, also from names that are not there.
    std::set<std::string> starts = names;
    for (const std::string& name : names)
      starts.insert({name + "-", name + "/", name.substr(0, name.size() - 1), name + "zz"});
    for (const std::string& start : starts) {
      std::vector<std::string> rest(names.upper_bound(start), names.end());
      expect(list_all(*store, "", 4, start) == rest,
             fmt::format("a list after \"{}\" gives exactly what follows", start));
    }
  }

  void prefixes() {
    auto store = make_store_();
    std::set<std::string> names = {"pre/ab",  "pre/abc/1", "pre/abd/2", "pre/ac",
                                   "pre-x/1", "prf",       "pre.a",     "x/pre/ab"};
    for (const std::string& name : names)
      succeeds(store->put_if_absent(name, as_bytes(name)), "put succeeds");
    for (std::string_view prefix : {"", "p", "pr", "pre", "pre/", "pre/a", "pre/ab", "pre/abc", "pre/abc/",
                                    "pre/abc/1", "pre/b", "q", "pre/ab/", "x/pre"}) {
      for (std::string_view after : {"", "pre/ab", "pre/abc/0", "a", "zzz"}) {
        std::vector<std::string> expected;
        for (const std::string& name : names) {
          if (name.starts_with(prefix) && name > after) expected.push_back(name);
        }
        expect(list_all(*store, prefix, 2, std::string(after)) == expected,
               fmt::format("the prefix \"{}\" after \"{}\" gives exactly the names that start so", prefix,
                           after));
      }
    }
  }

  void many_names() {  // V2: a list that ends early makes a collector delete what is in use
    auto store = make_store_();
    std::vector<std::string> names;
    for (size_t i = 0; i < kManyNames; ++i) {
      names.push_back(i % 10 == 0 ? fmt::format("m/d{:05}/x", i) : fmt::format("m/f{:05}", i));
    }
    std::atomic<size_t> next = 0;
    in_threads(8, [&](size_t) {
      for (size_t i; (i = next++) < names.size();) {
        succeeds(store->put_if_absent(names[i], as_bytes(names[i])), "put succeeds");
      }
    });
    std::sort(names.begin(), names.end());
    Result<ListPage> page = store->list("m/", "", kListPageMax);
    if (succeeds(page, "list succeeds")) {
      expect(page->objects.size() == kListPageMax && page->more, "a full page says that more follows");
    }
    expect(list_all(*store, "m/", kListPageMax) == names, "more names than a page are all listed");
    expect(list_all(*store, "", 64) == names, "many small pages give every name once");
    page = store->list("m/", "", 500);
    size_t total = 0;
    Result<void> visited = for_each_object(*store, "m/", [&](const ObjectInfo& object) -> Result<void> {
      expect(object.size == object.name.size(), "list tells the size of each object");
      ++total;
      return {};
    });
    succeeds(visited, "every page can be visited");
    expect(total == names.size(), "for_each_object visits every name once");
  }

  void read_after_write() {
    auto store = make_store_();
    for (int i = 0; i < 50; ++i) {
      std::string name = fmt::format("raw/{:02}", i);
      fails(store->head(name), ErrorKind::kNotFound, "an object not yet put is not found");
      succeeds(store->put_if_absent(name, as_bytes(name)), "put succeeds");
      holds(*store, name, as_bytes(name), "an object just put");
      expect(listed(*store, "raw/").contains(name), "an object just put is listed");
      if (i % 2 == 0) continue;
      succeeds(store->remove(name), "remove succeeds");
      absent(*store, name, "an object just removed");
    }
  }

  void race() {
    auto store = make_store_();
    std::vector<std::atomic<int>> winner(kRaceRounds);
    for (auto& none : winner) none = -1;
    std::barrier gather(kRacers);
    in_threads(kRacers, [&](size_t me) {
      for (size_t round = 0; round < kRaceRounds; ++round) {
        gather.arrive_and_wait();
        std::string name = fmt::format("race/{}/x", round);
        Result<void> put =
            put_either_way(*store, name, pattern(2000 + me, static_cast<uint32_t>(me)), me % 2 == 0);
        int none = -1;
        if (put) {
          expect(winner[round].compare_exchange_strong(none, static_cast<int>(me)),
                 "of many at one name exactly one wins");
        } else {
          fails(put, ErrorKind::kExists, "the losers of a race are told that the object exists");
        }
      }
    });
    for (size_t round = 0; round < kRaceRounds; ++round) {
      size_t who = static_cast<size_t>(winner[round].load());
      if (!expect(winner[round] >= 0, "of many at one name one wins")) continue;
      holds(*store, fmt::format("race/{}/x", round), pattern(2000 + who, static_cast<uint32_t>(who)),
            "the winner's object");
    }
  }

  Result<void> put_either_way(Store& store, const std::string& name, const Bytes& bytes, bool with_writer) {
    if (!with_writer) return store.put_if_absent(name, bytes);
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, store.create(name));
    TRY(writer->append(bytes));
    return writer->commit();
  }

  void visibility() {
    auto store = make_store_();
    constexpr size_t kObjects = 12;
    Bytes bytes = pattern(size_t{1} << 20, 6);
    std::atomic<bool> done = false;
    std::thread writer([&] {
      for (size_t i = 0; i < kObjects; ++i) {
        succeeds(put_either_way(*store, fmt::format("v/{:02}", i), bytes, i % 2 == 0), "put succeeds");
      }
      done = true;
    });
    in_threads(2, [&](size_t) {
      for (bool last = false; !last;) {
        last = done;
        for (size_t i = 0; i < kObjects; ++i) {
          Result<Bytes> got = store->get(fmt::format("v/{:02}", i));
          if (got) {
            expect(equal(*got, bytes), "a reader beside a writer sees all the bytes or none");
          } else {
            fails(got, ErrorKind::kNotFound,
                  "a reader beside a writer sees the object or that it is not there");
          }
        }
        Result<ListPage> page = store->list("", "", kListPageMax);
        if (!succeeds(page, "list beside a writer succeeds")) continue;
        for (const ObjectInfo& object : page->objects) {
          expect(object.size == bytes.size() && object.name.starts_with("v/"),
                 "list shows whole objects only");
        }
      }
    });
    writer.join();
  }

  template <class Work>
  void in_threads(size_t count, Work&& work) {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
  }

  const StoreFactory& make_store_;
  std::mutex mutex_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> check_store_contract(const StoreFactory& make_store) {
  return Suite(make_store).run();
}

}  // namespace kuramori
