#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kMountArguments[] = {
    {"RESOURCE[@SNAPSHOT]", "its name: all its snapshots; @latest or @ID: that one", Argument::Count::kOne,
     Completes::kResource},
    {"PATH", "an empty folder", Argument::Count::kOne, Completes::kFolder},
};
constexpr Example kMountExamples[] = {
    {"kuramori mount uploads /mnt/uploads", "every snapshot in a folder of its own, and `latest`"},
    {"kuramori mount uploads@latest /mnt/uploads", "the newest"},
    {"kuramori mount orders-db /mnt/orders --at \"2026-02-11 03:00:00+09:00\"",
     "a cluster's data directory as it was captured last before that moment"},
    {"kuramori mount uploads /mnt/uploads --vault /srv/kuramori --key-file reader.key",
     "with nothing but a vault and a reader's key"},
};
constexpr Option kMountOptions[] = {
    {.name = "at", .metavar = "TIME", .help = "the newest snapshot not after this moment, with its zone"},
    {.name = "background",
     .metavar = "",
     .help = "return when the mount stands; it stays until it is unmounted"},
    {.name = "allow-other",
     .metavar = "",
     .help = "others may enter too: owners, modes and ACLs then decide what each may read"},
    kLimitReadVault,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};
constexpr ExitMeaning kMountExits[] = {
    {0, "it was mounted, and is unmounted"},
    {1, "it could not be mounted"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "refused for safety, as a folder that is not empty"},
};

}  // namespace

constexpr Operation kMount = {
    .verb = "mount",
    .summary = "look into snapshots as into folders, read-only",
    .about =
        "Shows one snapshot, or all of a resource in folders named by their times (UTC), until Ctrl-C, a "
        "signal "
        "to end, or fusermount3 -u PATH. What is read is fetched and verified then, and nothing else; "
        "nothing is "
        "written to disk. What is damaged is an I/O error and a line in words, never other bytes.\n\n"
        "The snapshots that are looked at are kept from being collected meanwhile, for days if need be.",
    .examples = kMountExamples,
    .arguments = kMountArguments,
    .options = kMountOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/mount/1",
    .exits = kMountExits,
};

}  // namespace kuramori::operation
