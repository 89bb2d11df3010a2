#include "store/fault.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/file.h"
#include "store/local/local_store.h"
#include "store/memory/memory_store.h"
#include "testing/store_contract.h"

namespace kuramori {
namespace {

class FaultTest : public testing::Test {
 protected:
  // A store whose next call meets `fault`.
  Store& with(Fault fault) {
    faulty_ = make_faulty_store(*memory_, fault_at_call(1, fault));
    return *faulty_;
  }
  bool there(std::string_view name) { return memory_->head(name).has_value(); }
  std::unique_ptr<MemoryStore> memory_ = make_memory_store();
  std::unique_ptr<FaultyStore> faulty_;
};

TEST_F(FaultTest, without_faults_the_contract_holds) {
  // The inner stores live as long as the test: a faulty store only borrows.
  std::vector<std::unique_ptr<MemoryStore>> inner;
  StoreFactory factory = [&]() -> std::unique_ptr<Store> {
    inner.push_back(make_memory_store());
    return make_faulty_store(*inner.back(), {});
  };
  EXPECT_EQ(check_store_contract(factory), std::vector<std::string>{});
}

TEST_F(FaultTest, an_unknown_outcome_is_done_or_not) {
  EXPECT_EQ(with(Fault::kUnknownDone).put_if_absent("a", {}).error().kind, ErrorKind::kUnknown);
  EXPECT_TRUE(there("a"));
  EXPECT_EQ(with(Fault::kUnknownUndone).put_if_absent("b", {}).error().kind, ErrorKind::kUnknown);
  EXPECT_FALSE(there("b"));
  EXPECT_EQ(with(Fault::kUnknownDone).remove("a").error().kind, ErrorKind::kUnknown);
  EXPECT_FALSE(there("a"));
}

TEST_F(FaultTest, lies_tears_and_flips) {
  Bytes bytes(1000, 0x55);
  EXPECT_TRUE(with(Fault::kLie).put_if_absent("lie", bytes));
  EXPECT_FALSE(there("lie"));
  EXPECT_TRUE(with(Fault::kTear).put_if_absent("torn", bytes));
  EXPECT_LT(memory_->get("torn")->size(), 1000u);
  EXPECT_TRUE(with(Fault::kFlipBit).put_if_absent("flip", bytes));
  Bytes flipped = *memory_->get("flip");
  int bits = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    bits += std::popcount(static_cast<unsigned>(flipped[i] ^ bytes[i]));
  EXPECT_EQ(bits, 1);
  EXPECT_FALSE(equal(*with(Fault::kFlipBit).get("flip"), flipped));
  EXPECT_TRUE(equal(*memory_->get("flip"), flipped)) << "a flip on reading changes nothing stored";
}

TEST_F(FaultTest, space_denial_and_short_lists) {
  EXPECT_EQ(with(Fault::kNoSpace).put_if_absent("a", {}).error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(with(Fault::kNoSpace).create("a").error().kind, ErrorKind::kNoSpace);
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(memory_->put_if_absent(name, {}));
  EXPECT_EQ(with(Fault::kDenied).remove("a").error().kind, ErrorKind::kDenied);
  EXPECT_TRUE(there("a"));
  EXPECT_EQ(with(Fault::kTruncateList).list("", "", 10)->objects.size(), 2u);
  EXPECT_EQ(with(Fault::kFail).list("", "", 10).error().kind, ErrorKind::kFailed);
}

TEST_F(FaultTest, a_delayed_put_lands_later_and_may_land_again_after_a_remove) {
  FaultPlan plan = fault_at_call(1, Fault::kDelay);
  plan.delay_calls_max = 5;
  faulty_ = make_faulty_store(*memory_, plan);
  EXPECT_EQ(faulty_->put_if_absent("late", as_bytes("x")).error().kind, ErrorKind::kUnknown);
  EXPECT_FALSE(there("late"));
  for (int i = 0; i < 5; ++i) (void)faulty_->head("other");
  EXPECT_TRUE(there("late"));

  // Over seeds: one of them repeats the put after it was removed.
  int came_back = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto memory = make_memory_store();
    FaultPlan repeating = plan;
    repeating.seed = seed;
    auto store = make_faulty_store(*memory, repeating);
    (void)store->put_if_absent("late", as_bytes("x"));
    for (int i = 0; i < 5; ++i) (void)store->head("other");
    ASSERT_TRUE(memory->remove("late"));
    store->land_all_delayed();
    came_back += memory->head("late").has_value() ? 1 : 0;
  }
  EXPECT_GT(came_back, 0);
  EXPECT_LT(came_back, 20);
}

TEST_F(FaultTest, delayed_effects_change_places) {
  int swapped = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto memory = make_memory_store();
    FaultPlan plan{.choose = [](uint64_t, StoreCall, std::string_view) { return Fault::kDelay; },
                   .seed = seed};
    auto store = make_faulty_store(*memory, plan);
    (void)store->put_if_absent("a", as_bytes("first"));
    (void)store->put_if_absent("a", as_bytes("second"));
    store->land_all_delayed();
    swapped += as_text(*memory->get("a")) == "second" ? 1 : 0;
  }
  EXPECT_GT(swapped, 0);
  EXPECT_LT(swapped, 20);
}

TEST_F(FaultTest, random_plans_replay) {
  auto outcome = [](uint64_t seed) {
    auto memory = make_memory_store();
    auto store = make_faulty_store(*memory, random_faults(seed, 0.3,
                                                          {Fault::kFail, Fault::kDelay, Fault::kUnknownDone,
                                                           Fault::kLie, Fault::kTear}));
    std::string log;
    for (int i = 0; i < 200; ++i) {
      Result<void> put = store->put_if_absent(fmt::format("n{}", i), Bytes(50));
      log += put ? "ok" : std::string(name_of(put.error().kind));
    }
    store->land_all_delayed();
    EXPECT_GT(store->faults(), 20u);
    (void)for_each_object(*memory, "", [&](const ObjectInfo& object) -> Result<void> {
      log += fmt::format("{}={}", object.name, object.size);
      return {};
    });
    return log;
  };
  EXPECT_EQ(outcome(1), outcome(1));
  EXPECT_NE(outcome(1), outcome(2));
}

TEST_F(FaultTest, a_kill_comes_before_or_after_the_effect) {
  struct Killed {};
  for (Fault fault : {Fault::kKillBefore, Fault::kKillAfter}) {
    FaultPlan plan = fault_at_call(2, fault);
    plan.kill = [] { throw Killed(); };
    auto store = make_faulty_store(*memory_, plan);
    (void)store->head("x");
    EXPECT_THROW((void)store->put_if_absent("k", {}), Killed);
    EXPECT_EQ(there("k"), fault == Fault::kKillAfter);
    ASSERT_TRUE(memory_->remove("k"));
  }
}

// A real process on a real folder, killed at every one of its calls.
class KillAtCallTest : public testing::Test {
 protected:
  // Six calls of every kind of change.
  static void work(const std::string& root) {
    auto store = wrap_for_fault_tests(*create_local_store(root));
    if (!store->put_if_absent("a", as_bytes("a"))) ::_exit(1);
    {
      auto writer = store->create("b");
      if (!writer || !(*writer)->append(Bytes(100'000)) || !(*writer)->commit()) ::_exit(2);
    }
    if (!store->list("", "", 10)) ::_exit(3);
    if (!store->remove("a")) ::_exit(4);
    std::exit(0);  // runs what is registered for the exit
  }
  // Returns the status as waitpid gives it.
  int run(const std::string& root, std::vector<std::pair<const char*, std::string>> environment) {
    pid_t pid = ::fork();
    if (pid == 0) {
      for (const auto& [name, value] : environment) ::setenv(name, value.c_str(), 1);
      work(root);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status;
  }
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-kill");
};

TEST_F(KillAtCallTest, counts_and_kills_before_and_after_each_call) {
  constexpr int kCalls = 6;
  std::string count = folder_ / "count";
  ASSERT_EQ(run(folder_ / "counted", {{"KURAMORI_TEST_COUNT_STORE_CALLS", count}}), 0);
  ASSERT_EQ(as_text(*read_file(count)), fmt::format("{}\n", kCalls));

  // Which objects are there after a kill before call k (k = 7: not killed); after it is before the next one.
  const std::set<std::string> kThere[kCalls + 2] = {{},    {},         {"a"},      {"a"},
                                                    {"a"}, {"a", "b"}, {"a", "b"}, {"b"}};
  for (int call = 1; call <= kCalls; ++call) {
    for (int after : {0, 1}) {
      std::string root = folder_ / fmt::format("killed-{}-{}", call, after);
      int status = run(root, {{"KURAMORI_TEST_KILL_AT_STORE_CALL", std::to_string(call)},
                              {"KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER", std::to_string(after)}});
      ASSERT_TRUE(WIFSIGNALED(status));
      EXPECT_EQ(WTERMSIG(status), SIGKILL);
      auto store = *open_local_store(root);
      std::set<std::string> names;
      ASSERT_TRUE(for_each_object(*store, "", [&](const ObjectInfo& object) -> Result<void> {
        EXPECT_EQ(object.size, object.name == "a" ? 1u : 100'000u);
        names.insert(object.name);
        return {};
      }));
      EXPECT_EQ(names, kThere[call + after]) << "call " << call << " after " << after;
    }
  }
}

TEST_F(KillAtCallTest, without_variables_the_store_comes_back_as_it_is) {
  std::unique_ptr<Store> store = make_memory_store();
  Store* before = store.get();
  EXPECT_EQ(wrap_for_fault_tests(std::move(store)).get(), before);
}

}  // namespace
}  // namespace kuramori
