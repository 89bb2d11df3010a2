#include "daemon/lease_keeper.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "conc/guarded.h"
#include "daemon/served_vaults.h"
#include "engine/open_vault.h"

namespace kuramori {
namespace {

constexpr Duration kLookEvery =
    std::chrono::seconds(30);  // with nothing to do: whether the vault can be closed
constexpr Duration kFarewellMax = std::chrono::seconds(5);

}  // namespace

struct LeaseKeeper::Shared {
  LeaseSettings settings;
  Guarded<std::vector<LeaseEvent>> events;
  // When each run's lease was last renewed, by the steady clock: a vault that does not answer holds its
  // worker up, and the run must stop all the same.
  Guarded<std::map<int64_t, Duration>> renewed;

  void tell(LeaseEvent event) {
    events.lock()->push_back(std::move(event));
    settings.wake();
  }
};

// Of one vault.
class LeaseKeeper::Worker {
 public:
  Worker(std::shared_ptr<Shared> shared, std::string vault)
      : shared_(std::move(shared)), vault_name_(std::move(vault)) {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  ~Worker() {
    {
      std::lock_guard lock(mutex_);
      farewell_by_ = system_clock().steady() + kFarewellMax;
    }
    thread_.request_stop();
    changed_.notify_all();
  }

  struct Request {
    enum class Kind { kAsk, kEnd } kind = Kind::kAsk;
    int64_t run = 0;
    std::string job, tag;  // of kEnd the tag of what stood
    Time due;
    std::optional<Period> apart;
    LeaseEnd end = LeaseEnd::kReleased;
  };
  void add(Request request) {
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(std::move(request));
    }
    changed_.notify_all();
  }

 private:
  struct Opened {
    std::unique_ptr<Vault> vault;
    Protocol protocol;
    Duration since;
    explicit Opened(std::unique_ptr<Vault> opened)
        : vault(std::move(opened)), protocol(protocol_of(*vault)), since(system_clock().steady()) {}
  };

  void run(const std::stop_token& stop);
  Result<void> be_open();
  void do_request(const Request& request);
  void ask(const Request& request);
  void renew();
  void note_renewal(const names::JobKey& job);
  void lose(const names::JobKey& job, std::string why);

  std::shared_ptr<Shared> shared_;
  const std::string vault_name_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Request> requests_;
  Duration farewell_by_{0};
  // The thread's own.
  std::unique_ptr<Opened> opened_;
  std::optional<LeaseBook> book_;
  std::map<names::JobKey, int64_t> runs_;
  std::map<int64_t, names::JobKey> jobs_;
  std::jthread thread_;
};

// Whose signatures count is looked up once while a vault is open, so it is opened anew now and then.
Result<void> LeaseKeeper::Worker::be_open() {
  if (opened_ && system_clock().steady() - opened_->since < kVaultOpenMax) return {};
  auto vault = shared_->settings.open(vault_name_);
  if (!vault) {
    // The one that is open serves as long as it does.
    if (opened_) return {};
    return std::move(vault).error();
  }
  auto opened = std::make_unique<Opened>(std::move(*vault));
  const LeaseSettings& settings = shared_->settings;
  if (book_)
    book_->use(opened->protocol);
  else
    book_.emplace(opened->protocol, settings.holder, settings.host, settings.length);
  opened_ = std::move(opened);
  return {};
}

void LeaseKeeper::Worker::ask(const Request& request) {
  LeaseEvent event{
      .kind = LeaseEvent::Kind::kTrouble, .run = request.run, .answer = {}, .mark = {}, .why = {}};
  bool is_open = false;
  auto answer = [&]() -> Result<LeaseAnswer> {
    TRY(be_open());
    is_open = true;
    const LeaseSlot slot{
        .job = job_key(opened_->vault->keys(), request.job), .due = request.due, .apart = request.apart};
    TRY_ASSIGN(LeaseAnswer said, book_->ask(slot, request.tag));
    if (said.kind != LeaseAnswer::Kind::kMine) return said;
    runs_[slot.job] = request.run;
    jobs_[request.run] = slot.job;
    note_renewal(slot.job);
    event.mark = LeaseMark{.job = slot.job, .number = said.number, .run = request.tag};
    return said;
  }();
  if (answer) {
    event.kind = LeaseEvent::Kind::kAnswer;
    event.answer = std::move(*answer);
  } else {
    const Error& error = answer.error();
    // What keeps the vault from being opened the job will find, too, and tell better.
    const bool stays = error.kind == ErrorKind::kUsage || error.kind == ErrorKind::kNotFound ||
                       error.kind == ErrorKind::kRefused || error.kind == ErrorKind::kDamaged;
    if (error.kind == ErrorKind::kDenied || (!is_open && stays)) event.kind = LeaseEvent::Kind::kUnleased;
    event.why = error.why.empty() ? error.what : error.what + ": " + error.why;
  }
  shared_->tell(std::move(event));
}

void LeaseKeeper::Worker::do_request(const Request& request) {
  if (request.kind == Request::Kind::kAsk) return ask(request);
  const auto at = jobs_.find(request.run);
  if (at == jobs_.end()) return;
  const names::JobKey job = at->second;
  jobs_.erase(at);
  runs_.erase(job);
  // One that cannot be told runs out.
  if (book_ && be_open()) (void)book_->end(job, request.end, request.tag);
}

void LeaseKeeper::Worker::note_renewal(const names::JobKey& job) {
  const auto at = runs_.find(job);
  const auto renewed = book_->renewed_at(job);
  if (at != runs_.end() && renewed) (*shared_->renewed.lock())[at->second] = *renewed;
}

void LeaseKeeper::Worker::lose(const names::JobKey& job, std::string why) {
  const auto at = runs_.find(job);
  if (at == runs_.end()) return;
  const int64_t run = at->second;
  runs_.erase(at);
  jobs_.erase(run);
  shared_->renewed.lock()->erase(run);
  shared_->tell(
      {.kind = LeaseEvent::Kind::kLost, .run = run, .answer = {}, .mark = {}, .why = std::move(why)});
}

void LeaseKeeper::Worker::renew() {
  if (!book_) return;
  for (const names::JobKey& job : book_->due_for_renewal()) {
    const auto opened = be_open();
    const auto renewed = opened ? book_->renew(job) : Result<bool>(opened.error());
    if (renewed && *renewed)
      note_renewal(job);
    else if (renewed)
      lose(job, "another daemon has taken it over");
  }
}

void LeaseKeeper::Worker::run(const std::stop_token& stop) {
  for (;;) {
    std::optional<Request> request;
    {
      std::unique_lock lock(mutex_);
      const Duration wait =
          std::min(kLookEvery, (book_ ? book_->renewal_due() : std::nullopt).value_or(kLookEvery));
      changed_.wait_for(lock, stop, wait, [&] { return !requests_.empty(); });
      if (stop.stop_requested() && (requests_.empty() || system_clock().steady() >= farewell_by_)) return;
      if (!requests_.empty()) {
        request = std::move(requests_.front());
        requests_.pop_front();
      }
    }
    if (request) do_request(*request);
    renew();
    // Nothing is held: what the vault's handle takes is given back.
    if (book_ && !book_->holds_any() && opened_ &&
        system_clock().steady() - opened_->since >= kVaultOpenMax) {
      opened_.reset();
      // The book keeps what it saw, and is given the next one before it is asked again.
    }
  }
}

LeaseKeeper::LeaseKeeper(LeaseSettings settings) : shared_(std::make_shared<Shared>()) {
  shared_->settings = std::move(settings);
}

LeaseKeeper::~LeaseKeeper() = default;

void LeaseKeeper::ask(const std::string& vault, const std::string& job, Time due,
                      const std::optional<Period>& apart, int64_t run, const std::string& tag) {
  auto& worker = workers_[vault];
  if (!worker) worker = std::make_unique<Worker>(shared_, vault);
  by_run_[run] = worker.get();
  worker->add(
      {.kind = Worker::Request::Kind::kAsk, .run = run, .job = job, .tag = tag, .due = due, .apart = apart});
}

void LeaseKeeper::end(int64_t run, LeaseEnd end, const std::string& stood) {
  const auto at = by_run_.find(run);
  if (at == by_run_.end()) return;
  shared_->renewed.lock()->erase(run);
  at->second->add({.kind = Worker::Request::Kind::kEnd,
                   .run = run,
                   .job = {},
                   .tag = stood,
                   .due = {},
                   .apart = {},
                   .end = end});
  by_run_.erase(at);
}

std::vector<LeaseEvent> LeaseKeeper::take_events() {
  auto events = std::exchange(*shared_->events.lock(), {});
  const Duration now = system_clock().steady();
  auto renewed = shared_->renewed.lock();
  std::erase_if(*renewed, [&](const std::pair<const int64_t, Duration>& one) {
    if (now - one.second < give_up_after(shared_->settings.length)) return false;
    events.push_back({.kind = LeaseEvent::Kind::kLost,
                      .run = one.first,
                      .answer = {},
                      .mark = {},
                      .why = "its vault did not answer, and its lease runs out"});
    return true;
  });
  return events;
}

}  // namespace kuramori
