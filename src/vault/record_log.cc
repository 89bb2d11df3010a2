#include "vault/record_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "vault/epochs.h"
#include "vault/names.h"
#include "vault/older_versions.h"

namespace kuramori {

void RecordLog::pause(int attempt) const {
  Duration pause = kRetryPauseFirst * (1LL << std::min(attempt, 10));
  protocol_.clock.sleep(std::min(pause, kRetryPauseMax));
}

RecordLog::Place RecordLog::place_of(std::string_view name) const {
  const Epoch* epoch = protocol_.epoch;
  if (!epoch || !names::is_of_ledger(name)) return {&protocol_.store, std::string(name)};
  if (name.starts_with(names::kCommits)) {
    const auto& accepted = epoch->seal.accepted;
    auto older = std::ranges::lower_bound(accepted, name, {}, &AcceptedCommit::name);
    if (older != accepted.end() && older->name == name) {
      return {&protocol_.store, names::epoch_prefix(older->epoch) + std::string(name), &*older};
    }
  }
  return {epoch->ledger ? epoch->ledger : &protocol_.store,
          names::epoch_prefix(epoch->number) + std::string(name)};
}

Result<RecordLog::Put> RecordLog::put_until_answered(const Place& place, ByteView bytes,
                                                     Bytes& others) const {
  for (int attempt = 0; attempt < kPutAttemptsMax; ++attempt) {
    Result<void> put = place.store->put_if_absent(place.name, bytes);
    if (put) return Put::kStored;
    if (put.error().kind == ErrorKind::kUnknown) {
      pause(attempt);
      continue;
    }
    if (put.error().kind != ErrorKind::kExists) return std::move(put).error();
    // Somebody was first: perhaps an earlier try of this very put.
    Result<Bytes> there = get_until_answered(place);
    if (there) {
      if (equal(*there, bytes)) return Put::kStored;
      others = std::move(*there);
      return Put::kOthersBytes;
    }
    // It was there and is gone (a decided session is removed by the keeper): the next put will tell.
    if (there.error().kind != ErrorKind::kNotFound) return std::move(there).error();
  }
  return fail(ErrorKind::kUnknown, fmt::format("the outcome of putting {} is not known", place.name),
              fmt::format("{} gave no clear answer in {} attempts", place.store->location(), kPutAttemptsMax),
              "look whether the store answers, then run the same command again");
}

Result<PutResult> RecordLog::put(RecordType type, std::string_view name, std::optional<ResourceId> scope,
                                 ByteView body) const {
  if (protocol_.epoch && !protocol_.epoch->ledger && names::is_of_ledger(name)) {
    return without_ledger(name);
  }
  const Place place = place_of(name);
  Bytes object = protocol_.codec.encode(type, place.name, scope, body);
  TRY_ASSIGN(OpenedRecord opened, protocol_.codec.decode(place.name, object));
  if (opened.type != type || !equal(opened.body, body)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not open to what was sealed in it", name),
                "the memory or the processor of this machine is not to be trusted");
  }
  if (protocol_.bugs.has(PlantedBug::kRetryDiffers)) {
    for (int attempt = 0; attempt < kPutAttemptsMax; ++attempt) {
      Result<void> put = place.store->put_if_absent(place.name, object);
      if (put || put.error().kind != ErrorKind::kUnknown) break;
      object = protocol_.codec.encode(type, place.name, scope, body);
    }
    TRY_ASSIGN(opened, protocol_.codec.decode(place.name, object));
  }
  Bytes others;
  TRY_ASSIGN(Put outcome, put_until_answered(place, object, others));
  PutResult result{{std::string(name), object.size(), opened.digest}, {}};
  if (outcome == Put::kStored) return result;
  if (type == RecordType::kCommit && protocol_.bugs.has(PlantedBug::kAnyRefusalIsSuccess)) return result;
  if (type == RecordType::kSession && protocol_.bugs.has(PlantedBug::kClonesNotCompared)) return result;
  TRY_ASSIGN(result.theirs, protocol_.codec.decode(place.name, others));
  result.ref.size = others.size();
  result.ref.digest = result.theirs->digest;
  return result;
}

Result<void> RecordLog::put_bytes(std::string_view name, ByteView bytes) const {
  if (protocol_.bugs.has(PlantedBug::kTimeoutIsSuccess)) {
    Result<void> put = protocol_.store.put_if_absent(name, bytes);
    if (!put && put.error().kind == ErrorKind::kUnknown) return {};
  }
  Bytes others;
  TRY_ASSIGN(Put outcome, put_until_answered(place_of(name), bytes, others));
  if (outcome == Put::kStored || protocol_.bugs.has(PlantedBug::kClonesNotCompared)) return {};
  return fail(ErrorKind::kRefused, fmt::format("{} stands there with other bytes", name),
              "another process works under the same session id: a machine was cloned while it ran",
              "run the backup again; it draws a new session");
}

Result<Bytes> RecordLog::get_until_answered(const Place& place) const {
  for (int attempt = 0;; ++attempt) {
    Result<Bytes> bytes = place.store->get(place.name);
    if (bytes || bytes.error().kind != ErrorKind::kUnknown || attempt + 1 == kReadAttemptsMax) return bytes;
    pause(attempt);
  }
}

Result<Bytes> RecordLog::read_bytes(std::string_view name) const {
  const Place place = place_of(name);
  Result<Bytes> bytes = get_until_answered(place);
  // Bytes that were put again stand under a name of their own.
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound && names::is_content(name) &&
      names::origin_of(name) == name) {
    TRY_ASSIGN(std::vector<ObjectInfo> again, list(std::string(name) + "."));
    for (const ObjectInfo& object : again) {
      bytes = get_until_answered({&protocol_.store, object.name});
      if (bytes || bytes.error().kind != ErrorKind::kNotFound) break;
    }
  }
  // What a ledger's seal names was there: gone, it is lost.
  if (!bytes && place.accepted && bytes.error().kind == ErrorKind::kNotFound) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is missing", place.name),
                fmt::format("the seal of epoch {} names it", protocol_.epoch->number));
  }
  return bytes;
}

Result<void> RecordLog::mirror(std::string_view name) const {
  const Place place = place_of(name);
  if (!protocol_.epoch || !protocol_.epoch->ledger || place.accepted) return {};
  TRY_ASSIGN(Bytes decided, get_until_answered(place));
  const Place mirror{&protocol_.store, place.name};
  // The objects may ignore conditions, so what stands there is looked at first: nothing but these very bytes
  // may ever be put there.
  Result<Bytes> there = get_until_answered(mirror);
  if (!there && there.error().kind != ErrorKind::kNotFound) return std::move(there).error();
  Bytes others;
  if (!there) {
    TRY_ASSIGN(Put outcome, put_until_answered(mirror, decided, others));
    if (outcome == Put::kStored) return {};
  } else if (equal(*there, decided)) {
    return {};
  }
  return fail(ErrorKind::kDamaged, fmt::format("{} differs between ledger and objects", place.name),
              "what was decided is written once, and the same in both: one of the two was tampered with",
              "nothing was deleted; kuramori vault scrub tells what can be believed");
}

void RecordLog::expect(std::span<const std::string_view> names) const {
  if (protocol_.known == nullptr) return;
  if (protocol_.epoch == nullptr) return protocol_.known->expect(names);
  std::vector<std::string> full_names;
  for (const std::string_view name : names) full_names.push_back(place_of(name).name);
  protocol_.known->expect(std::vector<std::string_view>(full_names.begin(), full_names.end()));
}

Result<OpenedRecord> RecordLog::read(std::string_view name) const {
  return read_fitting(name, nullptr);
}

Result<OpenedRecord> RecordLog::read_bound(const ObjectRef& ref, RecordType type) const {
  TRY_ASSIGN(OpenedRecord opened, read_fitting(ref.name, &ref));
  if (opened.type == type) return opened;
  return fail(ErrorKind::kDamaged, fmt::format("{} is a record of type {}, not {}", ref.name,
                                               static_cast<int>(opened.type), static_cast<int>(type)));
}

Result<OpenedRecord> RecordLog::read_fitting(std::string_view name, const ObjectRef* bound) const {
  const Place place = place_of(name);
  if (protocol_.known != nullptr && bound == nullptr) {
    std::optional<OpenedRecord> known = protocol_.known->recall(place.name);
    if (known && (!place.accepted || known->digest == place.accepted->digest)) return std::move(*known);
  }
  TRY_ASSIGN(Bytes object, read_bytes(name));
  bool stands = false;  // what was opened is what was read first, and nothing that lay behind it
  auto decode = [&](ByteView bytes) -> Result<OpenedRecord> {
    TRY_ASSIGN(OpenedRecord opened, protocol_.codec.decode(place.name, bytes));
    if (bound == nullptr || opened.digest == bound->digest) return opened;
    return fail(ErrorKind::kDamaged, fmt::format("{} is not the object that is bound", name),
                "another record was put in its place");
  };
  // In a versioned place the newest bytes may be somebody's who put them over a record: it still stands
  // behind.
  Result<OpenedRecord> opened = first_sound<OpenedRecord>(
      *place.store, place.name,
      [&] {
        Result<OpenedRecord> standing = decode(object);
        stands = standing.has_value();
        return standing;
      },
      [&](Versions& versions, const ObjectVersion& version) -> Result<OpenedRecord> {
        TRY_ASSIGN(Bytes older, versions.get_version(place.name, version.id));
        return decode(older);
      });
  if (opened && place.accepted && opened->digest != place.accepted->digest) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not the commit that was accepted", place.name),
                fmt::format("the seal of epoch {} binds another", protocol_.epoch->number));
  }
  if (opened && stands && protocol_.known != nullptr)
    protocol_.known->remember(place.name, object.size(), *opened);
  // "Not found" is the store's word alone; a codec that uses it for a missing key must not make a record
  // absent.
  if (!opened && opened.error().kind == ErrorKind::kNotFound) {
    Error error = std::move(opened).error();
    error.kind = ErrorKind::kDamaged;
    return error;
  }
  return opened;
}

Result<OpenedRecord> RecordLog::read(std::string_view name, RecordType type) const {
  TRY_ASSIGN(OpenedRecord opened, read(name));
  if (opened.type != type) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is a record of type {}, not {}", name,
                                                 static_cast<int>(opened.type), static_cast<int>(type)));
  }
  return opened;
}

Result<void> RecordLog::list_into(Store& store, const std::string& prefix, size_t strip,
                                  std::vector<ObjectInfo>& all) const {
  std::string after;
  for (;;) {
    Result<ListPage> page = store.list(prefix, after, kListPageMax);
    for (int attempt = 0; !page && page.error().kind == ErrorKind::kUnknown && attempt + 1 < kReadAttemptsMax;
         ++attempt) {
      pause(attempt);
      page = store.list(prefix, after, kListPageMax);
    }
    if (!page) return std::move(page).error();
    for (ObjectInfo& object : page->objects) {
      if (!object.name.starts_with(prefix) || object.name <= after) {
        return fail(ErrorKind::kDamaged,
                    fmt::format("the listing of {} is out of order at {}", prefix, object.name),
                    fmt::format("{} broke the contract of a store", store.location()));
      }
      after = object.name;
      object.name.erase(0, strip);
      all.push_back(std::move(object));
    }
    if (!page->more || protocol_.bugs.has(PlantedBug::kListTruncated)) return {};
    if (page->objects.empty()) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("the listing of {} announced more names and gave none", prefix),
                  fmt::format("{} broke the contract of a store", store.location()));
    }
  }
}

Result<std::vector<ObjectInfo>> RecordLog::list_objects(const std::string& prefix) const {
  std::vector<ObjectInfo> all;
  TRY(list_into(protocol_.store, prefix, 0, all));
  return all;
}

Result<std::vector<ObjectInfo>> RecordLog::list(std::string_view prefix) const {
  std::vector<ObjectInfo> all;
  const Epoch* epoch = protocol_.epoch;
  if (!epoch || !names::is_of_ledger(prefix)) {
    TRY(list_into(protocol_.store, std::string(prefix), 0, all));
    return all;
  }
  auto list_epoch = [&](Store& store, uint64_t number) {
    std::string in_epoch = names::epoch_prefix(number);
    return list_into(store, in_epoch + std::string(prefix), in_epoch.size(), all);
  };
  TRY(list_epoch(epoch->ledger ? *epoch->ledger : protocol_.store, epoch->number));
  if (!prefix.starts_with(names::kCommits) || epoch->seal.accepted.empty()) return all;
  // Every commit that the epoch began with is there, whatever the objects list: reading it will tell. The
  // listing only adds sizes and dates.
  const size_t own = all.size();
  std::set<uint64_t> older;
  for (const AcceptedCommit& accepted : epoch->seal.accepted) older.insert(accepted.epoch);
  for (uint64_t number : older) TRY(list_epoch(protocol_.store, number));
  std::map<std::string, ObjectInfo, std::less<>> seen;
  for (size_t i = own; i < all.size(); ++i) seen.emplace(all[i].name, all[i]);
  all.resize(own);
  for (const AcceptedCommit& accepted : epoch->seal.accepted) {
    if (!accepted.name.starts_with(prefix)) continue;
    auto there = seen.find(accepted.name);
    all.push_back(there != seen.end() ? there->second : ObjectInfo{.name = accepted.name});
  }
  std::ranges::sort(all, {}, &ObjectInfo::name);
  return all;
}

Result<void> RecordLog::remove(std::string_view name) const {
  const Place place = place_of(name);
  for (int attempt = 0;; ++attempt) {
    Result<void> removed = place.store->remove(place.name);
    if (removed || removed.error().kind != ErrorKind::kUnknown || attempt + 1 == kReadAttemptsMax)
      return removed;
    pause(attempt);
  }
}

}  // namespace kuramori
