#include "source/postgres/base_backup.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "source/postgres/replication_connection.h"

namespace kuramori::postgres {
namespace {

constexpr uint32_t kTypedFrom = 150000;                // one stream of typed messages
constexpr int kWaitMilliseconds = 500;                 // between looks at the stop token
constexpr uint64_t kRateMin = 32, kRateMax = 1 << 20;  // MAX_RATE, in KiB a second (basebackup.h)
constexpr std::string_view kDataCorrupted = "XX001";

struct FreeResult {
  void operator()(PGresult* raw) const { PQclear(raw); }
};
using AnyResult = std::unique_ptr<PGresult, FreeResult>;

struct FreeMemory {
  void operator()(char* raw) const { PQfreemem(raw); }
};

Error unreadable(std::string why) {
  return fail(ErrorKind::kFailed, "the server's base backup cannot be understood", std::move(why),
              "run the backup again");
}

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += '\'';
    out += c;
  }
  return out + "'";
}

template <class T>
Result<T> number(std::string_view text) {
  T value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size())
    return unreadable(fmt::format("'{}' is no number", text));
  return value;
}

}  // namespace

std::string base_backup_command(uint32_t server_version, const BaseBackupOptions& options) {
  const bool listed = server_version >= kTypedFrom;
  std::vector<std::string> words;
  const auto add = [&](std::string_view now, std::string_view before) {
    words.emplace_back(listed ? now : before);
  };
  words.push_back("LABEL " + quoted(options.label));
  add("PROGRESS", "PROGRESS");
  if (options.fast_checkpoint) add("CHECKPOINT 'fast'", "FAST");
  add("WAIT false", "NOWAIT");  // for the archiver: the snapshot takes its WAL itself
  if (options.bytes_per_second > 0) {
    const uint64_t rate = std::clamp(options.bytes_per_second / 1024, kRateMin, kRateMax);
    words.push_back(fmt::format("MAX_RATE {}", rate));
  }
  if (options.tablespace_map) words.emplace_back("TABLESPACE_MAP");
  add("MANIFEST 'yes'", "MANIFEST 'yes'");
  add("MANIFEST_CHECKSUMS 'CRC32C'", "MANIFEST_CHECKSUMS 'CRC32C'");
  // The server reads a page again that looks torn: its checks stay on, as this side cannot.
  if (listed) words.emplace_back("VERIFY_CHECKSUMS true");
  if (options.older_manifest) words.emplace_back("INCREMENTAL");
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += listed ? ", " : " ";
    text += word;
  }
  return listed ? fmt::format("BASE_BACKUP ({})", text) : "BASE_BACKUP " + text;
}

struct BaseBackup::State {
  PGconn* raw = nullptr;
  bool typed = false;
  std::stop_token stop;
  BackupBounds bounds;
  std::vector<BackupTablespace> tablespaces;
  std::unique_ptr<char, FreeMemory> message;
  size_t next_stream = 0;  // before 15: of the tablespace, behind them the manifest
  bool in_copy = false;
  bool in_manifest = false;

  ~State() {
    if (raw) PQfinish(raw);
  }
  Error lost(const PGresult* result, std::string what) {
    Error error = replication_error(raw, result, std::move(what));
    if (error.kind == ErrorKind::kUnknown) {
      error.kind = ErrorKind::kFailed;
      if (error.next.empty())
        error.next = "look into the server's log, then run the backup again; what came is no snapshot";
    }
    return error;
  }
  Result<void> wait();
  Result<AnyResult> next_result();
  Result<void> identify();
  Result<void> upload(const BaseBackupOptions& options);
  Result<void> begin(const std::string& command);
  Result<BackupMessage> typed_message(std::string_view text);
  Result<BackupMessage> end();
};

// For more of the server's answer.
Result<void> BaseBackup::State::wait() {
  pollfd place{.fd = PQsocket(raw), .events = POLLIN, .revents = 0};
  const int ready = ::poll(&place, 1, kWaitMilliseconds);
  if (ready < 0 && errno != EINTR) return system_error("cannot wait for the server", errno);
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
  if (ready > 0 && PQconsumeInput(raw) == 0) return lost(nullptr, "the base backup was cut off");
  return {};
}

Result<AnyResult> BaseBackup::State::next_result() {
  while (PQisBusy(raw) != 0) TRY(wait());
  return AnyResult(PQgetResult(raw));
}

Result<void> BaseBackup::State::identify() {
  const AnyResult result(PQexec(raw, "IDENTIFY_SYSTEM"));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK || PQntuples(result.get()) != 1)
    return lost(result.get(), "the server does not say which it is");
  TRY_ASSIGN(bounds.system_id, number<uint64_t>(PQgetvalue(result.get(), 0, 0)));
  return {};
}

Result<void> BaseBackup::State::upload(const BaseBackupOptions& options) {
  constexpr const char* kWhat = "the server does not take the manifest of the snapshot before";
  const AnyResult begun(PQexec(raw, "UPLOAD_MANIFEST"));
  if (PQresultStatus(begun.get()) != PGRES_COPY_IN) return lost(begun.get(), kWhat);
  TRY(options.older_manifest([this](std::string_view text) -> Result<void> {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
    if (PQputCopyData(raw, text.data(), static_cast<int>(text.size())) <= 0) return lost(nullptr, kWhat);
    return {};
  }));
  if (PQputCopyEnd(raw, nullptr) <= 0) return lost(nullptr, kWhat);
  TRY_ASSIGN(const AnyResult ended, next_result());
  if (PQresultStatus(ended.get()) != PGRES_COMMAND_OK) return lost(ended.get(), kWhat);
  for (;;) {
    TRY_ASSIGN(const AnyResult more, next_result());
    if (!more) return {};
  }
}

Result<void> BaseBackup::State::begin(const std::string& command) {
  constexpr const char* kWhat = "the server does not begin a base backup";
  if (PQsendQuery(raw, command.c_str()) == 0) return lost(nullptr, kWhat);
  TRY_ASSIGN(const AnyResult start, next_result());
  if (PQresultStatus(start.get()) != PGRES_TUPLES_OK || PQntuples(start.get()) != 1)
    return lost(start.get(), kWhat);
  TRY_ASSIGN(bounds.start, parse_lsn(PQgetvalue(start.get(), 0, 0)));
  TRY_ASSIGN(bounds.timeline, number<Timeline>(PQgetvalue(start.get(), 0, 1)));
  TRY_ASSIGN(const AnyResult list, next_result());
  if (PQresultStatus(list.get()) != PGRES_TUPLES_OK || PQnfields(list.get()) < 3)
    return lost(list.get(), kWhat);
  for (int row = 0; row < PQntuples(list.get()); ++row) {
    BackupTablespace tablespace;
    if (PQgetisnull(list.get(), row, 0) == 0) {
      TRY_ASSIGN(tablespace.oid, number<uint32_t>(PQgetvalue(list.get(), row, 0)));
    }
    tablespace.path = PQgetvalue(list.get(), row, 1);
    if (PQgetisnull(list.get(), row, 2) == 0) {
      TRY_ASSIGN(const int64_t kilobytes, number<int64_t>(PQgetvalue(list.get(), row, 2)));
      tablespace.bytes = static_cast<uint64_t>(std::max<int64_t>(kilobytes, 0)) * 1024;
    }
    tablespaces.push_back(std::move(tablespace));
  }
  return {};
}

// 'n' archive NUL path NUL · 'd' bytes · 'm' · 'p' bytes done (protocol, "BASE_BACKUP")
Result<BackupMessage> BaseBackup::State::typed_message(std::string_view text) {
  if (text.empty()) return unreadable("a message is empty");
  const std::string_view rest = text.substr(1);
  switch (text.front()) {
    case 'n': {
      const std::string_view archive = rest.substr(0, rest.find('\0'));
      BackupMessage begun{.kind = BackupMessage::Kind::kArchive};
      in_manifest = false;
      if (archive == "base.tar") return begun;
      if (!archive.ends_with(".tar")) return unreadable(fmt::format("'{}' is no archive", archive));
      TRY_ASSIGN(begun.tablespace, number<uint32_t>(archive.substr(0, archive.size() - 4)));
      return begun;
    }
    case 'd':
      return BackupMessage{.kind = in_manifest ? BackupMessage::Kind::kManifest : BackupMessage::Kind::kData,
                           .bytes = as_bytes(rest)};
    case 'm':
      in_manifest = true;
      return BackupMessage{.kind = BackupMessage::Kind::kManifest};
    case 'p':  // counted here from what comes
      return BackupMessage{.kind = in_manifest ? BackupMessage::Kind::kManifest : BackupMessage::Kind::kData};
    default:
      return unreadable(fmt::format("a message is of the unknown type {}", static_cast<int>(text.front())));
  }
}

Result<BackupMessage> BaseBackup::State::end() {
  constexpr const char* kWhat = "the server did not end the base backup; what came is no snapshot";
  TRY_ASSIGN(const AnyResult stopped, next_result());
  if (PQresultStatus(stopped.get()) != PGRES_TUPLES_OK || PQntuples(stopped.get()) != 1)
    return lost(stopped.get(), kWhat);
  TRY_ASSIGN(bounds.stop, parse_lsn(PQgetvalue(stopped.get(), 0, 0)));
  TRY_ASSIGN(bounds.stop_timeline, number<Timeline>(PQgetvalue(stopped.get(), 0, 1)));
  // Everything has come. A page that the server found damaged makes it end in an error all the same: what is
  // to be done about it, who takes the snapshot decides (P3).
  TRY_ASSIGN(const AnyResult ended, next_result());
  if (PQresultStatus(ended.get()) == PGRES_FATAL_ERROR) {
    const char* sqlstate = PQresultErrorField(ended.get(), PG_DIAG_SQLSTATE);
    if (sqlstate == nullptr || sqlstate != kDataCorrupted) return lost(ended.get(), kWhat);
    bounds.checksums_failed = true;
  } else if (PQresultStatus(ended.get()) != PGRES_COMMAND_OK) {
    return lost(ended.get(), kWhat);
  }
  return BackupMessage{};
}

BaseBackup::BaseBackup(std::unique_ptr<State> state) : state_(std::move(state)) {}
BaseBackup::BaseBackup(BaseBackup&&) noexcept = default;
BaseBackup::~BaseBackup() = default;

Result<BaseBackup> BaseBackup::begin(const std::string& connect, uint32_t server_version,
                                     const BaseBackupOptions& options, std::stop_token stop) {
  auto state = std::make_unique<State>();
  TRY_ASSIGN(state->raw, open_replication(connect, "kuramori"));
  state->typed = server_version >= kTypedFrom;
  state->stop = std::move(stop);
  TRY(state->identify());
  if (options.older_manifest) TRY(state->upload(options));
  TRY(state->begin(base_backup_command(server_version, options)));
  return BaseBackup(std::move(state));
}

const BackupBounds& BaseBackup::bounds() const {
  return state_->bounds;
}

const std::vector<BackupTablespace>& BaseBackup::tablespaces() const {
  return state_->tablespaces;
}

Result<BackupMessage> BaseBackup::receive(const std::stop_token& stop) {
  State& s = *state_;
  s.stop = stop;
  if (!s.in_copy) {
    const size_t streams = s.typed ? 1 : s.tablespaces.size() + 1;
    if (s.next_stream == streams) return s.end();
    TRY_ASSIGN(const AnyResult begun, s.next_result());
    if (PQresultStatus(begun.get()) != PGRES_COPY_OUT)
      return s.lost(begun.get(), "the server does not send what it announced");
    s.in_copy = true;
    const size_t stream = s.next_stream++;
    if (!s.typed) {
      s.in_manifest = stream == s.tablespaces.size();
      if (s.in_manifest) return BackupMessage{.kind = BackupMessage::Kind::kManifest};
      return BackupMessage{.kind = BackupMessage::Kind::kArchive, .tablespace = s.tablespaces[stream].oid};
    }
  }
  for (;;) {
    char* buffer = nullptr;
    const int bytes = PQgetCopyData(s.raw, &buffer, 1);
    s.message.reset(buffer);
    if (bytes > 0) {
      const std::string_view text(buffer, static_cast<size_t>(bytes));
      if (s.typed) return s.typed_message(text);
      return BackupMessage{
          .kind = s.in_manifest ? BackupMessage::Kind::kManifest : BackupMessage::Kind::kData,
          .bytes = as_bytes(text)};
    }
    if (bytes == -1) {
      s.in_copy = false;
      return receive(stop);
    }
    if (bytes < -1) return s.lost(nullptr, "the base backup was cut off");
    TRY(s.wait());
  }
}

}  // namespace kuramori::postgres
