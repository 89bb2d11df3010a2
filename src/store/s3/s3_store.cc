#include "store/s3/s3_store.h"

#include <fmt/core.h>

#include <charconv>
#include <cstring>
#include <mutex>

#include "base/time_text.h"
#include "store/s3/s3_objects.h"
#include "store/trials.h"

namespace kuramori {
namespace {

constexpr size_t kVersionsOfOneNameMax = 10'000;  // more is no accident
constexpr const char* kListEncoding = "url";

// Both copies of the directory of a full pack, and some.
constexpr size_t kTailBytes = size_t{64} << 10;

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t size = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return size;
}

Error no_such_object(std::string_view name, const std::string& place) {
  return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\" in {}", name, place));
}

class S3Store final : public Store, Retention, Versions, Tiers, public Trials {
 public:
  S3Store(std::unique_ptr<S3Client> client, const S3StoreOptions& options, Random& random)
      : client_(std::move(client)), objects_(*client_, random, options.part_bytes, options.parts_in_flight) {}

  std::string location() const override { return client_->place(); }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    return objects_.put_if_absent(name, bytes);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    return objects_.create(name);
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override;
  Result<Bytes> get(std::string_view name) override { return get_one(name, {}); }
  Result<ObjectInfo> head(std::string_view name) override;
  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override;
  Result<void> remove(std::string_view name) override;
  Retention* retention() override { return this; }
  Versions* versions() override { return this; }
  Tiers* tiers() override { return this; }
  Result<size_t> remove_unfinished(Duration older_than) override;

  // Retention
  Result<std::optional<Time>> retained_until(std::string_view name) override;
  Result<void> retain_until(std::string_view name, Time until) override;
  Result<bool> legal_hold(std::string_view name) override;
  Result<void> set_legal_hold(std::string_view name, bool on) override;
  // Versions
  Result<std::vector<ObjectVersion>> versions(std::string_view name) override;
  Result<std::vector<std::string>> names_ever(std::string_view prefix) override;
  template <class Visit>
  Result<void> for_each_version(const std::string& key, Visit&& visit);
  Result<Bytes> get_version(std::string_view name, std::string_view id) override { return get_one(name, id); }
  Result<std::unique_ptr<ObjectReader>> open_version(std::string_view name, std::string_view id) override;
  Result<void> remove_version(std::string_view name, std::string_view id) override;
  // Tiers
  Result<Tier> tier(std::string_view name) override;
  Result<void> thaw(std::string_view name, int days, Speed speed) override;
  void put_readable() override { objects_.put_readable(); }
  Result<void> settle(std::string_view name) override;
  // Trials
  Result<bool> refuses_wrong_body(std::string_view name) override;

  // Reads [offset, offset + out.size()) of an object of `size` bytes.
  Result<void> read(const std::string& name, const std::string& version, uint64_t size, uint64_t offset,
                    MutableByteView out);

 private:
  static QueryParameters with_version(std::string_view id) {
    return id.empty() ? QueryParameters{} : QueryParameters{{"versionId", std::string(id)}};
  }
  // The error of a read. Only the store's own word that the key does not exist is absence (V1, P68): a 404
  // may also come from a proxy, or be about the bucket.
  Error read_error(const S3Answer& answer, std::string_view name) {
    if (answer.is("NoSuchKey") || answer.is("NoSuchVersion")) return no_such_object(name, client_->place());
    return client_->error_of(answer, fmt::format("read \"{}\"", name));
  }
  Result<S3Answer> head_answer(std::string_view name, std::string_view version);
  Result<ObjectInfo> head_of(std::string_view name, std::string_view version);
  Result<Bytes> get_one(std::string_view name, std::string_view version);
  Result<std::unique_ptr<ObjectReader>> open_one(std::string_view name, std::string_view version);
  // Whether the bucket keeps versions; where it does not tell, it is taken to.
  Result<bool> keeps_versions();
  Error not_lockable(const S3Answer& answer, std::string_view name);

  std::unique_ptr<S3Client> client_;
  S3Objects objects_;
  std::mutex mutex_;
  std::optional<bool> keeps_versions_;  // guarded by mutex_
};

class S3Reader final : public ObjectReader {
 public:
  S3Reader(S3Store& store, std::string name, std::string version, uint64_t size, Bytes tail)
      : store_(store),
        name_(std::move(name)),
        version_(std::move(version)),
        size_(size),
        tail_(std::move(tail)) {}
  uint64_t size() const override { return size_; }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    const uint64_t tail_at = size_ - tail_.size();
    if (offset < tail_at || out.size() > size_ - std::min(size_, offset))
      return store_.read(name_, version_, size_, offset, out);
    if (!out.empty()) std::memcpy(out.data(), tail_.data() + (offset - tail_at), out.size());
    return {};
  }

 private:
  S3Store& store_;
  std::string name_, version_;
  uint64_t size_;
  Bytes tail_;  // the object's last bytes
};

// --- reading -----------------------------------------------------------------------------------------

Result<S3Answer> S3Store::head_answer(std::string_view name, std::string_view version) {
  TRY(check_object_name(name));
  std::string key = objects_.key_of(name);
  TRY_ASSIGN(S3Answer answer,
             client_->send({.method = "HEAD", .key = key, .query = with_version(version), .hedge = true}));
  if (answer.ok()) {
    objects_.note_versions(answer);
    return answer;
  }
  if (answer.status != 404 && answer.status != 403) return read_error(answer, name);
  // The answer to a HEAD has no body, so it does not say what is missing or denied: a GET does.
  TRY_ASSIGN(
      S3Answer told,
      client_->send({.key = key, .query = with_version(version), .headers = {{"Range", "bytes=0-0"}}}));
  if (!told.ok() && told.status != 416) return read_error(told, name);
  return fail(ErrorKind::kFailed, fmt::format("the store contradicts itself about \"{}\"", name),
              fmt::format("HEAD was answered {}, GET {}", answer.status, told.status), "repeat the command");
}

Result<ObjectInfo> S3Store::head(std::string_view name) {
  return head_of(name, {});
}

Result<ObjectInfo> S3Store::head_of(std::string_view name, std::string_view version) {
  TRY_ASSIGN(S3Answer answer, head_answer(name, version));
  ObjectInfo info{.name = std::string(name),
                  .stored_at = parse_http_date(answer.http.header("last-modified")),
                  .storage_class = std::string(answer.http.header("x-amz-storage-class"))};
  std::optional<uint64_t> size = parse_size(answer.http.header("content-length"));
  if (!size) return fail(ErrorKind::kFailed, fmt::format("the store does not say how large \"{}\" is", name));
  info.size = *size;
  return info;
}

Result<Bytes> S3Store::get_one(std::string_view name, std::string_view version) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer,
             client_->send({.key = objects_.key_of(name), .query = with_version(version), .hedge = true}));
  if (!answer.ok()) return read_error(answer, name);
  objects_.note_versions(answer);
  std::string_view size = answer.http.header("content-length");
  if (!size.empty() && size != std::to_string(answer.http.body.size()))
    return fail(ErrorKind::kDamaged, fmt::format("\"{}\" came in part", name),
                fmt::format("{} bytes of {}", answer.http.body.size(), size));
  return std::move(answer.http.body);
}

// What an object says of itself stands at its end (a pack's directory), and a small one is nothing else: the
// request that tells its size brings that along.
Result<std::unique_ptr<ObjectReader>> S3Store::open_one(std::string_view name, std::string_view version) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer, client_->send({.key = objects_.key_of(name),
                                             .query = with_version(version),
                                             .headers = {{"Range", fmt::format("bytes=-{}", kTailBytes)}},
                                             .hedge = true}));
  uint64_t size = 0;
  Bytes tail;
  if (answer.status == 416) {  // there are no last bytes: it is empty
    TRY_ASSIGN(ObjectInfo info, head_of(name, version));
    size = info.size;
  } else if (!answer.ok()) {
    return read_error(answer, name);
  } else {
    objects_.note_versions(answer);
    tail = std::move(answer.http.body);
    std::string_view range = answer.http.header("content-range");
    if (answer.status == 200 && range.empty()) {
      size = tail.size();  // the range was everything, or the store knows no ranges from the end
    } else {
      size_t slash = range.rfind('/');
      std::optional<uint64_t> told = slash == range.npos ? std::nullopt : parse_size(range.substr(slash + 1));
      if (!told || *told < tail.size() || tail.size() != std::min<uint64_t>(*told, kTailBytes) ||
          range != fmt::format("bytes {}-{}/{}", *told - tail.size(), *told - 1, *told))
        return fail(ErrorKind::kDamaged,
                    fmt::format("the store gave other bytes of \"{}\" than were asked for", name),
                    fmt::format("asked for the last {}, got {} bytes of {}", kTailBytes, tail.size(), range));
      size = *told;
    }
  }
  return std::unique_ptr<ObjectReader>(
      new S3Reader(*this, std::string(name), std::string(version), size, std::move(tail)));
}

Result<std::unique_ptr<ObjectReader>> S3Store::open(std::string_view name) {
  return open_one(name, {});
}
Result<std::unique_ptr<ObjectReader>> S3Store::open_version(std::string_view name, std::string_view id) {
  return open_one(name, id);
}

Result<void> S3Store::read(const std::string& name, const std::string& version, uint64_t size,
                           uint64_t offset, MutableByteView out) {
  if (out.size() > size - std::min(size, offset))
    return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is too short: need {} bytes at {}, have {}", name,
                                                 out.size(), offset, size));
  if (out.empty()) return {};
  TRY_ASSIGN(
      S3Answer answer,
      client_->send({.key = objects_.key_of(name),
                     .query = with_version(version),
                     .headers = {{"Range", fmt::format("bytes={}-{}", offset, offset + out.size() - 1)}},
                     .into = out,
                     .hedge = true}));
  if (answer.status == 416)
    return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is shorter than it was", name));
  if (!answer.ok()) return read_error(answer, name);
  std::string range = fmt::format("bytes {}-{}/{}", offset, offset + out.size() - 1, size);
  bool whole = answer.status == 200 && offset == 0 && out.size() == size;  // the range was everything
  if (answer.http.into_bytes != out.size() || (!whole && answer.http.header("content-range") != range))
    return fail(ErrorKind::kDamaged,
                fmt::format("the store gave other bytes of \"{}\" than were asked for", name),
                fmt::format("asked for {}, got {} bytes of {}", range, answer.http.into_bytes,
                            answer.http.header("content-range")));
  return {};
}

// --- listing -----------------------------------------------------------------------------------------

Result<ListPage> S3Store::list(std::string_view prefix, std::string_view after, size_t limit) {
  TRY(check_list_request(prefix, limit));
  const std::string root = client_->location().prefix.empty() ? "" : client_->location().prefix + "/";
  std::string start = root + std::string(after);
  ListPage page;
  for (;;) {
    S3Request request{.query = {{"list-type", "2"},
                                {"encoding-type", kListEncoding},
                                {"max-keys", std::to_string(limit - page.objects.size())},
                                {"prefix", root + std::string(prefix)}}};
    if (start.size() > root.size()) request.query.emplace_back("start-after", start);
    TRY_ASSIGN(S3Answer answer, client_->send(request));
    if (!answer.ok()) return client_->error_of(answer, "list objects");
    TRY_ASSIGN(S3ListAnswer listed, parse_list(answer.http.body));
    for (ObjectInfo& object : listed.objects) {
      // The order is what makes "absent between two names" true: a store that breaks it is refused.
      if (!object.name.starts_with(root) || object.name <= start)
        return fail(ErrorKind::kFailed, fmt::format("the list of {} is out of order", client_->place()),
                    fmt::format("\"{}\" came after \"{}\"", object.name, start),
                    "this store cannot hold a vault");
      start = object.name;
      object.name.erase(0, root.size());
      if (object.name.starts_with(prefix) && !object.name.empty() && page.objects.size() < limit)
        page.objects.push_back(std::move(object));
    }
    if (!listed.truncated) return page;
    if (page.objects.size() == limit) {
      page.more = true;
      return page;
    }
    if (listed.objects.empty())
      return fail(ErrorKind::kFailed,
                  fmt::format("the store announced more names in {} and listed none", client_->place()));
  }
}

// --- removing ----------------------------------------------------------------------------------------

Result<bool> S3Store::keeps_versions() {
  {
    std::lock_guard hold(mutex_);
    if (keeps_versions_) return *keeps_versions_;
  }
  TRY_ASSIGN(S3Answer answer, client_->send({.query = {{"versioning", ""}}}));
  bool keeps = true;
  if (answer.ok()) {
    TRY_ASSIGN(std::string status, parse_versioning(answer.http.body));
    keeps = !status.empty();
  } else if (answer.status == 501 || answer.is("NotImplemented") || answer.status == 405) {
    keeps = false;
  } else if (answer.status != 403) {
    return client_->error_of(answer, "ask whether versions are kept");
  }
  std::lock_guard hold(mutex_);
  keeps_versions_ = keeps;
  return keeps;
}

Result<void> S3Store::remove(std::string_view name) {
  TRY(check_object_name(name));
  TRY_ASSIGN(bool versioned, keeps_versions());
  if (!versioned) return remove_version(name, {});
  // A plain DELETE would only hide it behind a marker: the space would stay taken, and a shadowed version
  // under it come back. What is retained is denied, and then nothing of it is hidden either.
  Result<std::vector<ObjectVersion>> all = versions(name);
  if (!all && all.error().kind == ErrorKind::kDenied) return remove_version(name, {});
  if (!all) return std::move(all).error();
  for (const ObjectVersion& version : *all) {
    if (!version.delete_marker) TRY(remove_version(name, version.id));
  }
  for (const ObjectVersion& version : *all) {
    if (version.delete_marker) TRY(remove_version(name, version.id));
  }
  return {};
}

Result<void> S3Store::remove_version(std::string_view name, std::string_view id) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer,
             client_->send({.method = "DELETE", .key = objects_.key_of(name), .query = with_version(id)}));
  if (answer.ok() || answer.is("NoSuchKey") || answer.is("NoSuchVersion")) return {};
  Error error = client_->error_of(answer, fmt::format("remove \"{}\"", name));
  if (error.kind == ErrorKind::kDenied) {
    Result<std::optional<Time>> until = retained_until(name);
    if (until && *until) {
      error.why = fmt::format("it is retained until {}", format_moment(**until));
      error.next = "nothing: it can be removed from then on";
    }
  }
  return error;
}

Result<size_t> S3Store::remove_unfinished(Duration older_than) {
  const std::string root = client_->location().prefix.empty() ? "" : client_->location().prefix + "/";
  size_t removed = 0;
  std::string key, id;
  for (;;) {
    S3Request request{.query = {{"uploads", ""}, {"encoding-type", kListEncoding}, {"prefix", root}}};
    if (!key.empty()) {
      request.query.emplace_back("key-marker", key);
      request.query.emplace_back("upload-id-marker", id);
    }
    TRY_ASSIGN(S3Answer answer, client_->send(request));
    if (!answer.ok()) return client_->error_of(answer, "list unfinished uploads");
    TRY_ASSIGN(S3UploadsAnswer page, parse_uploads(answer.http.body));
    for (const S3Upload& upload : page.uploads) {
      bool ours = upload.key.starts_with(root) && check_object_name(upload.key.substr(root.size()));
      if (!ours || !upload.begun || client_->server_now() - *upload.begun < older_than) continue;
      TRY_ASSIGN(S3Answer gone,
                 client_->send({.method = "DELETE", .key = upload.key, .query = {{"uploadId", upload.id}}}));
      if (gone.ok()) ++removed;
      if (!gone.ok() && gone.status != 404)
        return client_->error_of(gone, fmt::format("abort the upload of \"{}\"", upload.key));
    }
    if (!page.truncated) return removed;
    if (page.next_key <= key && page.next_id == id)
      return fail(ErrorKind::kFailed,
                  fmt::format("the list of unfinished uploads in {} does not advance", client_->place()));
    key = page.next_key;
    id = page.next_id;
  }
}

// --- retention ---------------------------------------------------------------------------------------

// Neither retention nor hold on this object, in Amazon's words and in Ceph's.
bool has_none(const S3Answer& answer) {
  return answer.is("NoSuchObjectLockConfiguration") || answer.is("ObjectLockConfigurationNotFoundError");
}

Error S3Store::not_lockable(const S3Answer& answer, std::string_view name) {
  if (answer.is("NoSuchKey")) return no_such_object(name, client_->place());
  if (answer.is("InvalidRequest") || has_none(answer))
    return fail(ErrorKind::kRefused, fmt::format("objects in {} cannot be locked", client_->place()),
                fmt::format("the store answered {}: {}", answer.error->code, answer.error->message),
                "object lock must be on when the bucket is made: make another bucket");
  return client_->error_of(answer, fmt::format("lock \"{}\"", name));
}

// A store that knows no Object Lock may pass over `?retention` and answer with the object itself. A PUT would
// then put the words of a lock over the object: nothing is ever locked there that was not asked about first.
Error knows_no_locks(const std::string& place) {
  return fail(ErrorKind::kRefused, fmt::format("objects in {} cannot be locked", place),
              "asked for an object's lock, the store answers with something else",
              "the store knows no Object Lock: leave lock: out");
}

Result<std::optional<Time>> S3Store::retained_until(std::string_view name) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer, client_->send({.key = objects_.key_of(name), .query = {{"retention", ""}}}));
  if (has_none(answer)) return std::optional<Time>();
  if (!answer.ok()) return not_lockable(answer, name);
  auto retention = parse_retention(answer.http.body);
  if (!retention) return knows_no_locks(client_->place());
  return std::optional<Time>(retention->until);
}

Result<void> S3Store::retain_until(std::string_view name, Time until) {
  until =
      std::chrono::ceil<std::chrono::seconds>(until);  // the store keeps whole seconds; never less than asked
  TRY_ASSIGN(std::optional<Time> now, retained_until(name));
  if (now && *now >= until) return {};
  TRY_ASSIGN(S3Answer answer, objects_.put_retention(name, until));
  if (!answer.ok()) return not_lockable(answer, name);
  return {};
}

Result<bool> S3Store::legal_hold(std::string_view name) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer, client_->send({.key = objects_.key_of(name), .query = {{"legal-hold", ""}}}));
  if (has_none(answer)) return false;
  if (!answer.ok()) return not_lockable(answer, name);
  auto on = parse_legal_hold(answer.http.body);
  if (!on) return knows_no_locks(client_->place());
  return on;
}

Result<void> S3Store::set_legal_hold(std::string_view name, bool on) {
  TRY_ASSIGN(const bool now, legal_hold(name));
  if (now == on) return {};
  std::string body = fmt::format(
      "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{}</Status></LegalHold>",
      on ? "ON" : "OFF");
  TRY_ASSIGN(S3Answer answer, client_->send({.method = "PUT",
                                             .key = objects_.key_of(name),
                                             .query = {{"legal-hold", ""}},
                                             .headers = {{"Content-Type", "application/xml"}},
                                             .body = as_bytes(body),
                                             .content_md5 = md5_of(as_bytes(body))}));
  if (!answer.ok()) return not_lockable(answer, name);
  return {};
}

// --- trials ------------------------------------------------------------------------------------------

Result<bool> S3Store::refuses_wrong_body(std::string_view name) {
  TRY(check_object_name(name));
  TRY_ASSIGN(S3Answer answer, client_->send({.method = "PUT",
                                             .key = objects_.key_of(name),
                                             .body = as_bytes("what was sent"),
                                             .content_md5 = md5_of(as_bytes("what was meant"))}));
  if (!answer.ok()) {
    if (answer.is("BadDigest") || answer.is("InvalidDigest") || answer.status == 400) return true;
    return client_->error_of(answer, fmt::format("try a wrong checksum at \"{}\"", name));
  }
  return false;
}

// --- versions ----------------------------------------------------------------------------------------

// Calls `visit(version) -> bool` for every version of every key under `key`, in byte order and newest first,
// until it says that it has seen enough.
template <class Visit>
Result<void> S3Store::for_each_version(const std::string& key, Visit&& visit) {
  std::string next_key, next_id;
  for (;;) {
    S3Request request{.query = {{"versions", ""}, {"encoding-type", kListEncoding}, {"prefix", key}}};
    if (!next_key.empty()) {
      request.query.emplace_back("key-marker", next_key);
      request.query.emplace_back("version-id-marker", next_id);
    }
    TRY_ASSIGN(S3Answer answer, client_->send(request));
    if (!answer.ok()) return client_->error_of(answer, fmt::format("list versions of \"{}\"", key));
    TRY_ASSIGN(S3VersionsAnswer page, parse_versions(answer.http.body));
    for (ObjectVersion& version : page.versions) {
      if (!visit(version)) return {};
    }
    if (!page.truncated) return {};
    if (page.next_key == next_key && page.next_id == next_id)
      return fail(ErrorKind::kFailed, fmt::format("the list of versions of \"{}\" does not advance", key));
    next_key = page.next_key;
    next_id = page.next_id;
  }
}

Result<std::vector<ObjectVersion>> S3Store::versions(std::string_view name) {
  TRY(check_object_name(name));
  const std::string key = objects_.key_of(name);
  std::vector<ObjectVersion> found;
  TRY(for_each_version(key, [&](ObjectVersion& version) {
    if (version.name > key) return false;  // other names begin with this one, and come after it
    if (version.name != key) return true;
    version.name = name;
    found.push_back(std::move(version));
    return found.size() <= kVersionsOfOneNameMax;
  }));
  if (found.size() > kVersionsOfOneNameMax)
    return fail(ErrorKind::kFailed,
                fmt::format("\"{}\" has more than {} versions", name, kVersionsOfOneNameMax));
  return found;
}

Result<std::vector<std::string>> S3Store::names_ever(std::string_view prefix) {
  const std::string root = objects_.key_of("");
  std::vector<std::string> names;
  TRY(for_each_version(root + std::string(prefix), [&](ObjectVersion& version) {
    version.name.erase(0, std::min(root.size(), version.name.size()));
    if (names.empty() || names.back() != version.name) names.push_back(std::move(version.name));
    return true;
  }));
  return names;
}

// --- tiers -------------------------------------------------------------------------------------------

Result<Tiers::Tier> S3Store::tier(std::string_view name) {
  TRY_ASSIGN(S3Answer answer, head_answer(name, {}));
  Tier tier{.storage_class = std::string(answer.http.header("x-amz-storage-class"))};
  if (tier.storage_class.empty()) tier.storage_class = "STANDARD";
  std::string_view restore = answer.http.header("x-amz-restore");
  if (restore.find("ongoing-request=\"true\"") != restore.npos) {
    tier.state = State::kThawing;
    return tier;
  }
  if (size_t at = restore.find("expiry-date=\""); at != restore.npos) {
    std::string_view date = restore.substr(at + 13);
    tier.readable_until = parse_http_date(date.substr(0, date.find('"')));
    return tier;
  }
  if (tier.storage_class == "STANDARD") return tier;
  // Not by the class's name: some stores read their GLACIER back at once, and others have cold classes of
  // their own.
  TRY_ASSIGN(S3Answer read,
             client_->send({.key = objects_.key_of(name), .headers = {{"Range", "bytes=0-0"}}}));
  if (read.is("InvalidObjectState")) {
    tier.state = State::kCold;
  } else if (!read.ok() && read.status != 416) {
    return read_error(read, name);
  }
  return tier;
}

Result<void> S3Store::thaw(std::string_view name, int days, Speed speed) {
  TRY(check_object_name(name));
  const char* word = speed == Speed::kBulk ? "Bulk" : speed == Speed::kStandard ? "Standard" : "Expedited";
  std::string body = fmt::format(
      "<RestoreRequest "
      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{}</Days><GlacierJobParameters>"
      "<Tier>{}</Tier></GlacierJobParameters></RestoreRequest>",
      days, word);
  TRY_ASSIGN(S3Answer answer, client_->send({.method = "POST",
                                             .key = objects_.key_of(name),
                                             .query = {{"restore", ""}},
                                             .headers = {{"Content-Type", "application/xml"}},
                                             .body = as_bytes(body),
                                             .content_md5 = md5_of(as_bytes(body))}));
  if (answer.ok() || answer.is("RestoreAlreadyInProgress")) return {};
  // Nothing to thaw: the class is not a cold one, or the store has none and reads all at once.
  if (answer.is("InvalidObjectState") || answer.status == 501 || answer.is("NotImplemented") ||
      answer.is("MethodNotAllowed")) {
    TRY_ASSIGN(Tier now, tier(name));
    if (now.state == State::kReadable) return {};
  }
  if (answer.is("NoSuchKey")) return no_such_object(name, client_->place());
  return client_->error_of(answer, fmt::format("thaw \"{}\"", name));
}

Result<void> S3Store::settle(std::string_view name) {
  TRY(check_object_name(name));
  if (!objects_.goes_cold(name)) return {};
  TRY_ASSIGN(const ObjectInfo info, head(name));
  if (info.storage_class == client_->location().storage_class) return {};
  return objects_.settle(name);
}

}  // namespace

Result<std::unique_ptr<Store>> open_s3_store(const S3Location& location, S3StoreOptions options) {
  Random& random = options.random != nullptr ? *options.random : system_random();
  TRY_ASSIGN(std::unique_ptr<S3Client> client,
             open_s3_client(location, {.limits = options.limits,
                                       .credentials = std::move(options.credentials),
                                       .clock = options.clock,
                                       .random = &random}));
  return std::unique_ptr<Store>(new S3Store(std::move(client), options, random));
}

}  // namespace kuramori
