// Trees: what decodes holds no path that leads out, and comes back from its encoding.
#include "vault/tree.h"

#include "fixed_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  auto tree = decode_tree(ByteView(data, size));
  if (!tree) return 0;
  for (const TreeNode& node : tree->nodes) {
    std::string guarded = "/" + node.entry.path + "/";
    fuzz::expect(guarded.find("//") == std::string::npos && guarded.find("/../") == std::string::npos &&
                 guarded.find("/./") == std::string::npos && guarded.find('\0') == std::string::npos);
  }
  Bytes again = encode_tree(*tree);
  auto back = decode_tree(again);
  fuzz::expect(back && encode_tree(*back) == again);
  return 0;
}
