#include "store/s3/credentials.h"

#include <gtest/gtest.h>

#include <map>

#include "base/time_text.h"
#include "testing/http/http_stub.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() : http_(std::move(*make_http_client())) {
    environment_["AWS_EC2_METADATA_DISABLED"] = "true";
  }
  CredentialWorld world() {
    return {.environment = [this](const std::string& name) -> std::optional<std::string> {
              auto at = environment_.find(name);
              return at == environment_.end() ? std::nullopt : std::optional(at->second);
            },
            .read_file = [this](const std::string& path) -> Result<std::string> {
              auto at = files_.find(path);
              if (at == files_.end()) return fail(ErrorKind::kNotFound, "cannot open " + path);
              return at->second;
            },
            .http = http_.get(),
            .clock = &system_clock()};
  }
  // "AK:SK:TOKEN", or the error's text.
  std::string found(std::string_view location = "s3://bucket/v") {
    auto source = find_credentials(*parse_s3_location(location), world());
    auto got = source->get();
    if (!got) {
      EXPECT_EQ(got.error().kind, ErrorKind::kUsage);
      return got.error().what + " | " + got.error().why;
    }
    return (*got)->access_key + ":" + std::string(as_text((*got)->secret_key.view())) + ":" +
           (*got)->session_token;
  }
  std::map<std::string, std::string> environment_, files_;
  std::unique_ptr<HttpClient> http_;
};

constexpr const char* kCredentials = R"([default]
aws_access_key_id = AKD
aws_secret_access_key=SKD

# of the vaults
[kuramori]
aws_access_key_id=AKK
aws_secret_access_key = SK/K+=
aws_session_token = T
[half]
aws_access_key_id=AKH
)";

TEST_F(CredentialsTest, come_from_the_place_that_is_named) {
  environment_["HOME"] = "/srv/u";
  environment_["AWS_ACCESS_KEY_ID"] = "AKE";
  environment_["AWS_SECRET_ACCESS_KEY"] = "SKE";
  files_["/srv/u/.aws/credentials"] = kCredentials;
  files_["/etc/a"] = "AKF\n";
  files_["/etc/s"] = "  SKF \n";
  EXPECT_EQ(found("s3://bucket/v?profile=kuramori"), "AKK:SK/K+=:T");
  EXPECT_EQ(found("s3://bucket/v?access_key_file=/etc/a&secret_key_file=/etc/s"), "AKF:SKF:");
  EXPECT_EQ(found("s3://bucket/v?credentials=env"), "AKE:SKE:");
  EXPECT_EQ(found(), "AKE:SKE:");
  environment_.erase("AWS_ACCESS_KEY_ID");
  EXPECT_EQ(found(), "AKD:SKD:");
  environment_["AWS_PROFILE"] = "kuramori";
  EXPECT_EQ(found(), "AKK:SK/K+=:T");
  environment_["AWS_SHARED_CREDENTIALS_FILE"] = "/elsewhere";
  files_["/elsewhere"] = "[kuramori]\naws_access_key_id=AK2\naws_secret_access_key=SK2\n";
  EXPECT_EQ(found(), "AK2:SK2:");
}

TEST_F(CredentialsTest, what_is_missing_is_said_and_nothing_else_is_taken) {
  environment_["HOME"] = "/srv/u";
  files_["/srv/u/.aws/credentials"] = kCredentials;
  EXPECT_NE(found("s3://bucket/v?profile=none").find("no profile \"none\""), std::string::npos);
  EXPECT_NE(found("s3://bucket/v?profile=half").find("aws_secret_access_key is missing"), std::string::npos);
  EXPECT_NE(found("s3://bucket/v?credentials=env").find("AWS_ACCESS_KEY_ID"), std::string::npos);
  files_.clear();
  EXPECT_NE(found().find("there are no credentials"), std::string::npos) << found();
}

TEST_F(CredentialsTest, the_profile_of_the_config_file_names_the_region) {
  environment_["HOME"] = "/srv/u";
  files_["/srv/u/.aws/config"] = "[profile kuramori]\nregion = ap-northeast-1\n[default]\nregion=eu-west-1\n";
  files_["/srv/u/.aws/credentials"] = kCredentials;
  EXPECT_EQ(region_of_environment(*parse_s3_location("s3://bucket?profile=kuramori"), world()),
            "ap-northeast-1");
  EXPECT_EQ(region_of_environment(*parse_s3_location("s3://bucket"), world()), "eu-west-1");
  environment_["AWS_REGION"] = "us-west-2";
  EXPECT_EQ(region_of_environment(*parse_s3_location("s3://bucket"), world()), "us-west-2");
}

TEST_F(CredentialsTest, the_instances_role_is_asked_with_a_token_and_again_before_it_expires) {
  std::atomic<int> given = 0;
  std::atomic<bool> soon = true;
  HttpStub service([&](const StubRequest& request) -> StubReply {
    if (request.target == "/latest/api/token") {
      EXPECT_EQ(request.method, "PUT");
      EXPECT_EQ(request.headers.at("x-aws-ec2-metadata-token-ttl-seconds"), "21600");
      return {.body = "the-token"};
    }
    auto token = request.headers.find("x-aws-ec2-metadata-token");
    if (token == request.headers.end() || token->second != "the-token") return {.status = 401};
    if (request.target == "/latest/meta-data/iam/security-credentials/") return {.body = "backup-role\n"};
    if (request.target != "/latest/meta-data/iam/security-credentials/backup-role") return {.status = 404};
    Time expires = system_clock().now() + (soon ? Duration(1min) : Duration(6h));
    return {.body = "{\"Code\":\"Success\",\"AccessKeyId\":\"AK" + std::to_string(++given) +
                    "\",\"SecretAccessKey\":\"SK\",\"Token\":\"T\",\"Expiration\":\"" + format_utc(expires) +
                    "\"}"};
  });
  environment_.clear();
  environment_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = service.url();
  auto source = find_credentials(*parse_s3_location("s3://bucket?credentials=instance"), world());
  auto got = source->get();
  ASSERT_TRUE(got) << got.error().what;
  EXPECT_EQ((*got)->access_key, "AK1");
  EXPECT_EQ((*got)->session_token, "T");
  soon = false;
  EXPECT_EQ((*source->get())->access_key, "AK2") << "one minute is too little";
  EXPECT_EQ((*source->get())->access_key, "AK2");
  source->forget();
  EXPECT_EQ((*source->get())->access_key, "AK3");
  EXPECT_EQ(found(), "AK4:SK:T") << "the last place where credentials are looked for";
}

TEST_F(CredentialsTest, a_machine_without_a_role_is_told_from_one_that_has_it) {
  HttpStub none([](const StubRequest&) { return StubReply{.status = 404}; });
  environment_.clear();
  environment_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = none.url();
  auto source = find_credentials(*parse_s3_location("s3://bucket?credentials=instance"), world());
  auto got = source->get();
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().what.find("has no role"), std::string::npos);
}

TEST(S3LocationTest, is_read_back_as_written) {
  for (std::string_view text :
       {"s3://bucket", "s3://bucket/a/b",
        "s3://bucket/a?endpoint=https://s3.example.jp:8443&region=ap-northeast-3",
        "s3://bucket/a?endpoint=http://127.0.0.1:8000&ca_file=/etc/ca.pem&profile=p",
        "s3://bucket/a?access_key_file=/a&secret_key_file=/s&style=virtual&class=STANDARD_IA&sse_kms=alias/"
        "k&lock=14d"
        "&lock_mode=governance&acl=none&conditional=no",
        "s3://bucket/a?credentials=env", "s3://bucket/a?credentials=instance&style=path"}) {
    auto location = parse_s3_location(text);
    ASSERT_TRUE(location) << text << location.error().why;
    EXPECT_EQ(format_s3_location(*location), text);
  }
  auto spaced = parse_s3_location("s3://bucket/a/?ca_file=/my%20ca%26.pem");
  ASSERT_TRUE(spaced);
  EXPECT_EQ(spaced->prefix, "a");
  EXPECT_EQ(spaced->ca_file, "/my ca&.pem");
  EXPECT_EQ(parse_s3_location(format_s3_location(*spaced))->ca_file, spaced->ca_file);
}

TEST(S3LocationTest, what_cannot_be_is_refused_in_words) {
  for (auto [text, words] : {std::pair("s3://", "cannot be the name of a bucket"),
                             {"s3://ab/x", "name of a bucket"},
                             {"s3://bucket//x", "empty"},
                             {"s3://bucket/a?endpint=x", "endpint"},
                             {"s3://bucket/a?endpoint=ftp://x/y", "no endpoint"},
                             {"s3://bucket/a?lock=forever", "end"},
                             {"s3://bucket/a?lock=x", ""},
                             {"s3://bucket/a?access_key_file=/a", "missing"},
                             {"s3://bucket/a?profile=p&credentials=env", "several"},
                             {"s3://bucket/a?style=x", "style"},
                             {"/srv/vault", "s3://"}}) {
    auto location = parse_s3_location(text);
    ASSERT_FALSE(location) << text;
    EXPECT_EQ(location.error().kind, ErrorKind::kUsage) << text;
    EXPECT_NE((location.error().what + location.error().why).find(words), std::string::npos)
        << text << location.error().why;
  }
}

}  // namespace
}  // namespace kuramori
