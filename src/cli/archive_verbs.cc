// What a vault's archive can do: `window` and `wal show`.
#include <fmt/core.h>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/restore.h"

namespace kuramori {
namespace {

void write_time(JsonWriter& json, std::string_view name, int64_t ns) {
  write_time(json, name, ns != 0 ? std::optional(from_unix_ns(ns)) : std::nullopt);
}

std::string shown_time(int64_t ns) {
  return ns != 0 ? format_moment(from_unix_ns(ns)) : "unknown";
}

void write_gap(JsonWriter& json, const postgres::Gap& gap) {
  json.begin_object()
      .field("timeline", gap.where.timeline)
      .field("from_lsn", postgres::format_lsn(gap.where.from));
  json.field("to_lsn", postgres::format_lsn(gap.where.to))
      .field("segment_count", gap.segment_count)
      .key("segments")
      .begin_array();
  for (const std::string& name : gap.segments) json.value(name);
  json.end_array().end_object();
}

}  // namespace

Result<int> run_window(Context& context) {
  std::string resource = context.line().argument(0);
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(Restorable restorable, load_restorable(*vault, resource));
  postgres::RestorePlanner planner = restore_planner(*vault, restorable);
  JsonWriter json;
  json.begin_object()
      .field("schema", "kuramori/window/1")
      .field("resource", resource)
      .key("windows")
      .begin_array();
  Table table({{"timeline", Table::Align::kRight}, {"from"}, {"to"}, {"first snapshot"}, {"ends at"}});
  std::vector<postgres::Timeline> timelines = restorable.loaded.archive.timelines();
  // A snapshot without any archived WAL is still a window of one moment.
  for (const postgres::Base& base : restorable.bases)
    if (std::ranges::find(timelines, base.timeline) == timelines.end()) timelines.push_back(base.timeline);
  for (postgres::Timeline timeline : timelines) {
    TRY_ASSIGN(std::vector<postgres::TimeWindow> windows, planner.windows(timeline));
    for (const postgres::TimeWindow& window : windows) {
      std::string snapshot = window.base < restorable.snapshots.size()
                                 ? restorable.snapshots[window.base].commit.snapshot.hex()
                                 : "";
      json.begin_object().field("timeline", window.timeline).field("snapshot", snapshot);
      json.field("from_lsn", postgres::format_lsn(window.from))
          .field("to_lsn", postgres::format_lsn(window.to));
      write_time(json, "from", window.from_ns);
      write_time(json, "to", window.to_ns);
      json.key("gap");
      window.gap ? write_gap(json, *window.gap) : static_cast<void>(json.null());
      json.end_object();
      table.add({std::to_string(window.timeline), shown_time(window.from_ns), shown_time(window.to_ns),
                 snapshot, window.gap ? describe(*window.gap) : "the end of the archive"});
    }
  }
  json.end_array().end_object();
  if (context.console().json())
    context.console().print_document(json);
  else if (table.empty())
    context.console().note(fmt::format(
        "{} can be restored to no moment yet: make a snapshot with kuramori backup {}", resource, resource));
  else
    context.console().print(table.text());
  return 0;
}

Result<int> run_wal_show(Context& context) {
  std::string name = context.line().argument(0);
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, name));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(ResourceRecord resource, vault->resource(name));
  TRY_ASSIGN(LoadedArchive loaded, load_archive(*vault, resource));
  const postgres::Archive& archive = loaded.archive;
  JsonWriter json;
  json.begin_object()
      .field("schema", "kuramori/wal/1")
      .field("resource", name)
      .field("segment_bytes", archive.segment_bytes());
  json.key("timelines").begin_array();
  Table table({{"timeline", Table::Align::kRight}, {"from"}, {"to"}, {"size", Table::Align::kRight}, {""}});
  size_t broken = 0;
  for (postgres::Timeline timeline : archive.timelines()) {
    json.begin_object()
        .field("timeline", timeline)
        .field("has_history", archive.has_history(timeline))
        .key("stretches")
        .begin_array();
    for (const postgres::Stretch& stretch : archive.stretches(timeline)) {
      json.begin_object()
          .field("from_lsn", postgres::format_lsn(stretch.from))
          .field("to_lsn", postgres::format_lsn(stretch.to))
          .end_object();
      table.add({std::to_string(timeline), postgres::format_lsn(stretch.from),
                 postgres::format_lsn(stretch.to), format_size(stretch.to - stretch.from), ""});
    }
    json.end_array().key("gaps").begin_array();
    for (const postgres::Gap& gap : archive.gaps(timeline)) {
      ++broken;
      write_gap(json, gap);
      table.add({std::to_string(timeline), postgres::format_lsn(gap.where.from),
                 postgres::format_lsn(gap.where.to), "", "MISSING: " + describe(gap)});
    }
    json.end_array().end_object();
  }
  json.end_array().key("conflicts").begin_array();
  for (const postgres::Conflict& conflict : archive.conflicts()) {
    ++broken;
    json.begin_object()
        .field("timeline", conflict.where.timeline)
        .field("from_lsn", postgres::format_lsn(conflict.where.from));
    json.field("to_lsn", postgres::format_lsn(conflict.where.to)).key("objects").begin_array();
    for (const std::string& object : conflict.objects) json.value(object);
    json.end_array().end_object();
    table.add({std::to_string(conflict.where.timeline), postgres::format_lsn(conflict.where.from),
               postgres::format_lsn(conflict.where.to), "",
               fmt::format("CONFLICT: {} different contents: two servers wrote one history",
                           conflict.objects.size())});
  }
  json.end_array().key("missing_histories").begin_array();
  for (postgres::Timeline timeline : archive.missing_histories()) {
    // Without a reader's key a history that is there was not opened: it is not missing.
    bool unread =
        !vault->keys().reader && std::ranges::any_of(archive.pieces(), [&](const postgres::Piece& piece) {
          return piece.timeline == timeline && piece.kind == postgres::PieceKind::kHistory;
        });
    if (unread) continue;
    ++broken;
    json.value(timeline);
    table.add({std::to_string(timeline), "", "", "", "its .history file is MISSING: nothing can follow it"});
  }
  json.end_array().end_object();
  if (context.console().json())
    context.console().print_document(json);
  else if (table.empty())
    context.console().note(fmt::format("no WAL of {} is archived yet", name));
  else
    context.console().print(table.text());
  return broken == 0 ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

}  // namespace kuramori
