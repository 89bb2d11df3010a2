#include "engine/older_files.h"

#include <fmt/core.h>

#include <algorithm>

#include "engine/changes_since.h"
#include "engine/local_state.h"
#include "os/file.h"
#include "source/postgres/file_list.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

constexpr std::string_view kFolder = "relations";
constexpr size_t kNamesBytesMax = size_t{256} << 20;  // of what is remembered; a name has some thirty
constexpr uint64_t kSamplePartOfAll = 100;            // a file of the sample is no larger than one part

std::string names_path(const VaultId& vault, const ResourceId& resource) {
  return join_path(join_path(state_folder(), kFolder), fmt::format("{}.{}", vault.hex(), resource.hex()));
}

// One a line; what else stands there no page map will know.
std::vector<std::string> remembered_names(const VaultId& vault, const ResourceId& resource) {
  std::vector<std::string> names;
  const auto text = read_file(names_path(vault, resource), kNamesBytesMax);
  if (!text) return names;
  for (std::string_view rest = as_text(*text); !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    names.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return names;
}

std::vector<std::string> names_in_tree(Vault& vault, const BaseSnapshot& base) {
  std::vector<std::string> names;
  auto tree = read_tree(vault.store(), vault.keys(), base.live, base.commit);
  if (!tree) return names;
  for (TreeNode& node : tree->nodes) {
    if (node.entry.content == ContentKind::kPages) names.push_back(std::move(node.entry.path));
  }
  return names;
}

bool is_main_fork(std::string_view path) {
  postgres::CaptureFile file;
  file.entry.path = path;
  postgres::describe_relation_file(file, kPageBytes);
  return file.entry.content == ContentKind::kPages && !file.always_whole;
}

size_t below(size_t limit, Random& random) {
  uint8_t raw[8];
  random.fill(raw);
  return static_cast<size_t>(load_le<uint64_t>(raw) % limit);
}

}  // namespace

std::vector<postgres::OlderFile> leave_out_sample(std::vector<postgres::OlderFile> files, Random& random) {
  uint64_t all = 0;
  for (const postgres::OlderFile& file : files) all += file.bytes / kPageBytes;
  const uint64_t largest = std::max(kSamplePagesMin, all / kSamplePartOfAll);
  uint64_t chosen = 0;
  // Drawn one after the other; those that stay move to the front.
  size_t kept = 0;
  for (size_t next = 0; next < files.size(); ++next) {
    if (chosen < kSamplePagesMin) std::swap(files[next], files[next + below(files.size() - next, random)]);
    const uint64_t pages = files[next].bytes / kPageBytes;
    if (chosen < kSamplePagesMin && pages > 0 && pages <= largest) {
      chosen += pages;
      continue;
    }
    if (kept != next) files[kept] = std::move(files[next]);
    ++kept;
  }
  files.resize(kept);
  return files;
}

Result<std::vector<postgres::OlderFile>> older_files(Vault& vault, const ResourceId& resource,
                                                     const BaseSnapshot& base) {
  const Secret names_key = path_key(vault.keys(), resource);
  std::vector<std::string> names;
  if (vault.keys().reader) names = names_in_tree(vault, base);
  if (names.empty()) names = remembered_names(vault.info().id, resource);
  std::vector<postgres::OlderFile> files;
  for (std::string& name : names) {
    if (!is_main_fork(name)) continue;
    const auto known = base.pages.files.find(file_key(names_key.view(), name));
    if (known == base.pages.files.end()) continue;
    files.push_back({std::move(name), uint64_t{known->second.pages} * kPageBytes});
  }
  if (files.empty()) {
    return fail(ErrorKind::kNotFound,
                "this machine does not know the names of the last snapshot's files (another took it, or "
                "its local state was lost)");
  }
  return leave_out_sample(std::move(files), vault.random());
}

void remember_relation_files(const VaultInfo& vault, const ResourceId& resource,
                             std::span<const postgres::CaptureFile> files, Reporter& reporter) {
  Bytes text;
  for (const postgres::CaptureFile& file : files) {
    if (file.entry.content != ContentKind::kPages || file.always_whole) continue;
    append(text, as_bytes(file.entry.path));
    text.push_back('\n');
  }
  const std::string path = names_path(vault.id, resource);
  auto kept = make_folders(join_path(state_folder(), kFolder), 0700);
  if (kept) kept = write_file_durably(path, text);
  if (!kept) {
    reporter.note(fmt::format(
        "the names of the snapshot's files are not kept here: {}; with this key the next snapshot lets "
        "the server send everything",
        kept.error().what));
  }
}

}  // namespace kuramori
