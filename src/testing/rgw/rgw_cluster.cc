#include "testing/rgw_cluster.h"

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "os/process.h"

namespace kuramori {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPython = "/usr/bin/python3";

// The checkout this test was built in: the nearest folder above the program with the script in it.
std::string find_checkout() {
  std::error_code ignored;
  for (fs::path at = fs::read_symlink("/proc/self/exe", ignored); at.has_relative_path();
       at = at.parent_path()) {
    if (fs::exists(at / "tools" / "test_ceph.sh", ignored)) return at.string();
  }
  return {};
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

const char* kind_name(RgwBucket kind) {
  switch (kind) {
    case RgwBucket::kPlain:
      return "plain";
    case RgwBucket::kVersioned:
      return "versioned";
    case RgwBucket::kLocked:
      return "locked";
  }
  return "";
}

const char* part_name(RgwPart part) {
  switch (part) {
    case RgwPart::kMonitor:
      return "mon";
    case RgwPart::kOsd:
      return "osd";
    case RgwPart::kGateway:
      return "rgw";
  }
  return "";
}

const char* signal_name(int number) {
  switch (number) {
    case SIGSTOP:
      return "STOP";
    case SIGCONT:
      return "CONT";
    case SIGTERM:
      return "TERM";
    default:
      return "KILL";
  }
}

// In memory where there is some: a cluster writes its databases with fsync.
Result<TemporaryFolder> make_folder(bool bluestore) {
  const bool memory = !bluestore && access("/dev/shm", W_OK) == 0;
  return TemporaryFolder::make("kuramori-rgw-", memory ? "/dev/shm" : std::string());
}

}  // namespace

Result<std::unique_ptr<RgwCluster>> RgwCluster::start(const RgwClusterOptions& options) {
  const std::string checkout = find_checkout();
  if (checkout.empty()) return fail(ErrorKind::kUsage, "tools/test_ceph.sh is not above this program");
  TRY_ASSIGN(TemporaryFolder folder, make_folder(options.bluestore));
  std::unique_ptr<RgwCluster> cluster(new RgwCluster(std::move(folder)));
  cluster->tools_ = checkout;
  Command command{.argv = {checkout + "/tools/test_ceph.sh", "start", cluster->folder_.path(), "--owner",
                           std::to_string(getpid())}};
  if (options.bluestore) command.argv.push_back("--bluestore");
  if (options.tls) command.argv.push_back("--tls");
  if (options.lifecycle_day_s > 0) {
    command.argv.push_back("--day");
    command.argv.push_back(std::to_string(options.lifecycle_day_s));
  }
  if (!options.classes.empty()) {
    command.argv.push_back("--classes");
    std::string joined;
    for (const std::string& name : options.classes) joined += (joined.empty() ? "" : ",") + name;
    command.argv.push_back(joined);
  }
  TRY_ASSIGN(const std::string output, run_checked(command));
  cluster->endpoint_ = first_line(output);
  return cluster;
}

RgwCluster::~RgwCluster() {
  (void)run(Command{.argv = {tools_ + "/tools/test_ceph.sh", "stop", folder_.path()}});
}

Result<RgwCluster*> RgwCluster::shared() {
  static Result<std::unique_ptr<RgwCluster>> cluster = start();
  if (!cluster) return cluster.error();
  return cluster->get();
}

Result<RgwCluster*> RgwCluster::shared_tls() {
  static Result<std::unique_ptr<RgwCluster>> cluster = start({.tls = true});
  if (!cluster) return cluster.error();
  return cluster->get();
}

Result<RgwUser> RgwCluster::make_user(const std::string& name, std::string_view policy) {
  Command command{.argv = {kPython, tools_ + "/tests/e2e/rgw.py", "user", folder_.path(), name}};
  if (!policy.empty()) command.argv.emplace_back(policy);
  TRY_ASSIGN(const std::string output, run_checked(command));
  const std::string line = first_line(output);
  const size_t space = line.find(' ');
  if (space == std::string::npos) return fail(ErrorKind::kFailed, "rgw.py user printed no keys: " + line);
  return RgwUser{.name = name, .access_key = line.substr(0, space), .secret_key = line.substr(space + 1)};
}

Result<RgwUser> RgwCluster::create_user(std::string_view policy) {
  return make_user(fmt::format("user-{}", ++made_), policy);
}

Result<RgwUser> RgwCluster::owner() {
  if (owner_.name.empty()) {
    TRY_ASSIGN(owner_, make_user("owner", {}));
  }
  return owner_;
}

Result<std::string> RgwCluster::create_bucket(RgwBucket kind) {
  TRY(owner());
  const std::string name = fmt::format("bucket-{}", ++made_);
  TRY(run_checked(Command{
      .argv = {kPython, tools_ + "/tests/e2e/rgw.py", "bucket", folder_.path(), name, kind_name(kind)}}));
  return name;
}

Result<std::string> RgwCluster::status_of(const RgwUser& user, const std::string& bucket) {
  TRY_ASSIGN(const std::string output,
             run_checked(Command{.argv = {kPython, tools_ + "/tests/e2e/rgw.py", "status", folder_.path(),
                                          user.name, bucket}}));
  return first_line(output);
}

Result<uint64_t> RgwCluster::requests() const {
  TRY_ASSIGN(const Bytes log, read_file(folder_ / "client.rgw.log"));
  uint64_t count = 0;
  constexpr std::string_view kAnswered = " beast: ";
  for (size_t at = as_text(log).find(kAnswered); at != std::string_view::npos;
       at = as_text(log).find(kAnswered, at + 1))
    ++count;
  return count;
}

Result<void> RgwCluster::signal(RgwPart part, int number) {
  TRY(run_checked(Command{.argv = {tools_ + "/tools/test_ceph.sh", "signal", folder_.path(), part_name(part),
                                   signal_name(number)}}));
  return {};
}

Result<void> RgwCluster::restart() {
  TRY(run_checked(Command{.argv = {tools_ + "/tools/test_ceph.sh", "restart", folder_.path()}}));
  return {};
}

std::string RgwCluster::ca_file() const {
  return endpoint_.starts_with("https:") ? folder_ / "ca.pem" : std::string();
}

}  // namespace kuramori
