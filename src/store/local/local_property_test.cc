// Random calls on a local store against a sorted map.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "os/file.h"
#include "store/local/local_store.h"

namespace kuramori {
namespace {

// Thousands of fsyncs, of which none is the point here: in memory where the machine has such a folder.
std::string memory_folder() {
  return status_of("/dev/shm") ? "/dev/shm" : "";
}

RC_GTEST_PROP(LocalStoreProperty, behaves_like_a_sorted_map, ()) {
  static const std::vector<std::string> kParts = {"a", "a-", "a.b", "a0", "ab", "B", "_", "a=", "z@"};
  TemporaryFolder folder = *TemporaryFolder::make("kuramori-property", memory_folder());
  auto store = *create_local_store(folder.path());
  std::map<std::string, std::string> model;
  auto random_name = [&] {
    // Objects are always the deepest part ("x…"), so that none is another's folder.
    std::string name;
    for (int depth = *rc::gen::inRange(0, 3); depth > 0; --depth) name += *rc::gen::elementOf(kParts) + "/";
    return name + "x" + *rc::gen::elementOf(kParts);
  };
  for (int step = *rc::gen::inRange(1, 40); step > 0; --step) {
    std::string name = random_name();
    if (*rc::gen::inRange(0, 3) == 0) {
      RC_ASSERT(store->remove(name).has_value());
      model.erase(name);
    } else {
      Result<void> put = store->put_if_absent(name, as_bytes(name));
      RC_ASSERT(put.has_value() == model.emplace(name, name).second);
    }
  }
  std::string prefix =
      *rc::gen::elementOf(std::vector<std::string>{"", "a", "a/", "a-", "a.b/", "x", "a/a", "ab/x"});
  std::string after = *rc::gen::inRange(0, 2) == 0 ? "" : random_name();
  size_t limit = static_cast<size_t>(*rc::gen::inRange(1, 6));
  for (;;) {
    Result<ListPage> page = store->list(prefix, after, limit);
    RC_ASSERT(page.has_value());
    std::vector<std::string> expected, got;
    bool more = false;
    for (auto at = model.upper_bound(after); at != model.end(); ++at) {
      if (!at->first.starts_with(prefix)) continue;
      if (expected.size() == limit) {
        more = true;
        break;
      }
      expected.push_back(at->first);
    }
    for (const ObjectInfo& object : page->objects) got.push_back(object.name);
    RC_ASSERT(got == expected);
    RC_ASSERT(page->more == more);
    if (!more) break;
    after = got.back();
  }
}

}  // namespace
}  // namespace kuramori
