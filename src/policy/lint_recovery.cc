// What needs what, and what is due when: nothing can be there before what it needs.
#include <algorithm>
#include <map>

#include "policy/lint_rules.h"

namespace kuramori {
namespace {

// Of a graph by names: the first circle that is found, as "a → b → a"; "" if there is none.
class Circles {
 public:
  explicit Circles(std::map<std::string, std::vector<std::string>> needs) : needs_(std::move(needs)) {}

  std::string find() {
    for (const auto& [name, ignored] : needs_)
      if (std::string circle = visit(name); !circle.empty()) return circle;
    return "";
  }

 private:
  std::string visit(const std::string& name) {
    if (done_.contains(name)) return "";
    if (const auto open = std::ranges::find(path_, name); open != path_.end()) {
      std::string circle;
      for (auto step = open; step != path_.end(); ++step) circle += *step + " → ";
      return circle + name;
    }
    path_.push_back(name);
    for (const std::string& needed : needs_[name])
      if (std::string circle = visit(needed); !circle.empty()) return circle;
    path_.pop_back();
    done_.insert(name);
    return "";
  }

  std::map<std::string, std::vector<std::string>> needs_;
  std::vector<std::string> path_;
  std::set<std::string> done_;
};

const ServiceConfig* find_service(const Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.services, name, &ServiceConfig::name);
  return found == config.services.end() ? nullptr : &*found;
}

// When a service can be there at the earliest, and by which way: the sum of what everything before it takes.
struct Earliest {
  Duration when{0};
  std::string way;  // "db (40 m 00 s) → auth (5 m 00 s)"
};

Duration takes_of(const ServiceConfig& service) {
  return service.takes && service.takes->is_exact() ? Duration(std::chrono::seconds(service.takes->seconds))
                                                    : Duration(0);
}

// The services needs are free of circles.
Earliest earliest_of(const Config& config, const ServiceConfig& service,
                     std::map<std::string, Earliest>& known) {
  if (const auto found = known.find(service.name); found != known.end()) return found->second;
  Earliest latest;
  for (const std::string& name : service.needs) {
    const ServiceConfig* needed = find_service(config, name);
    Earliest one = needed ? earliest_of(config, *needed, known) : Earliest{};
    if (one.when > latest.when) latest = std::move(one);
  }
  if (takes_of(service).count() > 0)
    latest.way += fmt::format("{}{} ({})", latest.way.empty() ? "" : " → ", service.name,
                              format_duration(takes_of(service)));
  latest.when += takes_of(service);
  return known[service.name] = latest;
}

void lint_needs(Lint& lint, const ServiceConfig& service) {
  const std::string who = about("service", service.name);
  for (const std::string& name : service.needs) {
    const ServiceConfig* needed = find_service(lint.config, name);
    if (!needed) continue;
    const int line = service.lines.of("needs");
    if (service.within && needed->within && is_longer(*needed->within, *service.within))
      lint.add(LintLevel::kError, "due-before-need", service.lines.of("within"), who,
               fmt::format("it is due within {}, and needs \"{}\", which is due within {}",
                           format_period(*service.within), name, format_period(*needed->within)),
               "it cannot run before what it needs",
               fmt::format("write within: {} or more here, or bring \"{}\" back sooner",
                           format_period(*needed->within), name));
    if (service.within && !needed->within)
      lint.add(LintLevel::kHint, "due-unsaid", needed->lines.own, about("service", name),
               fmt::format("\"{}\" needs it within {}, and it does not say when it is due", service.name,
                           format_period(*service.within)),
               "", fmt::format("add within: {} or less", format_period(*service.within)));
    if (rank_of_criticality(service.criticality) > rank_of_criticality(needed->criticality) &&
        !needed->criticality.empty())
      lint.add(LintLevel::kRisk, "less-critical-need", line, who,
               fmt::format("it is {}, and needs \"{}\", which is only {}", service.criticality, name,
                           needed->criticality),
               "what is less critical comes back later", fmt::format("make \"{}\" as critical", name));
  }
  for (const std::string& name : service.resources) {
    const auto resource = lint.config.resource(name);
    if (!resource || !service.within || !(*resource)->rto) continue;
    if (is_longer(*(*resource)->rto, *service.within))
      lint.add(LintLevel::kError, "data-later-than-service", (*resource)->lines.of("objectives"), who,
               fmt::format("it is due within {}, and its data, \"{}\", may take {} (rto)",
                           format_period(*service.within), name, format_period(*(*resource)->rto)),
               "it cannot run before its data is there",
               fmt::format("write rto: {} or less at \"{}\"", format_period(*service.within), name));
  }
}

void lint_sum(Lint& lint, const ServiceConfig& service, std::map<std::string, Earliest>& known) {
  if (!service.within) return;
  const Earliest earliest = earliest_of(lint.config, service, known);
  if (!is_longer(earliest.when, *service.within)) return;
  lint.add(LintLevel::kError, "too-late", service.lines.of("within"), about("service", service.name),
           fmt::format("it is due within {}, and takes {} at the least", format_period(*service.within),
                       format_duration(earliest.when)),
           earliest.way, "shorten a step, or do some of them at once");
}

// Whoever watches must see; what is watched comes back unseen until then (S34).
void lint_watching(Lint& lint, const ServiceConfig& service) {
  if (service.watches.empty() || !service.within) return;
  const bool all = std::ranges::find(service.watches, "all") != service.watches.end();
  const ServiceConfig* first = nullptr;
  for (const ServiceConfig& other : lint.config.services) {
    if (&other == &service || !other.within) continue;
    if (!all && std::ranges::find(service.watches, other.name) == service.watches.end()) continue;
    if (!first || is_longer(*first->within, *other.within)) first = &other;
  }
  if (!first || !is_longer(*service.within, *first->within)) return;
  lint.add(
      LintLevel::kRisk, "watched-late", service.lines.of("within"), about("service", service.name),
      fmt::format("it watches over the others, and is due only within {}", format_period(*service.within)),
      fmt::format("\"{}\" is back within {}: nobody sees whether it stays", first->name,
                  format_period(*first->within)),
      fmt::format("bring it back first: within: {}", format_period(*first->within)));
}

void lint_objectives(Lint& lint, const ResourceConfig& resource) {
  const std::string who = about("resource", resource.name);
  for (const std::string& name : resource.depends_on) {
    const auto needed = lint.config.resource(name);
    if (!needed) continue;
    if (resource.rto && (*needed)->rto && is_longer(*(*needed)->rto, *resource.rto))
      lint.add(LintLevel::kError, "due-before-need", resource.lines.of("objectives"), who,
               fmt::format("rto: {} is promised, and it depends on \"{}\" with rto: {}",
                           format_period(*resource.rto), name, format_period(*(*needed)->rto)),
               "it cannot be there before what it depends on",
               fmt::format("write rto: {} or more here, or less there", format_period(*(*needed)->rto)));
    if (rank_of_criticality(resource.criticality) > rank_of_criticality((*needed)->criticality) &&
        !(*needed)->criticality.empty())
      lint.add(LintLevel::kRisk, "less-critical-need", resource.lines.of("depends_on"), who,
               fmt::format("it is {}, and depends on \"{}\", which is only {}", resource.criticality, name,
                           (*needed)->criticality),
               "what is less critical comes back later", fmt::format("make \"{}\" as critical", name));
  }
  if (!resource.mttr || !resource.rto) return;
  if (is_longer(*resource.mttr, *resource.rto))
    lint.add(LintLevel::kError, "mttr", resource.lines.of("objectives"), who,
             fmt::format("mttr: {} is more than rto: {}", format_period(*resource.mttr),
                         format_period(*resource.rto)),
             "repairs that take that long in the mean break the limit every other time",
             "promise a longer rto, or repair faster");
  else if (is_longer(*resource.rto, *resource.mttr))
    lint.add(LintLevel::kHint, "mttr", resource.lines.of("objectives"), who,
             fmt::format("mttr: {} and rto: {} are two definitions", format_period(*resource.mttr),
                         format_period(*resource.rto)),
             "mttr is a mean and rto a limit: drills are held to the rto, reports show the mean beside it",
             "agree on which of the two is promised to others");
}

}  // namespace

void lint_recovery(Lint& lint) {
  std::map<std::string, std::vector<std::string>> services, resources;
  for (const ServiceConfig& service : lint.config.services) services[service.name] = service.needs;
  for (const ResourceConfig& resource : lint.config.resources) resources[resource.name] = resource.depends_on;
  const std::string circle = Circles(services).find();
  if (!circle.empty())
    lint.add(LintLevel::kError, "circle", lint.config.services.front().lines.own, "services",
             fmt::format("they need each other: {}", circle), "none of them can be first",
             "take one of these needs out");
  if (const std::string data = Circles(resources).find(); !data.empty())
    lint.add(LintLevel::kError, "circle", lint.config.resources.front().lines.own, "resources",
             fmt::format("they depend on each other: {}", data), "none of them can be first",
             "take one of these depends_on out");
  std::map<std::string, Earliest> known;
  for (const ServiceConfig& service : lint.config.services) {
    lint_needs(lint, service);
    if (circle.empty()) lint_sum(lint, service, known);
    lint_watching(lint, service);
  }
  for (const ResourceConfig& resource : lint.config.resources) lint_objectives(lint, resource);
}

}  // namespace kuramori
