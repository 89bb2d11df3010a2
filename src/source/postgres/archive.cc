#include "source/postgres/archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "source/postgres/timeline_history.h"

namespace kuramori::postgres {
namespace {

bool is_wal(PieceKind kind) {
  return kind == PieceKind::kSegment || kind == PieceKind::kPart || kind == PieceKind::kPartial;
}

std::string_view kind_name(PieceKind kind) {
  switch (kind) {
    case PieceKind::kSegment:
      return "segment";
    case PieceKind::kPart:
      return "part";
    case PieceKind::kPartial:
      return "partial segment";
    case PieceKind::kHistory:
      return "timeline history";
    case PieceKind::kLabel:
      return "backup label";
  }
  return "piece";
}

Result<void> check_piece(const Piece& piece, uint32_t segment_bytes) {
  auto damaged = [&](std::string_view why) {
    return fail(
        ErrorKind::kDamaged,
        fmt::format("the WAL archive holds a {} that cannot be: timeline {} from {} to {}",
                    kind_name(piece.kind), piece.timeline, format_lsn(piece.from), format_lsn(piece.to)),
        std::string(why), "look at the object " + piece.object);
  };
  if (piece.timeline == 0) return damaged("there is no timeline 0");
  if (!is_wal(piece.kind)) return {};
  if (piece.to <= piece.from) return damaged("it ends before it begins");
  const Lsn start = piece.from - piece.from % segment_bytes;
  if (piece.to > start + segment_bytes) return damaged("it reaches over the end of its segment");
  if (piece.kind == PieceKind::kSegment && (piece.from != start || piece.to != start + segment_bytes)) {
    return damaged(fmt::format("a whole segment of this cluster has {} bytes", segment_bytes));
  }
  return {};
}

}  // namespace

std::string describe(const Gap& gap) {
  std::string names;
  for (const auto& name : gap.segments) names += (names.empty() ? "" : ", ") + name;
  if (gap.segment_count > gap.segments.size()) {
    names += fmt::format(" and {} more", gap.segment_count - gap.segments.size());
  }
  return fmt::format("timeline {} lacks WAL from {} to {} ({})", gap.where.timeline,
                     format_lsn(gap.where.from), format_lsn(gap.where.to), names);
}

Result<Archive> Archive::make(std::vector<Piece> pieces, uint32_t segment_bytes,
                              const std::map<Timeline, std::string>& histories) {
  if (!is_segment_size(segment_bytes)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} bytes is no WAL segment size", segment_bytes),
                "it is a power of two from 1 MiB to 1 GiB");
  }
  Archive archive;
  archive.segment_bytes_ = segment_bytes;
  for (const auto& piece : pieces) TRY(check_piece(piece, segment_bytes));
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return std::tie(a.timeline, a.from, a.kind, a.to, a.digest, a.object) <
           std::tie(b.timeline, b.from, b.kind, b.to, b.digest, b.object);
  });
  archive.pieces_ = std::move(pieces);
  for (size_t i = 0; i < archive.pieces_.size(); ++i) {
    auto [at, is_new] = archive.spans_.try_emplace(archive.pieces_[i].timeline, i, i + 1);
    if (!is_new) at->second.second = i + 1;
  }
  for (const auto& [timeline, text] : histories) {
    TRY_ASSIGN(TimelineHistory parsed, parse_timeline_history(text, timeline));
    auto& parents = archive.parents_[timeline];
    for (const auto& entry : parsed.entries) parents.push_back({entry.timeline, entry.switch_lsn});
  }
  return archive;
}

std::vector<Timeline> Archive::timelines() const {
  std::set<Timeline> found;
  for (const auto& [timeline, span] : spans_) {
    for (size_t i = span.first; i < span.second; ++i) {
      if (is_wal(pieces_[i].kind) || pieces_[i].kind == PieceKind::kHistory) {
        found.insert(timeline);
        break;
      }
    }
  }
  for (const auto& [timeline, parents] : parents_) found.insert(timeline);
  return {found.begin(), found.end()};
}

std::vector<Timeline> Archive::missing_histories() const {
  std::set<Timeline> needed;
  for (Timeline timeline : timelines()) needed.insert(timeline);
  for (const auto& [timeline, parents] : parents_) {
    for (const auto& parent : parents) needed.insert(parent.timeline);
  }
  std::vector<Timeline> missing;
  for (Timeline timeline : needed) {
    if (timeline > 1 && !has_history(timeline)) missing.push_back(timeline);
  }
  return missing;
}

Result<Lineage> Archive::lineage(Timeline timeline) const {
  if (timeline == 1) return Lineage{{.timeline = 1}};
  auto found = parents_.find(timeline);
  if (found == parents_.end()) {
    return fail(
        ErrorKind::kRefused,
        fmt::format("timeline {} cannot be followed: {} is missing from the archive", timeline,
                    history_name(timeline)),
        "only this file tells where the timeline branched off; without it recovery would silently stop "
        "at an older one",
        "look for the file in the old server's pg_wal and archive it with: kuramori wal push");
  }
  Lineage lineage;
  Lsn begin = 0;
  for (const auto& parent : found->second) {
    lineage.push_back({parent.timeline, begin, parent.switch_lsn});
    begin = parent.switch_lsn;
  }
  lineage.push_back({timeline, begin, kLsnMax});
  return lineage;
}

Gap Archive::make_gap(Timeline timeline, Lsn from, Lsn to) const {
  Gap gap{.where = {timeline, from, to}};
  for (Lsn start = segment_start(from); start < to; start += segment_bytes_) {
    if (gap.segments.size() < kGapNamesMax) {
      gap.segments.push_back(segment_name(timeline, start, segment_bytes_));
    }
  }
  gap.segment_count = (to - segment_start(from) + segment_bytes_ - 1) / segment_bytes_;
  return gap;
}

std::vector<Stretch> Archive::stretches(Timeline timeline) const {
  std::vector<Stretch> merged;
  auto span = spans_.find(timeline);
  if (span == spans_.end()) return merged;
  for (size_t i = span->second.first; i < span->second.second; ++i) {
    const Piece& piece = pieces_[i];
    if (!is_wal(piece.kind)) continue;
    if (!merged.empty() && piece.from <= merged.back().to) {
      merged.back().to = std::max(merged.back().to, piece.to);
    } else {
      merged.push_back({timeline, piece.from, piece.to});
    }
  }
  return merged;
}

std::vector<Gap> Archive::gaps(Timeline timeline) const {
  std::vector<Gap> holes;
  const auto there = stretches(timeline);
  for (size_t i = 1; i < there.size(); ++i)
    holes.push_back(make_gap(timeline, there[i - 1].to, there[i].from));
  return holes;
}

std::vector<Conflict> Archive::conflicts() const {
  std::vector<Conflict> found;
  for (size_t i = 0; i < pieces_.size();) {
    const Piece& piece = pieces_[i];
    size_t end = i + 1;
    std::set<std::string> digests{piece.digest};
    for (; end < pieces_.size(); ++end) {
      const Piece& other = pieces_[end];
      if (other.timeline != piece.timeline || other.from != piece.from || other.kind != piece.kind ||
          other.to != piece.to) {
        break;
      }
      digests.insert(other.digest);
    }
    // Two promotions may each leave a .partial of the same name (P32), and labels differ by backup: no
    // conflict.
    const bool must_agree = piece.kind != PieceKind::kPartial && piece.kind != PieceKind::kLabel;
    if (must_agree && digests.size() > 1) {
      Conflict conflict{.where = {piece.timeline, piece.from, piece.to}, .kind = piece.kind};
      for (size_t k = i; k < end; ++k) conflict.objects.push_back(pieces_[k].object);
      found.push_back(std::move(conflict));
    }
    i = end;
  }
  return found;
}

Result<std::optional<SegmentSource>> Archive::segment(Timeline timeline, Lsn start) const {
  auto span = spans_.find(timeline);
  if (span == spans_.end()) return std::optional<SegmentSource>();
  const auto first = pieces_.begin() + static_cast<ptrdiff_t>(span->second.first);
  const auto last = pieces_.begin() + static_cast<ptrdiff_t>(span->second.second);
  auto at =
      std::lower_bound(first, last, start, [](const Piece& piece, Lsn lsn) { return piece.from < lsn; });

  std::vector<size_t> whole, parts, partials;
  for (; at != last && at->from < start + segment_bytes_; ++at) {
    const auto index = static_cast<size_t>(at - pieces_.begin());
    if (at->kind == PieceKind::kSegment) whole.push_back(index);
    if (at->kind == PieceKind::kPart) parts.push_back(index);
    if (at->kind == PieceKind::kPartial) partials.push_back(index);
  }
  auto two_contents = [&](const std::vector<size_t>& claims, std::string_view what) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} is in the archive with {} different contents",
                            segment_name(timeline, start, segment_bytes_), claims.size()),
                fmt::format("two servers wrote timeline {} ({}): {}, {}", timeline, what,
                            pieces_[claims[0]].object, pieces_[claims[1]].object),
                "find out which server was the right one: kuramori wal show");
  };
  // The same digest twice is the same bytes under two names: harmless.
  auto distinct = [&](std::vector<size_t> claims) {
    std::set<std::string> seen;
    std::erase_if(claims, [&](size_t i) {
      return !pieces_[i].digest.empty() && !seen.insert(pieces_[i].digest).second;
    });
    return claims;
  };
  whole = distinct(whole);
  if (whole.size() > 1) return two_contents(whole, "whole segments");
  SegmentSource source{.timeline = timeline, .start = start, .covered_to = start};
  if (whole.size() == 1) {
    source.covered_to = start + segment_bytes_;
    source.whole = true;
    source.pieces = whole;
    return std::optional(source);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const Piece& part = pieces_[parts[i]];
    if (i > 0) {
      const Piece& before = pieces_[parts[i - 1]];
      if (part.from == before.from && part.to == before.to && part.digest != before.digest) {
        return two_contents({parts[i - 1], parts[i]}, "stretches");
      }
    }
    if (part.from > source.covered_to) break;  // a hole inside the segment
    if (part.to <= source.covered_to) continue;
    source.covered_to = part.to;
    source.pieces.push_back(parts[i]);
  }
  if (source.covered_to < start + segment_bytes_ && !partials.empty()) {
    partials = distinct(partials);
    std::erase_if(partials, [&](size_t i) { return pieces_[i].from != start; });
    if (partials.size() > 1) return two_contents(partials, "left by promotions");
    if (partials.size() == 1 && pieces_[partials[0]].to > source.covered_to) {
      source = {
          .timeline = timeline, .start = start, .covered_to = pieces_[partials[0]].to, .from_partial = true};
      source.pieces = partials;
    }
  }
  if (source.pieces.empty()) return std::optional<SegmentSource>();
  return std::optional(source);
}

Result<std::optional<SegmentSource>> Archive::segment_on(const Lineage& lineage, Lsn start) const {
  std::optional<SegmentSource> best;
  for (auto leg = lineage.rbegin(); leg != lineage.rend(); ++leg) {
    if (start < segment_start(leg->begin)) continue;         // it has not begun yet
    if (leg->end != kLsnMax && start >= leg->end) continue;  // past its switch: another history
    TRY_ASSIGN(auto source, segment(leg->timeline, start));
    if (!source) continue;
    // The child's file of the switch segment is taken, unless it is only begun and the parent's reaches
    // further into what the lineage still needs of it.
    if (leg->end != kLsnMax) source->covered_to = std::min(source->covered_to, leg->end);
    if (!best || source->covered_to > best->covered_to) best = std::move(source);
    if (best->whole) break;
  }
  return best;
}

bool Archive::holds_after(Timeline timeline, Lsn lsn) const {
  return end_of(timeline) > lsn;
}

Lsn Archive::end_of(Timeline timeline) const {
  Lsn end = 0;
  auto span = spans_.find(timeline);
  if (span == spans_.end()) return 0;
  for (size_t i = span->second.first; i < span->second.second; ++i) {
    if (is_wal(pieces_[i].kind)) end = std::max(end, pieces_[i].to);
  }
  return end;
}

Reach Archive::reach(const Lineage& lineage, Lsn from, Lsn until) const {
  // The end of what this lineage has anywhere: beyond it is the end of the archive, before it a hole.
  Lsn known_end = 0;
  for (const auto& leg : lineage) {
    const Lsn end = std::min(end_of(leg.timeline), leg.end);
    if (end > leg.begin) known_end = std::max(known_end, end);
  }
  auto timeline_at = [&](Lsn lsn) {
    for (const auto& leg : lineage) {
      if (lsn < leg.end) return leg.timeline;
    }
    return lineage.back().timeline;
  };
  Reach reach{.to = from};
  for (Lsn start = segment_start(from); start < until; start += segment_bytes_) {
    auto source = segment_on(lineage, start);
    if (!source) {
      reach.why = ReachEnd::kConflict;
      return reach;
    }
    const Lsn covered = *source ? (*source)->covered_to : start;
    if (*source && covered > reach.to) {
      reach.to = covered;
      reach.segments.push_back(**source);
    }
    if (covered >= start + segment_bytes_) continue;
    if (covered >= until) break;
    if (known_end > std::max(covered, from)) {
      // Up to the next thing that is there, on whatever leg.
      const Lsn hole_from = std::max(covered, std::min(from, start + segment_bytes_));
      Lsn hole_to = known_end;
      for (const auto& leg : lineage) {
        for (const auto& stretch : stretches(leg.timeline)) {
          const Lsn begin = std::max(stretch.from, segment_start(leg.begin));
          if (begin > hole_from && begin < std::min(stretch.to, leg.end)) hole_to = std::min(hole_to, begin);
        }
      }
      reach.why = ReachEnd::kGap;
      reach.gap = make_gap(timeline_at(hole_from), hole_from, hole_to);
    }
    return reach;
  }
  reach.to = std::min(reach.to, until);
  return reach;
}

bool is_on(const Lineage& lineage, const Base& base) {
  for (const auto& leg : lineage) {
    if (leg.timeline == base.timeline) return base.start_lsn >= leg.begin && base.stop_lsn <= leg.end;
  }
  return false;
}

Windows Archive::windows(const std::vector<Base>& bases) const {
  Windows result;
  for (size_t i = 0; i < bases.size(); ++i) {
    const Base& base = bases[i];
    std::set<Timeline> candidates{base.timeline};
    for (Timeline timeline : timelines()) candidates.insert(timeline);
    bool usable = false;
    std::string why;
    for (Timeline timeline : candidates) {
      auto way = lineage(timeline);
      // A base of a timeline whose history is lost can still be brought to that timeline's own end.
      if (!way && timeline == base.timeline) way = Lineage{{.timeline = timeline}};
      if (!way || !is_on(*way, base)) continue;
      Reach far = reach(*way, base.start_lsn);
      if (!base.has_own_wal) far.to = std::max(far.to, base.stop_lsn);
      if (far.to >= base.stop_lsn) {
        result.windows.push_back({i, timeline, base.stop_lsn, far.to, far.why, std::move(far.gap)});
        usable = true;
      } else if (why.empty() || timeline == base.timeline) {
        why = far.gap ? describe(*far.gap)
                      : fmt::format("WAL of timeline {} ends at {}, before the snapshot's own end {}",
                                    timeline, format_lsn(far.to), format_lsn(base.stop_lsn));
        if (far.why == ReachEnd::kConflict) {
          why = fmt::format("after {} the archive holds two contents of the same WAL", format_lsn(far.to));
        }
      }
    }
    if (!usable) {
      result.stranded.push_back(
          {i, why.empty() ? fmt::format("no timeline that is archived contains it (timeline {}, {} to {})",
                                        base.timeline, format_lsn(base.start_lsn), format_lsn(base.stop_lsn))
                          : why});
    }
  }
  return result;
}

}  // namespace kuramori::postgres
