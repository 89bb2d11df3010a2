// One look at all the small records of a vault, in few requests: for whoever wants to see what is there.
//
// Two things make it cheap. The names of small records lie side by side (`catalog/` … `holds/`, `proofs/` …
// `signers/`), so two listings show them all, a thousand a request; and a catalog holds the bytes of most of
// them. A catalog is only a cache of bytes. Each record in it is checked as if it had been read where it
// stands: name, seal, signature, whose word it is. It is used only for names that were listed just now, with
// that size; what does not open is read where it stands. So a catalog that is missing, old, forged or damaged
// costs requests and changes nothing that anybody sees.
//
// The names are those of one moment, and stay. Whoever decides something — prunes, collects, commits — must
// list *after* what his own record made safe, and uses the Protocol he was made with.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vault/opened_memory.h"
#include "vault/protocol.h"
#include "vault/signers.h"

namespace kuramori {

// Read one by one before the catalog is fetched, where this machine remembers the rest.
constexpr size_t kReadSinglyMax = 8;
constexpr size_t kCatalogPartsMax = 64;  // that one may go on in
constexpr int kCatalogTriesMax =
    3;  // of the newest; behind them somebody would have to look at garbage for ever

class Overview {
 public:
  // `signers`: who is met in it is looked up in it too. `memory`: what this machine opened before; with it
  // the catalog is fetched only when more than a few records are neither there. Borrows all three, and what
  // `protocol` borrows.
  static Result<std::unique_ptr<Overview>> look(const Protocol& protocol, const Signers& signers,
                                                OpenedMemory* memory = nullptr);
  ~Overview();
  Overview(const Overview&) = delete;

  // For a Ledger or RecordLog that reads what was seen. Puts and removals go to the store.
  const Protocol& protocol() const;
  // Whether the bytes of this record (its full name) come from the catalog.
  bool is_at_hand(const std::string& full_name) const;
  uint64_t catalog_number() const;  // of the one in use; 0: none is
  // The one in use, and those that it goes on in.
  struct Catalog {
    std::string name;
    size_t records = 0;
    uint64_t bytes = 0;  // of these
  };
  const std::vector<Catalog>& catalogs() const;
  // Whose bytes is_at_hand() speaks of: an index into catalogs().
  std::optional<size_t> catalog_of(const std::string& full_name) const;
  const std::vector<std::string>& catalogs_refused() const;  // names that were tried and are no catalogs

 private:
  struct Parts;
  explicit Overview(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace kuramori
