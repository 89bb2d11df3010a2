// What is wrong with a resource of files: the paths, then what a walk over them meets.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "os/user.h"
#include "source/files/files_source.h"
#include "source/files/mounts.h"
#include "source/files/snapshots.h"
#include "source/files/walk.h"

namespace kuramori::files {
namespace {

using Severity = SourceFinding::Severity;

constexpr size_t kNamedMax = 3;  // entries in one sentence

std::string who() {
  Result<User> user = user_of_uid(::geteuid());
  return user ? user->name : std::to_string(::geteuid());
}

class Examination {
 public:
  Examination(const FilesSettings& settings, const MountFiles& mounts)
      : settings_(settings), mounts_(mounts) {}

  Result<std::vector<SourceFinding>> run() {
    look_at_paths();
    if (usable_.empty()) return std::move(findings_);
    TRY(walk());
    return std::move(findings_);
  }

 private:
  void find(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix)});
  }

  void look_at_paths() {
    if (settings_.paths.empty())
      find(Severity::kProblem, "paths", "the resource names no path", "nothing would be kept",
           "paths: [/srv/…]");
    const std::vector<Mount> expected = read_mounts(mounts_.expected), mounted = read_mounts(mounts_.mounted);
    for (const std::string& path : settings_.paths) {
      Result<std::string> plain = plain_path(path);
      if (!plain) {
        find(Severity::kProblem, path, plain.error().what, plain.error().why, plain.error().next);
        continue;
      }
      if (std::optional<Mount> missing = missing_mount(*plain, expected, mounted)) {
        find(Severity::kProblem, path, fmt::format("\"{}\" is not mounted", missing->folder),
             fmt::format("{} says that {} belongs there", mounts_.expected, missing->device),
             fmt::format("mount {}", missing->folder));
        continue;
      }
      std::vector<Defect> ignored;
      if (Result<Places> opened = Places::open({path}, ignored); !opened) {
        find(Severity::kProblem, path, fmt::format("\"{}\" cannot be captured", path), opened.error().why,
             opened.error().kind == ErrorKind::kNotFound ? fmt::format("mkdir -p {}", path)
                                                         : fmt::format("ls -ld {}", path));
        continue;
      }
      look_at_snapshot(path);
      usable_.push_back(path);
    }
  }

  // Whether captures see one moment, where that was asked for or could be had.
  void look_at_snapshot(const std::string& path) {
    if (settings_.snapshot == Snapshot::kOff) return;
    std::vector<Defect> ignored;
    Result<Places> opened = Places::open({path}, ignored);
    if (!opened) return;
    for (const Place& place : opened->all()) {
      if (!place.top) continue;
      const auto can = why_no_snapshot(place, read_mounts(mounts_.mounted));
      if (can || (can.error().kind == ErrorKind::kUsage && settings_.snapshot == Snapshot::kAuto)) continue;
      const Error& error = can.error();
      const std::string why = error.why.empty() ? error.what : fmt::format("{}: {}", error.what, error.why);
      if (settings_.snapshot == Snapshot::kBtrfs) {
        find(Severity::kProblem, path, "it cannot be captured from a btrfs snapshot, and so not at all", why,
             error.next.empty() ? "snapshot: auto" : error.next);
      } else {
        find(Severity::kHint, path, "it is captured as it is read, and not as of one moment", why,
             error.next.empty() ? "snapshot: off" : error.next);
      }
    }
  }

  // Without the patterns, so that each can be asked whether it ever matches.
  Result<void> walk() {
    const FilesSettings all{.paths = usable_, .one_filesystem = settings_.one_filesystem};
    std::vector<Defect> defects;
    TRY_ASSIGN(Places places, Places::open(usable_, defects));
    struct Line {
      const char* key;
      std::string text;
      Patterns pattern;
      bool matched = false;
    };
    std::vector<Line> lines;
    for (const auto& [key, texts] :
         {std::pair{"include", &settings_.include}, {"exclude", &settings_.exclude}}) {
      for (const std::string& text : *texts) {
        Patterns pattern({text});
        if (!pattern.empty()) lines.push_back({key, text, std::move(pattern)});
      }
    }
    const Patterns exclude(settings_.exclude);
    Walk walk(all, places, {}, [&](Defect defect) { defects.push_back(std::move(defect)); }, {});
    uint64_t looked_at = 0, kept = 0;
    std::string excluded;  // the folder the walk is in, if patterns leave it out
    bool whole = false;
    while (looked_at < kDoctorEntriesMax) {
      TRY_ASSIGN(std::optional<CaptureItem> item, walk.next());
      if (!item) {
        whole = true;
        break;
      }
      ++looked_at;
      const std::string& path = item->entry.path;
      const Place* top = top_of(places, path);
      if (top == nullptr || top->path == path) continue;
      const std::string_view below =
          std::string_view(path).substr(top->path.empty() ? 0 : top->path.size() + 1);
      const bool is_folder = item->entry.type == EntryType::kDirectory;
      for (Line& line : lines)
        line.matched = line.matched || line.pattern.look(below, is_folder) != Patterns::Answer::kNone;
      if (!excluded.empty() && path.starts_with(excluded + "/")) continue;
      if (exclude.look(below, is_folder) == Patterns::Answer::kMatched) {
        excluded = path;
        continue;
      }
      ++kept;
    }
    std::erase_if(defects, [&](const Defect& defect) {
      const Place* top = top_of(places, defect.path);
      return top != nullptr && top->path != defect.path &&
             left_out(exclude,
                      std::string_view(defect.path).substr(top->path.empty() ? 0 : top->path.size() + 1));
    });
    if (!defects.empty()) name(defects);
    if (!whole) return {};  // what was not seen may match
    for (const Line& line : lines) {
      if (line.matched) continue;
      find(Severity::kHint, fmt::format("{}: \"{}\"", line.key, line.text), "the pattern matches nothing",
           "patterns are relative to each of `paths`, as in a .gitignore that stands there",
           "correct or remove it");
    }
    if (kept == 0 &&
        std::ranges::any_of(places.all(), [](const Place& place) { return place.top && place.folder; }))
      find(Severity::kRisk, "paths", "nothing would be kept",
           "the paths hold nothing, or `exclude` leaves all out", fmt::format("ls -la {}", usable_.front()));
    return {};
  }

  void name(const std::vector<Defect>& defects) {
    std::string some;
    for (size_t i = 0; i < std::min(defects.size(), kNamedMax); ++i)
      some += fmt::format("{}\"{}\" ({})", i == 0 ? "" : ", ", defects[i].path, defects[i].why);
    if (defects.size() > kNamedMax) some += " …";
    find(Severity::kProblem, "paths",
         fmt::format("{} entries cannot be read as user {}: {}", defects.size(), who(), some),
         "every snapshot would be partial", fmt::format("setfacl -R -m u:{}:rX {}", who(), usable_.front()));
  }

  // Whether the patterns leave out what cannot be read anyway: itself or a folder above it.
  static bool left_out(const Patterns& exclude, std::string_view path) {
    for (size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1)) {
      if (exclude.look(path.substr(0, slash), true) == Patterns::Answer::kMatched) return true;
    }
    return exclude.look(path, true) == Patterns::Answer::kMatched;
  }

  static const Place* top_of(const Places& places, std::string_view path) {
    for (const Place& place : places.all()) {
      if (!place.top) continue;
      if (place.path.empty() || path == place.path ||
          (path.starts_with(place.path) && path[place.path.size()] == '/'))
        return &place;
    }
    return nullptr;
  }

  const FilesSettings& settings_;
  const MountFiles& mounts_;
  std::vector<std::string> usable_;
  std::vector<SourceFinding> findings_;
};

}  // namespace

Result<std::vector<SourceFinding>> examine(const FilesSettings& settings, const MountFiles& mounts) {
  return Examination(settings, mounts).run();
}

}  // namespace kuramori::files
