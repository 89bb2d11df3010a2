#include "engine/look_around.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <set>

#include "base/bytes.h"
#include "os/file.h"
#include "policy/config_text.h"
#include "policy/yaml_tree.h"
#include "source/postgres/connection.h"
#include "source/redis/connection.h"
#include "source/redis/url.h"
#include "source/secret/dotenv.h"

extern char** environ;

namespace kuramori {
namespace {

constexpr size_t kTextBytesMax = size_t{1} << 20;  // of a .env, a compose file, .git/config
constexpr size_t kDatabasesMax = 100;
constexpr Duration kRedisAnswersWithin = std::chrono::seconds(3);
constexpr const char* kConnectWithin = " connect_timeout=3";
constexpr std::array<std::string_view, 2> kSocketFolders = {"/var/run/postgresql", "/tmp"};
constexpr std::string_view kSocketPrefix = ".s.PGSQL.";

using Variables = std::map<std::string, Secret>;  // their values may be secrets

std::string text_of(const Secret& secret) {
  return std::string(as_text(secret.view()));
}
std::string value_of(const Variables& variables, const std::string& name) {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : text_of(found->second);
}
Secret secret_of(std::string_view text) {
  return Secret::copy_of(as_bytes(text));
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A value of a connection string.
std::string conninfo_value(std::string_view text) {
  if (!text.empty() && text.find_first_of(" '\\") == text.npos) return std::string(text);
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

struct Address {
  std::string host, port, user, database;
  Secret password;
};

std::string conninfo_of(const Address& address) {
  std::string out = "host=" + conninfo_value(address.host);
  if (!address.port.empty()) out += " port=" + conninfo_value(address.port);
  if (!address.user.empty()) out += " user=" + conninfo_value(address.user);
  return out;
}

// postgres://user:password@host:port/database?host=/socket
std::optional<Address> parse_database_url(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == url.npos || !url.starts_with("postgres")) return {};
  std::string_view rest = url.substr(scheme + 3);
  Address out;
  const size_t question = rest.find('?');
  if (question != rest.npos) {
    for (std::string_view query = rest.substr(question + 1); !query.empty();) {
      const size_t end = query.find('&');
      const std::string_view pair = query.substr(0, end);
      if (pair.starts_with("host=")) out.host = percent_decoded(pair.substr(5));
      if (pair.starts_with("port=")) out.port = percent_decoded(pair.substr(5));
      if (pair.starts_with("user=")) out.user = percent_decoded(pair.substr(5));
      query = end == query.npos ? std::string_view() : query.substr(end + 1);
    }
    rest = rest.substr(0, question);
  }
  const size_t slash = rest.find('/');
  if (slash != rest.npos) out.database = percent_decoded(rest.substr(slash + 1));
  std::string_view authority = rest.substr(0, slash);
  if (const size_t at = authority.rfind('@'); at != authority.npos) {
    const std::string_view user = authority.substr(0, at);
    authority = authority.substr(at + 1);
    const size_t colon = user.find(':');
    out.user = percent_decoded(user.substr(0, colon));
    if (colon != user.npos) out.password = secret_of(percent_decoded(user.substr(colon + 1)));
  }
  const size_t colon = authority.rfind(':');
  if (colon != authority.npos && !authority.ends_with(']')) {
    out.port = std::string(authority.substr(colon + 1));
    authority = authority.substr(0, colon);
  }
  if (out.host.empty()) out.host = percent_decoded(authority);
  if (out.host.empty()) out.host = "localhost";
  return out;
}

class LookAround {
 public:
  explicit LookAround(const LookRequest& request) : request_(request) { out_.found.folder = request.folder; }

  LookedAround take() {
    for (char** one = environ; *one != nullptr; ++one) {
      const std::string_view line(*one);
      if (const size_t equals = line.find('='); equals != line.npos)
        environment_.emplace(std::string(line.substr(0, equals)), secret_of(line.substr(equals + 1)));
    }
    look_into(request_.folder);
    look_at_subfolders();
    find_repository();
    if (!request_.connect.empty()) {
      FoundPostgres named{.connect = request_.connect, .from = "--connect"};
      ask(named, nullptr);
    }
    use_variables(environment_, "the environment");
    for (auto& [path, variables] : files_) use_variables(variables, path);
    for (const std::string& path : out_.found.compose_files) use_compose(path);
    if (request_.sockets) find_servers();
    return std::move(out_);
  }

 private:
  static std::optional<Bytes> read_text(const std::string& path) {
    auto bytes = read_file(path, kTextBytesMax);
    return bytes ? std::optional(std::move(*bytes)) : std::nullopt;
  }

  void look_into(const std::string& folder) {
    auto listed = list_folder(folder);
    if (!listed) return;
    for (const FolderEntry& entry : *listed) {
      if (entry.type != FileType::kFile) continue;
      const std::string path = join_path(folder, entry.name);
      const bool is_example =
          entry.name.find("example") != entry.name.npos || entry.name.find("sample") != entry.name.npos;
      if ((entry.name == ".env" || entry.name.starts_with(".env.")) && !is_example) {
        out_.found.env_files.push_back(path);
        read_variables(path);
      }
      for (const std::string_view name :
           {"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"})
        if (entry.name == name) out_.found.compose_files.push_back(path);
    }
  }

  void look_at_subfolders() {
    auto listed = list_folder(request_.folder);
    if (!listed) return;
    size_t looked = 0;
    for (const FolderEntry& entry : *listed) {
      if (entry.type != FileType::kFolder || entry.name.starts_with('.') || entry.name == "node_modules")
        continue;
      if (++looked > kSubfoldersMax) return;
      look_into(join_path(request_.folder, entry.name));
    }
  }

  void read_variables(const std::string& path) {
    auto bytes = read_text(path);
    if (!bytes) return;
    Variables variables;
    (void)secret::visit_dotenv(*bytes, [&](std::string_view name, std::string_view value) {
      variables.insert_or_assign(std::string(name), secret_of(value));
    });
    wipe(MutableByteView(*bytes));
    files_.emplace_back(path, std::move(variables));
  }

  void find_repository() {
    for (std::string at = request_.folder;; at = folder_of(at)) {
      auto there = status_if_there(join_path(at, ".git"));
      if (there && *there) {
        out_.found.repository = at;
        break;
      }
      if (at == "/" || at == ".") return;
    }
    const auto config = read_text(join_path(out_.found.repository, ".git/config"));
    if (!config) return;
    const std::string_view text = as_text(*config);
    const size_t url = text.find("url = ");
    if (url == text.npos) return;
    const std::string_view value = text.substr(url + 6);
    out_.found.remote = without_secrets("url", value.substr(0, value.find('\n')));
    if (out_.found.remote.find(kHiddenSecret) != std::string::npos) out_.found.remote.clear();
  }

  // --- what variables name ---------------------------------------------------------------------------

  void use_variables(const Variables& variables, const std::string& from) {
    for (const auto& [name, secret] : variables) {
      const std::string_view value = as_text(secret.view());
      if (auto address = parse_database_url(value)) add(*address, fmt::format("{} in {}", name, from));
      if (value.starts_with("redis://") || value.starts_with("rediss://"))
        add_redis(value, fmt::format("{} in {}", name, from));
      if (name.find("BUCKET") != name.npos && !value.empty() && value.find_first_of(" /:") == value.npos)
        add_bucket(variables, std::string(value), fmt::format("{} in {}", name, from));
    }
    if (variables.contains("PGHOST")) {
      Address address{.host = value_of(variables, "PGHOST"),
                      .port = value_of(variables, "PGPORT"),
                      .user = value_of(variables, "PGUSER"),
                      .database = value_of(variables, "PGDATABASE"),
                      .password = secret_of(value_of(variables, "PGPASSWORD"))};
      add(address, "PGHOST in " + from);
    }
  }

  void add_bucket(const Variables& variables, std::string name, std::string from) {
    if (std::ranges::count(out_.found.buckets, name, &FoundBucket::name) != 0) return;
    const auto first_of = [&](std::initializer_list<const char*> names) {
      for (const char* one : names) {
        if (std::string value = value_of(variables, one); !value.empty()) return value;
        if (std::string value = value_of(environment_, one); !value.empty()) return value;
      }
      return std::string();
    };
    out_.found.buckets.push_back(
        {.name = std::move(name),
         .endpoint = without_secrets("endpoint",
                                     first_of({"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"})),
         .region = first_of({"AWS_REGION", "AWS_DEFAULT_REGION"}),
         .from = std::move(from)});
  }

  void add(const Address& address, const std::string& from) {
    FoundPostgres found{.connect = conninfo_of(address), .from = from, .database = address.database};
    ask(found, address.password.view().empty() ? nullptr : &address.password);
  }

  void add_redis(std::string_view url, const std::string& from) {
    auto endpoint = redis::parse_url(url);
    if (!endpoint) return;
    redis::Endpoint plain = *endpoint;
    plain.password.clear();
    FoundRedis found{.url = plain.describe(), .from = from, .has_password = !endpoint->password.empty()};
    ask_redis(found, *endpoint);
  }

  // --- compose -----------------------------------------------------------------------------------------

  static const YamlNode* member(const YamlNode* map, std::string_view key) {
    if (map == nullptr || map->kind != YamlNode::Kind::kMap) return nullptr;
    const auto at = std::ranges::find(map->keys, key);
    return at == map->keys.end() ? nullptr : &map->items[static_cast<size_t>(at - map->keys.begin())];
  }
  static std::string text_at(const YamlNode* map, std::string_view key) {
    const YamlNode* node = member(map, key);
    return node != nullptr ? node->text : "";
  }

  // ${NAME}, ${NAME:-usual} and $NAME, from the .env beside the file.
  std::string expanded(std::string_view text, const std::string& path) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '$' || i + 1 >= text.size()) {
        out += text[i];
        continue;
      }
      const bool braced = text[i + 1] == '{';
      size_t begin = i + (braced ? 2 : 1), end = begin;
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_'))
        ++end;
      const std::string name(text.substr(begin, end - begin));
      std::string usual;
      if (braced) {
        const size_t close = text.find('}', end);
        if (close == text.npos) return out;
        std::string_view rest = text.substr(end, close - end);
        if (rest.starts_with(":-")) usual = std::string(rest.substr(2));
        end = close + 1;
      }
      const std::string value = variable(name, path);
      out += value.empty() ? usual : value;
      i = end - 1;
    }
    return out;
  }
  std::string variable(const std::string& name, const std::string& path) const {
    if (std::string value = value_of(environment_, name); !value.empty()) return value;
    for (const auto& [file, variables] : files_)
      if (file == join_path(folder_of(path), ".env")) return value_of(variables, name);
    return "";
  }

  // environment: as a map or as a list of NAME=value.
  std::string variable_of(const YamlNode& service, const std::string& name, const std::string& path) const {
    const YamlNode* given = member(&service, "environment");
    if (given == nullptr) return "";
    if (given->kind == YamlNode::Kind::kMap) return expanded(text_at(given, name), path);
    for (const YamlNode& item : given->items)
      if (item.text.starts_with(name + "="))
        return expanded(std::string_view(item.text).substr(name.size() + 1), path);
    return "";
  }

  // "127.0.0.1:15432:5432" → the port of this machine for `inside`; "" where it is not published.
  std::string published(const YamlNode& service, std::string_view inside, const std::string& path) const {
    const YamlNode* ports = member(&service, "ports");
    if (ports == nullptr) return "";
    for (const YamlNode& port : ports->items) {
      if (port.kind == YamlNode::Kind::kMap) {
        if (text_at(&port, "target") == inside) return expanded(text_at(&port, "published"), path);
        continue;
      }
      const std::string text = expanded(port.text, path);
      const size_t last = text.rfind(':');
      if (last == text.npos || std::string_view(text).substr(last + 1) != inside) continue;
      const std::string outer = text.substr(0, last);
      return outer.substr(outer.rfind(':') + 1);
    }
    return "";
  }

  void use_compose(const std::string& path) {
    const auto bytes = read_text(path);
    if (!bytes) return;
    const auto root = parse_yaml(as_text(*bytes), path);
    if (!root) return;
    const YamlNode* services = member(&*root, "services");
    if (services == nullptr || services->kind != YamlNode::Kind::kMap) return;
    for (size_t i = 0; i < services->keys.size(); ++i)
      use_service(services->keys[i], services->items[i], path);
  }

  void use_service(const std::string& name, const YamlNode& service, const std::string& path) {
    const std::string image = expanded(text_at(&service, "image"), path);
    const std::string from = fmt::format("service {} in {}", name, path);
    const auto is_image = [&](std::string_view word) { return image.find(word) != image.npos; };
    if (is_image("postgres") || is_image("postgis") || is_image("timescale")) {
      const std::string port = published(service, "5432", path);
      std::string user = variable_of(service, "POSTGRES_USER", path);
      if (user.empty()) user = "postgres";
      std::string database = variable_of(service, "POSTGRES_DB", path);
      if (database.empty()) database = user;
      Address address{.host = "127.0.0.1",
                      .port = port,
                      .user = user,
                      .database = database,
                      .password = secret_of(variable_of(service, "POSTGRES_PASSWORD", path))};
      if (!port.empty()) add(address, from);
    }
    if (is_image("redis") || is_image("valkey")) {
      const std::string port = published(service, "6379", path);
      if (!port.empty()) add_redis(fmt::format("redis://127.0.0.1:{}", port), from);
    }
    const YamlNode* volumes = member(&service, "volumes");
    if (volumes == nullptr) return;
    for (const YamlNode& volume : volumes->items) {
      if (volume.kind != YamlNode::Kind::kText) continue;
      const std::string text = expanded(volume.text, path);
      const size_t colon = text.find(':');
      if (colon == text.npos) continue;
      std::string source = text.substr(0, colon), target = text.substr(colon + 1);
      target = target.substr(0, target.find(':'));
      const bool is_named = source.find('/') == source.npos && source != ".";
      const bool is_code = source == "." || source == "./";
      if (is_code || target.starts_with("/docker-entrypoint")) continue;
      if (!is_named && !source.starts_with('/')) {
        while (source.starts_with("./")) source.erase(0, 2);
        source = join_path(folder_of(path), source);
      }
      // What a database server keeps is protected by asking it.
      const auto there = status_if_there(source);
      const bool is_folder = there && *there && (*there)->type == FileType::kFolder;
      const bool is_data = target.find("postgres") != target.npos || target == "/data";
      if (is_named || (is_folder && !is_data)) out_.found.volumes.push_back({name, source, target, is_named});
    }
  }

  // --- servers -----------------------------------------------------------------------------------------

  void find_servers() {
    for (const std::string_view folder : kSocketFolders) {
      auto listed = list_folder(std::string(folder));
      if (!listed) continue;
      for (const FolderEntry& entry : *listed) {
        if (!entry.name.starts_with(kSocketPrefix) || entry.name.ends_with(".lock")) continue;
        Address address{.host = std::string(folder),
                        .port = entry.name.substr(kSocketPrefix.size()),
                        .user = {},
                        .database = {},
                        .password = {}};
        FoundPostgres found{.connect = conninfo_of(address),
                            .from = fmt::format("the socket {}/{}", folder, entry.name)};
        ask(found, nullptr);
      }
    }
    const std::string url = fmt::format("redis://127.0.0.1:{}", redis::kDefaultPort);
    if (std::ranges::count(out_.found.redis, url, &FoundRedis::url) != 0) return;
    FoundRedis usual{.url = url, .from = fmt::format("port {}", redis::kDefaultPort)};
    if (auto endpoint = redis::parse_url(url)) ask_redis(usual, *endpoint, /*only_if_there=*/true);
  }

  void ask(FoundPostgres& found, const Secret* password) {
    const auto same = [&](const FoundPostgres& other) {
      return other.connect == found.connect && (other.database == found.database || found.database.empty());
    };
    if (std::ranges::any_of(out_.found.postgres, same)) return;
    found.has_password = password != nullptr;
    std::string connect = found.connect + kConnectWithin;
    if (!found.database.empty()) connect += " dbname=" + conninfo_value(found.database);
    if (found.database.empty() && request_.connect != found.connect) connect += " dbname=postgres";
    if (password != nullptr) connect += " password=" + conninfo_value(text_of(*password));
    auto connection =
        postgres::Connection::open(connect, {.database = {}, .statement_timeout = std::chrono::seconds(10)});
    wipe({reinterpret_cast<uint8_t*>(connect.data()), connect.size()});
    if (!connection)
      found.trouble = connection.error().why.empty() ? connection.error().what : connection.error().why;
    else
      question(*connection, found);
    // The same server under two addresses is one.
    const auto is_known = [&](const FoundPostgres& other) {
      return !found.system_id.empty() && other.system_id == found.system_id &&
             (other.database == found.database || found.database.empty());
    };
    if (std::ranges::any_of(out_.found.postgres, is_known)) return;
    std::ranges::replace_if(found.trouble, [](char c) { return c == '\n' || c == '\t'; }, ' ');
    if (password != nullptr)
      out_.passwords.insert_or_assign(found.connect, Secret::copy_of(password->view()));
    out_.found.postgres.push_back(std::move(found));
  }

  static void question(postgres::Connection& connection, FoundPostgres& found) {
    const uint32_t version = connection.server_version();
    found.version = fmt::format("{}.{}", version / 10000, version % 10000);
    if (auto id = connection.value("select system_identifier::text from pg_catalog.pg_control_system()"))
      found.system_id = *id;
    if (auto folder =
            connection.value("select setting from pg_catalog.pg_settings where name = 'data_directory'");
        folder && access((*folder + "/PG_VERSION").c_str(), R_OK) == 0)
      found.data_folder = *folder;
    auto rows = connection.query(
        "select d.datname, pg_catalog.pg_database_size(d.oid), s.numbackends - (d.datname = "
        "pg_catalog.current_database())::int from pg_catalog.pg_database d join pg_catalog.pg_stat_database "
        "s "
        "on s.datid = d.oid where not d.datistemplate and pg_catalog.has_database_privilege(d.oid, "
        "'connect') "
        "order by d.datname");
    if (!rows) return;
    for (size_t row = 0; row < std::min(rows->rows(), kDatabasesMax); ++row) {
      const auto bytes = rows->number(row, 1), clients = rows->number(row, 2);
      found.databases.push_back({std::string(rows->text(row, 0)), static_cast<uint64_t>(bytes ? *bytes : 0),
                                 clients ? std::max<int64_t>(*clients, 0) : 0});
    }
  }

  void ask_redis(FoundRedis& found, const redis::Endpoint& endpoint, bool only_if_there = false) {
    if (std::ranges::count(out_.found.redis, found.url, &FoundRedis::url) != 0) return;
    auto connection = redis::Connection::open(endpoint, {}, kRedisAnswersWithin);
    auto info = connection ? redis::read_info(*connection) : Result<redis::Info>(connection.error());
    if (!info && only_if_there && (!connection && connection.error().kind != ErrorKind::kDenied)) return;
    if (info) {
      found.version = redis::version_in(*info).text;
      for (const auto& [number, keys] : redis::keys_in(*info)) found.keys += keys;
    } else {
      found.trouble = info.error().what;
    }
    out_.found.redis.push_back(std::move(found));
  }

  const LookRequest& request_;
  Variables environment_;
  std::vector<std::pair<std::string, Variables>> files_;
  LookedAround out_;
};

}  // namespace

LookedAround look_around(const LookRequest& request) {
  return LookAround(request).take();
}

Result<int64_t> clients_of(const std::string& connect) {
  TRY_ASSIGN(
      postgres::Connection connection,
      postgres::Connection::open(connect, {.database = {}, .statement_timeout = std::chrono::seconds(10)}));
  TRY_ASSIGN(const auto rows,
             connection.query("select numbackends - 1 from pg_catalog.pg_stat_database where datname = "
                              "pg_catalog.current_database()"));
  if (rows.rows() == 0) return 0;
  return rows.number(0, 0);
}

}  // namespace kuramori
