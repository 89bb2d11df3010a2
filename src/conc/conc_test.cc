#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "conc/channel.h"
#include "conc/guarded.h"
#include "conc/shared_cache.h"
#include "conc/task_group.h"

namespace kuramori {
namespace {

TEST(ChannelTest, hands_over_everything_once_across_threads) {
  Channel<int> channel(3);
  Guarded<std::vector<int>> got;
  TaskGroup consumers, producers;
  for (int i = 0; i < 4; ++i) {
    consumers.start([&](std::stop_token) -> Result<void> {
      while (std::optional<int> value = channel.pop()) got.lock()->push_back(*value);
      return {};
    });
    producers.start([&, i](std::stop_token) -> Result<void> {
      for (int n = 0; n < 1000; ++n) EXPECT_TRUE(channel.push(i * 1000 + n));
      return {};
    });
  }
  ASSERT_TRUE(producers.wait());
  channel.close();
  ASSERT_TRUE(consumers.wait());
  auto all = got.lock();
  std::sort(all->begin(), all->end());
  std::vector<int> expected(4000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(*all, expected);
}

TEST(ChannelTest, close_keeps_what_is_inside_and_cancel_drops_it) {
  Channel<int> closed(2), cancelled(2);
  for (Channel<int>* channel : {&closed, &cancelled}) ASSERT_TRUE(channel->push(1));
  closed.close();
  cancelled.cancel();
  EXPECT_FALSE(closed.push(2));
  EXPECT_EQ(closed.pop(), 1);
  EXPECT_EQ(closed.pop(), std::nullopt);
  EXPECT_EQ(cancelled.pop(), std::nullopt);
}

TEST(ChannelTest, a_stop_wakes_a_full_producer_and_an_empty_consumer) {
  Channel<int> full(1), empty(1);
  ASSERT_TRUE(full.push(1));
  TaskGroup group;
  CancelOnStop<int> first(group.token(), full), second(group.token(), empty);
  group.start([&](std::stop_token) -> Result<void> {
    EXPECT_FALSE(full.push(2));
    return {};
  });
  group.start([&](std::stop_token) -> Result<void> {
    EXPECT_EQ(empty.pop(), std::nullopt);
    return {};
  });
  group.request_stop();
  EXPECT_TRUE(group.wait());
}

TEST(TaskGroupTest, the_first_error_stops_the_others_and_is_the_groups) {
  TaskGroup group;
  for (int i = 0; i < 3; ++i) {
    group.start([](std::stop_token token) -> Result<void> {
      while (!token.stop_requested()) std::this_thread::yield();
      return fail(ErrorKind::kInterrupted, "asked to");
    });
  }
  group.start([](std::stop_token) -> Result<void> { return fail(ErrorKind::kNoSpace, "full"); });
  Result<void> result = group.wait();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kNoSpace);
}

TEST(TaskGroupTest, an_exception_is_an_error_and_a_parent_stop_an_interruption) {
  TaskGroup throwing;
  throwing.start([](std::stop_token) -> Result<void> { throw std::bad_alloc(); });
  EXPECT_EQ(throwing.wait().error().kind, ErrorKind::kFailed);

  std::stop_source parent;
  TaskGroup child(parent.get_token());
  child.start([](std::stop_token token) -> Result<void> {
    while (!token.stop_requested()) std::this_thread::yield();
    return {};
  });
  parent.request_stop();
  EXPECT_EQ(child.wait().error().kind, ErrorKind::kInterrupted);
}

TEST(ParallelFor, does_each_once_and_ends_early_on_an_error) {
  std::vector<std::atomic<int>> done(100);
  ASSERT_TRUE(parallel_for(100, 3, {}, [&](size_t i, std::stop_token) -> Result<void> {
    ++done[i];
    return {};
  }));
  for (auto& count : done) EXPECT_EQ(count, 1);
  std::atomic<size_t> begun = 0;
  Result<void> failed = parallel_for(1'000'000, 2, {}, [&](size_t i, std::stop_token) -> Result<void> {
    ++begun;
    if (i == 10) return fail(ErrorKind::kFailed, "ten");
    return {};
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().what, "ten");
  EXPECT_LT(begun, 1'000'000u);
}

TEST(GuardedTest, waits_until_another_thread_makes_it_so) {
  Guarded<int> value(0);
  std::thread other([&] {
    *value.lock() = 7;
    value.notify();
  });
  EXPECT_EQ(*value.wait_until([](int now) { return now == 7; }), 7);
  other.join();
}

TEST(SharedCacheTest, makes_each_once_and_keeps_what_has_room) {
  SharedCache<int, std::string> cache(10);
  int made = 0;
  const auto get = [&](int key, size_t cost) {
    return *cache.get(key, [&]() -> Result<std::pair<std::string, size_t>> {
      ++made;
      return std::pair(std::to_string(key), cost);
    });
  };
  const auto first = get(1, 4);
  EXPECT_EQ(*first, "1");
  EXPECT_EQ(get(1, 4), first);
  get(2, 4);
  get(1, 4);
  get(3, 4);  // the second goes: nobody asked for it since
  EXPECT_EQ(made, 3);
  EXPECT_TRUE(cache.has(1) && cache.has(3));
  EXPECT_FALSE(cache.has(2));
  EXPECT_EQ(cache.cost(), 8u);
  EXPECT_EQ(*get(4, 100), "4");  // larger than all the room
  EXPECT_EQ(cache.cost(), 100u);
  EXPECT_EQ(*first, "1");  // who holds one keeps it
}

TEST(SharedCacheTest, an_error_is_not_kept_and_who_waited_tries) {
  SharedCache<int, int> cache(10);
  std::atomic<int> tries = 0, failed = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      auto got = cache.get(7, [&]() -> Result<std::pair<int, size_t>> {
        if (++tries <= 3) return fail(ErrorKind::kUnknown, "not now");
        return std::pair(49, size_t{1});
      });
      if (got)
        EXPECT_EQ(**got, 49);
      else
        ++failed;
    });
  }
  threads.clear();
  EXPECT_EQ(tries, 4);
  EXPECT_EQ(failed, 3);
}

}  // namespace
}  // namespace kuramori
