#include "net/mail.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>

#include "base/bytes.h"
#include "base/check.h"

namespace kuramori {
namespace {

constexpr size_t kLineBytesMax = 76;  // of base64, RFC 2045
constexpr size_t kWordBytesMax = 42;  // of text in one encoded word: 56 of base64, within 75 (RFC 2047)
constexpr size_t kSubjectBytesMax = 300;

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

std::string one_line(std::string_view text) {
  std::string out(text.substr(0, kSubjectBytesMax));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

ByteView bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

// Words of whole characters, each encoded by itself.
std::string encoded_words(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t take = std::min(kWordBytesMax, text.size());
    while (take < text.size() && take > 1 && !begins_character(text[take])) --take;
    out += fmt::format("{}=?UTF-8?B?{}?=", out.empty() ? "" : "\r\n ",
                       to_base64(bytes_of(text.substr(0, take))));
    text.remove_prefix(take);
  }
  return out;
}

std::string date_of(Time at) {
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} +0000", kDays[parts.tm_wday], parts.tm_mday,
                     kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

struct Sending {
  std::string_view rest;
  std::stop_token stop;
};

size_t give(char* out, size_t size, size_t count, void* self) {
  auto& sending = *static_cast<Sending*>(self);
  const size_t take = std::min(sending.rest.size(), size * count);
  std::memcpy(out, sending.rest.data(), take);
  sending.rest.remove_prefix(take);
  return take;
}

int look_whether_to_stop(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Sending*>(self)->stop.stop_requested() ? 1 : 0;
}

Error error_of(CURLcode code, long answer, const std::string& host, const std::string& reason) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return fail(ErrorKind::kUsage, fmt::format("{} cannot show that it is who it says", host), reason,
                  "name the authority that signed its certificate: ca_file: FILE");
    case CURLE_USE_SSL_FAILED:
      return fail(ErrorKind::kUsage, fmt::format("{} offers no TLS", host), reason,
                  "use smtps://, or for a server on this machine tls: off");
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return fail(ErrorKind::kUsage, fmt::format("{} is no mail server's address", host), reason,
                  "write smtp://host/address@domain");
    case CURLE_LOGIN_DENIED:
      if (answer >= 400 && answer < 500) break;
      return fail(ErrorKind::kDenied, fmt::format("{} does not know the user, or the password", host),
                  reason);
    case CURLE_ABORTED_BY_CALLBACK:
      return fail(ErrorKind::kInterrupted, fmt::format("the mail to {} was stopped", host));
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
      return fail(ErrorKind::kFailed, fmt::format("{} cannot be reached", host), reason);
    default:
      break;
  }
  if (answer >= 500 && answer < 600)
    return fail(ErrorKind::kRefused, fmt::format("{} refused the mail with {}", host, answer), reason);
  if (answer >= 400)
    return fail(ErrorKind::kFailed, fmt::format("{} does not take the mail now: it said {}", host, answer),
                reason);
  return fail(ErrorKind::kUnknown, fmt::format("the mail to {} may not have arrived", host), reason);
}

}  // namespace

std::string mail_text(const Mail& mail) {
  const std::string subject = one_line(mail.subject);
  std::string out =
      fmt::format("From: <{}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}>\r\n",
                  one_line(mail.from), one_line(mail.to),
                  is_plain(subject) ? subject : encoded_words(subject), date_of(mail.at), one_line(mail.id));
  out +=
      "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
      "Auto-Submitted: auto-generated\r\n\r\n";
  // Whatever is in the body, no server changes it.
  const std::string body = to_base64(bytes_of(mail.body));
  for (size_t at = 0; at < body.size(); at += kLineBytesMax) out += body.substr(at, kLineBytesMax) + "\r\n";
  return out;
}

Result<void> send_mail(const MailServer& server, const Mail& mail, std::stop_token stop) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  CHECK(ready);
  const size_t scheme = server.url.find("://");
  const std::string host = scheme == server.url.npos ? server.url : server.url.substr(scheme + 3);
  for (const std::string* address : {&mail.from, &mail.to})
    if (address->find('@') == address->npos || !is_plain(*address) ||
        address->find_first_of(" <>") != address->npos)
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no mail address", one_line(*address)), "",
                  "write smtp://host/address@domain");

  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> owner(curl_easy_init(), curl_easy_cleanup);
  CURL* easy = owner.get();
  CHECK(easy != nullptr);
  const std::string from = fmt::format("<{}>", mail.from), to = fmt::format("<{}>", mail.to);
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> recipients(
      curl_slist_append(nullptr, to.c_str()), curl_slist_free_all);
  CHECK(recipients != nullptr);
  const std::string text = mail_text(mail);
  Sending sending{text, std::move(stop)};
  char reason[CURL_ERROR_SIZE] = {};
  const auto ms = [](Duration length) {
    return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(length).count());
  };
  auto set = [&](auto option, auto value) { CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK); };
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_USE_SSL,
      static_cast<long>(server.tls == MailServer::Tls::kRequired ? CURLUSESSL_ALL : CURLUSESSL_NONE));
  if (!server.ca_file.empty()) {
    set(CURLOPT_CAINFO, server.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
  }
  if (!server.user.empty()) {
    set(CURLOPT_USERNAME, server.user.c_str());
    set(CURLOPT_PASSWORD, server.password.c_str());
  }
  set(CURLOPT_CONNECTTIMEOUT_MS, ms(server.connect_max));
  set(CURLOPT_TIMEOUT_MS, ms(server.total_max));
  set(CURLOPT_ERRORBUFFER, reason);
  set(CURLOPT_MAIL_FROM, from.c_str());
  set(CURLOPT_MAIL_RCPT, recipients.get());
  set(CURLOPT_UPLOAD, 1L);
  set(CURLOPT_READFUNCTION, &give);
  set(CURLOPT_READDATA, static_cast<void*>(&sending));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &look_whether_to_stop);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(&sending));
  if (curl_easy_setopt(easy, CURLOPT_URL, server.url.c_str()) != CURLE_OK)
    return error_of(CURLE_URL_MALFORMAT, 0, host, "");
  const CURLcode code = curl_easy_perform(easy);
  if (code == CURLE_OK) return {};
  long answer = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer);
  return error_of(code, answer, host, reason[0] != 0 ? reason : curl_easy_strerror(code));
}

}  // namespace kuramori
