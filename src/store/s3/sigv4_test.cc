#include "store/s3/sigv4.h"

#include <gtest/gtest.h>

#include "base/time_text.h"
#include "crypto/digest.h"

namespace kuramori {
namespace {

// The figures of "Examples: Signature Calculations" in Amazon's documentation of S3.
class SigV4Test : public ::testing::Test {
 protected:
  SigV4Test() {
    credentials_.access_key = "AKIAIOSFODNN7EXAMPLE";
    credentials_.secret_key = Secret::copy_of(as_bytes("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
  }
  std::string signature(std::string_view method, std::string_view path, QueryParameters query,
                        std::vector<HttpHeader> headers, std::string_view body) {
    std::string hash = sha256(as_bytes(body)).hex();
    headers.push_back({"Host", "examplebucket.s3.amazonaws.com"});
    headers.push_back({"x-amz-content-sha256", hash});
    headers.push_back({"x-amz-date", "20130524T000000Z"});
    Time time = parse_moment("2013-05-24 00:00:00Z")->time;
    EXPECT_EQ(amz_date(time), "20130524T000000Z");
    std::string line =
        sign_v4({.method = method, .path = path, .query = query, .headers = headers, .payload_sha256 = hash},
                credentials_, "us-east-1", time);
    EXPECT_TRUE(line.starts_with(
        "AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="));
    return line.substr(line.rfind('=') + 1);
  }
  S3Credentials credentials_;
};

TEST_F(SigV4Test, signs_the_published_examples) {
  EXPECT_EQ(signature("GET", "/test.txt", {}, {{"Range", "bytes=0-9"}}, ""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  EXPECT_EQ(
      signature("PUT", "/test%24file.text", {},
                {{"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                "Welcome to Amazon S3."),
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  EXPECT_EQ(signature("GET", "/", {{"lifecycle", ""}}, {}, ""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  EXPECT_EQ(signature("GET", "/", {{"max-keys", "2"}, {"prefix", "J"}}, {}, ""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST_F(SigV4Test, does_not_depend_on_the_order_or_the_spaces_of_headers) {
  EXPECT_EQ(signature("GET", "/", {{"b", "2"}, {"a", "1"}}, {{"X-B", " one   two "}, {"X-A", "1"}}, ""),
            signature("GET", "/", {{"a", "1"}, {"b", "2"}}, {{"x-a", "1"}, {"x-b", "one two"}}, ""));
}

TEST_F(SigV4Test, everything_signed_matters) {
  std::string one = signature("GET", "/a", {{"a", "1"}}, {{"X-A", "1"}}, "");
  EXPECT_NE(one, signature("PUT", "/a", {{"a", "1"}}, {{"X-A", "1"}}, ""));
  EXPECT_NE(one, signature("GET", "/b", {{"a", "1"}}, {{"X-A", "1"}}, ""));
  EXPECT_NE(one, signature("GET", "/a", {{"a", "2"}}, {{"X-A", "1"}}, ""));
  EXPECT_NE(one, signature("GET", "/a", {{"a", "1"}}, {{"X-A", "2"}}, ""));
  EXPECT_NE(one, signature("GET", "/a", {{"a", "1"}}, {{"X-A", "1"}}, "body"));
}

}  // namespace
}  // namespace kuramori
