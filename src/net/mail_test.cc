// The text of a mail. That servers take it is tested with a real one (tests/e2e/alerts_test.py).
#include "net/mail.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace kuramori {
namespace {

Mail mail(std::string subject, std::string body) {
  return {.from = "kuramori@db1",
          .to = "ops@example.jp",
          .subject = std::move(subject),
          .body = std::move(body),
          .id = "a1-7@db1",
          .at = from_unix_ns(1'772'445'600'000'000'000)};
}

TEST(Mail, M4_headers_are_plain_and_the_body_survives_every_server) {
  const std::string body = "backup failed\n.\n\xe5\xa4\xb1\xe6\x95\x97\n" + std::string(2000, 'x');
  const std::string text = mail_text(mail("failure: db", body));
  EXPECT_NE(text.find("Subject: failure: db\r\n"), text.npos);
  EXPECT_NE(text.find("Date: Mon, 02 Mar 2026 10:00:00 +0000\r\n"), text.npos);
  EXPECT_NE(text.find("Message-ID: <a1-7@db1>\r\n"), text.npos);
  const size_t end = text.find("\r\n\r\n");
  ASSERT_NE(end, text.npos);
  std::string encoded;
  for (char c : text.substr(end + 4))
    if (c != '\r' && c != '\n') encoded += c;
  auto decoded = from_base64(encoded);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::string(decoded->begin(), decoded->end()), body);
  for (size_t at = 0, next; (next = text.find("\r\n", at)) != text.npos; at = next + 2)
    EXPECT_LE(next - at, 78U);
}

TEST(Mail, M4_nobody_smuggles_a_header_in) {
  const std::string text = mail_text(mail("failure\r\nBcc: thief@example.com", "x"));
  EXPECT_EQ(text.find("\r\nBcc:"), text.npos);
  auto sent = send_mail(
      {.url = "smtp://127.0.0.1:1", .user = {}, .password = {}, .ca_file = {}},
      Mail{.from = "a@b", .to = "c@d> RCPT TO:<e@f", .subject = {}, .body = {}, .id = {}, .at = {}}, {});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().kind, ErrorKind::kUsage);
}

TEST(Mail, M4_a_subject_in_any_script_is_encoded_by_whole_characters) {
  std::string subject;
  for (int i = 0; i < 40; ++i) subject += "\xe5\xa4\xb1";
  const std::string text = mail_text(mail(subject, "x"));
  const size_t begin = text.find("Subject: ") + 9, end = text.find("\r\nDate:");
  std::string joined, words = text.substr(begin, end - begin);
  for (size_t at = 0; (at = words.find("=?UTF-8?B?", at)) != words.npos;) {
    at += 10;
    const size_t stop = words.find("?=", at);
    auto part = from_base64(words.substr(at, stop - at));
    ASSERT_TRUE(part);
    EXPECT_EQ(part->size() % 3, 0U);
    joined.append(part->begin(), part->end());
  }
  EXPECT_EQ(joined, subject);
}

TEST(Mail, M4_a_server_that_is_not_there_may_be_there_later) {
  auto sent =
      send_mail({.url = "smtp://127.0.0.1:1", .user = {}, .password = {}, .ca_file = {}}, mail("x", "y"), {});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().kind, ErrorKind::kFailed);
}

}  // namespace
}  // namespace kuramori
