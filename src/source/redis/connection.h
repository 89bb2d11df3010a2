// Speaks to a Redis or Valkey server: commands out, replies in (RESP2, which every version speaks unasked).
//
// Our own few hundred lines rather than hiredis: Debian 12 has its 0.14, which knows no TLS, and an RDB over
// the replication protocol is no reply at all but a stream that must be taken raw from the same connection.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "source/redis/stream.h"

namespace kuramori::redis {

constexpr Duration kConnectLimit = std::chrono::seconds(10);
constexpr Duration kReplyLimit = std::chrono::seconds(60);
constexpr uint64_t kReplyBytesMax = uint64_t{1} << 30;     // of one string
constexpr uint64_t kReplyElementsMax = uint64_t{1} << 20;  // of one array
constexpr size_t kReadBufferBytes = 256 << 10;

struct Reply {
  enum class Type : uint8_t { kText, kInteger, kNothing, kArray, kError } type = Type::kNothing;
  std::string text;  // of an error too: "NOPERM this user has …"
  int64_t integer = 0;
  std::vector<Reply> elements;

  bool is_error() const { return type == Type::kError; }
  // The first word of an error ("NOPERM"); "" if it is none.
  std::string_view error_code() const;
};

using Arguments = std::vector<std::string>;

// One thread at a time.
class Connection {
 public:
  // Connects and says who we are. kDenied: the password or user is wrong, or one is needed.
  static Result<Connection> open(const Endpoint& endpoint, std::stop_token stop = {},
                                 Duration limit = kConnectLimit);

  // Sends a command and waits for its reply; an error reply is an error in words (as of error_of).
  Result<Reply> call(const Arguments& arguments, Duration limit = kReplyLimit);
  // The same, and an error reply is a reply.
  Result<Reply> ask(const Arguments& arguments, Duration limit = kReplyLimit);
  // For pipelines: every send() has its receive(), in order. Arguments may hold any bytes.
  Result<void> send(std::span<const std::string> arguments);
  Result<void> flush();  // what send() collected; receive() does it too
  Result<Reply> receive(Duration limit = kReplyLimit);

  // What an error reply to this command means, and what to type: NOPERM becomes the exact ACL line.
  Error error_of(const Reply& reply, const Arguments& arguments) const;

  // --- raw, for the replication stream ---
  // The next byte that was not read yet. kFailed when the server closed.
  Result<char> read_byte(Duration limit);
  // What is there, at least a byte and at most `max`; valid until the next call. Empty: the server closed.
  Result<ByteView> read_some(size_t max, Duration limit);
  Result<void> write(ByteView bytes);

  const Endpoint& endpoint() const { return endpoint_; }

 private:
  Connection(Endpoint endpoint, std::unique_ptr<Stream> stream)
      : endpoint_(std::move(endpoint)), stream_(std::move(stream)), buffer_(kReadBufferBytes) {}
  Result<void> authenticate();
  Result<void> fill(Duration limit);
  Result<std::string> read_line(Duration limit);
  Result<Reply> read_reply(Duration limit, int depth);
  Result<std::string> read_exactly(uint64_t bytes, Duration limit);
  Error closed() const;

  Endpoint endpoint_;
  std::unique_ptr<Stream> stream_;
  Bytes buffer_;
  size_t begin_ = 0, end_ = 0;  // what of the buffer was received and not taken
  std::string outgoing_;
};

// What a server says about itself under INFO: "used_memory" → "1024". `section` may be "" for the default
// ones.
using Info = std::map<std::string, std::string, std::less<>>;
Result<Info> read_info(Connection& connection, const std::string& section = {});
int64_t number_in(const Info& info, std::string_view name);  // 0 if it is not there
std::string text_in(const Info& info, std::string_view name);

// Keys of each database, from INFO keyspace ("db0" → "keys=1,expires=0,…").
std::map<uint64_t, uint64_t> keys_in(const Info& info);

enum class Flavour : uint8_t { kRedis, kValkey };
std::string_view name_of(Flavour flavour);  // "redis", "valkey"

struct ServerVersion {
  Flavour flavour = Flavour::kRedis;
  std::string text;  // "8.1.1"
  int major = 0, minor = 0;
};
ServerVersion version_in(const Info& info);
// "7.0.15" → {7, 0}.
ServerVersion parse_version(Flavour flavour, std::string_view text);
// The RDB version that this release writes, and the newest it reads.
int rdb_version_of(const ServerVersion& version);

}  // namespace kuramori::redis
