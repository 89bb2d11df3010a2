#include "store/rclone/rclone_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "base/json_writer.h"
#include "os/file.h"
#include "store/rclone/rclone_answers.h"
#include "store/rclone/rclone_server.h"

namespace kuramori {
namespace {

constexpr std::string_view kUnfinished = ".tmp/";  // no object's name begins so
constexpr int kLooksMax = 6;                       // for what was put and is not seen yet
constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr int kRemovalLooksMax = 6;

using Wait = RcloneServer::Wait;
enum class Depth { kFolder, kTree };

std::string folder_part(std::string_view prefix) {
  size_t slash = prefix.rfind('/');
  return std::string(prefix.substr(0, slash == prefix.npos ? 0 : slash));
}

Duration pause_before(int look) {
  return kFirstPause * (1 << look);
}

class RcloneStore final : public Store {
 public:
  RcloneStore(std::string place, RcloneStoreOptions options, std::unique_ptr<RcloneServer> server,
              TemporaryFolder spool)
      : place_(std::move(place)),
        options_(std::move(options)),
        server_(std::move(server)),
        spool_(std::move(spool)) {}

  std::string location() const override { return "rclone:" + place_; }

  enum class IfMissing { kFail, kMake };
  Result<void> begin(IfMissing if_missing) {
    if (if_missing == IfMissing::kMake) {
      TRY(command("operations/mkdir", "", Wait::kShort));
      return {};
    }
    if (auto there = list_below("", Depth::kFolder); !there) return std::move(there).error();
    if (options_.sentinel.empty()) return {};
    TRY_ASSIGN(auto sentinel, look(options_.sentinel));
    guarded_ = sentinel.has_value();
    return {};
  }

  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY_ASSIGN(auto writer, create(name));
    TRY(writer->append(bytes));
    return writer->commit();
  }

  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override;
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override;

  Result<Bytes> get(std::string_view name) override {
    TRY(check_object_name(name));
    auto bytes = server_->read(place_, name);
    if (bytes) return bytes;
    return reading_failed(std::move(bytes).error());
  }

  Result<ObjectInfo> head(std::string_view name) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(auto item, look(name));
    if (item) return std::move(item->info);
    TRY(still_the_place());
    return fail(ErrorKind::kNotFound, fmt::format("{} is not there", name), location());
  }

  Result<void> remove(std::string_view name) override {
    TRY(check_object_name(name));
    changed();
    Result<void> removed = command("operations/deletefile", name, Wait::kShort);
    if (!removed && removed.error().kind != ErrorKind::kNotFound) {
      if (removed.error().what.ends_with("not a directory")) return {};
      return removed;
    }
    changed();
    TRY(still_the_place());
    for (int again = 0; again < kRemovalLooksMax; ++again) {
      TRY_ASSIGN(auto item, look(name));
      if (!item) return {};
      std::this_thread::sleep_for(pause_before(again));
    }
    return fail(ErrorKind::kUnknown, fmt::format("{} still stands after it was removed", name), location());
  }

  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY(check_list_request(prefix, limit));
    TRY_ASSIGN(std::shared_ptr<const Listing> listing, listing_for(prefix, after));
    ListPage page;
    auto at =
        std::ranges::upper_bound(listing->objects, after, {},
                                 [](const ObjectInfo& object) -> std::string_view { return object.name; });
    for (; at != listing->objects.end() && page.objects.size() < limit; ++at) page.objects.push_back(*at);
    page.more = at != listing->objects.end();
    std::lock_guard hold(mutex_);
    kept_ = page.more && listing->changes == changes_ ? listing : nullptr;
    if (kept_) kept_after_ = page.objects.back().name;
    return page;
  }

  Result<size_t> remove_unfinished(Duration older_than) override {
    TRY_ASSIGN(auto items,
               list_below(std::string(kUnfinished.substr(0, kUnfinished.size() - 1)), Depth::kFolder));
    size_t removed = 0;
    const Time limit =
        std::chrono::time_point_cast<Time::duration>(std::chrono::system_clock::now()) - older_than;
    for (const RcloneItem& item : items) {
      if (item.is_folder || !item.info.stored_at || *item.info.stored_at > limit) continue;
      Result<void> gone = command("operations/deletefile", item.info.name, Wait::kShort);
      if (!gone && gone.error().kind != ErrorKind::kNotFound) return std::move(gone).error();
      ++removed;
    }
    return removed;
  }

  // --- for its writers and readers -----------------------------------------------------------------------
  std::string new_spool_name() { return fmt::format("{}", next_spool_++); }
  std::string spool_path(const std::string& spooled) const { return spool_ / spooled; }

  // The bytes of a spooled file become an object.
  Result<void> publish(const std::string& name, const std::string& spooled, uint64_t size) {
    Claim claim(*this, name);  // of the threads here one at a time
    TRY_ASSIGN(auto there, look(name));
    if (there) return fail(ErrorKind::kExists, fmt::format("{} is taken", name), location());
    TRY(still_the_place());
    const std::string unfinished = fmt::format("{}{}-{}", kUnfinished, token_, spooled);
    // rclone compares size and digest of what it sent, where the remote knows one. Until it is moved nothing
    // has happened: whatever is left of it is no object.
    if (Result<void> sent = send(spooled, unfinished); !sent) {
      (void)command("operations/deletefile", unfinished, Wait::kShort);
      Error error = std::move(sent).error();
      if (error.kind != ErrorKind::kNoSpace) error.kind = ErrorKind::kFailed;
      return std::move(error).within(fmt::format("{} could not be sent", name));
    }
    changed();
    Result<void> moved = move(unfinished, name);
    changed();
    if (name == options_.sentinel && moved) guarded_ = true;
    // Whatever it answered: it is looked for, and counts when it stands there whole.
    for (int again = 0;; ++again) {
      auto stands = look(name);
      if (stands && *stands && (*stands)->info.size == size) return {};
      if (again == kLooksMax || (!moved && stands && !*stands)) break;
      std::this_thread::sleep_for(pause_before(again));
    }
    (void)command("operations/deletefile", unfinished, Wait::kShort);
    Error error =
        moved ? fail(ErrorKind::kUnknown, fmt::format("{} is not seen after it was put", name), location())
              : std::move(moved).error();
    error.kind = ErrorKind::kUnknown;
    return error;
  }

  Result<void> read(std::string_view name, uint64_t offset, MutableByteView out) {
    auto done = server_->read(place_, name, offset, out);
    if (done) return done;
    return reading_failed(std::move(done).error());
  }

 private:
  struct Listing {
    std::string prefix;
    uint64_t changes = 0;             // the count of ours when it was begun
    std::vector<ObjectInfo> objects;  // in byte order
  };

  struct Claim {
    RcloneStore& store;
    const std::string& name;
    Claim(RcloneStore& of, const std::string& wanted) : store(of), name(wanted) {
      std::unique_lock hold(store.mutex_);
      store.released_.wait(hold, [&] { return store.busy_.insert(name).second; });
    }
    ~Claim() {
      std::lock_guard hold(store.mutex_);
      store.busy_.erase(name);
      store.released_.notify_all();
    }
  };

  void changed() {
    std::lock_guard hold(mutex_);
    ++changes_;
    kept_.reset();
  }

  Result<void> command(std::string_view what, std::string_view remote, Wait wait) {
    JsonWriter json;
    json.begin_object().field("fs", place_).field("remote", remote).end_object();
    auto answer = server_->call(what, json.take(), wait);
    if (answer) return {};
    return std::move(answer).error();
  }

  Result<void> send(const std::string& spooled, const std::string& to) {
    JsonWriter json;
    json.begin_object().field("srcFs", spool_.path()).field("srcRemote", spooled);
    json.field("dstFs", place_).field("dstRemote", to).end_object();
    auto answer = server_->call("operations/copyfile", json.take(), Wait::kTransfer);
    if (answer) return {};
    return std::move(answer).error();
  }

  Result<void> move(const std::string& from, const std::string& to) {
    JsonWriter json;
    json.begin_object().field("srcFs", place_).field("srcRemote", from);
    json.field("dstFs", place_).field("dstRemote", to).end_object();
    auto answer = server_->call("operations/movefile", json.take(), Wait::kTransfer);
    if (answer) return {};
    return std::move(answer).error();
  }

  // What stands at a name. Only a certain absence is none (P68).
  Result<std::optional<RcloneItem>> look(std::string_view name) {
    JsonWriter json;
    json.begin_object().field("fs", place_).field("remote", name);
    json.key("opt")
        .begin_object()
        .field("filesOnly", true)
        .field("noMimeType", true)
        .end_object()
        .end_object();
    auto answer = server_->call("operations/stat", json.take(), Wait::kShort);
    if (answer) return parse_rclone_item(*answer);
    if (answer.error().kind == ErrorKind::kNotFound) return std::optional<RcloneItem>();
    return reading_error(std::move(answer).error());
  }

  static Error reading_error(Error error) {
    if (error.kind == ErrorKind::kUnknown) error.kind = ErrorKind::kFailed;  // a read changes nothing
    return error;
  }
  Error reading_failed(Error error) {
    if (error.kind == ErrorKind::kNotFound) {
      if (auto there = still_the_place(); !there) return std::move(there).error();
    }
    return reading_error(std::move(error));
  }

  // Where everything would seem to be gone, nothing may be concluded from one thing that is.
  Result<void> still_the_place() {
    if (!guarded_) return {};
    TRY_ASSIGN(auto sentinel, look(options_.sentinel));
    if (sentinel) return {};
    return fail(ErrorKind::kFailed, fmt::format("{} is another place than it was", location()),
                fmt::format("{} stood there and does not now", options_.sentinel),
                "connect or mount it again");
  }

  // kNotFound is an empty list for whatever is below the root.
  Result<std::vector<RcloneItem>> list_below(const std::string& folder, Depth depth) {
    JsonWriter json;
    json.begin_object().field("fs", place_).field("remote", folder);
    json.key("opt").begin_object().field("recurse", depth == Depth::kTree).field("noMimeType", true);
    json.field("filesOnly", depth == Depth::kTree).end_object().end_object();
    auto answer = server_->call("operations/list", json.take(), Wait::kShort);
    if (answer) return parse_rclone_list(*answer);
    if (answer.error().kind == ErrorKind::kNotFound && !folder.empty()) {
      TRY(still_the_place());
      return std::vector<RcloneItem>();
    }
    return reading_error(std::move(answer).error());
  }

  // The one that the last page came from, while nothing was changed here; else a new one. What comes later is
  // seen by a list that begins later.
  Result<std::shared_ptr<const Listing>> listing_for(std::string_view prefix, std::string_view after) {
    auto listing = std::make_shared<Listing>();
    {
      std::lock_guard hold(mutex_);
      if (kept_ && kept_->prefix == prefix && kept_after_ == after && !after.empty()) return kept_;
      listing->changes = changes_;
    }
    listing->prefix = prefix;
    auto take = [&](std::vector<RcloneItem>& items) {
      for (RcloneItem& item : items) {
        bool wanted =
            !item.is_folder && item.info.name.starts_with(prefix) && check_object_name(item.info.name);
        if (wanted) listing->objects.push_back(std::move(item.info));
      }
    };
    const std::string folder = folder_part(prefix);
    if (prefix.empty() || prefix.back() == '/') {
      TRY_ASSIGN(auto items, list_below(folder, Depth::kTree));
      take(items);
    } else {
      // Only those folders whose names go on from the prefix.
      TRY_ASSIGN(auto items, list_below(folder, Depth::kFolder));
      for (const RcloneItem& item : items) {
        if (!item.is_folder || !item.info.name.starts_with(prefix) || !check_object_name(item.info.name))
          continue;
        TRY_ASSIGN(auto inside, list_below(item.info.name, Depth::kTree));
        take(inside);
      }
      take(items);
    }
    if (listing->objects.empty()) TRY(still_the_place());
    std::ranges::sort(listing->objects, {}, &ObjectInfo::name);
    return listing;
  }

  const std::string place_;
  const RcloneStoreOptions options_;
  const std::unique_ptr<RcloneServer> server_;
  const TemporaryFolder spool_;
  const std::string token_ = fmt::format("{}", std::chrono::system_clock::now().time_since_epoch().count());
  std::atomic<uint64_t> next_spool_ = 0;
  std::atomic<bool> guarded_ = false;

  std::mutex mutex_;
  std::condition_variable released_;
  std::set<std::string> busy_;  // names that somebody here puts right now
  uint64_t changes_ = 0;
  std::shared_ptr<const Listing> kept_;
  std::string kept_after_;
};

// Collects an object in a file; it is sent when it is complete, so that its size is known and it can be sent
// again.
class SpoolWriter final : public ObjectWriter {
 public:
  static Result<std::unique_ptr<ObjectWriter>> make(RcloneStore& store, std::string name) {
    auto writer = std::unique_ptr<SpoolWriter>(new SpoolWriter(store, std::move(name)));
    TRY_ASSIGN(writer->file_, open_file(writer->path(), O_CREAT | O_EXCL | O_WRONLY));
    return writer;
  }
  ~SpoolWriter() override {
    file_ = Fd();
    (void)remove_file(path());
  }

  Result<void> append(ByteView bytes) override {
    TRY(write_full(file_, bytes, path()));
    size_ += bytes.size();
    return {};
  }
  Result<void> commit() override {
    TRY(file_.close());
    return store_.publish(name_, spooled_, size_);
  }

 private:
  SpoolWriter(RcloneStore& store, std::string name)
      : store_(store), name_(std::move(name)), spooled_(store.new_spool_name()) {}
  std::string path() const { return store_.spool_path(spooled_); }

  RcloneStore& store_;
  const std::string name_, spooled_;
  Fd file_;
  uint64_t size_ = 0;
};

class RemoteReader final : public ObjectReader {
 public:
  RemoteReader(RcloneStore& store, std::string name, uint64_t size)
      : store_(store), name_(std::move(name)), size_(size) {}
  uint64_t size() const override { return size_; }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    if (offset > size_ || out.size() > size_ - offset) {
      return fail(ErrorKind::kDamaged, fmt::format("{} is truncated: need {} bytes at {}, have {}", name_,
                                                   out.size(), offset, size_));
    }
    if (out.empty()) return {};
    return store_.read(name_, offset, out);
  }

 private:
  RcloneStore& store_;
  const std::string name_;
  const uint64_t size_;
};

Result<std::unique_ptr<ObjectWriter>> RcloneStore::create(std::string_view name) {
  TRY(check_object_name(name));
  return SpoolWriter::make(*this, std::string(name));
}

Result<std::unique_ptr<ObjectReader>> RcloneStore::open(std::string_view name) {
  TRY_ASSIGN(ObjectInfo info, head(name));
  return std::make_unique<RemoteReader>(*this, std::string(name), info.size);
}

Result<std::unique_ptr<Store>> begin_store(const std::string& place, RcloneStoreOptions options,
                                           RcloneStore::IfMissing if_missing) {
  TRY_ASSIGN(auto server, RcloneServer::start());
  TRY_ASSIGN(TemporaryFolder spool, TemporaryFolder::make("kuramori-rclone"));
  auto store = std::make_unique<RcloneStore>(place, std::move(options), std::move(server), std::move(spool));
  TRY(store->begin(if_missing));
  return store;
}

}  // namespace

Result<std::unique_ptr<Store>> open_rclone_store(const std::string& place, RcloneStoreOptions options) {
  return begin_store(place, std::move(options), RcloneStore::IfMissing::kFail);
}

Result<std::unique_ptr<Store>> create_rclone_store(const std::string& place, RcloneStoreOptions options) {
  return begin_store(place, std::move(options), RcloneStore::IfMissing::kMake);
}

}  // namespace kuramori
