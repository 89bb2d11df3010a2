// The field numbers below are the format. Numbers are never reused; a new field gets a new one.
#include "vault/records.h"
#include "vault/wire.h"

#include <fmt/core.h>

namespace kuramori {
namespace {

using Writer = protozero::pbf_writer;
using Reader = protozero::pbf_reader;

template <class Fill>
Bytes message(Fill&& fill) {
  std::string text;
  Writer writer(text);
  fill(writer);
  return to_bytes(as_bytes(text));
}

void put(Writer& to, uint32_t field, std::string_view text) {
  if (!text.empty()) to.add_bytes(field, text.data(), text.size());
}
void put(Writer& to, uint32_t field, ByteView bytes) {
  put(to, field, as_text(bytes));
}
template <size_t N, class Tag>
void put(Writer& to, uint32_t field, const Id<N, Tag>& id) {
  put(to, field, id.view());
}
void put(Writer& to, uint32_t field, uint64_t value) {
  if (value != 0) to.add_uint64(field, value);
}
void put(Writer& to, uint32_t field, uint32_t value) {
  put(to, field, static_cast<uint64_t>(value));
}
void put(Writer& to, uint32_t field, bool value) {
  put(to, field, static_cast<uint64_t>(value));
}
void put(Writer& to, uint32_t field, int64_t value) {
  if (value != 0) to.add_sint64(field, value);
}
void put(Writer& to, uint32_t field, double value) {
  if (value != 0) to.add_double(field, value);
}
void put(Writer& to, uint32_t field, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) to.add_bytes(field, text.data(), text.size());
}
// A nested message: there even when it is empty, for its place in a list is said by its being there.
void put_message(Writer& to, uint32_t field, const Bytes& nested) {
  to.add_bytes(field, as_text(nested).data(), nested.size());
}
void put(Writer& to, uint32_t field, const std::map<std::string, std::string>& pairs) {
  for (const auto& [key, value] : pairs) {
    put_message(to, field, message([&](Writer& pair) {
                  put(pair, 1, key);
                  put(pair, 2, value);
                }));
  }
}
void put(Writer& to, uint32_t field, const ObjectRef& ref) {
  put_message(to, field, message([&](Writer& w) {
                put(w, 1, ref.name);
                put(w, 2, ref.size);
                put(w, 3, ref.digest);
              }));
}

// Into the room it has: what is taken only to see that it can be costs no memory.
void take(Reader& from, std::string& text) {
  const auto view = from.get_view();
  text.assign(view.data(), view.size());
}
void take(Reader& from, Bytes& bytes) {
  const auto view = from.get_view();
  bytes = to_bytes(as_bytes(std::string_view(view.data(), view.size())));
}
template <size_t N, class Tag>
void take(Reader& from, Id<N, Tag>& id) {
  auto view = from.get_view();
  if (view.size() != N) throw protozero::invalid_length_exception();
  std::memcpy(id.raw.data(), view.data(), N);
}
void take(Reader& from, uint64_t& value) {
  value = from.get_uint64();
}
void take(Reader& from, uint32_t& value) {
  uint64_t wide = from.get_uint64();
  if (wide > UINT32_MAX) throw protozero::varint_too_long_exception();
  value = static_cast<uint32_t>(wide);
}
void take(Reader& from, bool& value) {
  value = from.get_uint64() != 0;
}
void take(Reader& from, int64_t& value) {
  value = from.get_sint64();
}
void take(Reader& from, double& value) {
  value = from.get_double();
}
void take(Reader& from, std::vector<std::string>& texts) {
  texts.push_back(from.get_string());
}
void take_pair(Reader& from, std::string& key, std::string& value) {
  Reader pair = from.get_message();
  key.clear();
  value.clear();
  while (pair.next()) {
    switch (pair.tag()) {
      case 1:
        take(pair, key);
        break;
      case 2:
        take(pair, value);
        break;
      default:
        pair.skip();
    }
  }
}
void take(Reader& from, std::map<std::string, std::string>& pairs) {
  std::string key, value;
  take_pair(from, key, value);
  pairs[key] = std::move(value);
}
void take(Reader& from, ObjectRef& ref) {
  Reader r = from.get_message();
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        take(r, ref.name);
        break;
      case 2:
        take(r, ref.size);
        break;
      case 3:
        take(r, ref.digest);
        break;
      default:
        r.skip();
    }
  }
}
void take(Reader& from, std::vector<ObjectRef>& refs) {
  take(from, refs.emplace_back());
}

// A kind of a newer program is kept as it is; what no program writes is damage.
void take(Reader& f, SessionKind& kind) {
  const uint64_t value = f.get_uint64();
  if (value == 0 || value > UINT8_MAX)
    throw std::out_of_range(fmt::format("{} is no kind of session", value));
  kind = static_cast<SessionKind>(value);
}

// Runs `field(reader)` for every field of a message; the library's exceptions end here.
template <class Record, class Field>
Result<Record> read_message(ByteView body, Field&& field) {
  Record record;
  try {
    Reader reader(reinterpret_cast<const char*>(body.data()), body.size());
    while (reader.next()) field(reader, record);
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("a record's fields cannot be read: {}", error.what()));
  }
  return record;
}

}  // namespace

Bytes encode(const ResourceRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.id);
    put(w, 2, r.name);
    put(w, 3, r.kind);
    put(w, 4, r.system);
  });
}
template <>
Result<ResourceRecord> decode(ByteView body) {
  return read_message<ResourceRecord>(body, [](Reader& f, ResourceRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.id);
        break;
      case 2:
        take(f, r.name);
        break;
      case 3:
        take(f, r.kind);
        break;
      case 4:
        take(f, r.system);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const SessionRecord& s) {
  return message([&](Writer& w) {
    put(w, 1, static_cast<uint64_t>(s.kind));
    put(w, 2, s.closed);
    put(w, 3, s.commit_key);
    put(w, 4, s.parents);
    put(w, 5, s.foreign);
    put(w, 6, s.resource);
    put(w, 7, s.wal_timeline);
    put(w, 8, s.wal_floor);
    put(w, 9, s.started_ns);
    put(w, 10, s.host);
  });
}
template <>
Result<SessionRecord> decode(ByteView body) {
  return read_message<SessionRecord>(body, [](Reader& f, SessionRecord& s) {
    switch (f.tag()) {
      case 1:
        take(f, s.kind);
        break;
      case 2:
        take(f, s.closed);
        break;
      case 3:
        take(f, s.commit_key);
        break;
      case 4:
        take(f, s.parents);
        break;
      case 5:
        take(f, s.foreign);
        break;
      case 6:
        take(f, s.resource);
        break;
      case 7:
        take(f, s.wal_timeline);
        break;
      case 8:
        take(f, s.wal_floor);
        break;
      case 9:
        take(f, s.started_ns);
        break;
      case 10:
        take(f, s.host);
        break;
      default:
        f.skip();
    }
  });
}

namespace {

// Ranges as gap and length, alternating: small numbers for the usual long runs.
void put_frames(Writer& to, uint32_t field, const std::vector<FrameRange>& frames) {
  std::vector<uint32_t> deltas;
  uint32_t at = 0;
  for (const FrameRange& range : frames) {
    deltas.push_back(range.first - at);
    deltas.push_back(range.count);
    at = range.first + range.count;
  }
  to.add_packed_uint32(field, deltas.begin(), deltas.end());
}
void take_frames(Reader& from, std::vector<FrameRange>& frames) {
  // A packed field that stands there twice is one: it goes on where it was.
  uint64_t at = frames.empty() ? 0 : uint64_t{frames.back().first} + frames.back().count;
  auto deltas = from.get_packed_uint32();
  for (auto it = deltas.begin(); it != deltas.end();) {
    at += *it++;
    if (it == deltas.end()) throw protozero::end_of_buffer_exception();
    uint32_t count = *it++;
    if (at + count > UINT32_MAX || count == 0) throw protozero::varint_too_long_exception();
    frames.push_back({static_cast<uint32_t>(at), count});
    at += count;
  }
}

}  // namespace

Bytes encode(const LiveRecord& live) {
  return message([&](Writer& w) {
    for (const LivePack& pack : live.packs) {
      put_message(w, 1, message([&](Writer& p) {
                    put(p, 1, pack.name);
                    put(p, 2, pack.size);
                    put(p, 3, pack.trailer_bytes);
                    put(p, 4, pack.trailer_digest);
                    put_frames(p, 5, pack.frames);
                  }));
    }
    for (const ObjectRef& ref : live.maps) put(w, 2, ref);
  });
}
template <>
Result<LiveRecord> decode(ByteView body) {
  return read_message<LiveRecord>(body, [](Reader& f, LiveRecord& live) {
    switch (f.tag()) {
      case 1: {
        LivePack& pack = live.packs.emplace_back();
        Reader p = f.get_message();
        while (p.next()) {
          switch (p.tag()) {
            case 1:
              take(p, pack.name);
              break;
            case 2:
              take(p, pack.size);
              break;
            case 3:
              take(p, pack.trailer_bytes);
              break;
            case 4:
              take(p, pack.trailer_digest);
              break;
            case 5:
              take_frames(p, pack.frames);
              break;
            default:
              p.skip();
          }
        }
        break;
      }
      case 2:
        take(f, live.maps);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const CommitRecord& c) {
  return message([&](Writer& w) {
    put(w, 1, c.snapshot);
    put(w, 2, c.session);
    put(w, 3, c.resource);
    put(w, 4, c.kind);
    put(w, 5, c.started_ns);
    put(w, 6, c.finished_ns);
    w.add_sint64(7, c.keep_until_ns);  // always there: its default is not zero
    put(w, 8, c.plan);
    put(w, 9, c.label);
    put(w, 10, c.tags);
    put(w, 11, c.parents);
    put(w, 12, c.newest_gc);
    put(w, 13, c.live);
    for (const ObjectRef& ref : c.maps) put(w, 14, ref);
    for (const FrameSpan& span : c.tree) {
      put_message(w, 15, message([&](Writer& s) {
                    put(s, 1, span.pack);
                    put(s, 2, span.first);
                    put(s, 3, span.count);
                  }));
    }
    if (c.wal) {
      put_message(w, 16, message([&](Writer& s) {
                    put(s, 1, c.wal->timeline);
                    put(s, 2, c.wal->from);
                    put(s, 3, c.wal->to);
                  }));
    }
    put(w, 17, c.previous);
    put(w, 18, c.previous_digest);
    put(w, 19, c.size_bytes);
    put(w, 20, c.added_bytes);
    put(w, 21, c.facts);
    put(w, 22, c.defects);
  });
}
Result<CommitRecord> decode_commit(ByteView body, Detail detail) {
  const bool contents = detail != Detail::kSummary, words = detail != Detail::kNeeds,
             facts = detail == Detail::kWhole;
  // What is left out is taken into these, one over the other.
  ObjectRef ref;
  FrameSpan left_out;
  std::string text, value;
  std::vector<std::string> texts;
  return read_message<CommitRecord>(body, [&](Reader& f, CommitRecord& c) {
    switch (f.tag()) {
      case 1:
        take(f, c.snapshot);
        break;
      case 2:
        take(f, c.session);
        break;
      case 3:
        take(f, c.resource);
        break;
      case 4:
        take(f, words ? c.kind : text);
        break;
      case 5:
        take(f, c.started_ns);
        break;
      case 6:
        take(f, c.finished_ns);
        break;
      case 7:
        take(f, c.keep_until_ns);
        break;
      case 8:
        take(f, words ? c.plan : text);
        break;
      case 9:
        take(f, words ? c.label : text);
        break;
      case 10:
        if (words)
          take(f, c.tags);
        else
          take_pair(f, text, value);
        break;
      case 11:
        take(f, c.parents);
        break;
      case 12:
        take(f, c.newest_gc);
        break;
      case 13:
        take(f, contents ? c.live : ref);
        break;
      case 14:
        take(f, contents ? c.maps.emplace_back() : ref);
        break;
      case 15: {
        FrameSpan& span = contents ? c.tree.emplace_back() : left_out;
        Reader s = f.get_message();
        while (s.next()) {
          switch (s.tag()) {
            case 1:
              take(s, span.pack);
              break;
            case 2:
              take(s, span.first);
              break;
            case 3:
              take(s, span.count);
              break;
            default:
              s.skip();
          }
        }
        break;
      }
      case 16: {
        WalSpan& span = c.wal.emplace();
        Reader s = f.get_message();
        while (s.next()) {
          switch (s.tag()) {
            case 1:
              take(s, span.timeline);
              break;
            case 2:
              take(s, span.from);
              break;
            case 3:
              take(s, span.to);
              break;
            default:
              s.skip();
          }
        }
        break;
      }
      case 17:
        take(f, c.previous);
        break;
      case 18:
        take(f, c.previous_digest);
        break;
      case 19:
        take(f, c.size_bytes);
        break;
      case 20:
        take(f, c.added_bytes);
        break;
      case 21:
        if (facts)
          take(f, c.facts);
        else
          take_pair(f, text, value);
        break;
      case 22:
        take(f, words ? c.defects : texts);
        break;
      default:
        f.skip();
    }
  });
}
template <>
Result<CommitRecord> decode(ByteView body) {
  return decode_commit(body, Detail::kWhole);
}

Bytes encode(const FenceRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.reason);
    put(w, 2, r.at_ns);
  });
}
template <>
Result<FenceRecord> decode(ByteView body) {
  return read_message<FenceRecord>(body, [](Reader& f, FenceRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.reason);
        break;
      case 2:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const GcRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.objects);
    put(w, 3, r.reason);
    put(w, 4, r.at_ns);
    for (const ReplacedObject& one : r.replaced) {
      put_message(w, 5, message([&](Writer& m) {
                    put(m, 1, one.object);
                    put(m, 2, one.by);
                    put_frames(m, 3, one.frames);
                  }));
    }
  });
}
template <>
Result<GcRecord> decode(ByteView body) {
  return read_message<GcRecord>(body, [](Reader& f, GcRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.objects);
        break;
      case 3:
        take(f, r.reason);
        break;
      case 4:
        take(f, r.at_ns);
        break;
      case 5: {
        ReplacedObject& one = r.replaced.emplace_back();
        Reader m = f.get_message();
        while (m.next()) {
          switch (m.tag()) {
            case 1:
              take(m, one.object);
              break;
            case 2:
              take(m, one.by);
              break;
            case 3:
              take_frames(m, one.frames);
              break;
            default:
              m.skip();
          }
        }
        break;
      }
      default:
        f.skip();
    }
  });
}

Bytes encode(const PruneRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.commits);
    put(w, 3, r.reasons);
    put(w, 4, r.at_ns);
  });
}
template <>
Result<PruneRecord> decode(ByteView body) {
  return read_message<PruneRecord>(body, [](Reader& f, PruneRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.commits);
        break;
      case 3:
        take(f, r.reasons);
        break;
      case 4:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const HoldRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.snapshot);
    put(w, 2, r.name);
    put(w, 3, r.reason);
    put(w, 4, r.at_ns);
  });
}
template <>
Result<HoldRecord> decode(ByteView body) {
  return read_message<HoldRecord>(body, [](Reader& f, HoldRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.snapshot);
        break;
      case 2:
        take(f, r.name);
        break;
      case 3:
        take(f, r.reason);
        break;
      case 4:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

namespace {
TriedRun take_tried(Reader m) {
  TriedRun one;
  while (m.next()) {
    switch (m.tag()) {
      case 1:
        take(m, one.run);
        break;
      case 2:
        take(m, one.holder);
        break;
      case 3:
        take(m, one.due_ns);
        break;
      default:
        m.skip();
    }
  }
  return one;
}
}  // namespace

Bytes encode(const LeaseRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, static_cast<uint64_t>(r.state));
    put(w, 2, r.holder);
    put(w, 3, r.host);
    put(w, 4, r.run);
    put(w, 5, r.due_ns);
    put(w, 6, r.length_ns);
    put(w, 7, r.done_by);
    put(w, 8, r.done_due_ns);
    for (const TriedRun& one : r.tried) {
      put_message(w, 9, message([&](Writer& m) {
                    put(m, 1, one.run);
                    put(m, 2, one.holder);
                    put(m, 3, one.due_ns);
                  }));
    }
    put(w, 10, r.at_ns);
  });
}
template <>
Result<LeaseRecord> decode(ByteView body) {
  return read_message<LeaseRecord>(body, [](Reader& f, LeaseRecord& r) {
    switch (f.tag()) {
      case 1: {
        uint64_t state = 0;
        take(f, state);
        // What a later version may say is nobody's work.
        r.state = state == 1   ? LeaseRecord::State::kWorking
                  : state == 2 ? LeaseRecord::State::kDone
                               : LeaseRecord::State::kReleased;
        break;
      }
      case 2:
        take(f, r.holder);
        break;
      case 3:
        take(f, r.host);
        break;
      case 4:
        take(f, r.run);
        break;
      case 5:
        take(f, r.due_ns);
        break;
      case 6:
        take(f, r.length_ns);
        break;
      case 7:
        take(f, r.done_by);
        break;
      case 8:
        take(f, r.done_due_ns);
        break;
      case 9:
        r.tried.push_back(take_tried(f.get_message()));
        break;
      case 10:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const RetainRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.snapshot);
    put(w, 2, r.keep_until_ns);
    put(w, 3, r.at_ns);
  });
}
template <>
Result<RetainRecord> decode(ByteView body) {
  return read_message<RetainRecord>(body, [](Reader& f, RetainRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.snapshot);
        break;
      case 2:
        take(f, r.keep_until_ns);
        break;
      case 3:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const ProofRecord& p) {
  return message([&](Writer& w) {
    put(w, 1, p.snapshot);
    put(w, 2, p.resource);
    put(w, 3, p.vault);
    put(w, 4, p.target);
    put(w, 5, p.passed);
    for (const ProofCheck& check : p.checks) {
      put_message(w, 6, message([&](Writer& c) {
                    put(c, 1, check.name);
                    put(c, 2, check.verdict);
                    put(c, 3, check.detail);
                  }));
    }
    put(w, 7, p.started_ns);
    put(w, 8, p.seconds_to_open);
    put(w, 9, p.seconds_total);
    put(w, 10, p.bytes_restored);
    put(w, 11, p.facts);
  });
}
template <>
Result<ProofRecord> decode(ByteView body) {
  return read_message<ProofRecord>(body, [](Reader& f, ProofRecord& p) {
    switch (f.tag()) {
      case 1:
        take(f, p.snapshot);
        break;
      case 2:
        take(f, p.resource);
        break;
      case 3:
        take(f, p.vault);
        break;
      case 4:
        take(f, p.target);
        break;
      case 5:
        take(f, p.passed);
        break;
      case 6: {
        ProofCheck& check = p.checks.emplace_back();
        Reader c = f.get_message();
        while (c.next()) {
          switch (c.tag()) {
            case 1:
              take(c, check.name);
              break;
            case 2:
              take(c, check.verdict);
              break;
            case 3:
              take(c, check.detail);
              break;
            default:
              c.skip();
          }
        }
        break;
      }
      case 7:
        take(f, p.started_ns);
        break;
      case 8:
        take(f, p.seconds_to_open);
        break;
      case 9:
        take(f, p.seconds_total);
        break;
      case 10:
        take(f, p.bytes_restored);
        break;
      case 11:
        take(f, p.facts);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const DisownedRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.commit_name);
    put(w, 2, r.object_digest);
    put(w, 3, r.reason);
    put(w, 4, r.at_ns);
  });
}
template <>
Result<DisownedRecord> decode(ByteView body) {
  return read_message<DisownedRecord>(body, [](Reader& f, DisownedRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.commit_name);
        break;
      case 2:
        take(f, r.object_digest);
        break;
      case 3:
        take(f, r.reason);
        break;
      case 4:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const ProbeRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.at_ns);
    put(w, 2, r.objects);
    put(w, 3, r.ledger);
    put(w, 4, r.host);
  });
}
template <>
Result<ProbeRecord> decode(ByteView body) {
  return read_message<ProbeRecord>(body, [](Reader& f, ProbeRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.at_ns);
        break;
      case 2:
        take(f, r.objects);
        break;
      case 3:
        take(f, r.ledger);
        break;
      case 4:
        take(f, r.host);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const AppliedRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.configuration);
    put(w, 3, r.text);
    put(w, 4, r.host);
    put(w, 5, r.user);
    put(w, 6, r.at_ns);
  });
}
template <>
Result<AppliedRecord> decode(ByteView body) {
  return read_message<AppliedRecord>(body, [](Reader& f, AppliedRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.configuration);
        break;
      case 3:
        take(f, r.text);
        break;
      case 4:
        take(f, r.host);
        break;
      case 5:
        take(f, r.user);
        break;
      case 6:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const GrantRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.key);
    put(w, 2, r.role);
    put(w, 3, r.name);
    put(w, 4, r.at_ns);
  });
}
template <>
Result<GrantRecord> decode(ByteView body) {
  return read_message<GrantRecord>(body, [](Reader& f, GrantRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.key);
        break;
      case 2:
        take(f, r.role);
        break;
      case 3:
        take(f, r.name);
        break;
      case 4:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const RevocationRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.signer);
    put(w, 2, r.reason);
    put(w, 3, r.at_ns);
    for (const Digest& digest : r.counted) put(w, 4, digest);
    put(w, 5, r.wal);
  });
}
template <>
Result<RevocationRecord> decode(ByteView body) {
  return read_message<RevocationRecord>(body, [](Reader& f, RevocationRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.signer);
        break;
      case 2:
        take(f, r.reason);
        break;
      case 3:
        take(f, r.at_ns);
        break;
      case 4:
        take(f, r.counted.emplace_back());
        break;
      case 5:
        take(f, r.wal);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const ApprovalRequestRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.id);
    put(w, 2, r.vault);
    put(w, 3, r.act);
    put(w, 4, r.lines);
    put(w, 5, r.at_ns);
    put(w, 6, r.until_ns);
    put(w, 7, r.host);
    put(w, 8, r.user);
  });
}
template <>
Result<ApprovalRequestRecord> decode(ByteView body) {
  return read_message<ApprovalRequestRecord>(body, [](Reader& f, ApprovalRequestRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.id);
        break;
      case 2:
        take(f, r.vault);
        break;
      case 3:
        take(f, r.act);
        break;
      case 4:
        take(f, r.lines);
        break;
      case 5:
        take(f, r.at_ns);
        break;
      case 6:
        take(f, r.until_ns);
        break;
      case 7:
        take(f, r.host);
        break;
      case 8:
        take(f, r.user);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const ApprovalRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.id);
    put(w, 2, r.request);
    put(w, 3, r.at_ns);
    put(w, 4, r.host);
    put(w, 5, r.user);
  });
}
template <>
Result<ApprovalRecord> decode(ByteView body) {
  return read_message<ApprovalRecord>(body, [](Reader& f, ApprovalRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.id);
        break;
      case 2:
        take(f, r.request);
        break;
      case 3:
        take(f, r.at_ns);
        break;
      case 4:
        take(f, r.host);
        break;
      case 5:
        take(f, r.user);
        break;
      default:
        f.skip();
    }
  });
}

namespace {
Bytes encode_head(const AuditHead& head) {
  return message([&](Writer& w) {
    put(w, 1, head.signer);
    put(w, 2, head.number);
    put(w, 3, head.digest);
  });
}
AuditHead take_head(Reader one) {
  AuditHead head;
  while (one.next()) {
    switch (one.tag()) {
      case 1:
        take(one, head.signer);
        break;
      case 2:
        take(one, head.number);
        break;
      case 3:
        take(one, head.digest);
        break;
      default:
        one.skip();
    }
  }
  return head;
}
}  // namespace

Bytes encode(const AuditRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.action);
    put(w, 3, r.object);
    put(w, 4, r.detail);
    put(w, 5, r.host);
    put(w, 6, r.at_ns);
    put(w, 7, r.previous);
    put(w, 8, r.vault);
    for (const AuditHead& head : r.heads) put_message(w, 9, encode_head(head));
    put(w, 10, ByteView(r.sealed));
    for (const AuditHead& head : r.expired) put_message(w, 11, encode_head(head));
  });
}
template <>
Result<AuditRecord> decode(ByteView body) {
  return read_message<AuditRecord>(body, [](Reader& f, AuditRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.action);
        break;
      case 3:
        take(f, r.object);
        break;
      case 4:
        take(f, r.detail);
        break;
      case 5:
        take(f, r.host);
        break;
      case 6:
        take(f, r.at_ns);
        break;
      case 7:
        take(f, r.previous);
        break;
      case 8:
        take(f, r.vault);
        break;
      case 9:
        r.heads.push_back(take_head(f.get_message()));
        break;
      case 10:
        take(f, r.sealed);
        break;
      case 11:
        r.expired.push_back(take_head(f.get_message()));
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const AuditAct& r) {
  return message([&](Writer& w) {
    put(w, 1, r.verb);
    put(w, 2, r.resource);
    put(w, 3, r.object);
    put(w, 4, r.result);
    put(w, 5, r.reason);
    put(w, 6, r.host);
    put(w, 7, r.user);
    put(w, 8, r.detail);
  });
}
template <>
Result<AuditAct> decode(ByteView body) {
  return read_message<AuditAct>(body, [](Reader& f, AuditAct& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.verb);
        break;
      case 2:
        take(f, r.resource);
        break;
      case 3:
        take(f, r.object);
        break;
      case 4:
        take(f, r.result);
        break;
      case 5:
        take(f, r.reason);
        break;
      case 6:
        take(f, r.host);
        break;
      case 7:
        take(f, r.user);
        break;
      case 8:
        take(f, r.detail);
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const AuditArchiveRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.vault);
    put(w, 2, r.at_ns);
    for (const AuditArchiveRecord::Entry& entry : r.entries) {
      Writer one(w, 3);
      put(one, 1, entry.name);
      put(one, 2, ByteView(entry.object));
      put(one, 3, entry.stored_ns);
    }
  });
}
namespace {
AuditArchiveRecord::Entry take_archived(Reader one) {
  AuditArchiveRecord::Entry entry;
  while (one.next()) {
    switch (one.tag()) {
      case 1:
        take(one, entry.name);
        break;
      case 2:
        take(one, entry.object);
        break;
      case 3:
        take(one, entry.stored_ns);
        break;
      default:
        one.skip();
    }
  }
  return entry;
}
}  // namespace
template <>
Result<AuditArchiveRecord> decode(ByteView body) {
  return read_message<AuditArchiveRecord>(body, [](Reader& f, AuditArchiveRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.vault);
        break;
      case 2:
        take(f, r.at_ns);
        break;
      case 3:
        r.entries.push_back(take_archived(f.get_message()));
        break;
      default:
        f.skip();
    }
  });
}

Bytes encode(const CopyRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.origin);
    put(w, 2, ByteView(r.commit));
    w.add_sint64(3, r.keep_until_ns);  // always there: its default is not zero
    put(w, 4, r.copied_ns);
    put(w, 5, r.from);
  });
}
template <>
Result<CopyRecord> decode(ByteView body) {
  return read_message<CopyRecord>(body, [](Reader& f, CopyRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.origin);
        break;
      case 2:
        take(f, r.commit);
        break;
      case 3:
        take(f, r.keep_until_ns);
        break;
      case 4:
        take(f, r.copied_ns);
        break;
      case 5:
        take(f, r.from);
        break;
      default:
        f.skip();
    }
  });
}

namespace {
AcceptedCommit take_accepted(Reader one) {
  AcceptedCommit commit;
  while (one.next()) {
    switch (one.tag()) {
      case 1:
        take(one, commit.name);
        break;
      case 2:
        take(one, commit.epoch);
        break;
      case 3:
        take(one, commit.digest);
        break;
      default:
        one.skip();
    }
  }
  return commit;
}
}  // namespace

Bytes encode(const EpochRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.token);
    for (const AcceptedCommit& commit : r.accepted) {
      put_message(w, 3, message([&](Writer& one) {
                    put(one, 1, commit.name);
                    put(one, 2, commit.epoch);
                    put(one, 3, commit.digest);
                  }));
    }
    put(w, 4, r.pruned);
    put(w, 5, r.swept);
    put(w, 6, r.at_ns);
  });
}
template <>
Result<EpochRecord> decode(ByteView body) {
  return read_message<EpochRecord>(body, [](Reader& f, EpochRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.token);
        break;
      case 3:
        r.accepted.push_back(take_accepted(f.get_message()));
        break;
      case 4:
        take(f, r.pruned);
        break;
      case 5:
        take(f, r.swept);
        break;
      case 6:
        take(f, r.at_ns);
        break;
      default:
        f.skip();
    }
  });
}

namespace {
CatalogRecord::Entry take_entry(Reader one) {
  CatalogRecord::Entry entry;
  while (one.next()) {
    switch (one.tag()) {
      case 1:
        take(one, entry.name);
        break;
      case 2:
        take(one, entry.object);
        break;
      default:
        one.skip();
    }
  }
  return entry;
}
}  // namespace

Bytes encode(const CatalogRecord& r) {
  return message([&](Writer& w) {
    put(w, 1, r.number);
    put(w, 2, r.at_ns);
    for (const CatalogRecord::Entry& entry : r.entries) {
      Writer one(w, 3);
      put(one, 1, entry.name);
      put(one, 2, entry.object);
    }
  });
}
template <>
Result<CatalogRecord> decode(ByteView body) {
  return read_message<CatalogRecord>(body, [](Reader& f, CatalogRecord& r) {
    switch (f.tag()) {
      case 1:
        take(f, r.number);
        break;
      case 2:
        take(f, r.at_ns);
        break;
      case 3:
        r.entries.push_back(take_entry(f.get_message()));
        break;
      default:
        f.skip();
    }
  });
}

}  // namespace kuramori
