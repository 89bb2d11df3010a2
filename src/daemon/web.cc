#include "daemon/web.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "base/json_writer.h"
#include "base/time_text.h"
#include "conc/guarded.h"
#include "crypto/digest.h"
#include "daemon/access.h"
#include "daemon/ack_link.h"
#include "daemon/ack_page.h"
#include "daemon/alert_store.h"
#include "daemon/job_journal.h"
#include "daemon/metrics.h"
#include "daemon/questions.h"
#include "daemon/web_pages.h"
#include "net/http_server.h"
#include "os/file.h"

namespace kuramori {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kTryAgain = seconds(5);         // to listen
constexpr Duration kPatience = seconds(8);         // for an answer; then an older one, or none
constexpr Duration kMetricsPatience = seconds(3);  // a scrape gives up after 10 s, usually
constexpr Duration kMetricsFresh = seconds(10);
constexpr Duration kDaemonQuietMax = seconds(30);  // its loop goes round five times a second
constexpr size_t kWishBytesMax = 4096;
constexpr unsigned kAskersMax = 48;  // connections
constexpr std::string_view kPingPath = "/ping/";
constexpr size_t kPingBytesMax = 65536;  // a script may send its output along; nobody reads it
constexpr const char* kJson = "application/json";
constexpr std::string_view kBearer = "Bearer ";
constexpr size_t kPemMax = size_t{1} << 20;

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return 400;
    case ErrorKind::kNotFound:
      return 404;
    case ErrorKind::kRefused:
      return 409;
    case ErrorKind::kFailed:
    case ErrorKind::kUnknown:
    case ErrorKind::kDenied:
    case ErrorKind::kInterrupted:
      return 503;
    default:
      return 500;
  }
}

ServerAnswer refusal(int status, const Error& error) {
  return {.status = status, .body = error_document(error) + "\n", .type = kJson};
}

// Of every answer: nobody may keep it, frame it, or take it for something else.
ServerAnswer dressed(ServerAnswer answer, bool tls) {
  if (answer.status >= 400 && answer.type != kJson && answer.type != kHtml) {  // the server's own
    while (answer.body.ends_with('\n')) answer.body.pop_back();
    const auto kind = answer.status == 404 ? ErrorKind::kNotFound : ErrorKind::kUsage;
    const int status = answer.status;
    auto headers = std::move(answer.headers);
    answer = refusal(status, fail(kind, answer.body, "", "docs/monitoring.md lists what is here"));
    answer.headers = std::move(headers);
  }
  answer.headers.insert(answer.headers.end(),
                        {{"Cache-Control", "no-store"},
                         {"X-Content-Type-Options", "nosniff"},
                         {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
                         {"Referrer-Policy", "no-referrer"}});
  if (tls) answer.headers.push_back({"Strict-Transport-Security", "max-age=31536000"});
  return answer;
}

}  // namespace

// What is listened at and what answers. Its handlers run in the server's threads; everything they share is
// behind a lock, or does not change.
class Web::Site {
 public:
  Site(WebSettings settings, Reporter& reporter)
      : settings_(std::move(settings)),
        reporter_(reporter),
        questions_([this](const std::vector<std::string>& words) { return command_of(words); }),
        started_(system_clock().now()) {
    still_here();
  }

  Result<void> use(const Config& config);
  void set_jobs(const JobLoop* jobs) { jobs_ = jobs; }
  void still_here() { seen_at_ = system_clock().steady().count(); }

 private:
  // Of one configuration.
  struct Rules {
    Config config;
    Access access;
    std::map<std::string, Access> pings;  // by name: who may call for it
  };
  std::shared_ptr<const Rules> rules() { return *rules_.lock(); }

  std::vector<std::string> command_of(const std::vector<std::string>& words) const;
  Result<void> listen(const ListenConfig& listen);
  std::vector<ServerRoute> routes();

  // Whose token it is by `find`: an answer for whoever has none that is right.
  using Find = std::function<std::optional<Asker>(const Rules&, std::string_view token)>;
  std::optional<ServerAnswer> refuse_stranger(const ServerRequest& request, const std::string& guesser,
                                              const Find& find, std::optional<Asker>& asker);
  template <class Handle>
  ServerAnswer with_asker(const ServerRequest& request, AskerRole least, Handle&& handle);
  ServerAnswer answer_page(const WebPage& page, const ServerRequest& request);
  ServerAnswer answer_wish(const ServerRequest& request, const Asker& asker);
  ServerAnswer answer_ping(const ServerRequest& request);
  ServerAnswer answer_metrics();
  ServerAnswer answer_health() const;
  Result<void> grant(const JobWish& wish);

  struct Runs {
    std::unique_ptr<JobJournal> journal;
    RunTally tally;
  };

  const WebSettings settings_;
  Reporter& reporter_;
  Questions questions_;
  const Time started_;
  Guarded<std::shared_ptr<const Rules>> rules_;
  Guesses guesses_;
  Guarded<Runs> runs_;
  std::atomic<const JobLoop*> jobs_ = nullptr;
  std::atomic<int64_t> seen_at_{0};
  std::string shown_at_;                // the address and the digests of the files that are served with
  std::unique_ptr<HttpServer> server_;  // last: its handlers use all of them
};

std::vector<std::string> Web::Site::command_of(const std::vector<std::string>& words) const {
  std::vector<std::string> argv{settings_.program, "--config", settings_.config_path, "--json"};
  if (!settings_.key_file.empty()) argv.insert(argv.end(), {"--key-file", settings_.key_file});
  argv.insert(argv.end(), words.begin(), words.end());
  return argv;
}

// --- the listener --------------------------------------------------------------------------------------

Result<void> Web::Site::use(const Config& config) {
  if (!config.listen) {
    server_.reset();
    shown_at_.clear();
    return {};
  }
  TRY_ASSIGN(Access access, Access::of(config.listen->tokens, machine_world()));
  std::map<std::string, Access> pings;
  for (const PingConfig& ping : config.pings) {
    TRY_ASSIGN(Access caller, Access::of({ping.token}, machine_world()));
    pings.emplace(ping.name, std::move(caller));
  }
  *rules_.lock() = std::make_shared<const Rules>(Rules{config, std::move(access), std::move(pings)});
  questions_.forget();
  return listen(*config.listen);
}

Result<void> Web::Site::listen(const ListenConfig& listen) {
  // A certificate that was renewed has the same name: its content says whether it is another one.
  std::string shown_at = listen.address;
  for (const std::string& file : {listen.cert_file, listen.key_file}) {
    if (file.empty()) continue;
    TRY_ASSIGN(const Bytes content, read_file(file, kPemMax));
    shown_at += " " + sha256(content).hex();
  }
  if (server_ && shown_at == shown_at_) return {};
  server_.reset();  // it may be the same port
  const bool tls = !listen.cert_file.empty();
  ServerOptions options{.listen = listen.address,
                        .certificate_file = listen.cert_file,
                        .key_file = listen.key_file,
                        .connections_max = kAskersMax,
                        .finish = [tls](ServerAnswer answer) { return dressed(std::move(answer), tls); }};
  TRY_ASSIGN(server_, HttpServer::start(options, routes()));
  shown_at_ = std::move(shown_at);
  reporter_.note(fmt::format("showing at {}", server_->url()));
  return {};
}

std::vector<ServerRoute> Web::Site::routes() {
  std::vector<ServerRoute> routes;
  routes.push_back({"GET", "/healthz", [this](const ServerRequest&) { return answer_health(); }, 0});
  routes.push_back({"GET", "/metrics",
                    [this](const ServerRequest& request) {
                      return with_asker(request, AskerRole::kViewer,
                                        [&](const Asker&) { return answer_metrics(); });
                    },
                    0});
  for (const char* method : {"GET", "POST"})
    routes.push_back({method, kAckPath,
                      [this](const ServerRequest& request) {
                        return answer_ack(settings_.state_folder, request, reporter_);
                      },
                      kWishBytesMax});
  for (const char* method : {"GET", "POST"})
    routes.push_back({method, std::string(kPingPath),
                      [this](const ServerRequest& request) { return answer_ping(request); }, kPingBytesMax});
  for (const WebPage& page : web_pages()) {
    routes.push_back({"GET", page.path,
                      [this, page](const ServerRequest& request) {
                        return with_asker(request, AskerRole::kViewer,
                                          [&](const Asker&) { return answer_page(page, request); });
                      },
                      0});
  }
  routes.push_back({"POST", "/api/1/jobs",
                    [this](const ServerRequest& request) {
                      return with_asker(request, AskerRole::kOperator,
                                        [&](const Asker& asker) { return answer_wish(request, asker); });
                    },
                    kWishBytesMax});
  return routes;
}

// --- who asks ------------------------------------------------------------------------------------------

// `guesser`: who is slowed by what was wrong; one script with an old token keeps no other from calling.
std::optional<ServerAnswer> Web::Site::refuse_stranger(const ServerRequest& request,
                                                       const std::string& guesser, const Find& find,
                                                       std::optional<Asker>& asker) {
  const auto refuse_unknown = [](std::string what) {
    ServerAnswer answer = refusal(401, fail(ErrorKind::kDenied, std::move(what), "",
                                            "send Authorization: Bearer TOKEN; "
                                            "kuramori token new NAME makes one"));
    answer.headers = {{"WWW-Authenticate", "Bearer realm=\"kuramori\""}};
    return answer;
  };
  const Duration now = system_clock().steady();
  if (const Duration wait = guesses_.wait(guesser, now); wait > Duration(0)) {
    ServerAnswer answer =
        refusal(429, fail(ErrorKind::kDenied, "too many wrong tokens came from this address", "",
                          fmt::format("wait {} and send the right one", format_duration(wait))));
    answer.headers = {{"Retry-After", std::to_string(std::chrono::ceil<seconds>(wait).count())}};
    return answer;
  }
  const std::string_view given = request.header("authorization");
  if (given.empty()) return refuse_unknown("this needs a token");
  if (!given.starts_with(kBearer)) return refuse_unknown("this takes a bearer token alone");
  asker = find(*rules(), given.substr(kBearer.size()));
  if (!asker) {
    guesses_.wrong(guesser, now);
    reporter_.warning(fmt::format("a wrong token came from {}", request.peer));
    return refuse_unknown("nobody has that token");
  }
  guesses_.right(guesser);
  return std::nullopt;
}

template <class Handle>
ServerAnswer Web::Site::with_asker(const ServerRequest& request, AskerRole least, Handle&& handle) {
  std::optional<Asker> asker;
  const auto find = [](const Rules& rules, std::string_view token) { return rules.access.find(token); };
  if (auto refused = refuse_stranger(request, request.peer, find, asker)) return std::move(*refused);
  if (asker->role < least)
    return refusal(403,
                   fail(ErrorKind::kDenied, fmt::format("{} may not do this", asker->name),
                        fmt::format("it is a {}, and this takes an {}", name_of(asker->role), name_of(least)),
                        "give it that role under listen: tokens: in kuramori.yaml"));
  return handle(*asker);
}

// --- answers -------------------------------------------------------------------------------------------

ServerAnswer Web::Site::answer_page(const WebPage& page, const ServerRequest& request) {
  const auto words = words_of(page, request.query, rules()->config);
  if (!words) return refusal(status_of(words.error().kind), words.error());
  const auto answered = questions_.ask(*words, page.fresh, kPatience);
  if (!answered)
    return refusal(503, fail(ErrorKind::kFailed, "there is no answer yet",
                             "a vault takes long, or very much is being asked", "ask again in a while"));
  ServerAnswer answer{.body = answered->document, .type = kJson};
  if (const auto error = read_error(answered->document)) {
    // What was asked is known to be right: a wrong configuration is not the asker's mistake.
    answer.status = error->kind == ErrorKind::kUsage ? 500 : status_of(error->kind);
  }
  const Duration age = system_clock().steady() - answered->at_steady;
  answer.headers = {{"Age", std::to_string(std::chrono::floor<seconds>(age).count())},
                    {"Kuramori-As-Of", format_utc(std::chrono::floor<seconds>(answered->at))}};
  return answer;
}

Result<void> Web::Site::grant(const JobWish& wish) {
  const JobLoop* loop = jobs_;
  if (loop != nullptr && !loop->facts().has_journal)
    return fail(ErrorKind::kFailed, "this daemon has only just begun, or has nowhere to write its journal",
                "", "ask again in a moment; journalctl -u kuramori says more");
  if (loop == nullptr)
    return fail(ErrorKind::kRefused, "this daemon runs no plans", "",
                "see what it says at its start: journalctl -u kuramori");
  TRY_ASSIGN(const auto journal, JobJournal::open(join_path(settings_.state_folder, kJobJournalFile)));
  if (wish.cancel) {
    TRY_ASSIGN(const std::optional<Run> run, journal->find_run(*wish.cancel));
    if (!run) return fail(ErrorKind::kNotFound, fmt::format("there is no run {}", *wish.cancel));
    if (is_over(run->state))
      return fail(ErrorKind::kRefused, fmt::format("run {} is over: {}", *wish.cancel, name_of(run->state)));
    return journal->ask_to_cancel(*wish.cancel);
  }
  const std::vector<Job> jobs = jobs_of(rules()->config);
  if (std::ranges::find(jobs, wish.start, &Job::id) == jobs.end())
    return fail(ErrorKind::kNotFound, fmt::format("there is no job \"{}\"", wish.start.substr(0, 200)),
                "a job is called as /api/1/jobs lists it", "backup PLAN/RESOURCE, drill PLAN/RESOURCE");
  return journal->ask_to_run(wish.start);
}

ServerAnswer Web::Site::answer_wish(const ServerRequest& request, const Asker& asker) {
  const auto wish = read_job_wish(as_text(request.body));
  if (!wish) return refusal(400, wish.error());
  if (auto granted = grant(*wish); !granted) return refusal(status_of(granted.error().kind), granted.error());
  const std::string object = wish->cancel ? fmt::format("run {}", *wish->cancel) : wish->start;
  const std::string_view action = wish->cancel ? "asked to cancel" : "asked to start";
  reporter_.note(
      fmt::format("{} ({}, from {}) {} {}", asker.name, name_of(asker.role), request.peer, action, object));
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/done/1").field("action", action).field("object", object);
  json.end_object();
  return {.status = 202, .body = json.take() + "\n", .type = kJson};
}

// "/ping/NAME": it is done; "/ping/NAME/start", "/ping/NAME/fail".
ServerAnswer Web::Site::answer_ping(const ServerRequest& request) {
  const auto [name, call] = ping_address(std::string_view(request.path).substr(kPingPath.size()));
  const bool is_ours = rules()->pings.contains(name);
  std::optional<Asker> asker;
  const auto find = [&wanted = name](const Rules& rules, std::string_view token) {
    std::optional<Asker> found;
    for (const auto& [one, access] : rules.pings)
      if (auto caller = access.find(token); caller && (!found || one == wanted)) found = std::move(caller);
    return found;
  };
  // Names that nobody has are one: an address has no more guesses for inventing them.
  const std::string guesser = fmt::format("{} {}{}", request.peer, kPingPath, is_ours ? name : "");
  if (auto refused = refuse_stranger(request, guesser, find, asker)) return std::move(*refused);
  if (!call)
    return refusal(404, fail(ErrorKind::kNotFound, "there is nothing here", "",
                             "call /ping/NAME, /ping/NAME/start or /ping/NAME/fail"));
  if (asker->name != name)
    return refusal(403,
                   fail(ErrorKind::kDenied, fmt::format("this token calls for {} alone", asker->name), "",
                        fmt::format("call {}{}, or use the token of that name", kPingPath, asker->name)));
  if (request.method == "HEAD")
    return refusal(405, fail(ErrorKind::kUsage, "to look is not to call", "", "send GET or POST"));
  auto store = AlertStore::open(join_path(settings_.state_folder, kAlertStoreFile));
  auto taken =
      store ? (*store)->take_ping(asker->name, *call, system_clock().now()) : Result<void>(store.error());
  if (!taken) return refusal(503, taken.error());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/done/1");
  json.field("action", fmt::format("ping {}", name_of(*call))).field("object", asker->name).end_object();
  return {.status = 200, .body = json.take() + "\n", .type = kJson};
}

ServerAnswer Web::Site::answer_metrics() {
  MetricFacts facts{.version = settings_.version, .started = started_};
  if (const auto answered = questions_.ask({"status"}, kMetricsFresh, kMetricsPatience)) {
    if (auto status = read_status(answered->document)) facts.status = std::move(*status);
  }
  if (const auto answered = questions_.ask({"alerts"}, kMetricsFresh, kMetricsPatience)) {
    if (auto alerts = read_alerts(answered->document)) facts.alerts = std::move(*alerts);
  }
  const JobLoop* loop = jobs_;
  auto runs = runs_.lock();
  if (loop != nullptr) {
    const JobLoop::Facts known = loop->facts();
    facts.streams = known.streams;
    facts.heartbeat_seconds = std::chrono::duration<double>(loop->quiet_for()).count();
    // Only once the loop has made it: whoever opens it first names it.
    if (known.has_journal && !runs->journal) {
      if (auto journal = JobJournal::open(join_path(settings_.state_folder, kJobJournalFile)))
        runs->journal = std::move(*journal);
    }
    if (runs->journal && runs->tally.take(*runs->journal)) facts.runs = &runs->tally;
  }
  facts.now = system_clock().now();
  return {.body = metrics_text(facts), .type = kMetricsType};
}

// That it listens says nothing: what makes progress says so here, again and again. No names: it is answered
// to everybody.
ServerAnswer Web::Site::answer_health() const {
  std::vector<std::string_view> problems;
  if (system_clock().steady() - Duration(seen_at_.load()) > kDaemonQuietMax)
    problems.emplace_back("the daemon's loop stands still");
  if (const JobLoop* loop = jobs_) {
    if (!loop->is_alive()) problems.emplace_back("the loop that runs the jobs stands still");
    if (!loop->facts().is_written_down)
      problems.emplace_back("the journal cannot be written: no job is started");
  }
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/health/1").field("healthy", problems.empty());
  json.key("problems").begin_array();
  for (const std::string_view problem : problems) json.value(problem);
  json.end_array().end_object();
  return {.status = problems.empty() ? 200 : 503, .body = json.take() + "\n", .type = kJson};
}

// --- the keeper ----------------------------------------------------------------------------------------

Web::Web(WebSettings settings, Reporter& reporter)
    : reporter_(reporter),
      site_(std::make_unique<Site>(std::move(settings), reporter)),
      keeper_([this](std::stop_token stop) { keep(std::move(stop)); }) {}

Web::~Web() {
  keeper_.request_stop();
  keeper_.join();
}

void Web::use(const Config& config) {
  const std::lock_guard hold(mutex_);
  wanted_ = config;
  changed_.notify_all();
}

void Web::set_jobs(const JobLoop* jobs) {
  site_->set_jobs(jobs);
}

void Web::still_here() {
  site_->still_here();
}

void Web::keep(std::stop_token stop) {
  std::string told;
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return wanted_.has_value(); })) {
    const Config config = std::move(*wanted_);
    wanted_.reset();
    lock.unlock();
    const auto used = site_->use(config);
    lock.lock();
    if (used) {
      told.clear();
      continue;
    }
    const Error& error = used.error();
    if (std::string said = error.what + ": " + error.why; said != told) {
      reporter_.warning(fmt::format("nothing is shown over HTTP: {}; it is tried again", said));
      told = std::move(said);
    }
    changed_.wait_for(lock, stop, kTryAgain, [&] { return wanted_.has_value(); });
    if (!wanted_ && !stop.stop_requested()) wanted_ = config;
  }
}

}  // namespace kuramori
