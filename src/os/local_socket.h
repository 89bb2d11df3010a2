// Unix sockets that keep messages apart (SOCK_SEQPACKET) and carry open descriptors: what one process may
// open, another may read through it. One message is one call: there is nothing to assemble, and a peer that
// is slow or silent costs its receiver one time-out.
#pragma once
#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "os/file.h"
#include "os/lock.h"

namespace kuramori {

constexpr size_t kMessageBytesMax = size_t{64} << 10;
constexpr size_t kMessageFdsMax = 32;

// Who is at the other end, by the kernel's word: of a connected socket, who connected; of one that connected,
// who listens.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
};
Result<Peer> peer_of(const Fd& socket);

// kNotFound: nobody listens there.
Result<Fd> connect_local(const std::string& path);

struct Message {
  Bytes bytes;
  std::vector<Fd> fds;  // close-on-exec
};
// kUnknown: the peer did not take it in time, or is gone.
Result<void> send_message(const Fd& socket, ByteView bytes, std::span<const int> fds, Duration limit);
// nullopt: the peer ended the connection. kUnknown: nothing came in time. kUsage: more bytes or descriptors
// than a message may have.
Result<std::optional<Message>> receive_message(const Fd& socket, Duration limit);

// A socket in the file system that one process listens on. The lock beside it (PATH.lock) makes it one: a
// socket file without a holder of the lock is a left-over, and is replaced.
class LocalListener {
 public:
  // The socket is for its owner and, where given, a group. kRefused: another process listens, or something
  // that is no socket stands there.
  static Result<LocalListener> open(const std::string& path, std::optional<gid_t> group);
  LocalListener(LocalListener&& other) noexcept;
  ~LocalListener();  // removes the socket

  gid_t group() const { return group_; }  // whose members may connect
  // nullopt: nobody came within `limit`.
  Result<std::optional<Fd>> accept(Duration limit);

 private:
  LocalListener(std::string path, FileLock lock, Fd socket, gid_t group)
      : path_(std::move(path)), lock_(std::move(lock)), socket_(std::move(socket)), group_(group) {}
  std::string path_;  // "" when moved from
  FileLock lock_;
  Fd socket_;
  gid_t group_ = 0;
};

// Tells the service manager that started us (NOTIFY_SOCKET), if there is one: "READY=1", "STOPPING=1".
void notify_service_manager(std::string_view state);

}  // namespace kuramori
