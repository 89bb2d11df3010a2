// `pings:` of kuramori.yaml: what other people's scripts do on a schedule of their own. They call the daemon
// when they are done; it notices when they do not.
#pragma once
#include <string>

#include "policy/listen_config.h"
#include "policy/schedule.h"

namespace kuramori {

class MapReader;

constexpr Duration kPingGraceUnsaid = std::chrono::minutes(10);

struct PingConfig {
  std::string name;
  When when;                          // it must be done by each of these moments …
  Duration grace = kPingGraceUnsaid;  // … and so much
  std::string resource;               // that it is about; "": none of ours
  std::string criticality;            // "": that of the resource
  TokenConfig token;                  // who has it may call for this one alone
  KeyLines lines;
};

PingConfig read_ping(const std::string& name, MapReader& map);

}  // namespace kuramori
