// How a schema is written, in the log and in the manifest.
//
// Thread-safety: pure functions.

#pragma once

#include "base/bytes.h"
#include "store/types.h"

namespace ehub {

void encode_schema(const Schema& schema, ByteWriter& out);
// What encode_schema() wrote; of anything else a schema that is not sound, or a failed reader.
Schema decode_schema(ByteReader& in);

}  // namespace ehub
