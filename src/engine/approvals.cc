#include "engine/approvals.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/time_text.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "os/user.h"

namespace kuramori {
namespace {

constexpr size_t kIdPrefixMin = 4;
constexpr Duration kPastNow = std::chrono::minutes(5);  // by which clocks may differ

std::string user_name() {
  auto user = user_of_uid(geteuid());
  return user ? user->name : fmt::format("uid {}", geteuid());
}

SignerId self_of(const Vault& vault) {
  return signer_id(vault.keys().signing->verify_key());
}

// A writer's key lies on the machine that is backed up: whoever took that over is no second person.
bool may_agree(Role role) {
  return role != Role::kWriter;
}

// Approvals that count: of keys in force, one a key, none of the requester's, none of another request's
// bytes.
void take_approval(Vault& vault, SeenRequest& request, const std::string& name, const OpenedRecord& opened) {
  auto record = decode<ApprovalRecord>(opened.body);
  if (!record || opened.type != RecordType::kApproval) return;
  if (name != names::approval_by(request.record.id, opened.signer)) return;
  if (record->id != request.record.id || record->request != request.digest) return;
  if (opened.signer == request.signer) return;
  auto signer = vault.codec().signers().find(opened.signer);
  if (!signer || (*signer)->revoked || !may_agree((*signer)->role)) return;
  request.approvals.push_back(
      {opened.signer, (*signer)->name, record->host, record->user, from_unix_ns(record->at_ns)});
}

Error wants(const SeenRequest& request, const ApprovalRules& rules, size_t have,
            const std::string& vault_name) {
  const std::string id = request.record.id.hex();
  return fail(
      ErrorKind::kRefused,
      fmt::format("{} needs the approval of {} more", request.record.act,
                  static_cast<size_t>(rules.people - 1) - have),
      fmt::format("request {} says what would be done; it is good until {}", id,
                  format_moment(request.until)),
      fmt::format("somebody else, with a key of their own: kuramori approve {} --vault {}; then the same "
                  "command again",
                  id, vault_name));
}

}  // namespace

Result<std::vector<SeenRequest>> list_requests(Vault& vault) {
  std::map<std::string, std::vector<ObjectInfo>> by_id;
  TRY(for_each_object(vault.store(), names::kApprovals, [&](const ObjectInfo& object) -> Result<void> {
    const std::string_view rest = std::string_view(object.name).substr(names::kApprovals.size());
    by_id[std::string(rest.substr(0, rest.find('/')))].push_back(object);
    return {};
  }));
  std::vector<SeenRequest> all;
  for (const auto& [hex, objects] : by_id) {
    const auto id = ApprovalId::from_hex(hex);
    if (!id) continue;
    SeenRequest request;
    bool stands = false;
    const auto open = [&](const std::string& name) -> Result<OpenedRecord> {
      TRY_ASSIGN(const Bytes bytes, vault.store().get(name));
      return vault.codec().decode(name, bytes);
    };
    for (const ObjectInfo& object : objects) {
      if (object.name != names::approval_request(*id)) continue;
      auto opened = open(object.name);
      if (!opened || opened->type != RecordType::kApprovalRequest) continue;
      auto record = decode<ApprovalRequestRecord>(opened->body);
      if (!record || record->id != *id || record->vault != vault.info().id) continue;
      auto signer = vault.codec().signers().find(opened->signer);
      if (!signer || (*signer)->revoked) continue;
      request.record = std::move(*record);
      request.digest = opened->digest;
      request.signer = opened->signer;
      request.key_name = (*signer)->name;
      // A request from the future would be good for longer than anybody meant.
      const Time made = from_unix_ns(request.record.at_ns);
      const Duration valid = from_unix_ns(request.record.until_ns) - made;
      request.until = (object.stored_at ? std::min(made, *object.stored_at) : made) + valid;
      stands = true;
    }
    if (!stands) continue;
    for (const ObjectInfo& object : objects) {
      // Whatever stands there uses it up: what cannot be read is never absent.
      if (object.name == names::approval_used(*id)) request.used = true;
      if (object.name.find("/by.") == object.name.npos) continue;
      if (auto opened = open(object.name)) take_approval(vault, request, object.name, *opened);
    }
    all.push_back(std::move(request));
  }
  std::ranges::stable_sort(
      all, [](const SeenRequest& a, const SeenRequest& b) { return a.record.at_ns > b.record.at_ns; });
  return all;
}

Result<void> use_approval(Vault& vault, const ApprovalRules& rules, const PlannedAct& planned,
                          const std::string& vault_name) {
  if (rules.people < 2) return {};
  const SignerId self = self_of(vault);
  const Time now = vault.clock().now();
  TRY_ASSIGN(const std::vector<SeenRequest> requests, list_requests(vault));
  bool moved = false;
  for (const SeenRequest& request : requests) {
    const bool mine = request.signer == self && request.record.act == planned.act && !request.used &&
                      request.until >= now && from_unix_ns(request.record.at_ns) <= now + kPastNow;
    if (!mine) continue;
    if (request.record.lines != planned.lines) {
      moved = true;
      continue;
    }
    const auto counts = [&](const SeenApproval& one) {
      return rules.by.empty() || std::ranges::count(rules.by, one.key_name) != 0;
    };
    const size_t have = static_cast<size_t>(std::ranges::count_if(request.approvals, counts));
    if (have + 1 < static_cast<size_t>(rules.people)) return wants(request, rules, have, vault_name);
    // Used before it is done: after a crash it is asked for anew, and never done twice by one approval.
    ApprovalRecord use{.id = request.record.id,
                       .request = request.digest,
                       .at_ns = to_unix_ns(now),
                       .host = host_name(),
                       .user = user_name()};
    auto put = vault.put(RecordType::kApprovalUse, names::approval_used(use.id), {}, encode(use));
    if (put) return {};
    if (put.error().kind != ErrorKind::kExists) return put.error();
    return fail(ErrorKind::kRefused, fmt::format("the approval of {} was used just now", use.id.hex()),
                "each is good for one time", "type the command again to ask for a new one");
  }
  SeenRequest made;
  ApprovalRequestRecord& record = made.record;
  vault.random().fill(record.id.raw);
  record.vault = vault.info().id;
  record.act = planned.act;
  record.lines = planned.lines;
  record.at_ns = to_unix_ns(now);
  record.until_ns = to_unix_ns(later(now, rules.valid_for));
  record.host = host_name();
  record.user = user_name();
  TRY(vault.put(RecordType::kApprovalRequest, names::approval_request(record.id), {}, encode(record)));
  made.until = later(now, rules.valid_for);
  Error error = wants(made, rules, 0, vault_name);
  if (moved) error.why = "what would be done is no longer what the earlier request says; " + error.why;
  return error;
}

Result<SeenRequest> approve_request(Vault& vault, const std::string& id) {
  TRY_ASSIGN(std::vector<SeenRequest> requests, list_requests(vault));
  std::erase_if(requests, [&](const SeenRequest& request) {
    return id.size() < kIdPrefixMin || !request.record.id.hex().starts_with(id);
  });
  if (requests.size() != 1) {
    return fail(ErrorKind::kUsage,
                fmt::format("\"{}\" names {}", id.substr(0, 40),
                            requests.empty() ? "no request" : "several requests"),
                "a request is named by its id, or its first characters (at least 4)",
                "kuramori approve lists those that wait");
  }
  SeenRequest& request = requests.front();
  const std::string hex = request.record.id.hex();
  const Time now = vault.clock().now();
  if (request.used)
    return fail(ErrorKind::kRefused, fmt::format("request {} was used already", hex),
                "each is good for one time", "whoever asked types the command again, for a new request");
  if (request.until < now)
    return fail(ErrorKind::kRefused, fmt::format("request {} is over", hex),
                fmt::format("it was good until {}", format_moment(request.until)),
                "whoever asked types the command again, for a new request");
  const SignerId self = self_of(vault);
  if (request.signer == self)
    return fail(ErrorKind::kRefused, fmt::format("request {} was made with this very key", hex),
                "a second person is one with a key of their own", "use another key: --key-file FILE");
  if (!may_agree(vault.keys().role))
    return fail(ErrorKind::kRefused, "a writer key may not approve",
                "it lies on the machine that is backed up: whoever took that over is no second person",
                "use a keeper's, a reader's or the owner's key: --key-file FILE");
  const auto by_self = std::ranges::find(request.approvals, self, &SeenApproval::signer);
  if (by_self != request.approvals.end()) return request;
  TRY_ASSIGN(const Signer* signer, vault.codec().signers().find(self));
  if (signer->revoked)
    return fail(ErrorKind::kRefused, "this key was revoked", signer->revoked->reason,
                "use another: --key-file FILE");
  ApprovalRecord record{.id = request.record.id,
                        .request = request.digest,
                        .at_ns = to_unix_ns(now),
                        .host = host_name(),
                        .user = user_name()};
  TRY(vault.put(RecordType::kApproval, names::approval_by(record.id, self), {}, encode(record)));
  request.approvals.push_back({self, signer->name, record.host, record.user, now});
  return request;
}

}  // namespace kuramori
