// A report as PDF: the HTML as WeasyPrint prints it. It fetches nothing (the page names nothing to fetch),
// and writes neither a time nor a number of its own: the same facts give the same bytes under the same
// version.
#include <fmt/core.h>

#include "engine/report.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr const char* kProgram = "weasyprint";
constexpr Duration kPrintMax = std::chrono::minutes(5);
constexpr size_t kPdfBytesMax = size_t{256} << 20;

}  // namespace

Result<std::string> report_pdf(const Report& report, std::stop_token stop) {
  const auto program = find_program(kProgram);
  if (!program)
    return fail(
        ErrorKind::kRefused, "a report becomes a PDF by WeasyPrint, which is not installed on this machine",
        program.error().what, "apt-get install weasyprint; or --format html, which a browser prints on A4");
  TRY_ASSIGN(Finished done, run({.argv = {*program, "--encoding", "utf-8", "-", "-"},
                                 // The parts of fonts in it have a date, and names out of Python's hashes.
                                 .set = {{"SOURCE_DATE_EPOCH", "0"}, {"PYTHONHASHSEED", "0"}},
                                 .input = report_html(report),
                                 .output_max = kPdfBytesMax,
                                 .timeout = kPrintMax,
                                 .stop = std::move(stop)}));
  if (!done.exit.ok() || done.output_truncated || !done.output.starts_with("%PDF"))
    return fail(ErrorKind::kFailed,
                fmt::format("{} did not print the report: {}", kProgram, done.exit.describe()), done.errors);
  return std::move(done.output);
}

}  // namespace kuramori
