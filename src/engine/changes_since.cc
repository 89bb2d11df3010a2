#include "engine/changes_since.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "vault/envelope.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

using postgres::Capture;
using postgres::CaptureStart;
using postgres::ChangedBlocks;
using postgres::format_lsn;
using postgres::Lsn;

constexpr size_t kReadersMax = 16;  // records of segments that are read at the same time

Error unknown(std::string why) {
  return fail(ErrorKind::kFailed, std::move(why));
}

// Gathers, segment by segment, from the first that is needed to the one in which this snapshot starts.
class Gathering {
 public:
  Gathering(Vault& vault, const ResourceId& resource, Capture& capture, Lsn base_start, std::stop_token stop)
      : vault_(vault),
        resource_(resource),
        capture_(capture),
        start_(capture.start()),
        base_start_(base_start),
        first_(postgres::segment_number(base_start, start_.segment_bytes)),
        last_(postgres::segment_number(start_.start_lsn, start_.segment_bytes)),
        stop_(std::move(stop)) {}

  Result<ChangesSince> gather() {
    TRY(read_records());
    // Each reads a segment of the server's; neither needs the other.
    TaskGroup both(stop_);
    both.start([this](std::stop_token) { return check_history(); });
    auto joined = join();
    TRY(both.wait());
    TRY(std::move(joined));
    ChangesSince since;
    // What is only known together with the WAL before the base's start.
    std::optional<ChangedBlocks> loose;
    if (start_.sends_changes && !pieces_.empty() && pieces_.front().from < base_start_) {
      loose = std::move(pieces_.front());
      pieces_.erase(pieces_.begin());
      TRY_ASSIGN(since.surely, merged(loose->to));
      pieces_ = {std::move(*loose), *since.surely};
    }
    TRY_ASSIGN(since.blocks, merged(base_start_));
    const ChangedBlocks& all = *since.blocks;
    if (all.was_minimal)
      return unknown(fmt::format("wal_level was minimal between {} and {}", format_lsn(base_start_),
                                 format_lsn(start_.start_lsn)));
    return since;
  }
  bool histories_differ() const { return histories_differ_; }

 private:
  std::string name_of(uint64_t number) const {
    return postgres::segment_name(start_.timeline, number * start_.segment_bytes, start_.segment_bytes);
  }

  // What the archive says of each segment. One that has two contents says nothing that can be believed.
  Result<void> read_records() {
    objects_.resize(last_ - first_ + 1);
    records_.resize(objects_.size());
    TRY_ASSIGN(const WalListing listing, list_wal(vault_.store(), resource_, start_.timeline));
    for (const WalObject& object : listing.objects) {
      const uint64_t number = object.name.from / start_.segment_bytes;
      if (object.name.kind != names::WalKind::kSegment || number < first_ || number > last_) continue;
      if (object.name.from % start_.segment_bytes != 0 ||
          object.name.to - object.name.from != start_.segment_bytes)
        return unknown(
            fmt::format("the archive holds {}, which is no segment of this server", object.object));
      std::optional<WalObject>& known = objects_[number - first_];
      if (known && known->name.digest != object.name.digest) {
        histories_differ_ = true;
        return unknown(fmt::format("the archive holds {} with two contents: two servers wrote this timeline",
                                   name_of(number)));
      }
      known = object;
    }
    return parallel_for(objects_.size(), kReadersMax, stop_, [&](size_t i, std::stop_token) -> Result<void> {
      if (objects_[i]) records_[i] = record_of(*objects_[i]);
      return {};
    });
  }

  // Nothing: the object has no record of what changes, or none that is to be believed; the server's own WAL
  // is asked then.
  std::optional<ChangedBlocks> record_of(const WalObject& object) const {
    auto header = read_wal_header(vault_.store(), vault_.keys(), object.object, &vault_.codec().signers());
    if (!header || !header->changes || header->timeline != start_.timeline ||
        header->from != object.name.from || !header->digest.hex().starts_with(object.name.digest))
      return std::nullopt;
    auto changed = postgres::decode_changed_blocks(*header->changes);
    const bool fits = changed && changed->system_id == start_.system_id &&
                      changed->timeline == start_.timeline && changed->from <= changed->to &&
                      changed->to <= object.name.to;
    if (!fits) return std::nullopt;
    return std::move(*changed);
  }

  // A cluster that was set back by its disks writes the same LSNs again, on the same timeline, into files
  // that are still the same. What the archive has of that range is another history: the newest segment that
  // both have tells. (A standby's copy may differ behind the last record.)
  Result<void> check_history() {
    if (start_.in_recovery) return {};
    for (uint64_t number = last_ + 1; number-- > first_;) {
      const auto& object = objects_[number - first_];
      if (!object) continue;
      auto bytes = capture_.wal_segment_so_far(name_of(number));
      if (!bytes) return {};  // it is recycled, and so are those before
      const Digest digest = hmac_sha256(wal_digest_key(vault_.keys(), resource_).view(), *bytes);
      if (digest.hex().starts_with(object->name.digest)) return {};
      histories_differ_ = true;
      return unknown(fmt::format("{} in the archive is not the one in pg_wal: the cluster was set back",
                                 name_of(number)));
    }
    return {};
  }

  // Every record that begins in [base_start, start): each piece begins where the ones before reach to, or
  // earlier. A record that spans two segments is in the piece of the one in which it ends.
  Result<void> join() {
    Lsn reached = base_start_;
    for (uint64_t number = first_; number <= last_ && reached < start_.start_lsn;) {
      auto& record = records_[number - first_];
      // A server that sends changes alone tells of those up to this start and no later ones: so must this.
      if (record && start_.sends_changes && record->to > start_.start_lsn) record.reset();
      if (record && record->from <= reached) {
        reached = std::max(reached, record->to);
        pieces_.push_back(std::move(*record));
        ++number;
        continue;
      }
      // To where the next record of the archive begins: of this segment, if its head alone is missing.
      uint64_t next = number;
      while (next <= last_ && !records_[next - first_]) ++next;
      const Lsn until =
          next <= last_ ? std::min(start_.start_lsn, records_[next - first_]->from) : start_.start_lsn;
      TRY_ASSIGN(ChangedBlocks scanned, scan_server(reached, until));
      reached = scanned.to;
      pieces_.push_back(std::move(scanned));
      number = next;
    }
    if (reached < start_.start_lsn)
      return unknown(fmt::format("nothing is known of the WAL between {} and {}", format_lsn(reached),
                                 format_lsn(start_.start_lsn)));
    return {};
  }

  // From a record's begin on, out of pg_wal.
  Result<ChangedBlocks> scan_server(Lsn from, Lsn until) {
    postgres::WalReader reader({.from = from,
                                .segment_bytes = start_.segment_bytes,
                                .timeline = start_.timeline,
                                .system_id = start_.system_id});
    postgres::ChangedBlocksCollector collector(start_.system_id, from);
    auto take = [&](Lsn to) {
      ChangedBlocks changed = collector.take(to);
      changed.timeline = start_.timeline;
      return changed;
    };
    Bytes segment;  // the reader looks into it until the next
    for (;;) {
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
      TRY_ASSIGN(const auto next, reader.next());
      if (next == postgres::WalReader::Next::kRecord) {
        if (reader.record().lsn >= until) return take(reader.record().lsn);
        TRY(collector.see(reader.record()));
      } else if (next == postgres::WalReader::Next::kEnd) {
        return unknown(fmt::format("the WAL in pg_wal cannot be read at {} ({}), and is needed up to {}",
                                   format_lsn(reader.stop().lsn), postgres::name_of(reader.stop().reason),
                                   format_lsn(until)));
      } else {
        if (reader.position() >= until) return take(reader.position());
        const uint64_t number = postgres::segment_number(reader.next_position(), start_.segment_bytes);
        auto bytes = capture_.wal_segment_so_far(name_of(number));
        if (!bytes) {
          return unknown(
              fmt::format("of WAL segment {} (from {}) the archive does not say what it changes, and "
                          "it cannot be read in pg_wal: {}",
                          name_of(number), format_lsn(reader.position()), bytes.error().what));
        }
        segment = std::move(*bytes);
        TRY(reader.add(number * start_.segment_bytes, segment));
      }
    }
  }

  // Neighbours pairwise, so that a block is moved a few times and not once for every segment.
  Result<ChangedBlocks> merged(Lsn from) {
    ChangedBlocks all;
    all.system_id = start_.system_id;
    all.timeline = start_.timeline;
    all.from = all.to = from;
    while (pieces_.size() > 1) {
      for (size_t i = 0; i + 1 < pieces_.size(); i += 2) {
        TRY(pieces_[i].append(pieces_[i + 1]));
        if (i != 0) pieces_[i / 2] = std::move(pieces_[i]);
      }
      if (pieces_.size() % 2 == 1) pieces_[pieces_.size() / 2] = std::move(pieces_.back());
      pieces_.resize((pieces_.size() + 1) / 2);
    }
    if (!pieces_.empty()) TRY(all.append(pieces_.front()));
    return all;
  }

  Vault& vault_;
  const ResourceId& resource_;
  Capture& capture_;
  const CaptureStart& start_;
  const Lsn base_start_;
  const uint64_t first_, last_;
  std::stop_token stop_;
  std::vector<std::optional<WalObject>> objects_;  // by segment
  std::vector<std::optional<ChangedBlocks>> records_;
  std::vector<ChangedBlocks> pieces_;  // in order
  bool histories_differ_ = false;
};

uint64_t below(uint64_t limit, Random& random) {
  CHECK(limit > 0);
  // The bias of the remainder is beneath 2^-64 times the limit: nothing against the sample's own chance.
  uint8_t raw[8];
  random.fill(raw);
  return load_le<uint64_t>(raw) % limit;
}

uint64_t count_of(const UnchangedPages& pages) {
  return pages.known - pages.changed.size();
}

// The page with this rank among those that are not on the list.
uint32_t page_at(const UnchangedPages& pages, uint64_t rank) {
  // With the i-th listed page (from 0) being p, p - i pages before it are not listed.
  size_t low = 0, high = pages.changed.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (pages.changed[middle] - pages.first_block - middle <= rank) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<uint32_t>(rank + low);
}

bool is_zero_in(const std::vector<PageRun>& runs, uint32_t page) {
  auto after = std::ranges::upper_bound(runs, page, {}, &PageRun::page);
  if (after == runs.begin()) return false;
  --after;
  return page < after->page + after->count && after->pack == kZeroPack;
}

}  // namespace

Result<ChangesSince> changes_since(Vault& vault, const ResourceId& resource, Capture& capture, Lsn base_start,
                                   std::stop_token stop) {
  Gathering gathering(vault, resource, capture, base_start, stop);
  auto changed = gathering.gather();
  if (changed) return changed;
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
  const Error& error = changed.error();
  return ChangesSince{.why_not = error.why.empty() ? error.what : error.what + ": " + error.why,
                      .histories_differ = gathering.histories_differ()};
}

std::optional<postgres::Skip> changed_pages(const ChangedBlocks& changed, const postgres::CaptureFile& file,
                                            uint32_t base_pages, Lsn base_start) {
  if (changed.whole_databases.contains({file.relation.tablespace, file.relation.database}))
    return std::nullopt;
  postgres::Skip skip{.unchanged_before = base_start, .base_pages = base_pages, .changed = {{}}};
  auto found = changed.forks.find({file.relation, postgres::Fork::kMain});
  if (found == changed.forks.end()) return skip;
  const uint32_t first = file.first_block;
  if (found->second.limit) {
    const uint32_t limit = *found->second.limit;
    skip.cut_to = limit > first ? limit - first : 0;
    skip.base_pages = std::min(base_pages, *skip.cut_to);
  }
  const std::vector<uint32_t>& blocks = found->second.blocks;
  const auto begin = std::ranges::lower_bound(blocks, first);
  const auto end = std::lower_bound(begin, blocks.end(), uint64_t{first} + skip.base_pages);
  skip.changed = std::span(begin, end);
  return skip;
}

void add_certainty(postgres::Skip& skip, const ChangedBlocks& surely, const postgres::CaptureFile& file) {
  const auto found = surely.forks.find({file.relation, postgres::Fork::kMain});
  if (found == surely.forks.end()) return;
  const uint32_t first = file.first_block;
  if (const auto limit = found->second.limit) skip.surely_cut_to = *limit > first ? *limit - first : 0;
  const std::vector<uint32_t>& blocks = found->second.blocks;
  skip.surely_changed = std::span(std::ranges::lower_bound(blocks, first), blocks.end());
}

std::vector<postgres::PagePlace> choose_sample(std::span<const UnchangedPages> files, uint64_t count,
                                               Random& random) {
  std::vector<uint64_t> ends;  // of each file's pages, counted through all
  uint64_t all = 0;
  for (const UnchangedPages& file : files) ends.push_back(all += count_of(file));
  count = std::min(count, all);
  // Floyd: each set of `count` is as likely as any other, and no more than `count` draws are made.
  std::unordered_set<uint64_t> chosen;
  for (uint64_t at = all - count; at < all; ++at) {
    if (!chosen.insert(below(at + 1, random)).second) chosen.insert(at);
  }
  std::vector<uint64_t> ranks(chosen.begin(), chosen.end());
  std::ranges::sort(ranks);
  std::vector<postgres::PagePlace> places;
  size_t file = 0;
  for (const uint64_t rank : ranks) {
    while (rank >= ends[file]) ++file;
    const uint64_t before = file == 0 ? 0 : ends[file - 1];
    places.push_back({files[file].file, page_at(files[file], rank - before)});
  }
  return places;
}

std::optional<size_t> find_contradiction(std::span<const UnchangedPages> files,
                                         std::span<const postgres::PagePlace> places,
                                         std::span<const postgres::PageLook> looks, Lsn base_start,
                                         Lsn start) {
  size_t file = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    while (files[file].file != places[i].file) ++file;
    const postgres::PageLook& look = looks[i];
    if (!look.there) continue;
    const bool changed = look.lsn > base_start && look.lsn <= start;
    const bool emptied = look.zero && !is_zero_in(*files[file].base, places[i].page);
    if (changed || emptied) return i;
  }
  return std::nullopt;
}

std::string ChangesKnown::text() const {
  switch (by) {
    case ChangesBy::kWal:
      return "wal";
    case ChangesBy::kPageLsns:
      return "page LSNs: " + why_not;
    case ChangesBy::kWhole:
      break;
  }
  return why_not.empty() ? "whole" : "whole: " + why_not;
}

Result<ChangesKnown> find_changes(Vault& vault, const ResourceId& resource, Capture& capture, Lsn base_start,
                                  const BaseFile& base_file, Reporter& reporter, std::stop_token stop) {
  const CaptureStart& start = capture.start();
  ChangesKnown known;
  auto fall_back = [&](std::string why, bool to_whole) {
    known.why_not = std::move(why);
    known.blocks.reset();
    known.by = to_whole || !start.every_change_moves_lsn ? ChangesBy::kWhole : ChangesBy::kPageLsns;
    reporter.warning(fmt::format(
        "the WAL does not tell what changed: {}; {}", known.why_not,
        known.by == ChangesBy::kPageLsns ? "every page is read, and its LSN tells" : "everything is read"));
    if (!to_whole && known.by == ChangesBy::kWhole) {
      known.why_not += "; without data checksums and wal_log_hints page LSNs do not tell either";
    }
    return known;
  };
  TRY_ASSIGN(ChangesSince since, changes_since(vault, resource, capture, base_start, stop));
  // Without inodes, nothing else than the WAL tells that a file is still the same one.
  if (!since.blocks) return fall_back(since.why_not, since.histories_differ || !start.on_host);
  known.blocks = std::move(since.blocks);
  known.surely = std::move(since.surely);
  if (!start.on_host) {  // every page's LSN is looked at when it comes by
    known.by = ChangesBy::kWal;
    return known;
  }

  std::vector<UnchangedPages> unchanged;
  uint64_t changed = 0;
  const std::vector<postgres::CaptureFile>& files = capture.files();
  for (uint32_t index = 0; index < files.size(); ++index) {
    const FilePages* base = base_file(files[index]);
    if (base == nullptr) continue;
    const auto skip = changed_pages(*known.blocks, files[index], base->pages, base_start);
    if (!skip) continue;
    const uint32_t first_block = files[index].first_block;
    const uint32_t pages =
        std::min(skip->base_pages, static_cast<uint32_t>(files[index].entry.size / kPageBytes));
    const auto listed = std::ranges::lower_bound(*skip->changed, first_block + pages);
    unchanged.push_back(
        {.file = index,
         .known = pages,
         .changed = skip->changed->first(static_cast<size_t>(listed - skip->changed->begin())),
         .first_block = first_block,
         .base = &base->runs});
    changed += unchanged.back().changed.size();
  }
  const auto places =
      choose_sample(unchanged, std::max(kSamplePagesMin, changed / kSamplePartOfChanged), vault.random());
  TRY_ASSIGN(const std::vector<postgres::PageLook> looks, capture.look_at(places));
  known.pages_sampled = places.size();
  if (const auto wrong = find_contradiction(unchanged, places, looks, base_start, start.start_lsn)) {
    known.contradicted = true;
    // The path is a name, and the commit's reader need not know it.
    reporter.warning(fmt::format(
        "ALARM: the WAL DOES NOT TELL ALL that changed: page {} of {} has LSN {}, between the last "
        "snapshot's "
        "start at {} and this one's at {}, and no record of a change. Snapshots that were built on such "
        "records may lack changes: kuramori backup --full, then kuramori drill",
        places[*wrong].page, files[places[*wrong].file].entry.path, format_lsn(looks[*wrong].lsn),
        format_lsn(base_start), format_lsn(start.start_lsn)));
    return fall_back(
        fmt::format("a page changed at {} without a record in it", format_lsn(looks[*wrong].lsn)), false);
  }
  known.by = ChangesBy::kWal;
  return known;
}

}  // namespace kuramori
