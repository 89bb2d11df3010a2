#include "source/postgres/backup_manifest.h"

#include <charconv>
#include <nlohmann/json.hpp>

namespace kuramori::postgres {
namespace {

using Json = nlohmann::json;

constexpr int kVersionMin = 1, kVersionMax = 2;  // 2, with the system identifier, from 17 on
constexpr std::string_view kVersionKey = "\"PostgreSQL-Backup-Manifest-Version\": ";
constexpr std::string_view kChecksumKey = "\"Manifest-Checksum\": \"";

Error damaged(std::string why) {
  return fail(ErrorKind::kDamaged, "the server's backup manifest cannot be read", std::move(why),
              "run the backup again");
}

std::string_view without_comma(std::string_view line) {
  while (!line.empty() && (line.back() == ',' || line.back() == ' ')) line.remove_suffix(1);
  return line;
}

std::string decoded_path(const Json& file) {
  if (file.contains("Path")) return file.at("Path").get<std::string>();
  const std::string hex = file.at("Encoded-Path").get<std::string>();
  auto bytes = from_hex(hex);
  return bytes ? std::string(as_text(*bytes)) : std::string();
}

// JSON has one kind of number: 1e55, -1 and 0.5 are none of a manifest's.
Result<uint64_t> whole_number(const Json& json, uint64_t max) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() > max)
    return damaged(fmt::format("{} is no whole number up to {}", json.dump(), max));
  return json.get<uint64_t>();
}

}  // namespace

Result<void> BackupManifest::feed(ByteView bytes) {
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const size_t part = end == std::string_view::npos ? rest.size() : end + 1;
    if (pending_.size() + part > kManifestLineBytesMax) return damaged("a line is too long");
    pending_.append(rest.substr(0, part));
    rest.remove_prefix(part);
    if (end == std::string_view::npos) break;
    // The checksum is over everything but its own, last line.
    if (!pending_.starts_with(kChecksumKey)) sum_.add(as_bytes(pending_));
    pending_.pop_back();
    TRY(line(pending_));
    pending_.clear();
  }
  return {};
}

Result<void> BackupManifest::line(std::string_view line) {
  try {
    switch (part_) {
      case Part::kHead: {
        std::string_view head = line;
        if (head.starts_with("{ ")) head.remove_prefix(2);
        if (head.starts_with(kVersionKey)) {
          head = without_comma(head.substr(kVersionKey.size()));
          int version = 0;
          std::from_chars(head.data(), head.data() + head.size(), version);
          if (version < kVersionMin || version > kVersionMax)
            return damaged(fmt::format("it is of the unknown version {}", head));
        } else if (head.starts_with("\"Files\": [")) {
          part_ = Part::kFiles;
        } else if (!head.starts_with("\"System-Identifier\": ")) {
          return damaged(fmt::format("nobody understands the line {}", line));
        }
        return {};
      }
      case Part::kFiles: {
        if (without_comma(line) == "]") {
          part_ = Part::kWal;
          return {};
        }
        const Json json = Json::parse(without_comma(line));
        ManifestFile file;
        file.path = decoded_path(json);
        TRY_ASSIGN(file.size, whole_number(json.at("Size"), UINT64_MAX));
        file.algorithm = json.value("Checksum-Algorithm", "");
        file.checksum = json.value("Checksum", "");
        if (file.path.empty()) return damaged("a file has no name");
        return take_(file);
      }
      case Part::kWal: {
        if (line.starts_with("\"WAL-Ranges\": [")) return {};
        if (without_comma(line) == "]") {
          part_ = Part::kTail;
          return {};
        }
        const Json json = Json::parse(without_comma(line));
        ManifestWal range;
        TRY_ASSIGN(const uint64_t timeline, whole_number(json.at("Timeline"), UINT32_MAX));
        range.timeline = static_cast<Timeline>(timeline);
        TRY_ASSIGN(range.start, parse_lsn(json.at("Start-LSN").get<std::string>()));
        TRY_ASSIGN(range.end, parse_lsn(json.at("End-LSN").get<std::string>()));
        wal_.push_back(range);
        return {};
      }
      case Part::kTail: {
        if (!line.starts_with(kChecksumKey))
          return damaged(fmt::format("nobody understands the line {}", line));
        std::string_view digest = line.substr(kChecksumKey.size());
        digest = digest.substr(0, digest.find('"'));
        if (sum_.finish().hex() != digest) return damaged("its checksum is wrong");
        part_ = Part::kDone;
        return {};
      }
      case Part::kDone:
        break;
    }
  } catch (const std::exception& error) {
    return damaged(error.what());
  }
  return damaged("something stands behind its end");
}

Result<void> BackupManifest::finish() {
  if (part_ != Part::kDone || !pending_.empty()) return damaged("it has no end");
  return {};
}

std::string ManifestWriter::summed(std::string text) {
  sum_.add(as_bytes(text));
  return text;
}

std::string ManifestWriter::head() {
  return summed(fmt::format(
      "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {},\n\"Files\": [", system_id_));
}

std::string ManifestWriter::file(std::string_view path, uint64_t size) {
  const std::string_view between = std::exchange(any_, true) ? ",\n" : "\n";
  return summed(
      fmt::format("{}{{ \"Path\": {}, \"Size\": {} }}", between, Json(std::string(path)).dump(), size));
}

std::string ManifestWriter::tail() {
  std::string text = summed(fmt::format(
      "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n",
      range_.timeline, format_lsn(range_.start), format_lsn(range_.end)));
  return text + fmt::format("{}{}\"}}\n", kChecksumKey, sum_.finish().hex());
}

std::string manifest_crc32c(uint32_t crc) {
  uint8_t raw[4];
  store_le(raw, crc);
  return to_hex(raw);
}

}  // namespace kuramori::postgres
