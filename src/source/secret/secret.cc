#include "source/secret/secret.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>

#include "crypto/digest.h"
#include "crypto/secret.h"
#include "os/file.h"
#include "source/files/capture.h"
#include "source/files/watch.h"
#include "source/files/write_tree.h"
#include "source/program/program.h"
#include "source/tree/views.h"
#include "source/tree/write_file.h"

namespace kuramori::secret {
namespace {

constexpr std::string_view kOutput = "output";
constexpr size_t kLookedAtBytesMax = size_t{1} << 20;  // a larger file is no list of keys
constexpr uint32_t kForOthers = 077;

// Sees content go by, hands it on if there is somebody, and knows afterwards how many keys were in it and
// what its digest is. What it held is wiped.
class Looker final : public ContentSink {
 public:
  explicit Looker(ContentSink* to = nullptr) : to_(to) { seen_.reserve(kLookedAtBytesMax); }
  ~Looker() override { forget(); }
  Looker(const Looker&) = delete;

  Result<void> add(ByteView bytes) override {
    look(bytes);
    return to_ == nullptr ? Result<void>() : to_->add(bytes);
  }
  Result<void> add_hole(uint64_t bytes) override {
    static const Bytes kZeros(size_t{64} << 10);
    for (uint64_t left = bytes; left > 0; left -= std::min<uint64_t>(left, kZeros.size()))
      look(ByteView(kZeros).first(std::min<uint64_t>(left, kZeros.size())));
    return to_ == nullptr ? Result<void>() : to_->add_hole(bytes);
  }
  Result<void> restart() override {
    forget();
    bytes_ = 0;
    (void)digest_.finish();
    return to_ == nullptr ? Result<void>() : to_->restart();
  }

  uint64_t bytes() const { return bytes_; }
  Digest digest() { return digest_.finish(); }
  // Nothing: it is no file of KEY=value lines.
  std::optional<ByteView> dotenv() const {
    if (bytes_ > kLookedAtBytesMax || !parse_dotenv(seen_)) return std::nullopt;
    return ByteView(seen_);
  }
  uint64_t keys() const {
    if (bytes_ > kLookedAtBytesMax) return 0;
    const auto keys = parse_dotenv(seen_);
    return keys ? keys->size() : 0;
  }

 private:
  void look(ByteView bytes) {
    bytes_ += bytes.size();
    digest_.add(bytes);
    // Never beyond what was reserved: a buffer that grows leaves copies of what it held.
    if (seen_.size() + bytes.size() <= kLookedAtBytesMax) append(seen_, bytes);
  }
  void forget() {
    wipe(MutableByteView(seen_));
    seen_.clear();
  }

  ContentSink* to_;
  Bytes seen_;
  uint64_t bytes_ = 0;
  Sha256 digest_;
};

// Counts alone: of a secret nothing else may be in what others than the reader see.
struct Counts {
  std::atomic<uint64_t> files = 0, keys = 0;
  std::map<std::string, std::string> facts() const {
    return {{"files", std::to_string(files)}, {"keys", std::to_string(keys)}};
  }
};
uint64_t count_in(const std::map<std::string, std::string>& facts, const std::string& name) {
  const auto found = facts.find(name);
  return found == facts.end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
}

class FilesCapture final : public TreeCapture {
 public:
  explicit FilesCapture(std::unique_ptr<TreeCapture> files) : files_(std::move(files)) {}

  Result<std::optional<CaptureItem>> next() override {
    TRY_ASSIGN(std::optional<CaptureItem> item, files_->next());
    // Always read: a count of keys is of all of them, and secrets are small.
    if (item) item->ctime_ns = 0;
    return item;
  }
  Result<void> complete(CaptureItem& item) override {
    TRY(files_->complete(item));
    item.ctime_ns = 0;
    return {};
  }
  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    Looker looker(&sink);
    TRY(files_->read(item, looker));
    item.ctime_ns = 0;
    ++counts_.files;
    counts_.keys += looker.keys();
    return {};
  }
  Result<void> finish() override { return files_->finish(); }
  std::vector<Defect> defects() const override { return files_->defects(); }
  std::map<std::string, std::string> facts() const override { return counts_.facts(); }

 private:
  std::unique_ptr<TreeCapture> files_;
  Counts counts_;
};

class OutputCapture final : public TreeCapture {
 public:
  OutputCapture(const SecretSettings& settings, std::stop_token stop)
      : settings_(settings), stop_(std::move(stop)) {}

  Result<std::optional<CaptureItem>> next() override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    switch (given_++) {
      case 0:
        return std::optional(CaptureItem{.entry = {.path = "", .type = EntryType::kDirectory, .mode = 0700}});
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
    if (begun_.exchange(true)) return fail(ErrorKind::kFailed, "the program's output can be read once");
    Looker looker(&sink);
    ProgramRequest request{.argv = settings_.run,
                           .environment = settings_.environment,
                           .timeout = settings_.timeout,
                           .stop = stop_,
                           .on_output = [&](ByteView bytes) { return looker.add(bytes); },
                           .errors = ProgramRequest::Errors::kHidden};
    TRY(run_program(request));
    if (looker.bytes() == 0) {
      return fail(ErrorKind::kFailed, fmt::format("\"{}\" printed nothing", settings_.run[0]),
                  "an empty secret would take the place of the last one", "run it by hand");
    }
    item.entry.size = looker.bytes();
    counts_.files = 1;
    counts_.keys = looker.keys();
    well_ = true;
    return {};
  }
  Result<void> finish() override {
    if (well_) return {};
    return fail(ErrorKind::kFailed, fmt::format("\"{}\" did not end well", settings_.run[0]),
                "what it printed is not kept");
  }
  std::vector<Defect> defects() const override { return {}; }
  std::map<std::string, std::string> facts() const override { return counts_.facts(); }

 private:
  const SecretSettings settings_;
  const std::stop_token stop_;
  int given_ = 0;
  std::atomic<bool> begun_ = false, well_ = false;
  Counts counts_;
};

Result<std::vector<TreeEntry>> files_of(const CapturedTree& tree, const std::vector<std::string>& only = {}) {
  std::vector<TreeEntry> files;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    if (entry.type == EntryType::kFile && is_wanted(only, entry.path)) files.push_back(entry);
    return {};
  }));
  return files;
}

// All that is no folder: links, and further names of a file, too.
Result<std::vector<TreeEntry>> names_of(const CapturedTree& tree, const std::vector<std::string>& only) {
  std::vector<TreeEntry> names;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    if (entry.type != EntryType::kDirectory && is_wanted(only, entry.path)) names.push_back(entry);
    return {};
  }));
  return names;
}

class SecretSource final : public Source {
 public:
  explicit SecretSource(SecretSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    if (settings_.paths.empty() == settings_.run.empty()) {
      return fail(ErrorKind::kUsage, "a secret is at `paths`, or what `run` prints: one of the two", {},
                  "paths: [ /srv/app/.env ]");
    }
    if (!settings_.run.empty()) return std::make_unique<OutputCapture>(settings_, std::move(stop));
    TRY_ASSIGN(auto files, files::begin_capture({.paths = settings_.paths, .snapshot = files::Snapshot::kOff},
                                                {}, reporter, std::move(stop)));
    return std::make_unique<FilesCapture>(std::move(files));
  }

  // One file becomes `to` itself, several become the folder `to`.
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    if (!request.to.starts_with('/')) {
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no absolute path", request.to), {},
                  "give the path of a file, or a folder, that does not exist");
    }
    TRY_ASSIGN(const auto found, names_of(tree, request.only));
    if (found.empty()) return fail(ErrorKind::kNotFound, "the snapshot holds no such file");
    const TreeEntry& first = found.front();
    if (found.size() > 1 || (first.type != EntryType::kFile && first.type != EntryType::kHardLink))
      return files::write_tree(PrivateTree(tree), request, {}, reporter, stop);
    if (request.overwrite || request.delta) {
      return fail(ErrorKind::kRefused, "this restore writes into something new only", "",
                  "name a path that does not exist with --to");
    }
    // Of two names of one file the other alone may have been asked for.
    const std::string& path = first.type == EntryType::kHardLink ? first.link : first.path;
    return write_file(tree, path, request.to, 0600, stop);
  }

  // Opens everything, and writes nothing: a sandbox is a folder like any other.
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string&, Reporter&,
                                         std::stop_token stop) override {
    TRY_ASSIGN(const auto files, files_of(tree));
    uint64_t bytes = 0, keys = 0, wrong = 0;
    for (const TreeEntry& entry : files) {
      if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the drill was stopped");
      Looker looker;
      if (entry.content == ContentKind::kBytes) TRY(tree.read(entry.path, looker));
      bytes += looker.bytes();
      keys += looker.keys();
      if (looker.bytes() != entry.size) ++wrong;
    }
    const auto check = [](std::string name, bool holds, std::string detail) {
      return CheckResult{std::move(name), holds ? "passed" : "failed", std::move(detail)};
    };
    const uint64_t files_captured = count_in(tree.facts(), "files"),
                   keys_captured = count_in(tree.facts(), "keys");
    std::vector<CheckResult> checks;
    checks.push_back(
        check("every file opens", wrong == 0,
              fmt::format("{} file(s), {} bytes, {} of another size", files.size(), bytes, wrong)));
    checks.push_back(check("files are those that were captured", files.size() == files_captured,
                           fmt::format("{} now, {} captured", files.size(), files_captured)));
    checks.push_back(check("keys are those that were captured", keys == keys_captured,
                           fmt::format("{} now, {} captured", keys, keys_captured)));
    checks.push_back(check("it is not empty", bytes > 0, fmt::format("{} bytes", bytes)));
    return checks;
  }

  bool may_be_shown() const override { return false; }
  Result<std::vector<PartChange>> changed_parts(std::string_view path, const CapturedTree& before,
                                                const CapturedTree& after) override {
    Looker was, is;
    TRY(before.read(path, was));
    TRY(after.read(path, is));
    const auto old_text = was.dotenv(), new_text = is.dotenv();
    if (!old_text || !new_text) return std::vector<PartChange>();
    return diff_keys(*old_text, *new_text);
  }

  Result<std::unique_ptr<Watch>> watch() override {
    if (settings_.paths.empty()) return Source::watch();  // a program tells nobody
    return files::watch_files({.paths = settings_.paths});
  }

  std::vector<SourceClient> clients() override {
    if (settings_.run.empty()) return {};
    return {client_of(settings_.run, "prints the secret")};
  }

  Result<std::vector<SourceFinding>> doctor() override {
    using Severity = SourceFinding::Severity;
    std::vector<SourceFinding> findings;
    if (settings_.paths.empty() == settings_.run.empty()) {
      findings.push_back({Severity::kProblem, "paths",
                          "a secret is at `paths`, or what `run` prints: one of the two",
                          "there is nothing to keep, or it is not clear what", "paths: [ /srv/app/.env ]"});
      return findings;
    }
    if (!settings_.run.empty()) {
      if (auto one = look_at_program(settings_.run, "run")) findings.push_back(std::move(*one));
    }
    for (const std::string& path : settings_.paths) {
      const auto status = status_of(path);
      if (!status) {
        findings.push_back({Severity::kProblem, path, status.error().what, status.error().why,
                            fmt::format("ls -l '{}'", path)});
      } else if (status->type == FileType::kFile && (status->mode & kForOthers) != 0) {
        findings.push_back(
            {Severity::kRisk, path,
             fmt::format("its mode is {:04o}: others than its owner may open it", status->mode),
             "the vault keeps it from them, the machine does not", fmt::format("chmod 600 '{}'", path)});
      }
    }
    return findings;
  }

 private:
  const SecretSettings settings_;
};

}  // namespace

std::unique_ptr<Source> make_source(SecretSettings settings) {
  return std::make_unique<SecretSource>(std::move(settings));
}

}  // namespace kuramori::secret
