// Real servers for the tests of this folder, and data sets of every type to put into them.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "source/redis/private_server.h"

namespace kuramori::redis {

// redis6, redis7, redis8 and valkey8, as tools/test_redis.sh has them; what cannot be had is left out.
const std::vector<std::string>& test_server_names();
// The folder of its programs.
std::string test_programs(const std::string& name);
// All of them, for what looks for a program to start.
std::vector<std::string> all_test_programs();

// A server with its data in a temporary folder.
class TestServer {
 public:
  explicit TestServer(const std::string& name, std::vector<std::string> more = {}, bool append_only = false);
  // In a folder that is there.
  TestServer(const std::string& name, const std::string& folder, std::vector<std::string> more,
             bool append_only);

  Connection& connection() { return server_->connection(); }
  PrivateServer& server() { return *server_; }
  const Endpoint& endpoint() const { return server_->endpoint(); }
  std::string url() const { return "unix://" + server_->endpoint().socket; }
  const std::string& folder() const { return folder_; }

  Reply call(const Arguments& arguments);  // an error fails the test
  std::map<uint64_t, uint64_t> keys() { return keys_in(*read_info(connection(), "keyspace")); }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

 private:
  void start(const std::string& name, std::vector<std::string> more, bool append_only);
  std::unique_ptr<TemporaryFolder> own_;
  std::string folder_;
  std::unique_ptr<PrivateServer> server_;
};

// Keys of every type and encoding, small and large, with and without times to live, in several databases;
// other ones with every seed.
void fill_at_random(TestServer& server, uint32_t seed, int keys);

// No functions, no manifest of append-only files, no channels in ACLs (6.0), no moment of expiry.
bool is_redis6(TestServer& server);

// Every key's type, time to live and value, by database and name.
std::map<std::string, std::string> contents(TestServer& server);

int free_port();

}  // namespace kuramori::redis
