// Which relation files a snapshot has, by name and size: what a server of 17 or newer must be told before it
// sends only what changed since (postgres::OlderSnapshot). Page maps know their files by keyed digests alone,
// so the names come from the snapshot's tree, where the key may open it, and otherwise from what this machine
// remembers of its last capture. A name that the maps do not confirm is not used: no memory can be wrong, it
// can only be short, and what is not named is sent whole.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "source/postgres/capture.h"
#include "vault/content_writer.h"
#include "vault/vault.h"

namespace kuramori {

// Main forks, but for a sample of them (leave_out_sample). kNotFound, in words: no name is known.
Result<std::vector<postgres::OlderFile>> older_files(Vault& vault, const ResourceId& resource,
                                                     const BaseSnapshot& base);
// The names of a capture that came over the wire, for keys that open no tree. Where they cannot be kept, a
// note says so.
void remember_relation_files(const VaultInfo& vault, const ResourceId& resource,
                             std::span<const postgres::CaptureFile> files, Reporter& reporter);

// Some files are not named, others every time: they come whole, and every page of them that is held to be
// unchanged is looked at, as the sample on the host is (engine/changes_since.h; P24). As many as make
// kSamplePagesMin pages; none that alone would be much more than one page in a hundred.
std::vector<postgres::OlderFile> leave_out_sample(std::vector<postgres::OlderFile> files, Random& random);

}  // namespace kuramori
