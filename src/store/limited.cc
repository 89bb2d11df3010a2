#include "store/limited.h"

namespace kuramori {
namespace {

struct Accounts {
  Throttle* read;
  Throttle* written;
  void take_read(uint64_t bytes) const {
    if (read != nullptr) read->take(bytes);
  }
  void take_written(uint64_t bytes) const {
    if (written != nullptr) written->take(bytes);
  }
};

class LimitedWriter final : public ObjectWriter {
 public:
  LimitedWriter(std::unique_ptr<ObjectWriter> inner, Accounts accounts)
      : inner_(std::move(inner)), accounts_(accounts) {}
  Result<void> append(ByteView bytes) override {
    accounts_.take_written(bytes.size());
    return inner_->append(bytes);
  }
  Result<void> commit() override { return inner_->commit(); }

 private:
  std::unique_ptr<ObjectWriter> inner_;
  Accounts accounts_;
};

class LimitedReader final : public ObjectReader {
 public:
  LimitedReader(std::unique_ptr<ObjectReader> inner, Accounts accounts)
      : inner_(std::move(inner)), accounts_(accounts) {}
  uint64_t size() const override { return inner_->size(); }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    accounts_.take_read(out.size());
    return inner_->read(offset, out);
  }

 private:
  std::unique_ptr<ObjectReader> inner_;
  Accounts accounts_;
};

class LimitedStore final : public Store {
 public:
  LimitedStore(std::unique_ptr<Store> inner, Accounts accounts)
      : inner_(std::move(inner)), accounts_(accounts) {}
  std::string location() const override { return inner_->location(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    accounts_.take_written(bytes.size());
    return inner_->put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, inner_->create(name));
    return std::unique_ptr<ObjectWriter>(new LimitedWriter(std::move(writer), accounts_));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY_ASSIGN(std::unique_ptr<ObjectReader> reader, inner_->open(name));
    return std::unique_ptr<ObjectReader>(new LimitedReader(std::move(reader), accounts_));
  }
  Result<Bytes> get(std::string_view name) override {
    accounts_.take_read(0);  // whoever read before has not paid yet
    Result<Bytes> bytes = inner_->get(name);
    if (bytes && accounts_.read != nullptr) accounts_.read->spend(bytes->size());
    return bytes;
  }
  Result<ObjectInfo> head(std::string_view name) override { return inner_->head(name); }
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    return inner_->list(prefix, after, limit);
  }
  Result<void> remove(std::string_view name) override { return inner_->remove(name); }
  Retention* retention() override { return inner_->retention(); }
  Versions* versions() override { return inner_->versions(); }
  Tiers* tiers() override { return inner_->tiers(); }
  Result<size_t> remove_unfinished(Duration older_than) override {
    return inner_->remove_unfinished(older_than);
  }

 private:
  std::unique_ptr<Store> inner_;
  Accounts accounts_;
};

}  // namespace

std::unique_ptr<Store> with_limits(std::unique_ptr<Store> inner, Throttle* read, Throttle* written) {
  return std::make_unique<LimitedStore>(std::move(inner), Accounts{read, written});
}

}  // namespace kuramori
