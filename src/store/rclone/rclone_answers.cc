#include "store/rclone/rclone_answers.h"

#include <nlohmann/json.hpp>

#include "base/time_text.h"

namespace kuramori {
namespace {

constexpr size_t kErrorBytesMax = 600;  // of a message that is no JSON

// Takes items as they pass: a long list is never a tree in memory.
class ItemReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<RcloneItem> items;
  bool item_is_null = false;
  bool list_is_there = false;

  bool key(string_t& name) override {
    key_ = std::move(name);
    if (depth_ == 1) part_ = key_;
    list_is_there = list_is_there || part_ == "list";
    return true;
  }
  bool start_object(size_t) override {
    if (++depth_ == 2 && is_item()) current_ = RcloneItem{};
    return true;
  }
  bool end_object() override {
    if (depth_-- == 2 && is_item()) items.push_back(std::move(current_));
    return true;
  }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool string(string_t& text) override {
    if (!in_item()) return true;
    if (key_ == "Path") current_.info.name = std::move(text);
    if (key_ == "ModTime") {
      if (auto moment = parse_moment(text)) current_.info.stored_at = moment->time;
    }
    return true;
  }
  bool number(int64_t value) {
    if (in_item() && key_ == "Size") current_.info.size = value < 0 ? 0 : static_cast<uint64_t>(value);
    return true;
  }
  bool number_integer(number_integer_t value) override { return number(value); }
  bool number_unsigned(number_unsigned_t value) override { return number(static_cast<int64_t>(value)); }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool boolean(bool truth) override {
    if (in_item() && key_ == "IsDir") current_.is_folder = truth;
    return true;
  }
  bool null() override {
    if (depth_ == 1 && part_ == "item") item_is_null = true;
    return true;
  }
  bool binary(binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool is_item() const { return part_ == "list" || part_ == "item"; }
  bool in_item() const { return depth_ == 2 && is_item(); }

  int depth_ = 0;
  std::string part_, key_;
  RcloneItem current_;
};

Error no_answer() {
  return fail(ErrorKind::kDamaged, "rclone answered what cannot be read", "",
              "look at its version: rclone version");
}

}  // namespace

Result<std::vector<RcloneItem>> parse_rclone_list(ByteView json) {
  ItemReader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) return no_answer();
  if (!reader.list_is_there) return no_answer();
  return std::move(reader.items);
}

Result<std::optional<RcloneItem>> parse_rclone_item(ByteView json) {
  ItemReader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) return no_answer();
  if (reader.item_is_null) return std::optional<RcloneItem>();
  if (reader.items.size() != 1) return no_answer();
  return std::optional(std::move(reader.items.front()));
}

std::string parse_rclone_error(ByteView json) {
  auto parsed = nlohmann::json::parse(json.begin(), json.end(), nullptr, false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_string())
    return parsed["error"].get<std::string>();
  return {reinterpret_cast<const char*>(json.data()), std::min(json.size(), kErrorBytesMax)};
}

}  // namespace kuramori
