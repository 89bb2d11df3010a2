#include "daemon/ack_page.h"

#include <fmt/core.h>

#include "base/text.h"
#include "base/time_text.h"
#include "daemon/ack_link.h"
#include "daemon/alert_store.h"
#include "os/file.h"

namespace kuramori {
namespace {

// `body`: HTML.
ServerAnswer page(int status, const std::string& title, const std::string& body) {
  return {.status = status,
          .body = fmt::format("<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
                              "<meta name=\"viewport\" content=\"width=device-width\">"
                              "<title>{0}</title></head>\n<body>\n<h1>{0}</h1>\n{1}</body>\n</html>\n",
                              markup_escaped(title), body),
          .type = kHtml,
          .headers = {}};
}

std::string paragraph(const std::string& text) {
  return text.empty() ? "" : fmt::format("<p>{}</p>\n", markup_escaped(text));
}

ServerAnswer refusal(int status, const Error& error) {
  return page(status, error.what,
              paragraph(error.why) + paragraph(error.next.empty() ? "" : "next: " + error.next));
}

ServerAnswer trouble(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound:
      return refusal(404, error);
    case ErrorKind::kRefused:
      return refusal(409, error);
    default:
      return refusal(503, error);
  }
}

std::string moment(Time time) {
  return format_moment(std::chrono::floor<std::chrono::seconds>(time), "UTC");
}

ServerAnswer shown(const Alert& alert) {
  const Trouble& about = alert.trouble;
  std::string body = paragraph(about.what) + paragraph("since " + moment(alert.opened));
  if (alert.closed) {
    body +=
        paragraph(fmt::format("It was over at {}. There is nothing to acknowledge.", moment(*alert.closed)));
  } else if (alert.acknowledged) {
    body += paragraph(fmt::format("It was acknowledged by {}, at {}: nobody else is called.",
                                  alert.acknowledged_by, moment(*alert.acknowledged)));
  } else {
    body += paragraph(about.next.empty() ? "" : "next: " + about.next);
    body += "<form method=\"post\"><button type=\"submit\">I look after it</button></form>\n";
    body += paragraph("Nobody else is called then. It stays open until what is wrong is put right.");
  }
  const std::string of = about.resource.empty() ? "" : " of " + about.resource;
  return page(200, fmt::format("Alert {}: {}{}", alert.id, about.event, of), body);
}

// Also of a link that was sent while its alert was only held in memory.
Result<int64_t> alert_of(AlertStore& store, const Secret& key, std::string_view token, Time now) {
  auto id = alert_of_token(key, store.name(), token, now);
  if (id || id.error().kind != ErrorKind::kDenied) return id;
  TRY_ASSIGN(const auto former, store.former());
  for (const AlertStore::Former& one : former) {
    auto there = alert_of_token(key, one.store, token, now);
    if (there && *there == one.there) return one.alert;
    if (!there && there.error().kind != ErrorKind::kDenied) return there;
  }
  return id;
}

}  // namespace

ServerAnswer answer_ack(const std::string& state_folder, const ServerRequest& request, Reporter& reporter) {
  const Time now = system_clock().now();
  const std::string_view token = std::string_view(request.path).substr(std::string_view(kAckPath).size());
  const auto key = read_ack_key(state_folder);
  if (!key && key.error().kind == ErrorKind::kNotFound)
    return refusal(403,
                   fail(ErrorKind::kDenied, "this link acknowledges nothing", "this daemon has made none"));
  if (!key) return trouble(fail(ErrorKind::kFailed, "links cannot be read now", "", "type: kuramori ack"));
  auto store = AlertStore::open(join_path(state_folder, kAlertStoreFile));
  if (!store) return trouble(store.error());
  const auto id = alert_of(**store, *key, token, now);
  if (!id) return refusal(id.error().kind == ErrorKind::kRefused ? 410 : 403, id.error());
  auto alert = (*store)->find(*id);
  if (!alert) return trouble(alert.error());
  if (!*alert) return trouble(fail(ErrorKind::kNotFound, fmt::format("there is no alert {} any more", *id)));
  if (request.method != "POST" || (*alert)->acknowledged) return shown(**alert);
  if (auto done = (*store)->acknowledge(*id, std::string(kAckedByLink), now); !done)
    return trouble(done.error());
  reporter.note(fmt::format("alert {} was acknowledged by link, from {}", *id, request.peer));
  alert = (*store)->find(*id);
  if (!alert || !*alert)
    return trouble(fail(ErrorKind::kNotFound, fmt::format("there is no alert {} any more", *id)));
  return shown(**alert);
}

}  // namespace kuramori
