#include "store/schema.h"

#include <algorithm>
#include <limits>

namespace ehub {
namespace {

// A number beyond 32 bits becomes one that is sound nowhere.
uint32_t take_uint32(ByteReader& in) {
  return static_cast<uint32_t>(std::min<uint64_t>(in.varint(), std::numeric_limits<uint32_t>::max()));
}

}  // namespace

void encode_schema(const Schema& schema, ByteWriter& out) {
  out.varint(schema.dims);
  out.varint(static_cast<uint32_t>(schema.metric));
  out.varint(static_cast<uint32_t>(schema.key_type));
  out.varint(schema.index.M);
  out.varint(schema.index.ef_construction);
  out.varint(schema.index.ef);
  out.fixed(schema.index.target_recall);
}

Schema decode_schema(ByteReader& in) {
  Schema schema;
  schema.dims = take_uint32(in);
  schema.metric = static_cast<Metric>(take_uint32(in));
  schema.key_type = static_cast<KeyType>(take_uint32(in));
  schema.index.M = take_uint32(in);
  schema.index.ef_construction = take_uint32(in);
  schema.index.ef = take_uint32(in);
  schema.index.target_recall = in.fixed<float>();
  return schema;
}

}  // namespace ehub
