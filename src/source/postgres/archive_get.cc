#include "source/postgres/archive_get.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace kuramori::postgres {
namespace {

constexpr size_t kHistoryNameChars = 16;  // "0000000A.history"

GetDecision stop(std::string why) {
  return {.answer = Get::kStopServer, .why = std::move(why)};
}
GetDecision beyond(std::string why) {
  return {.answer = Get::kBeyondEnd, .why = std::move(why)};
}

std::optional<uint64_t> parse_hex(std::string_view text) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// The objects of `kind` on `timeline`.
std::vector<size_t> pieces_of(const Archive& archive, Timeline timeline, PieceKind kind) {
  std::vector<size_t> found;
  for (size_t i = 0; i < archive.pieces().size(); ++i) {
    const Piece& piece = archive.pieces()[i];
    if (piece.timeline == timeline && piece.kind == kind) found.push_back(i);
  }
  return found;
}

GetDecision get_history(const Archive& archive, std::string_view name, Timeline timeline) {
  const auto found = pieces_of(archive, timeline, PieceKind::kHistory);
  for (size_t i = 1; i < found.size(); ++i) {
    if (archive.pieces()[found[i]].digest != archive.pieces()[found[0]].digest) {
      return stop(fmt::format("{} is in the archive with two contents ({}, {})", name,
                              archive.pieces()[found[0]].object, archive.pieces()[found[i]].object));
    }
  }
  if (!found.empty())
    return {.answer = Get::kFound, .object = found[0], .why = fmt::format("{} found", name)};
  // The server asks for one number after the other and takes the first refusal for the newest timeline: a
  // hole here would silently send it down an older history (P33).
  for (Timeline known : archive.timelines()) {
    if (known >= timeline && known > 1) {
      return stop(fmt::format("{} is missing although timeline {} is in the archive", name, known));
    }
  }
  return beyond(fmt::format("no timeline {} or higher is in the archive", timeline));
}

GetDecision get_segment(const Archive& archive, std::string_view name, Timeline timeline, Lsn start,
                        const std::optional<RecoveryPromise>& promise) {
  const Lsn end = start + archive.segment_bytes();
  const Leg* leg = nullptr;
  if (promise) {
    auto at = std::find_if(promise->lineage.begin(), promise->lineage.end(),
                           [&](const Leg& candidate) { return candidate.timeline == timeline; });
    if (at == promise->lineage.end()) {
      return stop(fmt::format("{} is of timeline {}, which is not on the way to timeline {} that was chosen",
                              name, timeline, promise->timeline()));
    }
    leg = &*at;
    if (start >= leg->end) {
      // The server tries the parent when the child's file is missing; following it would replay another
      // history.
      return beyond(fmt::format("timeline {} was left at {}: {} is another history", timeline,
                                format_lsn(leg->end), name));
    }
  }
  // Where the timeline began: its files begin with the segment of the switch.
  Lsn begin = leg ? leg->begin : 0;
  if (!leg) {
    if (auto lineage = archive.lineage(timeline)) begin = lineage->back().begin;
  }
  if (end <= begin) {
    return beyond(
        fmt::format("timeline {} began at {}: {} is its parent's", timeline, format_lsn(begin), name));
  }

  auto source = archive.segment(timeline, start);
  if (!source) return stop(source.error().what + ": " + source.error().why);
  if (*source) {
    const bool full = (*source)->covered_to >= end;
    const bool has_more = archive.holds_after(timeline, std::max((*source)->covered_to, start));
    // Zeros end recovery as surely as a missing file: they may only stand where nothing follows.
    const bool left_here = leg && leg->end <= (*source)->covered_to;
    if (!full && has_more && !left_here) {
      return stop(fmt::format("{} is in the archive only up to {}, and later WAL of timeline {} exists", name,
                              format_lsn((*source)->covered_to), timeline));
    }
    if (!full && promise && (*source)->covered_to < std::min(promise->until, leg->end) &&
        start < promise->until) {
      // Another timeline of the lineage may hold the rest of it; only when none does is a promise broken.
      auto best = archive.segment_on(promise->lineage, start);
      if (!best || !*best || (*best)->covered_to < std::min(promise->until, end)) {
        return stop(fmt::format("{} ends at {}, but recovery was promised WAL up to {}", name,
                                format_lsn((*source)->covered_to), format_lsn(promise->until)));
      }
      if ((*best)->timeline != timeline) {
        return beyond(fmt::format("the bytes of {} are in timeline {}'s file", name, (*best)->timeline));
      }
    }
    return {.answer = Get::kFound, .segment = std::move(**source), .why = fmt::format("{} found", name)};
  }

  if (archive.holds_after(timeline, start) && !(leg && leg->end <= end)) {
    return stop(fmt::format("{} is missing, and later WAL of timeline {} exists: a hole in the archive", name,
                            timeline));
  }
  if (promise && start < promise->until) {
    // It is fine if the file of another timeline on the way holds these bytes: the server asks for that next.
    auto best = archive.segment_on(promise->lineage, start);
    if (!best) return stop(best.error().what + ": " + best.error().why);
    if (!*best || (*best)->covered_to < std::min(promise->until, end)) {
      return stop(fmt::format("{} is gone: WAL was there up to {} when the restore began", name,
                              format_lsn(promise->until)));
    }
  } else if (leg && leg->end <= end && archive.holds_after(timeline, start)) {
    return stop(fmt::format("{} is missing, and later WAL of timeline {} exists", name, timeline));
  }
  return beyond(fmt::format("the archive of timeline {} ends before {}", timeline, name));
}

}  // namespace

GetDecision stop_server(const Error& error) {
  return stop(error.why.empty() ? error.what : error.what + ": " + error.why);
}

GetDecision decide_get(const Result<Archive>& archive, std::string_view name,
                       const std::optional<RecoveryPromise>& promise) {
  if (!archive) return stop_server(archive.error());
  const bool is_history = name.size() == kHistoryNameChars && name.ends_with(".history");
  const auto timeline = parse_hex(name.substr(0, std::min<size_t>(8, name.size())));
  if (is_history && timeline) return get_history(*archive, name, static_cast<Timeline>(*timeline));
  if (name.size() == kSegmentNameChars && timeline) {
    if (auto parsed = parse_segment_name(name, archive->segment_bytes())) {
      return get_segment(*archive, name, parsed->timeline, parsed->start, promise);
    }
  }
  return stop(fmt::format("{} is no file of a WAL archive with segments of {} bytes", name,
                          archive->segment_bytes()));
}

std::string format_promise(const RecoveryPromise& promise) {
  std::string text = fmt::format("{}", format_lsn(promise.until));
  for (const auto& leg : promise.lineage) {
    text += fmt::format(",{}:{}", leg.timeline, format_lsn(leg.begin));
  }
  return text;
}

Result<RecoveryPromise> parse_promise(std::string_view text) {
  auto bad = [&] {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no recovery promise", text),
                "it is what a restore wrote: UNTIL,TIMELINE:BEGIN,…");
  };
  RecoveryPromise promise;
  bool first = true;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    if (first) {
      auto until = parse_lsn(word);
      if (!until) return bad();
      promise.until = *until;
      first = false;
      continue;
    }
    const size_t colon = word.find(':');
    if (colon == std::string_view::npos) return bad();
    Timeline timeline = 0;
    auto [end, error] = std::from_chars(word.data(), word.data() + colon, timeline);
    auto begin = parse_lsn(word.substr(colon + 1));
    if (error != std::errc() || end != word.data() + colon || timeline == 0 || !begin) return bad();
    if (!promise.lineage.empty()) {
      if (*begin < promise.lineage.back().begin) return bad();
      promise.lineage.back().end = *begin;
    }
    promise.lineage.push_back({timeline, *begin, kLsnMax});
  }
  if (promise.lineage.empty()) return bad();
  return promise;
}

}  // namespace kuramori::postgres
