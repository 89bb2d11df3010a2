#include "vault/compactor.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>

#include "conc/task_group.h"

namespace kuramori {
namespace {

constexpr size_t kWarningsMax = 3;

// What says something of one pack alone: the others are looked at all the same.
bool is_of_this_pack(const Error& error) {
  return error.kind == ErrorKind::kDamaged || error.kind == ErrorKind::kNotFound ||
         error.kind == ErrorKind::kRefused;
}

void warn(CompactReport& report, std::string text) {
  if (report.warnings.size() < kWarningsMax) report.warnings.push_back(std::move(text));
}

}  // namespace

Result<std::optional<Compactor::Candidate>> Compactor::judge(const PackNeed& need, const ObjectInfo& object,
                                                             const CompactOptions& options,
                                                             const Warn& warn_of) {
  using Found = std::optional<Candidate>;
  // What is locked cannot go: a second one beside it only costs.
  TRY_ASSIGN(const bool locked, thin_.is_locked(object.name));
  if (locked) return Found();
  Result<ThinPacks::Shape> shape = thin_.measure(need.pack, object.name);
  if (!shape) {
    if (!is_of_this_pack(shape.error())) return std::move(shape).error();
    warn_of(fmt::format("not compacted: {}", shape.error().what));
    return Found();
  }
  Candidate one{need.pack, need.resource, object.name, object.size, shape->rest_bytes};
  for (const FrameRange& range : need.pack.frames) {
    if (uint64_t{range.first} + range.count > shape->frame_bytes.size()) return Found();
    for (uint32_t i = 0; i < range.count; ++i) one.kept_bytes += shape->frame_bytes[range.first + i];
  }
  if (static_cast<double>(one.kept_bytes) > options.live_share_max * static_cast<double>(object.size))
    return Found();
  return Found(std::move(one));
}

Result<std::vector<Compactor::Candidate>> Compactor::find_candidates(const CompactOptions& options,
                                                                     CompactReport& report) {
  std::vector<Candidate> all;
  TRY_ASSIGN(std::vector<GcRound> rounds, ledger_.read_gc());
  // A plan that is not swept yet may be about to choose among what stands: the next run goes on.
  if (!rounds.empty() && !rounds.back().swept) return all;
  const std::vector<std::string> condemned = condemned_by(rounds);
  TRY_ASSIGN(std::vector<ObjectInfo> listed, ledger_.log().list(names::kPacks));
  TRY_ASSIGN(SessionListing sessions, ledger_.read_sessions());
  TRY_ASSIGN(CommitListing commits, ledger_.read_commits());
  TRY(commits.must_be_whole());
  std::map<std::string_view, const ObjectInfo*> smallest;  // by origin
  std::set<std::string_view> cold;                         // origins
  for (const ObjectInfo& object : listed) {
    if (!names::owner_of(object.name) || std::ranges::binary_search(condemned, object.name)) continue;
    // What must be thawed first is cheap where it lies, and reading it is not.
    if (!is_read_at_once(object.storage_class)) cold.insert(names::origin_of(object.name));
    const ObjectInfo*& known = smallest[names::origin_of(object.name)];
    if (known == nullptr || object.size < known->size) known = &object;
  }
  // Of what a visible snapshot put itself it needs everything: nothing to look at.
  std::set<SessionId> makers;
  for (const VisibleCommit* commit : commits.visible) makers.insert(commit->record.session);
  auto which = [&](const std::string& origin) {
    auto maker = names::owner_of(origin);
    return maker && !makers.contains(*maker) && smallest.contains(origin) && !cold.contains(origin);
  };
  TRY_ASSIGN(Needed needed, find_needed(ledger_, commits, sessions, condemned, which));
  std::vector<std::pair<const PackNeed*, const ObjectInfo*>> looked_at;
  for (const auto& [origin, need] : needed.packs) {
    // What an open session may refer to is not known before it commits.
    if (!need.contradicted && !needed.declared.contains(origin))
      looked_at.emplace_back(&need, smallest.find(origin)->second);
  }
  std::mutex mutex;
  std::vector<std::optional<Candidate>> found(looked_at.size());
  auto look = [&](size_t i) -> Result<void> {
    const auto& [need, object] = looked_at[i];
    TRY(options.go_on());
    TRY_ASSIGN(found[i], judge(*need, *object, options, [&](std::string warning) {
                 const std::lock_guard hold(mutex);
                 warn(report, std::move(warning));
               }));
    return {};
  };
  if (options.looks_at_once > 1) {
    TRY(parallel_for(looked_at.size(), options.looks_at_once, {},
                     [&](size_t i, std::stop_token) { return look(i); }));
  } else {
    for (size_t i = 0; i < looked_at.size(); ++i) TRY(look(i));
  }
  for (std::optional<Candidate>& one : found) {
    if (one) all.push_back(std::move(*one));
  }
  std::ranges::stable_sort(all, {}, [](const Candidate& c) {
    return static_cast<double>(c.kept_bytes) / static_cast<double>(std::max<uint64_t>(c.object_bytes, 1));
  });
  return all;
}

Result<void> Compactor::thin_one(const Candidate& candidate, const CompactOptions& options,
                                 CompactReport& report) {
  TRY(options.go_on());
  std::unique_ptr<WriterSession>& session = sessions_[candidate.resource];
  if (!session) {
    TRY_ASSIGN(session, WriterSession::open(protocol_, {.kind = SessionKind::kCopy,
                                                        .resource = candidate.resource,
                                                        .snapshot = protocol_.random.id<SnapshotId>(),
                                                        .host = options.host}));
  }
  if (session->is_condemned(candidate.object)) return {};
  Result<void> made = thin_.make(candidate.pack, candidate.object, candidate.pack.frames,
                                 names::incarnation(candidate.pack.name, session->id()));
  if (made) {
    ++report.packs;
    report.stored_bytes += candidate.object_bytes;
    report.kept_bytes += candidate.kept_bytes;
    return {};
  }
  // Something else than was meant may stand under that name now, or land there: no second try uses it.
  Result<void> over = session->abandon("compaction failed");
  session.reset();
  if (!is_of_this_pack(made.error())) return made;
  warn(report, fmt::format("not compacted: {}", made.error().what));
  return over;
}

Result<CompactReport> Compactor::run(const CompactOptions& options) {
  CompactReport report;
  TRY_ASSIGN(std::vector<Candidate> candidates, find_candidates(options, report));
  uint64_t freed = 0;
  Result<void> going;
  for (const Candidate& candidate : candidates) {
    const uint64_t frees = candidate.object_bytes - candidate.kept_bytes;
    const bool fits = freed == 0 || freed + frees <= options.freed_bytes_max;
    if (!fits || candidate.object_bytes > options.pack_bytes_max) {
      ++report.left;
      continue;
    }
    freed += frees;
    if (options.dry_run) {
      ++report.packs;
      report.stored_bytes += candidate.object_bytes;
      report.kept_bytes += candidate.kept_bytes;
    } else if (going = thin_one(candidate, options, report); !going) {
      break;
    }
  }
  for (auto& [resource, session] : sessions_) {
    if (!session) continue;
    Result<void> over = session->abandon("compacted");
    if (going && !over) going = std::move(over);
  }
  sessions_.clear();
  TRY(std::move(going));
  return report;
}

}  // namespace kuramori
