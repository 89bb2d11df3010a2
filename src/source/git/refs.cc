#include "source/git/refs.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/time_text.h"

namespace kuramori::git {
namespace {

template <class Do>
Result<void> each_line(std::string_view text, Do&& act) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    TRY(act(text.substr(0, end)));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return {};
}

Error garbled(std::string_view line) {
  return fail(ErrorKind::kDamaged, fmt::format("a list of refs holds the line \"{}\"", line.substr(0, 200)),
              "it is no object's id and name");
}

void sort(Refs& refs) {
  std::ranges::sort(refs);
  refs.erase(
      std::unique(refs.begin(), refs.end(), [](const Ref& a, const Ref& b) { return a.name == b.name; }),
      refs.end());
}

// "20261122T185000Z", so that names sort as they came.
std::string stamp(Time time) {
  std::string text = format_utc(std::chrono::floor<std::chrono::seconds>(time));
  std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
  return text;
}

// What is below "refs/" of a name; of one that was kept already, below its time too.
std::string_view below_refs(std::string_view name) {
  constexpr std::string_view kRefs = "refs/";
  if (name.starts_with(kKeptBelow)) {
    const std::string_view rest = name.substr(kKeptBelow.size());
    if (const size_t slash = rest.find('/'); slash != std::string_view::npos) return rest.substr(slash + 1);
  }
  return name.starts_with(kRefs) ? name.substr(kRefs.size()) : name;
}

}  // namespace

bool is_oid(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

const Ref* find_ref(const Refs& refs, std::string_view name) {
  const auto at =
      std::ranges::lower_bound(refs, name, {}, [](const Ref& ref) -> std::string_view { return ref.name; });
  return at != refs.end() && at->name == name ? &*at : nullptr;
}

Result<RemoteRefs> parse_ls_remote(std::string_view text) {
  RemoteRefs found;
  std::string detached;
  TRY(each_line(text, [&](std::string_view line) -> Result<void> {
    const size_t tab = line.find('\t');
    if (tab == std::string_view::npos) return garbled(line);
    const std::string_view value = line.substr(0, tab), name = line.substr(tab + 1);
    if (value.starts_with("ref: ")) {
      if (name == "HEAD") found.head = value;
      return {};
    }
    if (!is_oid(value)) return garbled(line);
    if (name == "HEAD") detached = value;
    if (name.starts_with("refs/") && !name.ends_with("^{}"))
      found.refs.push_back({std::string(name), std::string(value)});
    return {};
  }));
  if (found.head.empty()) found.head = detached;
  sort(found.refs);
  return found;
}

Result<Refs> parse_refs(std::string_view text) {
  Refs refs;
  TRY(each_line(text, [&](std::string_view line) -> Result<void> {
    if (line.empty() || line.front() == '#' || line.front() == '^') return {};
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || !is_oid(line.substr(0, space)) ||
        !line.substr(space + 1).starts_with("refs/"))
      return garbled(line);
    refs.push_back({std::string(line.substr(space + 1)), std::string(line.substr(0, space))});
    return {};
  }));
  sort(refs);
  return refs;
}

std::string refs_text(const Refs& refs) {
  std::string text;
  for (const Ref& ref : refs) text += fmt::format("{} {}\n", ref.oid, ref.name);
  return text;
}

std::string packed_refs(const Refs& refs, const Refs& kept) {
  return "# pack-refs with: sorted \n" + refs_text(merged(kept, refs));
}

SplitRefs split_refs(Refs all) {
  SplitRefs split;
  for (Ref& ref : all) (ref.name.starts_with(kKeptBelow) ? split.kept : split.seen).push_back(std::move(ref));
  return split;
}

Moves moves_between(const Refs& before, const Refs& now, const Refs& kept, Time time,
                    const std::function<bool(const Ref& before, const Ref& now)>& went_forward) {
  std::set<std::pair<std::string_view, std::string_view>> known;
  for (const Ref& ref : kept) known.emplace(below_refs(ref.name), ref.oid);
  Moves moves;
  const std::string below = fmt::format("{}{}/", kKeptBelow, stamp(time));
  for (const Ref& was : before) {
    const Ref* is = find_ref(now, was.name);
    if (is != nullptr && (is->oid == was.oid || went_forward(was, *is))) continue;
    ++(is == nullptr ? moves.gone : moves.moved);
    const std::string_view name = below_refs(was.name);
    if (known.contains({name, was.oid})) continue;
    moves.to_keep.push_back({below + std::string(name), was.oid});
  }
  sort(moves.to_keep);
  // Twice within a second: a name is never given anew.
  for (Ref& ref : moves.to_keep) {
    for (int again = 2; find_ref(kept, ref.name) != nullptr; ++again) {
      ref.name = fmt::format("{}{}.{}/{}", kKeptBelow, stamp(time), again, below_refs(ref.name));
    }
  }
  sort(moves.to_keep);
  return moves;
}

Refs merged(Refs kept, Refs more) {
  // Of two of one name the later argument's has it: what the remote has now. Ours is not lost for that.
  for (Ref& ref : kept) {
    const Ref* other = find_ref(more, ref.name);
    if (other != nullptr && other->oid != ref.oid) ref.name += ".ours";
  }
  kept.insert(kept.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  sort(kept);
  return kept;
}

}  // namespace kuramori::git
