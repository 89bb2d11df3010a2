#include "store/prefetch.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "store/fault.h"
#include "store/memory/memory_store.h"

namespace kuramori {
namespace {

// A store in memory that notes every get and how many were under way at once.
struct Noted {
  std::unique_ptr<MemoryStore> memory = make_memory_store();
  FaultyStore* far = nullptr;
  std::mutex mutex;
  std::vector<std::string> gets;
  std::function<void(std::string_view)> before_get;
  std::unique_ptr<Store> store;  // last: its threads are joined before what they note in goes

  explicit Noted(int objects, size_t ahead = 4) {
    for (int i = 0; i < objects; ++i) EXPECT_TRUE(memory->put_if_absent(name(i), as_bytes(name(i))));
    auto faulty =
        make_faulty_store(*memory, {.choose = [this](uint64_t, StoreCall call, std::string_view at) {
          if (call != StoreCall::kGet) return Fault::kNone;
          if (before_get) before_get(at);
          std::lock_guard hold(mutex);
          gets.emplace_back(at);
          return Fault::kNone;
        }});
    far = faulty.get();
    store = with_prefetch(std::move(faulty), {.ahead = ahead, .object_bytes = 100});
  }
  static std::string name(int i) { return fmt::format("c/{:04}", i); }
  size_t got() {
    std::lock_guard hold(mutex);
    return gets.size();
  }
  void expect(int i) {
    auto bytes = store->get(name(i));
    ASSERT_TRUE(bytes) << i;
    EXPECT_EQ(as_text(*bytes), name(i));
  }
};

TEST(PrefetchTest, what_is_read_in_the_order_of_a_list_comes_once_each_and_together) {
  std::atomic<int> inside = 0, most = 0;
  Noted t(200, 6);
  t.before_get = [&](std::string_view) {
    int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    --inside;
  };
  ASSERT_TRUE(t.store->list("c/", "", 1000));
  for (int i = 0; i < 200; ++i) t.expect(i);
  EXPECT_EQ(t.got(), 200u);
  EXPECT_GT(most, 2);
}

TEST(PrefetchTest, one_object_alone_or_in_another_order_fetches_nothing_else) {
  Noted t(50);
  ASSERT_TRUE(t.store->list("c/", "", 1000));
  t.expect(0);
  t.expect(30);
  t.expect(7);
  t.expect(40);
  EXPECT_EQ(t.got(), 4u);
}

TEST(PrefetchTest, what_is_passed_over_does_not_stop_it) {
  Noted t(100);
  ASSERT_TRUE(t.store->list("c/", "", 1000));
  for (int i = 0; i < 100; i += 3) t.expect(i);
  EXPECT_LE(t.got(), 100u);
}

TEST(PrefetchTest, large_objects_are_read_when_they_are_asked_for) {
  Noted t(3);
  ASSERT_TRUE(t.memory->put_if_absent("c/large", Bytes(101)));
  ASSERT_TRUE(t.store->list("c/", "", 1000));
  t.expect(0), t.expect(1), t.expect(2);
  EXPECT_EQ(t.got(), 3u);
  EXPECT_EQ(t.store->get("c/large")->size(), 101u);
}

// The protocol lists again after it has put: what was read before must not answer what is asked after.
TEST(PrefetchTest, nothing_from_before_a_change_answers_after_it) {
  Noted t(20);
  for (int what = 0; what < 4; ++what) {
    ASSERT_TRUE(t.store->list("c/", "", 1000));
    t.expect(0), t.expect(1);  // 2 to 5 are on their way
    t.memory->tamper(Noted::name(4), to_bytes(as_bytes(fmt::format("changed {}", what))));
    std::string other = fmt::format("other/{}", what);
    if (what == 0) {
      ASSERT_TRUE(t.store->put_if_absent(other, {}));
    }
    if (what == 1) {
      ASSERT_TRUE(t.store->remove(other));
    }
    if (what == 2) {
      ASSERT_TRUE(t.store->list("c/", "", 1000));
    }
    if (what == 3) {
      auto writer = t.store->create(other);
      ASSERT_TRUE(writer && (*writer)->commit());
    }
    EXPECT_EQ(as_text(*t.store->get(Noted::name(4))), fmt::format("changed {}", what));
  }
  EXPECT_EQ(t.store->get("c/none").error().kind, ErrorKind::kNotFound);
}

TEST(PrefetchTest, an_error_is_given_to_who_asked_and_not_kept) {
  Noted t(10);
  ASSERT_TRUE(t.store->list("c/", "", 1000));
  ASSERT_TRUE(t.memory->remove(Noted::name(3)));
  t.expect(0), t.expect(1), t.expect(2);
  EXPECT_EQ(t.store->get(Noted::name(3)).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(t.memory->put_if_absent(Noted::name(3), as_bytes(Noted::name(3))));
  t.expect(3);
}

TEST(PrefetchTest, many_threads_read_and_change_at_once) {
  Noted t(100, 3);
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 5; ++round) {
        EXPECT_TRUE(t.store->list("c/", "", 1000));
        for (int i = 0; i < 100; ++i) {
          t.expect(i);
          if (i % 17 == thread) {
            EXPECT_TRUE(t.store->put_if_absent(fmt::format("p/{}/{}/{}", thread, round, i), {}));
          }
        }
      }
    });
  }
}

}  // namespace
}  // namespace kuramori
