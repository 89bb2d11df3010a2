// Snapshots of images that are not what they should be: a drill and a restore must say so.
#include <unistd.h>

#include <atomic>
#include <thread>

#include "net/http.h"
#include "source/image/image_for_tests.h"
#include "source/image/image_set.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::image {
namespace {

class ImageSnapshot : public ::testing::Test {
 protected:
  std::unique_ptr<Source> source(std::vector<std::string> images, std::vector<std::string> platforms = {}) {
    return make_source({.registry = {.url = registry_.url()},
                        .images = std::move(images),
                        .platforms = std::move(platforms)})
        .value();
  }
  TreeForTests taken(std::vector<std::string> images, std::vector<std::string> platforms = {}) {
    return TreeForTests(capture_of(*source(std::move(images), std::move(platforms))));
  }
  // The verdicts, by the names of the checks.
  std::map<std::string, std::string> drilled(const TreeForTests& tree) {
    std::map<std::string, std::string> out;
    auto checks = source({"team/app"})->drill(tree, ground_.path(), silent_reporter(), {});
    EXPECT_TRUE(checks) << checks.error().what;
    if (!checks) return out;
    for (const CheckResult& check : *checks) out[check.name] = check.verdict;
    return out;
  }
  static bool all_pass(const std::map<std::string, std::string>& verdicts) {
    return std::ranges::none_of(verdicts, [](const auto& one) { return one.second == "failed"; });
  }
  files::Kept& kept(TreeForTests& tree, const ContentDigest& digest) {
    const auto found = std::ranges::find_if(
        tree.entries, [&](const files::Kept& one) { return one.item.entry.path == digest.path(); });
    EXPECT_NE(found, tree.entries.end());
    return *found;
  }

  TemporaryFolder ground_ = *TemporaryFolder::make("kuramori-image-snapshot");
  TestRegistry registry_;
};

const std::string kUnpack = "layers unpack to what their configurations say";
const std::string kDigests = "every blob is what its digest says";
const std::string kResolve = "every image resolves, for each platform";

TEST_F(ImageSnapshot, a_layer_that_is_not_what_its_configuration_says_fails_the_drill_I5) {
  push(registry_.client(), "team/app", "v1", make_image({"one", "two"}));
  EXPECT_TRUE(all_pass(drilled(taken({"team/app"}))));
  // Every digest holds, and the image would not start: its layers stand in another order.
  MadeImage image = make_image({"one", "two"});
  std::string text(as_text(image.manifest));
  const std::string first = image.blobs[0].first.text(), second = image.blobs[1].first.text();
  const size_t a = text.find(first), b = text.find(second);
  text.replace(a, first.size(), second).replace(b, second.size(), first);
  image.manifest = to_bytes(as_bytes(text));
  push(registry_.client(), "team/app", "v1", image);
  auto verdicts = drilled(taken({"team/app"}));
  EXPECT_EQ(verdicts[kUnpack], "failed");
  EXPECT_EQ(verdicts[kDigests], "passed");
}

TEST_F(ImageSnapshot, changed_and_lost_bytes_are_found_and_not_given_back) {
  const MadeImage image = make_image({"one", "two"});
  push(registry_.client(), "team/app", "v1", image);
  TreeForTests tree = taken({"team/app"});
  TreeForTests lost = tree;
  kept(tree, image.blobs[0].first).bytes.back() ^= 1;
  EXPECT_EQ(drilled(tree)[kDigests], "failed");
  auto restored = source({"team/app"})->restore(tree, {.to = ground_ / "back"}, silent_reporter(), {});
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kDamaged);
  restored = source({"team/app"})->restore(tree, {.to = registry_.target("back")}, silent_reporter(), {});
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kPartial);
  EXPECT_FALSE(registry_.client().resolve("back/team/app", "v1", {}));
  std::erase_if(lost.entries,
                [&](const files::Kept& one) { return one.item.entry.path == image.digest.path(); });
  EXPECT_EQ(drilled(lost)[kResolve], "failed");
}

TEST_F(ImageSnapshot, chosen_platforms_are_whole_and_the_index_is_as_it_was) {
  const MadeImage amd = make_image({"amd"}), arm = make_image({"arm"}, "linux/arm64", Packing::kZstd);
  const MadeImage index = make_index({amd, arm});
  push(registry_.client(), "team/app", "v1", index);
  const TreeForTests tree = taken({"team/app"}, {"linux/arm64"});
  EXPECT_TRUE(all_pass(drilled(tree)));
  auto restored = source({"team/app"})->restore(tree, {.to = ground_ / "back"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what;
  EXPECT_TRUE(equal(*read_file(join_path(ground_ / "back", index.digest.path())), index.manifest));
  EXPECT_TRUE(read_file(join_path(ground_ / "back", arm.digest.path())));
  EXPECT_FALSE(read_file(join_path(ground_ / "back", amd.digest.path())));
  // This registry takes no such index, and says so; what was chosen is there by its digest.
  restored = source({"team/app"})->restore(tree, {.to = registry_.target("back")}, silent_reporter(), {});
  ASSERT_FALSE(restored);
  EXPECT_NE(restored.error().why.find("left out"), std::string::npos) << restored.error().why;
  EXPECT_TRUE(registry_.client().manifest("back/team/app", arm.digest.text(), {}));
}

TEST_F(ImageSnapshot, what_is_known_is_not_read_again) {
  push(registry_.client(), "team/app", "v1", make_image({"one"}));
  const std::string cache = ground_ / "cache";
  const auto remembering = [&] {
    return make_source({.registry = {.url = registry_.url()}, .images = {"team/app"}, .cache_folder = cache})
        .value();
  };
  EXPECT_FALSE(capture_of(*remembering()).error);
  ASSERT_EQ(list_folder(cache)->size(), 1u);
  // A memory that is another is not believed.
  const std::string file = join_path(cache, list_folder(cache)->front().name);
  write_file_durably(file, as_bytes("{\"layers\":[]}")).value();
  const auto captured = capture_of(*remembering());
  EXPECT_FALSE(captured.error);
  EXPECT_TRUE(captured.defects.empty());
  // And what is of no image any more is forgotten.
  push(registry_.client(), "team/app", "v1", make_image({"two"}));
  EXPECT_FALSE(capture_of(*remembering()).error);
  EXPECT_EQ(list_folder(cache)->size(), 1u);
}

// Calls once, when a large content is read for the first time.
class NoticedTree final : public CapturedTree {
 public:
  NoticedTree(const CapturedTree& tree, std::function<void()> on_large)
      : tree_(tree), on_large_(std::move(on_large)) {}
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
    return tree_.visit(visit);
  }
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    files::MemorySink seen;
    TRY(tree_.read(path, seen));
    if (seen.bytes.size() > (1 << 20) && !std::exchange(called_, true)) on_large_();
    return tree_.read(path, sink);
  }
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

 private:
  const CapturedTree& tree_;
  const std::function<void()> on_large_;
  mutable bool called_ = false;
};

TEST_F(ImageSnapshot, a_registry_that_goes_away_in_the_middle_is_waited_for) {
  std::string layer(8 << 20, ' ');
  for (size_t i = 0; i < layer.size(); ++i) layer[i] = static_cast<char>(i * i >> 7);
  push(registry_.client(), "team/app", "v1", make_image({layer}, "linux/amd64", Packing::kNone));
  const TreeForTests tree = taken({"team/app"});
  TestRegistry second;
  std::atomic<bool> done = false;
  std::jthread back;
  const NoticedTree noticed(tree, [&] {
    second.stop();
    back = std::jthread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(700));
      second.start();
      while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // it ends with this thread
    });
  });
  auto restored =
      source({"team/app"})->restore(noticed, {.to = second.target("back")}, silent_reporter(), {});
  EXPECT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_TRUE(second.client().resolve("back/team/app", "v1", {}));
  EXPECT_TRUE(back.joinable());
  done = true;
}

// Torn away in the middle of a write, a registry keeps a link without a digest and answers 500 for it for
// ever.
TEST_F(ImageSnapshot, what_a_registry_has_half_of_is_given_again) {
  const MadeImage image = make_image({"one", "two"});
  push(registry_.client(), "team/app", "v1", image);
  const TreeForTests tree = taken({"team/app"});
  TestRegistry second;
  push(second.client(), "back/team/app", "v0", image);
  const ContentDigest& torn = image.blobs.front().first;
  second.stop();
  ASSERT_EQ(::truncate(second.link_file("back/team/app", torn).c_str(), 0), 0);
  second.start();
  const auto status = [&] {
    HttpRequest look{.method = "HEAD", .url = second.url() + "/v2/back/team/app/blobs/" + torn.text()};
    return make_http_client().value()->send(look).value().status;
  };
  ASSERT_EQ(status(), 500);
  auto restored = source({"team/app"})->restore(tree, {.to = second.target("back")}, silent_reporter(), {});
  EXPECT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(status(), 200);
  EXPECT_TRUE(second.client().resolve("back/team/app", "v1", {}));
}

}  // namespace
}  // namespace kuramori::image
