#include "daemon/archiver.h"

#include <fmt/core.h>

#include <algorithm>

#include "engine/roles.h"
#include "os/heap.h"

namespace kuramori {
namespace {

constexpr Duration kSaySomethingEvery = std::chrono::seconds(2);
// A file that was changed a moment ago may be changed once more without its time moving on: the kernel's
// tick is 10 ms at most.
constexpr int64_t kSettledNs = 100'000'000;

bool may_be_mended(const Error& error) {
  return error.kind != ErrorKind::kRefused && error.kind != ErrorKind::kUsage;
}

// What lies before a segment, from the files that came with it, whatever their timeline: whether they fit is
// seen by who reads them.
postgres::ReadEarlierWal earlier_in_files(const std::vector<PushFile>& files, uint32_t segment_bytes) {
  std::map<postgres::Lsn, PushFile> by_start;
  std::optional<postgres::ReadEarlierWal> tail;
  for (const PushFile& file : files) {
    if (file.name == postgres::kTailFile) tail = postgres::read_tail_file(*file.file);
    if (auto name = postgres::parse_segment_name(file.name, segment_bytes))
      by_start.emplace(name->start, file);
  }
  return [by_start = std::move(by_start), tail = std::move(tail), segment_bytes](postgres::Lsn position,
                                                                                 MutableByteView pages) {
    auto file = by_start.find(position - position % segment_bytes);
    if (file == by_start.end()) return tail && (*tail)(position, pages);
    return pread_full(*file->second.file, position % segment_bytes, pages, file->second.name).has_value();
  };
}

}  // namespace

Archiver::Archiver(ServedVaults& vaults, Reporter& reporter, size_t workers)
    : vaults_(vaults), reporter_(reporter), workers_(workers) {
  for (size_t i = 0; i < workers; ++i)
    threads_.emplace_back([this](std::stop_token stop) { work(std::move(stop)); });
}

Archiver::~Archiver() {
  stop_ahead();
  for (std::jthread& thread : threads_) thread.request_stop();
  changed_.notify_all();
}

void Archiver::stop_ahead() {
  std::lock_guard hold(mutex_);
  ahead_stopped_ = true;
  std::erase_if(queue_, [&](const JobRef& job) {
    if (job->waiting > 0) return false;
    jobs_.erase(job->key);
    return true;
  });
}

Result<Archiver::Identity> Archiver::identity_of(const Fd& file, const std::string& name) {
  TRY_ASSIGN(FileStatus status, status_of(file, name));
  if (status.type != FileType::kFile) return fail(ErrorKind::kUsage, fmt::format("{} is no file", name));
  return Identity{.device = status.device,
                  .inode = status.inode,
                  .size = status.size,
                  .changed_ns = to_unix_ns(status.changed)};
}

Result<ResourceRecord> Archiver::resource_of(size_t vault, uint64_t system_id,
                                             const WalPushRequest& request) {
  // Asked anew for each request, also for what was done ahead: a key that was taken back archives no more.
  TRY_ASSIGN(std::shared_ptr<Vault> opened, vaults_.open(vault));
  TRY(must_be_allowed_still(*opened, Act::kArchive));
  auto resource = resource_to_push_to(*opened, system_id, request);
  if (!resource && may_be_mended(resource.error())) vaults_.let_go(vault, opened);
  return resource;
}

Result<WalPushOutcome> Archiver::push(size_t vault, const postgres::ControlFile& control,
                                      const WalPushRequest& request, PushFiles files,
                                      const std::function<void()>& still_working) {
  TRY_ASSIGN(ResourceRecord resource, resource_of(vault, control.system_id, request));
  std::vector<PushFile> earlier = files.earlier;
  earlier.push_back(files.wanted);
  earlier.insert(earlier.end(), files.ahead.begin(), files.ahead.end());

  auto job_of = [&](const PushFile& file, const Identity& identity) {
    return std::make_shared<Job>(Job{.key = {vault, control.system_id, resource.name, file.name, identity},
                                     .resource = resource,
                                     .segment_bytes = control.segment_bytes,
                                     .file = file,
                                     .earlier = earlier});
  };
  TRY_ASSIGN(Identity identity, identity_of(*files.wanted.file, files.wanted.name));
  JobRef wanted = job_of(files.wanted, identity);
  {
    std::lock_guard hold(mutex_);
    JobRef& known = jobs_[wanted->key];
    if (!known) {
      known = wanted;
      queue_.push_front(wanted);
    } else {
      wanted = known;
      if (std::erase(queue_, wanted) > 0) queue_.push_front(wanted);  // before what nobody waits for
    }
    ++wanted->waiting;
    uint64_t bytes = identity.size;
    for (const PushFile& file : files.ahead) {
      auto its = identity_of(*file.file, file.name);
      if (!its || ahead_stopped_ || queue_.size() >= kArchiverQueueMax) continue;
      if ((bytes += its->size) > kArchiverBytesMax) break;
      JobRef job = job_of(file, *its);
      if (jobs_.emplace(job->key, job).second) queue_.push_back(job);
    }
    changed_.notify_all();
  }

  std::unique_lock hold(mutex_);
  while (!wanted->result) {
    if (changed_.wait_for(hold, kSaySomethingEvery, [&] { return wanted->result.has_value(); })) break;
    hold.unlock();
    still_working();
    hold.lock();
  }
  --wanted->waiting;
  // Asked for, answered, forgotten: who asks again has it pushed again.
  if (auto there = jobs_.find(wanted->key); there != jobs_.end() && there->second == wanted)
    jobs_.erase(there);
  std::erase(stored_, wanted);
  if (!*wanted->result) return wanted->result->error();
  return WalPushOutcome{
      .resource = resource.name, .put = **wanted->result, .bytes = wanted->key.identity.size};
}

bool Archiver::may_run(const Job& job) const {
  return running_ == 0 || bytes_ + job.key.identity.size <= kArchiverBytesMax;
}

void Archiver::work(std::stop_token stop) {
  std::optional<WalPushTools> tools;
  for (;;) {
    JobRef job;
    {
      std::unique_lock hold(mutex_);
      auto has_work = [&] { return !queue_.empty() && may_run(*queue_.front()); };
      while (!changed_.wait_for(hold, stop, kArchiverIdleMax, has_work)) {
        if (stop.stop_requested()) return;  // whoever waits is served first
        if (!tools) continue;
        hold.unlock();
        tools.reset();
        give_back_freed_memory();
        hold.lock();
      }
      if (!tools) tools.emplace();
      // Where every processor has a file of its own (there is one worker more), helpers would only be in the
      // way.
      tools->helpers_max = running_ + queue_.size() + 1 < workers_ ? kWalHelpersMax : 0;
      job = queue_.front();
      queue_.pop_front();
      job->running = true;
      ++running_;
      bytes_ += job->key.identity.size;
    }
    run(job, *tools);
    changed_.notify_all();
  }
}

void Archiver::run(const JobRef& job, WalPushTools& tools) {
  const Key& key = job->key;
  auto store = [&]() -> Result<WalPut> {
    TRY_ASSIGN(std::shared_ptr<Vault> vault, vaults_.open(key.vault));
    auto put = push_wal_file(*vault, job->resource, job->segment_bytes, *job->file.file, key.name,
                             earlier_in_files(job->earlier, job->segment_bytes), tools);
    if (!put && may_be_mended(put.error())) vaults_.let_go(key.vault, vault);
    return put;
  };
  const int64_t began_ns = to_unix_ns(system_clock().now());
  Result<WalPut> result = store();
  // The identity speaks for the bytes that were read only if it has not moved since, could have moved, and is
  // of a clock fine enough to do so.
  auto after = identity_of(*job->file.file, key.name);
  const bool sure = after && *after == key.identity && key.identity.changed_ns + kSettledNs < began_ns &&
                    key.identity.changed_ns % 1'000'000 != 0;

  std::lock_guard hold(mutex_);
  --running_;
  bytes_ -= key.identity.size;
  job->file = {};
  job->earlier.clear();
  if (!result && job->waiting == 0)
    reporter_.warning(
        fmt::format("{} of {} could not be archived ahead: {}", key.name, key.resource, result.error().what));
  const bool keep = result && sure;
  if (!keep || job->waiting > 0) {
    jobs_.erase(key);
  } else {
    stored_.push_back(job);
    if (stored_.size() > kRememberedMax) {
      jobs_.erase(stored_.front()->key);
      stored_.pop_front();
    }
  }
  job->result = std::move(result);
}

}  // namespace kuramori
