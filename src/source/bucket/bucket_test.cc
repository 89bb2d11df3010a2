// What a bucket's snapshot holds, and what comes back of it, on a real gateway.
#include <gtest/gtest.h>

#include <thread>

#include "source/bucket/bucket_for_tests.h"
#include "source/bucket/layout.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::bucket {
namespace {

std::unique_ptr<Source> source_of(const Place& place, Versions versions = Versions::kWhereKept) {
  return make_source({.place = place, .versions = versions});
}

TEST(BucketCapture, metadata_and_tags_are_kept_and_put_back) {
  const Place place = new_place(RgwBucket::kVersioned, "meta");
  TestBucket bucket(place);
  bucket.put("page.html", "<p>",
             {{"Content-Type", "text/html; charset=utf-8"},
              {"Cache-Control", "max-age=60"},
              {"Content-Disposition", "inline"},
              {"x-amz-meta-author", "somebody"},
              {"x-amz-tagging", "class=a%2Fb&empty="}});
  const TreeForTests tree(capture_of(*source_of(place)));
  const TreeEntry& entry = tree.entries.back().item.entry;
  EXPECT_EQ(entry.path, "objects/page.html");
  EXPECT_EQ(attribute(entry, "user.s3.content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(attribute(entry, "user.s3.meta.author"), "somebody");
  EXPECT_EQ(attribute(entry, "user.s3.tag.class"), "a/b");
  const Place target = new_place(RgwBucket::kPlain, "meta-target");
  const auto restored = source_of(target)->restore(
      tree, {.to = fmt::format("s3://{}/{}", target.location.bucket, target.location.prefix)},
      silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  TestBucket there(target);
  EXPECT_EQ(there.get("page.html"), "<p>");
  EXPECT_EQ(there.header("page.html", "content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(there.header("page.html", "cache-control"), "max-age=60");
  EXPECT_EQ(there.header("page.html", "x-amz-meta-author"), "somebody");
  EXPECT_EQ(there.header("page.html", "x-amz-tagging-count"), "2");
}

TEST(BucketCapture, an_object_of_many_parts_comes_back_whole) {
  const Place place = new_place(RgwBucket::kPlain, "large"),
              target = new_place(RgwBucket::kPlain, "large-target");
  std::string bytes(21'000'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  TestBucket(place).put("large", bytes);
  const TreeForTests tree(capture_of(*source_of(place)));
  ASSERT_EQ(tree.entries.back().bytes, bytes);
  const auto restored = source_of(target)->restore(
      tree, {.to = fmt::format("s3://{}/{}", target.location.bucket, target.location.prefix)},
      silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_TRUE(TestBucket(target).get("large") == bytes);
  EXPECT_NE(TestBucket(target).header("large", "etag").find('-'), std::string::npos) << "it was one PUT";
}

TEST(BucketCapture, a_prefix_as_of_a_moment_is_what_stood_there_then_H4) {
  const Place place = new_place(RgwBucket::kVersioned, "as-of");
  TestBucket bucket(place);
  bucket.put("kept", "always");
  bucket.put("changed", "before");
  bucket.put("deleted", "still here");
  bucket.put("folder", "a key and later a folder");
  std::map<std::string, std::string> then;
  for (const S3Listed& entry : bucket.list(false)) then[entry.key] = bucket.get(entry.key);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // versions are told apart by the store's clock
  Time moment;
  for (const S3Listed& entry : bucket.list(true)) moment = std::max(moment, entry.modified);
  bucket.put("changed", "after");
  bucket.put("changed", "after that");
  bucket.remove("deleted");
  bucket.put("new", "was not there");
  bucket.put("folder/below", "was not there either");
  const TreeForTests tree(capture_of(*source_of(place)));
  TemporaryFolder ground = *TemporaryFolder::make("as-of");
  auto restored =
      source_of(place)->restore(tree, {.to = ground / "then", .at = moment}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  std::map<std::string, std::string> files;
  const auto listed = list_folder(ground / "then");
  for (const FolderEntry& entry : *listed) files[entry.name] = text_of(ground / "then/" + entry.name);
  EXPECT_EQ(files, then);
  // Before anything was there, nothing was.
  restored = source_of(place)->restore(tree, {.to = ground / "empty", .at = moment - std::chrono::hours(1)},
                                       silent_reporter(), {});
  ASSERT_TRUE(restored);
  EXPECT_TRUE(list_folder(ground / "empty")->empty());
  restored = source_of(place)->restore(tree, {.to = ground / "now"}, silent_reporter(), {});
  ASSERT_TRUE(restored);
  EXPECT_EQ(text_of(ground / "now/folder/%="), "a key and later a folder");
  EXPECT_EQ(text_of(ground / "now/folder/below"), "was not there either");
  EXPECT_EQ(text_of(ground / "now/changed"), "after that");
  restored =
      source_of(place)->restore(tree, {.to = ground / "only", .only = {"folder"}}, silent_reporter(), {});
  ASSERT_TRUE(restored);
  EXPECT_EQ(list_folder(ground / "only")->size(), 1u);
}

TEST(BucketCapture, what_may_not_be_read_is_named_and_the_rest_is_there) {
  RgwCluster& cluster = **RgwCluster::shared();
  const Place place = new_place(RgwBucket::kPlain, "denied");
  TestBucket bucket(place);
  bucket.put("open", "for all");
  bucket.put("closed", "for nobody");
  const std::string name = place.location.bucket, below = place.location.prefix;
  const auto reader = cluster.create_user(fmt::format(
      R"({{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["s3:ListBucket","s3:ListBucketVersions","s3:GetObject","s3:GetObjectVersion"],"Resource":["arn:aws:s3:::{0}","arn:aws:s3:::{0}/*"]}},{{"Effect":"Deny","Action":["s3:GetObject","s3:GetObjectVersion"],"Resource":["arn:aws:s3:::{0}/{1}/closed"]}}]}})",
      name, below));
  ASSERT_TRUE(reader) << reader.error().why;
  Place theirs = place;
  theirs.keys = std::make_shared<AccessKeys>(
      AccessKeys{reader->access_key, Secret::copy_of(as_bytes(reader->secret_key))});
  // The bucket's owner lets them in.
  const std::string policy = fmt::format(
      R"({{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["arn:aws:iam:::user/{2}"]}},"Action":["s3:ListBucket","s3:ListBucketVersions","s3:GetObject","s3:GetObjectVersion"],"Resource":["arn:aws:s3:::{0}","arn:aws:s3:::{0}/{1}/open"]}}]}})",
      name, below, reader->name);
  const auto set =
      bucket.bucket().client().send({.method = "PUT", .query = {{"policy", ""}}, .body = as_bytes(policy)});
  ASSERT_TRUE(set && set->ok());
  const auto captured = capture_of(*source_of(theirs, Versions::kCurrent));
  ASSERT_FALSE(captured.error) << captured.error->what << captured.error->why;
  EXPECT_NE(captured.find("objects/open"), nullptr);
  EXPECT_EQ(captured.find("objects/closed"), nullptr);
  EXPECT_FALSE(captured.defect_of("objects/closed").empty());
}

TEST(BucketDoctor, versioning_that_was_switched_off_is_a_problem_A4) {
  RgwCluster& cluster = **RgwCluster::shared();
  const Place place = place_of(cluster, *cluster.create_bucket(RgwBucket::kVersioned));
  const auto problems = [&] {
    std::string all;
    const auto findings = source_of(place)->doctor();
    for (const SourceFinding& finding : *findings)
      if (finding.severity == SourceFinding::Severity::kProblem)
        all += finding.about + ": " + finding.what + "\n";
    return all;
  };
  EXPECT_EQ(problems(), "");
  TestBucket bucket(place);
  const std::string off = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
  const auto set =
      bucket.bucket().client().send({.method = "PUT", .query = {{"versioning", ""}}, .body = as_bytes(off)});
  ASSERT_TRUE(set && set->ok());
  EXPECT_EQ(problems(), "versioning: versioning was switched off: it is suspended\n");
}

}  // namespace
}  // namespace kuramori::bucket
