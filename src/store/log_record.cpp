#include "store/log_record.h"

#include "base/limits.h"
#include "store/schema.h"

namespace ehub {
namespace {

void encode_keys(const std::vector<std::string_view>& keys, ByteWriter& out) {
  out.varint(keys.size());
  for (const std::string_view key : keys) out.varint(key.size());
  for (const std::string_view key : keys) out.raw(key.data(), key.size());
}

void encode_extents(const std::vector<Extent>& extents, ByteWriter& out) {
  out.varint(extents.size());
  for (const Extent& extent : extents) {
    out.varint(extent.segment);
    out.varint(extent.first_row);
    out.varint(extent.rows);
    out.varint(extent.block_crcs.size());
    for (const uint32_t crc : extent.block_crcs) out.fixed(crc);
  }
}

void encode_names(const LogOp& op, ByteWriter& out) {
  out.varint(op.partition_names.size());
  for (const std::string_view name : op.partition_names) out.string(name);
}

void encode_set(const LogOp& op, ByteWriter& out) {
  encode_keys(op.keys, out);
  encode_names(op, out);
  if (!op.partition_names.empty()) {
    for (const uint32_t partition : op.row_partitions) out.varint(partition);
  }
  out.varint(op.births.size());
  Seq previous = 0;
  for (const Seq born : op.births) {
    out.varint(born - previous);
    previous = born;
  }
  encode_extents(op.extents, out);
  out.varint(op.vector_bytes);
  out.raw(op.vectors, op.vector_bytes);
}

void encode_create(const LogOp& op, ByteWriter& out) {
  out.string(op.space);
  out.string(op.version);
  encode_schema(op.schema, out);
}

void encode_notes(const LogOp& op, ByteWriter& out) {
  out.varint(op.notes.size());
  for (const auto& [name, text] : op.notes) {
    out.string(name);
    out.fixed<uint8_t>(text ? 1 : 0);
    if (text) out.string(*text);
  }
}

// A count of things that take at least one byte each in what is left: no more than that is ever allocated.
uint64_t bounded_count(ByteReader& in) {
  const uint64_t count = in.varint();
  return count <= in.left() ? count : (in.raw(in.left() + 1), 0);
}

void decode_keys(ByteReader& in, LogOp* op) {
  std::vector<uint64_t> sizes(bounded_count(in));
  for (uint64_t& size : sizes) size = in.varint();
  op->keys.reserve(sizes.size());
  for (const uint64_t size : sizes) {
    const uint8_t* bytes = size <= kKeyBytesMax ? in.raw(size) : in.raw(in.left() + 1);
    op->keys.emplace_back(reinterpret_cast<const char*>(bytes), bytes == nullptr ? 0 : size);
  }
}

void decode_extents(ByteReader& in, LogOp* op) {
  op->extents.resize(bounded_count(in));
  for (Extent& extent : op->extents) {
    extent.segment = in.varint();
    extent.first_row = static_cast<Row>(in.varint());
    extent.rows = static_cast<Row>(in.varint());
    extent.block_crcs.resize(bounded_count(in));
    for (uint32_t& crc : extent.block_crcs) crc = in.fixed<uint32_t>();
  }
}

void decode_names(ByteReader& in, LogOp* op) {
  op->partition_names.resize(bounded_count(in));
  for (std::string_view& name : op->partition_names) name = in.string();
}

void decode_set(ByteReader& in, LogOp* op) {
  decode_keys(in, op);
  decode_names(in, op);
  if (!op->partition_names.empty() && in.ok()) {
    op->row_partitions.resize(op->keys.size());
    for (uint32_t& partition : op->row_partitions) partition = static_cast<uint32_t>(in.varint());
  }
  op->births.resize(bounded_count(in));
  Seq born = 0;
  for (Seq& seq : op->births) seq = born += in.varint();
  decode_extents(in, op);
  op->vector_bytes = in.varint();
  op->vectors = in.raw(op->vector_bytes);
}

void decode_create(ByteReader& in, LogOp* op) {
  op->space = in.string();
  op->version = in.string();
  op->schema = decode_schema(in);
}

void decode_notes(ByteReader& in, LogOp* op) {
  op->notes.resize(bounded_count(in));
  for (auto& [name, text] : op->notes) {
    name = in.string();
    if (in.fixed<uint8_t>() != 0) text = in.string();
  }
}

// What the checksum cannot promise: that the parts of a set agree with each other.
bool consistent(const LogOp& op) {
  if (op.kind == LogOp::Kind::kCreateTable) {
    return op.schema.is_sound() && op.space.size() <= kNameBytesMax && op.version.size() <= kNameBytesMax;
  }
  if (op.kind == LogOp::Kind::kTag) return !op.tag.empty() && op.tag.size() <= kNameBytesMax;
  if (op.kind != LogOp::Kind::kSet) return true;
  uint64_t extent_rows = 0;
  for (const Extent& extent : op.extents) extent_rows += extent.rows;
  if (!op.births.empty() && op.births.size() != op.keys.size()) return false;
  for (const uint32_t partition : op.row_partitions) {
    if (partition > op.partition_names.size()) return false;
  }
  return op.extents.empty() ? op.keys.empty() || op.vector_bytes % (op.keys.size() * sizeof(float)) == 0
                            : extent_rows == op.keys.size() && op.vector_bytes == 0;
}

bool decode_op(ByteReader& in, LogOp* op) {
  op->kind = static_cast<LogOp::Kind>(in.fixed<uint8_t>());
  op->table = in.varint();
  switch (op->kind) {
    case LogOp::Kind::kSet:
      decode_set(in, op);
      break;
    case LogOp::Kind::kDelete:
      decode_keys(in, op);
      break;
    case LogOp::Kind::kCreateTable:
      decode_create(in, op);
      break;
    case LogOp::Kind::kTag:
      op->tag = in.string();
      op->then = in.varint();
      break;
    case LogOp::Kind::kUntag:
      op->tag = in.string();
      break;
    case LogOp::Kind::kRestore:
      op->then = in.varint();
      break;
    case LogOp::Kind::kNotes:
      decode_notes(in, op);
      break;
    case LogOp::Kind::kDeleteWithin:
      decode_names(in, op);
      break;
    case LogOp::Kind::kDeleteAll:
    case LogOp::Kind::kDropTable:
    case LogOp::Kind::kFreeze:
      break;
    default:
      return false;
  }
  return in.ok() && consistent(*op);
}

}  // namespace

void encode_op(const LogOp& op, ByteWriter& out) {
  out.fixed(static_cast<uint8_t>(op.kind));
  out.varint(op.table);
  switch (op.kind) {
    case LogOp::Kind::kSet:
      return encode_set(op, out);
    case LogOp::Kind::kDelete:
      return encode_keys(op.keys, out);
    case LogOp::Kind::kCreateTable:
      return encode_create(op, out);
    case LogOp::Kind::kTag:
      out.string(op.tag);
      out.varint(op.then);
      return;
    case LogOp::Kind::kUntag:
      out.string(op.tag);
      return;
    case LogOp::Kind::kRestore:
      out.varint(op.then);
      return;
    case LogOp::Kind::kNotes:
      return encode_notes(op, out);
    case LogOp::Kind::kDeleteWithin:
      return encode_names(op, out);
    case LogOp::Kind::kDeleteAll:
    case LogOp::Kind::kDropTable:
    case LogOp::Kind::kFreeze:
      return;
  }
}

Result<std::vector<LogOp>> decode_ops(const std::string& path, uint64_t offset, const std::vector<uint8_t>& payload) {
  ByteReader in(payload.data(), payload.size());
  std::vector<LogOp> ops;
  while (in.left() > 0) {
    if (!decode_op(in, &ops.emplace_back())) return corruption(path, offset, "the record's operations are malformed");
  }
  return ops;
}

}  // namespace ehub
