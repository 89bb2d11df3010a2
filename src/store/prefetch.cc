#include "store/prefetch.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace kuramori {
namespace {

constexpr size_t kPassedOverMax = 4;  // listed objects between two that are read in order

// One object on its way. Shared by the one who asks and the thread that fetches: either may be the last.
struct Fetched {
  std::string name;
  std::optional<Result<Bytes>> result;
  bool dropped = false;  // nobody fetches it any more
};

class PrefetchStore final : public Store {
 public:
  PrefetchStore(std::unique_ptr<Store> inner, PrefetchLimits limits)
      : inner_(std::move(inner)), limits_(limits) {}
  ~PrefetchStore() override {
    {
      std::lock_guard hold(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    Changing changing(*this);
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override;
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override { return inner_->open(name); }
  Result<Bytes> get(std::string_view name) override;
  Result<ObjectInfo> head(std::string_view name) override { return inner_->head(name); }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override;
  Result<void> remove(std::string_view name) override {
    Changing changing(*this);
    return inner_->remove(name);
  }
  Retention* retention() override { return inner_->retention(); }
  Versions* versions() override { return inner_->versions(); }
  Tiers* tiers() override { return inner_->tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_->remove_unfinished(older_than);
  }

  // Forgets before and after: what was begun in between may be of either side.
  class Changing {
   public:
    explicit Changing(PrefetchStore& store) : store_(store) { store_.forget(); }
    ~Changing() { store_.forget(); }
    Changing(const Changing&) = delete;

   private:
    PrefetchStore& store_;
  };

 private:
  void forget() {
    std::lock_guard hold(mutex_);
    listed_.clear();
    drop_all();
  }
  // Under the lock, as is what follows. Who waits for one of them reads it himself.
  void drop_all() {
    for (auto& [name, fetched] : ahead_) fetched->dropped = true;
    ahead_.clear();
    jobs_.clear();
    last_.reset();
    next_ = 0;
    in_order_ = false;
    done_.notify_all();
  }
  void drop_before(std::string_view name) {
    while (!ahead_.empty() && ahead_.begin()->first < name) {
      std::erase(jobs_, ahead_.begin()->second);
      ahead_.begin()->second->dropped = true;
      ahead_.erase(ahead_.begin());
    }
    done_.notify_all();
  }

  // What follows the object at `index` is sent for.
  void send_for_what_follows(size_t index) {
    next_ = std::max(next_, index + 1);
    for (; next_ < listed_.size() && ahead_.size() < limits_.ahead; ++next_) {
      if (listed_[next_].size > limits_.object_bytes) continue;
      auto fetched = std::make_shared<Fetched>(Fetched{.name = listed_[next_].name});
      ahead_.emplace(fetched->name, fetched);
      jobs_.push_back(std::move(fetched));
      if (threads_.size() < limits_.ahead && threads_.size() < jobs_.size() + busy_)
        threads_.emplace_back([this] { fetch(); });
      wake_.notify_one();
    }
  }

  void fetch() {
    std::unique_lock hold(mutex_);
    for (;;) {
      wake_.wait(hold, [&] { return ending_ || !jobs_.empty(); });
      if (ending_) return;
      std::shared_ptr<Fetched> job = std::move(jobs_.front());
      jobs_.pop_front();
      ++busy_;
      hold.unlock();
      Result<Bytes> result = inner_->get(job->name);
      hold.lock();
      --busy_;
      job->result = std::move(result);
      done_.notify_all();
    }
  }

  std::unique_ptr<Store> inner_;
  const PrefetchLimits limits_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<ObjectInfo> listed_;  // the last page of names
  std::optional<size_t> last_;      // the index in it of what was asked for last
  bool in_order_ = false;           // what was asked for came in the order of the list so far
  size_t next_ = 0;                 // the index of what was not sent for yet
  std::map<std::string, std::shared_ptr<Fetched>, std::less<>> ahead_;
  std::deque<std::shared_ptr<Fetched>> jobs_;
  size_t busy_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

Result<ListPage> PrefetchStore::list(std::string_view prefix, std::string_view after, size_t limit) {
  forget();
  TRY_ASSIGN(ListPage page, inner_->list(prefix, after, limit));
  std::lock_guard hold(mutex_);
  drop_all();
  listed_ = page.objects;
  return page;
}

Result<Bytes> PrefetchStore::get(std::string_view name) {
  std::unique_lock hold(mutex_);
  auto at = std::lower_bound(
      listed_.begin(), listed_.end(), name,
      [](const ObjectInfo& object, std::string_view wanted) { return object.name < wanted; });
  if (at != listed_.end() && at->name == name) {
    auto index = static_cast<size_t>(at - listed_.begin());
    // The second in order tells: one alone is often all that is wanted. Some may be passed over.
    in_order_ = last_ && index > *last_ && index - *last_ <= kPassedOverMax;
    last_ = index;
    if (in_order_) {
      drop_before(name);
      send_for_what_follows(index);
    }
  }
  auto found = ahead_.find(name);
  if (found == ahead_.end()) {
    hold.unlock();
    return inner_->get(name);
  }
  std::shared_ptr<Fetched> fetched = found->second;
  done_.wait(hold, [&] { return fetched->result.has_value() || fetched->dropped; });
  // Given once: who asks again wants to know what is there now, and it makes room for another.
  if (auto again = ahead_.find(name); again != ahead_.end() && again->second == fetched) {
    ahead_.erase(again);
    return std::move(*fetched->result);
  }
  hold.unlock();
  return inner_->get(name);
}

class PrefetchWriter final : public ObjectWriter {
 public:
  PrefetchWriter(PrefetchStore& store, std::unique_ptr<ObjectWriter> inner)
      : store_(store), inner_(std::move(inner)) {}
  Result<void> append(ByteView bytes) override { return inner_->append(bytes); }
  Result<void> commit() override {
    PrefetchStore::Changing changing(store_);
    return inner_->commit();
  }

 private:
  PrefetchStore& store_;
  std::unique_ptr<ObjectWriter> inner_;
};

Result<std::unique_ptr<ObjectWriter>> PrefetchStore::create(std::string_view name) {
  TRY_ASSIGN(std::unique_ptr<ObjectWriter> inner, inner_->create(name));
  return std::unique_ptr<ObjectWriter>(new PrefetchWriter(*this, std::move(inner)));
}

}  // namespace

std::unique_ptr<Store> with_prefetch(std::unique_ptr<Store> inner, PrefetchLimits limits) {
  return std::make_unique<PrefetchStore>(std::move(inner), limits);
}

}  // namespace kuramori
