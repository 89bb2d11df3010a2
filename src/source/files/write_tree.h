// Writes a snapshot's tree into a new folder, one entry after the other. The engine has a faster way, in
// parallel and resumable; this one serves drills and whoever has a CapturedTree and no engine.
#pragma once
#include <stop_token>

#include "base/reporter.h"
#include "source/files/apply.h"
#include "source/source.h"

namespace kuramori::files {

// `request.to` is absent or an empty folder, else kRefused; `overwrite` and `delta` are refused, too. Below a
// damaged or hostile tree's target nothing but the target is written (V27). A file is durable when this
// returns, not before.
Result<SourceRestoreOutcome> write_tree(const CapturedTree& tree, const SourceRestoreRequest& request,
                                        const ApplyOptions& options, Reporter& reporter,
                                        const std::stop_token& stop);

}  // namespace kuramori::files
