#include "daemon/channels.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/json_writer.h"
#include "base/time_text.h"
#include "net/mail.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr const char* kPagerDuty = "https://events.pagerduty.com/v2/enqueue";
constexpr Duration kConnectMax = std::chrono::seconds(10), kSendMax = std::chrono::seconds(30);
constexpr Duration kProgramMax = std::chrono::seconds(60);
constexpr size_t kAnswerBytesMax = size_t{64} << 10, kAnswerShownMax = 160;
constexpr size_t kSlackBytesMax = 35'000;  // it cuts at 40,000
constexpr size_t kSummaryBytesMax = 1000;  // of PagerDuty: 1,024
constexpr size_t kItemsShownMax = 100;     // in a text for people

bool is_trouble(TellKind kind) {
  return kind == TellKind::kOpened || kind == TellKind::kEscalated || kind == TellKind::kAgain;
}
bool is_end(TellKind kind) {
  return kind == TellKind::kResolved || kind == TellKind::kPassed;
}

std::string headline(const TellItem& item) {
  const std::string about =
      item.resource.empty() ? item.event : fmt::format("{} of {}", item.event, item.resource);
  switch (item.kind) {
    case TellKind::kOpened:
      return fmt::format("{}: {}", about, item.what);
    case TellKind::kEscalated:
      return fmt::format("nobody has acknowledged: {}: {}", about, item.what);
    case TellKind::kAgain:
      return fmt::format("still: {}: {}", about, item.what);
    case TellKind::kPassed:
      return fmt::format("was, and is over: {}: {}", about, item.what);
    case TellKind::kResolved:
      return fmt::format("is over: {}: {}", about, item.what);
    default:
      return item.what;
  }
}

// "" where there is none, or nothing to acknowledge.
std::string link_of(const Delivery& delivery, const TellItem& item) {
  const auto at = delivery.links.find(item.alert);
  return at != delivery.links.end() && is_trouble(item.kind) ? at->second : std::string();
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  size_t at = most;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  text.resize(at);
  return text + "…";
}

// A secret address in words: what a library says may repeat it.
class Hiding {
 public:
  Hiding(const AlertChannel& channel, const Delivery& delivery) {
    for (const auto& [alert, link] : delivery.links) add(link);
    add(channel.password);
    add(channel.endpoint);
    const size_t scheme = channel.to.find("://");
    if (scheme == channel.to.npos) {
      const size_t colon = channel.to.find(':');
      if (!channel.to.starts_with("command:"))
        add(channel.to.substr(colon == channel.to.npos ? 0 : colon + 1));
      return;
    }
    const std::string rest = channel.to.substr(scheme + 3);
    const size_t slash = rest.find_first_of("/?");
    const size_t at = rest.substr(0, slash).rfind('@');
    add(channel.to.substr(channel.to.find(':') + 1));
    if (at != rest.npos) add(rest.substr(0, at));
    if (slash != rest.npos && !channel.to.starts_with("smtp")) add(rest.substr(slash));
  }
  std::string of(std::string text) const {
    for (const std::string& secret : secrets_)
      for (size_t at; (at = text.find(secret)) != text.npos;) text.replace(at, secret.size(), "…");
    return text;
  }
  Error of(Error error) const { return fail(error.kind, of(error.what), of(error.why), of(error.next)); }

 private:
  void add(std::string secret) {
    constexpr size_t kLeast = 4;  // "/" is in everything
    if (secret.size() >= kLeast && secret != "…") secrets_.push_back(std::move(secret));
  }
  std::vector<std::string> secrets_;
};

Result<void> post(const AlertChannel& channel, const std::string& url, const std::string& body,
                  const std::string& dedup, std::stop_token stop) {
  TRY_ASSIGN(const std::unique_ptr<HttpClient> client, make_http_client({.ca_file = channel.ca_file}));
  HttpRequest request;
  request.method = "POST";
  request.url = url;
  request.headers = {
      {"Content-Type", "application/json"}, {"Idempotency-Key", dedup}, {"User-Agent", "kuramori"}};
  request.body = {reinterpret_cast<const uint8_t*>(body.data()), body.size()};
  request.body_bytes_max = kAnswerBytesMax;
  request.timeouts = {.connect = kConnectMax, .first_byte = kSendMax, .stall = kSendMax, .total = kSendMax};
  request.stop = std::move(stop);
  TRY_ASSIGN(const HttpAnswer answer, client->send(request));
  if (answer.status >= 200 && answer.status < 300) return {};
  const bool passes =
      answer.status >= 500 || answer.status == 429 || answer.status == 408 || answer.status == 425;
  std::string said = cut({answer.body.begin(), answer.body.end()}, kAnswerShownMax);
  for (char& c : said)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return fail(passes ? ErrorKind::kFailed : ErrorKind::kRefused,
              fmt::format("the answer was {}", answer.status), said,
              passes ? "" : "look at the address in notify, then kuramori notify test");
}

// Slack's own markup: three characters mean something (its documentation, "formatting text").
std::string slack_escaped(std::string_view text) {
  std::string out;
  for (char c : text) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

Result<void> to_slack(const AlertChannel& channel, const std::string& url, const Delivery& delivery,
                      std::stop_token stop) {
  const MessageText text = text_of(delivery);
  JsonWriter json;
  json.begin_object()
      .field("text", cut(slack_escaped(fmt::format("{}\n{}", text.title, text.body)), kSlackBytesMax))
      .end_object();
  return post(channel, url, json.take(), delivery.dedup, std::move(stop));
}

Result<void> to_webhook(const AlertChannel& channel, const std::string& url, const Delivery& delivery,
                        std::stop_token stop) {
  if (!channel.has_template) return post(channel, url, json_of(delivery), delivery.dedup, std::move(stop));
  TRY_ASSIGN(const std::string body, fill_template(channel.template_text, delivery, Escape::kJson));
  if (!nlohmann::json::accept(body))
    return fail(ErrorKind::kUsage, "the template makes no JSON",
                "values are escaped as inside of quotes: {\"text\": \"{{text}}\"}", "correct template_file");
  return post(channel, url, body, delivery.dedup, std::move(stop));
}

bool is_this_machine(std::string_view host) {
  return host == "localhost" || host.starts_with("localhost:") || host.starts_with("127.") ||
         host.starts_with("[::1]");
}

Result<void> to_mail(const AlertChannel& channel, const Delivery& delivery, std::stop_token stop) {
  const size_t begin = channel.to.find("://") + 3;
  const size_t slash = channel.to.find('/', begin);
  if (slash == channel.to.npos)
    return fail(ErrorKind::kUsage, "the mail has no address", "", "write smtp://host/address@domain");
  const std::string host = channel.to.substr(begin, slash - begin);
  MailServer server;
  server.url = channel.to.substr(0, slash);
  server.user = channel.user;
  server.password = channel.password;
  server.ca_file = channel.ca_file;
  const bool off = channel.tls == ChannelAccess::Tls::kOff ||
                   (channel.tls == ChannelAccess::Tls::kAuto && is_this_machine(host));
  server.tls = off && !channel.to.starts_with("smtps") ? MailServer::Tls::kOff : MailServer::Tls::kRequired;
  if (server.tls == MailServer::Tls::kOff && !server.user.empty() && !is_this_machine(host))
    return fail(ErrorKind::kUsage, "a password is not sent in clear to another machine", "tls is off",
                "remove tls: off, or use smtps://");
  const MessageText text = text_of(delivery);
  Mail mail{.from = channel.from.empty() ? fmt::format("kuramori@{}", delivery.host) : channel.from,
            .to = channel.to.substr(slash + 1),
            .subject = text.title,
            .body = text.body,
            .id = fmt::format("{}@{}", delivery.dedup, delivery.host),
            .at = delivery.message.at};
  if (channel.has_template) {
    TRY_ASSIGN(mail.body, fill_template(channel.template_text, delivery, Escape::kNone));
  }
  return send_mail(server, mail, std::move(stop));
}

std::vector<std::string> names_of(const Delivery& delivery, int64_t alert) {
  const auto known = delivery.names.find(alert);
  return known != delivery.names.end() ? known->second
                                       : std::vector{fmt::format("{}-{}", delivery.journal, alert)};
}

// Events API v2: one event an alert. Of reports and successes it is not told: each would be an incident.
Result<void> to_pagerduty(const AlertChannel& channel, const std::string& key, const Delivery& delivery,
                          const std::stop_token& stop) {
  const auto event_of = [&](const std::string& dedup, const TellItem& item, std::string_view action,
                            std::string_view severity) -> Result<void> {
    JsonWriter json;
    json.begin_object().field("routing_key", key).field("event_action", action);
    json.field("dedup_key", dedup);
    json.field("client", "kuramori").key("payload").begin_object();
    json.field("summary", cut(headline(item), kSummaryBytesMax)).field("source", delivery.host);
    json.field("severity", severity).field("timestamp", format_utc(item.at));
    json.field("component", item.resource).field("class", item.event);
    json.key("custom_details").begin_object().field("next", item.next);
    json.field("acknowledge", item.alert != 0 ? fmt::format("kuramori ack {}", item.alert) : "");
    json.end_object().end_object();
    if (const std::string link = link_of(delivery, item); !link.empty()) {
      json.key("links").begin_array().begin_object();
      json.field("href", link).field("text", "acknowledge").end_object().end_array();
    }
    json.end_object();
    return post(channel, channel.endpoint.empty() ? kPagerDuty : channel.endpoint, json.take(),
                delivery.dedup, stop);
  };
  const auto event = [&](const TellItem& item, std::string_view action, std::string_view severity) {
    return event_of(item.alert != 0 ? names_of(delivery, item.alert).front() : delivery.dedup, item, action,
                    severity);
  };
  for (const TellItem& item : delivery.message.items) {
    // Under each of its names there is an incident.
    if (is_end(item.kind) && item.alert != 0) {
      const std::vector<std::string> names = names_of(delivery, item.alert);
      for (size_t i = 1; i < names.size(); ++i) TRY(event_of(names[i], item, "resolve", "info"));
    }
    if (is_trouble(item.kind)) TRY(event(item, "trigger", item.is_critical ? "critical" : "error"));
    if (item.kind == TellKind::kPassed || item.kind == TellKind::kTest) TRY(event(item, "trigger", "info"));
    if (is_end(item.kind) || item.kind == TellKind::kTest) TRY(event(item, "resolve", "info"));
  }
  return {};
}

// The program gets the message and a PATH: nothing of our environment, where keys may be.
Result<void> to_program(const std::string& line, const Delivery& delivery, std::stop_token stop) {
  Command command;
  for (size_t at = 0; at < line.size();) {
    const size_t end = std::min(line.find(' ', at), line.size());
    if (end > at) command.argv.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  if (command.argv.empty()) return fail(ErrorKind::kUsage, "command: names no program");
  command.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "LC_ALL=C.UTF-8", "KURAMORI_MESSAGE=" + delivery.dedup};
  command.input = json_of(delivery) + "\n";
  command.timeout = kProgramMax;
  command.stop = std::move(stop);
  command.output_max = command.errors_max = kAnswerBytesMax;
  TRY_ASSIGN(const Finished done, run(command));
  if (done.exit.ok()) return {};
  return fail(ErrorKind::kFailed, fmt::format("{} ended with {}", command.argv.front(), done.exit.describe()),
              cut(done.errors, kAnswerShownMax));
}

std::string json_escaped(const std::string& text) {
  JsonWriter json;
  json.value(text);
  const std::string quoted = json.take();
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

Result<AlertChannel> channel_of(std::span<const NotifyConfig> entries, const std::string& label,
                                const ConfigWorld& world) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const NotifyConfig& entry = entries[i];
    for (size_t step = 0; step <= entry.escalate.size(); ++step) {
      if (label_of(entry, i, step) != label) continue;
      AlertChannel channel;
      TRY_ASSIGN(channel.to, (step == 0 ? entry.to : entry.escalate[step - 1].to).fetch(world));
      TRY_ASSIGN(channel.password, entry.access.password.fetch(world));
      TRY_ASSIGN(channel.endpoint, entry.access.endpoint.fetch(world));
      channel.user = entry.access.user;
      channel.from = entry.access.from;
      channel.tls = entry.access.tls;
      channel.ca_file = entry.access.ca_file;
      channel.has_template = !entry.template_file.empty();
      if (channel.has_template) {
        TRY_ASSIGN(channel.template_text, world.read_file(entry.template_file));
      }
      return channel;
    }
  }
  return fail(ErrorKind::kUsage, fmt::format("notify has no \"{}\"", label), "",
              "kuramori notify test lists them");
}

MessageText text_of(const Delivery& delivery) {
  const TellMessage& message = delivery.message;
  const std::string& host = delivery.host;
  CHECK(!message.items.empty());
  MessageText text;
  const TellItem& first = message.items.front();
  if (message.kind == TellKind::kDigest) {
    size_t open = 0, over = 0;
    for (const TellItem& item : message.items) {
      open += is_trouble(item.kind);
      over += is_end(item.kind);
    }
    text.title = fmt::format("kuramori on {}: {} things: {} are wrong, {} are over", host,
                             message.items.size(), open, over);
  } else if (message.kind == TellKind::kReport) {
    text.title = fmt::format("kuramori on {}: daily report: {}", host, first_line(first.what));
  } else {
    text.title = fmt::format("kuramori on {}: {}", host, first_line(headline(first)));
  }
  size_t shown = 0;
  for (const TellItem& item : message.items) {
    if (++shown > kItemsShownMax) {
      text.body += fmt::format("… and {} more: kuramori alerts\n", message.items.size() - kItemsShownMax);
      break;
    }
    text.body += fmt::format("{}\n", headline(item));
    if (item.alert != 0)
      text.body +=
          fmt::format("  {}: {}\n", is_end(item.kind) ? "from" : "since", format_moment(item.at, "UTC"));
    if (!is_trouble(item.kind) || item.alert == 0) continue;
    if (!item.next.empty()) text.body += fmt::format("  next: {}\n", item.next);
    text.body += fmt::format("  acknowledge: kuramori ack {}\n", item.alert);
    if (const std::string link = link_of(delivery, item); !link.empty())
      text.body += fmt::format("  or here: {}\n", link);
  }
  return text;
}

std::string json_of(const Delivery& delivery) {
  const TellMessage& message = delivery.message;
  const MessageText text = text_of(delivery);
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/alert-message/1").field("id", delivery.dedup);
  json.field("host", delivery.host).field("to", message.label).field("kind", name_of(message.kind));
  json.field("time", format_utc(message.at)).field("title", text.title).field("text", text.body);
  json.key("items").begin_array();
  for (const TellItem& item : message.items) {
    json.begin_object().field("kind", name_of(item.kind)).key("alert");
    const auto names = item.alert != 0 ? names_of(delivery, item.alert) : std::vector<std::string>();
    names.empty() ? json.null() : json.value(names.front());
    if (names.size() > 1) {
      json.key("also_known_as").begin_array();
      for (size_t i = 1; i < names.size(); ++i) json.value(names[i]);
      json.end_array();
    }
    json.field("event", item.event).field("resource", item.resource).field("what", item.what);
    json.field("next", item.next).field("link", link_of(delivery, item));
    json.field("critical", item.is_critical).field("time", format_utc(item.at));
    json.end_object();
  }
  json.end_array().end_object();
  return json.take();
}

Result<std::string> fill_template(const std::string& text, const Delivery& delivery, Escape escape) {
  const TellMessage& message = delivery.message;
  const MessageText said = text_of(delivery);
  const TellItem& first = message.items.front();
  const std::pair<std::string_view, std::string> values[] = {
      {"title", said.title},
      {"text", said.body},
      {"kind", std::string(name_of(message.kind))},
      {"event", first.event},
      {"resource", first.resource},
      {"what", first.what},
      {"next", first.next},
      {"alert", first.alert != 0 ? std::to_string(first.alert) : ""},
      {"link", link_of(delivery, first)},
      {"id", delivery.dedup},
      {"time", format_utc(message.at)},
      {"host", delivery.host},
  };
  std::string out;
  size_t at = 0;
  for (size_t open; (open = text.find("{{", at)) != text.npos;) {
    const size_t close = text.find("}}", open);
    if (close == text.npos) return fail(ErrorKind::kUsage, "a {{ of the template is never closed");
    const std::string_view name = std::string_view(text).substr(open + 2, close - open - 2);
    const auto found = std::ranges::find(values, name, [](const auto& value) { return value.first; });
    if (found == std::end(values))
      return fail(
          ErrorKind::kUsage,
          fmt::format("the template asks for {{{{{}}}}}, and there is none", name.substr(0, 40)), "",
          "it may ask for title, text, kind, event, resource, what, next, alert, link, id, time, host");
    out.append(text, at, open - at);
    out += escape == Escape::kJson ? json_escaped(found->second) : found->second;
    at = close + 2;
  }
  return out.append(text, at);
}

Result<void> deliver(const AlertChannel& channel, const Delivery& delivery, std::stop_token stop) {
  const auto rest = [&](std::string_view scheme) { return channel.to.substr(scheme.size()); };
  Result<void> done =
      fail(ErrorKind::kUsage, "notify names a target of an unknown kind", "",
           "write slack:https://…, webhook:https://…, smtp://host/address, pagerduty:KEY or command:PROGRAM");
  if (channel.to.starts_with("slack:")) done = to_slack(channel, rest("slack:"), delivery, stop);
  if (channel.to.starts_with("webhook:")) done = to_webhook(channel, rest("webhook:"), delivery, stop);
  if (channel.to.starts_with("smtp://") || channel.to.starts_with("smtps://"))
    done = to_mail(channel, delivery, stop);
  if (channel.to.starts_with("pagerduty:")) done = to_pagerduty(channel, rest("pagerduty:"), delivery, stop);
  if (channel.to.starts_with("command:")) done = to_program(rest("command:"), delivery, stop);
  if (done) return {};
  return Hiding(channel, delivery).of(std::move(done).error());
}

bool may_pass(const Error& error) {
  return error.kind == ErrorKind::kFailed || error.kind == ErrorKind::kUnknown ||
         error.kind == ErrorKind::kNoSpace || error.kind == ErrorKind::kInterrupted;
}

}  // namespace kuramori
