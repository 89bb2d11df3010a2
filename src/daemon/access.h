// Who may ask over HTTP, and for what. A token is a long random word; here only its digest is kept, compared
// in time that depends on nothing.
//
// A plain SHA-256 suffices: a token holds 256 random bits, so nobody finds it by trying, however fast that
// is. One that somebody thought of himself must at least be long, and whoever guesses is slowed.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "base/world.h"
#include "conc/guarded.h"
#include "policy/listen_config.h"

namespace kuramori {

enum class AskerRole { kViewer, kOperator, kOwner };  // each may what those before it may
std::string_view name_of(AskerRole role);
std::optional<AskerRole> asker_role_of(std::string_view name);

constexpr size_t kTokenBytes = 32;                      // of randomness
constexpr size_t kTokenCharactersMin = 24;              // of one that was not made by us
constexpr std::string_view kTokenPrefix = "kuramori-";  // so that a search for leaked secrets finds it

struct NewToken {
  std::string text;  // to be kept by who asks
  std::string hash;  // "sha256:…", for kuramori.yaml
};
NewToken make_token(Random& random);
std::string hash_of_token(std::string_view token);

struct Asker {
  std::string name;
  AskerRole role = AskerRole::kViewer;
};

class Access {
 public:
  // Fetches the tokens that stand elsewhere. kUsage: one is too short to be safe.
  static Result<Access> of(const std::vector<TokenConfig>& tokens, const ConfigWorld& world);
  // Whose token this is; nullopt: nobody's.
  std::optional<Asker> find(std::string_view token) const;
  bool is_empty() const { return known_.empty(); }

 private:
  struct Known {
    Digest digest;
    Asker asker;
  };
  std::vector<Known> known_;
};

// Who sends wrong tokens waits: after kGuessesFree of them each further one from the same address only after
// a pause, and until then nothing from there is looked at.
constexpr int kGuessesFree = 5;
constexpr Duration kGuessPauseFirst = std::chrono::seconds(1), kGuessPauseMost = std::chrono::minutes(5);
constexpr Duration kGuessesForgotten = std::chrono::minutes(15);
constexpr size_t kGuessersMax = 4096;  // addresses that are remembered

class Guesses {
 public:
  // How long `peer` has still to wait; 0: it may ask. `now`: by the steady clock.
  Duration wait(const std::string& peer, Duration now);
  void wrong(const std::string& peer, Duration now);
  void right(const std::string& peer);

 private:
  struct One {
    int count = 0;
    Duration last{0}, until{0};
  };
  Guarded<std::map<std::string, One>> all_;
};

}  // namespace kuramori
