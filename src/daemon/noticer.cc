#include "daemon/noticer.h"

#include <fmt/core.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "conc/guarded.h"
#include "crypto/digest.h"
#include "daemon/ack_link.h"
#include "daemon/alert_facts.h"
#include "daemon/alert_store.h"
#include "daemon/channels.h"
#include "daemon/job_process.h"
#include "engine/open_vault.h"
#include "os/lock.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr Duration kLookEvery = std::chrono::seconds(1);
constexpr Duration kSendLookEvery = std::chrono::milliseconds(500);
constexpr Duration kAliveMax = std::chrono::minutes(2);
constexpr Duration kStatusMax = std::chrono::minutes(10);
constexpr size_t kStatusBytesMax = size_t{64} << 20;
constexpr Duration kMarksEvery = std::chrono::minutes(1);
constexpr Duration kTrimEvery = std::chrono::hours(6);
constexpr Duration kDownAtMost = std::chrono::hours(24 * 7);  // a clock may be wrong, too
constexpr Duration kConfigLookEvery = std::chrono::seconds(30);
constexpr Duration kHeartbeatMax = std::chrono::seconds(20);
constexpr const char* kAlertLockFile = "alerts.lock";
constexpr Duration kStoreTriedEvery = std::chrono::seconds(5);  // where what is decided is in memory alone
constexpr Duration kOtherDaemonPause = std::chrono::milliseconds(200);

std::string shown(const Error& error) {
  return error.why.empty() ? error.what : error.what + ": " + error.why;
}

// Sleeps until `length` has passed; false: a stop was asked for.
bool sleep_for(const std::stop_token& stop, Duration length) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, length, [] { return false; });
  return !stop.stop_requested();
}

// Nobody looks for what nobody is told.
bool hears_of_reviews(const Config& config) {
  return std::ranges::any_of(config.notify, [](const NotifyConfig& entry) {
    return std::ranges::any_of(entry.when,
                               [](const std::string& event) { return event == "review" || event == "all"; });
  });
}

// The time without a daemon counts: who was to be called after an hour has been waited for.
Duration goes_on_at(const AlertStore::Marks& marks, Time wall) {
  if (!marks.wall) return marks.steady;
  return marks.steady + std::clamp<Duration>(wall - *marks.wall, Duration(0), kDownAtMost);
}

std::optional<Digest> digest_of_file(const std::string& path) {
  auto bytes = read_file(path, kConfigBytesMax);
  return bytes ? std::optional(sha256(*bytes)) : std::nullopt;
}

}  // namespace

class Noticer::Work {
 public:
  Work(NoticerSettings settings, Config config, Reporter& reporter)
      : settings_(std::move(settings)),
        reporter_(reporter),
        config_(std::make_shared<const Config>(std::move(config))) {
    alive_at_ = clock_.steady().count();
  }

  void start();
  void stop();
  void reload() { reload_asked_ = true; }
  bool is_alive() const { return clock_.steady() - Duration(alive_at_.load()) < kAliveMax; }

 private:
  bool be_the_only_one(const std::stop_token& stop);
  bool is_store_there() const;
  bool open_store();
  void go_over_to_file();
  void decide_all(std::stop_token stop);
  void heed_clock();
  void decide_once();
  void use_config(std::shared_ptr<const Config> config);
  bool open_journal();
  Now now();
  void look_at_config();

  void send_all(const std::string& label, std::stop_token stop);
  // One that waits, as it was when it was taken: another file may have it under another number since.
  struct Taken {
    AlertStore::Waiting waiting;
    std::string store;  // its name
    bool is_of_memory = false;
    std::vector<AlertStore::Former> former = {};
  };
  struct SentMessage {
    int64_t id = 0;
    bool is_of_memory = false;
    Time at;
  };
  std::optional<SentMessage> send_one(const Taken& taken, std::stop_token stop);
  static std::map<int64_t, std::vector<std::string>> names_since(
      const std::vector<AlertStore::Former>& former, const std::string& store);
  std::map<int64_t, std::string> links_of(const Config& config, const std::string& store,
                                          const TellMessage& message);
  void look_at_vaults(std::stop_token stop);
  void beat(std::stop_token stop);
  void measure_vaults(std::stop_token stop);
  std::optional<std::string> output_of(const std::vector<std::string>& words, std::stop_token stop,
                                       Duration at_most = kStatusMax);

  NoticerSettings settings_;
  Reporter& reporter_;
  Clock& clock_ = system_clock();
  const ConfigWorld world_ = machine_world();
  const std::string host_ = host_name();
  Guarded<std::shared_ptr<const Config>> config_;
  // Where what is decided is written down: the file, or memory until there is room for one.
  struct Kept {
    std::unique_ptr<AlertStore> store;
    bool is_memory = false;
    std::map<int64_t, int64_t> moved;  // messages of the memory, by their numbers in the file

    AlertStore* operator->() const { return store.get(); }
    // 0, which is no message: there was nothing left to say in it.
    int64_t here(int64_t message, bool is_of_memory) const {
      if (!is_of_memory || is_memory) return message;
      const auto at = moved.find(message);
      return at == moved.end() ? 0 : at->second;
    }
  };
  Guarded<Kept> store_;
  Guarded<std::optional<Secret>> ack_key_;  // nothing: no link was made yet

  // Of the deciding thread alone.
  std::optional<FileLock> lock_;
  std::optional<AlertBook> book_;
  AlertStore::Marks marks_;
  std::vector<AlertStore::Acknowledgement> acknowledgements_;  // taken; not written down yet
  bool is_new_ = false;
  Duration began_{0}, steady_before_{0};
  std::optional<JournalWatch> watch_;
  AlertFacts facts_;
  std::map<std::string, Time> away_, first_seen_;
  std::optional<Digest> config_digest_;
  std::optional<Time> config_changed_at_;
  Time wall_before_;
  Duration marks_at_{0}, trim_at_{0}, config_look_at_{0}, store_tried_at_{0};
  bool cannot_write_told_ = false;
  std::map<std::string, std::jthread> senders_;

  struct Seen {
    std::optional<ShownStatus> status;
    std::map<std::string, std::vector<double>> sizes;
    std::map<std::string, FreeSpace> spaces;  // of vaults that are folders
    std::optional<std::vector<SeenReview>> reviews;
    std::string trouble;  // nothing can be looked at: why
    Time at;
    bool is_new = false, is_any = false;
  };
  Guarded<Seen> seen_;
  Guarded<std::map<std::string, uint64_t>> stored_;  // bytes in vaults that are no folders
  std::atomic<bool> look_asked_ = true, reload_asked_ = false;
  std::atomic<int64_t> alive_at_{0};
  std::jthread decider_, looker_, measurer_, heart_;
};

// --- deciding ----------------------------------------------------------------------------------------

void Noticer::Work::start() {
  decider_ = std::jthread([this](std::stop_token stop) { decide_all(std::move(stop)); });
}

// One daemon tells for a state folder. Another may be about to end: it is waited for. False: asked to stop.
bool Noticer::Work::be_the_only_one(const std::stop_token& stop) {
  do {
    alive_at_ = clock_.steady().count();
    auto lock = FileLock::try_acquire(join_path(settings_.state_folder, kAlertLockFile));
    if (!lock) return true;  // nothing can be written there, then: that is told
    if (*lock) {
      lock_ = std::move(**lock);
      return true;
    }
  } while (sleep_for(stop, kOtherDaemonPause));
  return false;
}

// Also where that cannot be known.
bool Noticer::Work::is_store_there() const {
  const auto there = status_if_there(join_path(settings_.state_folder, kAlertStoreFile));
  return !there || there->has_value();
}

// False: nobody can be told of anything.
bool Noticer::Work::open_store() {
  auto store = AlertStore::open(join_path(settings_.state_folder, kAlertStoreFile));
  const bool is_memory = !store;
  if (!store) {
    reporter_.warning(
        fmt::format("whom the daemon told is not written down: {}; it is tried again, and after a restart "
                    "before that some are told again",
                    shown(store.error())));
    store = AlertStore::open(":memory:");
    store_tried_at_ = clock_.steady() + kStoreTriedEvery;
  }
  if (!store) {
    reporter_.warning(fmt::format("nobody is told of anything: {}", shown(store.error())));
    return false;
  }
  auto kept = (*store)->read();
  if (!kept) {
    reporter_.warning(fmt::format("whom earlier daemons told is not known: {}", shown(kept.error())));
    kept = AlertStore::Kept{};
  }
  // What stands in that file has numbers from 1 on: none of it is to be acknowledged by a number told now.
  if (is_memory && is_store_there())
    kept->state.next_alert =
        std::chrono::floor<std::chrono::seconds>(clock_.now().time_since_epoch()).count();
  *store_.lock() = Kept{.store = std::move(*store), .is_memory = is_memory, .moved = {}};
  is_new_ = !kept->marks.wall;
  marks_ = kept->marks;
  book_.emplace(std::move(kept->state));
  const Time wall = clock_.now();
  began_ = clock_.steady();
  steady_before_ = goes_on_at(marks_, wall);
  return true;
}

// There is room by now, or what stood in its way is gone.
void Noticer::Work::go_over_to_file() {
  if (clock_.steady() < store_tried_at_) return;
  store_tried_at_ = clock_.steady() + kStoreTriedEvery;
  auto kept = store_.lock();
  if (!kept->is_memory) return;
  const auto moved = [&]() -> Result<AlertStore::Moved> {
    TRY_ASSIGN(auto file, AlertStore::open(join_path(settings_.state_folder, kAlertStoreFile)));
    TRY_ASSIGN(const AlertStore::Kept there, file->read());
    const Duration shift =
        there.marks.wall ? goes_on_at(there.marks, clock_.now()) - now().steady : Duration(0);
    TRY((*kept)->write_marks({.steady = now().steady,
                              .wall = clock_.now(),
                              .runs_until = marks_.runs_until,
                              .runs_besides = marks_.runs_besides}));
    TRY_ASSIGN(AlertStore::Moved taken, file->take_over(*kept->store, shift));
    steady_before_ += shift;
    *kept = Kept{.store = std::move(file), .is_memory = false, .moved = taken.messages};
    return taken;
  }();
  if (!moved) return;  // that it is not written down was told
  marks_ = moved->kept.marks;
  book_.emplace(moved->kept.state);
  reporter_.note("whom the daemon told is written down from now on");
}

void Noticer::Work::stop() {
  decider_.request_stop();
  if (decider_.joinable()) decider_.join();  // it began the others
  for (std::jthread* thread : {&looker_, &measurer_, &heart_}) thread->request_stop();
  for (auto& [label, sender] : senders_) sender.request_stop();
  senders_.clear();
  if (looker_.joinable()) looker_.join();
  if (measurer_.joinable()) measurer_.join();
  if (heart_.joinable()) heart_.join();
}

Now Noticer::Work::now() {
  return {clock_.now(), steady_before_ + (clock_.steady() - began_)};
}

void Noticer::Work::use_config(std::shared_ptr<const Config> config) {
  const Time now = clock_.now();
  facts_ = facts_of(*config, now);
  // What was there before is not new because the file was read again.
  for (JobFacts& job : facts_.jobs)
    job.watched_from = first_seen_.emplace(job.job.id + "|" + text_of(job.job.when), now).first->second;
  for (SeenResource& resource : facts_.resources)
    resource.watched_from = first_seen_.emplace(resource.resource, now).first->second;
  facts_.began = first_seen_.emplace("", now).first->second;  // no name is empty
  if (auto watched = (*store_.lock())->watch_pings(facts_.pings, now); !watched)
    reporter_.warning(
        fmt::format("since when scripts are awaited is not written down: {}", shown(watched.error())));
  if (watch_) watch_->fill(facts_.jobs);
  seen_.with([](Seen& seen) { seen.is_new = seen.is_any; });
  config_digest_ = digest_of_file(settings_.config_path);
  config_changed_at_.reset();
  for (size_t i = 0; i < config->notify.size(); ++i)
    for (size_t step = 0; step <= config->notify[i].escalate.size(); ++step) {
      const std::string label = label_of(config->notify[i], i, step);
      if (!senders_.contains(label))
        senders_[label] =
            std::jthread([this, label](std::stop_token stop) { send_all(label, std::move(stop)); });
    }
  *config_.lock() = std::move(config);
  look_asked_ = true;
}

bool Noticer::Work::open_journal() {
  if (watch_) return true;
  const std::string path = join_path(settings_.state_folder, kJobJournalFile);
  auto there = status_if_there(path);
  if (!there || !*there) return false;
  auto journal = JobJournal::open_to_read(path);
  if (!journal) return false;
  watch_.emplace(std::move(*journal));
  return true;
}

void Noticer::Work::look_at_config() {
  if (clock_.steady() < config_look_at_) return;
  config_look_at_ = clock_.steady() + kConfigLookEvery;
  if (digest_of_file(settings_.config_path) == config_digest_)
    config_changed_at_.reset();
  else if (!config_changed_at_)
    config_changed_at_ = clock_.now();
}

void Noticer::Work::heed_clock() {
  const Time wall = clock_.now();
  forget_what_is_ahead(facts_, wall);
  for (auto* known : {&away_, &first_seen_})
    for (auto& [name, at] : *known) at = std::min(at, wall);
  if (config_changed_at_) config_changed_at_ = std::min(*config_changed_at_, wall);
  // The calls of scripts stand in the store: what is ahead there goes, too.
  if (wall < wall_before_ && !(*store_.lock())->watch_pings(facts_.pings, wall)) return;  // the next time
  wall_before_ = wall;
}

void Noticer::Work::decide_once() {
  if (reload_asked_.exchange(false)) {
    // A wrong one changes nothing, and the scheduler has said so.
    if (auto config = settings_.load_config()) use_config(std::make_shared<const Config>(std::move(*config)));
  }
  look_at_config();
  heed_clock();
  const std::shared_ptr<const Config> config = *config_.lock();
  std::vector<Happening> happenings;
  AlertStore::Marks marks = marks_;
  std::vector<Run> ended;
  if (open_journal()) {
    auto changed = watch_->look();
    if (changed && *changed) {
      ended = watch_->take_ended(marks.runs_until, marks.runs_besides, is_new_);
      is_new_ = false;
      watch_->fill(facts_.jobs);
    }
    // One that was set aside and begun anew is another file.
    if (!changed) watch_.reset();
  }
  for (const Run& run : ended) {
    look_asked_ = true;
    const auto job = std::ranges::find(facts_.jobs, run.job, [](const JobFacts& one) { return one.job.id; });
    if (job == facts_.jobs.end()) continue;
    if (auto success = success_of(*job, run)) happenings.push_back(std::move(*success));
  }
  seen_.with([&](Seen& seen) {
    if (!std::exchange(seen.is_new, false)) return;
    if (seen.status)
      add_seen(facts_, *seen.status, away_);
    else
      add_unseen(facts_, seen.trouble, seen.at, away_);
    for (SeenResource& resource : facts_.resources)
      if (auto sizes = seen.sizes.find(resource.resource); sizes != seen.sizes.end())
        resource.sizes = sizes->second;
    facts_.reviews_are_seen = seen.reviews.has_value();
    facts_.reviews = seen.reviews.value_or(std::vector<SeenReview>());
    for (SeenVault& vault : facts_.vaults) {
      const auto space = seen.spaces.find(vault.name);
      if (space == seen.spaces.end()) continue;
      vault.used = space->second.total - space->second.free;
      auto configured = config->vault(vault.name);
      vault.capacity = configured && (*configured)->capacity ? (*configured)->capacity : space->second.total;
    }
  });
  stored_.with([&](const std::map<std::string, uint64_t>& stored) {
    for (SeenVault& vault : facts_.vaults)
      if (const auto bytes = stored.find(vault.name); bytes != stored.end() && vault.capacity)
        vault.used = bytes->second;
  });
  facts_.config_changed_at = config_changed_at_;
  {
    auto store = store_.lock();
    if (auto failed = (*store)->undelivered()) facts_.undelivered = std::move(*failed);
    if (!facts_.pings.empty())
      if (auto calls = (*store)->pings())
        for (PingFacts& ping : facts_.pings)
          if (const auto at = calls->find(ping.name); at != calls->end()) ping.calls = at->second;
  }
  std::erase_if(facts_.undelivered, [&](const auto& one) { return !is_label_of(config->notify, one.first); });

  const Now at = now();
  const AlertState before = book_->state();
  std::vector<int64_t> acknowledged;
  {
    auto store = store_.lock();
    if (auto taken = (*store)->take_acknowledged())
      acknowledgements_.insert(acknowledgements_.end(), taken->begin(), taken->end());
  }
  for (const auto& one : acknowledgements_)
    if (book_->acknowledge(one.alert, one.by, one.at)) acknowledged.push_back(one.alert);
  if (acknowledged.empty()) acknowledgements_.clear();  // of alerts that are over
  const auto is_open = [&](const std::string& key) {
    return std::ranges::any_of(book_->state().alerts, [&](const auto& one) {
      return !one.second.closed && one.second.trouble.key == key;
    });
  };
  AlertBook::Seen seen;
  seen.troubles = find_troubles(facts_, is_open, at.wall);
  seen.happenings = std::move(happenings);
  seen.report = [&] { return daily_report(facts_, seen.troubles, at.wall); };
  // Until the journal was read nobody knows how jobs stand.
  seen.was_looked_at = [&](const Trouble& trouble) {
    const bool is_of_job = trouble.key.starts_with("failure ") || trouble.key.starts_with("late ") ||
                           trouble.key.starts_with("slow ");
    if (is_of_job && !watch_) return false;
    return was_looked_at(facts_, trouble);
  };
  AlertStep step = book_->step(seen, config->notify, at);
  for (int64_t id : acknowledged)
    if (std::ranges::find(step.changed, id) == step.changed.end()) step.changed.push_back(id);
  marks.steady = at.steady;
  marks.wall = at.wall;
  const bool runs_changed =
      marks.runs_until != marks_.runs_until || marks.runs_besides != marks_.runs_besides;
  const bool marks_due = clock_.steady() >= marks_at_;
  if (step.is_nothing && acknowledged.empty() && !runs_changed && !marks_due) return;
  marks_at_ = clock_.steady() + kMarksEvery;
  auto written = store_.with([&](Kept& kept) { return kept->write(step, book_->state(), marks); });
  if (written) {
    marks_ = marks;
    acknowledgements_.clear();
    if (std::exchange(cannot_write_told_, false)) reporter_.note("alerts can be written down again");
    for (const TellMessage& message : step.messages)
      for (const TellItem& item : message.items)
        if (item.kind == TellKind::kOpened)
          reporter_.warning(fmt::format("alert {}: {}", item.alert, item.what));
    return;
  }
  // As if it had not been decided: nothing is sent that is not written down.
  book_.emplace(before);
  if (watch_ && !ended.empty()) watch_.reset(), is_new_ = false;
  if (!std::exchange(cannot_write_told_, true))
    reporter_.warning(
        fmt::format("nobody is told of anything until it can be written down: {}", shown(written.error())));
}

void Noticer::Work::decide_all(std::stop_token stop) {
  (void)make_folders(settings_.state_folder, 0700);  // what cannot be opened there is told
  if (!be_the_only_one(stop) || !open_store()) return;
  const std::shared_ptr<const Config> config = *config_.lock();
  use_config(config);
  looker_ = std::jthread([this](std::stop_token asked) { look_at_vaults(std::move(asked)); });
  measurer_ = std::jthread([this](std::stop_token asked) { measure_vaults(std::move(asked)); });
  heart_ = std::jthread([this](std::stop_token asked) { beat(std::move(asked)); });
  do {
    alive_at_ = clock_.steady().count();
    go_over_to_file();
    decide_once();
    if (clock_.steady() < trim_at_) continue;
    trim_at_ = clock_.steady() + kTrimEvery;
    (void)(*store_.lock())->trim(clock_.now());  // the next time, then
  } while (sleep_for(stop, kLookEvery));
  marks_.steady = now().steady;
  marks_.wall = clock_.now();
  (void)(*store_.lock())->write_marks(marks_);
}

// --- sending -----------------------------------------------------------------------------------------

void Noticer::Work::send_all(const std::string& label, std::stop_token stop) {
  std::optional<SentMessage> unwritten;  // one that went out, while the disk had no room to say so
  do {
    while (!stop.stop_requested()) {
      if (unwritten) {
        auto kept = store_.lock();
        if (!(*kept)->set_sent(kept->here(unwritten->id, unwritten->is_of_memory), unwritten->at)) break;
        unwritten.reset();
      }
      std::optional<Taken> taken;
      {
        auto kept = store_.lock();
        if (auto next = (*kept)->next_to_send(label, clock_.now()); next && *next)
          taken = Taken{std::move(**next), (*kept)->name(), kept->is_memory};
        if (!taken) break;
        if (auto former = (*kept)->former()) taken->former = std::move(*former);
        // First that it is tried: on a disk that is full it would otherwise go out again and again.
        const Time again = clock_.now() + resend_pause(taken->waiting.tries + 1);
        if (!(*kept)->set_trying(taken->waiting.message.id, again)) break;
      }
      unwritten = send_one(*taken, stop);
    }
  } while (sleep_for(stop, kSendLookEvery));
}

// What was told of alerts while they were only held in memory named them otherwise.
std::map<int64_t, std::vector<std::string>> Noticer::Work::names_since(
    const std::vector<AlertStore::Former>& former, const std::string& store) {
  std::map<int64_t, std::vector<std::string>> names;
  for (const AlertStore::Former& one : former) {
    std::vector<std::string>& of = names[one.alert];
    if (of.empty() && !one.is_new) of.push_back(fmt::format("{}-{}", store, one.alert));
    of.push_back(fmt::format("{}-{}", one.store, one.there));
  }
  return names;
}

// Made when it is sent: one that waited does not hold for less.
std::map<int64_t, std::string> Noticer::Work::links_of(const Config& config, const std::string& store,
                                                       const TellMessage& message) {
  std::map<int64_t, std::string> links;
  if (!config.listen || config.listen->public_url.empty()) return links;
  auto key = ack_key_.lock();
  if (!*key) {  // again with each message: a disk that was full may not be any more
    auto made = make_ack_key(settings_.state_folder);
    if (!made) {
      reporter_.warning(fmt::format("a message carries no link to acknowledge: {}", shown(made.error())));
      return links;
    }
    *key = std::move(*made);
  }
  const Time until = clock_.now() + kAckLinkHolds;
  for (const TellItem& item : message.items)
    if (item.alert != 0)
      links[item.alert] = config.listen->public_url + kAckPath + ack_token(**key, store, item.alert, until);
  return links;
}

// What went out and could not be written down.
std::optional<Noticer::Work::SentMessage> Noticer::Work::send_one(const Taken& taken, std::stop_token stop) {
  const AlertStore::Waiting& waiting = taken.waiting;
  const TellMessage& message = waiting.message;
  const std::shared_ptr<const Config> config = *config_.lock();
  const Delivery delivery{.message = message,
                          .dedup = fmt::format("{}-m{}", taken.store, message.id),
                          .journal = taken.store,
                          .host = host_,
                          .links = links_of(*config, taken.store, message),
                          .names = names_since(taken.former, taken.store)};
  auto done = [&]() -> Result<void> {
    if (message.items.empty())
      return fail(ErrorKind::kDamaged, "the message was damaged in the daemon's alerts");
    TRY_ASSIGN(const AlertChannel channel, channel_of(config->notify, message.label, world_));
    return deliver(channel, delivery, stop);
  }();
  const Time now = clock_.now();
  auto store = store_.lock();
  const int64_t id = store->here(message.id, taken.is_of_memory);
  if (!done && done.error().kind == ErrorKind::kInterrupted) {  // the next daemon's, at once
    (void)(*store)->set_trying(id, now);
    return std::nullopt;
  }
  if (done) {
    const auto written = (*store)->set_sent(id, now);
    if (written) return std::nullopt;
    reporter_.warning(
        fmt::format("a message to \"{}\" was sent, and that cannot be written down yet: {}; another daemon "
                    "may send it again",
                    message.label, shown(written.error())));
    return SentMessage{message.id, taken.is_of_memory, now};
  }
  const int tries = waiting.tries + 1;
  const bool again = may_pass(done.error()) && now - waiting.created < kResendFor;
  const std::string why = shown(done.error());
  // Where it cannot be written down, it is tried again when it was said that it would be.
  (void)(*store)->set_not_sent(id, tries, why,
                               again ? std::optional(now + resend_pause(tries)) : std::nullopt);
  if (tries == 1 || !again)
    reporter_.warning(fmt::format("\"{}\" of notify could not be told{}: {}", message.label,
                                  again ? ", and is tried again" : "", why));
  return std::nullopt;
}

// --- looking -----------------------------------------------------------------------------------------

std::optional<std::string> Noticer::Work::output_of(const std::vector<std::string>& words,
                                                    std::stop_token stop, Duration at_most) {
  Command command{.argv = {settings_.program, "--config", settings_.config_path, "--json"}};
  if (!settings_.key_file.empty())
    command.argv.insert(command.argv.end(), {"--key-file", settings_.key_file});
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.set = without_service_manager();
  command.die_with_us = true;
  command.timeout = at_most;
  command.output_max = kStatusBytesMax;
  command.stop = std::move(stop);
  auto done = run(command);
  if (!done || done->output_truncated) return std::nullopt;
  return std::move(done->output);
}

void Noticer::Work::look_at_vaults(std::stop_token stop) {
  std::optional<Duration> looked;
  do {
    const Duration since = looked ? clock_.steady() - *looked : kVaultsLookedAtEvery;
    const bool wanted = since >= kVaultsLookedAtEvery || (look_asked_ && since >= kVaultsLookedAtAfterJob);
    const std::shared_ptr<const Config> config = *config_.lock();
    if (!wanted || config->plans.empty() || config->notify.empty()) continue;
    look_asked_ = false;
    looked = clock_.steady();
    auto output = output_of({"status"}, stop);
    std::optional<ShownStatus> status;
    if (output)
      if (auto read = read_status(*output)) status = std::move(*read);
    std::string trouble;
    if (!status) trouble = output ? read_job_result(*output).error : "kuramori status did not end";
    std::map<std::string, std::vector<double>> sizes;
    for (const PlanConfig& plan : config->plans) {
      if (!plan.thresholds.size) continue;
      for (const std::string& resource : plan.resources)
        if (auto listed = output_of({"snapshots", resource, "--vault", plan.vault}, stop))
          sizes[resource] = read_sizes(*listed);
    }
    // Where nobody hears of them there are none, and those that were told of are over.
    std::optional<std::vector<SeenReview>> reviews{std::in_place};
    if (hears_of_reviews(*config)) {
      auto listed = output_of({"review"}, stop);
      reviews = listed ? read_reviews(*listed, *config) : std::nullopt;
    }
    // Here, not where it is decided: a disk that hangs hangs whoever asks.
    std::map<std::string, FreeSpace> spaces;
    for (const VaultConfig& vault : config->vaults) {
      if (!vault.at.starts_with('/')) continue;
      if (const auto space = free_space(vault.at); space && space->total > 0) spaces[vault.name] = *space;
    }
    if (stop.stop_requested()) return;
    seen_.with([&](Seen& seen) {
      seen.status = std::move(status);
      seen.trouble = std::move(trouble);
      seen.at = clock_.now();
      seen.is_any = true;
      seen.sizes = std::move(sizes);
      seen.spaces = std::move(spaces);
      seen.reviews = std::move(reviews);
      seen.is_new = true;
    });
  } while (sleep_for(stop, kLookEvery));
}

// A folder's disk knows what is on it; a store has to be listed.
void Noticer::Work::measure_vaults(std::stop_token stop) {
  std::map<std::string, Duration> again;  // by vault: not before
  do {
    const std::shared_ptr<const Config> config = *config_.lock();
    if (config->notify.empty()) continue;
    for (const VaultConfig& vault : config->vaults) {
      const Duration began = clock_.steady();
      const auto due = again.find(vault.name);
      if (vault.at.starts_with('/') || !vault.capacity || (due != again.end() && began < due->second))
        continue;
      const auto output = output_of({"vault", "show", vault.name, "--sizes"}, stop, kMeasuringMax);
      if (stop.stop_requested()) return;
      const auto bytes = output ? read_stored(*output) : std::nullopt;
      if (bytes) (*stored_.lock())[vault.name] = *bytes;
      const Duration ended = clock_.steady();
      again[vault.name] = ended + (bytes ? std::max(kMeasuredEvery, (ended - began) * kMeasuringShare)
                                         : kMeasuredAgainAfterFailure);
    }
  } while (sleep_for(stop, kLookEvery));
}

// Called only while jobs are scheduled and alerts decided: a process that merely exists is no sign of life.
void Noticer::Work::beat(std::stop_token stop) {
  std::optional<Duration> called;
  bool told = false;
  do {
    const std::shared_ptr<const Config> config = *config_.lock();
    if (!config->heartbeat) continue;
    if (called && clock_.steady() - *called < config->heartbeat->every) continue;
    if (!is_alive() || (settings_.is_well && !settings_.is_well())) continue;
    called = clock_.steady();
    const auto call = [&]() -> Result<int> {
      TRY_ASSIGN(const std::string url, config->heartbeat->to.fetch(world_));
      TRY_ASSIGN(const auto client, make_http_client({.ca_file = config->heartbeat->ca_file}));
      HttpRequest request;
      request.url = url;
      request.headers = {{"User-Agent", "kuramori"}};
      request.body_bytes_max = size_t{64} << 10;
      request.timeouts = {.connect = kHeartbeatMax,
                          .first_byte = kHeartbeatMax,
                          .stall = kHeartbeatMax,
                          .total = kHeartbeatMax};
      request.stop = stop;
      TRY_ASSIGN(const HttpAnswer answer, client->send(request));
      return answer.status;
    };
    const auto answer = call();
    const bool is_good = answer && *answer >= 200 && *answer < 300;
    // The address is a secret: its words are not said.
    if (!is_good && !std::exchange(told, true) && !stop.stop_requested())
      reporter_.warning(fmt::format("the heartbeat's address does not answer{}",
                                    answer ? fmt::format(" but with {}", *answer) : ""));
    if (is_good) told = false;
  } while (sleep_for(stop, kLookEvery));
}

Noticer::Noticer(NoticerSettings settings, Config config, Reporter& reporter)
    : work_(std::make_shared<Work>(std::move(settings), std::move(config), reporter)) {
  work_->start();
}

Noticer::~Noticer() {
  work_->stop();
}

void Noticer::reload() {
  work_->reload();
}

bool Noticer::is_alive() const {
  return work_->is_alive();
}

}  // namespace kuramori
