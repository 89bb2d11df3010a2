// How a message leaves this machine: Slack, a webhook, mail, PagerDuty, or a program of the user's. What a
// target is called by (tokens in addresses, passwords) is never in an error, a log or a program's
// environment.
//
// A message may go out twice when nobody knows whether it arrived; it then carries the same `dedup`.
#pragma once
#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "net/http.h"
#include "policy/alerts.h"

namespace kuramori {

// A target as it is used: fetched when something is sent, so that a new token is used at once.
struct AlertChannel {
  std::string to;  // "slack:https://…"
  std::string user, password, from;
  ChannelAccess::Tls tls = ChannelAccess::Tls::kAuto;
  std::string ca_file;
  std::string endpoint;       // of PagerDuty; "": its own
  std::string template_text;  // ""; ours
  bool has_template = false;
};
// The one of `label`; kUsage where there is none, or its setting cannot be fetched.
Result<AlertChannel> channel_of(std::span<const NotifyConfig> entries, const std::string& label,
                                const ConfigWorld& world);

struct Delivery {
  const TellMessage& message;
  std::string dedup;                          // of the message
  std::string journal;                        // of its alerts: "JOURNAL-ALERT" is one alert anywhere
  std::string host;                           // who says it
  std::map<int64_t, std::string> links = {};  // by alert: where it is acknowledged; who has one can do so
  // By alert: the names under which others know it, where that is not "JOURNAL-ALERT" alone; the oldest
  // first.
  std::map<int64_t, std::vector<std::string>> names = {};
};

// What all channels say of a message.
struct MessageText {
  std::string title;  // one line: "kuramori on db1: failure of orders-db: backup … failed"
  std::string body;
};
MessageText text_of(const Delivery& delivery);

// The message as a document: what a webhook without a template and a program get.
std::string json_of(const Delivery& delivery);
// Puts values for {{title}}, {{text}}, {{kind}}, {{event}}, {{resource}}, {{what}}, {{next}}, {{alert}},
// {{link}}, {{id}}, {{time}}, {{host}}. kUsage for any other name.
enum class Escape { kNone, kJson };  // kJson: as inside of a JSON string's quotes
Result<std::string> fill_template(const std::string& text, const Delivery& delivery, Escape escape);

// kFailed, kUnknown and kNoSpace may pass; any other error stays until somebody changes something.
Result<void> deliver(const AlertChannel& channel, const Delivery& delivery, std::stop_token stop);
bool may_pass(const Error& error);

}  // namespace kuramori
