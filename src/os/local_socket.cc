#include "os/local_socket.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace kuramori {
namespace {

constexpr int kWaitingMax = 128;  // connections not yet accepted
constexpr size_t kGroupsMax = 65536;
constexpr Duration kNoDescriptorsPause = std::chrono::milliseconds(50);

// A path fits into an address, or it is no address.
Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" cannot be a socket", path),
                fmt::format("a socket's path has 1 to {} bytes", sizeof address.sun_path - 1),
                "give a shorter one with --socket PATH");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<Fd> make_socket(int type) {
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return system_error("make a socket", errno);
  return socket;
}

// True once `fd` is ready; false when `limit` has passed.
Result<bool> wait_for(const Fd& fd, short events, Duration limit) {
  const Duration deadline = system_clock().steady() + limit;
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - system_clock().steady());
    pollfd poll{fd.get(), events, 0};
    int ready = ::poll(&poll, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return system_error("wait for a socket", errno);
  }
}

}  // namespace

Result<Peer> peer_of(const Fd& socket) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
    return system_error("ask who is at the other end of a socket", errno);
  Peer peer{.uid = who.uid, .gid = who.gid, .groups = {}};
  size = 0;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERGROUPS, nullptr, &size) == 0) return peer;
  if (errno != ERANGE || size > kGroupsMax * sizeof(gid_t)) return peer;  // it stays without them
  peer.groups.resize(size / sizeof(gid_t));
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) != 0)
    peer.groups.clear();
  return peer;
}

Result<Fd> connect_local(const std::string& path) {
  TRY_ASSIGN(sockaddr_un address, address_of(path));
  TRY_ASSIGN(Fd socket, make_socket(SOCK_SEQPACKET));
  while (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED)
      return fail(ErrorKind::kNotFound, fmt::format("nobody listens on {}", path));
    return system_error(fmt::format("connect to {}", path), errno);
  }
  return socket;
}

Result<void> send_message(const Fd& socket, ByteView bytes, std::span<const int> fds, Duration limit) {
  if (bytes.size() > kMessageBytesMax || fds.size() > kMessageFdsMax)
    return fail(ErrorKind::kUsage, "a message is too long",
                fmt::format("{} bytes, {} descriptors", bytes.size(), fds.size()));
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char space[CMSG_SPACE(kMessageFdsMax * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = space;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    int code = errno;
    if (code == EINTR) continue;
    if (code == EAGAIN) {
      TRY_ASSIGN(bool ready, wait_for(socket, POLLOUT, limit));
      if (ready) continue;
      return fail(ErrorKind::kUnknown, "a message was not taken in time");
    }
    return fail(ErrorKind::kUnknown, "a message could not be sent", std::strerror(code));
  }
}

Result<std::optional<Message>> receive_message(const Fd& socket, Duration limit) {
  TRY_ASSIGN(bool ready, wait_for(socket, POLLIN, limit));
  if (!ready) return fail(ErrorKind::kUnknown, "no message came in time");
  Message message;
  message.bytes.resize(kMessageBytesMax);
  iovec part{message.bytes.data(), message.bytes.size()};
  alignas(cmsghdr) char space[CMSG_SPACE(kMessageFdsMax * sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = space;
  header.msg_controllen = sizeof space;
  ssize_t size;
  while ((size = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
  }
  if (size < 0) return fail(ErrorKind::kUnknown, "a message could not be received", std::strerror(errno));
  // Taken into our hands before anything is judged: what is refused is closed, not leaked.
  for (cmsghdr* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int raw;
      std::memcpy(&raw, CMSG_DATA(one) + i * sizeof raw, sizeof raw);
      message.fds.emplace_back(raw);
    }
  }
  if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return fail(ErrorKind::kUsage, "a message is too long");
  if (size == 0 && message.fds.empty()) return std::optional<Message>();
  message.bytes.resize(static_cast<size_t>(size));
  return std::optional(std::move(message));
}

Result<LocalListener> LocalListener::open(const std::string& path, std::optional<gid_t> group) {
  const std::string made_as = path + ".new";
  TRY(address_of(path));
  TRY_ASSIGN(sockaddr_un address, address_of(made_as));
  TRY_ASSIGN(std::optional<FileLock> lock, FileLock::try_acquire(path + ".lock"));
  if (!lock) {
    return fail(ErrorKind::kRefused, fmt::format("another process listens on {}", path), "",
                "stop that one first, or give this one a socket of its own: --socket PATH");
  }
  TRY_ASSIGN(auto there, status_if_there(path));
  if (there && there->type != FileType::kOther) {
    return fail(ErrorKind::kRefused, fmt::format("{} is there and is no socket", path), "",
                "give another path: --socket PATH");
  }
  // Made beside and renamed over: whoever finds the name finds a socket that listens, with its rights.
  TRY_ASSIGN(Fd socket, make_socket(SOCK_SEQPACKET));
  ::unlink(made_as.c_str());
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return system_error(fmt::format("make the socket {}", path), errno);
  auto give_up = [&](std::string what) {
    Error error = system_error(std::move(what), errno);
    ::unlink(made_as.c_str());
    return error;
  };
  if (group && ::lchown(made_as.c_str(), static_cast<uid_t>(-1), *group) != 0)
    return give_up(fmt::format("give the socket {} to group number {}", path, *group));
  if (::chmod(made_as.c_str(), 0660) != 0) return give_up(fmt::format("set the mode of {}", path));
  if (::listen(socket.get(), kWaitingMax) != 0) return give_up(fmt::format("listen on {}", path));
  if (::rename(made_as.c_str(), path.c_str()) != 0)
    return give_up(fmt::format("put the socket {} in place", path));
  TRY_ASSIGN(FileStatus status, status_of(path));
  return LocalListener(path, std::move(*lock), std::move(socket), status.gid);
}

LocalListener::LocalListener(LocalListener&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      lock_(std::move(other.lock_)),
      socket_(std::move(other.socket_)),
      group_(other.group_) {}

LocalListener::~LocalListener() {
  if (!path_.empty()) ::unlink(path_.c_str());  // the lock is still held: it is ours
}

Result<std::optional<Fd>> LocalListener::accept(Duration limit) {
  TRY_ASSIGN(bool ready, wait_for(socket_, POLLIN, limit));
  if (!ready) return std::optional<Fd>();
  Fd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.valid()) return std::optional(std::move(socket));
  // Who gave up before being accepted.
  if (errno == ECONNABORTED || errno == EINTR || errno == EAGAIN) return std::optional<Fd>();
  if (errno == EMFILE || errno == ENFILE) {
    system_clock().sleep(kNoDescriptorsPause);  // the next look may find some
    return std::optional<Fd>();
  }
  return system_error(fmt::format("accept on {}", path_), errno);
}

void notify_service_manager(std::string_view state) {
  const char* where = std::getenv("NOTIFY_SOCKET");
  if (where == nullptr || *where == 0) return;
  auto address = address_of(where);
  auto socket = make_socket(SOCK_DGRAM);
  if (!address || !socket) return;
  size_t size = offsetof(sockaddr_un, sun_path) + std::strlen(where);
  if (where[0] == '@') address->sun_path[0] = 0;  // the abstract namespace
  (void)::sendto(socket->get(), state.data(), state.size(), MSG_NOSIGNAL,
                 reinterpret_cast<sockaddr*>(&*address), static_cast<socklen_t>(size));
}

}  // namespace kuramori
