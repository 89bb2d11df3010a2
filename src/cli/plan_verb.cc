#include <fmt/core.h>

#include "base/bytes.h"
#include "cli/planning.h"
#include "cli/verbs.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr int kChangesFound = 10;  // of --detailed-exitcode

int exit_of(Context& context, bool changed) {
  return changed && context.line().has("detailed-exitcode") ? kChangesFound : 0;
}

Result<int> compare(Context& context, const std::string& other) {
  TRY_ASSIGN(const std::vector<ConfigChange> changes, changes_against(context, other));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/comparison/1").field("against", other);
    write_changes(json, changes);
    json.end_object();
    context.console().print_document(json);
  } else {
    TRY_ASSIGN(const Config* config, context.config());
    context.console().print(fmt::format("{} difference{} from {} to {}\n{}", changes.size(),
                                        changes.size() == 1 ? "" : "s", other, config->path,
                                        shown_changes(changes)));
  }
  return exit_of(context, !changes.empty());
}

}  // namespace

Result<int> run_plan(Context& context) {
  const Invocation& line = context.line();
  if (line.has("against")) {
    if (line.has("out"))
      return fail(ErrorKind::kUsage, "--against and --out do not go together",
                  "what is compared with a file is not applied", "leave out one of the two");
    return compare(context, line.value("against"));
  }
  TRY_ASSIGN(const Planned planned, make_plan(context));
  JsonWriter json;
  write_plan(json, planned);
  std::string document = json.take();
  if (line.has("out")) {
    const std::string saved = document + "\n";
    TRY(write_file_durably(line.value("out"), as_bytes(saved)));
  }
  Console& console = context.console();
  if (console.json())
    console.print(document + "\n");
  else
    console.print(shown_plan(planned));
  if (line.has("out")) console.note(fmt::format("do it: kuramori apply {}", line.value("out")));
  if (planned.lint.has_errors()) return exit_code(ErrorKind::kBrokenPromise);
  if (planned.is_partial()) return exit_code(ErrorKind::kPartial);
  return exit_of(context, planned.anything_to_do());
}

}  // namespace kuramori
