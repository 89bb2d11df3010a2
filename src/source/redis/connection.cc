#include "source/redis/connection.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

namespace kuramori::redis {
namespace {

constexpr size_t kOutgoingBytesMax = 256 << 10;  // collected before it is sent
constexpr size_t kLineBytesMax = 64 << 10;
constexpr int kNestingMax = 8;  // arrays in arrays

template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// The ACL rule that allows a command: "+psync", "+config|get".
std::string rule_for(const Arguments& arguments) {
  static constexpr std::string_view kWithSubcommands[] = {"config",   "acl",    "client",
                                                          "function", "memory", "module"};
  const std::string command = lower(arguments.front());
  const bool has_subcommand = std::find(std::begin(kWithSubcommands), std::end(kWithSubcommands), command) !=
                                  std::end(kWithSubcommands) &&
                              arguments.size() > 1;
  return has_subcommand ? fmt::format("+{}|{}", command, lower(arguments[1])) : "+" + command;
}

Error not_the_protocol(const Endpoint& endpoint, std::string_view what) {
  return fail(ErrorKind::kFailed, fmt::format("{} does not speak like a Redis server", endpoint.describe()),
              fmt::format("it sent {}", what),
              "is it another service's port, or one that wants TLS (rediss://)?");
}

}  // namespace

std::string_view Reply::error_code() const {
  if (!is_error()) return {};
  return std::string_view(text).substr(0, text.find(' '));
}

Result<Connection> Connection::open(const Endpoint& endpoint, std::stop_token stop, Duration limit) {
  TRY_ASSIGN(std::unique_ptr<Stream> stream, Stream::connect(endpoint, limit, std::move(stop)));
  Connection connection(endpoint, std::move(stream));
  TRY(connection.authenticate());
  return connection;
}

Result<void> Connection::authenticate() {
  if (endpoint_.password.empty() && endpoint_.user.empty()) return {};
  // With one argument also before ACLs, and for the user named default.
  Arguments arguments{"AUTH"};
  if (!endpoint_.user.empty()) arguments.push_back(endpoint_.user);
  arguments.push_back(endpoint_.password);
  TRY_ASSIGN(const Reply reply, ask(arguments));
  if (!reply.is_error()) return {};
  if (reply.text.find("without any password configured") != std::string::npos) {
    return fail(ErrorKind::kDenied,
                fmt::format("{} has no password, and one was given", endpoint_.describe()), reply.text,
                "leave the password out, or set one: CONFIG SET requirepass …");
  }
  return fail(
      ErrorKind::kDenied,
      fmt::format("{} does not let user {} in", endpoint_.describe(), endpoint_.user_name()), reply.text,
      fmt::format("look at the password, and whether the user is on: ACL GETUSER {}", endpoint_.user_name()));
}

Error Connection::error_of(const Reply& reply, const Arguments& arguments) const {
  const std::string_view code = reply.error_code();
  const std::string what = fmt::format("{} refused {}", endpoint_.describe(), arguments.front());
  if (code == "NOPERM") {
    return fail(ErrorKind::kDenied, what, reply.text,
                fmt::format("ACL SETUSER {} {}", endpoint_.user_name(), rule_for(arguments)));
  }
  if (code == "NOAUTH" || code == "WRONGPASS") {
    return fail(ErrorKind::kDenied, what, reply.text,
                "give the user and password: redis://USER@HOST and password_file");
  }
  if (code == "DENIED") {
    return fail(ErrorKind::kDenied, what,
                "the server is in protected mode: no password, and asked from elsewhere",
                "set a password on the server: CONFIG SET requirepass …");
  }
  if (code == "LOADING" || code == "BUSY" || code == "MASTERDOWN" || code == "NOMASTERLINK")
    return fail(ErrorKind::kUnknown, what, reply.text, "try again when the server is ready");
  if (code == "MISCONF")
    return fail(ErrorKind::kFailed, what, reply.text, "look at the server's log: it could not save");
  return fail(ErrorKind::kFailed, what, reply.text);
}

Result<Reply> Connection::call(const Arguments& arguments, Duration limit) {
  TRY_ASSIGN(Reply reply, ask(arguments, limit));
  if (reply.is_error()) return error_of(reply, arguments);
  return reply;
}

Result<Reply> Connection::ask(const Arguments& arguments, Duration limit) {
  TRY(send(arguments));
  return receive(limit);
}

Result<void> Connection::send(std::span<const std::string> arguments) {
  outgoing_ += fmt::format("*{}\r\n", arguments.size());
  for (const std::string& argument : arguments) {
    outgoing_ += fmt::format("${}\r\n", argument.size());
    outgoing_ += argument;
    outgoing_ += "\r\n";
  }
  if (outgoing_.size() >= kOutgoingBytesMax) return flush();
  return {};
}

Result<void> Connection::flush() {
  if (outgoing_.empty()) return {};
  const std::string bytes = std::exchange(outgoing_, {});
  return stream_->write(as_bytes(bytes), kReplyLimit);
}

Result<Reply> Connection::receive(Duration limit) {
  TRY(flush());
  return read_reply(limit, 0);
}

Result<void> Connection::write(ByteView bytes) {
  return stream_->write(bytes, kReplyLimit);
}

Error Connection::closed() const {
  return fail(
      ErrorKind::kFailed, fmt::format("{} closed the connection", endpoint_.describe()),
      "it was shut down, or it cut us off",
      endpoint_.tls ? "its log says why" : "its log says why; a port that wants TLS is written rediss://…");
}

Result<void> Connection::fill(Duration limit) {
  if (begin_ < end_) return {};
  TRY_ASSIGN(const size_t got, stream_->read(buffer_, limit));
  begin_ = 0;
  end_ = got;
  return {};
}

Result<char> Connection::read_byte(Duration limit) {
  TRY(fill(limit));
  if (begin_ == end_) return closed();
  return static_cast<char>(buffer_[begin_++]);
}

Result<ByteView> Connection::read_some(size_t max, Duration limit) {
  TRY(fill(limit));
  const size_t count = std::min(max, end_ - begin_);
  ByteView here(buffer_.data() + begin_, count);
  begin_ += count;
  return here;
}

Result<std::string> Connection::read_line(Duration limit) {
  std::string line;
  for (;;) {
    TRY_ASSIGN(const char c, read_byte(limit));
    if (c == '\n' && line.ends_with('\r')) {
      line.pop_back();
      return line;
    }
    line.push_back(c);
    if (line.size() > kLineBytesMax) return not_the_protocol(endpoint_, "a line without an end");
  }
}

Result<std::string> Connection::read_exactly(uint64_t bytes, Duration limit) {
  std::string text;  // grows as it comes: a server that lies about a length costs nothing
  while (text.size() < bytes) {
    TRY_ASSIGN(const ByteView here, read_some(static_cast<size_t>(bytes - text.size()), limit));
    if (here.empty()) return closed();
    text.append(as_text(here));
  }
  return text;
}

Result<Reply> Connection::read_reply(Duration limit, int depth) {
  if (depth > kNestingMax) return not_the_protocol(endpoint_, "arrays nested too deep");
  TRY_ASSIGN(std::string line, read_line(limit));
  if (line.empty()) return not_the_protocol(endpoint_, "an empty line");
  const char kind = line.front();
  line.erase(0, 1);
  Reply reply;
  if (kind == '+' || kind == '-') {
    reply.type = kind == '+' ? Reply::Type::kText : Reply::Type::kError;
    reply.text = std::move(line);
    return reply;
  }
  const std::optional<int64_t> number = number_of<int64_t>(line);
  if (!number || (kind != ':' && kind != '$' && kind != '*'))
    return not_the_protocol(endpoint_, "something that is no reply");
  if (kind == ':') {
    reply.type = Reply::Type::kInteger;
    reply.integer = *number;
    return reply;
  }
  if (*number == -1) return reply;
  const auto count = static_cast<uint64_t>(*number);
  if (*number < 0 || count > (kind == '$' ? kReplyBytesMax : kReplyElementsMax))
    return not_the_protocol(endpoint_, fmt::format("a reply of {} parts", *number));
  if (kind == '$') {
    reply.type = Reply::Type::kText;
    TRY_ASSIGN(reply.text, read_exactly(count + 2, limit));
    if (!reply.text.ends_with("\r\n")) return not_the_protocol(endpoint_, "a string longer than it said");
    reply.text.resize(count);
    return reply;
  }
  reply.type = Reply::Type::kArray;
  for (uint64_t i = 0; i < count; ++i) {
    TRY_ASSIGN(Reply element, read_reply(limit, depth + 1));
    reply.elements.push_back(std::move(element));
  }
  return reply;
}

// --- what a server says of itself -----------------------------------------------------------------------

Result<Info> read_info(Connection& connection, const std::string& section) {
  Arguments arguments{"INFO"};
  if (!section.empty()) arguments.push_back(section);
  TRY_ASSIGN(const Reply reply, connection.call(arguments));
  Info info;
  std::string_view rest = reply.text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t colon = line.find(':');
    if (line.starts_with('#') || colon == std::string_view::npos) continue;
    info.emplace(line.substr(0, colon), line.substr(colon + 1));
  }
  return info;
}

std::string text_in(const Info& info, std::string_view name) {
  auto found = info.find(name);
  return found == info.end() ? std::string() : found->second;
}

int64_t number_in(const Info& info, std::string_view name) {
  return number_of<int64_t>(text_in(info, name)).value_or(0);
}

std::map<uint64_t, uint64_t> keys_in(const Info& info) {
  std::map<uint64_t, uint64_t> keys;
  for (const auto& [name, value] : info) {
    if (!name.starts_with("db") || !value.starts_with("keys=")) continue;
    const std::string_view count = std::string_view(value).substr(5, value.find(',') - 5);
    const auto database = number_of<uint64_t>(std::string_view(name).substr(2));
    if (database) keys[*database] = number_of<uint64_t>(count).value_or(0);
  }
  return keys;
}

std::string_view name_of(Flavour flavour) {
  return flavour == Flavour::kValkey ? "valkey" : "redis";
}

ServerVersion parse_version(Flavour flavour, std::string_view text) {
  ServerVersion version{.flavour = flavour, .text = std::string(text)};
  const size_t dot = text.find('.');
  version.major = number_of<int>(text.substr(0, dot)).value_or(0);
  if (dot != std::string_view::npos) {
    std::string_view rest = text.substr(dot + 1);
    version.minor = number_of<int>(rest.substr(0, rest.find('.'))).value_or(0);
  }
  return version;
}

// Valkey tells programs that ask for it a redis_version too: the last of Redis it is compatible with.
ServerVersion version_in(const Info& info) {
  const std::string valkey = text_in(info, "valkey_version");
  if (!valkey.empty()) return parse_version(Flavour::kValkey, valkey);
  return parse_version(Flavour::kRedis, text_in(info, "redis_version"));
}

int rdb_version_of(const ServerVersion& version) {
  struct Row {
    Flavour flavour;
    int major, minor;  // from here on
    int rdb;
  };
  // Newest first. Where a release after the newest we know writes more, its files are refused in words.
  constexpr Row kRows[] = {
      {Flavour::kValkey, 9, 0, 80}, {Flavour::kValkey, 0, 0, 11}, {Flavour::kRedis, 8, 4, 13},
      {Flavour::kRedis, 7, 4, 12},  {Flavour::kRedis, 7, 2, 11},  {Flavour::kRedis, 7, 0, 10},
      {Flavour::kRedis, 5, 0, 9},   {Flavour::kRedis, 4, 0, 8},   {Flavour::kRedis, 0, 0, 6},
  };
  for (const Row& row : kRows) {
    if (row.flavour != version.flavour) continue;
    if (version.major > row.major || (version.major == row.major && version.minor >= row.minor))
      return row.rdb;
  }
  return 0;
}

}  // namespace kuramori::redis
