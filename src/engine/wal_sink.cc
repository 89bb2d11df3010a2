#include "engine/wal_sink.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>

#include "base/check.h"
#include "base/units.h"
#include "crypto/digest.h"
#include "engine/wal.h"
#include "vault/envelope.h"

namespace kuramori {
namespace {

constexpr Duration kRetryFirst = std::chrono::milliseconds(200);
constexpr Duration kRetryLast = std::chrono::seconds(10);
// Of the flush interval, what is left for the storing itself at least.
constexpr int kStoringShare = 4;  // a quarter

// What no second try changes.
bool is_final(ErrorKind kind) {
  return kind == ErrorKind::kRefused || kind == ErrorKind::kUsage || kind == ErrorKind::kDamaged;
}

}  // namespace

// Consecutive WAL in memory. Its bytes never move and are written once, so that threads may read those that
// are there while more is added behind them.
struct WalSink::Block {
  postgres::Lsn begin = 0;
  uint64_t capacity = 0;
  std::unique_ptr<uint8_t[]> bytes;

  postgres::Lsn end() const { return begin + capacity; }
  ByteView view(postgres::Lsn from, postgres::Lsn to) const {
    return {bytes.get() + (from - begin), static_cast<size_t>(to - from)};
  }
};

struct WalSink::Upload {
  std::shared_ptr<Block> block;
  std::shared_ptr<Block> before;  // the segment before a whole one, where it was received: records span both
  postgres::Timeline timeline = 0;
  postgres::Lsn from = 0, to = 0;
  names::WalKind kind = names::WalKind::kPart;
  // False: a whole segment whose bytes its parts have made durable already.
  bool acknowledges = true;
  Duration arrived{0};
  bool started = false, done = false;
};

struct WalSink::Shared {
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Upload>> queue;  // in the order of the WAL; what is done leaves from the front
  postgres::Lsn durable = 0;
  uint64_t waiting_bytes = 0;
  uint32_t acknowledging = 0;  // in the queue
  std::optional<Error> trouble;
  Duration last_took{0};  // storing a part
  SinkCounts counts;
  bool away = false;  // the vault does not answer: said once
};

WalSink::WalSink(Vault& vault, const SinkTarget& target, Duration flush, Reporter& reporter, int wake)
    : vault_(vault),
      target_(target),
      flush_(flush),
      reporter_(reporter),
      wake_(wake),
      shared_(std::make_unique<Shared>()) {
  for (uint32_t i = 0; i < kSinkUploadsMax; ++i)
    threads_.emplace_back([this](std::stop_token stop) { work(stop); });
}

WalSink::~WalSink() {
  for (std::jthread& thread : threads_) thread.request_stop();
  {
    // The lock, so that nobody is between looking at the token and waiting.
    std::lock_guard lock(shared_->mutex);
  }
  shared_->changed.notify_all();
}

uint32_t WalSink::block_bytes() const {
  return target_.segment_bytes <= kWholeSegmentMax ? target_.segment_bytes : kLargePartBytes;
}

void WalSink::begin(postgres::Timeline timeline, postgres::Lsn from, postgres::Lsn durable,
                    std::vector<WalObject> known) {
  CHECK(is_idle() && from % target_.segment_bytes == 0 && from <= durable);
  timeline_ = timeline;
  received_ = from;
  cut_to_ = durable;
  waits_.reset();
  known_ = std::move(known);
  std::ranges::sort(known_, {}, [](const WalObject& object) { return object.name.to; });
  block_.reset();
  before_.reset();
  std::lock_guard lock(shared_->mutex);
  shared_->durable = durable;
}

void WalSink::open_block(postgres::Lsn begin) {
  block_ = std::make_shared<Block>();
  block_->begin = begin;
  block_->capacity = block_bytes();
  block_->bytes = std::make_unique_for_overwrite<uint8_t[]>(block_->capacity);
}

Result<void> WalSink::take(postgres::Lsn from, ByteView bytes) {
  if (from != received_) {
    return fail(ErrorKind::kDamaged,
                fmt::format("the server sent WAL from {}, {} comes next", postgres::format_lsn(from),
                            postgres::format_lsn(received_)));
  }
  while (!bytes.empty()) {
    if (!block_) open_block(received_);
    const size_t now = std::min<uint64_t>(bytes.size(), block_->end() - received_);
    std::copy_n(bytes.begin(), now, block_->bytes.get() + (received_ - block_->begin));
    received_ += now;
    bytes = bytes.subspan(now);
    if (received_ > cut_to_ && !waits_) waits_ = vault_.clock().steady();
    TRY(compare_known());
    if (received_ == block_->end()) end_block();
  }
  return {};
}

// A writer cannot read what is archived, but it knows its digest. Other bytes: another server wrote the same
// timeline, or this one lost what it had flushed.
Result<void> WalSink::compare_known() {
  while (!known_.empty() && known_.front().name.to <= received_) {
    const WalObject object = std::move(known_.front());
    known_.erase(known_.begin());
    if (!block_ || object.name.from < block_->begin || object.name.to > block_->end()) continue;
    const Secret key = wal_digest_key(vault_.keys(), target_.resource);
    const Digest digest = hmac_sha256(key.view(), block_->view(object.name.from, object.name.to));
    if (digest.hex().starts_with(object.name.digest)) continue;
    return fail(ErrorKind::kRefused,
                fmt::format("the server's WAL from {} to {} is not what is archived",
                            postgres::format_lsn(object.name.from), postgres::format_lsn(object.name.to)),
                fmt::format("two servers wrote timeline {}, or this one lost WAL that it had flushed; the "
                            "archive holds {}",
                            timeline_, object.object),
                "find out which server was the right one: kuramori wal show");
  }
  return {};
}

// A whole segment stands in the vault as one object: recovery fetches one thing, a snapshot finds it, and an
// archiver's is the same. Where most of it is new, that object alone makes it durable; else what is new goes
// out as a part at once, and the whole after it, which no commit waits for.
void WalSink::end_block() {
  const bool whole = block_->capacity == target_.segment_bytes;
  const postgres::Lsn end = block_->end();
  if (cut_to_ < end) {
    const bool mostly_new = (end - cut_to_) * 2 >= block_->capacity;
    if (whole && mostly_new && (!commits_wait_ || cut_to_ <= block_->begin)) {
      send(cut_to_, end, names::WalKind::kSegment, true);
    } else {
      send(cut_to_, end, names::WalKind::kPart, true);
      if (whole) send(block_->begin, end, names::WalKind::kSegment, false);
    }
  }
  before_ = std::move(block_);
  block_.reset();
}

void WalSink::send(postgres::Lsn from, postgres::Lsn to, names::WalKind kind, bool acknowledges) {
  auto upload = std::make_shared<Upload>();
  upload->block = block_;
  if (kind == names::WalKind::kSegment && before_ && before_->end() == block_->begin)
    upload->before = before_;
  upload->timeline = timeline_;
  upload->from = from;
  upload->to = to;
  upload->kind = kind;
  upload->acknowledges = acknowledges;
  upload->arrived = waits_.value_or(vault_.clock().steady());
  if (acknowledges) {
    cut_to_ = to;
    waits_.reset();
  }
  std::lock_guard lock(shared_->mutex);
  shared_->waiting_bytes += to - from;
  shared_->acknowledging += acknowledges ? 1 : 0;
  shared_->queue.push_back(std::move(upload));
  shared_->changed.notify_all();  // one that pauses before it tries again must not swallow it
}

bool WalSink::has_room() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->waiting_bytes < kSinkBytesMax;
}

std::optional<Duration> WalSink::next_cut() const {
  if (!waits_) return std::nullopt;
  std::lock_guard lock(shared_->mutex);
  if (shared_->acknowledging >= kSinkUploadsMax) return std::nullopt;
  // Early enough for the storing to end within the interval.
  const Duration storing = std::clamp<Duration>(shared_->last_took * 2, flush_ / kStoringShare, flush_);
  return *waits_ + flush_ - storing;
}

void WalSink::cut(bool commits_wait) {
  commits_wait_ = commits_wait;
  if (!waits_) return;
  const std::optional<Duration> due = next_cut();
  bool idle = false;
  {
    std::lock_guard lock(shared_->mutex);
    idle = shared_->acknowledging == 0;
  }
  if ((commits_wait && idle) || (due && vault_.clock().steady() >= *due)) cut_all();
}

void WalSink::cut_all() {
  if (block_ && waits_ && cut_to_ < received_) send(cut_to_, received_, names::WalKind::kPart, true);
}

postgres::Lsn WalSink::durable() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->durable;
}

bool WalSink::is_idle() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->queue.empty() && shared_->durable >= received_;
}

Result<void> WalSink::trouble() const {
  std::lock_guard lock(shared_->mutex);
  if (shared_->trouble) return *shared_->trouble;
  return {};
}

SinkCounts WalSink::counts() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->counts;
}

std::optional<Duration> WalSink::oldest_waiting() const {
  std::lock_guard lock(shared_->mutex);
  for (const auto& upload : shared_->queue)
    if (upload->acknowledges && !upload->done) return upload->arrived;
  return waits_;
}

Result<void> WalSink::store(const Upload& upload) {
  // A segment object holds its whole block, however little of it was new.
  const bool whole = upload.kind == names::WalKind::kSegment;
  const postgres::Lsn from = whole ? upload.block->begin : upload.from;
  const WalHeader header{
      .system_id = target_.system_id,
      .timeline = upload.timeline,
      .from = from,
      .to = upload.to,
      .segment_bytes = target_.segment_bytes,
      .file = postgres::segment_name(upload.timeline, upload.block->begin, target_.segment_bytes),
      .digest = {}};
  const ByteView content = upload.block->view(from, upload.to);
  if (!whole) {
    TRY(put_wal(vault_, target_.resource, upload.kind, header, content, {.rivals = WalRivals::kAskedLater}));
    return {};
  }
  const std::shared_ptr<Block>& before = upload.before;
  const auto earlier = [&before](postgres::Lsn position, MutableByteView pages) {
    if (!before || position < before->begin || position + pages.size() > before->end()) return false;
    std::ranges::copy(before->view(position, position + pages.size()), pages.begin());
    return true;
  };
  TRY(put_wal(vault_, target_.resource, upload.kind, header, content,
              {.changes = changes_of_segment(header, content, earlier)}));
  TRY_ASSIGN(const std::vector<WalObject> rivals,
             rivals_within(vault_, target_.resource, upload.timeline, from, content));
  if (rivals.empty()) return {};
  return fail(ErrorKind::kRefused, fmt::format("{} is already archived with other content", header.file),
              fmt::format("two servers write timeline {} of this resource; the archive holds {}",
                          upload.timeline, rivals.front().object),
              "stop the one that should not run: kuramori wal show");
}

void WalSink::work(std::stop_token stop) {
  Shared& shared = *shared_;
  std::unique_lock lock(shared.mutex);
  while (!stop.stop_requested()) {
    auto next = std::ranges::find_if(shared.queue, [](const auto& upload) { return !upload->started; });
    if (next == shared.queue.end() || shared.trouble) {
      shared.changed.wait(lock);
      continue;
    }
    const std::shared_ptr<Upload> upload = *next;
    upload->started = true;
    for (Duration pause = kRetryFirst;; pause = std::min(pause * 2, kRetryLast)) {
      lock.unlock();
      const Duration began = vault_.clock().steady();
      Result<void> done = store(*upload);
      const Duration ended = vault_.clock().steady();
      lock.lock();
      if (done) {
        upload->done = true;
        if (upload->kind == names::WalKind::kPart) shared.last_took = ended - began;
        ++(upload->kind == names::WalKind::kPart ? shared.counts.parts : shared.counts.segments);
        if (shared.away) reporter_.note("the vault answers again");
        shared.away = false;
        break;
      }
      if (is_final(done.error().kind)) {
        if (!shared.trouble) shared.trouble = done.error();
        break;
      }
      if (!shared.away) {
        shared.away = true;
        reporter_.warning(
            fmt::format("WAL cannot be stored: {}{}{}; the server keeps it, and it is tried again",
                        done.error().what, done.error().why.empty() ? "" : ": ", done.error().why));
      }
      shared.changed.wait_for(lock, pause, [&] { return stop.stop_requested(); });
      if (stop.stop_requested()) return;
    }
    // In order only: what is durable behind a stretch that is not yet, is not acknowledged. A whole segment
    // whose bytes are durable already holds nobody up.
    const Duration now = vault_.clock().steady();
    bool in_order = true;
    std::erase_if(shared.queue, [&](const std::shared_ptr<Upload>& each) {
      if (!each->done) in_order = in_order && !each->acknowledges;
      if (!each->done || (each->acknowledges && !in_order)) return false;
      shared.waiting_bytes -= each->to - each->from;
      if (each->acknowledges) {
        shared.durable = each->to;
        --shared.acknowledging;
        shared.counts.slowest = std::max(shared.counts.slowest, now - each->arrived);
      }
      return true;
    });
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored =
        ::write(wake_, &one, sizeof one);  // a full counter wakes as well
  }
}

}  // namespace kuramori
