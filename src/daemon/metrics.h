// What the daemon knows, as Prometheus reads it (text format 0.0.4). Pure: facts in, text out.
//
// Names follow Prometheus' rules: base units (seconds, bytes), `_total` for what only grows,
// `_timestamp_seconds` for moments. Of an age there is a moment beside it: an age grows between two looks
// only if somebody counts.
#pragma once
#include <map>
#include <optional>
#include <string>

#include "daemon/run_tally.h"
#include "daemon/shown_documents.h"

namespace kuramori {

constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

struct MetricFacts {
  std::string version;
  Time now{}, started{};
  std::optional<ShownStatus> status;        // nothing: nobody could look yet
  std::optional<ShownAlerts> alerts;        // nothing: nothing is noticed here
  const RunTally* runs = nullptr;           // null: no plans run here
  std::map<std::string, bool> streams;      // whether each runs
  std::optional<double> heartbeat_seconds;  // since the loop of the jobs went round; nothing: there is none
};
std::string metrics_text(const MetricFacts& facts);

}  // namespace kuramori
