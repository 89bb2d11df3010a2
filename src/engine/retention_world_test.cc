// What the simulator says of a vault is what becomes of it: real backups, copies, drills' proofs, holds and
// prunes of two real vault folders, on clocks that run for months and jump, against KeptHistory fed with the
// same moments.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/sanitized.h"
#include "engine/backup_tree.h"
#include "engine/copy.h"
#include "engine/maintenance.h"
#include "engine/open_vault.h"
#include "os/file.h"
#include "policy/simulate.h"
#include "source/files/files_source.h"
#include "store/local/local_store.h"
#include "testing/simulated_world.h"
#include "vault/holds.h"
#include "vault/names.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

// This machine's clock and, apart from it, the store's.
struct Clocks final : public Clock {
  Time true_time = from_unix_ns(1'900'000'000'000'000'000);
  Duration ahead{};  // this machine's, of the store's
  Time now() override { return true_time + ahead; }
  Duration steady() override { return true_time.time_since_epoch(); }
  void sleep(Duration duration) override { true_time += duration; }
};

// A folder whose files are dated by the simulated clock instead of the kernel's.
class DatedStore final : public Store {
 public:
  DatedStore(std::unique_ptr<Store> inner, Clocks& clocks) : inner_(std::move(inner)), clocks_(clocks) {}
  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    dates_.try_emplace(std::string(name), clocks_.true_time);
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    dates_.try_emplace(std::string(name), clocks_.true_time);
    return inner_->create(name);
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override { return inner_->open(name); }
  Result<Bytes> get(std::string_view name) override { return inner_->get(name); }
  Result<ObjectInfo> head(std::string_view name) override {
    TRY_ASSIGN(ObjectInfo info, inner_->head(name));
    info.stored_at = dates_.at(info.name);
    return info;
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
    for (ObjectInfo& object : page.objects) object.stored_at = dates_.at(object.name);
    return page;
  }
  Result<void> remove(std::string_view name) override { return inner_->remove(name); }

 private:
  // Of what several lanes put at once.
  class Dates {
   public:
    void try_emplace(std::string name, Time time) {
      std::lock_guard lock(mutex_);
      dates_.try_emplace(std::move(name), time);
    }
    Time at(const std::string& name) {
      std::lock_guard lock(mutex_);
      return dates_.at(name);
    }

   private:
    std::mutex mutex_;
    std::map<std::string, Time> dates_;
  };
  std::unique_ptr<Store> inner_;
  Clocks& clocks_;
  Dates dates_;
};

struct World {
  explicit World(uint64_t seed) : dice(seed), random(seed), keys(KeyBundle::new_owner("test.owner", random)) {
    auto made = TemporaryFolder::make("kuramori-retention-");
    CHECK(made.has_value());
    folder.emplace(std::move(*made));
    CHECK(make_folders(folder->path() + "/data"));
    ::setenv("KURAMORI_STATE", (folder->path() + "/state").c_str(), 1);
    first = make("first");
    second = make("second");
    source = files::make_files_source({.paths = {folder->path() + "/data"}});
    const char* const kPeriods[] = {"1d", "3d", "10d", "1mo", "6w", "90d"};
    auto draw = [&](uint32_t percent) -> std::optional<Period> {
      if (!dice.percent(percent)) return std::nullopt;
      return *parse_period(kPeriods[dice.below(std::size(kPeriods))]);
    };
    rules = {.all = draw(70), .daily = draw(30), .weekly = draw(30), .monthly = draw(40)};
    if (dice.percent(40) || rules.empty()) rules.last = static_cast<int>(1 + dice.below(4));
    promise = {.window = draw(50), .keep_last = rules.last};
    if (dice.percent(30)) promise.budget = DeleteBudget{.share = 0.3, .count = 2};
    copy_rule = {.keep = {.all = draw(50), .monthly = draw(50)}, .window = draw(30), .timezone = zone()};
    first_expected.emplace("db", promise);
    second_expected.emplace("db", Promise{.window = copy_rule.window});
    back_up();  // a vault without the resource has nothing to be asked
  }

  static std::string zone() { return "Europe/Berlin"; }
  static Result<void> make_folders(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? Result<void>(fail(ErrorKind::kFailed, path)) : Result<void>();
  }

  std::unique_ptr<Vault> make(const std::string& name) {
    auto text = write_bundle(keys, nullptr, {}, random);
    CHECK(text.has_value());
    auto copy = read_bundle(*text, [] { return Result<Secret>(fail(ErrorKind::kUsage, "no passphrase")); });
    CHECK(copy.has_value());
    auto store = create_local_store(folder->path() + "/" + name);
    CHECK(store.has_value());
    auto vault = Vault::init(std::make_unique<DatedStore>(std::move(*store), clocks), std::move(*copy),
                             clocks, random);
    CHECK(vault.has_value());
    return std::move(*vault);
  }

  void back_up() {
    std::ofstream(folder->path() + "/data/file") << dice.next();
    TreeBackupRequest request;
    request.resource = "db";
    request.kind = "files";
    request.rules = rules;
    request.timezone = zone();
    request.workers = 1;
    KeepRules expected = rules;
    if (dice.one_in(8)) {
      request.label = dice.one_in(2) ? "pre-release" : "other";
      request.until_reviewed = true;
    } else if (dice.one_in(8)) {
      request.keep = Period::of_seconds(86400 * (1 + dice.below(60)));
      expected = {.all = request.keep};
    }
    auto made = backup_tree(*first, *source, request, silent_reporter(), {});
    ASSERT_TRUE(made) << made.error().what << ": " << made.error().why;
    const SnapshotId& id = made->commit.snapshot;
    const KeepDecision keep = first_expected->back_up(id, expected, zone(), clocks.now(), clocks.true_time);
    EXPECT_EQ(from_unix_ns(made->commit.keep_until_ns), keep.until);
    if (!request.keep) {
      EXPECT_EQ(made->keep_reason, keep.reason);
    }
    if (request.until_reviewed) first_expected->label(id, request.label);
  }

  void copy() {
    auto copied =
        copy_vault(*first, *second, {.resource = "db", .rules = {{"db", copy_rule}}}, silent_reporter(), {});
    ASSERT_TRUE(copied) << copied.error().what << ": " << copied.error().why;
    const auto expected =
        second_expected->copy_from(*first_expected, copy_rule, clocks.now(), clocks.true_time);
    EXPECT_EQ(copied->snapshots, expected.size());
  }

  void prove() {
    auto list = list_snapshots(*first, {});
    ASSERT_TRUE(list);
    if (list->snapshots.empty()) return;
    // As `drill` does of the latest.
    const Snapshot& newest = list->snapshots.back();
    ProofRecord proof{.snapshot = newest.commit.snapshot,
                      .resource = newest.commit.resource,
                      .vault = "first",
                      .target = "latest",
                      .passed = true,
                      .started_ns = to_unix_ns(clocks.now())};
    ASSERT_TRUE(put_proof(protocol_of(*first), proof, random.id<SessionId>().hex()));
    EXPECT_EQ(first_expected->prove_newest(clocks.now()), newest.commit.snapshot);
  }

  void prune(Vault& vault, KeptHistory& expected, const Promise& promised) {
    auto dry = prune_vault(vault, {{"db", promised}}, Pruner::Mode::kDryRun);
    auto done = prune_vault(vault, {{"db", promised}}, Pruner::Mode::kPrune);
    auto simulated = expected.prune(clocks.now(), std::nullopt);
    if (!done) {
      ++refused;
      ASSERT_FALSE(simulated) << done.error().what << ": " << done.error().why;
      EXPECT_EQ(done.error().kind, ErrorKind::kRefused);
      EXPECT_EQ(done.error().why, simulated.error().why);
      return;
    }
    ASSERT_TRUE(dry);
    if (done->resources.empty()) return;  // nothing was ever there
    const PruneOutcome::Resource& resource = done->resources.front();
    ASSERT_EQ(resource.refused.has_value(), !simulated.has_value());
    if (!simulated) {
      ++refused;
      EXPECT_EQ(resource.refused->why, simulated.error().why);
      return;
    }
    std::map<SnapshotId, std::string> real, wanted;
    for (const PruneLine& line : resource.lines)
      if (line.drop) real[line.id] = line.reason;
    for (const PruneLine& line : *simulated) wanted[line.id] = line.reason;
    EXPECT_EQ(real, wanted);
    EXPECT_EQ(done->report.pruned.size(), wanted.size());
    EXPECT_TRUE(done->report.kept.empty());  // nothing that was to go stayed after all
    dropped += wanted.size();
    ASSERT_EQ(dry->resources.front().lines.size(), resource.lines.size());
    for (size_t i = 0; i < resource.lines.size(); ++i)
      EXPECT_EQ(dry->resources.front().lines[i].reason, resource.lines[i].reason);
  }

  static void compare(Vault& vault, const KeptHistory& expected) {
    auto list = list_snapshots(vault, {});
    ASSERT_TRUE(list);
    std::map<SnapshotId, Time> real, wanted;
    for (const Snapshot& snapshot : list->snapshots)
      real[snapshot.commit.snapshot] = from_unix_ns(snapshot.keep_until_ns);
    for (const SnapshotFacts& snapshot : expected.snapshots()) wanted[snapshot.id] = snapshot.keep_until;
    EXPECT_EQ(real, wanted);
  }

  void step() {
    clocks.true_time += 1h * (1 + dice.below(40)) + 1s * dice.below(3600);
    if (dice.one_in(12)) clocks.true_time += 24h * dice.below(45);  // nobody was there
    if (dice.one_in(15)) clocks.ahead = 1min * dice.below(59) - 30min;
    if (dice.one_in(25)) clocks.ahead = 1h * dice.below(2000) - 1000h;  // somebody set it wrong
    if (dice.one_in(10)) clocks.ahead = {};
    switch (dice.below(10)) {
      case 0:
      case 1:
        prune(*first, *first_expected, promise);
        break;
      case 2:
        prune(*second, *second_expected, {.window = copy_rule.window});
        break;
      case 3:
        prove();
        break;
      case 4:
      case 5:
        copy();
        break;
      default:
        back_up();
    }
    compare(*first, *first_expected);
    compare(*second, *second_expected);
  }

  testing::Dice dice;
  test::SeededRandom random;
  Clocks clocks;
  KeyBundle keys;
  std::optional<TemporaryFolder> folder;
  std::unique_ptr<Vault> first, second;
  std::unique_ptr<Source> source;
  KeepRules rules;
  Promise promise;
  CopyRule copy_rule;
  std::optional<KeptHistory> first_expected, second_expected;
  size_t dropped = 0, refused = 0;
};

TEST(RetentionWorld, PruneDoesWhatTheSimulatorSays_P57_P58_P59_P61_S15_S18) {
  constexpr int kWorlds = kIsSanitized ? 4 : 12, kSteps = 60;
  size_t dropped = 0, refused = 0;
  for (int seed = 1; seed <= kWorlds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(static_cast<uint64_t>(seed));
    for (int step = 0; step < kSteps && !::testing::Test::HasFailure(); ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      world.step();
    }
    dropped += world.dropped;
    refused += world.refused;
    if (::testing::Test::HasFailure()) return;
  }
  // It went both ways, often enough.
  EXPECT_GT(dropped, kWorlds * 50u / 12);
  EXPECT_GT(refused, kWorlds * 5u / 12);
}

}  // namespace
}  // namespace kuramori
