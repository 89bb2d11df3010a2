// What a stream acknowledges: only what is durable, in the order of the WAL, whatever the store does
// meanwhile.
#include "engine/wal_sink.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <condition_variable>

#include "os/file.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::BorrowedStore;
using test::TestVault;

constexpr uint32_t kSegment = 1u << 20;
constexpr std::chrono::seconds kPatience(60);  // of a test that would hang

// Holds back, or fails, what is put under names with a certain text in them.
class GatedStore final : public Store {
 public:
  explicit GatedStore(Store& inner) : inner_(inner) {}

  void hold(std::string text) { set(std::move(text), std::nullopt); }
  void fail_with(std::string text, ErrorKind kind) { set(std::move(text), kind); }
  void open_gate() { set({}, std::nullopt); }
  int refusals() {
    std::lock_guard lock(mutex_);
    return refusals_;
  }

  std::string location() const override { return inner_.location(); }
  Result<void> put_if_absent(std::string_view n, ByteView b) override { return inner_.put_if_absent(n, b); }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    struct Writer final : ObjectWriter {
      GatedStore& gate;
      std::string name;
      std::unique_ptr<ObjectWriter> inner;
      Writer(GatedStore& g, std::string_view n, std::unique_ptr<ObjectWriter> i)
          : gate(g), name(n), inner(std::move(i)) {}
      Result<void> append(ByteView more) override { return inner->append(more); }
      Result<void> commit() override {
        TRY(gate.pass(name));
        return inner->commit();
      }
    };
    TRY_ASSIGN(auto inner, inner_.create(name));
    return std::unique_ptr<ObjectWriter>(std::make_unique<Writer>(*this, name, std::move(inner)));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override { return inner_.open(n); }
  Result<Bytes> get(std::string_view n) override { return inner_.get(n); }
  Result<ObjectInfo> head(std::string_view n) override { return inner_.head(n); }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    return inner_.list(p, a, l);
  }
  Result<void> remove(std::string_view n) override { return inner_.remove(n); }

 private:
  void set(std::string text, std::optional<ErrorKind> kind) {
    std::lock_guard lock(mutex_);
    text_ = std::move(text);
    kind_ = kind;
    changed_.notify_all();
  }
  Result<void> pass(const std::string& name) {
    std::unique_lock lock(mutex_);
    auto held = [&] { return !text_.empty() && name.find(text_) != std::string::npos; };
    if (held() && kind_) {
      ++refusals_;
      return fail(*kind_, "the store does not take it");
    }
    changed_.wait(lock, [&] { return !held(); });
    return {};
  }

  Store& inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  std::optional<ErrorKind> kind_;
  int refusals_ = 0;
};

struct WalSinkTest : testing::Test {
  TestVault t{91};
  GatedStore store{t.store};
  std::unique_ptr<Vault> vault =
      *Vault::open(std::make_unique<BorrowedStore>(store), t.copy_keys(), t.clock, t.random);
  Fd wake{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  Bytes wal = t.random.bytes(2 * kSegment);
  std::unique_ptr<WalSink> sink = make();

  std::unique_ptr<WalSink> make() {
    return std::make_unique<WalSink>(
        *vault,
        SinkTarget{.resource = t.resource.id, .system_id = 7300000000000000001, .segment_bytes = kSegment},
        std::chrono::seconds(1), silent_reporter(), wake.get());
  }
  // WAL starts with the second segment.
  Result<void> take(uint64_t from, uint64_t to) {
    return sink->take(kSegment + from, ByteView(wal).subspan(from, to - from));
  }
  template <class Ready>
  void await(Ready&& ready) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!ready()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      pollfd place{.fd = wake.get(), .events = POLLIN, .revents = 0};
      ::poll(&place, 1, 10);
    }
  }
  std::vector<std::string> stored(std::string_view kind) {
    std::lock_guard lock(t.store.mutex);
    std::vector<std::string> names;
    for (const auto& [name, object] : t.store.objects)
      if (name.starts_with("wal/") && name.find(kind) != std::string::npos) names.push_back(name);
    return names;
  }
};

TEST_F(WalSinkTest, nothing_is_acknowledged_before_all_that_lies_before_it) {
  store.hold(fmt::format("{:016x}-{:016x}.part", kSegment, kSegment + 1000));
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 1000));
  sink->cut_all();
  ASSERT_TRUE(take(1000, 5000));
  sink->cut_all();
  await([&] { return stored(".part").size() == 1; });  // the second
  EXPECT_EQ(sink->durable(), kSegment);
  EXPECT_FALSE(sink->is_idle());
  store.open_gate();
  await([&] { return sink->durable() == kSegment + 5000; });
  EXPECT_TRUE(sink->is_idle());
}

TEST_F(WalSinkTest, a_whole_segment_follows_its_parts_and_holds_nobody_up) {
  store.hold(".seg.");
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, kSegment - 1000));
  sink->cut_all();
  ASSERT_TRUE(take(kSegment - 1000, kSegment + 50));
  sink->cut_all();
  await([&] { return sink->durable() == 2 * kSegment + 50; });
  EXPECT_TRUE(stored(".seg.").empty());
  store.open_gate();
  await([&] { return sink->is_idle(); });
  ASSERT_EQ(stored(".seg.").size(), 1u);
  EXPECT_EQ(stored(".part.").size(), 3u);
  const std::string name = stored(".seg.").front();
  EXPECT_EQ(*get_wal(*vault, {*names::parse_wal(name), name, 0}), Bytes(wal.begin(), wal.begin() + kSegment));
}

TEST_F(WalSinkTest, what_came_at_once_is_one_segment_and_no_part) {
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 2 * kSegment));
  await([&] { return sink->durable() == 3 * kSegment; });
  EXPECT_EQ(stored(".seg.").size(), 2u);
  EXPECT_TRUE(stored(".part.").empty());
}

TEST_F(WalSinkTest, a_store_that_fails_is_tried_again_with_the_same_bytes) {
  store.fail_with(".part.", ErrorKind::kUnknown);
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 1000));
  sink->cut_all();
  await([&] { return store.refusals() >= 2; });
  EXPECT_EQ(sink->durable(), kSegment);
  EXPECT_TRUE(sink->trouble());
  store.open_gate();
  await([&] { return sink->durable() == kSegment + 1000; });
}

TEST_F(WalSinkTest, what_waiting_does_not_change_ends_it) {
  store.fail_with(".part.", ErrorKind::kRefused);
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 1000));
  sink->cut_all();
  await([&] { return !sink->trouble(); });
  EXPECT_EQ(sink->trouble().error().kind, ErrorKind::kRefused);
  EXPECT_EQ(sink->durable(), kSegment);
}

TEST_F(WalSinkTest, what_comes_again_must_be_what_is_archived) {
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 1000));
  sink->cut_all();
  await([&] { return sink->is_idle(); });
  const WalListing known = *list_wal(store, t.resource.id, 1);
  sink = make();
  sink->begin(1, kSegment, kSegment + 1000, known.objects);
  ASSERT_TRUE(take(0, 3000));
  EXPECT_EQ(sink->durable(), kSegment + 1000);

  sink = make();
  sink->begin(1, kSegment, kSegment + 1000, known.objects);
  wal[999] ^= 1;
  const auto other = take(0, 3000);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::kRefused);
}

TEST_F(WalSinkTest, another_servers_part_within_a_segment_is_found_when_the_segment_is_whole_P31) {
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, 1000));
  sink->cut_all();
  await([&] { return sink->is_idle(); });
  // The same timeline, other bytes, and no two parts alike.
  sink = make();
  wal[500] ^= 1;
  sink->begin(1, kSegment, kSegment, {});
  ASSERT_TRUE(take(0, kSegment));
  await([&] { return !sink->trouble(); });
  EXPECT_EQ(sink->trouble().error().kind, ErrorKind::kRefused);
}

TEST_F(WalSinkTest, only_so_much_is_held_in_memory) {
  store.hold("wal/");
  wal = t.random.bytes(kSegment);
  sink->begin(1, kSegment, kSegment, {});
  uint64_t taken = 0;
  for (; sink->has_room() && taken < 4 * kSinkBytesMax; taken += kSegment)
    ASSERT_TRUE(sink->take(kSegment + taken, wal));
  EXPECT_EQ(taken, kSinkBytesMax);
  store.open_gate();
  await([&] { return sink->is_idle(); });
  EXPECT_TRUE(sink->has_room());
}

}  // namespace
}  // namespace kuramori
