#include "vault/session_packs.h"

#include <thread>
#include <utility>

#include "base/check.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr uint64_t kPackBytesLeftOpenMax = 4 << 20;  // what the next lane goes on with, instead of its own

struct OpenPack {
  std::unique_ptr<PackWriter> pack;
  uint32_t number = 0;  // within the session
};

// A pack whose last bytes are still on their way: a store at a distance takes several round trips to confirm
// one, and nobody waits for them who need not.
class PackEnd {
 public:
  explicit PackEnd(OpenPack open)
      : number_(open.number), thread_([this, pack = std::move(open.pack)] { result_ = pack->finish(); }) {}
  ~PackEnd() {
    if (thread_.joinable()) thread_.join();
  }
  uint32_t number() const { return number_; }
  Result<LivePack> wait() {
    thread_.join();
    return std::move(result_);
  }

 private:
  uint32_t number_;
  Result<LivePack> result_ = fail(ErrorKind::kInterrupted, "a pack was not finished");
  std::thread thread_;  // last: it begins with all of the above in place
};

}  // namespace

struct SessionPacks::Shared {
  Store& store;
  const KeyBundle& keys;
  Random& random;
  Clock& clock;
  SessionId session;
  ResourceId resource;
  std::atomic<uint32_t> next_pack{0};
  std::atomic<uint64_t> stored{0};
  PipelineFaults* faults = nullptr;
  std::mutex mutex;
  std::map<uint32_t, LivePack> packs;  // finished ones, by number; guarded by mutex
  // What finished lanes left: packs with little in them, which the next lane goes on with, and others that
  // are being put. What fills no frame shares a pack: one upload, and one that a restore opens.
  std::vector<OpenPack> left_open;                // guarded by mutex
  std::vector<std::unique_ptr<PackEnd>> endings;  // guarded by mutex

  std::optional<OpenPack> take_open() {
    const std::lock_guard lock(mutex);
    if (left_open.empty()) return std::nullopt;
    OpenPack open = std::move(left_open.back());
    left_open.pop_back();
    return open;
  }
  void leave(OpenPack open) {
    const bool is_small = open.pack->bytes() < kPackBytesLeftOpenMax && open.pack->frames() < kPackFramesMax;
    const std::lock_guard lock(mutex);
    if (is_small) {
      left_open.push_back(std::move(open));
    } else {
      endings.push_back(std::make_unique<PackEnd>(std::move(open)));
    }
  }
  Result<void> keep(uint32_t number, Result<LivePack> live) {
    if (!live) return std::move(live).error();
    stored += live->size;
    const std::lock_guard lock(mutex);
    packs[number] = std::move(*live);
    return {};
  }
};

struct SessionPacks::Lane::State {
  Shared& shared;
  std::shared_ptr<FrameWorkshop> workshop;
  std::unique_ptr<PackWriter> pack;
  uint32_t pack_number = 0;
  std::unique_ptr<PackEnd> ending;  // of the pack before: one a lane, so that memory stays bounded
  bool finished = false;

  Result<void> open_pack() {
    if (std::optional<OpenPack> open = shared.take_open()) {
      pack = std::move(open->pack);
      pack_number = open->number;
      return {};
    }
    pack_number = shared.next_pack++;
    TRY_ASSIGN(pack, PackWriter::create(shared.store, shared.keys, shared.random, shared.clock,
                                        names::pack(shared.session, pack_number), shared.resource));
    return {};
  }

  Result<void> end_pack_if_full() {
    if (pack->bytes() < kPackBytesTarget && pack->frames() < kPackFramesMax) return {};
    TRY(await_pack_before());
    ending = std::make_unique<PackEnd>(OpenPack{std::exchange(pack, nullptr), pack_number});
    return {};
  }

  Result<void> await_pack_before() {
    if (!ending) return {};
    const std::unique_ptr<PackEnd> last = std::move(ending);
    return shared.keep(last->number(), last->wait());
  }
};

SessionPacks::Lane::Lane(std::unique_ptr<State> state) : state_(std::move(state)) {}
SessionPacks::Lane::~Lane() = default;

Result<FramePlace> SessionPacks::Lane::next() {
  State& s = *state_;
  CHECK(!s.finished);
  if (!s.pack) TRY(s.open_pack());
  return FramePlace{.pack = s.pack_number, .frame = s.pack->frames()};
}

Result<FramePlace> SessionPacks::Lane::write(FrameType type, ByteView plain, FrameSize size) {
  State& s = *state_;
  CHECK(!s.finished);
  if (!s.pack) TRY(s.open_pack());
  const uint32_t number = s.pack_number;
  TRY_ASSIGN(const uint32_t frame, s.pack->add(type, plain, *s.workshop, size));
  TRY(s.end_pack_if_full());
  return FramePlace{.pack = number, .frame = frame};
}

Result<void> SessionPacks::Lane::finish() {
  State& s = *state_;
  CHECK(!s.finished);
  s.finished = true;
  if (s.pack) s.shared.leave({std::exchange(s.pack, nullptr), s.pack_number});
  return s.await_pack_before();
}

SessionPacks::SessionPacks(Store& store, const KeyBundle& keys, Random& random, Clock& clock,
                           SessionId session, ResourceId resource)
    : shared_(new Shared{.store = store,
                         .keys = keys,
                         .random = random,
                         .clock = clock,
                         .session = session,
                         .resource = resource}) {}
SessionPacks::~SessionPacks() = default;

std::unique_ptr<SessionPacks::Lane> SessionPacks::lane(std::shared_ptr<FrameWorkshop> workshop) {
  if (!workshop) workshop = std::make_shared<FrameWorkshop>(kZstdLevel);
  workshop->faults = shared_->faults;
  auto state = std::unique_ptr<Lane::State>(new Lane::State{
      .shared = *shared_, .workshop = std::move(workshop), .pack = nullptr, .ending = nullptr});
  return std::unique_ptr<Lane>(new Lane(std::move(state)));
}

void SessionPacks::provoke(PipelineFaults* faults) {
  shared_->faults = faults;
}

void SessionPacks::end_open_packs() {
  const std::lock_guard lock(shared_->mutex);
  for (OpenPack& open : std::exchange(shared_->left_open, {}))
    shared_->endings.push_back(std::make_unique<PackEnd>(std::move(open)));
}

Result<void> SessionPacks::await() {
  end_open_packs();
  Result<void> result;
  for (const auto& ending : std::exchange(shared_->endings, {})) {
    auto kept = shared_->keep(ending->number(), ending->wait());
    if (result) result = std::move(kept);
  }
  return result;
}

const std::map<uint32_t, LivePack>& SessionPacks::finished() const {
  return shared_->packs;
}

std::string SessionPacks::name_of(uint32_t pack) const {
  return names::pack(shared_->session, pack);
}

uint32_t SessionPacks::begun() const {
  return shared_->next_pack;
}

uint64_t SessionPacks::bytes_stored() const {
  return shared_->stored;
}

}  // namespace kuramori
