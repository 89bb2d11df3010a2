#include "store/fault.h"

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <mutex>
#include <random>

namespace kuramori {
namespace {

bool changes(StoreCall call) {
  return call == StoreCall::kPut || call == StoreCall::kCommit || call == StoreCall::kRemove;
}
bool stores(StoreCall call) {
  return call == StoreCall::kPut || call == StoreCall::kCommit;
}

bool fits(Fault fault, StoreCall call) {
  switch (fault) {
    case Fault::kNone:
      return false;
    case Fault::kKillBefore:
    case Fault::kKillAfter:
    case Fault::kFail:
      return true;
    case Fault::kUnknownUndone:
    case Fault::kUnknownDone:
    case Fault::kDelay:
    case Fault::kLie:
      return changes(call);
    case Fault::kTear:
      return stores(call);
    case Fault::kFlipBit:
      return stores(call) || call == StoreCall::kRead || call == StoreCall::kGet;
    case Fault::kNoSpace:
      return stores(call) || call == StoreCall::kCreate || call == StoreCall::kAppend;
    case Fault::kDenied:
      return call == StoreCall::kRemove;
    case Fault::kTruncateList:
      return call == StoreCall::kList;
  }
  return false;
}

// A put or a remove that was not confirmed and is still on its way.
struct Delayed {
  uint64_t due = 0;  // lands before the call of this number
  uint32_t repeats = 0;
  bool is_remove = false;
  std::string name;
  Bytes bytes;
};

class FaultyStoreImpl final : public FaultyStore {
 public:
  FaultyStoreImpl(Store& inner, FaultPlan plan) : inner_(inner) { set_plan(std::move(plan)); }

  void set_plan(FaultPlan plan) override {
    std::lock_guard hold(mutex_);
    random_.seed(plan.seed);
    plan_ = std::move(plan);
    if (!plan_.kill) plan_.kill = [] { ::kill(::getpid(), SIGKILL); };
  }
  uint64_t calls() const override { return calls_; }
  uint64_t faults() const override { return faults_; }

  void land_all_delayed() override {
    for (;;) {
      std::vector<Delayed> all;
      {
        std::lock_guard hold(mutex_);
        all.swap(delayed_);
        std::shuffle(all.begin(), all.end(), random_);
      }
      if (all.empty()) return;
      for (Delayed& effect : all) land(effect);
    }
  }

  std::string location() const override { return inner_.location(); }

  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return store(StoreCall::kPut, name, bytes,
                 [&](ByteView what) { return inner_.put_if_absent(name, what); });
  }

  // commit() of a writer: all the bytes at once.
  Result<void> commit(std::string_view name, ByteView bytes) {
    return store(StoreCall::kCommit, name, bytes, [&](ByteView what) -> Result<void> {
      TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, inner_.create(name));
      TRY(writer->append(what));
      return writer->commit();
    });
  }

  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override;
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override;

  Result<Bytes> get(std::string_view name) override {
    Fault fault = Fault::kNone;
    Result<Bytes> bytes = around<Bytes>(StoreCall::kGet, name, fault, [&] { return inner_.get(name); });
    if (bytes && fault == Fault::kFlipBit) flip_bit(*bytes);
    return bytes;
  }

  Result<ObjectInfo> head(std::string_view name) override {
    Fault fault = Fault::kNone;
    return around<ObjectInfo>(StoreCall::kHead, name, fault, [&] { return inner_.head(name); });
  }

  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    Fault fault = Fault::kNone;
    Result<ListPage> page =
        around<ListPage>(StoreCall::kList, prefix, fault, [&] { return inner_.list(prefix, after, limit); });
    if (page && fault == Fault::kTruncateList) {
      page->objects.resize(page->objects.size() / 2);
      page->more = false;
    }
    return page;
  }

  Result<void> remove(std::string_view name) override {
    Fault fault = begin(StoreCall::kRemove, name);
    switch (fault) {
      case Fault::kFail:
        return failed(name);
      case Fault::kDenied:
        return fail(ErrorKind::kDenied, fmt::format("\"{}\" is retained", name));
      case Fault::kLie:
        return {};
      case Fault::kUnknownUndone:
        return unknown(name);
      case Fault::kUnknownDone:
        TRY(inner_.remove(name));
        return unknown(name);
      case Fault::kDelay:
        delay({.is_remove = true, .name = std::string(name)});
        return unknown(name);
      default:
        break;
    }
    Result<void> result = inner_.remove(name);
    if (fault == Fault::kKillAfter) plan_.kill();
    return result;
  }

  Retention* retention() override { return inner_.retention(); }
  Versions* versions() override { return inner_.versions(); }
  Tiers* tiers() override { return inner_.tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_.remove_unfinished(older_than);
  }

  // Counts the call, lets due effects land, and says what is to happen.
  Fault begin(StoreCall call, std::string_view name) {
    uint64_t number = ++calls_;
    for (Delayed& effect : take_due(number)) land(effect);
    Fault fault = plan_.choose ? plan_.choose(number, call, name) : Fault::kNone;
    if (!fits(fault, call)) return Fault::kNone;
    ++faults_;
    if (fault == Fault::kKillBefore) plan_.kill();
    return fault;
  }

  // A call that only reads or prepares.
  template <class T, class Do>
  Result<T> around(StoreCall call, std::string_view name, Fault& fault, Do&& run) {
    fault = begin(call, name);
    if (fault == Fault::kFail) return failed(name);
    if (fault == Fault::kNoSpace) return no_space(name);
    Result<T> result = run();
    if (fault == Fault::kKillAfter) plan_.kill();
    return result;
  }

  void flip_bit(MutableByteView bytes) {
    if (bytes.empty()) return;
    std::lock_guard hold(mutex_);
    size_t bit = random_() % (bytes.size() * 8);
    bytes[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
  }

 private:
  template <class Put>
  Result<void> store(StoreCall call, std::string_view name, ByteView bytes, Put&& put) {
    Fault fault = begin(call, name);
    Bytes changed;
    switch (fault) {
      case Fault::kFail:
        return failed(name);
      case Fault::kNoSpace:
        return no_space(name);
      case Fault::kLie:
        return {};
      case Fault::kUnknownUndone:
        return unknown(name);
      case Fault::kUnknownDone:
        TRY(put(bytes));
        return unknown(name);
      case Fault::kDelay:
        delay({.name = std::string(name), .bytes = to_bytes(bytes)});
        return unknown(name);
      case Fault::kTear:
        return put(bytes.first(torn_size(bytes.size())));
      case Fault::kFlipBit:
        changed = to_bytes(bytes);
        flip_bit(changed);
        return put(changed);
      default:
        break;
    }
    Result<void> result = put(bytes);
    if (fault == Fault::kKillAfter) plan_.kill();
    return result;
  }

  size_t torn_size(size_t size) {
    std::lock_guard hold(mutex_);
    return size == 0 ? 0 : random_() % size;
  }

  void delay(Delayed effect) {
    std::lock_guard hold(mutex_);
    effect.repeats = plan_.delay_repeats_max == 0 ? 0 : random_() % (plan_.delay_repeats_max + 1);
    schedule(std::move(effect));
  }
  void schedule(Delayed effect) {
    effect.due = calls_ + 1 + random_() % std::max<uint64_t>(plan_.delay_calls_max, 1);
    delayed_.push_back(std::move(effect));
  }

  std::vector<Delayed> take_due(uint64_t number) {
    std::lock_guard hold(mutex_);
    std::vector<Delayed> due;
    auto is_due = [&](const Delayed& effect) { return effect.due <= number; };
    std::copy_if(delayed_.begin(), delayed_.end(), std::back_inserter(due), is_due);
    std::erase_if(delayed_, is_due);
    return due;
  }

  void land(Delayed& effect) {
    // Nobody waits for the answer any more; "exists" is as good as any.
    if (effect.is_remove) {
      (void)inner_.remove(effect.name);
    } else {
      (void)inner_.put_if_absent(effect.name, effect.bytes);
    }
    if (effect.repeats-- == 0) return;
    std::lock_guard hold(mutex_);
    schedule(std::move(effect));
  }

  static Error failed(std::string_view name) {
    return fail(ErrorKind::kFailed, fmt::format("the store failed at \"{}\"", name), "injected");
  }
  static Error unknown(std::string_view name) {
    return fail(ErrorKind::kUnknown, fmt::format("no answer about \"{}\"", name), "injected");
  }
  static Error no_space(std::string_view name) {
    return fail(ErrorKind::kNoSpace, fmt::format("no space for \"{}\"", name), "injected");
  }

  Store& inner_;
  FaultPlan plan_;
  std::atomic<uint64_t> calls_ = 0;
  std::atomic<uint64_t> faults_ = 0;
  std::mutex mutex_;
  std::mt19937_64 random_;
  std::vector<Delayed> delayed_;
};

class FaultyWriter final : public ObjectWriter {
 public:
  FaultyWriter(FaultyStoreImpl& store, std::string name) : store_(store), name_(std::move(name)) {}
  Result<void> append(ByteView bytes) override {
    Fault fault = Fault::kNone;
    return store_.around<void>(StoreCall::kAppend, name_, fault, [&]() -> Result<void> {
      kuramori::append(bytes_, bytes);
      return {};
    });
  }
  Result<void> commit() override { return store_.commit(name_, bytes_); }

 private:
  FaultyStoreImpl& store_;
  std::string name_;
  Bytes bytes_;
};

class FaultyReader final : public ObjectReader {
 public:
  FaultyReader(FaultyStoreImpl& store, std::string name, std::unique_ptr<ObjectReader> inner)
      : store_(store), name_(std::move(name)), inner_(std::move(inner)) {}
  uint64_t size() const override { return inner_->size(); }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    Fault fault = Fault::kNone;
    Result<void> done =
        store_.around<void>(StoreCall::kRead, name_, fault, [&] { return inner_->read(offset, out); });
    if (done && fault == Fault::kFlipBit) store_.flip_bit(out);
    return done;
  }

 private:
  FaultyStoreImpl& store_;
  std::string name_;
  std::unique_ptr<ObjectReader> inner_;
};

Result<std::unique_ptr<ObjectWriter>> FaultyStoreImpl::create(std::string_view name) {
  Fault fault = Fault::kNone;
  return around<std::unique_ptr<ObjectWriter>>(
      StoreCall::kCreate, name, fault, [&]() -> Result<std::unique_ptr<ObjectWriter>> {
        TRY(check_object_name(name));
        return std::unique_ptr<ObjectWriter>(new FaultyWriter(*this, std::string(name)));
      });
}

Result<std::unique_ptr<ObjectReader>> FaultyStoreImpl::open(std::string_view name) {
  Fault fault = Fault::kNone;
  TRY_ASSIGN(std::unique_ptr<ObjectReader> inner,
             around<std::unique_ptr<ObjectReader>>(StoreCall::kOpen, name, fault,
                                                   [&] { return inner_.open(name); }));
  return std::unique_ptr<ObjectReader>(new FaultyReader(*this, std::string(name), std::move(inner)));
}

}  // namespace

FaultPlan fault_at_call(uint64_t number, Fault fault) {
  return {.choose = [=](uint64_t now, StoreCall,
                        std::string_view) { return now == number ? fault : Fault::kNone; },
          .seed = number};
}

FaultPlan random_faults(uint64_t seed, double chance, std::vector<Fault> faults) {
  // From the call's number alone, so that a run replays whatever else draws numbers.
  return {.choose =
              [=](uint64_t number, StoreCall, std::string_view) {
                std::mt19937_64 random(seed * 0x9e3779b97f4a7c15 + number);
                if (faults.empty() || static_cast<double>(random() >> 11) * 0x1p-53 >= chance)
                  return Fault::kNone;
                return faults[random() % faults.size()];
              },
          .seed = seed};
}

std::unique_ptr<FaultyStore> make_faulty_store(Store& inner, FaultPlan plan) {
  return std::make_unique<FaultyStoreImpl>(inner, std::move(plan));
}

}  // namespace kuramori
