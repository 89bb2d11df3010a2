#include "source/secret/dotenv.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "crypto/digest.h"
#include "crypto/secret.h"

namespace kuramori::secret {
namespace {

bool is_key_start(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}
bool is_key_char(char c) {
  return is_key_start(c) || (c >= '0' && c <= '9') || c == '.' || c == '-';
}
bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

class DotenvReader {
 public:
  explicit DotenvReader(std::string_view text) : text_(text) {
    constexpr std::string_view kMark = "\xef\xbb\xbf";  // that some editors put before UTF-8
    if (text_.starts_with(kMark)) text_.remove_prefix(kMark.size());
    value_.reserve(text_.size());  // so that no copy of a value is left where it grew from
  }
  ~DotenvReader() { wipe(MutableByteView(value_)); }
  DotenvReader(const DotenvReader&) = delete;

  template <class Visit>
  Result<void> read(Visit&& visit) {
    while (at_ < text_.size()) {
      skip_blanks();
      if (at_end_of_line() || text_[at_] == '#') {
        skip_line();
        continue;
      }
      TRY_ASSIGN(std::string key, take_key());
      TRY(take_value());
      visit(key, ByteView(value_));
      wipe(MutableByteView(value_));
      value_.clear();
    }
    return {};
  }

 private:
  Error no_line(std::string_view why) const {
    return fail(ErrorKind::kUsage, fmt::format("line {} is no KEY=value: {}", line_, why));
  }
  bool at_end_of_line() const { return at_ >= text_.size() || text_[at_] == '\n' || text_[at_] == '\r'; }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  void skip_line() {
    while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    if (at_ < text_.size()) ++at_;
    ++line_;
  }

  Result<std::string> take_key() {
    constexpr std::string_view kExport = "export";
    if (text_.substr(at_).starts_with(kExport) && at_ + kExport.size() < text_.size() &&
        is_blank(text_[at_ + kExport.size()])) {
      at_ += kExport.size();
      skip_blanks();
    }
    const size_t begin = at_;
    if (at_ >= text_.size() || !is_key_start(text_[at_])) return no_line("it does not begin with a key");
    while (at_ < text_.size() && is_key_char(text_[at_])) ++at_;
    std::string key(text_.substr(begin, at_ - begin));
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != '=') return no_line("there is no \"=\" behind the key");
    ++at_;
    skip_blanks();
    return key;
  }

  Result<void> take_value() {
    if (!at_end_of_line() && (text_[at_] == '"' || text_[at_] == '\'')) {
      TRY(take_quoted(text_[at_]));
      skip_blanks();
      if (!at_end_of_line() && text_[at_] != '#') return no_line("something stands behind the closing quote");
      skip_line();
      return {};
    }
    const size_t begin = at_;
    while (!at_end_of_line() && !(text_[at_] == '#' && (at_ == begin || is_blank(text_[at_ - 1])))) ++at_;
    size_t end = at_;
    while (end > begin && is_blank(text_[end - 1])) --end;
    append(value_, as_bytes(text_.substr(begin, end - begin)));
    skip_line();
    return {};
  }

  Result<void> take_quoted(char quote) {
    const size_t first_line = line_;
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == quote) {
        ++at_;
        return {};
      }
      if (c == '\n') ++line_;
      if (c == '\\' && quote == '"' && at_ + 1 < text_.size()) {
        take_escaped(text_[++at_]);
        continue;
      }
      value_.push_back(static_cast<uint8_t>(c));
    }
    line_ = first_line;
    return no_line("its quote is not closed");
  }

  void take_escaped(char c) {
    switch (c) {
      case 'n':
        return value_.push_back('\n');
      case 'r':
        return value_.push_back('\r');
      case 't':
        return value_.push_back('\t');
      case '\n':
        ++line_;
        [[fallthrough]];
      default:
        break;
    }
    const bool is_meant = c == '"' || c == '\\' || c == '$';
    if (!is_meant) value_.push_back('\\');
    value_.push_back(static_cast<uint8_t>(c));
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t line_ = 1;
  Bytes value_;
};

}  // namespace

Result<std::vector<DotenvKey>> parse_dotenv(ByteView text) {
  std::map<std::string, Digest, std::less<>> keys;
  TRY(DotenvReader(as_text(text)).read([&](const std::string& name, ByteView value) {
    keys[name] = sha256(value);
  }));
  std::vector<DotenvKey> sorted;
  sorted.reserve(keys.size());
  for (auto& [name, value] : keys) sorted.push_back({name, value});
  return sorted;
}

Result<void> visit_dotenv(ByteView text,
                          const std::function<void(std::string_view name, std::string_view value)>& visit) {
  return DotenvReader(as_text(text)).read([&](const std::string& name, ByteView value) {
    visit(name, as_text(value));
  });
}

Result<std::vector<PartChange>> diff_keys(ByteView before, ByteView after) {
  TRY_ASSIGN(const auto old_keys, parse_dotenv(before));
  TRY_ASSIGN(const auto new_keys, parse_dotenv(after));
  using How = PartChange::How;
  std::vector<PartChange> changes;
  for (const DotenvKey& key : old_keys) {
    const auto now = std::ranges::lower_bound(new_keys, key.name, {}, &DotenvKey::name);
    if (now == new_keys.end() || now->name != key.name)
      changes.push_back({How::kRemoved, key.name});
    else if (now->value != key.value)
      changes.push_back({How::kChanged, key.name});
  }
  for (const DotenvKey& key : new_keys) {
    if (!std::ranges::binary_search(old_keys, key.name, {}, &DotenvKey::name))
      changes.push_back({How::kAdded, key.name});
  }
  std::ranges::sort(changes, {}, &PartChange::name);
  return changes;
}

}  // namespace kuramori::secret
