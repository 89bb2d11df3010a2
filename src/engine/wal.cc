#include "engine/wal.h"

#include <fcntl.h>
#include <fmt/core.h>

#include "engine/roles.h"
#include "os/file.h"
#include "source/postgres/control_file.h"
#include "source/postgres/lsn.h"

namespace kuramori {
namespace {

using postgres::WalFileKind;

// xlp_magic … of a segment's first page: XLogLongPageHeaderData (access/xlog_internal.h), the same from 13
// to 18.
constexpr size_t kLongHeaderBytes = 40;
constexpr uint16_t kLongHeaderFlag = 2;
struct SegmentHeader {
  uint32_t timeline = 0;
  uint64_t page_address = 0;
  uint64_t system_id = 0;
  uint32_t segment_bytes = 0;
};
Result<SegmentHeader> read_segment_header(std::string_view file, ByteView content) {
  auto damaged = [&](std::string why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is no WAL segment: {}", file, why), "",
                "look at the server's pg_wal; the file was not archived");
  };
  if (content.size() < kLongHeaderBytes) return damaged(fmt::format("it has {} bytes", content.size()));
  if (!(load_le<uint16_t>(content.data() + 2) & kLongHeaderFlag))
    return damaged("its first page has no long header");
  SegmentHeader header{.timeline = load_le<uint32_t>(content.data() + 4),
                       .page_address = load_le<uint64_t>(content.data() + 8),
                       .system_id = load_le<uint64_t>(content.data() + 24),
                       .segment_bytes = load_le<uint32_t>(content.data() + 32)};
  if (!postgres::is_segment_size(header.segment_bytes)) return damaged("its segment size is impossible");
  return header;
}

names::WalKind kind_of(WalFileKind kind) {
  switch (kind) {
    case WalFileKind::kSegment:
      return names::WalKind::kSegment;
    case WalFileKind::kPartial:
      return names::WalKind::kPartial;
    case WalFileKind::kHistory:
      return names::WalKind::kHistory;
    case WalFileKind::kBackup:
      return names::WalKind::kLabel;
  }
  return names::WalKind::kLabel;
}

postgres::PieceKind piece_kind(names::WalKind kind) {
  switch (kind) {
    case names::WalKind::kSegment:
      return postgres::PieceKind::kSegment;
    case names::WalKind::kPart:
      return postgres::PieceKind::kPart;
    case names::WalKind::kPartial:
      return postgres::PieceKind::kPartial;
    case names::WalKind::kHistory:
      return postgres::PieceKind::kHistory;
    case names::WalKind::kLabel:
      return postgres::PieceKind::kLabel;
  }
  return postgres::PieceKind::kLabel;
}

Result<WalPut> put_checked(Vault& vault, const ResourceRecord& resource, std::string_view file,
                           ByteView content, uint32_t segment_bytes, const postgres::ReadEarlierWal& earlier,
                           const WalArrival& arrive = {}, WalPushTools* tools = nullptr) {
  if (arrive) TRY(arrive(std::min<size_t>(content.size(), kWalFrameBytes)));
  TRY_ASSIGN(auto name, postgres::parse_wal_file_name(file, segment_bytes));
  WalHeader header{
      .system_id = 0, .timeline = name.timeline, .segment_bytes = segment_bytes, .file = std::string(file)};
  if (name.kind == WalFileKind::kSegment || name.kind == WalFileKind::kPartial) {
    TRY_ASSIGN(SegmentHeader inside, read_segment_header(file, content));
    std::string system = std::to_string(inside.system_id);
    if (system != resource.system) {
      return fail(
          ErrorKind::kRefused, fmt::format("{} belongs to another cluster", file),
          fmt::format("its system identifier is {}, {} has {}", system, resource.name, resource.system),
          "check which server this archive_command runs on (P40)");
    }
    if (content.size() != segment_bytes || inside.segment_bytes != segment_bytes) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("{} has {} bytes, a segment has {}", file, content.size(), segment_bytes));
    }
    // A segment that begins a timeline is copied from its parent: its first page may still name the parent.
    if (inside.page_address != name.start || inside.timeline > name.timeline) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("{} holds WAL of timeline {:X} from {}", file, inside.timeline,
                              postgres::format_lsn(inside.page_address)),
                  "its content is not what its name says: a recycled file",
                  "look at the server's pg_wal; the file was not archived");
    }
    header.from = name.start;
    header.to = name.start + segment_bytes;
  } else if (name.kind == WalFileKind::kBackup) {
    header.from = header.to = name.start;
  }
  header.system_id = std::strtoull(resource.system.c_str(), nullptr, 10);
  const bool is_whole = name.kind == WalFileKind::kSegment;
  WalPutOptions options{.changes = is_whole ? changes_of_segment(header, content, earlier) : WalChanges(),
                        .arrive = arrive};
  if (tools != nullptr) {
    options.helpers_max = tools->helpers_max;
    options.workshop = &tools->frames;
  }
  return put_wal(vault, resource.id, kind_of(name.kind), header, content, options);
}

// Whose WAL lies in a data directory.
Result<postgres::ControlFile> control_of(const std::string& data, const std::string& pushed) {
  auto bytes = read_file(join_path(data, "global/pg_control"));
  if (!bytes) {
    return fail(
        ErrorKind::kFailed, fmt::format("{} cannot be archived", pushed),
        fmt::format("{}/global/pg_control, which says whose WAL it is, cannot be read: {}", data,
                    bytes.error().why),
        "run it as archive_command (PostgreSQL's working folder is the data directory), or from there");
  }
  return postgres::parse_control_file(*bytes);
}

}  // namespace

WalChanges changes_of_segment(const WalHeader& header, ByteView content,
                              const postgres::ReadEarlierWal& earlier) {
  const postgres::SegmentPlace place{.system_id = header.system_id,
                                     .timeline = header.timeline,
                                     .start = header.from,
                                     .bytes = header.segment_bytes};
  return [place, content, earlier]() -> std::optional<Bytes> {
    const auto changed = postgres::scan_segment(place, content, earlier);
    return changed ? postgres::encode(*changed) : std::nullopt;
  };
}

Result<WalPut> push_wal_bytes(Vault& vault, const ResourceRecord& resource, std::string_view file,
                              ByteView content, const postgres::ReadEarlierWal& earlier) {
  uint32_t segment_bytes = postgres::kSegmentBytesDefault;
  if (postgres::is_segment_size(content.size())) segment_bytes = static_cast<uint32_t>(content.size());
  return put_checked(vault, resource, file, content, segment_bytes, earlier);
}

Result<std::string> resource_of_system(Vault& vault, uint64_t system_id,
                                       const std::vector<std::string>& configured) {
  TRY_ASSIGN(auto resources, vault.resources());
  for (const ResourceRecord& resource : resources) {
    if (resource.kind == "postgres" && resource.system == std::to_string(system_id) &&
        std::ranges::find(configured, resource.name) != configured.end())
      return resource.name;
  }
  return std::string();
}

Result<std::string> resource_of_server(Vault& vault, const WalPushRequest& request) {
  TRY_ASSIGN(auto control,
             control_of(request.data_directory.empty() ? "." : request.data_directory, request.path));
  return resource_of_system(vault, control.system_id, request.configured);
}

Result<ResourceRecord> resource_to_push_to(Vault& vault, uint64_t system_id, const WalPushRequest& request) {
  TRY(must_be_allowed(vault, Act::kArchive));
  std::string system = std::to_string(system_id);

  // It must be exactly one resource's; anything else is refused rather than filed under a guess.
  TRY_ASSIGN(auto resources, vault.resources());
  const ResourceRecord* found = nullptr;
  ResourceRecord made;
  for (const ResourceRecord& resource : resources) {
    if (resource.kind != "postgres") continue;
    if (request.resource.empty() ? resource.system != system : resource.name != request.resource) continue;
    if (found != nullptr) {
      return fail(
          ErrorKind::kRefused,
          fmt::format("system {} is both {} and {} in this vault", system, found->name, resource.name), "",
          "say which: kuramori wal push --resource NAME %p");
    }
    found = &resource;
  }
  if (found == nullptr) {
    std::vector<std::string> candidates;
    if (request.may_register && !request.resource.empty()) {
      candidates = {request.resource};
    } else if (request.resource.empty()) {
      for (const std::string& name : request.configured) {
        bool known = std::any_of(resources.begin(), resources.end(),
                                 [&](const ResourceRecord& resource) { return resource.name == name; });
        if (!known) candidates.push_back(name);
      }
    }
    if (candidates.size() == 1) {
      TRY_ASSIGN(made, vault.ensure_resource(candidates.front(), "postgres", system));
      found = &made;
    }
  }
  if (found == nullptr) {
    return fail(
        ErrorKind::kRefused, fmt::format("no resource of this vault is system {}", system),
        "WAL is filed under the resource whose system identifier it carries",
        "take a first snapshot (kuramori backup RESOURCE), or name it: kuramori wal push --resource NAME %p");
  }
  if (found->system != system) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} is system {}, this server is {}", found->name, found->system, system),
                "the cluster was made anew or upgraded", "give the new cluster a resource name of its own");
  }
  return *found;
}

Result<WalPut> push_wal_file(Vault& vault, const ResourceRecord& resource, uint32_t segment_bytes,
                             const Fd& file, const std::string& name, const postgres::ReadEarlierWal& earlier,
                             WalPushTools& tools) {
  // Every byte is read once, before anything is done with it: what is digested, compressed and stored is the
  // same, whatever happens to the file meanwhile.
  TRY_ASSIGN(FileStatus status, status_of(file, name));
  if (status.type != FileType::kFile) return fail(ErrorKind::kUsage, fmt::format("{} is no file", name));
  if (status.size > kWalFileBytesMax) {
    return fail(ErrorKind::kUsage,
                fmt::format("{} has {} bytes: no WAL file is that large", name, status.size));
  }
  if (tools.file.size() < status.size) tools.file = AlignedBuffer(status.size);
  const MutableByteView memory = tools.file.view().first(status.size);
  size_t read = 0;
  auto arrive = [&](size_t bytes) -> Result<void> {
    if (bytes <= read) return {};
    TRY(pread_full(file, read, memory.subspan(read, bytes - read), name));
    read = bytes;
    return {};
  };
  return put_checked(vault, resource, name, memory, segment_bytes, earlier, arrive, &tools);
}

void keep_tail_of(const std::string& path, const postgres::ControlFile& control) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || !path.substr(0, slash).ends_with("pg_wal")) return;
  const auto name = postgres::parse_segment_name(path.substr(slash + 1), control.segment_bytes);
  if (!name) return;
  postgres::keep_tail(path.substr(0, slash), {.system_id = control.system_id,
                                              .timeline = name->timeline,
                                              .start = name->start,
                                              .bytes = control.segment_bytes});
}

Result<WalPushOutcome> push_wal(Vault& vault, const WalPushRequest& request) {
  std::string data = request.data_directory.empty() ? "." : request.data_directory;
  std::string path = request.path.starts_with('/') ? request.path : join_path(data, request.path);
  TRY_ASSIGN(auto control, control_of(data, request.path));
  TRY_ASSIGN(ResourceRecord resource, resource_to_push_to(vault, control.system_id, request));
  TRY_ASSIGN(Fd file, open_file(path));
  TRY_ASSIGN(FileStatus status, status_of(file, path));
  const std::string name = path.substr(path.rfind('/') + 1);
  postgres::ReadEarlierWal earlier;
  if (auto segment = postgres::parse_segment_name(name, control.segment_bytes)) {
    earlier = postgres::earlier_in_folder(path.substr(0, path.size() - name.size()), segment->timeline,
                                          control.segment_bytes);
  }
  WalPushTools tools;
  TRY_ASSIGN(WalPut put, push_wal_file(vault, resource, control.segment_bytes, file, name, earlier, tools));
  keep_tail_of(path, control);
  return WalPushOutcome{.resource = resource.name, .put = put, .bytes = status.size};
}

Result<LoadedArchive> load_archive(Vault& vault, const ResourceRecord& resource) {
  TRY_ASSIGN(WalListing listing, list_wal(vault.store(), resource.id));
  uint32_t segment_bytes = postgres::kSegmentBytesDefault;
  std::vector<postgres::Piece> pieces;
  std::map<postgres::Timeline, std::string> histories;
  std::map<std::string, WalObject> by_name;
  for (const WalObject& object : listing.objects) {
    const names::WalName& name = object.name;
    if (name.kind == names::WalKind::kSegment) segment_bytes = static_cast<uint32_t>(name.to - name.from);
    pieces.push_back({.timeline = name.timeline,
                      .from = name.from,
                      .to = name.to,
                      .kind = piece_kind(name.kind),
                      .object = object.object,
                      .digest = name.digest,
                      .bytes = object.stored_bytes});
    by_name[object.object] = object;
    // What a history says is content: a writer or keeper sees that it is there, and no more.
    if (name.kind == names::WalKind::kHistory && vault.keys().reader) {
      TRY_ASSIGN(Bytes text, get_wal(vault, object));
      histories[name.timeline] = std::string(as_text(text));
    }
  }
  TRY_ASSIGN(auto archive, postgres::Archive::make(std::move(pieces), segment_bytes, histories));
  LoadedArchive loaded{.archive = std::move(archive), .objects = {}};
  for (const postgres::Piece& piece : loaded.archive.pieces())
    loaded.objects.push_back(by_name.at(piece.object));
  return loaded;
}

Result<Bytes> fetch_segment(Vault& vault, const LoadedArchive& loaded,
                            const postgres::SegmentSource& source) {
  Bytes segment(loaded.archive.segment_bytes());
  for (size_t piece : source.pieces) {
    const WalObject& object = loaded.objects[piece];
    TRY_ASSIGN(Bytes content, get_wal(vault, object));
    uint64_t at = object.name.from - source.start;
    if (object.name.from < source.start || at > segment.size()) {
      return fail(ErrorKind::kDamaged, fmt::format("{} does not lie in its segment", object.object));
    }
    std::copy_n(content.begin(), std::min<size_t>(content.size(), segment.size() - at),
                segment.begin() + static_cast<ptrdiff_t>(at));
  }
  return segment;
}

postgres::GetDecision look_up_wal_file(Vault& vault, const WalGetRequest& request, Bytes& content,
                                       std::optional<LoadedArchive>* archive) {
  if (auto allowed = must_be_allowed(vault, Act::kReadContent); !allowed)
    return postgres::stop_server(allowed.error());
  auto resource = vault.resource(request.resource);
  if (!resource) return postgres::stop_server(resource.error());
  auto loaded = load_archive(vault, *resource);
  postgres::GetDecision decision =
      loaded ? postgres::decide_get(loaded->archive, request.name, request.promise)
             : postgres::decide_get(Result<postgres::Archive>(loaded.error()), request.name, request.promise);
  if (decision.answer == postgres::Get::kFound) {
    Result<Bytes> fetched = Bytes{};
    if (decision.segment) {
      fetched = fetch_segment(vault, *loaded, *decision.segment);
    } else if (decision.object) {
      fetched = get_wal(vault, loaded->objects[*decision.object]);
    }
    if (!fetched) return postgres::stop_server(fetched.error());
    content = std::move(*fetched);
  }
  if (loaded && archive != nullptr) *archive = std::move(*loaded);
  return decision;
}

postgres::GetDecision get_wal_file(Vault& vault, const WalGetRequest& request) {
  Bytes content;
  postgres::GetDecision decision = look_up_wal_file(vault, request, content);
  if (decision.answer != postgres::Get::kFound) return decision;
  // The server reads what the path holds: whole or not there. It is its own copy, so it need not survive a
  // power cut.
  std::string temporary = request.path + ".kuramori";
  auto fd = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!fd) return postgres::stop_server(fd.error());
  if (auto done = write_full(*fd, content, temporary); !done) {
    ::unlink(temporary.c_str());
    return postgres::stop_server(done.error());
  }
  if (::rename(temporary.c_str(), request.path.c_str()) != 0) {
    return postgres::stop_server(system_error(fmt::format("{} cannot be put in place", request.path), errno));
  }
  return decision;
}

}  // namespace kuramori
