// What several threads look up and is dear to make: made once, by whoever asks first, and kept as long as
// there is room. What others still hold stays alive when it is dropped here.
#pragma once
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace kuramori {

template <class Key, class Value, class Hash = std::hash<Key>>
class SharedCache {
 public:
  using Held = std::shared_ptr<const Value>;
  // `cost_max`: of all values together, in the unit in which they are given. The newest is kept whatever it
  // costs.
  explicit SharedCache(size_t cost_max) : cost_max_(cost_max) {}
  SharedCache(const SharedCache&) = delete;

  // The value of `key`. Where it is not here, `make` gives it with its cost: Result<std::pair<Value,
  // size_t>>. Others who ask meanwhile wait. An error is for who asked and those who waited, and is not kept.
  template <class Make>
  Result<Held> get(const Key& key, Make&& make) {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto found = at_.find(key);
      if (found == at_.end()) break;
      const auto entry = found->second;
      if (entry->value) {
        entries_.splice(entries_.begin(), entries_, entry);
        return entry->value;
      }
      // Somebody makes it: what becomes of it is looked at afterwards. Where it failed, one of those who
      // waited tries.
      changed_.wait(lock);
    }
    entries_.push_front({.key = key, .value = nullptr, .cost = 0});
    const auto mine = entries_.begin();
    at_.emplace(key, mine);
    lock.unlock();
    auto made = std::forward<Make>(make)();
    lock.lock();
    changed_.notify_all();
    if (!made) {
      at_.erase(key);
      entries_.erase(mine);
      return std::move(made).error();
    }
    mine->value = std::make_shared<const Value>(std::move(made->first));
    mine->cost = made->second;
    cost_ += mine->cost;
    Held value = mine->value;
    entries_.splice(entries_.begin(), entries_, mine);
    shrink();
    return value;
  }

  // Whether it is here, or is being made.
  bool has(const Key& key) const {
    const std::lock_guard lock(mutex_);
    return at_.contains(key);
  }
  size_t cost() const {
    const std::lock_guard lock(mutex_);
    return cost_;
  }

 private:
  struct Entry {
    Key key;
    Held value;  // null: somebody makes it
    size_t cost;
  };

  // From what was not asked for the longest; what is being made stays.
  void shrink() {
    for (auto entry = std::prev(entries_.end()); cost_ > cost_max_ && entry != entries_.begin();) {
      const auto before = std::prev(entry);
      if (entry->value) {
        cost_ -= entry->cost;
        at_.erase(entry->key);
        entries_.erase(entry);
      }
      entry = before;
    }
  }

  const size_t cost_max_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> entries_;  // most recently asked for first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> at_;
  size_t cost_ = 0;
};

}  // namespace kuramori
