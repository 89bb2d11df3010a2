// A small real HTTP/1.1 server on the loopback for tests: it answers what the test says, and ends badly where
// the test wants it to.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"

namespace kuramori {

struct StubRequest {
  std::string method, target;                  // "/bucket/key?list-type=2"
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  uint64_t connection = 0;  // from 1
  uint64_t number = 0;      // of the request, from 1
};

struct StubReply {
  enum class End {
    kWhole,
    kNoAnswer,     // the connection is closed, nothing was sent
    kReset,        // likewise, by a reset
    kHalfBody,     // closed in the middle of the body
    kStallInBody,  // half of the body, then silence until the client leaves
    kSilence,      // nothing is ever sent
  };
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  End end = End::kWhole;
  Duration delay{};  // before the answer
};

class HttpStub {
 public:
  using Handler = std::function<StubReply(const StubRequest&)>;
  // `answer` may be called by several threads at once. `before_body` may answer when only the head has come.
  explicit HttpStub(Handler answer,
                    std::function<std::optional<StubReply>(const StubRequest&)> before_body = {});
  ~HttpStub();
  HttpStub(const HttpStub&) = delete;

  int port() const;
  std::string url() const;  // "http://127.0.0.1:12345"
  uint64_t connections() const;
  uint64_t requests() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kuramori
