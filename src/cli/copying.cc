#include "cli/copying.h"

#include <fmt/core.h>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/lock_keeping.h"
#include "engine/local_state.h"
#include "engine/locks.h"
#include "engine/reseal.h"

namespace kuramori {
namespace {

int64_t whole_seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

std::string shown_age(Duration age) {
  return format_period(Period::of_seconds(std::max<int64_t>(0, whole_seconds(age))));
}

void write_lag(JsonWriter& json, std::string_view name, const CopyLag& lag, Time now) {
  json.key(name).begin_object().field("snapshots", lag.snapshots).field("wal_objects", lag.wal_objects);
  json.field("bytes", lag.bytes);
  json.field("seconds", lag.oldest ? std::max<int64_t>(0, whole_seconds(now - *lag.oldest)) : int64_t{0});
  json.end_object();
}

// What this machine remembers a whole copy of one resource under; a location holds no '#' of its own there.
std::string memory_of(const VaultChoice& to, const std::string& resource) {
  return resource.empty() ? to.location : fmt::format("{}#{}", to.location, resource);
}

// When it was last whole: the resource by itself, or with everything else.
std::optional<Time> last_whole(const VaultId& source, const VaultChoice& to, const std::string& resource) {
  auto state = LocalState::open(state_folder());
  if (!state) return {};
  auto all = (*state)->last_copied(source, memory_of(to, ""));
  auto one = (*state)->last_copied(source, memory_of(to, resource));
  std::optional<Time> newest = all ? *all : std::nullopt;
  if (one && *one) newest = newest ? std::max(*newest, **one) : **one;
  return newest;
}

void remember_whole(const VaultId& source, const VaultChoice& to, const std::string& resource, Time when,
                    Reporter& reporter) {
  auto state = LocalState::open(state_folder());
  auto kept = state ? (*state)->set_copied(source, memory_of(to, resource), when)
                    : Result<void>(std::move(state).error());
  if (!kept) reporter.note(kept.error().what);
}

// The age of the last whole copy, for when the second vault is not there (a disk in a drawer).
Error with_age(Error error, const VaultId& source, const VaultChoice& to, const std::string& resource,
               Time now) {
  if (error.kind == ErrorKind::kRefused || error.kind == ErrorKind::kUsage ||
      error.kind == ErrorKind::kDamaged)
    return error;  // it is there
  std::optional<Time> at = last_whole(source, to, resource);
  std::string age =
      at ? fmt::format("it was last whole {} ago, at {}", shown_age(now - *at), format_moment(*at))
         : std::string("this machine knows of no copy there");
  error.why = error.why.empty() ? age : fmt::format("{}; {}", error.why, age);
  if (error.kind == ErrorKind::kNotFound) {
    error.kind = ErrorKind::kFailed;
    error.next = "connect it, or make it: kuramori vault init; then run the same command again";
  }
  return error;
}

// The store of the second vault holds what the vault's own holds name, where it can and may. Each time for
// all of them: a run that was killed may have brought a hold and not come so far.
Result<void> follow_holds(Context& context, const VaultChoice& to, Vault& replica,
                          const std::set<SnapshotId>& copied) {
  TRY_ASSIGN(const std::optional<Period> lock, lock_of(to.location));
  if (!replica.store().retention() || (!lock && copied.empty())) return {};
  TRY_ASSIGN(const SnapshotList list, list_snapshots(replica, std::nullopt));
  for (const Snapshot& snapshot : list.snapshots) {
    const bool on = !snapshot.holds.empty();
    if (on || copied.contains(snapshot.commit.snapshot)) TRY(follow_hold(context, replica, snapshot, {}, on));
  }
  return {};
}

}  // namespace

std::string shown_lag(const CopyLag& lag, Time now) {
  if (lag.none()) return "nothing is missing";
  std::string since = lag.oldest ? fmt::format(", the oldest {} old", shown_age(now - *lag.oldest)) : "";
  return fmt::format("{} snapshots and {} WAL objects are missing, {}{}", lag.snapshots, lag.wal_objects,
                     format_size(lag.bytes), since);
}

std::string shown_copy(const CopyOutcome& outcome, Time now) {
  return fmt::format("copied {} snapshots and {} WAL objects, {} sent, {} were there; {}", outcome.snapshots,
                     outcome.wal_objects, format_size(outcome.sent_bytes), format_size(outcome.found_bytes),
                     shown_lag(outcome.after, now));
}

void write_copy(JsonWriter& json, const CopyOutcome& outcome, Time now) {
  json.field("snapshots", outcome.snapshots).field("wal_objects", outcome.wal_objects);
  json.field("sent_objects", outcome.sent_objects).field("sent_bytes", outcome.sent_bytes);
  json.field("found_objects", outcome.found_objects).field("found_bytes", outcome.found_bytes);
  write_lag(json, "lag_before", outcome.before, now);
  write_lag(json, "lag", outcome.after, now);
  json.key("skipped").begin_array();
  for (const std::string& skipped : outcome.skipped) json.value(skipped);
  json.end_array().field("seconds", outcome.seconds);
}

// What came while it copied is the next run's: a busy database would never be whole otherwise.
bool is_whole(const CopyOutcome& outcome) {
  return outcome.skipped.empty();
}

Result<CopyOutcome> copy_into(Context& context, Vault& source, const VaultChoice& to,
                              const std::string& resource, CopyRequest::Mode mode) {
  const auto opened = open_chosen(context, to);
  const Result<Vault*> replica = opened ? Result<Vault*>(opened->get()) : Result<Vault*>(opened.error());
  return copy_between(context, source, replica, to, resource, mode);
}

Result<CopyOutcome> copy_between(Context& context, Vault& source, const Result<Vault*>& replica,
                                 const VaultChoice& to, const std::string& resource, CopyRequest::Mode mode) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  const VaultId& id = source.info().id;
  const Time now = context.clock().now();
  if (!replica) return with_age(replica.error(), id, to, resource, now);
  CopyRequest request{.resource = resource, .mode = mode};
  if (config != nullptr) request.rules = copy_rules_of(*config, to.name);
  TRY_ASSIGN(const std::optional<Period> lock, lock_of(to.location));
  const bool of_a_family = id == (*replica)->info().id || source.info().family == (*replica)->info().family;
  auto outcome = of_a_family
                     ? copy_vault(source, **replica, request, context.console(), context.stop())
                     : reseal_vault(source, **replica, request, lock, context.console(), context.stop());
  if (!outcome) {
    const bool went_away =
        outcome.error().kind == ErrorKind::kFailed || outcome.error().kind == ErrorKind::kUnknown;
    return went_away ? with_age(std::move(outcome).error(), id, to, resource, now)
                     : std::move(outcome).error();
  }
  if (mode == CopyRequest::Mode::kCopy) TRY(follow_holds(context, to, **replica, outcome->held));
  for (const std::string& skipped : outcome->skipped) context.console().warning(skipped);
  if (mode == CopyRequest::Mode::kCopy && is_whole(*outcome))
    remember_whole(id, to, resource, now, context.console());
  return outcome;
}

}  // namespace kuramori
