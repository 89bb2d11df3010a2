#include "vault/record_log.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {

void RecordLog::pause(int attempt) const {
  Duration pause = kRetryPauseFirst * (1LL << std::min(attempt, 10));
  protocol_.clock.sleep(std::min(pause, kRetryPauseMax));
}

Result<RecordLog::Put> RecordLog::put_until_answered(std::string_view name, ByteView bytes,
                                                     Bytes& others) const {
  for (int attempt = 0; attempt < kPutAttemptsMax; ++attempt) {
    Result<void> put = protocol_.store.put_if_absent(name, bytes);
    if (put) return Put::kStored;
    if (put.error().kind == ErrorKind::kUnknown) {
      pause(attempt);
      continue;
    }
    if (put.error().kind != ErrorKind::kExists) return std::move(put).error();
    // Somebody was first: perhaps an earlier try of this very put.
    Result<Bytes> there = read_bytes(name);
    if (there) {
      if (equal(*there, bytes)) return Put::kStored;
      others = std::move(*there);
      return Put::kOthersBytes;
    }
    // It was there and is gone (a decided session is removed by the keeper): the next put will tell.
    if (there.error().kind != ErrorKind::kNotFound) return std::move(there).error();
  }
  return fail(
      ErrorKind::kUnknown, fmt::format("the outcome of putting {} is not known", name),
      fmt::format("{} gave no clear answer in {} attempts", protocol_.store.location(), kPutAttemptsMax),
      "look whether the store answers, then run the same command again");
}

Result<PutResult> RecordLog::put(RecordType type, std::string_view name, std::optional<ResourceId> scope,
                                 ByteView body) const {
  Bytes object = protocol_.codec.encode(type, name, scope, body);
  TRY_ASSIGN(OpenedRecord opened, protocol_.codec.decode(name, object));
  if (opened.type != type || !equal(opened.body, body)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not open to what was sealed in it", name),
                "the memory or the processor of this machine is not to be trusted");
  }
  if (protocol_.bugs.has(PlantedBug::kRetryDiffers)) {
    for (int attempt = 0; attempt < kPutAttemptsMax; ++attempt) {
      Result<void> put = protocol_.store.put_if_absent(name, object);
      if (put || put.error().kind != ErrorKind::kUnknown) break;
      object = protocol_.codec.encode(type, name, scope, body);
    }
    TRY_ASSIGN(opened, protocol_.codec.decode(name, object));
  }
  Bytes others;
  TRY_ASSIGN(Put outcome, put_until_answered(name, object, others));
  PutResult result{{std::string(name), object.size(), opened.digest}, {}};
  if (outcome == Put::kStored) return result;
  if (type == RecordType::kCommit && protocol_.bugs.has(PlantedBug::kAnyRefusalIsSuccess)) return result;
  if (type == RecordType::kSession && protocol_.bugs.has(PlantedBug::kClonesNotCompared)) return result;
  TRY_ASSIGN(result.theirs, protocol_.codec.decode(name, others));
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
  TRY_ASSIGN(Put outcome, put_until_answered(name, bytes, others));
  if (outcome == Put::kStored || protocol_.bugs.has(PlantedBug::kClonesNotCompared)) return {};
  return fail(ErrorKind::kRefused, fmt::format("{} stands there with other bytes", name),
              "another process works under the same session id: a machine was cloned while it ran",
              "run the backup again; it draws a new session");
}

Result<Bytes> RecordLog::read_bytes(std::string_view name) const {
  for (int attempt = 0;; ++attempt) {
    Result<Bytes> bytes = protocol_.store.get(name);
    if (bytes || bytes.error().kind != ErrorKind::kUnknown || attempt + 1 == kReadAttemptsMax) return bytes;
    pause(attempt);
  }
}

Result<OpenedRecord> RecordLog::read(std::string_view name) const {
  TRY_ASSIGN(Bytes object, read_bytes(name));
  Result<OpenedRecord> opened = protocol_.codec.decode(name, object);
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

Result<std::vector<ObjectInfo>> RecordLog::list(std::string_view prefix) const {
  std::vector<ObjectInfo> all;
  std::string after;
  for (;;) {
    Result<ListPage> page = protocol_.store.list(prefix, after, kListPageMax);
    for (int attempt = 0; !page && page.error().kind == ErrorKind::kUnknown && attempt + 1 < kReadAttemptsMax;
         ++attempt) {
      pause(attempt);
      page = protocol_.store.list(prefix, after, kListPageMax);
    }
    if (!page) return std::move(page).error();
    for (ObjectInfo& object : page->objects) {
      if (!object.name.starts_with(prefix) || object.name <= after) {
        return fail(ErrorKind::kDamaged,
                    fmt::format("the listing of {} is out of order at {}", prefix, object.name),
                    fmt::format("{} broke the contract of a store", protocol_.store.location()));
      }
      after = object.name;
      all.push_back(std::move(object));
    }
    if (!page->more || protocol_.bugs.has(PlantedBug::kListTruncated)) return all;
    if (page->objects.empty()) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("the listing of {} announced more names and gave none", prefix),
                  fmt::format("{} broke the contract of a store", protocol_.store.location()));
    }
  }
}

Result<void> RecordLog::remove(std::string_view name) const {
  for (int attempt = 0;; ++attempt) {
    Result<void> removed = protocol_.store.remove(name);
    if (removed || removed.error().kind != ErrorKind::kUnknown || attempt + 1 == kReadAttemptsMax)
      return removed;
    pause(attempt);
  }
}

}  // namespace kuramori
