#include "daemon/served_vaults.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

using Numbers = std::vector<size_t>;

ServedVault vault(const std::string& name, const std::string& location, int& opened,
                  std::vector<std::string> archives = {}) {
  return {.name = name,
          .location = location,
          .key_file = "/k",
          .archives = std::move(archives),
          .open = [&opened]() -> Result<std::unique_ptr<Vault>> {
            ++opened;
            return fail(ErrorKind::kFailed, "it does not answer");
          }};
}

Numbers found(const ServedVaults& vaults, const std::string& name, const std::string& resource = {}) {
  WalRequest request;
  request.verb = WalVerb::kPush;
  request.vault = name;
  request.resource = resource;
  return vaults.candidates(request);
}

TEST(ServedVaults, P57_after_a_reload_those_that_stand_there_now_are_served) {
  int tokyo = 0, osaka = 0, moved = 0;
  std::vector<ServedVault> before;
  before.push_back(vault("tokyo", "/srv/tokyo", tokyo, {"db"}));
  ServedVaults vaults(std::move(before), "");
  EXPECT_EQ(found(vaults, "tokyo"), Numbers{0});
  EXPECT_EQ(found(vaults, "osaka"), Numbers{});
  EXPECT_EQ(found(vaults, ""), Numbers{0});  // the only one

  std::vector<ServedVault> more;
  more.push_back(vault("tokyo", "/srv/tokyo", tokyo, {"db"}));
  more.push_back(vault("osaka", "/srv/osaka", osaka, {"logs"}));
  vaults.replace(std::move(more));
  EXPECT_EQ(vaults.count(), 2u);  // tokyo stays what it was
  EXPECT_EQ(found(vaults, "tokyo"), Numbers{0});
  EXPECT_EQ(found(vaults, "osaka"), Numbers{1});
  EXPECT_EQ(found(vaults, "", "logs"), Numbers{1});

  // One moved, one gone: the old numbers are found no more, and whoever has one may finish with it.
  std::vector<ServedVault> after;
  after.push_back(vault("tokyo", "/srv/elsewhere", moved, {"db"}));
  vaults.replace(std::move(after));
  EXPECT_EQ(found(vaults, "tokyo"), Numbers{2});
  EXPECT_EQ(found(vaults, "osaka"), Numbers{});
  EXPECT_EQ(found(vaults, "", "logs"), Numbers{2});  // the only one there is
  EXPECT_EQ(vaults.vault(2).location, "/srv/elsewhere");
  EXPECT_FALSE(vaults.open(1));
  EXPECT_EQ(osaka, 1);
  EXPECT_FALSE(vaults.open(2));
  EXPECT_EQ(moved, 1);
}

}  // namespace
}  // namespace kuramori
