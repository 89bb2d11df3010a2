#include "cli/recovery_target.h"

#include <fmt/core.h>

#include <charconv>

#include "base/time_text.h"

namespace kuramori {
namespace {

template <class Number>
Result<Number> parse_number(const std::string& text, std::string_view option) {
  Number number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size() && number > 0) return number;
  return fail(ErrorKind::kUsage, fmt::format("--{} cannot be \"{}\"", option, text.substr(0, 40)),
              "it is a whole number", fmt::format("write --{} 1", option));
}

std::string zone_of(Context& context, const std::string& resource) {
  auto config = context.config_if_any();
  if (!config || !*config) return {};
  for (const PlanConfig* plan : (*config)->plans_of(resource))
    if (!plan->timezone.empty()) return plan->timezone;
  return {};
}

}  // namespace

Result<TypedTarget> read_target(Context& context, const std::string& resource) {
  const Invocation& line = context.line();
  int given = 0;
  for (std::string_view name : {"at", "lsn", "xid", "name", "latest"}) given += line.has(name);
  if (given > 1)
    return fail(ErrorKind::kUsage, "more than one target is given", "",
                "keep one of --at, --lsn, --xid, --name and --latest");

  TypedTarget out;
  postgres::TargetRequest& request = out.request;
  if (line.has("at")) {
    TRY_ASSIGN(Moment moment, parse_moment(line.value("at"), zone_of(context, resource)));
    if (moment.zone_was_assumed)
      context.console().note(fmt::format("--at names no zone: taken as {}, the plan's: {}", moment.zone,
                                         format_moment(moment.time, moment.zone)));
    request.kind = postgres::TargetKind::kTime;
    request.time_ns = to_unix_ns(moment.time);
    out.text = format_utc(moment.time);
  } else if (line.has("lsn")) {
    request.kind = postgres::TargetKind::kLsn;
    TRY_ASSIGN(request.lsn, postgres::parse_lsn(line.value("lsn")));
    out.text = line.value("lsn");
  } else if (line.has("xid")) {
    request.kind = postgres::TargetKind::kXid;
    TRY_ASSIGN(request.xid, parse_number<uint32_t>(line.value("xid"), "xid"));
    out.text = "xid " + line.value("xid");
  } else if (line.has("name")) {
    request.kind = postgres::TargetKind::kName;
    request.name = line.value("name");
    out.text = request.name;
  } else if (line.has("latest")) {
    request.kind = postgres::TargetKind::kLatest;
    out.text = "latest";
  }
  request.exclusive = line.has("exclusive");
  if (line.has("timeline")) {
    TRY_ASSIGN(request.timeline, parse_number<uint32_t>(line.value("timeline"), "timeline"));
  }
  return out;
}

}  // namespace kuramori
