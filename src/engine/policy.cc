#include "engine/policy.h"

#include <fmt/core.h>

#include <vector>

#include "store/s3/s3_location.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr std::string_view kAnyTwo =
    "?"
    "?";  // in two parts: a slash behind them would make a trigraph
constexpr std::string_view kAnyEpoch =
    "?????????"
    "?/";  // ten digits; in two parts, for the compiler sees trigraphs
// audit/<n>, and no key's own chain below audit/.
constexpr std::string_view kOwnersAudit =
    "audit/?????"
    "?????";
constexpr size_t kSignerPrefixDigits = 8;  // of a session id: whose it is

using Texts = std::vector<std::string>;

struct Statement {
  std::string sid;
  bool allow = true;
  Texts actions, resources;
  std::string condition;  // a JSON object, or nothing
};

std::string array_of(const Texts& texts) {
  std::string out;
  for (const std::string& text : texts) out += fmt::format("{}\"{}\"", out.empty() ? "" : ", ", text);
  return "[" + out + "]";
}

std::string lines_of(const Texts& texts) {
  std::string out;
  for (const std::string& text : texts)
    out += fmt::format("{}\n        \"{}\"", out.empty() ? "" : ",", text);
  return "[" + out + "\n      ]";
}

class Names {
 public:
  explicit Names(const PolicyRequest& request) : request_(request) {}

  static std::string bucket_arn(const StorePlace& place) { return "arn:aws:s3:::" + place.bucket; }
  std::string arn(const StorePlace& place, std::string_view name) const {
    std::string prefix = place.prefix.empty() ? "" : place.prefix + "/";
    return fmt::format("{}/{}{}", bucket_arn(place), prefix, name);
  }
  Texts buckets() const {
    Texts all{bucket_arn(request_.objects)};
    if (request_.ledger && request_.ledger->bucket != request_.objects.bucket)
      all.push_back(bucket_arn(*request_.ledger));
    return all;
  }
  // Names of the vault, as patterns, in every place where they may stand: what is put exactly once stands in
  // the ledger and, mirrored, in the objects.
  Texts of(const Texts& patterns) const {
    Texts all;
    for (const std::string& pattern : patterns) {
      if (request_.ledger && names::is_of_ledger(pattern)) {
        all.push_back(arn(*request_.ledger, std::string(kAnyEpoch) + pattern));
        all.push_back(arn(request_.objects, std::string(kAnyEpoch) + pattern));
      } else {
        all.push_back(arn(request_.objects, pattern));
      }
    }
    // How ledger and objects know each other.
    return all;
  }
  Texts everything() const {
    Texts all{arn(request_.objects, "*")};
    if (request_.ledger) all.push_back(arn(*request_.ledger, "*"));
    return all;
  }
  Texts epochs() const {
    Texts all;
    if (!request_.ledger) return all;
    for (const StorePlace* place : {&request_.objects, &*request_.ledger})
      all.push_back(arn(*place, std::string(names::kEpochs) + "*"));
    return all;
  }

 private:
  const PolicyRequest& request_;
};

Texts joined(Texts a, const Texts& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What every role may ask of the buckets themselves.
std::vector<Statement> listing(const PolicyRequest& request, const Names& names) {
  Statement list{.sid = "List",
                 .actions = {"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"},
                 .resources = names.buckets()};
  Statement look{
      .sid = "Look",
      .actions = {"s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"},
      .resources = names.buckets()};
  const std::string& prefix = request.objects.prefix;
  bool alone = !request.ledger || request.ledger->bucket == request.objects.bucket;
  if (request.form == PolicyForm::kAws && !prefix.empty() && alone && !request.ledger) {
    list.condition = fmt::format(R"({{"StringLike": {{"s3:prefix": ["{}", "{}/*"]}}}})", prefix, prefix);
  }
  return {list, look};
}

// What no role but the owner's ever does; said as a refusal, for an object's owner (at Ceph: who uploaded it)
// may do to it what nobody denied.
Statement never(const PolicyRequest& request, const Names& names) {
  Statement deny{
      .sid = "Never",
      .allow = false,
      .actions = {"s3:PutObjectVersionAcl", "s3:PutObjectLegalHold", "s3:BypassGovernanceRetention",
                  "s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketAcl", "s3:PutBucketVersioning",
                  "s3:PutBucketObjectLockConfiguration", "s3:PutLifecycleConfiguration", "s3:DeleteBucket"},
      .resources = joined(names.buckets(), names.everything())};
  if (request.role != Role::kKeeper) {
    deny.actions.push_back("s3:DeleteObject");
    deny.actions.push_back("s3:DeleteObjectVersion");
  }
  bool may_retain = request.role == Role::kKeeper ||
                    (request.role == Role::kWriter && request.lock_days && request.form == PolicyForm::kAws);
  if (!may_retain) deny.actions.push_back("s3:PutObjectRetention");
  if (request.form == PolicyForm::kCeph) deny.actions.push_back("s3:PutObjectAcl");
  return deny;
}

// At Amazon a put that names an access list needs this; only the list that gives the bucket's owner
// everything.
std::vector<Statement> access_list(const PolicyRequest& request, const Names& names) {
  if (request.form != PolicyForm::kAws) return {};
  return {{.sid = "GiveToOwner",
           .actions = {"s3:PutObjectAcl"},
           .resources = names.everything(),
           .condition = R"({"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}})"}};
}

void add(std::vector<Statement>& to, std::vector<Statement> more) {
  to.insert(to.end(), more.begin(), more.end());
}

// What was put exactly once is never put over: Amazon can be told so.
std::vector<Statement> once(const PolicyRequest& request, const Names& names) {
  if (request.form != PolicyForm::kAws) return {};
  return {{.sid = "PutOnce",
           .allow = false,
           .actions = {"s3:PutObject"},
           .resources = request.ledger ? Texts{names.arn(*request.ledger, "*")} : names.everything(),
           .condition =
               R"({"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}})"}};
}

// A key adds to the chain of its own acts.
std::string own_audit(const PolicyRequest& request) {
  return fmt::format("audit/{}*", request.signer.hex().substr(0, kSignerPrefixDigits));
}

std::vector<Statement> of_writer(const PolicyRequest& request, const Names& names) {
  const std::string own = request.signer.hex().substr(0, kSignerPrefixDigits);
  Texts put = names.of({fmt::format("sessions/{}*", own), fmt::format("commits/*.{}*", own),
                        fmt::format("packs/{}/{}*", kAnyTwo, own), fmt::format("maps/{}/{}*", kAnyTwo, own),
                        fmt::format("live/{}/{}*", kAnyTwo, own), fmt::format("index/{}*", own), "wal/*",
                        "resources/*", "holds/*", own_audit(request), fmt::format("leases/{}*", own)});
  std::vector<Statement> all = listing(request, names);
  all.push_back({.sid = "ReadStructure",
                 .actions = {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention"},
                 .resources = names.everything()});
  all.push_back({.sid = "Add",
                 .actions = {"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"},
                 .resources = put});
  if (request.lock_days && request.form == PolicyForm::kAws) {
    // A thief could else lock for a century what somebody has to pay for. A day is for clocks and rounding.
    all.push_back({.sid = "LockNoLonger",
                   .actions = {"s3:PutObjectRetention"},
                   .resources = names.everything(),
                   .condition = fmt::format(
                       R"({{"NumericLessThanEquals": {{"s3:object-lock-remaining-retention-days": "{}"}}}})",
                       *request.lock_days + 1)});
  }
  // Also its own: what it wrote it needs not read, and a thief must not.
  all.push_back({.sid = "Blind",
                 .allow = false,
                 .actions = {"s3:GetObject", "s3:GetObjectVersion"},
                 .resources = names.of({"packs/*", "keys/*"})});
  add(all, access_list(request, names));
  add(all, once(request, names));
  all.push_back(never(request, names));
  return all;
}

std::vector<Statement> of_reader(const PolicyRequest& request, const Names& names) {
  const std::string own = request.signer.hex().substr(0, kSignerPrefixDigits);
  std::vector<Statement> all = listing(request, names);
  all.push_back(
      {.sid = "Read",
       .actions = {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:RestoreObject"},
       .resources = names.everything()});
  all.push_back({.sid = "SayWhatIsReadAndProven",
                 .actions = {"s3:PutObject"},
                 .resources = names.of({fmt::format("sessions/{}*", own), "proofs/*", own_audit(request)})});
  all.push_back({.sid = "NoKeys",
                 .allow = false,
                 .actions = {"s3:GetObject", "s3:GetObjectVersion"},
                 .resources = names.of({"keys/*"})});
  add(all, access_list(request, names));
  add(all, once(request, names));
  all.push_back(never(request, names));
  return all;
}

std::vector<Statement> of_keeper(const PolicyRequest& request, const Names& names) {
  std::vector<Statement> all = listing(request, names);
  all.push_back(
      {.sid = "ReadBlindlyPutRecordsAndCopies",
       .actions = {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:PutObject",
                   "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObjectRetention"},
       .resources = names.everything()});
  all.push_back({.sid = "FreeSpace",
                 .actions = {"s3:DeleteObject", "s3:DeleteObjectVersion"},
                 .resources = names.of({"packs/*", "maps/*", "live/*", "index/*", "wal/*", "sessions/*",
                                        "catalog/*", "leases/*"})});
  all.push_back({.sid = "OwnersAlone",
                 .allow = false,
                 .actions = {"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"},
                 .resources = joined(names.of({"vault*", "keys/*", "disowned/*", std::string(kOwnersAudit)}),
                                     names.epochs())});
  // What says what happened stays, whoever put it.
  all.push_back({.sid = "RecordsStay",
                 .allow = false,
                 .actions = {"s3:DeleteObject", "s3:DeleteObjectVersion"},
                 .resources = names.of({"commits/*", "gc/*", "prune/*", "reloc/*", "retain/*", "holds/*",
                                        "proofs/*", "signers/*", "resources/*", "audit/*"})});
  all.push_back({.sid = "NoKeys",
                 .allow = false,
                 .actions = {"s3:GetObject", "s3:GetObjectVersion"},
                 .resources = names.of({"keys/*"})});
  add(all, access_list(request, names));
  add(all, once(request, names));
  all.push_back(never(request, names));
  return all;
}

}  // namespace

Result<PolicyRequest> policy_for_places(const std::string& objects, const std::string& ledger, Time now) {
  if (!is_s3_location(objects)) {
    return fail(ErrorKind::kUsage, fmt::format("the vault at {} has no store that knows policies", objects),
                "it stands in a folder: whoever may write there may remove what is there",
                "keep the folder on another machine, or a copy in a store: docs/keys.md");
  }
  TRY_ASSIGN(S3Location place, parse_s3_location(objects));
  PolicyRequest request;
  request.objects = {place.bucket, place.prefix};
  if (is_s3_location(ledger)) {
    TRY_ASSIGN(S3Location other, parse_s3_location(ledger));
    request.ledger = StorePlace{other.bucket, other.prefix};
  }
  if (place.lock)
    request.lock_days = static_cast<int>((later(now, *place.lock) - now) / std::chrono::hours(24)) + 1;
  bool amazon = place.endpoint.empty() || place.endpoint.find(".amazonaws.com") != std::string::npos;
  request.form = amazon ? PolicyForm::kAws : PolicyForm::kCeph;
  return request;
}

std::string policy_document(const PolicyRequest& request) {
  Names names(request);
  std::vector<Statement> statements = request.role == Role::kWriter   ? of_writer(request, names)
                                      : request.role == Role::kReader ? of_reader(request, names)
                                                                      : of_keeper(request, names);
  std::string out = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [";
  bool first = true;
  for (const Statement& statement : statements) {
    out += fmt::format(
        "{}\n    {{\n      \"Sid\": \"{}\",\n      \"Effect\": \"{}\",\n      \"Action\": {},\n      "
        "\"Resource\": {}",
        first ? "" : ",", statement.sid, statement.allow ? "Allow" : "Deny", array_of(statement.actions),
        lines_of(statement.resources));
    if (!statement.condition.empty()) out += ",\n      \"Condition\": " + statement.condition;
    out += "\n    }";
    first = false;
  }
  return out + "\n  ]\n}\n";
}

}  // namespace kuramori
