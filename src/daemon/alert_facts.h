// Where the facts of alerts come from: the journal of the daemon's jobs, and what `kuramori status` prints.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/job_journal.h"
#include "daemon/shown_documents.h"
#include "policy/troubles.h"

namespace kuramori {

constexpr size_t kRunsRemembered = 64;  // of each job, for failures and durations

// The newest runs of each job, as the journal says. It is asked only when somebody has written to it.
class JournalWatch {
 public:
  explicit JournalWatch(std::unique_ptr<JobJournal> journal) : journal_(std::move(journal)) {}
  // True: something has changed since.
  Result<bool> look();
  // Into `jobs`, by their ids.
  void fill(std::vector<JobFacts>& jobs) const;
  // Runs that ended and that `until` and `besides` do not have; they have them then. Nothing of what was
  // there before, where `is_first`.
  std::vector<Run> take_ended(int64_t& until, std::set<int64_t>& besides, bool is_first);

 private:
  std::unique_ptr<JobJournal> journal_;
  std::optional<int64_t> version_;
  struct Known {
    std::map<int64_t, Run, std::greater<>> ended;  // newest first
    std::optional<Run> open;
  };
  std::map<std::string, Known> jobs_;
  std::map<int64_t, Run> fresh_;  // that ended, since they were last taken
  std::set<int64_t> open_;
  int64_t newest_ = 0;
};

// Of `kuramori snapshots RESOURCE --json`: newest first.
std::vector<double> read_sizes(std::string_view document);

// Of `kuramori vault show NAME --sizes --json`: the bytes that are stored there.
std::optional<uint64_t> read_stored(std::string_view document);

// Of `kuramori review --json`: those that wait for somebody, of these resources. Nothing: it could not be
// looked at everywhere.
std::optional<std::vector<SeenReview>> read_reviews(std::string_view document, const Config& config);

// What the configuration says of other people's scripts; nobody has called yet.
std::vector<PingFacts> pings_of(const Config& config, Time began);
// What the configuration says of everything that is looked at. `began`: nothing was due before.
AlertFacts facts_of(const Config& config, Time began);
// Adds what was seen. `away`: since when each vault cannot be looked at; it is kept up to date.
void add_seen(AlertFacts& facts, const ShownStatus& status, std::map<std::string, Time>& away);
// Nothing could be looked at.
void add_unseen(AlertFacts& facts, const std::string& why, Time at, std::map<std::string, Time>& away);

}  // namespace kuramori
