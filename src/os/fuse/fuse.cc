// libfuse's low-level interface: numbers of entries are ours, so that two names of a file are one file, and
// no path is ever put together or resolved here.
#include "os/fuse/fuse.h"

#define FUSE_USE_VERSION 314
#include <fmt/core.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdarg>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "os/file.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr double kForEverSeconds = 86400;  // what is shown never changes; once a day the kernel asks again
constexpr size_t kReadBytesMax = size_t{1} << 20;
constexpr unsigned kAskedAheadMax = 16;  // reads that the kernel may have on their way for later
constexpr char kType[] = "kuramori";     // in /proc/mounts: fuse.kuramori
constexpr char kDevice[] = "/dev/fuse";

// What the library says goes into our errors instead of to the terminal.
std::mutex said_mutex;
std::string said_by_library;

void take_words(fuse_log_level, const char* format, va_list values) {
  char text[512];
  std::vsnprintf(text, sizeof text, format, values);
  const std::lock_guard lock(said_mutex);
  if (said_by_library.size() < 2000) said_by_library += text;
}

std::string words_of_library() {
  const std::lock_guard lock(said_mutex);
  std::string said = std::exchange(said_by_library, {});
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return said;
}

class Session;

// One question of the kernel. Exactly one answers it: the thread that found the answer, or the one that reads
// the kernel's questions, when it was taken back.
class Call final : public FuseCall {
 public:
  Call(Session& of, fuse_req_t asked) : session(of), request(asked) {}
  // True once: for who may answer.
  bool claim() { return !claimed_.exchange(true); }
  void cancel() {
    cancelled_ = true;
    if (!claim()) return;
    taken_back_ = true;
    fuse_reply_err(request, EINTR);
  }
  void fail(int code) {
    if (claim()) fuse_reply_err(request, code);
  }
  bool is_answered() const { return claimed_.load(); }

  Session& session;
  const fuse_req_t request;
  std::atomic<bool> finished{false};  // no thread looks at it any more
  bool was_taken_back() const { return taken_back_; }

 private:
  bool taken_back_ = false;  // of the thread that reads questions
  std::atomic<bool> claimed_{false};
};

using Work = std::function<void(Call&)>;

// What FUSE holds of an open file.
struct Handle {
  std::shared_ptr<FuseTree::Opened> opened;
};

class Session {
 public:
  Session(FuseTree& shown, unsigned threads) : tree(shown), threads_(threads) {}

  Result<void> run(const FuseMount& mount, const std::function<void()>& is_there,
                   const std::stop_token& stop);

  // From the thread that reads. Answered there and then where the question was taken back before it came.
  void give(fuse_req_t request, Work work) {
    if (fuse_req_interrupted(request) != 0) {
      fuse_reply_err(request, EINTR);
      return;
    }
    auto call = std::make_unique<Call>(*this, request);
    Call& one = *call;
    // Before anybody can answer it: an answered request is gone.
    fuse_req_interrupt_func(
        request, [](fuse_req_t, void* data) { static_cast<Call*>(data)->cancel(); }, &one);
    {
      const std::lock_guard lock(mutex_);
      // Calls are let go by this thread alone: an interrupt that it just reads may still name one.
      std::erase_if(calls_, [](const auto& other) { return other->finished.load(); });
      calls_.push_back(std::move(call));
      waiting_.emplace_back(&one, std::move(work));
    }
    there_is_one_.notify_one();
  }

  FuseTree& tree;
  bool for_others = false;

 private:
  void answer() {
    for (;;) {
      std::unique_lock lock(mutex_);
      there_is_one_.wait(lock, [&] { return ends_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      auto [call, work] = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      if (!call->is_answered()) work(*call);
      call->fail(EIO);  // whatever was left without an answer
      work = nullptr;
      call->finished = true;
    }
  }

  // Nobody may wait for what is ended. Afterwards no thread touches the library's session.
  void take_all_back() {
    {
      const std::lock_guard lock(mutex_);
      for (const auto& call : calls_) call->cancel();
      ends_ = true;
      there_is_one_.notify_all();
    }
    // Who was just giving an answer is done in a moment; the others answer nobody any more.
    for (const auto& call : calls_) {
      while (!call->was_taken_back() && !call->finished) std::this_thread::yield();
    }
  }

  const unsigned threads_;
  std::mutex mutex_;
  std::condition_variable there_is_one_;
  std::list<std::unique_ptr<Call>> calls_;
  std::deque<std::pair<Call*, Work>> waiting_;
  bool ends_ = false;
};

Session& session_of(fuse_req_t request) {
  return *static_cast<Session*>(fuse_req_userdata(request));
}

// --- the kernel's questions ---------------------------------------------------------------------------
void on_init(void* data, fuse_conn_info* connection) {
  const auto wish = [&](unsigned flag) {
    if ((connection->capable & flag) != 0) connection->want |= flag;
  };
  connection->want &=
      ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  wish(FUSE_CAP_ASYNC_READ);
  wish(FUSE_CAP_PARALLEL_DIROPS);
  wish(FUSE_CAP_READDIRPLUS);
  wish(FUSE_CAP_READDIRPLUS_AUTO);
  wish(FUSE_CAP_CACHE_SYMLINKS);
  wish(FUSE_CAP_EXPORT_SUPPORT);
  // With it the kernel asks ACLs who may; without, they are attributes like others.
  if (static_cast<Session*>(data)->for_others) wish(FUSE_CAP_POSIX_ACL);
  connection->max_background = kAskedAheadMax;
  connection->max_readahead = kReadBytesMax;
}

fuse_entry_param entry_of(const struct stat& status) {
  fuse_entry_param entry{};
  entry.ino = status.st_ino;
  entry.attr = status;
  entry.attr_timeout = entry.entry_timeout = kForEverSeconds;
  return entry;
}

void on_lookup(fuse_req_t request, fuse_ino_t folder, const char* name) {
  session_of(request).give(request, [folder, name = std::string(name)](Call& call) {
    const auto found = call.session.tree.lookup(folder, name, call);
    if (!found && found.error() != ENOENT) return call.fail(found.error());
    if (!call.claim()) return;
    fuse_entry_param entry{};
    entry.entry_timeout = kForEverSeconds;  // that it is not there will not change either
    if (found) entry = entry_of(*found);
    fuse_reply_entry(call.request, &entry);
  });
}

void on_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info*) {
  session_of(request).give(request, [number](Call& call) {
    auto status = call.session.tree.attributes(number, call);
    if (!status) return call.fail(status.error());
    if (!call.claim()) return;
    status->st_ino = number;
    fuse_reply_attr(call.request, &*status, kForEverSeconds);
  });
}

void on_readlink(fuse_req_t request, fuse_ino_t number) {
  session_of(request).give(request, [number](Call& call) {
    const auto target = call.session.tree.read_link(number, call);
    if (!target) return call.fail(target.error());
    if (call.claim()) fuse_reply_readlink(call.request, target->c_str());
  });
}

void on_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  if ((info->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  session_of(request).give(request, [number, given = *info](Call& call) {
    auto opened = call.session.tree.open(number, call);
    if (!opened) return call.fail(opened.error());
    if (!call.claim()) return;
    fuse_file_info answered = given;
    auto handle = std::make_unique<Handle>(Handle{std::move(*opened)});
    answered.fh = reinterpret_cast<uint64_t>(handle.get());
    answered.keep_cache = 1;
    // Refused when who opens it is gone: then it will never be closed.
    if (fuse_reply_open(call.request, &answered) == 0) (void)handle.release();
  });
}

void on_release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  // A read that was taken back may still use it: it is shared.
  delete reinterpret_cast<Handle*>(info->fh);
  fuse_reply_err(request, 0);
}

void on_read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  auto opened = reinterpret_cast<Handle*>(info->fh)->opened;
  session_of(request).give(request, [opened = std::move(opened), size, offset](Call& call) {
    thread_local Bytes buffer(kReadBytesMax);
    const MutableByteView wanted = MutableByteView(buffer).first(std::min(size, kReadBytesMax));
    const auto done = opened->read(static_cast<uint64_t>(offset), wanted, call);
    if (!done) return call.fail(done.error());
    if (call.claim()) fuse_reply_buf(call.request, reinterpret_cast<const char*>(buffer.data()), *done);
  });
}

void on_lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  auto opened = reinterpret_cast<Handle*>(info->fh)->opened;
  session_of(request).give(request, [opened = std::move(opened), whence, offset](Call& call) {
    const auto at = offset < 0 ? OrErrno<uint64_t>(std::unexpected(ENXIO))
                               : opened->seek(static_cast<uint64_t>(offset), whence);
    if (!at) return call.fail(at.error());
    if (call.claim()) fuse_reply_lseek(call.request, static_cast<off_t>(*at));
  });
}

void on_opendir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  info->cache_readdir = 1;
  info->keep_cache = 1;
  fuse_reply_open(request, info);
}

constexpr uint64_t kFirstListed = 2;  // "." and ".." stand before what the tree lists

void list(fuse_req_t request, fuse_ino_t folder, size_t size, off_t offset, bool complete) {
  session_of(request).give(request, [folder, size, offset, complete](Call& call) {
    std::vector<char> buffer(size);
    size_t used = 0;
    const auto add = [&](const std::string& name, const struct stat& status, bool is_complete,
                         uint64_t next) {
      fuse_entry_param entry = entry_of(status);
      // One that the kernel is not to know yet.
      if (!is_complete) entry.ino = 0;
      const size_t left = buffer.size() - used;
      const size_t needed = complete ? fuse_add_direntry_plus(call.request, buffer.data() + used, left,
                                                              name.c_str(), &entry, static_cast<off_t>(next))
                                     : fuse_add_direntry(call.request, buffer.data() + used, left,
                                                         name.c_str(), &status, static_cast<off_t>(next));
      if (needed > left) return false;
      used += needed;
      return true;
    };
    auto at = static_cast<uint64_t>(offset);
    struct stat own{};
    own.st_ino = folder;
    own.st_mode = S_IFDIR;
    bool has_room = true;
    if (at < 1) has_room = add(".", own, false, 1);
    if (has_room && at < kFirstListed) has_room = add("..", own, false, kFirstListed);
    if (has_room) {
      const uint64_t from = at <= kFirstListed ? 0 : at - kFirstListed;
      const auto done = call.session.tree.list(folder, from, call, [&](const FuseTree::Listed& listed) {
        return !call.is_cancelled() &&
               add(listed.name, listed.status, listed.is_complete, listed.next + kFirstListed);
      });
      // What was found before it is told first.
      if (!done && used == 0) return call.fail(done.error());
    }
    if (call.claim()) fuse_reply_buf(call.request, buffer.data(), used);
  });
}

void on_readdir(fuse_req_t request, fuse_ino_t folder, size_t size, off_t offset, fuse_file_info*) {
  list(request, folder, size, offset, false);
}

void on_readdirplus(fuse_req_t request, fuse_ino_t folder, size_t size, off_t offset, fuse_file_info*) {
  list(request, folder, size, offset, true);
}

void on_releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(request, 0);
}

// Both kinds of answers about attributes: how long they are, or they themselves.
void answer_attribute(Call& call, std::string_view value, size_t size) {
  if (size != 0 && value.size() > size) return call.fail(ERANGE);
  if (!call.claim()) return;
  if (size == 0)
    fuse_reply_xattr(call.request, value.size());
  else
    fuse_reply_buf(call.request, value.data(), value.size());
}

void on_getxattr(fuse_req_t request, fuse_ino_t number, const char* name, size_t size) {
  session_of(request).give(request, [number, name = std::string(name), size](Call& call) {
    const auto value = call.session.tree.attribute(number, name, call);
    if (!value) return call.fail(value.error());
    answer_attribute(call, *value, size);
  });
}

void on_listxattr(fuse_req_t request, fuse_ino_t number, size_t size) {
  session_of(request).give(request, [number, size](Call& call) {
    const auto names = call.session.tree.attribute_names(number, call);
    if (!names) return call.fail(names.error());
    std::string all;
    for (const std::string& name : *names) all.append(name).push_back('\0');
    answer_attribute(call, all, size);
  });
}

void on_statfs(fuse_req_t request, fuse_ino_t) {
  constexpr uint64_t kBlock = 4096;
  const FuseTree::Size size = session_of(request).tree.size();
  struct statvfs answered{};
  answered.f_bsize = answered.f_frsize = kBlock;
  answered.f_blocks = (size.bytes + kBlock - 1) / kBlock;
  answered.f_files = size.entries;
  answered.f_namemax = 255;
  answered.f_flag = ST_RDONLY;
  fuse_reply_statfs(request, &answered);
}

// Nothing is kept of an entry, so there is nothing to forget.
void on_forget(fuse_req_t request, fuse_ino_t, uint64_t) {
  fuse_reply_none(request);
}
void on_forget_multi(fuse_req_t request, size_t, fuse_forget_data*) {
  fuse_reply_none(request);
}

constexpr fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops{};
  ops.init = on_init;
  ops.lookup = on_lookup;
  ops.forget = on_forget;
  ops.forget_multi = on_forget_multi;
  ops.getattr = on_getattr;
  ops.readlink = on_readlink;
  ops.open = on_open;
  ops.read = on_read;
  ops.release = on_release;
  ops.lseek = on_lseek;
  ops.opendir = on_opendir;
  ops.readdir = on_readdir;
  ops.readdirplus = on_readdirplus;
  ops.releasedir = on_releasedir;
  ops.getxattr = on_getxattr;
  ops.listxattr = on_listxattr;
  ops.statfs = on_statfs;
  return ops;
}
constexpr fuse_lowlevel_ops kOperations = operations();

// --- its life -----------------------------------------------------------------------------------------
struct SessionEnd {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};

std::string escaped(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == ',' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

Result<void> Session::run(const FuseMount& mount, const std::function<void()>& is_there,
                          const std::stop_token& stop) {
  for_others = mount.for_others;
  fuse_set_log_func(take_words);
  std::string options = fmt::format("ro,nodev,nosuid,subtype={},fsname={}", kType, escaped(mount.source));
  if (mount.for_others) options += ",allow_other,default_permissions";
  std::string name = kType, flag = "-o";
  char* words[] = {name.data(), flag.data(), options.data(), nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(3, words);
  const std::unique_ptr<fuse_session, SessionEnd> session(
      fuse_session_new(&arguments, &kOperations, sizeof kOperations, this));
  if (!session) return fail(ErrorKind::kFailed, "FUSE does not take its options", words_of_library());
  if (fuse_session_mount(session.get(), mount.path.c_str()) != 0) {
    const std::string said = words_of_library();
    if (mount.for_others && said.find("allow_other") != std::string::npos)
      return fail(ErrorKind::kDenied, "--allow-other is not allowed to ordinary users here", said,
                  "as root: echo user_allow_other >>/etc/fuse.conf; or leave --allow-other out");
    return fail(ErrorKind::kDenied, fmt::format("{} cannot be mounted on", mount.path), said,
                "kuramori doctor says what is missing; or mount as root");
  }
  const int kernel = fuse_session_fd(session.get());
  ::fcntl(kernel, F_SETFL, ::fcntl(kernel, F_GETFL) | O_NONBLOCK);
  const Fd woken(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::stop_callback wake(stop, [&] { (void)::eventfd_write(woken.get(), 1); });

  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < std::max(1u, threads_); ++i) threads.emplace_back([this] { answer(); });
  is_there();

  fuse_buf buffer{};
  while (fuse_session_exited(session.get()) == 0 && !stop.stop_requested()) {
    pollfd wanted[] = {{.fd = kernel, .events = POLLIN, .revents = 0},
                       {.fd = woken.get(), .events = POLLIN, .revents = 0}};
    if (::poll(wanted, 2, -1) < 0 && errno != EINTR) break;
    const int got = fuse_session_receive_buf(session.get(), &buffer);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) break;  // unmounted
    fuse_session_process_buf(session.get(), &buffer);
  }
  std::free(buffer.mem);
  take_all_back();
  fuse_session_unmount(session.get());
  (void)words_of_library();
  return {};  // the threads end before the session does
}

// The innermost mount that holds `path`: its type. Of /proc/self/mountinfo, where names are written with
// \ooo.
std::string type_of_mount_at(const std::string& path, bool itself) {
  auto text = read_file("/proc/self/mountinfo");
  if (!text) return {};
  std::string found;
  size_t longest = 0;
  std::string_view rest = as_text(*text);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    std::vector<std::string_view> fields;
    while (!line.empty()) {
      const size_t space = std::min(line.find(' '), line.size());
      fields.push_back(line.substr(0, space));
      line.remove_prefix(std::min(space + 1, line.size()));
    }
    if (fields.size() < 5) continue;
    std::string point;
    for (size_t i = 0; i < fields[4].size(); ++i) {
      if (fields[4][i] == '\\' && i + 3 < fields[4].size()) {
        const auto digit = [&](size_t k) { return fields[4][i + k] - '0'; };
        point.push_back(static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3)));
        i += 3;
      } else {
        point.push_back(fields[4][i]);
      }
    }
    const bool holds = point == path ||
                       (!itself && (point == "/" || (path.starts_with(point) && path[point.size()] == '/')));
    if (!holds || point.size() < longest) continue;
    longest = point.size();
    found.clear();
    for (size_t i = 6; i + 1 < fields.size(); ++i) {
      if (fields[i] == "-") found = fields[i + 1];
    }
  }
  return found;
}

}  // namespace

Result<void> show_until_stopped(FuseTree& tree, const FuseMount& mount, const std::function<void()>& is_there,
                                std::stop_token stop) {
  return Session(tree, mount.threads).run(mount, is_there, stop);
}

Result<void> may_mount() {
  struct stat device{};
  if (::stat(kDevice, &device) != 0) {
    return fail(
        ErrorKind::kDenied, "this machine has no FUSE", fmt::format("there is no {}", kDevice),
        "as root: modprobe fuse; in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN");
  }
  if (::access(kDevice, R_OK | W_OK) != 0)
    return fail(ErrorKind::kDenied, fmt::format("{} may not be opened", kDevice),
                fmt::format("its mode is {:03o}", device.st_mode & 0777u),
                fmt::format("as root: chmod 666 {}; or mount as root", kDevice));
  if (::geteuid() != 0 && !find_program("fusermount3"))
    return fail(ErrorKind::kDenied, "an ordinary user cannot mount without fusermount3",
                "it is not installed", "as root: apt-get install fuse3; or mount as root");
  return {};
}

Result<MountState> mount_state_of(const std::string& path) {
  const std::string ours = fmt::format("fuse.{}", kType);
  struct stat there{};
  if (::stat(path.c_str(), &there) != 0) {
    const int code = errno;
    const bool dead = code == ENOTCONN || code == ECONNABORTED;
    if (dead && type_of_mount_at(path, true) == ours) return MountState::kDead;
    return system_error(path, code);
  }
  return type_of_mount_at(path, false) == ours ? MountState::kOurs : MountState::kFolder;
}

Result<void> unmount_dead(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH) == 0) return {};
  const int code = errno;
  if (code == EPERM || code == EACCES) {
    auto done = run_checked({.argv = {"fusermount3", "-u", "-z", "--", path}});
    if (done) return {};
  }
  return fail(ErrorKind::kDenied, fmt::format("the dead mount at {} cannot be taken away", path),
              std::strerror(code),
              fmt::format("as who mounted it: fusermount3 -u -z {}; or as root: umount -l {}", path, path));
}

}  // namespace kuramori
