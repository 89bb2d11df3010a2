// `report` and `compliance`: what was promised, done and measured, for people who answer for it.
#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "cli/promising.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "crypto/digest.h"
#include "engine/locks.h"
#include "engine/report.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr mode_t kReportMode = 0640;
constexpr size_t kReportBytesMax = size_t{256} << 20;
constexpr std::string_view kSignaturePrefix = "kuramori report 1";
constexpr std::string_view kPeriods[] = {"day", "month", "quarter", "year"};

struct Accounts {
  const Config* config = nullptr;
  std::vector<VaultAccount> vaults;
  std::vector<ProtectionPromise> promises;
};

// Of every vault the command is about; one that cannot be looked at is named in the report.
Result<Accounts> look_at_all(Context& context, const std::vector<VaultChoice>& choices) {
  Accounts out;
  TRY_ASSIGN(out.config, context.config());
  for (const VaultChoice& choice : choices) {
    AccountRequest request{.name = choice.shown(), .stop = context.stop()};
    if (!choice.name.empty()) {
      TRY_ASSIGN(const VaultConfig* configured, out.config->vault(choice.name));
      request.site = configured->site;
      request.medium = medium_of(*configured);
    }
    TRY_ASSIGN(request.lock, lock_of(choice.location));
    auto account = [&]() -> Result<VaultAccount> {
      TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
      return account_of(*vault, request);
    }();
    if (account) {
      out.vaults.push_back(std::move(*account));
      continue;
    }
    if (choices.size() == 1) return account.error();
    VaultAccount nothing{.name = request.name, .site = request.site, .medium = request.medium};
    nothing.trouble = account.error().what;
    nothing.holdings.trouble = account.error();
    nothing.holdings.held.vault = request.name;
    nothing.holdings.held.site = request.site;
    out.vaults.push_back(std::move(nothing));
  }
  out.promises = promises_of(*out.config, "");
  return out;
}

Result<ReportPeriod> period_asked(Context& context) {
  std::string kind, text;
  for (const std::string_view one : kPeriods) {
    if (!context.line().has(one)) continue;
    if (!kind.empty())
      return fail(ErrorKind::kUsage, fmt::format("--{} and --{} name two periods", kind, one), "",
                  "name one");
    kind = one;
    text = context.line().value(one);
  }
  if (kind.empty()) kind = "month";
  const std::string zone = context.line().has("timezone") ? context.line().value("timezone") : machine_zone();
  Time now = context.clock().now();
  if (context.line().has("as-of")) {
    TRY_ASSIGN(const Moment moment, parse_moment(context.line().value("as-of"), zone));
    now = std::min(now, moment.time);
  }
  if (text == "this") text.clear();
  if (text != "last") return parse_report_period(kind, text, zone, now);
  TRY_ASSIGN(const ReportPeriod current, parse_report_period(kind, "", zone, now));
  TRY_ASSIGN(ReportPeriod last, parse_report_period(kind, "", zone, current.from - std::chrono::seconds(1)));
  last.as_of = last.until;
  return last;
}

Result<ReportPeriod> period_given(Context& context) {
  TRY_ASSIGN(ReportPeriod period, period_asked(context));
  period.is_past = context.line().has("as-of") || period.as_of == period.until;
  return period;
}

Bytes signed_message(ByteView report) {
  Bytes message = to_bytes(as_bytes(kSignaturePrefix));
  append(message, sha256(report).view());
  return message;
}

// FILE.sig: whose word the report is. The same report under the same key has the same signature.
std::string signature_of(const Vault& vault, const std::string& file, ByteView report) {
  const SigningKey& key = *vault.keys().signing;
  JsonWriter json(JsonWriter::Style::kIndented);
  json.begin_object().field("schema", "kuramori/report-signature/1").field("file", file);
  json.field("sha256", sha256(report).hex()).field("vault", vault.info().id.hex());
  json.field("key", key.verify_key().hex()).field("key_id", signer_id(key.verify_key()).hex());
  json.field("signature", to_base64(key.sign(signed_message(report)).view())).end_object();
  return json.take() + "\n";
}

// The value of a field of what signature_of() writes: text without escapes.
Result<std::string> field_of(const std::string& text, std::string_view name) {
  const std::string key = fmt::format("\"{}\": \"", name);
  const size_t at = text.find(key);
  const size_t end = at == text.npos ? at : text.find('"', at + key.size());
  if (end == text.npos)
    return fail(ErrorKind::kBrokenPromise, "the signature is not one of a report",
                fmt::format("it has no {}", name),
                "name the file that kuramori report --to wrote; its .sig lies beside it");
  return text.substr(at + key.size(), end - at - key.size());
}

Result<int> verify_report(Context& context, const std::string& path) {
  TRY_ASSIGN(const Bytes report, read_file(path, kReportBytesMax));
  TRY_ASSIGN(const Bytes sidecar_bytes, read_file(path + ".sig"));
  const std::string sidecar(as_text(sidecar_bytes));
  TRY_ASSIGN(const std::string key_hex, field_of(sidecar, "key"));
  TRY_ASSIGN(const std::string base64, field_of(sidecar, "signature"));
  auto key = VerifyKey::from_hex(key_hex);
  auto raw = from_base64(base64);
  auto signature = raw ? Signature::from_bytes(*raw) : Result<Signature>(raw.error());
  const bool fits = key && signature && verify(*key, signed_message(report), *signature);
  if (!fits)
    return fail(ErrorKind::kBrokenPromise, fmt::format("{} is not what was signed", path),
                "it or its signature was changed", "write it anew: kuramori report --to FILE");
  TRY_ASSIGN(const VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
  auto signer = vault->codec().signers().find(signer_id(*key));
  if (!signer)
    return fail(ErrorKind::kBrokenPromise,
                fmt::format("{} is signed by a key that {} does not know", path, choice.shown()),
                signer.error().what, "name the vault whose key signed it: --vault NAME");
  const std::string who = (*signer)->name.empty() ? std::string(name_of((*signer)->role)) : (*signer)->name;
  context.console().print(fmt::format("{} is as {} signed it{}\n", path, who,
                                      (*signer)->revoked ? "; that key was revoked since" : ""));
  return 0;
}

std::string format_by_name(const std::string& file) {
  for (const std::string_view format : {"csv", "json", "pdf"})
    if (file.ends_with(fmt::format(".{}", format))) return std::string(format);
  return "html";
}

Result<std::string> written(const Report& report, const std::string& format, std::stop_token stop) {
  if (format == "pdf") return report_pdf(report, std::move(stop));
  return format == "json" ? report_json(report) : format == "csv" ? report_csv(report) : report_html(report);
}

// Written beside and moved there: a report is whole or not there.
Result<void> write_whole(const std::string& path, std::string_view text) {
  return write_file_durably(path, as_bytes(text), kReportMode);
}

}  // namespace

Result<int> run_report(Context& context) {
  if (context.line().has("verify")) return verify_report(context, context.line().value("verify"));
  TRY_ASSIGN(const ReportPeriod period, period_given(context));
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  TRY_ASSIGN(const Accounts accounts, look_at_all(context, choices));
  const Report report = build_report(*accounts.config, accounts.vaults, accounts.promises, period);
  std::string format = context.line().value("format");
  const std::string to = context.line().value("to");
  if (format.empty()) format = format_by_name(to);
  if (context.console().json()) format = "json";
  if (format == "pdf" && to.empty())
    return fail(ErrorKind::kUsage, "a PDF is not for a terminal", "", "write it to a file: --to report.pdf");
  TRY_ASSIGN(const std::string text, written(report, format, context.stop()));
  if (to.empty()) {
    context.console().print(text);
    return 0;
  }
  TRY(write_whole(to, text));
  for (const VaultChoice& choice : choices) {
    auto vault = open_chosen(context, choice);
    if (!vault) continue;  // the report says that it could not be looked at
    TRY(write_whole(to + ".sig", signature_of(**vault, to.substr(to.rfind('/') + 1), as_bytes(text))));
    break;
  }
  context.console().note(fmt::format("{} of {}, with {} controls that fail; signed in {}.sig", to,
                                     period.name, report.red(), to));
  return 0;
}

Result<int> run_compliance(Context& context) {
  Console& console = context.console();
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  TRY_ASSIGN(const Accounts accounts, look_at_all(context, choices));
  std::vector<VaultHoldings> holdings;
  for (const VaultAccount& vault : accounts.vaults) holdings.push_back(vault.holdings);
  const Time now = context.clock().now();
  const std::vector<Protection> all = judge_protection(accounts.promises, holdings, now);
  const std::vector<Control> controls =
      judge_compliance(compliance_facts(*accounts.config, accounts.vaults, all), now);
  const bool red =
      std::ranges::any_of(controls, [](const Control& one) { return one.verdict == Verdict::kFail; });
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/compliance/1").field("time", format_utc(now));
    json.key("controls").begin_array();
    for (const Control& one : controls) {
      json.begin_object().field("id", one.id).field("title", one.title).field("about", one.about);
      json.field("verdict", name_of(one.verdict)).field("demanded", one.demanded);
      json.field("measured", one.measured).field("evidence", one.evidence).end_object();
    }
    json.end_array().end_object();
    console.print_document(json);
  } else {
    Table table({{"control"}, {"about"}, {"verdict"}, {"demanded"}, {"measured"}});
    for (const Control& one : controls) {
      const bool fails = one.verdict == Verdict::kFail;
      table.add({one.title, one.about, fails ? "FAIL" : std::string(name_of(one.verdict)), one.demanded,
                 one.measured});
    }
    console.print(table.text());
  }
  return red ? exit_code(ErrorKind::kBrokenPromise) : 0;
}

}  // namespace kuramori
