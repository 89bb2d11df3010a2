#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "cli/approving.h"
#include "cli/lock_keeping.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "engine/maintenance.h"

namespace kuramori {
namespace {

struct Listed {
  std::string vault;
  AwaitedReview review;
};

std::string waits_for(const AwaitedReview& review) {
  if (!review.newer) return "it is the newest of its label";
  const std::string newer = review.newer->commit.snapshot.hex();
  if (review.newer_is_proven) return "nothing: a newer one is proven";
  return fmt::format("{} to be proven, or a review", newer);
}

void print_document(Context& context, const std::vector<Listed>& listed) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/reviews/1").key("reviews").begin_array();
  for (const Listed& one : listed) {
    const CommitRecord& commit = one.review.snapshot.commit;
    json.begin_object().field("id", commit.snapshot.hex()).field("resource", one.review.resource);
    json.field("vault", one.vault).field("time", format_utc(from_unix_ns(commit.started_ns)));
    json.field("label", commit.label).key("newer");
    one.review.newer ? json.value(one.review.newer->commit.snapshot.hex()) : json.null();
    json.field("newer_is_proven", one.review.newer_is_proven).end_object();
  }
  json.end_array().end_object();
  context.console().print_document(json);
}

Result<int> list_reviews(Context& context) {
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  std::vector<Listed> listed;
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(std::vector<AwaitedReview> reviews, awaited_reviews(*vault, ""));
    for (AwaitedReview& review : reviews) listed.push_back({choice.shown(), std::move(review)});
  }
  if (context.console().json()) {
    print_document(context, listed);
    return 0;
  }
  Table table({{"id"}, {"resource"}, {"vault"}, {"label"}, {"time"}, {"waits for"}});
  for (const Listed& one : listed) {
    const CommitRecord& commit = one.review.snapshot.commit;
    table.add({commit.snapshot.hex(), one.review.resource, one.vault, commit.label,
               shown_time(from_unix_ns(commit.started_ns)), waits_for(one.review)});
  }
  if (table.empty())
    context.console().note("no labelled snapshot waits for a review");
  else
    context.console().print(table.text());
  return 0;
}

}  // namespace

Result<int> run_review(Context& context) {
  if (context.line().arguments.empty()) return list_reviews(context);
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const SnapshotId& id = found.snapshot.commit.snapshot;
  const std::string hold = label_hold(found.snapshot.commit.label);
  if (std::ranges::count(found.snapshot.holds, hold, &HoldRecord::name) != 0)
    TRY(must_be_approved(context, choice, *vault, taking_hold_off(found, hold)));
  TRY(review_snapshot(*vault, id));
  TRY(follow_hold(context, *vault, found.snapshot, hold, /*on=*/false));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/done/1").field("action", "review");
    json.field("object", id.hex()).end_object();
    context.console().print_document(json);
    return 0;
  }
  context.console().print(fmt::format("snapshot {} is reviewed: kept until {}, as its plan says\n", id.hex(),
                                      format_moment(from_unix_ns(found.snapshot.keep_until_ns))));
  return 0;
}

}  // namespace kuramori
