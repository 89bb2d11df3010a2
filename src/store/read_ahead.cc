#include "store/read_ahead.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr size_t kStreamsMax = 8;  // of one object that are followed at once

// A block of an object: on its way, there, or failed.
struct Block {
  Bytes bytes;
  std::optional<Error> error;
  bool done = false;
};

// The blocks of all objects of one store, and the threads that fetch them.
class Fetcher {
 public:
  explicit Fetcher(ReadAheadLimits limits) : limits_(limits) {}
  ~Fetcher() {
    {
      const std::lock_guard hold(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Fetcher(const Fetcher&) = delete;
  const ReadAheadLimits& limits() const { return limits_; }

  uint64_t new_object() {
    const std::lock_guard hold(mutex_);
    return ++objects_;
  }
  void forget(uint64_t object) {
    const std::lock_guard hold(mutex_);
    for (auto it = blocks_.lower_bound({object, 0}); it != blocks_.end() && it->first.first == object;)
      it = drop(it);
  }
  bool holds(uint64_t object, uint64_t index) {
    const std::lock_guard hold(mutex_);
    return blocks_.contains({object, index});
  }

  // Sees to it that the block is there or on its way. What is only wanted ahead is not begun when the memory
  // is full of blocks that are on their way or that somebody else wanted ahead and has not come to yet.
  void want(uint64_t object, uint64_t index, const std::shared_ptr<ObjectReader>& reader, bool ahead) {
    const std::lock_guard hold(mutex_);
    if (blocks_.contains({object, index})) return;
    const size_t room = std::max<size_t>(1, limits_.memory_bytes / limits_.block_bytes);
    while (blocks_.size() >= room) {
      const auto victim = least_missed(ahead, 4 * room);
      if (victim == order_.end()) break;
      drop(blocks_.find(*victim));
    }
    if (ahead && blocks_.size() >= room) return;
    auto block = std::make_shared<Block>();
    blocks_.emplace(Key{object, index},
                    Held{block, order_.insert(order_.end(), Key{object, index}), ++wanted_});
    jobs_.push_back({reader, index, std::move(block)});
    if (threads_.size() < limits_.threads && threads_.size() < jobs_.size() + busy_)
      threads_.emplace_back([this] { fetch(); });
    wake_.notify_one();
  }

  // Waits for a block that was wanted. One that failed is forgotten, so that it can be tried again; null: it
  // was dropped meanwhile.
  Result<std::shared_ptr<const Block>> get(uint64_t object, uint64_t index) {
    std::unique_lock hold(mutex_);
    auto found = blocks_.find({object, index});
    if (found == blocks_.end()) return std::shared_ptr<const Block>();
    const std::shared_ptr<Block> block = found->second.block;
    order_.splice(order_.end(), order_, found->second.place);
    found->second.was_asked = true;
    found->second.touched = wanted_;
    done_.wait(hold, [&] { return block->done; });
    if (!block->error) return std::shared_ptr<const Block>(block);
    if (auto again = blocks_.find({object, index}); again != blocks_.end() && again->second.block == block)
      drop(again);
    return *block->error;
  }

  // A stream has passed it.
  void release(uint64_t object, uint64_t index) {
    const std::lock_guard hold(mutex_);
    if (auto found = blocks_.find({object, index}); found != blocks_.end() && found->second.block->done)
      drop(found);
  }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // object, index
  struct Held {
    std::shared_ptr<Block> block;
    std::list<Key>::iterator place;
    uint64_t touched;  // how many were wanted when it was, or when it was last asked for
    bool was_asked = false;
  };
  struct Job {
    std::shared_ptr<ObjectReader> reader;
    uint64_t index;
    std::shared_ptr<Block> block;
  };

  // Which of the blocks that are there goes for another. First one that nobody touched for long: its stream
  // has ended. What is only wanted ahead pushes out no other. Otherwise the one wanted last of those nobody
  // has come to, since streams come to them in order; and only then one that a stream is in the middle of.
  std::list<Key>::iterator least_missed(bool ahead, size_t patience) {
    const auto is_there = [&](const Key& key) { return blocks_.at(key).block->done; };
    const auto oldest = std::ranges::find_if(order_, is_there);
    if (oldest == order_.end() || blocks_.at(*oldest).touched + patience < wanted_) return oldest;
    if (ahead) return order_.end();
    for (auto it = order_.end(); it != order_.begin();) {
      if (is_there(*--it) && !blocks_.at(*it).was_asked) return it;
    }
    return oldest;
  }

  std::map<Key, Held>::iterator drop(std::map<Key, Held>::iterator it) {
    order_.erase(it->second.place);
    return blocks_.erase(it);
  }

  void fetch() {
    std::unique_lock hold(mutex_);
    for (;;) {
      wake_.wait(hold, [&] { return ending_ || !jobs_.empty(); });
      if (ending_) return;
      const Job job = std::move(jobs_.front());
      jobs_.pop_front();
      ++busy_;
      hold.unlock();
      const uint64_t begin = job.index * limits_.block_bytes;
      Bytes bytes(std::min<uint64_t>(limits_.block_bytes, job.reader->size() - begin));
      auto read = job.reader->read(begin, bytes);
      hold.lock();
      --busy_;
      job.block->bytes = std::move(bytes);
      if (!read) job.block->error = std::move(read).error();
      job.block->done = true;
      done_.notify_all();
    }
  }

  const ReadAheadLimits limits_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::map<Key, Held> blocks_;
  std::list<Key> order_;  // least recently asked for first
  uint64_t wanted_ = 0;
  std::deque<Job> jobs_;
  size_t busy_ = 0;
  uint64_t objects_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

class ReadAheadReader final : public ObjectReader {
 public:
  ReadAheadReader(std::shared_ptr<ObjectReader> inner, std::shared_ptr<Fetcher> fetcher)
      : inner_(std::move(inner)), fetcher_(std::move(fetcher)), object_(fetcher_->new_object()) {}
  ~ReadAheadReader() override { fetcher_->forget(object_); }

  uint64_t size() const override { return inner_->size(); }

  Result<void> read(uint64_t offset, MutableByteView out) override {
    const uint64_t size = inner_->size();
    const bool is_inside = offset <= size && out.size() <= size - offset;
    if (out.empty() || !is_inside || !is_stream(offset, out.size())) return inner_->read(offset, out);
    const ReadAheadLimits& limits = fetcher_->limits();
    const uint64_t first = offset / limits.block_bytes, last = (offset + out.size() - 1) / limits.block_bytes;
    const uint64_t blocks = (size + limits.block_bytes - 1) / limits.block_bytes;
    for (uint64_t index = first; index <= last; ++index) fetcher_->want(object_, index, inner_, false);
    for (uint64_t index = last + 1; index < std::min(blocks, last + 1 + limits.blocks_ahead); ++index)
      fetcher_->want(object_, index, inner_, true);
    for (uint64_t index = first; index <= last; ++index) {
      const uint64_t begin = index * limits.block_bytes;
      const uint64_t from = std::max(offset, begin),
                     to = std::min(offset + out.size(), begin + limits.block_bytes);
      const MutableByteView part = out.subspan(from - offset, to - from);
      TRY_ASSIGN(const std::shared_ptr<const Block> block, fetcher_->get(object_, index));
      if (!block) {  // pushed out by others before we came to it
        TRY(inner_->read(from, part));
        continue;
      }
      std::memcpy(part.data(), block->bytes.data() + (from - begin), part.size());
      if (to == std::min(size, begin + limits.block_bytes)) fetcher_->release(object_, index);
    }
    return {};
  }

  // What follows a stream that was told of is read ahead like that of one that was noticed.
  void expect_stream(uint64_t offset, uint64_t bytes) override {
    const uint64_t size = inner_->size();
    if (offset >= size || bytes == 0) return;
    {
      const std::lock_guard hold(mutex_);
      if (std::ranges::find(ends_, offset) == ends_.end()) ends_[next_end_++ % ends_.size()] = offset;
    }
    const uint64_t block_bytes = fetcher_->limits().block_bytes;
    const uint64_t first = offset / block_bytes,
                   last = (std::min(size, offset + std::min(bytes, size)) - 1) / block_bytes;
    for (uint64_t index = first; index <= std::min(last, first + fetcher_->limits().blocks_ahead); ++index)
      fetcher_->want(object_, index, inner_, true);
  }

 private:
  // Whether this read goes on where one before it ended, or is as large as only a stream's are.
  bool is_stream(uint64_t offset, size_t bytes) {
    const std::lock_guard hold(mutex_);
    for (uint64_t& end : ends_) {
      if (end != offset || offset == 0) continue;
      end = offset + bytes;
      return true;
    }
    ends_[next_end_++ % ends_.size()] = offset + bytes;
    return bytes >= fetcher_->limits().stream_bytes ||
           fetcher_->holds(object_, offset / fetcher_->limits().block_bytes);
  }

  const std::shared_ptr<ObjectReader> inner_;
  const std::shared_ptr<Fetcher> fetcher_;
  const uint64_t object_;
  std::mutex mutex_;
  std::array<uint64_t, kStreamsMax> ends_ = {};
  size_t next_end_ = 0;
};

class ReadAheadVersions final : public Versions {
 public:
  ReadAheadVersions(Versions& inner, std::shared_ptr<Fetcher> fetcher)
      : inner_(inner), fetcher_(std::move(fetcher)) {}
  Result<std::vector<ObjectVersion>> versions(std::string_view name) override {
    return inner_.versions(name);
  }
  Result<std::vector<std::string>> names_ever(std::string_view prefix) override {
    return inner_.names_ever(prefix);
  }
  Result<Bytes> get_version(std::string_view name, std::string_view id) override {
    return inner_.get_version(name, id);
  }
  Result<std::unique_ptr<ObjectReader>> open_version(std::string_view name, std::string_view id) override {
    TRY_ASSIGN(std::unique_ptr<ObjectReader> reader, inner_.open_version(name, id));
    return std::unique_ptr<ObjectReader>(new ReadAheadReader(std::move(reader), fetcher_));
  }
  Result<void> remove_version(std::string_view name, std::string_view id) override {
    return inner_.remove_version(name, id);
  }

 private:
  Versions& inner_;
  std::shared_ptr<Fetcher> fetcher_;
};

class ReadAheadStore final : public Store {
 public:
  ReadAheadStore(std::unique_ptr<Store> inner, ReadAheadLimits limits)
      : inner_(std::move(inner)), fetcher_(std::make_shared<Fetcher>(limits)) {
    if (Versions* versions = inner_->versions()) versions_.emplace(*versions, fetcher_);
  }
  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    return inner_->create(name);
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectReader> reader, inner_->open(name));
    return std::unique_ptr<ObjectReader>(new ReadAheadReader(std::move(reader), fetcher_));
  }
  Result<Bytes> get(std::string_view name) override { return inner_->get(name); }
  Result<ObjectInfo> head(std::string_view name) override { return inner_->head(name); }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    return inner_->list(prefix, after, limit);
  }
  Result<void> remove(std::string_view name) override { return inner_->remove(name); }
  Retention* retention() override { return inner_->retention(); }
  Versions* versions() override { return versions_ ? &*versions_ : nullptr; }
  Tiers* tiers() override { return inner_->tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_->remove_unfinished(older_than);
  }

 private:
  std::unique_ptr<Store> inner_;
  std::shared_ptr<Fetcher> fetcher_;
  std::optional<ReadAheadVersions> versions_;
};

}  // namespace

std::unique_ptr<Store> with_read_ahead(std::unique_ptr<Store> inner, ReadAheadLimits limits) {
  CHECK(limits.block_bytes > 0 && limits.threads > 0);
  return std::make_unique<ReadAheadStore>(std::move(inner), limits);
}

}  // namespace kuramori
