// For the tests of this folder: a store in memory that a test may damage, a random source that repeats, a
// clock that stands, and snapshots made of random content.
#pragma once
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <random>

#include "base/check.h"
#include "crypto/digest.h"
#include "store/store.h"
#include "vault/content_writer.h"
#include "vault/names.h"
#include "vault/snapshot_reader.h"
#include "vault/vault.h"

namespace kuramori::test {

// Objects lie open in `objects`: an attacker or a rotten disk may do anything with them.
class OpenStore final : public Store {
 public:
  std::map<std::string, Bytes, std::less<>> objects;
  std::mutex mutex;

  std::string location() const override { return "memory"; }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    std::lock_guard lock(mutex);
    if (!objects.try_emplace(std::string(name), to_bytes(bytes)).second)
      return fail(ErrorKind::kExists, "taken");
    return {};
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    struct Writer final : ObjectWriter {
      OpenStore& store;
      std::string name;
      Bytes bytes;
      Writer(OpenStore& s, std::string n) : store(s), name(std::move(n)) {}
      Result<void> append(ByteView more) override {
        kuramori::append(bytes, more);
        return {};
      }
      Result<void> commit() override { return store.put_if_absent(name, bytes); }
    };
    return std::unique_ptr<ObjectWriter>(new Writer(*this, std::string(name)));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    struct Reader final : ObjectReader {
      Bytes bytes;
      uint64_t size() const override { return bytes.size(); }
      Result<void> read(uint64_t offset, MutableByteView out) override {
        if (offset > bytes.size() || out.size() > bytes.size() - offset)
          return fail(ErrorKind::kDamaged, "too short");
        if (!out.empty()) std::memcpy(out.data(), bytes.data() + offset, out.size());
        return {};
      }
    };
    auto reader = std::make_unique<Reader>();
    TRY_ASSIGN(reader->bytes, get(name));
    return std::unique_ptr<ObjectReader>(std::move(reader));
  }
  Result<Bytes> get(std::string_view name) override {
    std::lock_guard lock(mutex);
    auto it = objects.find(name);
    if (it == objects.end()) return fail(ErrorKind::kNotFound, std::string(name) + " is not there");
    return it->second;
  }
  Result<ObjectInfo> head(std::string_view name) override {
    TRY_ASSIGN(Bytes bytes, get(name));
    return ObjectInfo{.name = std::string(name), .size = bytes.size(), .stored_at = {}};
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    std::lock_guard lock(mutex);
    ListPage page;
    for (auto it = objects.lower_bound(std::max(prefix, after)); it != objects.end(); ++it) {
      if (it->first <= after) continue;
      if (!it->first.starts_with(prefix)) break;
      if (page.objects.size() == limit) {
        page.more = true;
        break;
      }
      page.objects.push_back({.name = it->first, .size = it->second.size(), .stored_at = {}});
    }
    return page;
  }
  Result<void> remove(std::string_view name) override {
    std::lock_guard lock(mutex);
    objects.erase(std::string(name));
    return {};
  }
};

// A store somebody else owns, so that a Vault can be opened on it again and again.
class BorrowedStore : public Store {
 public:
  explicit BorrowedStore(Store& store) : store_(store) {}
  std::string location() const override { return store_.location(); }
  Result<void> put_if_absent(std::string_view n, ByteView b) override { return store_.put_if_absent(n, b); }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override { return store_.create(n); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override { return store_.open(n); }
  Result<Bytes> get(std::string_view n) override { return store_.get(n); }
  Result<ObjectInfo> head(std::string_view n) override { return store_.head(n); }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    return store_.list(p, a, l);
  }
  Result<void> remove(std::string_view n) override { return store_.remove(n); }

 private:
  Store& store_;
};

// Fast noise, the same for the same seed (splitmix64): what does not compress.
inline Bytes noise(size_t size, uint64_t seed) {
  Bytes bytes(size);
  for (size_t at = 0; at < size; at += sizeof seed) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    mixed ^= mixed >> 31;
    std::memcpy(bytes.data() + at, &mixed, std::min(sizeof mixed, size - at));
  }
  return bytes;
}

// The same bytes for the same seed.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  void fill(MutableByteView out) override {
    std::lock_guard lock(mutex_);
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(engine_());
  }
  uint64_t below(uint64_t end) {
    std::lock_guard lock(mutex_);
    return engine_() % end;
  }
  Bytes bytes(size_t size) {
    Bytes out(size);
    fill(out);
    return out;
  }

 private:
  std::mutex mutex_;
  std::mt19937_64 engine_;
};

class StandingClock final : public Clock {
 public:
  Time now() override { return from_unix_ns(1'795'000'000'000'000'000); }
  Duration steady() override { return Duration(12345); }
  void sleep(Duration) override {}
};

// What a snapshot should restore to.
struct ModelFile {
  ContentKind content = ContentKind::kBytes;
  Bytes bytes;
  uint64_t inode = 1;
};
using Model = std::map<std::string, ModelFile>;

inline Bytes random_page(SeededRandom& random) {
  // Half of it repeats, so that it compresses; one in eight is all zero.
  if (random.below(8) == 0) return Bytes(kPageBytes, 0);
  Bytes page = random.bytes(kPageBytes / 16);
  while (page.size() < kPageBytes)
    append(page, ByteView(page).first(std::min(page.size(), kPageBytes - page.size())));
  return page;
}

// One step of a database's life: files grow, shrink, change, vanish, come back.
inline void mutate(Model& model, SeededRandom& random, int steps) {
  for (int i = 0; i < steps; ++i) {
    std::string path = "base/" + std::to_string(random.below(6));
    ModelFile& file = model[path];
    file.content = ContentKind::kPages;
    uint64_t pages = file.bytes.size() / kPageBytes;
    switch (random.below(6)) {
      case 0:
        for (uint64_t n = random.below(40) + 1; n > 0; --n) append(file.bytes, random_page(random));
        break;
      case 1:
        file.bytes.resize(random.below(pages + 1) * kPageBytes);
        break;
      case 2:
        model.erase(path);
        break;
      case 3: {  // created anew: nothing of the base holds
        file.bytes.clear();
        file.inode = random.below(1u << 30) + 2;
        for (uint64_t n = random.below(20); n > 0; --n) append(file.bytes, random_page(random));
        break;
      }
      default:
        for (uint64_t n = random.below(8); n > 0 && pages > 0; --n) {
          Bytes page = random_page(random);
          std::copy(page.begin(), page.end(),
                    file.bytes.begin() + static_cast<ptrdiff_t>(random.below(pages) * kPageBytes));
        }
    }
  }
  model["pg_control"] = {.content = ContentKind::kBytes, .bytes = random.bytes(8192), .inode = 7};
  model["empty"] = {.content = ContentKind::kBytes, .bytes = {}, .inode = 8};
  model["log/big"] = {
      .content = ContentKind::kBytes, .bytes = random.bytes(random.below(400'000)), .inode = 9};
}

struct MadeSnapshot {
  std::string name;
  CommitRecord commit;
  Model model;
};

// Makes the content of a snapshot: whole, or what differs from `before`. Its commit is not put.
inline Result<CommitRecord> write_content(Store& store, const KeyBundle& keys, SeededRandom& random,
                                          Clock& clock, const SessionId& session, const ResourceId& resource,
                                          const Model& model, const Model* before, BaseSnapshot* base,
                                          int lanes_count = 2, PipelineFaults* faults = nullptr) {
  ContentWriter writer(store, keys, random, clock, session, resource);
  writer.provoke(faults);
  std::vector<std::unique_ptr<ContentWriter::Lane>> lanes;
  for (int i = 0; i < lanes_count; ++i) lanes.push_back(writer.lane());
  std::vector<CapturedFile> files;
  files.push_back({.entry = {.path = "base", .type = EntryType::kDirectory, .mode = 0700}, .index = 0});
  files.push_back({.entry = {.path = "log", .type = EntryType::kDirectory, .mode = 0750}, .index = 1});
  files.push_back(
      {.entry = {.path = "link", .type = EntryType::kSymlink, .mode = 0777, .link = "../else"}, .index = 2});
  for (const auto& [path, file] : model) {
    uint32_t index = static_cast<uint32_t>(files.size());
    CapturedFile captured{.entry = {.path = path,
                                    .type = EntryType::kFile,
                                    .content = file.content,
                                    .mode = 0600,
                                    .mtime_ns = 1'700'000'000'000'000'000,
                                    .size = file.bytes.size()},
                          .index = index,
                          .inode = file.inode,
                          .birth_ns = 5};
    auto& lane = *lanes[index % lanes.size()];
    if (file.content == ContentKind::kBytes) {
      TRY(lane.add_bytes(index, file.bytes));
    } else {
      const ModelFile* older = nullptr;
      if (base != nullptr && before != nullptr) {
        auto it = before->find(path);
        if (it != before->end() && it->second.inode == file.inode && it->second.content == file.content)
          older = &it->second;
      }
      captured.on_base = older != nullptr;
      for (size_t at = 0; at < file.bytes.size(); at += kPageBytes) {
        ByteView page = ByteView(file.bytes).subspan(at, kPageBytes);
        bool same = older != nullptr && at + kPageBytes <= older->bytes.size() &&
                    equal(page, ByteView(older->bytes).subspan(at, kPageBytes));
        // Pages of one file may come from any lane.
        if (!same)
          TRY(lanes[(at / kPageBytes / 24) % lanes.size()]->add_pages(
              index, static_cast<uint32_t>(at / kPageBytes), page));
      }
    }
    files.push_back(std::move(captured));
  }
  for (auto& lane : lanes) TRY(lane->finish());
  CommitRecord commit;
  commit.session = session;
  commit.resource = resource;
  commit.kind = "postgres";
  commit.started_ns = to_unix_ns(clock.now());
  commit.finished_ns = commit.started_ns + 1;
  TRY_ASSIGN(LiveRecord live, writer.finish(std::move(files), base, commit));
  SealedRecordCodec codec(keys, random);
  std::string live_name = names::live(session);
  Bytes object = codec.encode(RecordType::kLive, live_name, resource, encode(live));
  commit.live = {.name = live_name, .size = object.size(), .digest = sha256(object)};
  TRY(store.put_if_absent(live_name, object));
  return commit;
}

// A vault in memory with its owner's key, and snapshots made in it.
struct TestVault {
  OpenStore store;
  SeededRandom random;
  StandingClock clock;
  KeyBundle keys;
  std::unique_ptr<Vault> vault;
  ResourceRecord resource;
  std::vector<MadeSnapshot> snapshots;
  int reads = 0;

  explicit TestVault(uint64_t seed = 1) : random(seed), keys(KeyBundle::new_owner("test.owner", random)) {
    auto made = Vault::init(std::make_unique<BorrowedStore>(store), copy_keys(), clock, random);
    CHECK(made.has_value());
    vault = std::move(*made);
    auto record = vault->ensure_resource("orders/db", "postgres", "7300000000000000001");
    CHECK(record.has_value());
    resource = *record;
  }
  KeyBundle copy_keys() {
    auto text = write_bundle(keys, nullptr, {}, random);
    CHECK(text.has_value());
    auto copy = read_bundle(*text, [] { return Result<Secret>(fail(ErrorKind::kUsage, "no passphrase")); });
    CHECK(copy.has_value());
    return std::move(*copy);
  }

  // Puts a session, content, and the commit; on the newest snapshot if there is one and `incremental`.
  Result<const MadeSnapshot*> snapshot(const Model& model, bool incremental = true, int lanes = 2) {
    SessionId sid = random.id<SessionId>();
    // As draw_session_id(): it begins with whose it is.
    SignerId signer = signer_id(keys.signing->verify_key());
    std::copy_n(signer.raw.begin(), 4, sid.raw.begin());
    SnapshotId id = random.id<SnapshotId>();
    std::string commit_name = names::commit(resource.id, id, sid);
    std::optional<BaseSnapshot> base;
    const MadeSnapshot* older = incremental && !snapshots.empty() ? &snapshots.back() : nullptr;
    if (older) {
      TRY_ASSIGN(base, open_base(store, keys, vault->codec(), older->name, older->commit));
    }
    SessionRecord session{.closed = true, .commit_key = commit_name, .resource = resource.id};
    if (older) session.parents = {older->name};
    TRY(vault->put(RecordType::kSession, names::session(sid), resource.id, encode(session)));
    TRY_ASSIGN(CommitRecord commit,
               write_content(store, keys, random, clock, sid, resource.id, model,
                             older ? &older->model : nullptr, base ? &*base : nullptr, lanes));
    commit.snapshot = id;
    if (older) commit.parents = {older->name};
    if (!snapshots.empty()) {
      commit.previous = snapshots.back().name;
      TRY_ASSIGN(Bytes object, store.get(commit.previous));
      commit.previous_digest = sha256(object);
    }
    TRY(vault->put(RecordType::kCommit, commit_name, resource.id, encode(commit)));
    snapshots.push_back({commit_name, commit, model});
    return &snapshots.back();
  }

  // Reads a snapshot back as the restore would, byte for byte.
  Result<Model> read_back(const CommitRecord& commit, const std::string& name) {
    return read_back(commit, name, store);
  }
  Result<Model> read_back(const CommitRecord& commit, const std::string& name, Store& from) {
    TRY_ASSIGN(auto reader, SnapshotReader::open(from, keys, vault->codec(), name, commit));
    if (++reads % 2 == 0) reader->expect_everything();  // makes no difference to what comes back
    Model model;
    SnapshotReader::Context context;
    for (const TreeNode& node : reader->tree().nodes) {
      if (node.entry.type != EntryType::kFile) continue;
      ModelFile file{.content = node.entry.content, .bytes = {}, .inode = 0};
      if (node.entry.content == ContentKind::kPages) {
        TRY_ASSIGN(const FilePages* pages, reader->pages_of(node.entry.path));
        file.bytes.resize(node.entry.size);
        TRY(reader->read_pages(*pages, 0, file.bytes, context));
        file.inode = pages->inode;
      } else {
        for (const Extent& extent : node.extents) TRY(reader->read_extent(extent, context, file.bytes));
      }
      model[node.entry.path] = std::move(file);
    }
    return model;
  }

  // Every byte of every snapshot that was made, as a restore reads them: through the vault, which finds
  // incarnations. The error says which file is not so.
  Result<void> all_read_back() {
    for (const MadeSnapshot& made : snapshots) {
      TRY_ASSIGN(const Model back, read_back(made.commit, made.name, vault->store()));
      for (const auto& [path, file] : back) {
        const auto wanted = made.model.find(path);
        if (wanted != made.model.end() && !equal(file.bytes, wanted->second.bytes))
          return fail(ErrorKind::kDamaged, path + " of " + made.name + " differs");
      }
    }
    return {};
  }
};

}  // namespace kuramori::test
