// A client of the OCI distribution specification 1.1 (Docker's registry API v2).
//
// What is promised, whatever the other side does:
//   - content that was asked for by its digest is that content, or an error: digest and size are checked as
//     it passes, and no answer is longer than what was asked for.
//   - what broke off is gone on with where it stopped (Range), and what may be asked again is, with growing
//     waits; 429 and 503 are obeyed (Retry-After). Every wait ends.
//   - credentials go to the registry and to the token server it names, over TLS or to this machine (or where
//     the settings allow it), and never to whom a registry redirects to (its storage).
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/world.h"
#include "source/image/manifest.h"

namespace kuramori::image {

struct RegistrySettings {
  std::string url;  // "https://registry.example", "http://127.0.0.1:5000", "registry.example:5000"
  std::string user, password;
  std::string ca_file;      // PEM
  bool insecure = false;    // plain HTTP, and credentials over it, also to other machines
  bool is_written = false;  // asks for the right to write from the begin
};

// What came of being asked for its greeting.
struct Greeting {
  std::optional<Duration> ahead;  // how far its clock is before ours, where it tells
};

struct FetchedManifest {
  Bytes bytes;
  std::string media_type;
  ContentDigest digest;
};

// Gives the content of one blob again each time it is called, in order.
using BlobReader = std::function<Result<void>(const std::function<Result<void>(ByteView)>& take)>;

// Methods may be called from several threads at once.
class Registry {
 public:
  // kUsage for settings that cannot be meant, or are not safe. Connects to nothing yet.
  static Result<std::unique_ptr<Registry>> open(RegistrySettings settings);
  virtual ~Registry() = default;

  // "registry.example:5000": what people call it.
  virtual const std::string& name() const = 0;

  // Says hello with credentials, once and without waiting for better times. kDenied: they are refused.
  virtual Result<Greeting> greet(std::stop_token stop) = 0;
  // All repositories, where the registry offers the list (kDenied, kNotFound: it does not).
  virtual Result<std::vector<std::string>> catalog(std::stop_token stop) = 0;
  // All tags of a repository; kNotFound: there is none of this name.
  virtual Result<std::vector<std::string>> tags(const std::string& repository, std::stop_token stop) = 0;

  // What a tag stands for now: one HEAD. kNotFound: there is no such tag. The size is 0 where it is not told.
  virtual Result<Descriptor> resolve(const std::string& repository, const std::string& reference,
                                     std::stop_token stop) = 0;
  // By tag or digest; by digest it is verified. kNotFound, kDamaged.
  virtual Result<FetchedManifest> manifest(const std::string& repository, const std::string& reference,
                                           std::stop_token stop) = 0;
  // Signatures and attestations of a manifest by the referrers API; none where the registry has no such API.
  virtual Result<std::vector<Descriptor>> referrers(const std::string& repository,
                                                    const ContentDigest& subject, std::stop_token stop) = 0;
  // `take` gets the content in order; that it was whole and the right one is known only on return. kNotFound;
  // kDamaged: it was not.
  virtual Result<void> blob(const std::string& repository, const ContentDigest& digest, uint64_t size,
                            const std::function<Result<void>(ByteView)>& take, std::stop_token stop) = 0;

  // The size of a blob, if it is there.
  virtual Result<std::optional<uint64_t>> has_blob(const std::string& repository, const ContentDigest& digest,
                                                   std::stop_token stop) = 0;
  // Lets `repository` have a blob that `from` has; false: the registry does not do that.
  virtual Result<bool> mount(const std::string& repository, const ContentDigest& digest,
                             const std::string& from, std::stop_token stop) = 0;
  virtual Result<void> upload(const std::string& repository, const ContentDigest& digest, uint64_t size,
                              const BlobReader& read, std::stop_token stop) = 0;
  // By digest or tag. kRefused: the registry does not take it, in its words.
  virtual Result<void> put_manifest(const std::string& repository, const std::string& reference,
                                    ByteView bytes, const std::string& media_type, std::stop_token stop) = 0;
};

// Where images are restored or replicated to: a registry, and what stands before every repository's name.
struct RegistryTarget {
  std::string url;     // as of RegistrySettings
  std::string prefix;  // "backup/2024"; "": none
};
bool is_registry_url(std::string_view text);
// "docker://HOST[:PORT][/PREFIX]": plain HTTP to this machine unless there is a `ca_file`, TLS to any other;
// "docker+http://" and "docker+https://" say which.
Result<RegistryTarget> parse_target(std::string_view text, bool has_ca_file);

}  // namespace kuramori::image
