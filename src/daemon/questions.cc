#include "daemon/questions.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/json_writer.h"
#include "daemon/job_process.h"

namespace kuramori {

std::string error_document(const Error& error) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/error/1").key("error").begin_object();
  json.field("kind", name_of(error.kind)).field("what", error.what);
  json.field("why", error.why).field("next", error.next).end_object().end_object();
  return json.take();
}

Questions::Questions(CommandOf command) : command_(std::move(command)) {
  // Threads that live as long as this: a program dies with the thread that started it.
  for (size_t i = 0; i < kQuestionsAtOnce; ++i)
    workers_.emplace_back([this](std::stop_token stop) { work(std::move(stop)); });
}

Questions::~Questions() {
  for (std::jthread& worker : workers_) worker.request_stop();
  changed_.notify_all();
}

std::shared_ptr<const Answered> Questions::ask(const std::vector<std::string>& words, Duration fresh,
                                               Duration patience) {
  const Duration begun = system_clock().steady();
  std::unique_lock lock(mutex_);
  Entry* entry = &entries_[words];
  const auto is_fresh = [&] {
    const auto& known = entry->newest;
    if (!known) return false;
    const Duration kept = known->code >= 0 ? known->took * kFreshPerTaken : known->took;
    return begun - known->at_steady <= std::max(fresh, kept);
  };
  if (!is_fresh()) {
    const auto before = entry->newest;
    if (!entry->is_asked) {
      if (queue_.size() >= kQuestionsWaiting) {
        auto last = entry->last;
        if (!last) entries_.erase(words);
        return last;
      }
      entry->is_asked = true;
      drop_oldest();
      queue_.push_back(words);
      changed_.notify_all();
    }
    changed_.wait_for(lock, patience, [&] {
      const auto at = entries_.find(words);
      entry = at == entries_.end() ? nullptr : &at->second;
      return entry == nullptr || entry->newest != before || !entry->is_asked;
    });
    if (entry == nullptr) return nullptr;
  }
  return entry->last ? entry->last : entry->newest;
}

void Questions::forget() {
  const std::lock_guard hold(mutex_);
  ++forgotten_;
  std::erase_if(entries_, [](const auto& one) { return !one.second.is_asked; });
  for (auto& [words, entry] : entries_) entry.last = entry.newest = nullptr;
}

void Questions::drop_oldest() {
  while (entries_.size() > kAnswersKept) {
    auto oldest = entries_.end();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->second.is_asked || !at->second.newest) continue;
      if (oldest == entries_.end() || at->second.newest->at_steady < oldest->second.newest->at_steady)
        oldest = at;
    }
    if (oldest == entries_.end()) return;
    entries_.erase(oldest);
  }
}

void Questions::work(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !queue_.empty(); })) {
    const std::vector<std::string> words = std::move(queue_.front());
    queue_.pop_front();
    const uint64_t forgotten = forgotten_;
    lock.unlock();
    auto answer = std::make_shared<const Answered>(run(words, stop));
    lock.lock();
    Entry& entry = entries_[words];
    entry.is_asked = false;
    if (forgotten == forgotten_) {
      entry.newest = answer;
      // One that came to no answer says nothing new: what was known before is shown with its age.
      if (answer->code >= 0 || !entry.last) entry.last = answer;
    }
    changed_.notify_all();
  }
}

Answered Questions::run(const std::vector<std::string>& words, std::stop_token stop) const {
  Clock& clock = system_clock();
  Answered answer{.code = -1, .at = clock.now(), .at_steady = clock.steady()};
  Command command{.argv = command_(words)};
  command.set = without_service_manager();
  command.die_with_us = true;
  command.timeout = kQuestionTimeMax;
  command.output_max = kAnswersBytesMax;
  command.stop = std::move(stop);
  auto done = kuramori::run(command);
  answer.took = clock.steady() - answer.at_steady;
  if (!done) {
    answer.document = error_document(std::move(done).error());
  } else if (done->output_truncated || done->output.empty() || done->exit.signal != 0) {
    answer.document = error_document(
        fail(ErrorKind::kFailed, fmt::format("kuramori {} gave no answer", words.front()),
             done->output_truncated ? "it is too long" : done->exit.describe(), "ask for less of it"));
  } else {
    answer.code = done->exit.code;
    answer.document = std::move(done->output);
  }
  return answer;
}

}  // namespace kuramori
