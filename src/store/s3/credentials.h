// Whose name requests are signed in: from files, the environment, a profile of ~/.aws, or the machine's role.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "net/http.h"
#include "store/s3/s3_location.h"
#include "store/s3/sigv4.h"

namespace kuramori {

// What finding credentials asks of the machine: an object, so that tests touch nothing of it.
struct CredentialWorld {
  std::function<std::optional<std::string>(const std::string& name)> environment;
  std::function<Result<std::string>(const std::string& path)> read_file;  // kNotFound: there is none
  HttpClient* http = nullptr;  // to the instance's metadata service
  Clock* clock = nullptr;
};
CredentialWorld machine_credential_world(HttpClient& http, Clock& clock);

// Fetched anew before they expire. Methods may be called from several threads.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;
  // kUsage: there are none, and where was looked.
  virtual Result<std::shared_ptr<const S3Credentials>> get() = 0;
  // The store refused them: the next get() fetches them anew.
  virtual void forget() = 0;
};

// Where the location says; else, in this order: the environment, the profile AWS_PROFILE or "default", the
// instance's role (IMDSv2).
std::unique_ptr<CredentialSource> find_credentials(const S3Location& location, CredentialWorld world);
// These, and no others.
std::unique_ptr<CredentialSource> fixed_credentials(std::string access_key, Secret secret_key);

// The region that AWS_REGION, AWS_DEFAULT_REGION or the profile names; "" when none does.
std::string region_of_environment(const S3Location& location, const CredentialWorld& world);

}  // namespace kuramori
