// The packs that one session fills: several lanes at once, each with packs of its own, and none of them left
// with next to nothing in it.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vault/pack.h"

namespace kuramori {

// Where a frame lies, among the packs of its session.
struct FramePlace {
  uint32_t pack = 0, frame = 0;
};

class SessionPacks {
 public:
  SessionPacks(Store& store, const KeyBundle& keys, Random& random, Clock& clock, SessionId session,
               ResourceId resource);
  ~SessionPacks();
  SessionPacks(const SessionPacks&) = delete;

  // Belongs to one thread. One that is destroyed unfinished leaves its last pack unwritten.
  class Lane {
   public:
    ~Lane();
    Result<FramePlace> write(FrameType type, ByteView plain, FrameSize size = FrameSize::kExact);
    // Where the next frame will lie: until then nobody else adds to that pack.
    Result<FramePlace> next();
    // What is filled is put in the background; a pack with little in it is left to the next lane that opens
    // one.
    Result<void> finish();

   private:
    friend class SessionPacks;
    struct State;
    explicit Lane(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  // `workshop`: of another lane of the same thread, whose memory this one uses as well.
  std::unique_ptr<Lane> lane(std::shared_ptr<FrameWorkshop> workshop = {});
  void provoke(PipelineFaults* faults);  // tests only; before the first lane

  // Nothing is added to what finished lanes left any more: the next lane begins a pack of its own.
  void end_open_packs();
  // Every pack is put. After all lanes are finished.
  Result<void> await();
  const std::map<uint32_t, LivePack>& finished() const;  // by number; after await()

  std::string name_of(uint32_t pack) const;
  uint32_t begun() const;         // so many packs, whole or not: numbers below it
  uint64_t bytes_stored() const;  // of packs that are put

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kuramori
