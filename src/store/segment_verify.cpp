#include <bit>
#include <string>
#include <vector>

#include "store/segment_reader.h"

namespace ehub {

Status SegmentReader::verify() const {
  EHUB_RETURN_IF_ERROR(sections_.verify_all());
  EHUB_RETURN_IF_ERROR(vectors_.verify_all());
  EHUB_RETURN_IF_ERROR(verify_births());
  EHUB_RETURN_IF_ERROR(verify_table_count());
  return verify_keys();
}

std::vector<Finding> SegmentReader::findings(std::atomic<uint64_t>* checked) const {
  std::vector<Finding> findings = sections_.findings(checked);
  const std::vector<Finding> of_vectors = vectors_.findings(checked);
  findings.insert(findings.end(), of_vectors.begin(), of_vectors.end());
  if (!findings.empty()) return findings;
  if (const Status status = verify(); !status.ok()) findings.push_back(finding_of(sections_.path(), status));
  return findings;
}

Status SegmentReader::verify_births() const {
  const uint64_t births = count(Section::kBirths, sizeof(Birth));
  Birth previous{};
  for (uint64_t i = 0; i < births; ++i) {
    const auto found = item<Birth>(Section::kBirths, i);
    if (!found.ok()) return found.status();
    const Birth& birth = found.value();
    const bool in_order = i == 0 ? birth.first_row == 0 : birth.first_row > previous.first_row;
    if (!in_order || birth.first_row >= footer_.rows || birth.seq <= previous.seq || birth.reserved != 0) {
      return damaged(Section::kBirths, i * sizeof(Birth), "births out of order");
    }
    if (i == 0 && birth.seq != footer_.seq_min) return damaged(Section::kBirths, 0, "wrong first seq");
    previous = birth;
  }
  if (previous.seq != footer_.seq_max) return damaged(Section::kBirths, 0, "wrong last seq");
  return {};
}

// With as many taken slots as different keys, and every key found, no slot names a row that it should not.
Status SegmentReader::verify_table_count() const {
  uint64_t taken = 0;
  for (uint64_t i = 0; i < buckets_; ++i) {
    const auto bytes = bucket(i);
    if (!bytes.ok()) return bytes.status();
    taken += static_cast<uint64_t>(std::popcount(taken_slots(load_le<KeyBucket>(bytes.value()))));
  }
  if (taken != footer_.keys) return damaged(Section::kKeyTable, 0, "the key table has another number of keys");
  return {};
}

// Which rows are the older one of a pair. Each may be so once, with a row of the same key: then the pairs of one key
// form a single chain, from its youngest row to its oldest.
Result<std::vector<bool>> SegmentReader::verify_older_rows() const {
  std::vector<bool> has_younger(footer_.rows);
  Row previous = 0;
  for (uint64_t i = 0; i < count(Section::kOlderRows, sizeof(OlderRow)); ++i) {
    const auto pair = item<OlderRow>(Section::kOlderRows, i);
    if (!pair.ok()) return pair.status();
    const auto [row, older] = pair.value();
    // Row 0 has no older row, so the first pair is above it, too.
    if (row <= previous || row >= footer_.rows || older >= row || has_younger[older]) {
      return damaged(Section::kOlderRows, i * sizeof(OlderRow), "older rows out of order");
    }
    const auto key = this->key(row);
    const auto older_key = this->key(older);
    if (!key.ok() || !older_key.ok()) return key.ok() ? older_key.status() : key.status();
    if (key.value() != older_key.value()) {
      return damaged(Section::kOlderRows, i * sizeof(OlderRow), "an older row of another key");
    }
    has_younger[older] = true;
    previous = row;
  }
  return has_younger;
}

Status SegmentReader::verify_keys() const {
  const auto has_younger = verify_older_rows();
  if (!has_younger.ok()) return has_younger.status();
  uint64_t key_bytes = 0;
  for (Row row = 0; row < footer_.rows; ++row) {
    const auto bytes = key(row);
    if (!bytes.ok()) return bytes.status();
    key_bytes += bytes.value().size();
    const auto found = find(make_key(footer_.hash_seed, bytes.value()));
    if (!found.ok()) return found.status();
    const bool right = has_younger.value()[row] ? found.value() != kNoRow && found.value() > row : found.value() == row;
    if (!right) return damaged(Section::kKeyTable, 0, "key of row " + std::to_string(row) + " leads elsewhere");
  }
  if (key_bytes != footer_.section(Section::kKeyBytes).length) {
    return damaged(Section::kKeyBytes, key_bytes, "bytes after the last key");
  }
  return {};
}

}  // namespace ehub
