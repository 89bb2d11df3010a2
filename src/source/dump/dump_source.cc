#include "source/dump/capture.h"
#include "source/dump/doctor.h"
#include "source/dump/drill.h"
#include "source/dump/dump.h"
#include "source/dump/restore.h"
#include "source/dump/session.h"

namespace kuramori::dump {
namespace {

class DumpSource final : public Source {
 public:
  explicit DumpSource(DumpSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return begin_capture(settings_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return restore_dump(settings_, tree, request, reporter, stop);
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string&, Reporter& reporter,
                                         std::stop_token stop) override {
    return drill_dump(settings_, tree, reporter, stop);
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine(settings_); }
  std::vector<SourceClient> clients() override { return needed_clients(settings_); }

 private:
  const DumpSettings settings_;
};

}  // namespace

Result<std::unique_ptr<Source>> open_dump(DumpSettings settings) {
  TRY(conninfo_of(settings.connect, settings.password));
  return std::unique_ptr<Source>(new DumpSource(std::move(settings)));
}

}  // namespace kuramori::dump
