// `alerts`, `ack` and `notify test`: what the daemon noticed, as another process reads it.
#include <fmt/core.h>
#include <unistd.h>

#include <charconv>

#include "base/time_text.h"
#include "cli/alerts_shown.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "daemon/channels.h"
#include "daemon/noticer.h"
#include "engine/local_state.h"
#include "engine/open_vault.h"
#include "os/file.h"
#include "os/user.h"

namespace kuramori {
namespace {

constexpr int64_t kOverShownMost = 10'000;

Result<int64_t> number_of(std::string_view text, std::string_view what, int64_t least, int64_t most) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size() && number >= least && number <= most)
    return number;
  return fail(ErrorKind::kUsage,
              fmt::format("{} \"{}\" is no number of {} to {}", what, text.substr(0, 40), least, most));
}

std::string user_name() {
  auto user = user_of_uid(::getuid());
  return user ? user->name : fmt::format("user {}", ::getuid());
}

Result<std::unique_ptr<AlertStore>> store_of_daemon() {
  const std::string path = join_path(state_folder(), kAlertStoreFile);
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (!there)
    return fail(ErrorKind::kNotFound, "no daemon has noticed anything here",
                fmt::format("there is no {}", path),
                "start one with a notify section: kuramori serve, or name its state folder: "
                "KURAMORI_STATE=/var/lib/kuramori");
  return AlertStore::open(path);
}

}  // namespace

Result<int> run_alerts(Context& context) {
  int64_t last = 0;
  if (context.line().has("last")) {
    TRY_ASSIGN(last, number_of(context.line().value("last"), "--last", 0, kOverShownMost));
  }
  TRY_ASSIGN(const auto store, store_of_daemon());
  TRY_ASSIGN(const auto listed, store->list(last));
  TRY_ASSIGN(auto undelivered, store->undelivered());
  const auto config = context.config_if_any();  // a wrong one hides nothing
  keep_configured(undelivered, config ? *config : nullptr);
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/alerts/1");
    write_alerts(json, listed, undelivered);
    json.end_object();
    context.console().print_document(json);
  } else if (listed.empty() && undelivered.empty()) {
    context.console().note("nothing is wrong that the daemon knows of");
  } else {
    context.console().print(shown_alerts(listed, undelivered, context.clock().now()));
  }
  return 0;
}

Result<int> run_ack(Context& context) {
  const auto& arguments = context.line().arguments;
  if (arguments.empty())
    return fail(ErrorKind::kUsage, "ack needs the number of an alert", "", "kuramori alerts lists them");
  const std::string by = context.line().has("by") ? context.line().value("by") : user_name();
  std::vector<int64_t> alerts;
  for (const std::string& argument : arguments) {
    TRY_ASSIGN(alerts.emplace_back(), number_of(argument, "the alert", 1, INT64_MAX));
  }
  TRY_ASSIGN(const auto store, store_of_daemon());
  for (int64_t alert : alerts) TRY(store->acknowledge(alert, by, context.clock().now()));
  std::string all;
  for (int64_t alert : alerts) all += fmt::format("{}{}", all.empty() ? "" : ", ", alert);
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/done/1")
        .field("action", "ack")
        .field("object", all)
        .end_object();
    context.console().print_document(json);
  } else {
    context.console().note(fmt::format("{} looks after {}: nobody else is called", by, all));
  }
  return 0;
}

Result<int> run_notify_test(Context& context) {
  TRY_ASSIGN(const Config* config, context.config());
  const std::string wanted = context.line().argument(0);
  struct Tried {
    std::string label;
    std::optional<Error> error;
  };
  std::vector<Tried> tried;
  std::string known;
  const std::string host = host_name();
  const Time now = context.clock().now();
  for (size_t i = 0; i < config->notify.size(); ++i) {
    const NotifyConfig& entry = config->notify[i];
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", label_of(entry, i));
    if (!wanted.empty() && label_of(entry, i) != wanted) continue;
    for (size_t step = 0; step <= entry.escalate.size(); ++step) {
      const std::string label = label_of(entry, i, step);
      TellItem item{.kind = TellKind::kTest,
                    .alert = 0,
                    .key = {},
                    .event = "test",
                    .resource = {},
                    .what = fmt::format("[TEST] {} asks whether \"{}\" can be told: nothing is wrong",
                                        user_name(), label),
                    .next = {},
                    .is_critical = false,
                    .at = now};
      const TellMessage message{0, label, TellKind::kTest, {std::move(item)}, now};
      const Delivery delivery{.message = message,
                              .dedup = fmt::format("test-{}-{}-{}", to_unix_ns(now), i, step),
                              .journal = "test",
                              .host = host};
      auto channel = channel_of(config->notify, label, context.world());
      auto done = channel ? deliver(*channel, delivery, context.stop()) : Result<void>(channel.error());
      tried.push_back({label, done ? std::nullopt : std::optional(done.error())});
    }
  }
  if (tried.empty() && !wanted.empty())
    return fail(ErrorKind::kUsage, fmt::format("notify has no entry \"{}\"", wanted), "",
                known.empty() ? "add one to kuramori.yaml" : fmt::format("there are {}", known));
  const auto failed = std::ranges::count_if(tried, [](const Tried& one) { return one.error.has_value(); });
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/notify-test/1").key("targets").begin_array();
    for (const Tried& one : tried) {
      json.begin_object().field("to", one.label).field("sent", !one.error);
      json.field("why",
                 one.error ? one.error->what + (one.error->why.empty() ? "" : ": " + one.error->why) : "");
      json.field("next", one.error ? one.error->next : "").end_object();
    }
    json.end_array().end_object();
    context.console().print_document(json);
  } else if (tried.empty()) {
    context.console().note("notify names nobody");
  } else {
    Table table({{"to"}, {"result"}});
    for (const Tried& one : tried)
      table.add({one.label, !one.error ? "sent"
                                       : fmt::format("NOT SENT: {}{}{}", one.error->what,
                                                     one.error->why.empty() ? "" : ": " + one.error->why,
                                                     one.error->next.empty() ? "" : "; " + one.error->next)});
    context.console().print(table.text());
  }
  if (failed == 0) return 0;
  return exit_code(static_cast<size_t>(failed) == tried.size() ? ErrorKind::kFailed : ErrorKind::kPartial);
}

}  // namespace kuramori
