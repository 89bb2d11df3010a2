#include "daemon/fetcher.h"

#include <algorithm>

namespace kuramori {
namespace {

constexpr Duration kSaySomethingEvery = std::chrono::seconds(2);

// The segment that recovery will ask for at `start`: along the promise where there is one, which leads across
// a switch of timelines (P43); else on the timeline it is on. Nothing where it is not whole.
std::optional<postgres::SegmentSource> next_segment(const postgres::Archive& archive,
                                                    postgres::Timeline timeline, postgres::Lsn start,
                                                    const std::optional<postgres::RecoveryPromise>& promise) {
  auto source = promise ? archive.segment_on(promise->lineage, start) : archive.segment(timeline, start);
  if (!source || !*source || (*source)->covered_to < start + archive.segment_bytes()) return std::nullopt;
  return std::move(**source);
}

}  // namespace

Fetcher::Fetcher(ServedVaults& vaults, size_t workers) : vaults_(vaults) {
  for (size_t i = 0; i < workers; ++i)
    threads_.emplace_back([this](std::stop_token stop) { work(std::move(stop)); });
}

Fetcher::~Fetcher() {
  for (std::jthread& thread : threads_) thread.request_stop();
  changed_.notify_all();
}

void Fetcher::drop(const EntryRef& entry) {
  auto there = entries_.find(entry->key);
  if (there == entries_.end() || there->second != entry) return;
  entries_.erase(there);
  bytes_ -= entry->bytes;
  std::erase(order_, entry);
  std::erase(queue_, entry);
}

void Fetcher::take_spare(const Place& place, Fd file) {
  const auto status = status_of(file, "a spare file");
  const bool is_one = status && status->type == FileType::kFile && status->links == 0 && status->size == 0 &&
                      status->device == place.device && status->uid == place.uid;
  std::unique_lock hold(mutex_);
  if (!is_one) return;
  std::optional<Fd> oldest;  // closed without the lock: that removes a file
  if (spares_.size() >= kSparesMax) {
    oldest = std::move(spares_.front().second);
    spares_.pop_front();
  }
  spares_.emplace_back(place, std::move(file));
  hold.unlock();
}

std::optional<Fd> Fetcher::spare_of(const Place& place) {
  auto found = std::ranges::find(spares_, place, [](const auto& spare) { return spare.first; });
  if (found == spares_.end()) return std::nullopt;
  Fd file = std::move(found->second);
  spares_.erase(found);
  return file;
}

std::optional<Fetched> Fetcher::fetch(const Entry& entry, std::optional<Fd> spare) {
  // What goes wrong is found out again, and told, by the one who asks for it.
  auto vault = vaults_.open(entry.key.vault);
  if (!vault) return std::nullopt;
  auto content = fetch_segment(**vault, *entry.archive, entry.source);
  if (!content) return std::nullopt;
  Fetched fetched{.bytes = content->size(), .file = std::move(spare), .content = {}};
  // A disk without room: from memory into the room that is there when it is asked for.
  if (fetched.file && !pwrite_full(*fetched.file, 0, *content, entry.key.name)) fetched.file.reset();
  if (!fetched.file) fetched.content = std::move(*content);
  return fetched;
}

postgres::GetDecision Fetcher::get(size_t vault, const WalGetRequest& request, const Place& place,
                                   Fetched& fetched, const std::function<void()>& still_working) {
  const Key key{vault, request.resource,
                request.promise ? postgres::format_promise(*request.promise) : std::string(), request.name};
  {
    std::unique_lock hold(mutex_);
    last_asked_ = system_clock().steady();
    if (auto there = entries_.find(key); there != entries_.end()) {
      EntryRef entry = there->second;
      if (!entry->running && !entry->done) {
        std::erase(queue_, entry);
        queue_.push_front(entry);
      }
      while (!entry->done) {
        if (changed_.wait_for(hold, kSaySomethingEvery, [&] { return entry->done; })) break;
        hold.unlock();
        still_working();
        hold.lock();
      }
      drop(entry);
      if (entry->fetched && (!entry->fetched->file || entry->place == place)) {
        fetched = std::move(*entry->fetched);
        entry->fetched.reset();  // a second one who waited looks for himself
        hold.unlock();
        fetch_ahead(vault, request, place, key);
        return {.answer = postgres::Get::kFound, .why = request.name + " found"};
      }
    }
  }
  auto opened = vaults_.open(vault);
  if (!opened) return postgres::stop_server(opened.error());
  std::optional<LoadedArchive> archive;
  postgres::GetDecision decision = look_up_wal_file(**opened, request, fetched.content, &archive);
  fetched.bytes = fetched.content.size();
  // A vault that was open for long may have been carried away: look once more before the server is stopped.
  if (decision.answer == postgres::Get::kStopServer) vaults_.let_go(vault, *opened);
  if (archive) {
    std::lock_guard hold(mutex_);
    archives_[{vault, request.resource}] = std::make_shared<const LoadedArchive>(std::move(*archive));
  }
  if (decision.answer == postgres::Get::kFound) fetch_ahead(vault, request, place, key);
  return decision;
}

void Fetcher::fetch_ahead(size_t vault, const WalGetRequest& request, const Place& place, const Key& key) {
  std::lock_guard hold(mutex_);
  auto known = archives_.find({vault, request.resource});
  if (known == archives_.end()) return;
  const std::shared_ptr<const LoadedArchive> archive = known->second;
  const uint32_t segment_bytes = archive->archive.segment_bytes();
  auto asked = postgres::parse_wal_file_name(request.name, segment_bytes);
  if (!asked || asked->kind != postgres::WalFileKind::kSegment) return;
  const size_t ahead_max = std::min<uint64_t>(kFetchAheadMax, kFetchedBytesMax / segment_bytes);
  for (size_t i = 1; i <= ahead_max; ++i) {
    const postgres::Lsn start = asked->start + i * segment_bytes;
    auto source = next_segment(archive->archive, asked->timeline, start, request.promise);
    if (!source) return;  // not archived yet, or no further: it is looked up when it is asked for
    Key next{key.vault, key.resource, key.promise,
             postgres::segment_name(source->timeline, start, segment_bytes)};
    if (entries_.contains(next)) continue;
    if (postgres::decide_get(archive->archive, next.name, request.promise).answer != postgres::Get::kFound)
      return;
    // Room is made of what nobody came for, oldest first: of recoveries that are over.
    while (bytes_ + segment_bytes > kFetchedBytesMax) {
      auto idle = std::ranges::find_if(order_, [&](const EntryRef& entry) {
        return entry->done && (entry->key.vault != key.vault || entry->key.resource != key.resource ||
                               entry->key.promise != key.promise || entry->source.start <= asked->start);
      });
      if (idle == order_.end()) return;
      drop(EntryRef(*idle));
    }
    auto entry = std::make_shared<Entry>(Entry{.key = next,
                                               .archive = archive,
                                               .source = std::move(*source),
                                               .bytes = segment_bytes,
                                               .place = place});
    entries_[next] = entry;
    order_.push_back(entry);
    queue_.push_back(entry);
    bytes_ += segment_bytes;
    changed_.notify_all();
  }
}

void Fetcher::work(std::stop_token stop) {
  while (!stop.stop_requested()) {
    EntryRef entry;
    std::optional<Fd> spare;
    {
      std::unique_lock hold(mutex_);
      if (!changed_.wait_for(hold, stop, kFetchedIdleMax, [&] { return !queue_.empty(); })) {
        // A recovery that ended leaves what it did not come for, and a listing.
        if (!stop.stop_requested() && system_clock().steady() - last_asked_ >= kFetchedIdleMax) {
          while (!order_.empty() && order_.front()->done) drop(EntryRef(order_.front()));
          archives_.clear();
          spares_.clear();
        }
        continue;
      }
      entry = queue_.front();
      queue_.pop_front();
      entry->running = true;
      spare = spare_of(entry->place);
    }
    std::optional<Fetched> fetched = fetch(*entry, std::move(spare));
    std::lock_guard hold(mutex_);
    entry->fetched = std::move(fetched);
    entry->done = true;
    changed_.notify_all();
  }
}

}  // namespace kuramori
