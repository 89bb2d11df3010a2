#include "source/git/watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "conc/wait_out.h"
#include "crypto/digest.h"

namespace kuramori::git {
namespace {

class RemoteWatch final : public Watch {
 public:
  RemoteWatch(const GitSettings& settings, Place place, Duration every)
      : home_(join_path(settings.mirror, "home")), place_(std::move(place)), every_(every) {}

  void begin() { seen_ = ask({}); }

  Result<bool> wait(Duration longest, std::stop_token stop) override {
    const Duration until = system_clock().steady() + longest;
    for (;;) {
      const Duration now = system_clock().steady();
      if (!wait_out(std::min(until, next_ask_) - now, stop)) return false;
      if (system_clock().steady() < next_ask_) return false;
      const std::optional<Digest> before = seen_;
      seen_ = ask(stop);
      if (stop.stop_requested()) return false;
      if (seen_ != before) return true;
    }
  }
  std::string how() const override {
    return fmt::format("{} is asked every {} s", place_.remote.url,
                       std::chrono::duration_cast<std::chrono::seconds>(every_).count());
  }

 private:
  // Of its list of refs; nothing: it did not answer.
  std::optional<Digest> ask(std::stop_token stop) {
    const Duration began = system_clock().steady();
    std::optional<Digest> digest;
    if (const auto git = Git::make(place_.remote, place_.access, home_, std::move(stop))) {
      const auto asked =
          git->run({.arguments = {"ls-remote", "--symref", "--end-of-options", place_.remote.url},
                    .timeout = kAskTimeout});
      if (asked && asked->exit.ok()) digest = sha256(as_bytes(asked->output));
    }
    // A remote that takes long to answer is asked more rarely.
    const Duration now = system_clock().steady();
    next_ask_ = now + std::max(every_, now - began);
    return digest;
  }

  const std::string home_;
  const Place place_;
  const Duration every_;
  std::optional<Digest> seen_;
  Duration next_ask_{};
};

}  // namespace

Result<std::unique_ptr<Watch>> watch_git(const GitSettings& settings, Duration every) {
  TRY_ASSIGN(Place place, place_of(settings));
  auto watch = std::make_unique<RemoteWatch>(settings, std::move(place), every);
  watch->begin();
  return std::unique_ptr<Watch>(std::move(watch));
}

}  // namespace kuramori::git
