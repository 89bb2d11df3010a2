// Makes a chosen system call fail, for real: the kernel asks us about each such call of one thread.
#pragma once
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <thread>

#include "base/check.h"

namespace kuramori::files {

constexpr size_t kNoCall = SIZE_MAX;

// Does `work` in a thread of its own, in which the `failing`-th call (from 0) of the system call `number`
// fails with `code`. How many such calls there were.
inline size_t with_failing_call(long number, size_t failing, int code, const std::function<void()>& work) {
  std::atomic<int> listener = -1;
  std::atomic<bool> watched = false;
  std::thread worker([&] {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{.len = 4, .filter = filter};
    CHECK(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    long made = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    CHECK(made >= 0);
    listener = static_cast<int>(made);
    listener.notify_one();
    watched.wait(false);
    work();
  });
  listener.wait(-1);
  const int fd = listener;
  watched = true;
  watched.notify_one();
  size_t calls = 0;
  for (;;) {
    pollfd waiting{.fd = fd, .events = POLLIN};
    CHECK(::poll(&waiting, 1, -1) >= 0 || errno == EINTR);
    if ((waiting.revents & POLLIN) == 0) {
      if ((waiting.revents & POLLHUP) != 0) break;  // the thread has ended
      continue;
    }
    seccomp_notif asked{};
    if (::ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) continue;
    seccomp_notif_resp answer{.id = asked.id};
    if (calls++ == failing) {
      answer.error = -code;
    } else {
      answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    CHECK(::ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0 || errno == ENOENT);
  }
  worker.join();
  ::close(fd);
  return calls;
}

// Does `work` in a thread to which permissions apply, although it is root's.
inline void without_privileges(const std::function<void()>& work) {
  std::thread worker([&] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3};
    __user_cap_data_struct data[2];
    CHECK(::syscall(SYS_capget, &header, data) == 0);
    for (int gone : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_CHOWN, CAP_MKNOD, CAP_SETFCAP,
                     CAP_SYS_ADMIN, CAP_FSETID}) {
      data[gone / 32].effective &= ~(1u << (gone % 32));
      data[gone / 32].permitted &= ~(1u << (gone % 32));
    }
    CHECK(::syscall(SYS_capset, &header, data) == 0);
    work();
  });
  worker.join();
}

}  // namespace kuramori::files
