#include <fmt/core.h>

#include <charconv>

#include "base/units.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/thaw.h"

namespace kuramori {
namespace {

constexpr int kThawDaysMax = 3650;

Result<int> parse_days(std::string_view text) {
  if (text.empty()) return kThawDaysDefault;
  int days = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), days);
  if (error == std::errc{} && end == text.data() + text.size() && days >= 1 && days <= kThawDaysMax)
    return days;
  return fail(ErrorKind::kUsage, fmt::format("--days cannot be \"{}\"", text.substr(0, 20)),
              fmt::format("it is a number from 1 to {}", kThawDaysMax), "write --days 7");
}

Result<Tiers::Speed> parse_speed(std::string_view text) {
  if (text.empty() || text == "standard") return Tiers::Speed::kStandard;
  if (text == "bulk") return Tiers::Speed::kBulk;
  if (text == "expedited") return Tiers::Speed::kExpedited;
  return fail(ErrorKind::kUsage, fmt::format("--speed cannot be \"{}\"", text.substr(0, 20)),
              "it is bulk (cheapest), standard or expedited", "write --speed standard");
}

double seconds_of(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

Result<int> run_thaw(Context& context) {
  ThawRequest request;
  TRY_ASSIGN(request.days, parse_days(context.line().value("days")));
  TRY_ASSIGN(request.speed, parse_speed(context.line().value("speed")));
  request.dry_run = context.line().has("dry-run");
  TRY_ASSIGN(VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const Snapshot& snapshot = found.snapshot;
  TRY_ASSIGN(ThawOutcome outcome, thaw_snapshot(*vault, snapshot, request, context.stop()));
  const bool is_readable = outcome.cold + outcome.thawing == 0;
  const std::string id = snapshot.commit.snapshot.hex();
  Console& console = context.console();
  if (console.json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/thaw/1")
        .field("snapshot", id)
        .field("dry_run", request.dry_run);
    json.field("readable", is_readable).field("packs", outcome.packs).field("bytes", outcome.bytes);
    json.field("cold_packs", outcome.cold)
        .field("cold_bytes", outcome.cold_bytes)
        .field("thawing_packs", outcome.thawing)
        .field("requests", outcome.requests);
    json.field("about_seconds_least", seconds_of(outcome.about_least))
        .field("about_seconds_most", seconds_of(outcome.about_most));
    json.key("classes").begin_array();
    for (const std::string& name : outcome.classes) json.value(name);
    json.end_array().end_object();
    console.print_document(json);
  } else if (is_readable) {
    console.print(fmt::format("snapshot {} can be read: all {} packs, {}\n", id, outcome.packs,
                              format_size(outcome.bytes)));
  } else {
    std::string out;
    if (outcome.cold > 0)
      out += fmt::format("{} {} of {} packs of snapshot {}, {}, with {} requests\n",
                         request.dry_run ? "would ask for" : "asked for", outcome.cold, outcome.packs, id,
                         format_size(outcome.cold_bytes), outcome.requests);
    if (outcome.thawing > 0) out += fmt::format("{} packs are on their way already\n", outcome.thawing);
    out += fmt::format(
        "  readable about {} to {} after that, for {} days; repeat the command to see how far it is\n",
        format_duration(outcome.about_least), format_duration(outcome.about_most), request.days);
    console.print(out);
  }
  return is_readable || request.dry_run ? 0 : 3;
}

}  // namespace kuramori
