// Fills a vault with very many snapshots, as years of hourly backups leave them: `many_snapshots LOCATION
// KEY_FILE COUNT [RESOURCES [PROOFS]]`.
//
// Each is a commit with its live record, sealed, signed and put by the program's own code; what they refer to
// (maps, packs) is not made, so nothing can be restored from them. Sessions are not made either: a keeper
// removes them once they are decided. Of each resource the first tenth is past its time; every PROOFS-th
// snapshot has a proof.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>

#include "conc/task_group.h"
#include "engine/open_vault.h"
#include "vault/names.h"
#include "vault/record_log.h"
#include "vault/session.h"

namespace kuramori {
namespace {

constexpr size_t kThreads = 16;  // most of the time is the store's
constexpr int64_t kHourNs = 3'600'000'000'000;
constexpr size_t kMapsMax = 8;

// The snapshots of one resource, oldest first: each chained to the one before.
Result<void> fill(const Protocol& protocol, const ResourceRecord& resource, size_t count, size_t proofs) {
  const RecordLog log(protocol);
  std::string previous;
  Digest previous_digest;
  std::vector<ObjectRef> maps;
  const int64_t now = to_unix_ns(protocol.clock.now());
  for (size_t i = 0; i < count; ++i) {
    const SessionId session = draw_session_id(protocol);
    if (maps.size() == kMapsMax) maps.clear();  // merged into one
    maps.insert(maps.begin(), {names::map(session, 0), 40'000 + i, protocol.random.id<Digest>()});
    TRY_ASSIGN(PutResult live, log.put(RecordType::kLive, names::live(session), resource.id,
                                       encode(LiveRecord{.packs = {}, .maps = {}})));
    CommitRecord commit{.snapshot = protocol.random.id<SnapshotId>(),
                        .session = session,
                        .resource = resource.id,
                        .kind = "postgres",
                        .started_ns = now - static_cast<int64_t>(count - i) * kHourNs,
                        .plan = resource.name,
                        .parents = {},
                        .live = live.ref,
                        .maps = maps,
                        .tree = {{names::pack(session, 0), 0, 3}},
                        .wal = WalSpan{1, (i + 1) << 24, (i + 2) << 24},
                        .previous = previous,
                        .previous_digest = previous_digest,
                        .size_bytes = uint64_t{4} << 30,
                        .added_bytes = uint64_t{40} << 20};
    if (!previous.empty()) commit.parents = {previous};
    commit.finished_ns = commit.started_ns + kHourNs / 60;
    commit.keep_until_ns = i < count / 10 ? commit.finished_ns : now + static_cast<int64_t>(i + 1) * kHourNs;
    commit.facts = {{"postgres.system_id", resource.system},
                    {"postgres.version", "150008"},
                    {"postgres.timeline", "1"},
                    {"postgres.start_lsn", std::to_string((i + 1) << 24)},
                    {"postgres.stop_lsn", std::to_string((i + 2) << 24)},
                    {"postgres.segment_bytes", "16777216"},
                    {"postgres.checksums", "1"},
                    {"postgres.wal_level", "replica"},
                    {"postgres.changes", "wal"}};
    const std::string name = names::commit(resource.id, commit.snapshot, session);
    TRY_ASSIGN(PutResult put, log.put(RecordType::kCommit, name, resource.id, encode(commit)));
    TRY(log.mirror(name));
    if (proofs != 0 && i % proofs == 0) {
      const ProofRecord proof{.snapshot = commit.snapshot,
                              .resource = resource.id,
                              .vault = "here",
                              .target = "latest",
                              .passed = true,
                              .started_ns = commit.finished_ns};
      TRY(log.put(RecordType::kProof, names::proof(proof.snapshot, session.hex()), {}, encode(proof)));
    }
    previous = name;
    previous_digest = put.ref.digest;
  }
  return {};
}

Result<void> run(const std::string& location, const std::string& key_file, size_t count, size_t resources,
                 size_t proofs) {
  TRY_ASSIGN(auto vault, open_vault({.location = location, .key_file = key_file}));
  const Protocol protocol = protocol_of(*vault);
  std::vector<ResourceRecord> made;
  for (size_t i = 0; i < resources; ++i) {
    TRY_ASSIGN(ResourceRecord resource,
               vault->ensure_resource(fmt::format("db{}", i), "postgres",
                                      std::to_string(7'000'000'000'000'000'000 + i)));
    made.push_back(std::move(resource));
  }
  return parallel_for(resources, kThreads, {}, [&](size_t i, std::stop_token) {
    return fill(protocol, made[i], count / resources + (i < count % resources), proofs);
  });
}

}  // namespace
}  // namespace kuramori

int main(int count, char** words) {
  const auto number = [&](int at, size_t otherwise) -> size_t {
    return at < count ? std::strtoull(words[at], nullptr, 10) : otherwise;
  };
  if (count < 4)
    return std::fputs("many_snapshots LOCATION KEY_FILE COUNT [RESOURCES [PROOFS]]\n", stderr), 2;
  auto done = kuramori::run(words[1], words[2], number(3, 0), number(4, 16), number(5, 0));
  if (done) return 0;
  std::fprintf(stderr, "%s %s\n", done.error().what.c_str(), done.error().why.c_str());
  return 1;
}
