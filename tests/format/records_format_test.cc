// Small records, the audit log and approvals, held to docs/vault-format.md: records.py, which shares no code
// with the program and takes fields and signers out of that page's tables, reads what the program writes, and
// finds what was changed.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "os/file.h"
#include "vault/audit_log.h"
#include "vault/names.h"
#include "vault_files.h"

namespace kuramori {
namespace {

using namespace test;

constexpr int64_t kDayNs = 86400ll * 1'000'000'000;

class SetClock final : public Clock {
 public:
  Time now() override { return now_; }
  Duration steady() override { return Duration(12345); }
  void sleep(Duration) override {}
  void set(Time now) { now_ = now; }

 private:
  Time now_ = from_unix_ns(10 * kDayNs);
};

struct RecordsReader : testing::Test {
  TestVault t{4242};
  SetClock clock;
  KeyBundle writer = KeyBundle::new_role(t.keys, Role::kWriter, "db1.writer", t.random);
  KeyBundle keeper = KeyBundle::new_role(t.keys, Role::kKeeper, "night.keeper", t.random);
  KeyBundle reader = KeyBundle::new_role(t.keys, Role::kReader, "drill.reader", t.random);
  std::optional<TemporaryFolder> folder;
  std::string said;

  void SetUp() override {
    ASSERT_EQ(access(KURAMORI_PYTHON3, X_OK), 0) << "the reader needs Debian's python3";
    folder.emplace(*TemporaryFolder::make("kuramori-format"));
    ASSERT_TRUE(write_file_durably(*folder / "key", as_bytes(*write_bundle(t.keys, nullptr, {}, t.random))));
    for (const KeyBundle* keys : {&writer, &keeper, &reader}) {
      GrantRecord record{.key = keys->signing->verify_key(),
                         .role = static_cast<uint32_t>(keys->role),
                         .name = keys->name,
                         .at_ns = 7};
      for (int copy = 1; copy <= names::kSignerCopies; ++copy)
        ASSERT_TRUE(t.vault->put(RecordType::kSigner, names::grant(id_of(*keys), copy), {}, encode(record)));
    }
  }
  static SignerId id_of(const KeyBundle& keys) { return signer_id(keys.signing->verify_key()); }
  std::unique_ptr<Vault> open(const KeyBundle& keys) {
    auto vault = Vault::open(std::make_unique<BorrowedStore>(t.store), keys.clone(), clock, t.random);
    CHECK(vault.has_value());
    return std::move(*vault);
  }
  // As the key's holder would.
  Digest put(const KeyBundle& by, RecordType type, const std::string& name, const Bytes& body,
             std::optional<ResourceId> scope = {}) {
    auto put = open(by)->put(type, name, scope, body);
    CHECK(put.has_value());
    return *put;
  }
  AuditHead act(const KeyBundle& by, const std::string& verb, int64_t at_ns,
                const std::vector<AuditHead>& heads = {}) {
    auto head =
        append_act(*open(by), {.verb = verb, .resource = "orders-db", .result = "done", .user = "aoi"},
                   from_unix_ns(at_ns), {}, heads);
    CHECK(head.has_value());
    return *head;
  }
  std::string record(const KeyBundle& keys, uint64_t n) { return names::audit(id_of(keys), n); }

  // The reader's status on what stands in the store now; what it said is in `said`.
  int read(const std::string& what, const std::vector<std::string>& more = {}) {
    CHECK(remove_tree(*folder / "vault").has_value());
    CHECK(write_objects(t.store, *folder / "vault").has_value());
    std::string command = fmt::format("'{}' '{}' '{}' '{}' {}", KURAMORI_PYTHON3, KURAMORI_RECORDS,
                                      *folder / "vault", *folder / "key", what);
    for (const std::string& word : more) command += " '" + word + "'";
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    said.clear();
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) said.append(buffer, n);
    const int status = WEXITSTATUS(pclose(pipe));
    EXPECT_EQ(said.find("Traceback"), std::string::npos) << said;
    return status;
  }
  size_t count(std::string_view part) const {
    size_t found = 0;
    for (size_t at = said.find(part); at != std::string::npos; at = said.find(part, at + 1)) ++found;
    return found;
  }
  // Exactly this object is named.
  void expect_named(const std::string& object) {
    EXPECT_EQ(count("finding: " + object + ": "), 1u) << said;
    EXPECT_EQ(count("finding: "), 1u) << said;
  }

  // One of each type that a vault may hold, by whom it may be.
  void one_of_each();
};

void RecordsReader::one_of_each() {
  const ResourceId scope = t.resource.id;
  Model model{{"PG_VERSION", {.bytes = to_bytes(as_bytes("17\n"))}}};
  ASSERT_TRUE(t.snapshot(model));  // resource, session, commit, live
  const MadeSnapshot& made = t.snapshots.front();
  const SnapshotId snapshot = made.commit.snapshot;
  const auto session_of = [&](const KeyBundle& keys) {
    SessionId sid = t.random.id<SessionId>();
    std::copy_n(id_of(keys).raw.begin(), 4, sid.raw.begin());
    return sid;
  };
  const SessionId reading = session_of(reader);
  put(reader, RecordType::kSession, names::session(reading),
      encode(SessionRecord{
          .kind = SessionKind::kRead, .parents = {made.name}, .resource = scope, .started_ns = 5}),
      scope);
  put(keeper, RecordType::kFence, names::session_end(reading), encode(FenceRecord{"dead", 6}), scope);
  put(keeper, RecordType::kGcPlan, names::gc_plan(1),
      encode(GcRecord{.number = 1,
                      .objects = {"packs/00/a", "packs/00/b"},
                      .at_ns = 8,
                      .replaced = {{"packs/00/a", "packs/00/a.b", {{0, 2}, {4, 1}}}}}));
  put(keeper, RecordType::kGcPlan, names::gc_waits(1), encode(GcRecord{.number = 1, .at_ns = 9}));
  put(keeper, RecordType::kGcSweep, names::gc_sweep(1), encode(GcRecord{.number = 1, .reason = "given up"}));
  put(keeper, RecordType::kPruneIntent, names::prune_intent(1),
      encode(PruneRecord{1, {made.name}, {"keep: last 1"}, 10}));
  put(keeper, RecordType::kPruneFinal, names::prune_final(1), encode(PruneRecord{1, {}, {}, 11}));
  put(writer, RecordType::kHold, names::hold(snapshot, "legal"),
      encode(HoldRecord{snapshot, "legal", "", 1}));
  put(writer, RecordType::kHoldRelease, names::hold_release(snapshot, "legal"),
      encode(HoldRecord{snapshot, "legal", "over", 2}));
  put(writer, RecordType::kRetain, names::retain(snapshot, 1), encode(RetainRecord{snapshot, -5, 3}));
  put(reader, RecordType::kProof, names::proof(snapshot, "p1"),
      encode(ProofRecord{.snapshot = snapshot,
                         .resource = scope,
                         .target = "latest",
                         .passed = true,
                         .checks = {{"rows", "passed", "12"}},
                         .seconds_total = 2.5,
                         .facts = {{"server", "17"}}}));
  const Digest digest = sha256(as_bytes("anything"));
  put(keeper, RecordType::kDisowned, names::disowned(digest.hex()),
      encode(DisownedRecord{"commits/x", digest, "forged", 12}));
  RevocationRecord revoked{.signer = t.random.id<SignerId>(), .reason = "stolen", .at_ns = 13};
  revoked.counted = {digest};
  revoked.wal = {"wal/x"};
  put(t.keys, RecordType::kRevocation, names::revocation(revoked.signer, 1), encode(revoked));
  put(t.keys, RecordType::kAudit, names::audit(1),
      encode(AuditRecord{.number = 1,
                         .action = std::string(kAuditKeyMade),
                         .object = "k",
                         .host = "h",
                         .at_ns = 2,
                         .vault = t.vault->info().id}));
  EpochRecord epoch{.number = 1, .at_ns = 14};
  t.random.fill(epoch.token.raw);
  put(t.keys, RecordType::kEpoch, names::epoch_begin(1, epoch.token.hex()), encode(epoch));
  epoch.accepted = {{made.name, 0, digest}};
  epoch.swept = {"packs/00/a"};
  put(t.keys, RecordType::kEpoch, names::epoch_seal(1), encode(epoch));
  put(keeper, RecordType::kPruneFinal, names::epoch_prefix(1) + names::prune_final(1),
      encode(PruneRecord{1, {made.name}, {"x"}, 15}));
  CopyRecord copy{.origin = made.name, .commit = t.store.objects[made.name], .copied_ns = 16, .from = "00ff"};
  put(keeper, RecordType::kCopy, names::commit(scope, snapshot, session_of(keeper)), encode(copy), scope);
  CatalogRecord catalog{.number = 1, .at_ns = 17};
  for (const std::string& name : {made.name, names::hold(snapshot, "legal")})
    catalog.entries.push_back({name, t.store.objects[name]});
  put(keeper, RecordType::kCatalog, names::catalog(1, t.random.id<names::CatalogId>()), encode(catalog));
  put(writer, RecordType::kProbe, names::probe(18, t.random.id<Id<8, names::ProbeIdTag>>()),
      encode(ProbeRecord{18, "conditional puts, locks", "", "db1"}));
  put(keeper, RecordType::kApplied, names::applied(1, t.random.id<names::AppliedId>()),
      encode(AppliedRecord{1, "", "vaults:\n", "db1", "aoi", 19}));
  ApprovalRequestRecord request{.vault = t.vault->info().id,
                                .act = "prune",
                                .lines = {"commits/a", "commits/b"},
                                .at_ns = 20,
                                .until_ns = 20 + kDayNs,
                                .host = "h",
                                .user = "aoi"};
  t.random.fill(request.id.raw);
  const Digest asked =
      put(keeper, RecordType::kApprovalRequest, names::approval_request(request.id), encode(request));
  ApprovalRecord word{.id = request.id, .request = asked, .at_ns = 21, .host = "h", .user = "rin"};
  put(reader, RecordType::kApproval, names::approval_by(request.id, id_of(reader)), encode(word));
  put(keeper, RecordType::kApprovalUse, names::approval_used(request.id), encode(word));
}

TEST_F(RecordsReader, reads_one_of_each_type_as_the_document_says) {
  one_of_each();
  for (int day = 1; day <= 3; ++day) act(writer, "backup", day * kDayNs);
  clock.set(from_unix_ns(100 * kDayNs));
  ASSERT_TRUE(tidy_audit(*open(keeper), {}, {.verb = "vault collect"}, 1));
  ASSERT_EQ(read("check"), 0) << said;
  for (int type :
       {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18, 21, 23, 24, 26, 27, 28, 29, 30, 31, 32, 33})
    EXPECT_NE(said.find(fmt::format("\"type\": {},", type)), std::string::npos) << type;
  EXPECT_NE(said.find("\"act\": \"prune\", \"lines\": [\"commits/a\", \"commits/b\"]"), std::string::npos)
      << said;
  EXPECT_NE(said.find("\"keep until\": -5"), std::string::npos);
  EXPECT_NE(said.find("\"seconds in all\": 2.5"), std::string::npos);
}

// A byte of each record at once, so that one process tells: head, name, body, signature and checksum.
TEST_F(RecordsReader, finds_one_edited_byte_in_each_record) {
  one_of_each();
  act(writer, "backup", 1);
  const auto whole = t.store.objects;
  for (const double part : {0.02, 0.3, 0.6, 0.9, 0.999}) {
    std::vector<std::string> edited;
    for (auto& [name, object] : t.store.objects) {
      // By these the others are judged, and packs and maps are other readers' business.
      if (name.starts_with(names::kVault) || name.find("/grant") != name.npos) continue;
      if (name.starts_with(names::kPacks) || name.starts_with(names::kMaps)) continue;
      object[static_cast<size_t>(part * static_cast<double>(object.size()))] ^= 0x10;
      edited.push_back(name);
    }
    ASSERT_GT(edited.size(), 25u);
    EXPECT_EQ(read("check"), 4);
    for (const std::string& name : edited)
      EXPECT_EQ(count("finding: " + name + ": "), 1u) << name << "\n" << said;
    EXPECT_EQ(count("finding: "), edited.size());
    t.store.objects = whole;
  }
}

TEST_F(RecordsReader, refuses_what_its_signer_may_not_sign) {
  const SnapshotId snapshot = t.random.id<SnapshotId>();
  const Bytes proof = encode(ProofRecord{.snapshot = snapshot, .resource = t.resource.id});
  // The program's own codec would not read it back, so it is put past it.
  SealedRecordCodec codec(writer, t.random);
  const std::string name = names::proof(snapshot, "p1");
  t.store.objects[name] = codec.encode(RecordType::kProof, name, {}, proof);
  EXPECT_EQ(read("check"), 4);
  expect_named(name);
}

TEST_F(RecordsReader, follows_the_audit_log_of_several_keys_and_its_archives_O4) {
  for (int day = 1; day <= 20; ++day) act(writer, fmt::format("backup {}", day), day * kDayNs);
  act(writer, "backup 21", 150 * kDayNs);
  act(keeper, "prune", 151 * kDayNs, {act(t.keys, "restore", 151 * kDayNs)});
  ASSERT_EQ(read("audit"), 0) << said;
  EXPECT_EQ(count("\"verb\""), 23u);
  clock.set(from_unix_ns(110 * kDayNs));
  ASSERT_EQ(tidy_audit(*open(keeper), {}, {.verb = "vault collect"}, 1)->archived, 20u);
  ASSERT_EQ(read("audit"), 0) << said;
  EXPECT_EQ(count("\"verb\""), 23u);
  EXPECT_EQ(count("\"in\": \"" + names::audit_archive(id_of(writer), 1, 20)), 20u);
  EXPECT_NE(said.find("\"verb\": \"backup 7\", \"resource\": \"orders-db\""), std::string::npos) << said;
  EXPECT_NE(said.find("\"user\": \"aoi\""), std::string::npos);
  // Its time is over: then it may begin later, by a keeper's word alone.
  clock.set(from_unix_ns(1300 * kDayNs));
  ASSERT_EQ(tidy_audit(*open(keeper), {}, {.verb = "vault collect"}, 1)->expired, 20u);
  ASSERT_EQ(read("audit"), 0) << said;
  for (uint64_t n : {2, 3}) t.store.objects.erase(record(keeper, n));
  EXPECT_EQ(read("audit"), 4);
  EXPECT_EQ(count("finding: "), 20u) << said;
}

TEST_F(RecordsReader, finds_what_is_edited_missing_moved_or_cut_off_the_audit_log_O4) {
  for (int n = 1; n <= 5; ++n) act(writer, "backup", n);
  const auto whole = t.store.objects;
  const auto with = [&](const std::string& object, const std::vector<std::string>& heads = {}) {
    EXPECT_EQ(read("audit", heads), 4) << object;
    expect_named(object);
    t.store.objects = whole;
  };
  for (const size_t at : {size_t{0}, size_t{9}, whole.at(record(writer, 3)).size() / 2,
                          whole.at(record(writer, 3)).size() - 40}) {
    t.store.objects[record(writer, 3)][at] ^= 1;
    with(record(writer, 3));
  }
  t.store.objects.erase(record(writer, 2));
  with(record(writer, 2));
  t.store.objects[record(writer, 6)] = t.store.objects[record(writer, 1)];
  with(record(writer, 6));
  // A cut end: nobody's record names it, but somebody may have seen it.
  const std::string head =
      fmt::format("{}:5:{}", id_of(writer).hex(), sha256(whole.at(record(writer, 5))).hex());
  t.store.objects.erase(record(writer, 5));
  EXPECT_EQ(read("audit"), 0) << said;
  with(record(writer, 5), {head});
  // Rewritten by who has the key, and a keeper had seen it.
  act(keeper, "prune", 6, {act(writer, "backup", 6)});
  t.store.objects.erase(record(writer, 6));
  act(writer, "nothing", 6);
  with(record(writer, 6));
  // In an archive.
  for (int n = 7; n <= 8; ++n) act(writer, "backup", 200 * kDayNs);
  clock.set(from_unix_ns(150 * kDayNs));
  ASSERT_EQ(tidy_audit(*open(keeper), {}, {.verb = "vault collect"}, 1)->archived, 5u);
  const std::string archive = names::audit_archive(id_of(writer), 1, 5);
  t.store.objects[archive][t.store.objects[archive].size() / 2] ^= 1;
  EXPECT_EQ(read("audit"), 4);
  EXPECT_EQ(count("finding: " + archive + ": "), 1u) << said;
}

TEST_F(RecordsReader, counts_approvals_as_the_document_says_O3) {
  ApprovalRequestRecord request{.vault = t.vault->info().id, .act = "prune", .lines = {"a"}, .at_ns = 1};
  t.random.fill(request.id.raw);
  request.until_ns = request.at_ns + kDayNs;
  const Digest asked =
      put(t.keys, RecordType::kApprovalRequest, names::approval_request(request.id), encode(request));
  const auto agree = [&](const KeyBundle& by, const Digest& to) {
    put(by, RecordType::kApproval, names::approval_by(request.id, id_of(by)),
        encode(ApprovalRecord{.id = request.id, .request = to, .at_ns = 2}));
  };
  agree(keeper, asked);
  agree(writer, asked);                            // no second person
  agree(t.keys, asked);                            // who asked
  agree(reader, sha256(as_bytes("another one")));  // what it saw was other
  ASSERT_EQ(read("approvals"), 0) << said;
  EXPECT_NE(said.find(fmt::format("\"approved\": [\"{}\"], \"used\": false", id_of(keeper).hex())),
            std::string::npos)
      << said;
  // One byte of it, and nobody agreed; whatever stands at `used` uses it up.
  t.store.objects[names::approval_by(request.id, id_of(keeper))][60] ^= 1;
  t.store.objects[names::approval_used(request.id)] = to_bytes(as_bytes("?"));
  ASSERT_EQ(read("approvals"), 0) << said;
  EXPECT_NE(said.find("\"approved\": [], \"used\": true"), std::string::npos) << said;
}

}  // namespace
}  // namespace kuramori
