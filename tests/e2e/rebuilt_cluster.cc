#include "rebuilt_cluster.h"

#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

namespace kuramori::postgres {

constexpr int kSegmentTries = 100;  // of 100 ms, for a standby's last segment

// Writes to where the bytes belong; lanes of several threads write to different places of the same file.
class RebuiltCluster::Lane final : public CaptureLane {
 public:
  Lane(RebuiltCluster& owner, const Capture& capture) : owner_(owner), capture_(capture) {}

  Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) override {
    TRY(enter(file, first_page));
    if (pages.size() % 8192 != 0) return fail(ErrorKind::kFailed, "pages of a crooked size");
    if (file == last_file_ && first_page < next_page_) return fail(ErrorKind::kFailed, "pages do not ascend");
    last_file_ = file;
    next_page_ = first_page + static_cast<uint32_t>(pages.size() / 8192);
    {
      const std::lock_guard lock(owner_.mutex_);
      std::vector<bool>& given = owner_.given_[file];
      if (given.size() < next_page_) given.resize(next_page_);
      for (uint32_t page = first_page; page < next_page_; ++page) {
        if (given[page]) return fail(ErrorKind::kFailed, "a page was given twice");
        given[page] = true;
      }
    }
    return pwrite_full(open_, uint64_t{first_page} * 8192, pages, "page file");
  }
  Result<void> add_bytes(uint32_t file, ByteView bytes) override {
    TRY(enter(file, 0));
    return write_full(open_, bytes, "byte file");
  }

 private:
  Result<void> enter(uint32_t file, uint32_t first_page) {
    // A copy: files() may not grow while lanes run, but its entries are being filled in.
    const std::string path = capture_.files()[file].entry.path;
    if (owner_.on_data) owner_.on_data(path, first_page);
    if (open_.valid() && open_file_ == file) return {};
    const std::string target = join_path(owner_.folder_, path);
    TRY(make_folders(folder_of(target)));
    TRY_ASSIGN(open_, open_file(target, O_WRONLY | O_CREAT, 0600));
    open_file_ = file;
    return {};
  }

  RebuiltCluster& owner_;
  const Capture& capture_;
  Fd open_;
  uint32_t open_file_ = 0, last_file_ = UINT32_MAX, next_page_ = 0;
};

Result<CaptureEnd> RebuiltCluster::take(Capture& capture, const SkipRule& skip) {
  TRY(copy(capture, skip));
  return finish(capture);
}

Result<void> RebuiltCluster::copy(Capture& capture, const SkipRule& skip) {
  whole_ = !skip;
  given_.clear();
  // Folders and tablespace links first, so that content finds its way.
  TRY(make_folders(folder_));
  for (const CaptureFile& file : capture.files()) {
    const std::string target = join_path(folder_, file.entry.path);
    if (file.entry.type == EntryType::kDirectory) TRY(make_folders(target));
    if (file.entry.type == EntryType::kSymlink) {
      const std::string place = tablespaces() + "/" + file.entry.path.substr(file.entry.path.rfind('/') + 1);
      TRY(make_folders(place));
      if (symlink(place.c_str(), target.c_str()) != 0) return system_error("symlink " + target, errno);
    }
  }
  return capture.copy(skip, [&](unsigned) -> Result<std::unique_ptr<CaptureLane>> {
    return std::unique_ptr<CaptureLane>(std::make_unique<Lane>(*this, capture));
  });
}

Result<CaptureEnd> RebuiltCluster::finish(Capture& capture) {
  Lane lane(*this, capture);
  TRY_ASSIGN(CaptureEnd end, capture.finish(lane));
  if (whole_) TRY(check_complete(capture));
  TRY(settle(capture));
  // The links are ours; the map would make the original ones anew (P13, P48).
  if (!end.tablespace_map.empty()) TRY(remove_file(join_path(folder_, "tablespace_map")));
  const CaptureStart& start = capture.start();
  const uint64_t last = segment_number_before(end.stop_lsn, start.segment_bytes);
  for (uint64_t number = segment_number(start.start_lsn, start.segment_bytes); number <= last; ++number) {
    const std::string name = segment_name(start.timeline, number * start.segment_bytes, start.segment_bytes);
    // A standby has its last segment whole only when its primary has ended it: awaited, as the engine does.
    Result<Bytes> bytes = capture.wal_segment(name);
    for (int tries = 0; !bytes && bytes.error().kind == ErrorKind::kPartial && tries < kSegmentTries;
         ++tries) {
      if (while_waiting_) while_waiting_();
      system_clock().sleep(std::chrono::milliseconds(100));
      bytes = capture.wal_segment(name);
    }
    if (!bytes) return bytes.error();
    TRY(write_new_file(folder_ + "/pg_wal/" + name, *bytes));
  }
  TRY(PostgresServer::give_to_server_user(folder_));
  if (status_of(tablespaces())) TRY(PostgresServer::give_to_server_user(tablespaces()));
  return end;
}

Result<void> RebuiltCluster::check_complete(const Capture& capture) const {
  for (uint32_t index = 0; index < capture.files().size(); ++index) {
    const CaptureFile& file = capture.files()[index];
    if (file.entry.content != ContentKind::kPages || file.vanished) continue;
    const auto found = given_.find(index);
    const std::vector<bool> given = found == given_.end() ? std::vector<bool>() : found->second;
    const bool all = std::find(given.begin(), given.end(), false) == given.end();
    if (!all || given.size() * 8192 != file.entry.size) {
      return fail(ErrorKind::kFailed,
                  fmt::format("{} has {} bytes, its pages given up to {}, {}", file.entry.path,
                              file.entry.size, given.size(), all ? "all" : "with holes"));
    }
  }
  return {};
}

Result<void> RebuiltCluster::settle(Capture& capture) {
  for (const CaptureFile& file : capture.files()) {
    if (file.entry.type != EntryType::kFile) continue;
    const std::string target = join_path(folder_, file.entry.path);
    if (file.vanished) {
      TRY(remove_file(target));
      continue;
    }
    TRY(open_file(target, O_WRONLY | O_CREAT, 0600));  // files of no bytes (P10)
    if (truncate(target.c_str(), static_cast<off_t>(file.entry.size)) != 0)
      return system_error("truncate " + target, errno);
    chmod(target.c_str(), file.entry.mode);
  }
  chmod(folder_.c_str(), 0700);
  return {};
}

int find_file(const Capture& capture, std::string_view path) {
  for (size_t index = 0; index < capture.files().size(); ++index) {
    if (capture.files()[index].entry.path == path) return static_cast<int>(index);
  }
  return -1;
}

}  // namespace kuramori::postgres
