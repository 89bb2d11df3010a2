#include "vault/leases.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "vault/envelope.h"
#include "vault/record_log.h"

namespace kuramori {
namespace {

std::optional<LeaseRecord> record_of(const Protocol& protocol, const OpenedRecord& opened) {
  if (opened.type != RecordType::kLease || opened.signer != protocol.self) return std::nullopt;
  auto record = decode<LeaseRecord>(opened.body);
  if (!record) return std::nullopt;
  return std::move(*record);
}

Result<uint64_t> highest(const RecordLog& log, const SignerId& signer, const names::JobKey& job) {
  TRY_ASSIGN(const std::vector<ObjectInfo> listed, log.list(names::lease_prefix(signer, job)));
  uint64_t number = 0;
  for (const ObjectInfo& object : listed)
    if (const auto name = names::parse_lease(object.name)) number = std::max(number, name->number);
  return number;
}

}  // namespace

names::JobKey job_key(const KeyBundle& keys, std::string_view job) {
  const Secret key = path_key(keys, ResourceId{});
  const FileKey whole = file_key(key.view(), fmt::format("job {}", job));
  names::JobKey short_one;
  std::copy_n(whole.raw.begin(), short_one.raw.size(), short_one.raw.begin());
  return short_one;
}

Result<StandingLease> newest_lease(const Protocol& protocol, const names::JobKey& job) {
  const RecordLog log(protocol);
  StandingLease newest;
  TRY_ASSIGN(newest.number, highest(log, protocol.self, job));
  if (newest.number == 0) return newest;
  auto opened = log.read(names::lease(protocol.self, job, newest.number));
  // Removed since: then there is a higher one, which whoever takes the next number meets.
  if (opened)
    newest.record = record_of(protocol, *opened);
  else if (opened.error().kind != ErrorKind::kNotFound && opened.error().kind != ErrorKind::kDamaged)
    return std::move(opened).error();
  return newest;
}

Result<LeasePut> put_lease(const Protocol& protocol, const names::JobKey& job, uint64_t number,
                           const LeaseRecord& record) {
  const RecordLog log(protocol);
  auto put = log.put(RecordType::kLease, names::lease(protocol.self, job, number), {}, encode(record));
  // Something stands there that cannot be opened: not ours.
  if (!put && put.error().kind == ErrorKind::kDamaged) return LeasePut{};
  if (!put) return std::move(put).error();
  if (!put->ours()) return LeasePut{.theirs = record_of(protocol, *put->theirs)};
  TRY_ASSIGN(const uint64_t top, highest(log, protocol.self, job));
  return LeasePut{.stands = top == number, .is_passed = top > number, .is_lost = top < number};
}

void remove_lease(const Protocol& protocol, const names::JobKey& job, uint64_t number) {
  if (number == 0) return;
  (void)RecordLog(protocol).remove(names::lease(protocol.self, job, number));
}

Result<uint64_t> remove_old_leases(const Protocol& protocol) {
  const RecordLog log(protocol);
  TRY_ASSIGN(const std::vector<ObjectInfo> listed, log.list(names::kLeases));
  std::map<std::pair<SignerId, names::JobKey>, uint64_t> newest;
  for (const ObjectInfo& object : listed)
    if (const auto name = names::parse_lease(object.name)) {
      uint64_t& number = newest[{name->signer, name->job}];
      number = std::max(number, name->number);
    }
  uint64_t removed = 0;
  for (const ObjectInfo& object : listed) {
    const auto name = names::parse_lease(object.name);
    if (!name || name->number == newest[{name->signer, name->job}]) continue;
    auto gone = log.remove(object.name);
    if (!gone && gone.error().kind == ErrorKind::kDenied) continue;  // locked: a later collection
    TRY(gone);
    ++removed;
  }
  return removed;
}

std::string text_of(const LeaseMark& mark) {
  return fmt::format("{} {} {}", mark.job.hex(), mark.number, mark.run);
}

std::optional<LeaseMark> parse_lease_mark(std::string_view text) {
  const size_t first = text.find(' '), second = text.find(' ', first + 1);
  if (first == text.npos || second == text.npos) return std::nullopt;
  // As a name, whose parts are checked there.
  LeaseMark mark;
  const auto digits = text.substr(first + 1, second - first - 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), mark.number);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  const auto name = names::parse_lease(
      fmt::format("{}{}/{}/{:010}", names::kLeases, SignerId{}.hex(), text.substr(0, first), mark.number));
  if (!name) return std::nullopt;
  mark.job = name->job;
  mark.run = text.substr(second + 1);
  return mark;
}

Result<void> must_still_hold(const Protocol& protocol, const LeaseMark& mark) {
  const auto newest = newest_lease(protocol, mark.job);
  if (!newest || newest->number <= mark.number || !newest->record || newest->record->run == mark.run)
    return {};
  return fail(ErrorKind::kFailed, "another daemon has taken this run over",
              fmt::format("it is {} on {}; this one was not heard of for longer than its lease",
                          newest->record->run, newest->record->host),
              "nothing: its snapshot takes the place of this one");
}

}  // namespace kuramori
