// The store against a real Ceph gateway: the contract, and what only S3 has.
#include "store/s3/s3_store.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <mutex>
#include <thread>

#include "conc/task_group.h"
#include "testing/rgw_cluster.h"
#include "testing/store_contract.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

class S3StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cluster = RgwCluster::shared();
    ASSERT_TRUE(cluster) << cluster.error().what << ": " << cluster.error().why;
    cluster_ = *cluster;
    auto owner = cluster_->owner();
    ASSERT_TRUE(owner) << owner.error().what;
    owner_ = *owner;
  }
  S3Location place(RgwBucket kind = RgwBucket::kPlain) {
    auto bucket = cluster_->create_bucket(kind);
    EXPECT_TRUE(bucket) << bucket.error().what;
    return {.bucket = *bucket, .prefix = "a/vault", .endpoint = cluster_->endpoint()};
  }
  static std::unique_ptr<CredentialSource> credentials(const RgwUser& user) {
    return fixed_credentials(user.access_key, Secret::copy_of(as_bytes(user.secret_key)));
  }
  std::unique_ptr<Store> store(const S3Location& location, std::optional<RgwUser> user = {}) {
    S3StoreOptions options;
    options.part_bytes = 5 << 20;  // the least a gateway takes: the contract's large objects are uploads then
    options.credentials = credentials(user.value_or(owner_));
    options.limits.timeouts.connect = 5s;
    auto opened = open_s3_store(location, std::move(options));
    EXPECT_TRUE(opened);
    return std::move(*opened);
  }
  RgwCluster* cluster_ = nullptr;
  RgwUser owner_;
};

Bytes pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>((seed = seed * 1664525 + 1013904223) >> 24);
  return bytes;
}

TEST_F(S3StoreTest, keeps_the_contract) {
  S3Location location = place();
  int made = 0;
  EXPECT_EQ(check_store_contract([&] {
              S3Location one = location;
              one.prefix = fmt::format("contract/{}", made++);
              return store(one);
            }),
            std::vector<std::string>{});
}

Result<void> write_object(Store& store, std::string_view name, ByteView bytes) {
  TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, store.create(name));
  TRY(writer->append(bytes));
  return writer->commit();
}

// A client without any of the store's care: what an attacker or another tool would send.
class RawClient {
 public:
  RawClient(const S3Location& location, const RgwUser& user)
      : client_(location, std::move(*make_http_client()),
                fixed_credentials(user.access_key, Secret::copy_of(as_bytes(user.secret_key))), "us-east-1",
                {}, system_clock(), system_random()) {}
  int send(std::string_view method, std::string key, QueryParameters query = {}, std::string_view body = {},
           std::vector<HttpHeader> headers = {}) {
    S3Request request{.method = method,
                      .key = std::move(key),
                      .query = std::move(query),
                      .headers = std::move(headers),
                      .body = as_bytes(body)};
    if (!body.empty()) request.content_md5 = md5_of(as_bytes(body));
    auto answer = client_.send(request);
    EXPECT_TRUE(answer) << answer.error().what;
    if (!answer) return 0;
    body_ = as_text(answer->http.body);
    return answer->status;
  }
  std::string body_;

 private:
  S3Client client_;
};

TEST_F(S3StoreTest, a_large_object_goes_in_parts_and_comes_in_ranges) {
  auto there = store(place());
  Bytes bytes = pattern((23 << 20) + 17, 1);
  auto writer = there->create("packs/aa/1");
  ASSERT_TRUE(writer);
  for (ByteView rest = bytes; !rest.empty();) {
    size_t take = std::min<size_t>(rest.size(), 777'777);
    ASSERT_TRUE((*writer)->append(rest.first(take)));
    rest = rest.subspan(take);
  }
  EXPECT_EQ(there->head("packs/aa/1").error().kind, ErrorKind::kNotFound);
  Result<void> done = (*writer)->commit();
  ASSERT_TRUE(done) << done.error().what << done.error().why;
  auto reader = there->open("packs/aa/1");
  ASSERT_TRUE(reader);
  ASSERT_EQ((*reader)->size(), bytes.size());
  Result<void> read = parallel_for(24, 6, {}, [&](size_t i, std::stop_token) -> Result<void> {
    Bytes out(std::min<size_t>(1 << 20, bytes.size() - (i << 20)));
    TRY((*reader)->read(i << 20, out));
    EXPECT_TRUE(equal(out, ByteView(bytes).subspan(i << 20, out.size())));
    return {};
  });
  EXPECT_TRUE(read);
  EXPECT_EQ(write_object(*there, "packs/aa/1", bytes).error().kind, ErrorKind::kExists);
}

TEST_F(S3StoreTest, what_a_writer_left_behind_is_removed_when_it_is_old) {
  S3Location location = place();
  auto there = store(location);
  {
    auto given_up = there->create("packs/aa/given-up");
    ASSERT_TRUE(given_up);
    ASSERT_TRUE((*given_up)->append(pattern(11 << 20, 2)));
  }
  auto none = there->remove_unfinished(0s);
  ASSERT_TRUE(none) << none.error().what;
  EXPECT_EQ(*none, 0u) << "a writer that is destroyed aborts its upload";

  RawClient killed(location, owner_);  // begun and never heard of again; one is another vault's
  ASSERT_EQ(killed.send("POST", "a/vault/packs/aa/killed", {{"uploads", ""}}), 200);
  ASSERT_EQ(killed.send("POST", "a/vault2/packs/aa/killed", {{"uploads", ""}}), 200);
  EXPECT_EQ(*there->remove_unfinished(1h), 0u) << "its writer may be at work";
  EXPECT_EQ(*there->remove_unfinished(-1h), 1u);
  EXPECT_EQ(*there->remove_unfinished(-1h), 0u);
  EXPECT_EQ(killed.send("GET", "", {{"uploads", ""}}), 200);
  EXPECT_NE(killed.body_.find("a/vault2/packs"), std::string::npos) << "what is not ours stays";
}

TEST_F(S3StoreTest, under_a_lock_everything_is_retained_from_the_first_second) {
  S3Location location = place(RgwBucket::kLocked);
  location.lock = Period::of_seconds(3600);
  auto there = store(location);
  Time before = system_clock().now();
  Bytes large = pattern(6 << 20, 3);
  ASSERT_TRUE(there->put_if_absent("commits/a", as_bytes("small")));
  auto written = write_object(*there, "packs/aa/1", large);
  ASSERT_TRUE(written) << written.error().what << written.error().why;
  Retention* retention = there->retention();
  ASSERT_NE(retention, nullptr);
  for (std::string_view name : {"commits/a", "packs/aa/1"}) {
    auto until = retention->retained_until(name);
    ASSERT_TRUE(until && *until) << name;
    EXPECT_GE(**until, before + 3600s - 2s);
    EXPECT_LE(**until, system_clock().now() + 3602s);
    Result<void> removed = there->remove(name);
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().kind, ErrorKind::kDenied);
    EXPECT_NE(removed.error().why.find("retained until"), std::string::npos);
    EXPECT_TRUE(there->head(name)) << "a refused removal hides nothing";

    ASSERT_TRUE(retention->retain_until(name, before + 7200s));
    ASSERT_TRUE(retention->retain_until(name, before + 60s)) << "less than it has is no change";
    until = retention->retained_until(name);
    ASSERT_TRUE(until && *until);
    EXPECT_GE(**until, before + 7200s);
  }
  EXPECT_EQ(there->put_if_absent("commits/a", as_bytes("other")).error().kind, ErrorKind::kExists);
  EXPECT_EQ(retention->retained_until("none").error().kind, ErrorKind::kNotFound);
}

TEST_F(S3StoreTest, a_legal_hold_holds_until_it_is_taken_off) {
  auto there = store(place(RgwBucket::kLocked));
  ASSERT_TRUE(there->put_if_absent("a", as_bytes("1")));
  Retention* retention = there->retention();
  auto until = retention->retained_until("a");
  ASSERT_TRUE(until) << until.error().what;
  EXPECT_FALSE(*until);
  auto on = retention->legal_hold("a");
  ASSERT_TRUE(on) << on.error().what << on.error().why;
  EXPECT_FALSE(*on);
  ASSERT_TRUE(retention->set_legal_hold("a", true));
  EXPECT_TRUE(*retention->legal_hold("a"));
  EXPECT_EQ(there->remove("a").error().kind, ErrorKind::kDenied);
  ASSERT_TRUE(retention->set_legal_hold("a", false));
  EXPECT_TRUE(there->remove("a"));
  EXPECT_EQ(there->head("a").error().kind, ErrorKind::kNotFound);
}

TEST_F(S3StoreTest, a_bucket_without_locks_says_so) {
  auto there = store(place());
  ASSERT_TRUE(there->put_if_absent("a", as_bytes("1")));
  auto locked = there->retention()->retain_until("a", system_clock().now() + 1h);
  ASSERT_FALSE(locked);
  EXPECT_EQ(locked.error().kind, ErrorKind::kRefused) << locked.error().what << locked.error().why;
}

// Ceph ignores `If-None-Match: *` in versioned buckets and answers 200: the second put would shadow the
// first.
TEST_F(S3StoreTest, nothing_that_stands_is_shadowed_in_a_versioned_bucket) {
  S3Location location = place(RgwBucket::kVersioned);
  RawClient raw(location, owner_);
  ASSERT_EQ(raw.send("PUT", "raw", {}, "1", {{"If-None-Match", "*"}}), 200);
  EXPECT_EQ(raw.send("PUT", "raw", {}, "2", {{"If-None-Match", "*"}}), 200)
      << "the trap is gone: tell the probe";

  ASSERT_TRUE(store(location)->put_if_absent("vault", as_bytes("1")));
  auto there = store(location);
  ASSERT_TRUE(there->get("vault"));  // as every vault's opening does
  EXPECT_EQ(there->put_if_absent("vault", as_bytes("2")).error().kind, ErrorKind::kExists);
  EXPECT_EQ(write_object(*there, "vault", as_bytes("2")).error().kind, ErrorKind::kExists);
  auto versions = there->versions()->versions("vault");
  ASSERT_TRUE(versions);
  EXPECT_EQ(versions->size(), 1u);
}

TEST_F(S3StoreTest, what_was_shadowed_or_hidden_can_still_be_read) {
  S3Location location = place(RgwBucket::kVersioned);
  auto there = store(location);
  ASSERT_TRUE(there->put_if_absent("vault", as_bytes("genuine")));
  ASSERT_TRUE(there->put_if_absent("vault-2", as_bytes("another name that begins so")));
  RawClient attacker(location, owner_);
  ASSERT_EQ(attacker.send("PUT", "a/vault/vault", {}, "forged"), 200);
  ASSERT_EQ(attacker.send("DELETE", "a/vault/vault"), 204);
  EXPECT_EQ(there->get("vault").error().kind, ErrorKind::kNotFound);
  auto versions = there->versions()->versions("vault");
  ASSERT_TRUE(versions) << versions.error().what;
  ASSERT_EQ(versions->size(), 3u);
  EXPECT_TRUE((*versions)[0].delete_marker && (*versions)[0].latest);
  auto forged = there->versions()->get_version("vault", (*versions)[1].id);
  auto genuine = there->versions()->get_version("vault", (*versions)[2].id);
  ASSERT_TRUE(forged && genuine);
  EXPECT_EQ(as_text(*forged), "forged");
  EXPECT_EQ(as_text(*genuine), "genuine");
  auto reader = there->versions()->open_version("vault", (*versions)[2].id);
  ASSERT_TRUE(reader);
  Bytes out(3);
  ASSERT_TRUE((*reader)->read(4, out));
  EXPECT_EQ(as_text(out), "ine");

  auto ever = there->versions()->names_ever("vault");
  ASSERT_TRUE(ever) << ever.error().what;
  EXPECT_EQ(*ever, (std::vector<std::string>{"vault", "vault-2"})) << "hidden or not, each once";

  // And a removal leaves none that could come back.
  ASSERT_TRUE(there->remove("vault"));
  versions = there->versions()->versions("vault");
  ASSERT_TRUE(versions);
  EXPECT_TRUE(versions->empty());
  EXPECT_TRUE(there->head("vault-2"));
}

// Objects put by another account belong to it (Ceph, and Amazon's older buckets): the owner could not even
// read them.
TEST_F(S3StoreTest, the_owner_of_the_bucket_can_read_what_others_put) {
  S3Location location = place();
  auto other = cluster_->create_user();
  ASSERT_TRUE(other);
  std::string policy = fmt::format(
      R"({{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["arn:aws:iam:::user/{}"]}},)"
      R"("Action":["s3:PutObject","s3:PutObjectAcl","s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::{}","arn:aws:s3:::{}/*"]}}]}})",
      other->name, location.bucket, location.bucket);
  RawClient raw(location, owner_);
  ASSERT_LT(raw.send("PUT", "", {{"policy", ""}}, policy), 300) << raw.body_;
  Bytes large = pattern(6 << 20, 4);
  auto theirs = store(location, *other);
  auto put = theirs->put_if_absent("granted", as_bytes("1"));
  ASSERT_TRUE(put) << put.error().what << put.error().why;
  ASSERT_TRUE(write_object(*theirs, "granted-large", large));
  S3Location silent = location;
  silent.grant_to_owner = false;
  ASSERT_TRUE(store(silent, *other)->put_if_absent("kept", as_bytes("2")));

  auto ours = store(location);
  EXPECT_TRUE(ours->get("granted"));
  EXPECT_TRUE(ours->get("granted-large"));
  auto denied = ours->get("kept");
  ASSERT_FALSE(denied) << "the trap is gone";
  EXPECT_EQ(denied.error().kind, ErrorKind::kDenied) << "what may not be read is not absent (V1)";
  EXPECT_EQ(ours->head("kept").error().kind, ErrorKind::kDenied);
}

TEST_F(S3StoreTest, a_wrong_bucket_or_key_is_no_absence) {
  S3Location location = place();
  location.bucket += "-none";
  auto there = store(location);
  for (const Error& error :
       {there->get("vault").error(), there->head("vault").error(), there->open("vault").error(),
        there->list("", "", 10).error(), there->remove("vault").error()}) {
    EXPECT_EQ(error.kind, ErrorKind::kFailed) << error.what;
    EXPECT_NE(error.what.find("there is no bucket"), std::string::npos) << error.what;
  }
  RgwUser thief = owner_;
  thief.secret_key += "x";
  auto refused = store(place(), thief)->get("vault");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_NE(refused.error().next.find("the configuration"), std::string::npos) << refused.error().next;
}

TEST_F(S3StoreTest, a_vault_starts_where_its_prefix_does) {
  S3Location location = place();
  location.prefix = "prod";
  S3Location neighbour = location;
  neighbour.prefix = "prod2";
  auto one = store(location), other = store(neighbour);
  ASSERT_TRUE(one->put_if_absent("a", as_bytes("1")));
  ASSERT_TRUE(other->put_if_absent("b", as_bytes("2")));
  auto page = one->list("", "", 10);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->objects.size(), 1u);
  EXPECT_EQ(page->objects[0].name, "a");
  EXPECT_TRUE(page->objects[0].stored_at);
  location.prefix = "";
  EXPECT_EQ(store(location)->list("", "", 10)->objects.size(), 2u);
}

// Freezing the OSD makes every request hang, and what was asked meanwhile is done later all the same.
TEST_F(S3StoreTest, a_put_that_the_store_does_late_happens_once) {
  S3Location location = place();
  S3StoreOptions options;
  options.credentials = credentials(owner_);
  options.limits.timeouts.first_byte = 300ms;
  options.limits.attempts_max = 100;
  auto opened = open_s3_store(location, std::move(options));
  ASSERT_TRUE(opened);
  Store& there = **opened;
  ASSERT_TRUE(there.put_if_absent("warm", as_bytes("1")));
  ASSERT_TRUE(cluster_->signal(RgwPart::kOsd, SIGSTOP));
  Result<void> put;
  std::jthread writer([&] { put = there.put_if_absent("late", as_bytes("bytes")); });
  std::this_thread::sleep_for(1s);
  ASSERT_TRUE(cluster_->signal(RgwPart::kOsd, SIGCONT));
  writer.join();
  ASSERT_TRUE(put) << put.error().what << put.error().why;
  EXPECT_EQ(as_text(*there.get("late")), "bytes");
  EXPECT_EQ(there.put_if_absent("late", as_bytes("bytes")).error().kind, ErrorKind::kExists);
}

TEST_F(S3StoreTest, speaks_tls_under_an_authority_of_ones_own) {
  auto cluster = RgwCluster::shared_tls();
  ASSERT_TRUE(cluster) << cluster.error().what;
  auto owner = (*cluster)->owner();
  ASSERT_TRUE(owner);
  auto bucket = (*cluster)->create_bucket();
  ASSERT_TRUE(bucket);
  S3Location location{
      .bucket = *bucket, .endpoint = (*cluster)->endpoint(), .ca_file = (*cluster)->ca_file()};
  auto there = store(location, *owner);
  auto put = there->put_if_absent("a", as_bytes("1"));
  ASSERT_TRUE(put) << put.error().what << put.error().why;
  EXPECT_TRUE(write_object(*there, "large", pattern(12 << 20, 5)));
  location.ca_file = "";
  auto untrusted = store(location, *owner)->get("a");
  ASSERT_FALSE(untrusted);
  EXPECT_EQ(untrusted.error().kind, ErrorKind::kUsage);
  EXPECT_NE(untrusted.error().next.find("ca_file"), std::string::npos);
}

}  // namespace
}  // namespace kuramori
