#include "vault/pack.h"

#include <gtest/gtest.h>

#include <set>

#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::OpenStore;
using test::SeededRandom;
using test::StandingClock;

struct PackTest : testing::Test {
  OpenStore store;
  SeededRandom random{11};
  StandingClock clock;
  KeyBundle keys = KeyBundle::new_owner("test", random);
  ResourceId scope = random.id<ResourceId>();
  SessionId sid = random.id<SessionId>();
  FrameWorkshop workshop{kZstdLevel};
  std::string name = names::pack(sid, 0);

  struct Made {
    LivePack live;
    std::vector<Bytes> frames;
  };
  Made make(const std::string& at, std::vector<Bytes> frames, FrameType type = FrameType::kBytes,
            const WalHeader* wal = nullptr) {
    auto pack = PackWriter::create(store, keys, random, clock, at, scope);
    EXPECT_TRUE(pack);
    for (const Bytes& frame : frames) EXPECT_TRUE((*pack)->add(type, frame, workshop));
    auto live = (*pack)->finish(wal);
    EXPECT_TRUE(live);
    return {*live, std::move(frames)};
  }
  std::vector<Bytes> some_frames() {
    return {Bytes(5000, 'a'), random.bytes(300), Bytes{}, to_bytes(as_bytes("a small one")),
            Bytes(70'000, 'z')};
  }
  Result<std::vector<Bytes>> read(const std::string& at, const LivePack* expected) {
    TRY_ASSIGN(auto pack, PackReader::open(store, keys, at, expected));
    std::vector<Bytes> frames;
    for (uint32_t i = 0; i < pack->frames().size(); ++i)
      TRY(pack->read(i, 1, workshop, frames.emplace_back()));
    return frames;
  }
  Bytes& object(const std::string& at) { return store.objects.find(at)->second; }
  WalHeader wal_header() {
    return {.system_id = 7,
            .timeline = 1,
            .from = 0x1000000,
            .to = 0x2000000,
            .segment_bytes = 0x1000000,
            .file = "000000010000000000000001",
            .plain_bytes = 11,
            .digest = {},
            .stored_ns = 5};
  }
};

TEST_F(PackTest, gives_back_every_frame_alone_and_together) {
  Made made = make(name, some_frames());
  EXPECT_EQ(made.live.size, object(name).size());
  auto frames = read(name, &made.live);
  ASSERT_TRUE(frames) << frames.error().what;
  EXPECT_EQ(*frames, made.frames);
  auto pack = *PackReader::open(store, keys, name, &made.live);
  Bytes all, wanted;
  ASSERT_TRUE(pack->read(0, 5, workshop, all));
  for (const Bytes& frame : made.frames) append(wanted, frame);
  EXPECT_EQ(all, wanted);
  EXPECT_FALSE(pack->read(5, 1, workshop, all));
  EXPECT_FALSE(pack->read(4, 2, workshop, all));
  EXPECT_FALSE(pack->read(UINT32_MAX, 2, workshop, all));
  EXPECT_TRUE(verify_pack_bytes(store, name, &made.live));
  EXPECT_TRUE(verify_pack_bytes(store, name, nullptr));
}

TEST_F(PackTest, pages_come_back_exactly) {
  std::vector<Bytes> frames;
  for (int i = 0; i < 20; ++i) {
    Bytes frame;
    for (uint64_t n = random.below(kPagesPerFrame) + 1; n > 0; --n) append(frame, test::random_page(random));
    frames.push_back(frame);
  }
  Made made = make(name, frames, FrameType::kPages);
  EXPECT_EQ(*read(name, &made.live), frames);
}

TEST_F(PackTest, what_does_not_shrink_is_stored_raw) {
  Made made = make(name, {random.bytes(10'000), Bytes(10'000, 'x')});
  auto pack = *PackReader::open(store, keys, name, &made.live);
  EXPECT_EQ(pack->frames()[0].codec, FrameCodec::kStored);
  EXPECT_EQ(pack->frames()[0].stored_bytes, 10'000 + kGcmTagBytes);
  EXPECT_EQ(pack->frames()[1].codec, FrameCodec::kZstd);
}

// Every bit of a pack is under a checksum that needs no key.
TEST_F(PackTest, every_flipped_bit_is_named_by_the_keyless_check_and_never_read_wrongly) {
  Made made = make(name, {random.bytes(100), Bytes(300, 'b')});
  Bytes whole = object(name);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    object(name)[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_FALSE(verify_pack_bytes(store, name, &made.live)) << "bit " << bit;
    EXPECT_FALSE(verify_pack_bytes(store, name, nullptr)) << "bit " << bit;
    auto frames = read(name, &made.live);
    if (frames) {
      EXPECT_EQ(*frames, made.frames) << "bit " << bit;
    }
    object(name) = whole;
  }
}

TEST_F(PackTest, every_truncation_is_refused) {
  Made made = make(name, {random.bytes(100), Bytes(300, 'b')});
  Bytes whole = object(name);
  for (size_t size = 0; size < whole.size(); ++size) {
    object(name) = to_bytes(ByteView(whole).first(size));
    EXPECT_FALSE(read(name, &made.live)) << size;
    EXPECT_FALSE(verify_pack_bytes(store, name, nullptr)) << size;
  }
}

TEST_F(PackTest, one_damaged_trailer_copy_leaves_it_readable_two_do_not) {
  Made made = make(name, some_frames());
  size_t end = object(name).size() - 24;
  object(name)[end - 40] ^= 1;  // the copy at the end
  EXPECT_EQ(*read(name, &made.live), made.frames);
  EXPECT_FALSE(verify_pack_bytes(store, name, &made.live)) << "harmless, but named";
  object(name)[end - made.live.trailer_bytes - 40] ^= 1;
  EXPECT_FALSE(read(name, &made.live));
}

// V17: sealed frames say where they belong.
TEST_F(PackTest, swapped_frames_are_refused) {
  Made made = make(name, {random.bytes(500), random.bytes(500)});
  auto entries = (*PackReader::open(store, keys, name, &made.live))->frames();
  Bytes& bytes = object(name);
  std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>(entries[0].offset),
                   bytes.begin() + static_cast<ptrdiff_t>(entries[1].offset),
                   bytes.begin() + static_cast<ptrdiff_t>(entries[1].offset));
  EXPECT_FALSE(read(name, &made.live));

  std::string other = names::pack(sid, 1);
  Made second = make(other, {random.bytes(500), random.bytes(500)});
  auto theirs = (*PackReader::open(store, keys, other, &second.live))->frames();
  Bytes third = object(other);
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(entries[0].offset), 516,
              third.begin() + static_cast<ptrdiff_t>(theirs[0].offset));
  object(other) = third;
  EXPECT_FALSE(read(other, &second.live));
}

TEST_F(PackTest, a_pack_put_in_anothers_place_is_refused) {
  Made first = make(name, {random.bytes(500)});
  std::string other = names::pack(sid, 1);
  Made second = make(other, {random.bytes(500)});
  std::swap(object(name), object(other));
  EXPECT_FALSE(read(name, &first.live));
  EXPECT_FALSE(verify_pack_bytes(store, name, nullptr)) << "its head tells its name";
  // V16, V17: the digest a commit binds is compared even where everything else fits.
  std::swap(object(name), object(other));
  LivePack wrong = first.live;
  wrong.trailer_digest.raw[0] ^= 1;
  EXPECT_FALSE(read(name, &wrong));
  EXPECT_FALSE(verify_pack_bytes(store, name, &wrong));
}

// Anyone may seal a box to the reader. Head (with a key of the forger's own) and frames are replaced, the
// trailer that the commit binds stays: nothing but the directory's digest of the head stands against it.
TEST_F(PackTest, frames_under_a_forgers_key_are_refused) {
  Made made = make(name, {random.bytes(500)});
  Bytes real = object(name);
  store.objects.erase(name);
  make(name, {random.bytes(500)});  // same name, same sizes, another key
  Bytes forged = object(name);
  ASSERT_EQ(forged.size(), real.size());
  size_t tail = 2 * made.live.trailer_bytes + 24;
  std::copy(real.end() - static_cast<ptrdiff_t>(tail), real.end(),
            forged.end() - static_cast<ptrdiff_t>(tail));
  object(name) = forged;
  auto frames = read(name, &made.live);
  ASSERT_FALSE(frames);
  EXPECT_NE(frames.error().what.find("head"), std::string::npos) << frames.error().what;
}

TEST_F(PackTest, a_key_sealed_for_another_pack_is_refused) {
  Made first = make(name, {random.bytes(500)});
  std::string other = names::pack(sid, 1);
  make(other, {random.bytes(500)});
  // Take the other's body (commitment and box), mend the head's checksum.
  Bytes& mine = object(name);
  size_t head_size = (*PackReader::open(store, keys, name, &first.live))->frames()[0].offset;
  Envelope theirs = *parse_envelope(other, ByteView(object(other)), false);
  size_t body_at = head_size - Digest::kBytes - theirs.body.size();
  std::copy(theirs.body.begin(), theirs.body.end(), mine.begin() + static_cast<ptrdiff_t>(body_at));
  Digest check = sha256(ByteView(mine).first(head_size - Digest::kBytes));
  std::copy(check.raw.begin(), check.raw.end(),
            mine.begin() + static_cast<ptrdiff_t>(head_size - Digest::kBytes));
  EXPECT_FALSE(read(name, &first.live));
}

TEST_F(PackTest, an_unbound_unsigned_pack_is_no_data) {
  make(name, {random.bytes(500)});
  EXPECT_FALSE(read(name, nullptr));
}

TEST_F(PackTest, wal_speaks_for_itself_by_its_signature) {
  WalHeader header = wal_header();
  std::string wal =
      names::wal({scope, 1, header.from, header.to, names::WalKind::kSegment, "0123456789abcdef"});
  Made made = make(wal, {to_bytes(as_bytes("hello world"))}, FrameType::kWal, &header);
  EXPECT_EQ(*read(wal, nullptr), made.frames);
  auto back = read_wal_header(store, keys, wal);
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->system_id == 7 && back->timeline == 1 && back->from == header.from &&
              back->to == header.to && back->file == header.file && back->plain_bytes == 11 &&
              back->stored_ns == 5 && back->segment_bytes == 0x1000000);
  // The same by another signer who holds all keys but the owner's own.
  KeyBundle thief = KeyBundle::new_owner("thief", random);
  thief.family = keys.family;
  thief.structure = keys.structure.clone();
  thief.reader_public = keys.reader_public;
  store.objects.clear();
  auto pack = *PackWriter::create(store, thief, random, clock, wal, scope);
  ASSERT_TRUE(pack->add(FrameType::kWal, as_bytes("hello world"), workshop));
  ASSERT_TRUE(pack->finish(&header));
  EXPECT_FALSE(read(wal, nullptr));
  EXPECT_FALSE(read_wal_header(store, keys, wal));
}

// Whoever takes the next snapshot holds no reader's key, yet must know what the WAL changed since.
TEST_F(PackTest, what_wal_changes_is_told_without_the_readers_key) {
  WalHeader header = wal_header();
  std::string wal =
      names::wal({scope, 1, header.from, header.to, names::WalKind::kSegment, "0123456789abcdef"});
  const Bytes hello = to_bytes(as_bytes("hello world"));
  const KeyBundle blind = KeyBundle::new_role(keys, Role::kWriter, "blind", random);
  auto told = [&](std::optional<Bytes> changes) {
    store.objects.clear();
    header.changes = std::move(changes);
    make(wal, {hello}, FrameType::kWal, &header);
    EXPECT_EQ(read(wal, nullptr)->size(), 1u);
    EXPECT_TRUE(verify_pack_bytes(store, wal, nullptr));
    return *read_wal_changes(store, blind, wal);
  };
  EXPECT_EQ(told(std::nullopt), std::nullopt);
  EXPECT_EQ(told(Bytes()), Bytes());
  const Bytes some = random.bytes(10000);
  EXPECT_EQ(told(some), some);
  // They lie sealed: nobody without the structure key sees which blocks are busy.
  const Bytes& object = store.objects.at(wal);
  EXPECT_EQ(std::search(object.begin(), object.end(), some.begin(), some.begin() + 16), object.end());
  EXPECT_EQ(told(Bytes(kWalChangesBytesMax + 1)), std::nullopt) << "as a reader takes what it cannot hold";
}

TEST_F(PackTest, only_the_reader_key_opens_content) {
  Made made = make(name, some_frames());
  KeyBundle writer;
  writer.role = Role::kWriter;
  writer.family = keys.family;
  writer.structure = keys.structure.clone();
  auto refused = PackReader::open(store, writer, name, &made.live);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  KeyBundle other = KeyBundle::new_owner("other", random);
  EXPECT_FALSE(PackReader::open(store, other, name, &made.live));
}

// V9, V10: a bit flips in memory, or a codec errs, at each stage: noticed before anything refers to the
// frame, and nothing comes to stand in the store.
TEST_F(PackTest, a_fault_at_any_stage_stops_the_pack_before_it_exists) {
  for (int stage = 0; stage < 3; ++stage) {
    for (FrameType type : {FrameType::kPages, FrameType::kBytes}) {
      if (type == FrameType::kBytes && stage == 0) continue;  // nothing is filtered
      for (int bit = 0; bit < 40; ++bit) {
        PipelineFaults faults;
        auto flip = [&](MutableByteView bytes) {
          bytes[random.below(bytes.size())] ^= static_cast<uint8_t>(1u << random.below(8));
        };
        (stage == 0 ? faults.after_filter : stage == 1 ? faults.after_compress : faults.after_seal) = flip;
        Bytes page = random.bytes(64);
        page.resize(kPageBytes * 2, 'p');
        {
          auto pack = *PackWriter::create(store, keys, random, clock, name, scope);
          ASSERT_TRUE(pack->add(type, page, workshop));
          workshop.faults = &faults;
          auto added = pack->add(type, page, workshop);
          workshop.faults = nullptr;
          // zstd's header has bits that mean nothing (a flip there decompresses the same): then the frame is
          // right.
          if (!added) {
            EXPECT_EQ(added.error().kind, ErrorKind::kDamaged);
            // V19: dead for good — the ordinal is never sealed a second time.
            EXPECT_DEATH((void)pack->add(type, page, workshop), "dead");
            EXPECT_DEATH((void)pack->finish(), "dead");
            bit += 10;  // the deaths are slow
          } else {
            EXPECT_EQ(stage, 1);
          }
        }
        EXPECT_TRUE(store.objects.empty());
      }
    }
  }
}

// V19: a cloned machine repeats its random source and its clock; two packs of it still have different keys,
// for their names differ. (Session ids are drawn anew: two clones that draw the same id collide at the
// session's put.)
TEST_F(PackTest, the_same_random_state_twice_gives_two_keys) {
  std::set<Bytes> commitments, sealed;
  for (uint32_t n = 0; n < 2; ++n) {
    SeededRandom again(77);
    std::string at = names::pack(sid, n);
    auto pack = *PackWriter::create(store, keys, again, clock, at, scope);
    ASSERT_TRUE(pack->add(FrameType::kBytes, as_bytes("the same plain bytes"), workshop));
    ASSERT_TRUE(pack->finish());
    Envelope head = *parse_envelope(at, object(at), false);
    commitments.insert(to_bytes(head.body.first(Digest::kBytes)));
    sealed.insert(to_bytes(ByteView(object(at)).subspan(head.size, 36)));
  }
  EXPECT_EQ(commitments.size(), 2u);
  EXPECT_EQ(sealed.size(), 2u);
}

TEST_F(PackTest, an_unfinished_pack_leaves_nothing) {
  {
    auto pack = *PackWriter::create(store, keys, random, clock, name, scope);
    ASSERT_TRUE(pack->add(FrameType::kBytes, Bytes(1000, 'x'), workshop));
  }
  EXPECT_TRUE(store.objects.empty());
}

TEST_F(PackTest, a_name_that_is_taken_is_not_overwritten) {
  make(name, {Bytes(10, 'a')});
  Bytes before = object(name);
  auto pack = *PackWriter::create(store, keys, random, clock, name, scope);
  ASSERT_TRUE(pack->add(FrameType::kBytes, Bytes(10, 'b'), workshop));
  auto done = pack->finish();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kExists);
  EXPECT_EQ(object(name), before);
}

TEST_F(PackTest, many_stripes_are_each_checked) {
  std::vector<Bytes> frames;
  for (int i = 0; i < 4; ++i) frames.push_back(random.bytes(1 << 20));
  Made made = make(name, frames);
  EXPECT_TRUE(verify_pack_bytes(store, name, &made.live));
  for (size_t at : {size_t{500}, size_t{1} << 20, (size_t{3} << 20) + 17, (size_t{4} << 20) + 50}) {
    object(name)[at] ^= 4;
    EXPECT_FALSE(verify_pack_bytes(store, name, &made.live)) << at;
    object(name)[at] ^= 4;
  }
}

}  // namespace
}  // namespace kuramori
