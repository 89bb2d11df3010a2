#include "store/memory/memory_store.h"

#include <fmt/core.h>

#include <map>
#include <mutex>

namespace kuramori {
namespace {

struct Object {
  // Shared with the readers that have it open: they keep reading what they opened, removed or not.
  std::shared_ptr<const Bytes> bytes;
  std::optional<Time> stored_at;
};
using Objects = std::map<std::string, Object, std::less<>>;

class MemoryReader final : public ObjectReader {
 public:
  MemoryReader(std::string name, std::shared_ptr<const Bytes> bytes)
      : name_(std::move(name)), bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_->size(); }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    uint64_t have = bytes_->size() - std::min<uint64_t>(offset, bytes_->size());
    if (out.size() > have) {
      return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is too short: need {} bytes at {}, have {}", name_,
                                                   out.size(), offset, have));
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_->data() + offset, out.size());
    return {};
  }

 private:
  std::string name_;
  std::shared_ptr<const Bytes> bytes_;
};

class MemoryWriter final : public ObjectWriter {
 public:
  MemoryWriter(Store& store, std::string name) : store_(store), name_(std::move(name)) {}
  Result<void> append(ByteView bytes) override {
    if (ended_) return fail(ErrorKind::kUsage, fmt::format("\"{}\" was committed", name_));
    kuramori::append(bytes_, bytes);
    return {};
  }
  Result<void> commit() override {
    if (ended_) return fail(ErrorKind::kUsage, fmt::format("\"{}\" was committed", name_));
    ended_ = true;
    return store_.put_if_absent(name_, bytes_);
  }

 private:
  Store& store_;
  std::string name_;
  Bytes bytes_;
  bool ended_ = false;
};

class MemoryStoreImpl final : public MemoryStore {
 public:
  MemoryStoreImpl(Clock* clock, Objects objects) : clock_(clock), objects_(std::move(objects)) {}

  std::string location() const override { return "memory"; }

  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    Object object = make_object(to_bytes(bytes));
    std::lock_guard hold(mutex_);
    if (objects_.contains(name))
      return fail(ErrorKind::kExists, fmt::format("\"{}\" exists in memory", name));
    objects_.emplace(name, std::move(object));
    return {};
  }

  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    return std::unique_ptr<ObjectWriter>(new MemoryWriter(*this, std::string(name)));
  }

  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(Object object, find(name));
    return std::unique_ptr<ObjectReader>(new MemoryReader(std::string(name), std::move(object.bytes)));
  }

  Result<Bytes> get(std::string_view name) override {
    TRY_ASSIGN(Object object, find(name));
    return *object.bytes;
  }

  Result<ObjectInfo> head(std::string_view name) override {
    TRY_ASSIGN(Object object, find(name));
    return ObjectInfo{.name = std::string(name), .size = object.bytes->size(), .stored_at = object.stored_at};
  }

  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY(check_list_request(prefix, limit));
    ListPage page;
    std::lock_guard hold(mutex_);
    auto at = prefix > after ? objects_.lower_bound(prefix) : objects_.upper_bound(after);
    for (; at != objects_.end() && at->first.starts_with(prefix); ++at) {
      if (page.objects.size() == limit) {
        page.more = true;
        break;
      }
      page.objects.push_back(
          {.name = at->first, .size = at->second.bytes->size(), .stored_at = at->second.stored_at});
    }
    return page;
  }

  Result<void> remove(std::string_view name) override {
    TRY(check_object_name(name));
    std::lock_guard hold(mutex_);
    if (auto at = objects_.find(name); at != objects_.end()) objects_.erase(at);
    return {};
  }

  void tamper(std::string_view name, Bytes bytes) override {
    Object object = make_object(std::move(bytes));
    std::lock_guard hold(mutex_);
    objects_.insert_or_assign(std::string(name), std::move(object));
  }

  size_t object_count() override {
    std::lock_guard hold(mutex_);
    return objects_.size();
  }

  std::unique_ptr<MemoryStore> clone() override {
    std::lock_guard hold(mutex_);
    return std::make_unique<MemoryStoreImpl>(clock_, objects_);
  }

 private:
  Object make_object(Bytes bytes) {
    Object object{.bytes = std::make_shared<const Bytes>(std::move(bytes))};
    if (clock_ != nullptr) object.stored_at = clock_->now();
    return object;
  }

  Result<Object> find(std::string_view name) {
    TRY(check_object_name(name));
    std::lock_guard hold(mutex_);
    auto at = objects_.find(name);
    if (at == objects_.end()) {
      return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\" in memory", name));
    }
    return at->second;
  }

  Clock* clock_;
  std::mutex mutex_;
  Objects objects_;
};

}  // namespace

std::unique_ptr<MemoryStore> make_memory_store(Clock* clock) {
  return std::make_unique<MemoryStoreImpl>(clock, Objects{});
}

}  // namespace kuramori
