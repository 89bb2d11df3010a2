// What a probe finds: on real stores that keep the contract, and on stores that break it in one way each.
#include "engine/probe.h"

#include <gtest/gtest.h>

#include "os/file.h"
#include "store/local/local_store.h"
#include "store/memory/memory_store.h"

namespace kuramori {
namespace {

using Verdict = ProbeFinding::Verdict;

Result<ProbeReport> probe(Store& store, ProbeOptions options = {}) {
  return probe_store(store, options, system_clock(), system_random(), silent_reporter());
}

// A store that does one thing wrong.
class BrokenStore : public Store {
 public:
  enum class Lie {
    kNone,
    kIgnoresCondition,
    kConfirmsTwice,
    kForgetsPuts,
    kListsLate,
    kOnePageOnly,
    kListsTwice,
    kReadsElsewhere,
    kDeniesDeletes,
    kNoConditions
  };
  explicit BrokenStore(Lie lie) : lie_(lie), store_(make_memory_store(&system_clock())) {}

  std::string location() const override { return "s3://broken/vault"; }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    if (lie_ == Lie::kNoConditions)
      return fail(ErrorKind::kRefused, "cannot put", "the store answered 501 NotImplemented");
    if (lie_ == Lie::kIgnoresCondition) {
      store_->tamper(name, to_bytes(bytes));
      return {};
    }
    Result<void> done = store_->put_if_absent(name, bytes);
    if (lie_ == Lie::kConfirmsTwice && !done && done.error().kind == ErrorKind::kExists) return {};
    return done;
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    return store_->create(name);
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(auto reader, store_->open(name));
    if (lie_ == Lie::kReadsElsewhere) reader = std::make_unique<ShiftedReader>(std::move(reader));
    return reader;
  }
  Result<Bytes> get(std::string_view name) override {
    if (lie_ == Lie::kForgetsPuts && name.find("fresh") != name.npos)
      return fail(ErrorKind::kNotFound, "not yet");
    return store_->get(name);
  }
  Result<ObjectInfo> head(std::string_view name) override { return store_->head(name); }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    if (lie_ == Lie::kListsLate && prefix.find("fresh") != prefix.npos) return ListPage{};
    TRY_ASSIGN(ListPage page, store_->list(prefix, after, limit));
    if (lie_ == Lie::kOnePageOnly) page.more = false;
    if (lie_ == Lie::kListsTwice && prefix == "probe/page/" && !page.objects.empty())
      page.objects.insert(page.objects.begin(), page.objects.front());
    return page;
  }
  Result<void> remove(std::string_view name) override {
    if (lie_ == Lie::kDeniesDeletes) return fail(ErrorKind::kDenied, "it is retained");
    return store_->remove(name);
  }

 private:
  class ShiftedReader : public ObjectReader {
   public:
    explicit ShiftedReader(std::unique_ptr<ObjectReader> reader) : reader_(std::move(reader)) {}
    uint64_t size() const override { return reader_->size(); }
    Result<void> read(uint64_t offset, MutableByteView out) override {
      return reader_->read(offset > 0 ? offset - 1 : 0, out);
    }

   private:
    std::unique_ptr<ObjectReader> reader_;
  };

  Lie lie_;
  std::unique_ptr<MemoryStore> store_;
};
using Lie = BrokenStore::Lie;

TEST(Probe, a_folder_holds_everything_and_nothing_is_left_behind) {
  auto folder = TemporaryFolder::make("kuramori-probe-");
  ASSERT_TRUE(folder);
  auto store = create_local_store(*folder / "vault");
  ASSERT_TRUE(store);
  const auto report = probe(**store, {.rounds = 3, .page_objects = 30});
  ASSERT_TRUE(report) << report.error().what;
  for (const ProbeFinding& finding : report->findings)
    EXPECT_EQ(finding.verdict, Verdict::kHolds) << finding.name << ": " << finding.detail;
  EXPECT_EQ(report->left_behind, 0u);
  EXPECT_FALSE(report->versioned);
  EXPECT_TRUE(accept_places(*report, nullptr, false));
  const auto page = (*store)->list("", "", 10);
  ASSERT_TRUE(page);
  EXPECT_TRUE(page->objects.empty());
}

struct Case {
  Lie lie;
  std::string_view broken;
};

TEST(Probe, each_broken_promise_is_found_and_refused) {
  const Case cases[] = {
      {Lie::kIgnoresCondition, probe_names::kAtomicCreate},
      {Lie::kConfirmsTwice, probe_names::kNoOverwrite},
      {Lie::kForgetsPuts, probe_names::kReadAfterWrite},
      {Lie::kListsLate, probe_names::kListAfterWrite},
      {Lie::kOnePageOnly, probe_names::kPaging},
      {Lie::kListsTwice, probe_names::kPaging},
      {Lie::kReadsElsewhere, probe_names::kRanges},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.broken);
    BrokenStore store(one.lie);
    const auto report = probe(store);
    ASSERT_TRUE(report) << report.error().what;
    ASSERT_NE(report->finding(one.broken), nullptr);
    EXPECT_EQ(report->finding(one.broken)->verdict, Verdict::kBroken);
    const auto accepted = accept_places(*report, nullptr, false);
    ASSERT_FALSE(accepted);
    EXPECT_EQ(accepted.error().kind, ErrorKind::kRefused);
    EXPECT_FALSE(accepted.error().why.empty());
    EXPECT_FALSE(accepted.error().next.empty());
  }
}

TEST(Probe, a_place_that_does_not_put_once_needs_a_ledger_that_does) {
  BrokenStore versioned(Lie::kIgnoresCondition), honest(Lie::kNone);
  const auto objects = probe(versioned), ledger = probe(honest);
  ASSERT_TRUE(objects && ledger);
  const auto alone = accept_places(*objects, nullptr, false);
  ASSERT_FALSE(alone);
  EXPECT_NE(alone.error().next.find("ledger:"), std::string::npos);
  EXPECT_TRUE(accept_places(*objects, &*ledger, false));
  EXPECT_FALSE(accept_places(*ledger, &*objects, false)) << "the other way round";
}

TEST(Probe, a_store_without_conditions_is_told_to_do_without_beside_a_ledger) {
  BrokenStore simple(Lie::kNoConditions), honest(Lie::kNone);
  const auto objects = probe(simple), ledger = probe(honest);
  ASSERT_TRUE(objects) << objects.error().what;
  ASSERT_TRUE(ledger);
  EXPECT_NE(accept_places(*objects, nullptr, false).error().next.find("ledger:"), std::string::npos);
  EXPECT_NE(accept_places(*objects, &*ledger, false).error().next.find("conditional=no"), std::string::npos);
  EXPECT_FALSE(accept_places(*ledger, &*objects, false));
}

TEST(Probe, denied_deletes_are_told_and_no_error) {
  BrokenStore store(Lie::kDeniesDeletes);
  const auto first = probe(store, {.page_objects = 1'100});
  ASSERT_TRUE(first) << first.error().what;
  EXPECT_GT(first->left_behind, 1'100u);
  EXPECT_TRUE(first->holds(probe_names::kReadAfterWrite));
  // A second one adds its few objects, and not the pages again.
  const auto second = probe(store, {.page_objects = 1'100});
  ASSERT_TRUE(second) << second.error().what;
  EXPECT_TRUE(second->holds(probe_names::kPaging));
  EXPECT_LT(second->left_behind, first->left_behind + 100);
}

TEST(Probe, a_lock_that_the_place_cannot_keep_is_refused) {
  BrokenStore store(Lie::kNone);
  const auto report = probe(store);
  ASSERT_TRUE(report);
  EXPECT_TRUE(accept_places(*report, nullptr, false));
  const auto locked = accept_places(*report, nullptr, true);
  ASSERT_FALSE(locked);
  EXPECT_NE(locked.error().what.find("lock:"), std::string::npos);
}

}  // namespace
}  // namespace kuramori
