#include "source/command/command.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "os/file.h"
#include "source/files/capture.h"
#include "source/files/write_tree.h"
#include "source/program/program.h"
#include "source/tree/views.h"
#include "source/tree/write_file.h"

namespace kuramori::command {
namespace {

constexpr std::string_view kOutput = "output", kFolder = "folder";
constexpr int64_t kClockStepNs = 2'000'000'000;  // of the coarsest filesystem times

ProgramRequest request_for(const CommandSettings& settings, const std::vector<std::string>& argv,
                           std::stop_token stop) {
  return {.argv = argv,
          .environment = settings.environment,
          .timeout = settings.timeout,
          .stop = std::move(stop)};
}

// A dump that is much smaller than the last is kept, and never passes for one like the others.
std::optional<Defect> shrunk(const CommandSettings& settings, std::string_view path, uint64_t bytes) {
  if (bytes == 0 && settings.bytes_before.value_or(1) != 0)
    return Defect{std::string(path),
                  "there is nothing in it: the program wrote 0 bytes and said it was well"};
  if (!settings.bytes_before) return std::nullopt;
  const auto least = static_cast<double>(*settings.bytes_before) * (1 - settings.shrink_max);
  if (static_cast<double>(bytes) >= least) return std::nullopt;
  return Defect{std::string(path),
                fmt::format("it is {} bytes, and was {} the last time: it shrank by more than {:.0f} %",
                            bytes, *settings.bytes_before, settings.shrink_max * 100)};
}

TreeEntry folder_entry(std::string path) {
  return {.path = std::move(path), .type = EntryType::kDirectory, .mode = 0700};
}

// --- output ----------------------------------------------------------------------------------------------

// The program runs while its output is read, and no byte of it is kept in between.
class OutputCapture final : public TreeCapture {
 public:
  OutputCapture(const CommandSettings& settings, std::stop_token stop)
      : settings_(settings), stop_(std::move(stop)) {}

  Result<std::optional<CaptureItem>> next() override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    switch (given_++) {
      case 0:
        return std::optional(CaptureItem{.entry = folder_entry("")});
      case 1:
        return std::optional(CaptureItem{.entry = {.path = std::string(kOutput),
                                                   .type = EntryType::kFile,
                                                   .content = ContentKind::kBytes,
                                                   .mode = 0600}});
      default:
        return std::optional<CaptureItem>();
    }
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    ProgramRequest request = request_for(settings_, settings_.run, stop_);
    request.on_output = [&](ByteView bytes) -> Result<void> {
      bytes_ += bytes.size();
      return sink.add(bytes);
    };
    if (begun_.exchange(true)) return fail(ErrorKind::kFailed, "the program's output can be read once");
    TRY(run_program(request));
    item.entry.size = bytes_;  // and no time: that it was run today is no change
    item.ctime_ns = 0;
    well_ = true;
    return {};
  }

  Result<void> finish() override {
    if (well_) return {};
    return fail(ErrorKind::kFailed, fmt::format("\"{}\" did not end well", settings_.run[0]),
                "what it wrote is not kept");
  }
  std::vector<Defect> defects() const override {
    std::vector<Defect> all;
    if (auto one = shrunk(settings_, kOutput, bytes_)) all.push_back(std::move(*one));
    return all;
  }
  std::map<std::string, std::string> facts() const override {
    return {{"bytes", std::to_string(bytes_)}, {"exit", "0"}};
  }

 private:
  const CommandSettings settings_;
  const std::stop_token stop_;
  int given_ = 0;
  std::atomic<bool> begun_ = false, well_ = false;
  std::atomic<uint64_t> bytes_ = 0;
};

// --- folder ----------------------------------------------------------------------------------------------

// What the program left in its folder, as the files it is, under "folder/".
class FolderCapture final : public TreeCapture {
 public:
  FolderCapture(const CommandSettings& settings, Time begun, std::unique_ptr<TreeCapture> files)
      : settings_(settings), begun_ns_(to_unix_ns(begun)), files_(std::move(files)) {}

  Result<std::optional<CaptureItem>> next() override {
    if (!given_root_) {
      given_root_ = true;
      return std::optional(CaptureItem{.entry = folder_entry("")});
    }
    TRY_ASSIGN(std::optional<CaptureItem> item, files_->next());
    if (!item) return item;
    newest_ns_ = std::max(newest_ns_, item->ctime_ns);
    if (item->entry.type == EntryType::kFile) bytes_ += item->entry.size;
    item->entry.path = outside(item->entry.path);
    if (item->entry.type == EntryType::kHardLink) item->entry.link = outside(item->entry.link);
    return item;
  }
  Result<void> complete(CaptureItem& item) override {
    return inside(item, [&] { return files_->complete(item); });
  }
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    return inside(item, [&] { return files_->read(item, sink); });
  }
  Result<void> finish() override { return files_->finish(); }
  std::vector<Defect> defects() const override {
    std::vector<Defect> all = files_->defects();
    for (Defect& defect : all) defect.path = outside(defect.path);
    if (auto one = shrunk(settings_, kFolder, bytes_)) all.push_back(std::move(*one));
    if (newest_ns_ + kClockStepNs < begun_ns_) {
      all.push_back(
          {std::string(kFolder),
           fmt::format("nothing in \"{}\" changed while the program ran: is it left from an older run?",
                       settings_.folder)});
    }
    return all;
  }
  std::map<std::string, std::string> facts() const override {
    std::map<std::string, std::string> facts = files_->facts();
    facts["bytes"] = std::to_string(bytes_);
    facts["exit"] = "0";
    return facts;
  }

 private:
  static std::string outside(const std::string& path) {
    return path.empty() ? std::string(kFolder) : fmt::format("{}/{}", kFolder, path);
  }
  // The files' own capture knows the entry by its path within the folder.
  template <class Do>
  static Result<void> inside(CaptureItem& item, Do&& act) {
    const std::string path = item.entry.path, link = item.entry.link;
    item.entry.path = path.size() > kFolder.size() ? path.substr(kFolder.size() + 1) : "";
    Result<void> done = act();
    item.entry.path = path;
    item.entry.link = link;
    return done;
  }

  const CommandSettings settings_;
  const int64_t begun_ns_;
  std::unique_ptr<TreeCapture> files_;
  bool given_root_ = false;
  int64_t newest_ns_ = 0;
  uint64_t bytes_ = 0;  // of its files, as the walk met them
};

// --- the source ------------------------------------------------------------------------------------------

// Whether the snapshot is of a folder; the settings may have changed since.
Result<bool> is_of_folder(const CapturedTree& tree) {
  bool folder = false, output = false;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    folder = folder || entry.path == kFolder;
    output = output || entry.path == kOutput;
    return {};
  }));
  if (folder != output) return folder;
  return fail(ErrorKind::kDamaged, "the snapshot holds neither a program's output nor its folder");
}

uint64_t bytes_of(const std::map<std::string, std::string>& facts) {
  const auto found = facts.find("bytes");
  return found == facts.end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
}

class CommandSource final : public Source {
 public:
  explicit CommandSource(CommandSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    if (settings_.run.empty())
      return fail(ErrorKind::kUsage, "`run` names no program", {}, "run: [ program, argument, … ]");
    if (settings_.folder.empty()) return std::make_unique<OutputCapture>(settings_, std::move(stop));
    const Time begun = system_clock().now();
    ProgramRequest request = request_for(settings_, settings_.run, stop);
    request.environment.emplace_back("KURAMORI_FOLDER", settings_.folder);
    TRY(run_program(request));
    TRY_ASSIGN(auto files,
               files::begin_capture({.paths = {settings_.folder}, .snapshot = files::Snapshot::kOff}, {},
                                    reporter, std::move(stop)));
    return std::make_unique<FolderCapture>(settings_, begun, std::move(files));
  }

  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    TRY_ASSIGN(const bool folder, is_of_folder(tree));
    if (request.to == kToCommand) return restore_by_command(tree, folder, reporter, stop);
    if (!request.to.starts_with('/')) {
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no place for a program's output", request.to), {},
                  "give an absolute path that does not exist, or \"command:\" for the program in `restore`");
    }
    return restore_to(tree, folder, request, reporter, stop);
  }

  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    TRY_ASSIGN(const bool folder, is_of_folder(tree));
    TRY_ASSIGN(
        const SourceRestoreOutcome outcome,
        restore_to(tree, folder, {.to = join_path(sandbox, folder ? kFolder : kOutput)}, reporter, stop));
    const uint64_t captured = bytes_of(tree.facts());
    std::vector<CheckResult> checks;
    checks.push_back({"bytes are those that were captured", outcome.bytes == captured ? "passed" : "failed",
                      fmt::format("{} restored, {} captured", outcome.bytes, captured)});
    checks.push_back({"it is not empty", outcome.bytes > 0 ? "passed" : "failed",
                      fmt::format("{} bytes in {} file(s)", outcome.bytes, outcome.entries)});
    return checks;
  }

  std::vector<SourceClient> clients() override {
    std::vector<SourceClient> clients{client_of(settings_.run, "is what is captured")};
    if (!settings_.restore.empty()) clients.push_back(client_of(settings_.restore, "takes it back"));
    return clients;
  }

  Result<std::vector<SourceFinding>> doctor() override {
    using Severity = SourceFinding::Severity;
    std::vector<SourceFinding> findings;
    if (auto one = look_at_program(settings_.run, "run")) findings.push_back(std::move(*one));
    if (settings_.restore.empty()) {
      findings.push_back({Severity::kHint, "restore", "there is no program to give a snapshot back to",
                          "it can be restored to a path", "restore: [ program, argument, … ]"});
    } else if (auto one = look_at_program(settings_.restore, "restore")) {
      findings.push_back(std::move(*one));
    }
    if (!settings_.folder.empty()) {
      const auto status = status_of(settings_.folder);
      if (!settings_.folder.starts_with('/')) {
        findings.push_back({Severity::kProblem, "folder",
                            fmt::format("\"{}\" is not absolute", settings_.folder),
                            "where it is would depend on who runs the backup", "folder: /srv/dump"});
      } else if (status && status->type != FileType::kFolder) {
        findings.push_back(
            {Severity::kProblem, "folder", fmt::format("\"{}\" is no folder", settings_.folder),
             "the program could leave nothing in it", fmt::format("mkdir -p '{}'", settings_.folder)});
      }
    }
    if (settings_.shrink_max <= 0 || settings_.shrink_max > 1) {
      findings.push_back({Severity::kProblem, "shrink_max",
                          fmt::format("{} is no share between 0 and 1", settings_.shrink_max),
                          "a backup that is suddenly smaller would be flagged always, or never",
                          "shrink_max: 0.5"});
    }
    if (!settings_.timeout) {
      findings.push_back({Severity::kHint, "timeout", "the program may take for ever",
                          "one that waits for an answer that does not come holds every later backup up",
                          "timeout: 1h"});
    }
    return findings;
  }

 private:
  // To a path: the one file, or the folder.
  static Result<SourceRestoreOutcome> restore_to(const CapturedTree& tree, bool folder,
                                                 SourceRestoreRequest request, Reporter& reporter,
                                                 const std::stop_token& stop) {
    if (request.overwrite || request.delta) {
      return fail(ErrorKind::kRefused, "this restore writes into something new only", "",
                  "name a path that does not exist with --to");
    }
    SourceRestoreOutcome outcome;
    if (folder) {
      for (std::string& path : request.only)
        path = path.size() > kFolder.size() ? path.substr(kFolder.size() + 1) : "";
      TRY_ASSIGN(outcome,
                 files::write_tree(TreeBelow(tree, std::string(kFolder)), request, {}, reporter, stop));
    } else {
      TRY_ASSIGN(outcome, write_file(tree, kOutput, request.to, 0600, stop));
    }
    ++outcome.entries;  // the root, which has become what holds the target
    return outcome;
  }

  Result<SourceRestoreOutcome> restore_by_command(const CapturedTree& tree, bool folder, Reporter& reporter,
                                                  const std::stop_token& stop) {
    if (settings_.restore.empty()) {
      return fail(ErrorKind::kUsage, "`restore` names no program to give the snapshot to", {},
                  "restore: [ program, argument, … ], or give a path");
    }
    ProgramRequest request = request_for(settings_, settings_.restore, stop);
    request.may_leave_children = true;  // a server that it starts
    SourceRestoreOutcome outcome{.target = settings_.restore[0]};
    if (!folder) {
      CountedSink counted;
      request.give_input = [&](ContentSink& sink) -> Result<void> {
        counted.to = &sink;
        return tree.read(kOutput, counted);
      };
      TRY(run_program(request));
      outcome.entries = 2;  // with the root
      outcome.bytes = counted.bytes;
      return outcome;
    }
    TRY_ASSIGN(const TemporaryFolder parent, TemporaryFolder::make("kuramori-command"));
    const std::string copy = parent / "restored";
    TRY_ASSIGN(outcome, restore_to(tree, folder, {.to = copy}, reporter, stop));
    request.environment.emplace_back("KURAMORI_FOLDER", copy);
    TRY(run_program(request));
    outcome.target = settings_.restore[0];
    return outcome;
  }

  struct CountedSink final : ContentSink {
    ContentSink* to = nullptr;
    uint64_t bytes = 0;
    Result<void> add(ByteView more) override {
      bytes += more.size();
      return to->add(more);
    }
    Result<void> add_hole(uint64_t more) override {
      bytes += more;
      return to->add_hole(more);
    }
    Result<void> restart() override {
      bytes = 0;
      return to->restart();
    }
  };

  const CommandSettings settings_;
};

}  // namespace

std::unique_ptr<Source> make_source(CommandSettings settings) {
  return std::make_unique<CommandSource>(std::move(settings));
}

}  // namespace kuramori::command
