#include "vault/wal_object.h"

#include <fmt/core.h>

#include "crypto/digest.h"

namespace kuramori {
namespace {

Result<WalListing> list_under(Store& store, const std::string& prefix) {
  WalListing listing;
  TRY(for_each_object(store, prefix, [&](const ObjectInfo& object) -> Result<void> {
    if (auto name = names::parse_wal(object.name)) {
      listing.objects.push_back({*name, object.name, object.size});
    } else {
      listing.unknown.push_back(object.name);
    }
    return {};
  }));
  return listing;
}

// What claims the same range and kind as `name`.
Result<std::vector<WalObject>> rivals_of(Store& store, const names::WalName& name) {
  std::string prefix =
      fmt::format("{}{:016x}-{:016x}.", names::wal_prefix(name.resource, name.timeline), name.from, name.to);
  TRY_ASSIGN(WalListing listing, list_under(store, prefix));
  std::erase_if(listing.objects, [&](const WalObject& other) { return other.name.kind != name.kind; });
  return listing.objects;
}

// WAL repeats itself in short pieces — a record's header, a relation's number, a key and its neighbour — and
// a small table of them stays in the processor's nearest cache: 3 to 13 % smaller than level 1 as it is, no
// slower.
constexpr int kMatchBytesMin = 5, kHashBits = 13;
// What no piece matches is mostly keys, numbers and hashes, of which Huffman codes save a twentieth for a
// fifth of the time; of text they save a third. So a sample says which it is, every few frames.
constexpr size_t kSampleBytes = 128u << 10;
constexpr size_t kFramesASample = 8;
constexpr double kPlainLiteralsMost = 1.12;  // of a sample's size with Huffman codes; text has 1.46

bool wants_plain_literals(ByteView content, Compressor& compressor) {
  const ByteView sample = content.first(std::min(content.size(), kSampleBytes));
  auto size_with = [&](bool plain) {
    compressor.tune({.match_bytes_min = kMatchBytesMin, .hash_bits = kHashBits, .plain_literals = plain});
    Bytes out;
    return compressor.compress(sample, out);
  };
  const size_t coded = size_with(false), plain = size_with(true);
  return static_cast<double>(plain) <= static_cast<double>(coded) * kPlainLiteralsMost;
}

// Prepares the frames of one file on several processors; take() hands them out in order.
class FramePreparer {
 public:
  FramePreparer(ByteView content, size_t helpers_max)
      : content_(content),
        frames_((content.size() + kWalFrameBytes - 1) / kWalFrameBytes),
        samples_(std::make_unique<Sample[]>(frames_.size() / kFramesASample + 1)) {
    size_t others = std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()) - 1, helpers_max);
    for (size_t i = 0; i < std::min(others, frames_.size()); ++i) {
      threads_.emplace_back([this](std::stop_token stop) {
        FrameWorkshop workshop(kZstdLevel);
        for (size_t frame = next_++; frame < frames_.size(); frame = next_++) {
          if (!wait_for(frame, stop)) return;
          prepare(frame, workshop);
        }
      });
    }
  }
  size_t count() const { return frames_.size(); }
  // The first `bytes` of the file are there.
  void arrived(size_t bytes) {
    std::lock_guard lock(mutex_);
    arrived_ = bytes;
    ready_.notify_all();
  }

  bool is_ready(size_t frame) {
    std::lock_guard lock(mutex_);
    return frames_[frame].has_value();
  }

  // Once everything has arrived. Helps as long as the frame that is asked for is not ready.
  Result<PreparedFrame> take(size_t frame, FrameWorkshop& workshop) {
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        if (frames_[frame]) return std::move(*frames_[frame]);
      }
      if (size_t next = next_++; next < frames_.size()) {
        prepare(next, workshop);
        continue;
      }
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [&] { return frames_[frame].has_value(); });
    }
  }

 private:
  size_t end_of(size_t frame) const {
    return std::min(content_.size(), (frame + 1) * size_t{kWalFrameBytes});
  }
  // Until the frame has arrived; false: nobody wants it any more.
  bool wait_for(size_t frame, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    return ready_.wait(lock, stop, [&] { return arrived_ >= end_of(frame); });
  }
  void prepare(size_t frame, FrameWorkshop& workshop) {
    size_t at = frame * size_t{kWalFrameBytes};
    Sample& sample = samples_[frame / kFramesASample];
    std::call_once(sample.taken, [&] {
      const size_t from = frame / kFramesASample * kFramesASample;  // it came before this one
      sample.plain_literals = wants_plain_literals(
          content_.subspan(from * kWalFrameBytes, end_of(from) - from * kWalFrameBytes), workshop.compressor);
    });
    workshop.compressor.tune(
        {.match_bytes_min = kMatchBytesMin, .hash_bits = kHashBits, .plain_literals = sample.plain_literals});
    auto prepared = prepare_frame(FrameType::kWal, content_.subspan(at, end_of(frame) - at), workshop);
    std::lock_guard lock(mutex_);
    frames_[frame] = std::move(prepared);
    ready_.notify_all();
  }

  ByteView content_;
  std::vector<std::optional<Result<PreparedFrame>>> frames_;  // guarded by mutex_
  std::atomic<size_t> next_{0};
  struct Sample {
    std::once_flag taken;
    bool plain_literals = false;  // once it was taken
  };
  std::unique_ptr<Sample[]> samples_;
  size_t arrived_ = 0;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable_any ready_;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

Error split_brain(const WalHeader& header, const std::string& theirs) {
  return fail(ErrorKind::kRefused, fmt::format("{} is already archived with other content", header.file),
              fmt::format("two servers write timeline {:X} of this resource; the archive holds {}",
                          header.timeline, theirs),
              "stop the one that should not run; never reuse this archive for a restored copy (its timeline "
              "differs)");
}

}  // namespace

Result<WalListing> list_wal(Store& store, const ResourceId& resource) {
  return list_under(store, names::wal_prefix(resource));
}
Result<WalListing> list_wal(Store& store, const ResourceId& resource, uint32_t timeline) {
  return list_under(store, names::wal_prefix(resource, timeline));
}

bool is_stretch(names::WalKind kind) {
  return kind == names::WalKind::kSegment || kind == names::WalKind::kPart;
}

uint64_t reaches(const WalSpan& span, const std::vector<WalObject>& objects) {
  uint64_t at = span.from;
  // Sorted by their start, so one pass over them extends what is covered as far as it goes.
  for (const WalObject& object : objects) {
    if (is_stretch(object.name.kind) && object.name.from <= at) at = std::max(at, object.name.to);
  }
  return std::min(at, span.to);
}

Result<void> must_hold_wal(Store& store, const ResourceId& resource, const WalSpan& span) {
  TRY_ASSIGN(const WalListing listing, list_wal(store, resource, span.timeline));
  const uint64_t at = reaches(span, listing.objects);
  if (at == span.to) return {};
  return fail(ErrorKind::kNotFound,
              fmt::format("its WAL from {:X}/{:X} on is not there", at >> 32, at & UINT32_MAX),
              "without it the snapshot cannot become consistent");
}

Result<WalPut> put_wal(Vault& vault, const ResourceId& resource, names::WalKind kind, WalHeader header,
                       ByteView content, const WalPutOptions& options) {
  if (content.size() > kWalFileBytesMax) {
    return fail(ErrorKind::kUsage,
                fmt::format("{} has {} bytes: no WAL file is that large", header.file, content.size()));
  }
  // Compressing takes most of the time and needs no name; the digest does, and the name needs the digest. So
  // other threads compress while this one digests.
  FramePreparer preparer(content, options.helpers_max);
  Secret key = wal_digest_key(vault.keys(), resource);
  header.plain_bytes = content.size();
  HmacSha256 digest(key.view());
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min<size_t>(content.size(), at + kWalFrameBytes);
    if (options.arrive) TRY(options.arrive(end));
    preparer.arrived(end);
    digest.add(content.subspan(at, end - at));
    at = end;
  }
  header.digest = digest.finish();
  header.stored_ns = to_unix_ns(vault.clock().now());
  names::WalName name{
      resource, header.timeline, header.from, header.to, kind, header.digest.hex().substr(0, 16)};
  std::string object = names::wal(name);

  // Before: is it there already? After: did somebody else put other bytes meanwhile? Each of two rivals sees
  // the other's object in its second look, so at least one of them refuses; both stay visible.
  const bool asks = options.rivals == WalRivals::kAsked;
  std::vector<WalObject> before, after;
  if (asks) {
    TRY_ASSIGN(before, rivals_of(vault.store(), name));
  }
  bool there = false;
  for (const WalObject& rival : before) {
    if (rival.object != object) return split_brain(header, rival.object);
    there = true;
  }
  if (there) {
    TRY_ASSIGN(WalHeader stored,
               read_wal_header(vault.store(), vault.keys(), object, &vault.codec().signers()));
    if (stored.digest != header.digest) return split_brain(header, object);
    return WalPut::kAlreadyThere;
  }
  TRY_ASSIGN(auto pack, PackWriter::create(vault.store(), vault.keys(), vault.random(), vault.clock(), object,
                                           resource));
  std::optional<FrameWorkshop> own;
  FrameWorkshop& workshop = options.workshop ? *options.workshop : own.emplace(kZstdLevel);
  size_t frame = 0;
  auto store_next = [&]() -> Result<void> {
    TRY_ASSIGN(PreparedFrame prepared, preparer.take(frame++, workshop));
    TRY(pack->add_prepared(prepared, workshop));
    return {};
  };
  // What is ready first: the store is at work with it while this thread looks for what changes.
  while (frame < preparer.count() && preparer.is_ready(frame)) TRY(store_next());
  if (options.changes) header.changes = options.changes();
  if (header.changes && header.changes->size() > kWalChangesBytesMax) header.changes.reset();
  while (frame < preparer.count()) TRY(store_next());
  auto done = pack->finish(&header);
  if (!done && done.error().kind != ErrorKind::kExists) return done.error();
  if (!done) {
    TRY_ASSIGN(WalHeader stored,
               read_wal_header(vault.store(), vault.keys(), object, &vault.codec().signers()));
    if (stored.digest != header.digest) return split_brain(header, object);
    return WalPut::kAlreadyThere;
  }
  if (asks) {
    TRY_ASSIGN(after, rivals_of(vault.store(), name));
  }
  for (const WalObject& rival : after) {
    if (rival.object != object) return split_brain(header, rival.object);
  }
  return WalPut::kStored;
}

Result<std::vector<WalObject>> rivals_within(Vault& vault, const ResourceId& resource, uint32_t timeline,
                                             uint64_t begin, ByteView content) {
  // As much of the name as all positions in the segment have in common: a store lists by that.
  const int open_digits = (std::bit_width(content.size() - 1) + 3) / 4;
  const std::string digits = fmt::format("{:016x}", begin);
  TRY_ASSIGN(
      WalListing listing,
      list_under(vault.store(), names::wal_prefix(resource, timeline) +
                                    digits.substr(0, digits.size() - static_cast<size_t>(open_digits))));
  const Secret key = wal_digest_key(vault.keys(), resource);
  std::erase_if(listing.objects, [&](const WalObject& object) {
    const names::WalName& name = object.name;
    const bool is_stretch = name.kind == names::WalKind::kSegment || name.kind == names::WalKind::kPart;
    if (!is_stretch || name.from < begin || name.to > begin + content.size()) return true;
    const Digest digest = hmac_sha256(key.view(), content.subspan(name.from - begin, name.to - name.from));
    return digest.hex().starts_with(name.digest);
  });
  return std::move(listing.objects);
}

Result<Bytes> get_wal(Vault& vault, const WalObject& object) {
  TRY_ASSIGN(auto pack,
             PackReader::open(vault.store(), vault.keys(), object.object, nullptr, &vault.codec().signers()));
  const WalHeader& header = *pack->wal();
  bool fits = header.timeline == object.name.timeline && header.from == object.name.from &&
              header.to == object.name.to && header.digest.hex().starts_with(object.name.digest) &&
              header.plain_bytes <= kWalFileBytesMax;
  if (!fits) return fail(ErrorKind::kDamaged, fmt::format("{} is not what its name says", object.object));
  Bytes content;
  content.reserve(header.plain_bytes);
  FrameWorkshop workshop(kZstdLevel);
  TRY(pack->read(0, static_cast<uint32_t>(pack->frames().size()), workshop, content));
  // The frames are authentic; the digest also says that none is missing and that they are in order.
  if (content.size() != header.plain_bytes ||
      hmac_sha256(wal_digest_key(vault.keys(), object.name.resource).view(), content) != header.digest) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold the bytes it was made of", object.object));
  }
  return content;
}

}  // namespace kuramori
