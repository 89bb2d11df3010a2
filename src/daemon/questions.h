// What the command line answers, asked by the daemon: each question is a run of this program with --json, so
// that what is shown over HTTP is what is printed, in the same words, and a vault that hangs hangs a process
// that can be ended, never the daemon.
//
// Answers are kept for a while, with the moment they are of. Of one question one run is at work at a time,
// whoever asks it: a hundred watchers cost as much as one.
#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/world.h"

namespace kuramori {

constexpr size_t kQuestionsAtOnce = 3;                          // runs
constexpr size_t kQuestionsWaiting = 32;                        // for one to end; more are turned away
constexpr size_t kAnswersKept = 64;                             // the oldest goes
constexpr size_t kAnswersBytesMax = size_t{64} << 20;           // of one document
constexpr Duration kQuestionTimeMax = std::chrono::minutes(2);  // then its run is ended
// An answer that took long is kept as many times longer: watching costs at most a tenth of a processor.
constexpr int kFreshPerTaken = 10;

struct Answered {
  int code = 1;          // how the run ended; -1: it was ended, or never begun
  std::string document;  // what it printed; an error document where it did not
  Time at;               // when it was asked
  Duration at_steady{0}, took{0};
};

class Questions {
 public:
  // `command`: the whole line that runs this program with these words.
  using CommandOf = std::function<std::vector<std::string>(const std::vector<std::string>& words)>;
  explicit Questions(CommandOf command);
  ~Questions();  // ends what runs

  // An answer no older than `fresh` if there is one within `patience`; else an older one; null: there is none
  // at all yet, or too much is being asked.
  std::shared_ptr<const Answered> ask(const std::vector<std::string>& words, Duration fresh,
                                      Duration patience);
  // All answers are of before: the configuration is another one.
  void forget();

 private:
  struct Entry {
    std::shared_ptr<const Answered> last;  // that had an answer, rather than none in time
    std::shared_ptr<const Answered> newest;
    bool is_asked = false;
  };
  void work(std::stop_token stop);
  Answered run(const std::vector<std::string>& words, std::stop_token stop) const;
  void drop_oldest();  // with mutex_ held

  const CommandOf command_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::vector<std::string>, Entry> entries_;  // guarded by mutex_
  std::deque<std::vector<std::string>> queue_;         // guarded by mutex_
  uint64_t forgotten_ = 0;                             // guarded by mutex_: how often
  std::vector<std::jthread> workers_;
};

// {"schema":"kuramori/error/1", …}
std::string error_document(const Error& error);

}  // namespace kuramori
