#include "vault/epochs.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {
namespace {

constexpr uint64_t kEpochMax = UINT16_MAX;  // session ids hold two bytes of it
constexpr const char* kRebuild = "kuramori vault ledger new NAME makes a new one from the objects";

Protocol at_place(const Protocol& objects, Store& store) {
  return {store,        objects.codec,      objects.clock,      objects.random,
          objects.self, objects.may_delete, objects.may_commit, objects.bugs,
          nullptr};
}

Result<EpochRecord> read_epoch(const RecordLog& place, const std::string& name, uint64_t number,
                               const MayFound& may_found) {
  TRY_ASSIGN(OpenedRecord opened, place.read(name, RecordType::kEpoch));
  if (!may_found(opened.signer)) {
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is signed by {}, who is not the owner", name, opened.signer.hex()),
                "only the owner founds a ledger", "kuramori vault scrub");
  }
  TRY_ASSIGN(EpochRecord record, decode<EpochRecord>(opened.body));
  bool sorted = std::ranges::is_sorted(record.accepted, {}, &AcceptedCommit::name) &&
                std::ranges::is_sorted(record.pruned) && std::ranges::is_sorted(record.swept);
  if (record.number != number || !sorted) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
  }
  return record;
}

// What the objects hold of the epochs up to `base`: what the next one begins with.
Result<void> gather(const Protocol& objects, const Epoch& base, EpochRecord& seal) {
  Protocol view = at_place(objects, objects.store);
  view.epoch = &base;
  Ledger ledger(view);
  // Somebody may be mirroring still: commits, then finals, then sweeps. Listed in the other order, a sweep
  // that is seen has its finals seen too, and these the commits they counted on.
  TRY_ASSIGN(std::vector<GcRound> rounds, ledger.read_gc());
  TRY_ASSIGN(std::vector<PruneRound> prunes, ledger.read_prunes());
  TRY_ASSIGN(CommitListing commits, ledger.read_commits(prunes));
  if (!commits.unverifiable.empty()) return commits.must_be_whole();
  // A commit whose predecessor is not here was built on one that its ledger alone knew: that one is void.
  auto accept = [&](const VisibleCommit& commit) {
    auto older = std::ranges::lower_bound(base.seal.accepted, commit.name, {}, &AcceptedCommit::name);
    bool was = older != base.seal.accepted.end() && older->name == commit.name;
    seal.accepted.push_back({commit.name, was ? older->epoch : base.number, commit.digest});
  };
  for (const VisibleCommit* commit : commits.visible) accept(*commit);
  for (const std::string& name : commits.pruned) {
    seal.pruned.push_back(name);
    Result<const VisibleCommit*> commit = ledger.read_commit(name);
    if (commit) accept(**commit);
  }
  std::ranges::sort(seal.accepted, {}, &AcceptedCommit::name);
  std::ranges::sort(seal.pruned);
  // Of what was swept, only what still stands can ever be met again.
  std::vector<std::string> swept;
  for (GcRound& round : rounds) {
    if (round.swept) swept.insert(swept.end(), round.objects.begin(), round.objects.end());
  }
  std::ranges::sort(swept);
  for (std::string_view prefix : {names::kLive, names::kMaps, names::kPacks, names::kWal}) {
    if (swept.empty()) break;
    TRY_ASSIGN(std::vector<ObjectInfo> standing, ledger.log().list(prefix));
    for (ObjectInfo& object : standing) {
      if (std::ranges::binary_search(swept, object.name)) seal.swept.push_back(std::move(object.name));
    }
  }
  std::ranges::sort(seal.swept);
  return {};
}

// Puts these very bytes into a place that may ignore conditions.
Result<void> put_same(const RecordLog& place, const std::string& name, ByteView bytes) {
  Result<Bytes> there = place.read_bytes(name);
  if (there && equal(*there, bytes)) return {};
  if (there) {
    return fail(ErrorKind::kDamaged, fmt::format("{} differs between ledger and objects", name),
                "the ledger belongs to another vault, or one of the two was tampered with",
                "look which ledger kuramori.yaml names");
  }
  if (there.error().kind != ErrorKind::kNotFound) return std::move(there).error();
  return place.put_bytes(name, bytes);
}

Result<EpochNumbers> newest_of(const RecordLog& objects) {
  TRY_ASSIGN(EpochNumbers numbers, list_epochs(objects));
  if (numbers.begun != 0 && numbers.sealed == 0) {
    return fail(ErrorKind::kRefused,
                fmt::format("the ledger of the vault at {} was begun and never finished",
                            objects.protocol().store.location()),
                "whoever made the vault, or its new ledger, was interrupted", kRebuild);
  }
  return numbers;
}

}  // namespace

Error without_ledger(std::string_view what) {
  return fail(ErrorKind::kRefused, fmt::format("{} needs the vault's ledger", what),
              "this vault has two places, and only its objects are at hand",
              "kuramori vault show NAME says what is wrong with the ledger");
}

Result<EpochNumbers> list_epochs(const RecordLog& place) {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, place.list(names::kEpochs));
  EpochNumbers numbers;
  for (const ObjectInfo& object : listed) {
    auto n = names::parse_number(object.name, names::kEpochs);
    if (!n) {
      return fail(ErrorKind::kDamaged, fmt::format("{} is no name of an epoch", object.name),
                  "a newer program may have put it", "update kuramori, or look who may put under epochs/");
    }
    // Whatever is there of it, the number is taken: a newer epoch that cannot be read stops as well.
    if (*n > numbers.begun) numbers.begins.clear();
    numbers.begun = std::max(numbers.begun, *n);
    if (object.name == names::epoch_seal(*n)) {
      numbers.sealed = std::max(numbers.sealed, *n);
    } else if (*n == numbers.begun) {
      numbers.begins.push_back(object.name);
    }
  }
  return numbers;
}

Result<void> must_be_in_force(const RecordLog& log) {
  const Epoch* epoch = log.protocol().epoch;
  if (!epoch) return {};
  if (!epoch->ledger) return without_ledger("what is decided here");
  TRY_ASSIGN(EpochNumbers numbers, list_epochs(log));
  if (numbers.begun <= epoch->number) return {};
  return fail(
      ErrorKind::kRefused, fmt::format("the ledger at {} is no longer in force", epoch->ledger->location()),
      fmt::format("epoch {} was begun; this ledger is of epoch {}, and what it decides now may be void",
                  numbers.begun, epoch->number),
      "give the new ledger's location in kuramori.yaml, then run the same command again");
}

Result<std::unique_ptr<Epoch>> open_epoch(const Protocol& objects, Store* ledger, const MayFound& may_found) {
  Protocol here = at_place(objects, objects.store);
  RecordLog o(here);
  TRY_ASSIGN(EpochNumbers numbers, list_epochs(o));
  auto epoch = std::make_unique<Epoch>();
  if (!ledger) {
    if (numbers.begun == 0) return std::unique_ptr<Epoch>();
    TRY_ASSIGN(numbers, newest_of(o));
    epoch->number = numbers.sealed;  // a newer one that was only begun has seen no work
    TRY_ASSIGN(epoch->seal, read_epoch(o, names::epoch_seal(epoch->number), epoch->number, may_found));
    return epoch;
  }
  if (numbers.begun == 0) {
    return fail(
        ErrorKind::kRefused,
        fmt::format("the vault at {} has one place, and a ledger was given", objects.store.location()),
        "a vault gets its ledger when it is made", "leave out `ledger:`");
  }
  Protocol there = at_place(objects, *ledger);
  RecordLog l(there);
  TRY_ASSIGN(EpochNumbers held, list_epochs(l));
  if (held.sealed == 0) {
    return fail(ErrorKind::kRefused, fmt::format("the ledger at {} is empty", ledger->location()),
                "it is another vault's place, or it was lost", kRebuild);
  }
  if (held.sealed != numbers.begun) {
    return fail(held.sealed < numbers.begun ? ErrorKind::kRefused : ErrorKind::kDamaged,
                fmt::format("the ledger at {} is of epoch {}", ledger->location(), held.sealed),
                fmt::format("the objects say that epoch {} is in force", numbers.begun),
                held.sealed < numbers.begun ? "give the new ledger's location in kuramori.yaml" : kRebuild);
  }
  epoch->number = held.sealed;
  epoch->ledger = ledger;
  std::string name = names::epoch_seal(epoch->number);
  TRY_ASSIGN(epoch->seal, read_epoch(l, name, epoch->number, may_found));
  std::string begin = names::epoch_begin(epoch->number, epoch->seal.token.hex());
  if (!std::ranges::count(numbers.begins, begin)) {
    return fail(ErrorKind::kDamaged, fmt::format("the ledger at {} is not this vault's", ledger->location()),
                "its seal and the objects' begin do not belong together",
                "look which ledger kuramori.yaml names");
  }
  TRY(read_epoch(o, begin, epoch->number, may_found));
  TRY_ASSIGN(Bytes sealed, l.read_bytes(name));
  TRY(put_same(o, name, sealed));
  if (objects.bugs.has(PlantedBug::kNoSeal) && epoch->number > 1) {
    Epoch base{epoch->number - 1, nullptr, {}};
    TRY_ASSIGN(base.seal, read_epoch(o, names::epoch_seal(base.number), base.number, may_found));
    EpochRecord now;
    TRY(gather(objects, base, now));
    epoch->seal.accepted = std::move(now.accepted);
  }
  return epoch;
}

Result<std::unique_ptr<Epoch>> found_epoch(const Protocol& objects, Store& ledger,
                                           const MayFound& may_found) {
  Protocol here = at_place(objects, objects.store), there = at_place(objects, ledger);
  RecordLog o(here), l(there);
  TRY_ASSIGN(EpochNumbers numbers, list_epochs(o));
  TRY_ASSIGN(EpochNumbers held, list_epochs(l));
  EpochRecord record{.number = std::max(numbers.begun, held.begun) + 1};
  if (record.number > kEpochMax) {
    return fail(ErrorKind::kRefused, fmt::format("epoch {} is beyond the last", record.number));
  }
  objects.random.fill(record.token.raw);
  record.at_ns = to_unix_ns(objects.clock.now());

  EpochRecord seal = record;
  const std::string name = names::epoch_begin(record.number, record.token.hex());
  const bool lists_first = objects.bugs.has(PlantedBug::kRebuildListsFirst);
  auto gather_newest = [&]() -> Result<void> {
    TRY_ASSIGN(numbers, list_epochs(o));
    if (!lists_first && (numbers.begun != record.number || numbers.begins != std::vector{name})) {
      return fail(ErrorKind::kRefused,
                  fmt::format("epoch {} is being founded by somebody else", record.number),
                  "two owners must not found a ledger at once; an attempt that failed may also come late",
                  "see that nobody else does, then run the same command again");
    }
    if (numbers.sealed == 0) return {};
    Epoch base{numbers.sealed, nullptr, {}};
    TRY_ASSIGN(base.seal, read_epoch(o, names::epoch_seal(base.number), base.number, may_found));
    return gather(objects, base, seal);
  };
  if (lists_first) TRY(gather_newest());
  TRY_ASSIGN(PutResult begun, o.put(RecordType::kEpoch, name, {}, encode(record)));
  // Only now: whoever sees no begin has mirrored before this listing, also in an epoch that was just sealed.
  if (!lists_first) TRY(gather_newest());

  const std::string seal_name = names::epoch_seal(record.number);
  TRY_ASSIGN(PutResult sealed, l.put(RecordType::kEpoch, seal_name, {}, encode(seal)));
  if (!sealed.ours()) {
    return fail(ErrorKind::kRefused, fmt::format("{} stands in {} already", seal_name, ledger.location()), "",
                "give an empty place");
  }
  TRY_ASSIGN(Bytes bytes, l.read_bytes(seal_name));
  TRY(put_same(o, seal_name, bytes));
  auto epoch = std::make_unique<Epoch>();
  epoch->number = record.number;
  epoch->ledger = &ledger;
  epoch->seal = std::move(seal);
  return epoch;
}

}  // namespace kuramori
