// `token new`: what somebody shows the daemon over HTTP, and what kuramori.yaml knows it by.
#include <fmt/core.h>

#include "cli/verbs.h"
#include "daemon/access.h"
#include "os/file.h"

namespace kuramori {
namespace {

// It stands in a line of YAML, in records and in messages.
bool is_name(std::string_view text) {
  constexpr size_t kNameMax = 64;
  return !text.empty() && text.size() <= kNameMax &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-") ==
             text.npos;
}

}  // namespace

Result<int> run_token_new(Context& context) {
  const Invocation& line = context.line();
  const std::string name = line.argument(0);
  if (!is_name(name))
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" cannot be the name of a token", name.substr(0, 64)),
                "it may hold letters, digits and . _ @ -", "kuramori token new prometheus");
  const std::string role = line.has("role") ? line.value("role") : std::string(name_of(AskerRole::kViewer));
  NewToken made = make_token(system_random());
  const std::string to = line.value("to");
  if (!to.empty()) {
    TRY(write_new_file(to, as_bytes(made.text + "\n"), 0600));
  }
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/token/1").field("name", name).field("role", role);
    json.field("hash", made.hash).field("file", to).key("token");
    to.empty() ? json.value(made.text) : json.null();
    json.end_object();
    context.console().print_document(json);
    return 0;
  }
  if (to.empty()) context.console().print(made.text + "\n");
  context.console().note(
      fmt::format("kuramori.yaml knows it by this:\n\nlisten:\n  tokens:\n    - {{ name: {}, role: "
                  "{}, hash: \"{}\" }}\n",
                  name, role, made.hash));
  return 0;
}

}  // namespace kuramori
