#include "source/git/watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "crypto/digest.h"
#include "source/git/webhook.h"

namespace kuramori::git {
namespace {

class RemoteWatch final : public Watch {
 public:
  RemoteWatch(const GitSettings& settings, Place place, Duration every)
      : home_(join_path(settings.mirror, "home")), place_(std::move(place)), every_(every) {}

  // Listens before it asks for the first time: no push falls between the two.
  Result<void> begin(const std::optional<WebhookSettings>& webhook) {
    if (webhook) {
      TRY_ASSIGN(webhook_, Webhook::start(*webhook, [this] {
                   const std::lock_guard hold(mutex_);
                   is_called_ = true;
                   called_.notify_all();
                 }));
    }
    seen_ = ask({});
    return {};
  }

  Result<bool> wait(Duration longest, std::stop_token stop) override {
    const Duration until = system_clock().steady() + longest;
    for (;;) {
      const bool is_called = wait_for_call(std::min(until, next_ask_), stop);
      if (stop.stop_requested() || (!is_called && system_clock().steady() < next_ask_)) return false;
      const std::optional<Digest> before = seen_;
      seen_ = ask(stop);
      if (stop.stop_requested()) return false;
      if (seen_ != before) return true;
    }
  }
  std::string how() const override {
    return fmt::format("{} is asked every {} s{}", place_.remote.url,
                       std::chrono::duration_cast<std::chrono::seconds>(every_).count(),
                       webhook_ ? fmt::format(", and when {} is called", webhook_->url()) : "");
  }

 private:
  // True: the webhook was called since the remote was asked last, and that is a moment ago. False: it is
  // `until`.
  bool wait_for_call(Duration until, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    const auto await = [&](Duration moment, auto&& ready) {
      return called_.wait_for(lock, stop, std::max(Duration(), moment - system_clock().steady()), ready);
    };
    if (!await(until, [&] { return is_called_; })) return false;
    await(std::min(until, asked_ + kAskAgainAfter), [] { return false; });
    if (system_clock().steady() < asked_ + kAskAgainAfter) return false;
    is_called_ = false;
    return true;
  }

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
    asked_ = now;
    return digest;
  }

  const std::string home_;
  const Place place_;
  const Duration every_;
  std::optional<Digest> seen_;
  Duration next_ask_{}, asked_{};

  std::mutex mutex_;
  std::condition_variable_any called_;
  bool is_called_ = false;            // guarded by mutex_
  std::unique_ptr<Webhook> webhook_;  // last: it ends before what it calls
};

}  // namespace

Result<std::unique_ptr<Watch>> watch_git(const GitSettings& settings, std::optional<Duration> every) {
  TRY_ASSIGN(Place place, place_of(settings));
  auto watch = std::make_unique<RemoteWatch>(
      settings, std::move(place), every.value_or(settings.webhook ? kAskEveryBesideHook : kAskEvery));
  TRY(watch->begin(settings.webhook));
  return std::unique_ptr<Watch>(std::move(watch));
}

}  // namespace kuramori::git
