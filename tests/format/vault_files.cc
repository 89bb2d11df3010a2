#include "vault_files.h"

#include <fmt/core.h>

#include "os/file.h"
#include "vault/wal_object.h"

namespace kuramori::test {
namespace {

constexpr uint64_t kSegmentBytes = 1 << 24;

// Changes `model` as a database does in an hour.
void live_on(Model& model, SeededRandom& random, uint32_t scale) {
  for (int f = 0; f < 3; ++f) {
    ModelFile& file = model[fmt::format("base/5/{}", 16384 + f)];
    file.content = ContentKind::kPages;
    file.inode = 100 + static_cast<uint64_t>(f);
    if (f == 2 && !file.bytes.empty() && random.below(2) == 0) {
      file.bytes.clear();  // truncated and made anew
      file.inode += random.below(1000) + 1;
    }
    for (uint64_t n = random.below(3 * scale) + 1; n > 0; --n) {
      Bytes page = random.below(5) == 0 ? Bytes(kPageBytes, 0) : postgres_page(random);
      uint64_t pages = file.bytes.size() / kPageBytes;
      if (pages == 0 || random.below(2) == 0) {
        append(file.bytes, page);
      } else {
        std::copy(page.begin(), page.end(),
                  file.bytes.begin() + static_cast<ptrdiff_t>(random.below(pages) * kPageBytes));
      }
    }
  }
  if (model["base/5/16384"].bytes.size() > 4 * kPageBytes) model["base/5/16384"].bytes.resize(3 * kPageBytes);
  model["PG_VERSION"] = {.bytes = to_bytes(as_bytes("17\n")), .inode = 1};
  model["global/pg_control"] = {.bytes = random.bytes(512), .inode = 2};
  model["empty"] = {.bytes = {}, .inode = 3};
  model["base/5/noise"] = {.bytes = random.bytes(200 + random.below(1000) * scale * scale), .inode = 4};
}

}  // namespace

// Freshly loaded or worn: rows out of order, gaps where others were, index entries that lead to many rows,
// and now and then two pointers to one place.
Bytes postgres_page(SeededRandom& random) {
  Bytes page(kPageBytes, 0);
  const bool heap = random.below(3) != 0, worn = random.below(2) == 0;
  const uint16_t special = heap ? 8192 : 8176;
  const uint32_t count = static_cast<uint32_t>(random.below(60)) + 1;
  const uint32_t shortest = heap ? 25 : random.below(2) == 0 ? 16 : 18;
  uint32_t at = special;
  auto put = [&](uint32_t i, uint32_t pointer) { store_le<uint32_t>(page.data() + 24 + 4 * i, pointer); };
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t rows =
        !heap && shortest > 16 && random.below(4) == 0 ? static_cast<uint32_t>(random.below(12)) : 0;
    const uint32_t length =
        (shortest == 16 ? 16 : shortest + static_cast<uint32_t>(random.below(24))) + 6 * rows;
    at -= (length + 7) / 8 * 8;
    uint8_t* tuple = page.data() + at;
    store_le<uint64_t>(tuple + 8, i * 3 + random.below(2));
    store_le<uint16_t>(tuple + 2, 7);
    store_le<uint16_t>(tuple + (heap ? 16 : 4), static_cast<uint16_t>(i + 1));
    if (heap) random.fill(MutableByteView(tuple + 24, length - 24));
    if (rows > 0) {
      store_le<uint16_t>(tuple + 2, static_cast<uint16_t>(length - 6 * rows));
      store_le<uint16_t>(tuple + 4, static_cast<uint16_t>(0x2000 | rows));
      store_le<uint16_t>(tuple + 6, 0x2000);
      for (uint32_t row = 0; row < rows; ++row)
        store_le<uint16_t>(tuple + length - 6 * (rows - row) + 4, static_cast<uint16_t>(i + row * 5));
    }
    put(i, at | 1u << 15 | length << 17);
    if (worn && random.below(8) == 0) at -= 8 * static_cast<uint32_t>(random.below(4));
    if (worn && i > 0) {
      const uint32_t other = static_cast<uint32_t>(random.below(i)),
                     pointer = load_le<uint32_t>(page.data() + 24 + 4 * other);
      if (random.below(16) != 0) put(other, load_le<uint32_t>(page.data() + 24 + 4 * i));
      put(i, pointer);
    }
  }
  store_le<uint64_t>(page.data(), random.below(1u << 30));  // LSN
  store_le<uint16_t>(page.data() + 12, static_cast<uint16_t>(24 + 4 * count));
  store_le<uint16_t>(page.data() + 14, static_cast<uint16_t>(at));
  store_le<uint16_t>(page.data() + 16, special);
  store_le<uint16_t>(page.data() + 18, 0x2004);
  return page;
}

std::unique_ptr<SampleVault> make_sample(uint64_t seed, int snapshots, uint32_t scale) {
  auto sample = std::make_unique<SampleVault>(seed);
  TestVault& t = sample->vault;
  Model model;
  for (int i = 0; i < snapshots; ++i) {
    live_on(model, t.random, scale);
    CHECK(t.snapshot(model, i != snapshots / 2 || scale == 1).has_value());
    WalHeader header{.system_id = 7300000000000000001,
                     .timeline = 1,
                     .from = static_cast<uint64_t>(i + 1) * kSegmentBytes,
                     .to = static_cast<uint64_t>(i + 2) * kSegmentBytes,
                     .segment_bytes = kSegmentBytes,
                     .file = fmt::format("0000000100000000{:08X}", i + 1)};
    Bytes content = t.random.bytes(200);
    content.resize(scale == 1 ? 5000 : 3'000'000,
                   static_cast<uint8_t>(i));  // several frames, or a small stand-in
    CHECK(put_wal(*t.vault, t.resource.id, names::WalKind::kSegment, header, content).has_value());
    sample->archive.push_back({1, header.file, content});
  }
  WalHeader history{.system_id = 7300000000000000001, .timeline = 2, .file = "00000002.history"};
  Bytes content = to_bytes(as_bytes("1\t0/2000060\tno recovery target specified\n"));
  CHECK(put_wal(*t.vault, t.resource.id, names::WalKind::kHistory, history, content).has_value());
  sample->archive.push_back({2, history.file, content});
  return sample;
}

Result<void> write_objects(const OpenStore& store, const std::string& folder) {
  for (const auto& [name, bytes] : store.objects) {
    std::string path = join_path(folder, name);
    TRY(make_folders(folder_of(path)));
    TRY(write_file_durably(path, bytes, 0644));
  }
  return {};
}

Result<void> read_objects(const std::string& folder, OpenStore& store) {
  auto walk = [&](auto& self, const std::string& prefix) -> Result<void> {
    TRY_ASSIGN(auto entries, list_folder(prefix.empty() ? folder : join_path(folder, prefix)));
    for (const FolderEntry& entry : entries) {
      std::string name = prefix.empty() ? entry.name : prefix + "/" + entry.name;
      if (entry.type == FileType::kFolder) {
        TRY(self(self, name));
      } else {
        TRY_ASSIGN(store.objects[name], read_file(join_path(folder, name)));
      }
    }
    return {};
  };
  return walk(walk, "");
}

}  // namespace kuramori::test
