// Mail, handed to a server over SMTP (libcurl; RFC 5321, 3207), and the text of one (RFC 5322, 2047, 2045).
#pragma once
#include <stop_token>
#include <string>

#include "base/error.h"
#include "base/world.h"

namespace kuramori {

struct MailServer {
  std::string url;             // "smtp://host:port"; smtps:// is TLS from the first byte
  std::string user, password;  // "": it wants none
  enum class Tls {
    kRequired,  // without STARTTLS nothing is said
    kOff,       // in clear: for a server on this machine
  } tls = Tls::kRequired;
  std::string ca_file;  // PEM; empty: the system's authorities
  Duration connect_max = std::chrono::seconds(10);
  Duration total_max = std::chrono::seconds(60);
};

struct Mail {
  std::string from, to;  // addresses alone
  std::string subject, body;
  std::string id;  // "3f2a-17@host": the same mail sent twice has the same one
  Time at;
};

// As it goes over the wire. A line break in a header becomes a space: nobody smuggles one in.
std::string mail_text(const Mail& mail);

// kFailed, kUnknown: another time it may work; the server said 4xx, was not there, or was lost. kRefused,
// kDenied: it said 5xx, or does not know the user. kUsage: its certificate is not trusted, it has no TLS, or
// the address is none.
Result<void> send_mail(const MailServer& server, const Mail& mail, std::stop_token stop);

}  // namespace kuramori
