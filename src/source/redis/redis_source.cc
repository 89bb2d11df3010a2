#include "source/redis/redis_source.h"

namespace kuramori::redis {
namespace {

class RedisSource : public Source {
 public:
  explicit RedisSource(RedisSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return settings_.aof ? capture_aof(settings_, reporter, std::move(stop))
                         : capture_rdb(settings_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return restore_redis(settings_, tree, request, reporter, std::move(stop));
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    return drill_redis(settings_, tree, sandbox, reporter, std::move(stop));
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine_redis(settings_); }
  std::vector<SourceClient> clients() override { return needed_clients(settings_); }

 private:
  const RedisSettings settings_;
};

}  // namespace

Result<Endpoint> endpoint_of(const RedisSettings& settings) {
  TRY_ASSIGN(Endpoint endpoint, parse_url(settings.connect));
  if (!settings.password.empty()) endpoint.password = settings.password;
  if (!settings.ca_file.empty()) endpoint.ca_file = settings.ca_file;
  if (!settings.cert_file.empty()) endpoint.cert_file = settings.cert_file;
  if (!settings.key_file.empty()) endpoint.key_file = settings.key_file;
  const bool has_files =
      !endpoint.ca_file.empty() || !endpoint.cert_file.empty() || !endpoint.key_file.empty();
  if (has_files && !endpoint.tls) {
    return fail(ErrorKind::kUsage, "files of TLS are given for a connection without it", endpoint.describe(),
                "write the address as rediss://…");
  }
  return endpoint;
}

Result<std::unique_ptr<Source>> open_redis(RedisSettings settings) {
  TRY(endpoint_of(settings));
  if (settings.data_dir.empty() && (settings.way == Way::kSave || settings.aof)) {
    return fail(ErrorKind::kUsage, settings.aof ? "aof: true needs data_dir" : "capture: save needs data_dir",
                "the files are read from the server's folder", "ask the server: CONFIG GET dir");
  }
  if (settings.aof && settings.way == Way::kReplication) {
    return fail(ErrorKind::kUsage, "aof: true and capture: replication exclude each other",
                "append-only files do not go over the wire", "leave one of them out");
  }
  return std::unique_ptr<Source>(new RedisSource(std::move(settings)));
}

}  // namespace kuramori::redis
