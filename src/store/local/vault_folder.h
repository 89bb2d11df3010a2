// The folder below a local store: how an object's file comes to be, durably and once, and goes.
#pragma once
#include <set>
#include <string>
#include <string_view>

#include "os/file.h"
#include "store/local/local_store.h"

namespace kuramori {

// A file in `.tmp` on its way to a name. Destroyed before publish(): gone.
class PendingFile {
 public:
  PendingFile(PendingFile&& other) noexcept;
  PendingFile& operator=(PendingFile&&) = delete;
  ~PendingFile();
  const Fd& fd() const { return fd_; }

 private:
  friend class VaultFolder;
  PendingFile(const Fd& folder, std::string name, Fd fd)
      : folder_(&folder), name_(std::move(name)), fd_(std::move(fd)) {}
  const Fd* folder_;  // `.tmp`; owned by the VaultFolder, which outlives this
  std::string name_;  // empty: published
  Fd fd_;
};

class VaultFolder {
 public:
  static Result<VaultFolder> open(const std::string& root, LocalStoreOptions options);
  VaultFolder(VaultFolder&& other) noexcept;

  const std::string& path() const { return path_; }
  const Fd& root() const { return root_; }

  Result<PendingFile> make_pending();
  // Gives the file its name, whole and durable, or says kExists. After a failure past the rename: kUnknown.
  Result<void> publish(PendingFile& pending, std::string_view name);
  // Opens an object's file. kNotFound only if it is certain that there is none.
  Result<Fd> open_object(std::string_view name);
  Result<FileStatus> object_status(std::string_view name);
  Result<void> remove(std::string_view name);
  // Fails if the folder itself is gone, which would make everything look absent (P68).
  Result<void> check_present();

 private:
  VaultFolder(std::string path, Fd root, LocalStoreOptions options)
      : path_(std::move(path)), root_(std::move(root)), options_(options) {}
  Result<std::optional<Fd>> open_parent_if_there(std::string_view name);
  bool is_durable(std::string_view folder);
  Result<Fd> make_parent(std::string_view name);
  Result<const Fd*> pending_folder();
  Result<void> link_without_replace(const PendingFile& pending, const Fd& parent, const std::string& leaf);

  std::string path_;
  Fd root_;
  LocalStoreOptions options_;
  std::mutex mutex_;
  Fd pending_;  // `.tmp`, opened at the first write: a read-only vault has none
  // Folders whose entry in their parent this process knows to be durable. Another process may have made a
  // folder and not synced its parent yet: so each is synced once here too, whoever made it.
  std::set<std::string, std::less<>> durable_;
};

constexpr std::string_view kPendingFolder = ".tmp";

}  // namespace kuramori
