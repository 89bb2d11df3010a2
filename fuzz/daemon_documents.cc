// Any bytes as a document that the daemon reads: what somebody posts to /api/1/jobs, what a daemon elsewhere
// answers to `top`, what its own runs print. The first byte says which. A value or an error in words, never a
// crash; and of what was read Prometheus gets lines that are its own, whatever names stand in it.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "daemon/alert_facts.h"
#include "daemon/job_process.h"
#include "daemon/metrics.h"
#include "daemon/shown_documents.h"

namespace {

using namespace kuramori;

void read_wish(std::string_view text) {
  const auto wish = read_job_wish(text);
  if (!wish) {
    CHECK(wish.error().kind == ErrorKind::kUsage && !wish.error().next.empty());
    return;
  }
  CHECK(wish->start.empty() == wish->cancel.has_value());
  CHECK(!wish->cancel || *wish->cancel > 0);
}

// A sample of ours or a comment, and the last line ends: a name with a line break in it must not begin one.
void check_metrics(const MetricFacts& facts) {
  const std::string text = metrics_text(facts);
  CHECK(text.ends_with('\n'));
  for (size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    const std::string_view line = std::string_view(text).substr(at, end - at);
    CHECK(line.starts_with("# ") || line.starts_with("kuramori_"));
  }
}

void read_all_of_status(std::string_view text) {
  auto status = read_status(text);
  if (!status) {
    CHECK(!status.error().what.empty());
    return;
  }
  MetricFacts facts{.version = "1", .now = status->at, .started = status->at};
  facts.alerts = status->alerts;
  facts.status = std::move(*status);
  check_metrics(facts);
}

// What comes in pieces is what comes at once.
void cut_into_lines(std::string_view text) {
  constexpr size_t kMax = 64;
  std::vector<std::string> whole, pieces;
  Lines at_once(kMax), by_piece(kMax);
  at_once.add(text, [&](std::string line) { whole.push_back(std::move(line)); });
  for (size_t i = 0; i < text.size(); ++i)
    by_piece.add(text.substr(i, 1), [&](std::string line) { pieces.push_back(std::move(line)); });
  CHECK(whole == pieces && at_once.take_rest() == by_piece.take_rest());
  for (const std::string& line : whole) CHECK(line.size() <= kMax);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      read_wish(text);
      break;
    case 1:
      read_all_of_status(text);
      break;
    case 2:
      if (const auto alerts = read_alerts(text)) check_metrics({.version = "1", .alerts = *alerts});
      break;
    case 3:
      (void)read_jobs(text);
      (void)read_error(text);
      break;
    case 4:
      (void)read_sizes(text);
      break;
    case 5:
      (void)read_job_result(text);
      (void)read_job_progress(text);
      (void)words_of_line(text);
      break;
    default:
      cut_into_lines(text);
      break;
  }
  return 0;
}
