// Makes WAL of our own: for what real servers write rarely.
#pragma once
#include "base/bytes.h"
#include "codec/crc32c.h"
#include "source/postgres/wal_reader.h"

namespace kuramori::postgres {

constexpr uint32_t kMiB = 1u << 20;
constexpr Lsn kFirst = 0x5000000;  // where it begins

class Wal {
 public:
  static constexpr uint64_t kSystem = 4711;
  explicit Wal(uint32_t segment_bytes = kMiB) : segment_bytes_(segment_bytes) {}
  Lsn add(uint8_t rmgr, uint8_t info, const Bytes& body, uint32_t xid = 0) {
    while (position() % 8 != 0) bytes_.push_back(0);
    start_page_if_due(0);
    const Lsn lsn = position();
    Bytes record;
    append_le<uint32_t>(record, static_cast<uint32_t>(24 + body.size()));
    append_le<uint32_t>(record, xid);
    append_le<uint64_t>(record, previous_);
    record.push_back(info);
    record.push_back(rmgr);
    append_le<uint16_t>(record, 0);
    append_le<uint32_t>(record, crc32c(ByteView(record).first(20), crc32c(body)));
    append(record, body);
    for (size_t at = 0; at < record.size(); ++at) {
      start_page_if_due(static_cast<uint32_t>(record.size() - at));
      bytes_.push_back(record[at]);
    }
    previous_ = lsn;
    return lsn;
  }
  static Bytes main_data(const Bytes& data) {
    Bytes body;
    if (data.size() < 256) {
      body = {255, static_cast<uint8_t>(data.size())};
    } else {
      body = {254};
      append_le<uint32_t>(body, static_cast<uint32_t>(data.size()));
    }
    append(body, data);
    return body;
  }
  Lsn commit(uint32_t xid, int64_t microseconds) {
    Bytes data;
    append_le(data, microseconds);
    return add(kRmXact, 0x00, main_data(data), xid);
  }
  Bytes pages() const {
    Bytes whole = bytes_;
    whole.resize((whole.size() + kWalPageBytes - 1) / kWalPageBytes * kWalPageBytes);
    return whole;
  }
  Lsn position() const { return kFirst + bytes_.size(); }
  Bytes bytes_;
  uint16_t page_flags_ = 0;  // added to the next page's
  Timeline timeline_ = 1;

 private:
  uint32_t segment_bytes_;
  Lsn previous_ = kFirst - 64;
  void start_page_if_due(uint32_t rest) {
    if (position() % kWalPageBytes != 0) return;
    const bool is_long = position() % segment_bytes_ == 0;
    const Lsn here = position();
    append_le<uint16_t>(bytes_, 0xd110);  // PostgreSQL 15
    append_le<uint16_t>(bytes_, static_cast<uint16_t>((rest ? 1 : 0) | (is_long ? 2 : 0) | page_flags_));
    append_le<uint32_t>(bytes_, timeline_);
    append_le<uint64_t>(bytes_, here);
    append_le<uint32_t>(bytes_, rest);
    append_le<uint32_t>(bytes_, 0);
    if (is_long) {
      append_le<uint64_t>(bytes_, kSystem);
      append_le<uint32_t>(bytes_, segment_bytes_);
      append_le<uint32_t>(bytes_, kWalPageBytes);
    }
    page_flags_ = 0;
  }
};

}  // namespace kuramori::postgres
