// Where in a snapshot's tree a key and its versions are, and a snapshot read key by key.
#pragma once
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "source/source.h"
#include "store/s3/answers.h"

namespace kuramori::bucket {

// "%v2026-02-10T18:00:00.123000000Z-0000-ID": in the order of time. `nth`: of the versions put in that same
// tick, counted from the oldest.
std::string version_name(const S3Listed& version, size_t nth);

// The key, with `root` before it, of an entry below objects/ or versions/. kDamaged: of none.
Result<std::string> key_of_entry(std::string_view path, std::string_view root = {});

// All that a snapshot has of one key.
struct KeyHistory {
  std::string key;                   // without the root
  std::vector<TreeEntry> older;      // oldest first, delete markers among them
  std::optional<TreeEntry> current;  // nothing: the newest of `older` is a delete marker

  // What stood there at `at`: an entry with content, or null. Without `at`: what stands there now.
  const TreeEntry* at(const std::optional<Time>& moment) const;
};

struct HistoryRequest {
  std::vector<std::string> only;  // keys, or what keys begin with up to a '/'; empty: all
  bool older = false;             // versions/ as well; else `older` stays empty
};
// Key by key, in an order that is the tree's. Memory is of one key's versions, not of all keys.
// `entries`: how many of the tree were met.
Result<uint64_t> visit_histories(const CapturedTree& tree, const HistoryRequest& request,
                                 const std::stop_token& stop,
                                 const std::function<Result<void>(KeyHistory&&)>& visit);

// Whether `only` wants this key: it is empty, has it, or a folder it lies in.
bool is_wanted_key(const std::vector<std::string>& only, std::string_view key);

}  // namespace kuramori::bucket
