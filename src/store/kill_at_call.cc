// wrap_for_fault_tests: a real process is killed, or stopped, at a chosen store call.
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "store/fault.h"

namespace kuramori {
namespace {

struct Request {
  uint64_t kill_at = 0;  // 0: never
  bool after = false;
  uint64_t stop_at = 0;  // 0: never
  std::string count_file;
};

uint64_t number_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

// One a process: however many stores it opens, the N-th call is the N-th of all.
struct Counter {
  Request request;
  std::atomic<uint64_t> calls = 0;

  [[noreturn]] static void end_now() {
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }
};

Counter& counter() {
  static auto* leaked = [] {
    auto* made = new Counter;
    made->request.kill_at = number_in("KURAMORI_TEST_KILL_AT_STORE_CALL");
    made->request.after = number_in("KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER") != 0;
    made->request.stop_at = number_in("KURAMORI_TEST_STOP_AT_STORE_CALL");
    if (const char* file = std::getenv("KURAMORI_TEST_COUNT_STORE_CALLS")) made->request.count_file = file;
    return made;
  }();
  return *leaked;
}

void write_count() {
  std::FILE* file = std::fopen(counter().request.count_file.c_str(), "we");
  CHECK(file != nullptr);
  fmt::print(file, "{}\n", counter().calls.load());
  std::fclose(file);
}

template <class Do>
auto counted(Do&& run) {
  Counter& all = counter();
  uint64_t number = ++all.calls;
  if (number == all.request.kill_at && !all.request.after) Counter::end_now();
  // The whole process, all its threads; it goes on when somebody sends SIGCONT.
  if (number == all.request.stop_at) ::kill(::getpid(), SIGSTOP);
  auto result = run();
  if (number == all.request.kill_at && all.request.after) Counter::end_now();
  return result;
}

class CountedWriter final : public ObjectWriter {
 public:
  explicit CountedWriter(std::unique_ptr<ObjectWriter> inner) : inner_(std::move(inner)) {}
  Result<void> append(ByteView bytes) override {
    return counted([&] { return inner_->append(bytes); });
  }
  Result<void> commit() override {
    return counted([&] { return inner_->commit(); });
  }

 private:
  std::unique_ptr<ObjectWriter> inner_;
};

class CountedReader final : public ObjectReader {
 public:
  explicit CountedReader(std::unique_ptr<ObjectReader> inner) : inner_(std::move(inner)) {}
  uint64_t size() const override { return inner_->size(); }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    return counted([&] { return inner_->read(offset, out); });
  }

 private:
  std::unique_ptr<ObjectReader> inner_;
};

class CountedStore final : public Store {
 public:
  explicit CountedStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}
  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return counted([&] { return inner_->put_if_absent(name, bytes); });
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, counted([&] { return inner_->create(name); }));
    return std::unique_ptr<ObjectWriter>(new CountedWriter(std::move(writer)));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectReader> reader, counted([&] { return inner_->open(name); }));
    return std::unique_ptr<ObjectReader>(new CountedReader(std::move(reader)));
  }
  Result<Bytes> get(std::string_view name) override {
    return counted([&] { return inner_->get(name); });
  }
  Result<ObjectInfo> head(std::string_view name) override {
    return counted([&] { return inner_->head(name); });
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    return counted([&] { return inner_->list(prefix, after, limit); });
  }
  Result<void> remove(std::string_view name) override {
    return counted([&] { return inner_->remove(name); });
  }
  Retention* retention() override { return inner_->retention(); }
  Versions* versions() override { return inner_->versions(); }
  Tiers* tiers() override { return inner_->tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return counted([&] { return inner_->remove_unfinished(older_than); });
  }

 private:
  std::unique_ptr<Store> inner_;
};

}  // namespace

std::unique_ptr<Store> wrap_for_fault_tests(std::unique_ptr<Store> store) {
  const Request& request = counter().request;
  if (request.kill_at == 0 && request.stop_at == 0 && request.count_file.empty()) return store;
  static const bool registered = request.count_file.empty() || std::atexit(write_count) == 0;
  CHECK(registered);
  return std::make_unique<CountedStore>(std::move(store));
}

}  // namespace kuramori
