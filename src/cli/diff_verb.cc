// `diff`: what changed between two snapshots of one resource.
#include <fmt/core.h>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/tree_verbs.h"
#include "cli/verbs.h"
#include "engine/diff_tree.h"
#include "engine/line_diff.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/roles.h"
#include "engine/snapshot_tree.h"
#include "vault/session.h"

namespace kuramori {
namespace {

constexpr size_t kChangesMax = 100'000;  // named; more are counted
constexpr int kDiffers = 10;             // the exit status --detailed-exitcode asks for

struct Pair {
  std::string resource;
  Snapshot before, after;
};

Error nothing_before(const std::string& resource) {
  return fail(ErrorKind::kUsage, fmt::format("{} has fewer than two snapshots", resource),
              "there is nothing to compare the newest with", fmt::format("kuramori backup {}", resource));
}

// FROM [TO] as typed: two snapshots; a snapshot and the newest; a resource, whose last two are meant.
Result<Pair> find_pair(Context& context, Vault& vault) {
  const std::string from = context.line().argument(0), to = context.line().argument(1);
  Pair pair;
  if (to.empty()) {
    if (auto of_resource = list_snapshots_of(vault, from)) {
      auto& all = of_resource->snapshots;
      if (all.size() < 2) return nothing_before(from);
      return Pair{from, std::move(all[all.size() - 2]), std::move(all.back())};
    }
  }
  TRY_ASSIGN(FoundSnapshot first, find_typed_snapshot(vault, from));
  pair.resource = first.resource;
  pair.before = std::move(first.snapshot);
  if (to.empty()) {
    TRY_ASSIGN(FoundSnapshot newest, find_snapshot_in(vault, pair.resource, "latest"));
    pair.after = std::move(newest.snapshot);
    return pair;
  }
  TRY_ASSIGN(FoundSnapshot second, find_typed_snapshot(vault, to));
  if (second.resource != pair.resource)
    return fail(ErrorKind::kUsage,
                fmt::format("one is of {}, the other of {}", pair.resource, second.resource),
                "two snapshots of one resource are compared");
  pair.after = std::move(second.snapshot);
  return pair;
}

// What of one change is shown beyond its name.
struct Shown {
  EntryChange change;
  std::vector<PartChange> parts;
  std::optional<std::string> lines;
};

class BytesSink final : public ContentSink {
 public:
  explicit BytesSink(size_t most) : most_(most) {}
  Result<void> add(ByteView more) override {
    if (bytes.size() + more.size() > most_) return fail(ErrorKind::kRefused, "it is too large to show");
    append(bytes, more);
    return {};
  }
  Result<void> add_hole(uint64_t count) override {
    if (bytes.size() + count > most_) return fail(ErrorKind::kRefused, "it is too large to show");
    bytes.resize(bytes.size() + count);
    return {};
  }
  Result<void> restart() override {
    bytes.clear();
    return {};
  }
  Bytes bytes;

 private:
  size_t most_;
};

// Nothing: no text, or too large.
Result<std::optional<std::string>> lines_of(const EntryChange& change, const CapturedTree& before,
                                            const CapturedTree& after) {
  if (std::max(change.size_before, change.size_after) > kLineDiffBytesMax)
    return std::optional<std::string>();
  BytesSink was(kLineDiffBytesMax), is(kLineDiffBytesMax);
  if (change.how != PartChange::How::kAdded) TRY(before.read(change.path, was));
  if (change.how != PartChange::How::kRemoved) TRY(after.read(change.path, is));
  return line_diff(was.bytes, is.bytes);
}

void write_side(JsonWriter& json, std::string_view key, const Snapshot& snapshot) {
  json.key(key).begin_object().field("id", snapshot.commit.snapshot.hex());
  json.field("time", format_utc(from_unix_ns(snapshot.commit.started_ns))).end_object();
}

void write_change(JsonWriter& json, const Shown& shown) {
  const EntryChange& change = shown.change;
  json.begin_object().field("path", change.path).field("change", name_of(change.how));
  json.field("size_before", change.size_before).field("size_after", change.size_after);
  json.key("what").begin_array();
  for (const std::string& what : change.what) json.value(what);
  json.end_array().key("parts").begin_array();
  for (const PartChange& part : shown.parts)
    json.begin_object().field("name", part.name).field("change", name_of(part.how)).end_object();
  json.end_array();
  if (shown.lines) json.field("lines", *shown.lines);
  json.end_object();
}

std::string shown_text(const Shown& shown) {
  const EntryChange& change = shown.change;
  const std::string_view sign = change.how == PartChange::How::kAdded     ? "+"
                                : change.how == PartChange::How::kRemoved ? "-"
                                                                          : "~";
  std::string what;
  for (const std::string& one : change.what) what += (what.empty() ? "  (" : ", ") + one;
  if (!what.empty()) what += ")";
  std::string out = fmt::format("{} {}{}\n", sign, change.path.empty() ? "." : change.path, what);
  for (const PartChange& part : shown.parts) out += fmt::format("    {} {}\n", part.name, name_of(part.how));
  if (shown.lines) out += *shown.lines;
  return out;
}

}  // namespace

Result<int> run_diff(Context& context) {
  Console& console = context.console();
  const std::string from = context.line().argument(0);
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, from.substr(0, from.find('@'))));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const Pair pair, find_pair(context, *vault));
  TRY_ASSIGN(const ResourceSnapshots listed, list_snapshots_of(*vault, pair.resource));
  if (listed.resource.kind == name_of(ResourceKind::kPostgres))
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is a PostgreSQL cluster", pair.resource),
                "what its files hold tells people nothing",
                fmt::format("kuramori show {}@latest", pair.resource));
  TRY_ASSIGN(const OpenedSource opened, source_of(context, listed.resource));
  Source& source = *opened.source;
  const bool lines_wanted = context.line().has("lines");
  if (lines_wanted && !source.may_be_shown())
    return fail(ErrorKind::kRefused, fmt::format("what {} holds is not shown", pair.resource),
                fmt::format("it is of kind {}", listed.resource.kind), "leave --lines out: keys are named");

  const Protocol protocol = protocol_of(*vault);
  TRY_ASSIGN(ReaderSession reading,
             ReaderSession::open(
                 protocol, reader_of(listed.resource.id, {pair.before.commit_name, pair.after.commit_name})));
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/diff/1").key("diff").begin_object();
  json.field("resource", pair.resource);
  write_side(json, "from", pair.before);
  write_side(json, "to", pair.after);
  json.key("changes").begin_array();
  auto compare = [&]() -> Result<DiffCounts> {
    TRY_ASSIGN(const auto before, SnapshotReader::open(vault->store(), vault->keys(), vault->codec(),
                                                       pair.before.commit_name, pair.before.commit));
    TRY_ASSIGN(const auto after, SnapshotReader::open(vault->store(), vault->keys(), vault->codec(),
                                                      pair.after.commit_name, pair.after.commit));
    const SnapshotTree old_tree(*before), new_tree(*after);
    size_t named = 0;
    return diff_trees(*before, *after, [&](const EntryChange& change) -> Result<void> {
      if (context.stop().stop_requested()) return fail(ErrorKind::kInterrupted, "the comparison was stopped");
      if (++named > kChangesMax) return {};
      Shown shown{.change = change, .parts = {}, .lines = {}};
      if (change.content && change.how == PartChange::How::kChanged) {
        TRY_ASSIGN(shown.parts, source.changed_parts(change.path, old_tree, new_tree));
      }
      const bool has_bytes = change.content || change.size_before + change.size_after > 0;
      if (lines_wanted && has_bytes) {
        TRY_ASSIGN(shown.lines, lines_of(change, old_tree, new_tree));
      }
      if (console.json())
        write_change(json, shown);
      else
        console.print(shown_text(shown));
      return {};
    });
  };
  const auto counts = compare();
  if (auto ended = reading.end(); !ended)
    console.note(
        fmt::format("the reader's session stays until a collection ends it: {}", ended.error().what));
  if (!counts) return counts.error();
  json.end_array().field("added", counts->added).field("removed", counts->removed);
  json.field("changed", counts->changed).end_object().end_object();
  if (console.json()) {
    console.print_document(json);
  } else {
    console.print(fmt::format("{} from {} to {}: {} added, {} removed, {} changed{}\n", pair.resource,
                              format_moment(from_unix_ns(pair.before.commit.started_ns)),
                              format_moment(from_unix_ns(pair.after.commit.started_ns)), counts->added,
                              counts->removed, counts->changed,
                              counts->all() > kChangesMax ? " (not all are named)" : ""));
  }
  return context.line().has("detailed-exitcode") && counts->all() > 0 ? kDiffers : 0;
}

}  // namespace kuramori
