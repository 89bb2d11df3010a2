// How long one random 8 KiB page takes out of a cached pack: what a page fault of a mounted snapshot will
// wait for.
//
//   random_page [--json] [--file RELATION_FILE] [FOLDER]
//
// Puts a snapshot of one file into a local vault below FOLDER, then reads single pages of it through
// SnapshotReader, in random order, each with the frame's decryption, decompression and checks. The working
// memory of the reader caches frames; reads are spread so widely that hardly any is met twice. Without --file
// the pages are made up: rows of words and numbers, laid out as in a table.
#include <unistd.h>

#include <cstdio>

#include "os/file.h"
#include "store/local/local_store.h"
#include "vault/session.h"
#include "vault/snapshot_reader.h"
#include "vault/vault.h"

namespace kuramori {
namespace {

constexpr uint32_t kFilePages = 65'536;  // 512 MiB
constexpr uint32_t kReads = 20'000;
constexpr uint32_t kWarmUpReads = 2'000;
constexpr uint32_t kPagesPerAppend = 128;

// The same numbers every time.
class Sequence {
 public:
  explicit Sequence(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t end) { return static_cast<uint32_t>(next() % end); }

 private:
  uint64_t state_;
};

void put16(Bytes& page, size_t at, uint32_t value) {
  page[at] = static_cast<uint8_t>(value);
  page[at + 1] = static_cast<uint8_t>(value >> 8);
}

// A table's page: header, line pointers from the front, rows from the back.
Bytes make_page(uint32_t number) {
  static const std::vector<std::string> words = [] {
    Sequence random(7);
    std::vector<std::string> made(2048);
    for (std::string& word : made) {
      for (uint32_t n = 2 + random.below(8); n > 0; --n)
        word += "etaoinshrdlucmfwypvbgkjqxz"[random.below(26) * random.below(26) / 26];
    }
    return made;
  }();
  Sequence random(number + 1);
  Bytes page(kPageBytes, 0);
  size_t lower = 24, upper = kPageBytes;
  for (uint32_t row = 1;; ++row) {
    std::string text = fmt::format("{:08}{:016x}", number * 64 + row, random.next());
    for (uint32_t n = 8 + random.below(16); n > 0; --n)
      text += words[random.below(2048) * random.below(2048) / 2048] + " ";
    size_t bytes = (24 + text.size() + 7) / 8 * 8;
    if (lower + 4 + bytes > upper) break;
    upper -= bytes;
    put16(page, lower, static_cast<uint32_t>(upper) | 1u << 15);
    put16(page, lower + 2, static_cast<uint32_t>(24 + text.size()) << 1);
    lower += 4;
    put16(page, upper, 700 + number / 1000);  // xmin
    put16(page, upper + 12, number >> 16);    // ctid
    put16(page, upper + 14, number & 0xffff);
    put16(page, upper + 16, row);
    put16(page, upper + 18, 0x0902);
    std::memcpy(page.data() + upper + 24, text.data(), text.size());
  }
  put16(page, 12, static_cast<uint32_t>(lower));
  put16(page, 14, static_cast<uint32_t>(upper));
  put16(page, 16, kPageBytes);
  put16(page, 18, kPageBytes | 4);
  return page;
}

struct Choice {
  bool json = false;
  std::string file, folder;
};

Result<Bytes> next_pages(const Choice& choice, std::optional<Fd>& file, uint32_t first) {
  Bytes pages;
  if (!file) {
    for (uint32_t i = 0; i < kPagesPerAppend; ++i) append(pages, make_page(first + i));
    return pages;
  }
  pages.resize(size_t{kPagesPerAppend} * kPageBytes);
  ssize_t got = pread(file->get(), pages.data(), pages.size(), static_cast<off_t>(first) * kPageBytes);
  if (got < 0) return system_error("cannot read " + choice.file, errno);
  pages.resize(static_cast<size_t>(got) / kPageBytes * kPageBytes);
  return pages;
}

Result<CommittedSnapshot> make_snapshot(Vault& vault, const Choice& choice, uint32_t& page_count) {
  Protocol protocol{.store = vault.store(),
                    .codec = vault.codec(),
                    .clock = vault.clock(),
                    .random = vault.random(),
                    .self = signer_id(vault.keys().signing->verify_key()),
                    .may_delete = [](const SignerId&) { return true; }};
  TRY_ASSIGN(ResourceRecord resource, vault.ensure_resource("bench", "postgres", "1"));
  TRY_ASSIGN(auto session, WriterSession::open(protocol, {.resource = resource.id,
                                                          .snapshot = vault.random().id<SnapshotId>()}));
  ContentWriter writer(vault.store(), vault.keys(), vault.random(), vault.clock(), session->id(),
                       resource.id);
  auto lane = writer.lane();
  std::optional<Fd> file;
  if (!choice.file.empty()) {
    TRY_ASSIGN(file, open_file(choice.file));
  }
  page_count = 0;
  while (page_count < kFilePages) {
    TRY_ASSIGN(Bytes pages, next_pages(choice, file, page_count));
    if (pages.empty()) break;
    TRY(lane->add_pages(0, page_count, pages));
    page_count += static_cast<uint32_t>(pages.size() / kPageBytes);
  }
  TRY(lane->finish());
  CapturedFile captured{.entry = {.path = "table",
                                  .content = ContentKind::kPages,
                                  .mode = 0600,
                                  .size = uint64_t{page_count} * kPageBytes},
                        .index = 0,
                        .inode = 1};
  CommitRecord commit{.kind = "postgres"};
  TRY_ASSIGN(LiveRecord live, writer.finish({captured}, nullptr, commit));
  return session->commit(std::move(commit), live);
}

// What was just written went past the page cache: without this, most first reads of a place wait for the
// disk.
Result<void> bring_into_page_cache(Store& store) {
  return for_each_object(store, names::kPacks, [&](const ObjectInfo& object) -> Result<void> {
    TRY(store.get(object.name));
    return {};
  });
}

Result<void> measure(const Choice& choice) {
  std::string folder = choice.folder + "/random_page.vault";
  TRY_ASSIGN(auto store, create_local_store(folder));
  TRY_ASSIGN(auto vault, Vault::init(std::move(store), KeyBundle::new_owner("bench", system_random()),
                                     system_clock(), system_random()));
  uint32_t page_count = 0;
  TRY_ASSIGN(CommittedSnapshot snapshot, make_snapshot(*vault, choice, page_count));
  TRY_ASSIGN(auto reader, SnapshotReader::open(vault->store(), vault->keys(), vault->codec(), snapshot.name,
                                               snapshot.record));
  TRY_ASSIGN(const FilePages* pages, reader->pages_of("table"));

  TRY(bring_into_page_cache(vault->store()));
  Sequence random(11);
  SnapshotReader::Context context;
  Bytes page(kPageBytes);
  std::vector<double> microseconds;
  for (uint32_t i = 0; i < kWarmUpReads + kReads; ++i) {
    uint32_t number = random.below(page_count);
    Duration begin = system_clock().steady();
    TRY(reader->read_pages(*pages, number, page, context));
    double spent = std::chrono::duration<double, std::micro>(system_clock().steady() - begin).count();
    if (i >= kWarmUpReads) microseconds.push_back(spent);
    if (choice.file.empty() && i % 997 == 0 && page != make_page(number))
      return fail(ErrorKind::kDamaged, fmt::format("page {} came back changed", number));
  }
  std::sort(microseconds.begin(), microseconds.end());
  auto at = [&](double share) { return microseconds[static_cast<size_t>(share * (kReads - 1))]; };
  double stored =
      static_cast<double>(reader->stored_bytes()) / (static_cast<double>(page_count) * kPageBytes);
  if (choice.json) {
    fmt::print(
        "{{\"reads\":{},\"pages\":{},\"stored_share\":{:.3f},\"p50_us\":{:.1f},\"p95_us\":{:.1f},\"p99_us\":{"
        ":.1f}}}\n",
        kReads, page_count, stored, at(0.50), at(0.95), at(0.99));
  } else {
    fmt::print(
        "{} reads of one of {} pages, stored at {:.0f} %: p50 {:.1f} µs, p95 {:.1f} µs, p99 {:.1f} µs\n",
        kReads, page_count, stored * 100, at(0.50), at(0.95), at(0.99));
  }
  return {};
}

}  // namespace
}  // namespace kuramori

int main(int argc, char** argv) {
  kuramori::Choice choice{.folder = {}};
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--json")
      choice.json = true;
    else if (word == "--file" && i + 1 < argc)
      choice.file = argv[++i];
    else
      choice.folder = word;
  }
  char scratch[] = "/tmp/random_page.XXXXXX";
  bool own = choice.folder.empty();
  if (own) choice.folder = mkdtemp(scratch);
  auto done = kuramori::measure(choice);
  if (own) (void)kuramori::remove_tree(choice.folder);
  if (!done) {
    std::fprintf(stderr, "random_page: %s %s\n", done.error().what.c_str(), done.error().why.c_str());
    return kuramori::exit_code(done.error().kind);
  }
}
