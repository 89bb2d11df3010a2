// The page behind a link to acknowledge (daemon/ack_link.h): a GET shows what it is about and a button, a
// POST acknowledges. The link is all the right that it takes.
#pragma once
#include <string>

#include "base/reporter.h"
#include "net/http_server.h"

namespace kuramori {

constexpr const char* kHtml = "text/html; charset=utf-8";

// `request`: of a path below kAckPath. What cannot be done is a page as well, in words for people.
ServerAnswer answer_ack(const std::string& state_folder, const ServerRequest& request, Reporter& reporter);

}  // namespace kuramori
