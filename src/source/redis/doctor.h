// What is wrong or risky about a Redis server that is to be protected: the judgement, apart from the looking.
#pragma once
#include <string>
#include <vector>

#include "source/redis/private_server.h"
#include "source/redis/redis_source.h"

namespace kuramori::redis {

struct ServerLook {
  Endpoint endpoint;
  Info info;
  std::map<std::string, std::string> settings;  // of CONFIG GET; one that may not be asked for is missing
  std::vector<std::string> missing_rights;      // "+psync"
  std::vector<ServerProgram> programs;          // of this machine
  Way way = Way::kAuto;
  std::string data_dir;
  bool aof = false;
};

std::vector<SourceFinding> judge(const ServerLook& look);

}  // namespace kuramori::redis
