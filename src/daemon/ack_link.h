// Links by which somebody acknowledges an alert without a terminal: they stand in the messages about it,
// where `listen:` says how others reach the daemon.
//
// A link holds the alert's number, until when it holds, and an HMAC-SHA256 of both, and of the store that
// counts the alerts, under a key that lies in the state folder alone. Who has it can acknowledge this one
// alert and nothing else. To look changes nothing: mail scanners follow links, so it is acknowledged by a
// POST, and a second one changes nothing.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/world.h"
#include "crypto/secret.h"

namespace kuramori {

constexpr const char* kAckKeyFile = "ack.key";     // in the state folder, for its owner alone
constexpr const char* kAckPath = "/ack/";          // and the token
constexpr std::string_view kAckedByLink = "link";  // who acknowledged, as records say
constexpr Duration kAckLinkHolds = std::chrono::hours(24 * 7);

// The key; made where there is none yet. For the one who sends: two at once could make two.
Result<Secret> make_ack_key(const std::string& state_folder);
// kNotFound: no link was ever made.
Result<Secret> read_ack_key(const std::string& state_folder);

// "17.1795000000.HEX". `store`: the name of the alerts' store, whose numbers begin anew in another.
std::string ack_token(const Secret& key, std::string_view store, int64_t alert, Time until);
// Whose alert it is. kDenied: it was not made with this key for this store, or was changed. kRefused: it
// holds no longer.
Result<int64_t> alert_of_token(const Secret& key, std::string_view store, std::string_view token, Time now);

}  // namespace kuramori
