#include "daemon/wal_protocol.h"

#include <fmt/core.h>

#include "vault/wire.h"

namespace kuramori {
namespace {

constexpr std::string_view kMagic = "KRMS";
constexpr size_t kHeadBytes = 6;  // magic, version

Bytes with_head(const std::string& body) {
  Bytes out = to_bytes(as_bytes(kMagic));
  append_le(out, kWalProtocolVersion);
  append(out, as_bytes(body));
  return out;
}

Result<ByteView> body_of(ByteView bytes) {
  if (bytes.size() < kHeadBytes || as_text(bytes.first(kMagic.size())) != kMagic)
    return fail(ErrorKind::kUsage, "this is no message of kuramori");
  uint16_t version = load_le<uint16_t>(bytes.data() + kMagic.size());
  if (version != kWalProtocolVersion)
    return fail(ErrorKind::kUsage, fmt::format("the message is of version {}, this program speaks {}",
                                               version, kWalProtocolVersion));
  return bytes.subspan(kHeadBytes);
}

void put_text(protozero::pbf_writer& w, uint32_t field, std::string_view text) {
  if (!text.empty()) w.add_bytes(field, text.data(), text.size());
}

std::string text_of(protozero::pbf_reader& r, size_t max) {
  auto view = r.get_view();
  if (view.size() > max) throw std::invalid_argument("a field is too long");
  return {view.data(), view.size()};
}

// Runs `field(reader)` for every field; protozero's complaints end here.
template <class Field>
Result<void> read_fields(ByteView body, Field&& field) {
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(body.data()), body.size());
    while (r.next()) field(r);
    return {};
  } catch (const std::exception& problem) {
    return fail(ErrorKind::kUsage, "the message cannot be read", problem.what());
  }
}

constexpr auto kLastErrorKind = ErrorKind::kDamaged;

}  // namespace

Bytes encode(const WalRequest& request) {
  std::string body;
  protozero::pbf_writer w(body);
  w.add_uint32(1, static_cast<uint32_t>(request.verb));
  put_text(w, 2, request.name);
  put_text(w, 3, request.resource);
  put_text(w, 4, request.vault);
  put_text(w, 5, request.key_file);
  put_text(w, 6, request.config);
  put_text(w, 7, as_text(request.control));
  for (const std::string& name : request.ahead) w.add_bytes(8, name.data(), name.size());
  put_text(w, 9, request.promise);
  for (const std::string& name : request.earlier) w.add_bytes(10, name.data(), name.size());
  return with_head(body);
}

Result<WalRequest> decode_wal_request(ByteView bytes) {
  TRY_ASSIGN(ByteView body, body_of(bytes));
  WalRequest out;
  uint32_t verb = 0;
  TRY(read_fields(body, [&](protozero::pbf_reader& r) {
    switch (r.tag()) {
      case 1:
        verb = r.get_uint32();
        break;
      case 2:
        out.name = text_of(r, 64);
        break;
      case 3:
        out.resource = text_of(r, kRequestTextBytesMax);
        break;
      case 4:
        out.vault = text_of(r, kRequestTextBytesMax);
        break;
      case 5:
        out.key_file = text_of(r, kRequestTextBytesMax);
        break;
      case 6:
        out.config = text_of(r, kRequestTextBytesMax);
        break;
      case 7:
        out.control = to_bytes(as_bytes(text_of(r, kControlBytesMax)));
        break;
      case 8:
        if (out.ahead.size() == kAheadFilesMax) throw std::invalid_argument("too many files");
        out.ahead.push_back(text_of(r, 64));
        break;
      case 9:
        out.promise = text_of(r, kRequestTextBytesMax);
        break;
      case 10:
        if (out.earlier.size() == kEarlierFilesMax) throw std::invalid_argument("too many files");
        out.earlier.push_back(text_of(r, 64));
        break;
      default:
        r.skip();
    }
  }));
  if (verb != 1 && verb != 2) return fail(ErrorKind::kUsage, "the message asks for nothing that is known");
  out.verb = static_cast<WalVerb>(verb);
  return out;
}

Bytes encode(const WalAnswer& answer) {
  // A message has a bound; what a store said may have none.
  auto line = [](const std::string& text) { return std::string_view(text).substr(0, kRequestTextBytesMax); };
  std::string body;
  protozero::pbf_writer w(body);
  w.add_uint32(1, static_cast<uint32_t>(answer.kind));
  w.add_uint32(2, static_cast<uint32_t>(answer.error.kind));
  put_text(w, 3, line(answer.error.what));
  put_text(w, 4, line(answer.error.why));
  put_text(w, 5, line(answer.error.next));
  put_text(w, 6, line(answer.resource));
  w.add_uint64(7, answer.bytes);
  w.add_uint32(8, static_cast<uint32_t>(answer.put));
  w.add_uint32(9, static_cast<uint32_t>(answer.decision.answer));
  put_text(w, 10, line(answer.decision.why));
  return with_head(body);
}

Result<WalAnswer> decode_wal_answer(ByteView bytes) {
  TRY_ASSIGN(ByteView body, body_of(bytes));
  WalAnswer out;
  uint32_t kind = 0, error = 0, put = 0, decision = static_cast<uint32_t>(postgres::Get::kStopServer);
  TRY(read_fields(body, [&](protozero::pbf_reader& r) {
    switch (r.tag()) {
      case 1:
        kind = r.get_uint32();
        break;
      case 2:
        error = r.get_uint32();
        break;
      case 3:
        out.error.what = text_of(r, kRequestTextBytesMax);
        break;
      case 4:
        out.error.why = text_of(r, kRequestTextBytesMax);
        break;
      case 5:
        out.error.next = text_of(r, kRequestTextBytesMax);
        break;
      case 6:
        out.resource = text_of(r, kRequestTextBytesMax);
        break;
      case 7:
        out.bytes = r.get_uint64();
        break;
      case 8:
        put = r.get_uint32();
        break;
      case 9:
        decision = r.get_uint32();
        break;
      case 10:
        out.decision.why = text_of(r, kRequestTextBytesMax);
        break;
      default:
        r.skip();
    }
  }));
  bool known = kind >= 1 && kind <= 5 && error <= static_cast<uint32_t>(kLastErrorKind) && put <= 1 &&
               decision <= static_cast<uint32_t>(postgres::Get::kStopServer);
  if (!known) return fail(ErrorKind::kUsage, "the answer says nothing that is known");
  out.kind = static_cast<WalAnswer::Kind>(kind);
  out.error.kind = static_cast<ErrorKind>(error);
  out.put = static_cast<WalPut>(put);
  out.decision.answer = static_cast<postgres::Get>(decision);
  return out;
}

}  // namespace kuramori
