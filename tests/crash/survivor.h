// What must be true of a hub that is opened after a crash.
//
// It opens; it holds one of the allowed models, by every way of reading; what it shows, a power cut right after cannot
// take back; and it goes on: one more write, a clean close, and verify() finds nothing.
//
// Thread-safety: one thread.

#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "history.h"
#include "io/fault_file.h"
#include "look.h"
#include "model.h"

namespace ehub::crash {

inline const std::string kRoot = "/hub";

using AbsentKeys = std::map<std::string, std::set<std::string>>;

inline bool is_index_file(const std::string& path) { return path.find(kRoot + "/index") != std::string::npos; }

// Whether a failure is that of an index file, none of which is a reason for a step to fail.
inline bool is_about_index(const Status& status) { return is_index_file(status.message()); }

// A hub that opened and was read, and which model it equals.
struct Survivor {
  std::unique_ptr<Store> store;
  size_t model = 0;
  std::string wrong;  // "": all is well
};

// Opens the hub and finds which of the models [first, last] it holds.
inline Survivor revive(FaultFileSystem& fs, const StoreOptions& options, const History& history, size_t first,
                       const AbsentKeys& absent) {
  Survivor survivor;
  Result<std::unique_ptr<Store>> opened = Store::open(fs, kRoot, options);
  if (!opened.ok()) return {nullptr, 0, "does not open: " + opened.status().message()};
  survivor.store = std::move(opened.value());
  const Result<SeenHub> seen = look(*survivor.store);
  if (!seen.ok()) return {nullptr, 0, "cannot be read: " + seen.status().message()};
  const Match found = match(seen.value(), history, first, history.last_allowed());
  survivor.model = found.model;
  survivor.wrong = found.wrong;
  if (survivor.wrong.empty()) {
    survivor.wrong = disagrees(*survivor.store, seen.value(), history.model(found.model), absent);
  }
  return survivor;
}

// "" or how the open hub differs from `model`.
inline std::string compare(const Store& store, const ModelHub& model, const AbsentKeys& absent = {}) {
  const Result<SeenHub> seen = look(store);
  if (!seen.ok()) return "cannot be read: " + seen.status().message();
  const std::string difference = differs(seen.value(), model);
  return difference.empty() ? disagrees(store, seen.value(), model, absent) : difference;
}

// The same with sub-indices.
inline std::string compare_all(const Store& store, const ModelHub& model) {
  const Result<SeenHub> seen = look(store);
  if (!seen.ok()) return "cannot be read: " + seen.status().message();
  std::string wrong = differs(seen.value(), model);
  if (wrong.empty()) wrong = disagrees(store, seen.value(), model);
  return wrong.empty() ? subindices_disagree(store, seen.value(), model) : wrong;
}

// "" or what verify() found.
inline std::string verify_finds(const Store& store) {
  const Result<VerifyReport> report = store.verify();
  if (!report.ok()) return "verify fails: " + report.status().message();
  if (report.value().findings.empty()) return "";
  const Finding& first = report.value().findings[0];
  return "verify finds " + first.path + ": " + first.what;
}

inline std::string opens_as(FaultFileSystem& fs, const StoreOptions& options, const ModelHub& model) {
  const Result<std::unique_ptr<Store>> opened = Store::open(fs, kRoot, options);
  if (!opened.ok()) return "does not open: " + opened.status().message();
  const std::string wrong = compare(*opened.value(), model);
  return wrong.empty() ? verify_finds(*opened.value()) : wrong;
}

// Whether what the open hub shows is on the disk, too: pages that a failed sync or a killed process left in the cache
// must have been written again.
inline std::string shows_more_than_the_disk_has(const FaultFileSystem& fs, const StoreOptions& options,
                                                const ModelHub& model) {
  const std::unique_ptr<FaultFileSystem> after = fs.clone();
  after->crash(CrashModel::kDropUnsynced, 0);
  const std::string wrong = opens_as(*after, options, model);
  return wrong.empty() ? "" : "after a power cut right after the recovery: " + wrong;
}

// Two more writes, one of them to a space that exists if any does, then close and open.
inline std::string cannot_go_on(FaultFileSystem& fs, const StoreOptions& options, std::unique_ptr<Store> store,
                                ModelHub model) {
  std::vector<Step> steps;
  if (model.empty()) steps.push_back(create_step("later", Schema{.dims = 3}));
  const auto open = std::find_if(model.begin(), model.end(), [](const auto& table) { return !table.second->frozen; });
  const bool none = open == model.end();
  if (none && !model.empty()) steps.push_back(create_step("later", Schema{.dims = 3}));
  const std::string space = none ? "later" : open->first;
  const Schema schema = none ? steps[0].schema : open->second->schema;
  const std::string key(schema.key_type == KeyType::kInteger ? "\x7f\0\0\0\0\0\0\x01" : "the key after the crash",
                        schema.key_type == KeyType::kInteger ? 8 : 23);
  steps.push_back(make_set(space, schema.dims, {key}, 424242));
  for (const Step& step : steps) {
    if (const Status status = perform(*store, step); !status.ok()) return "cannot be written: " + status.message();
    model = after(model, step);
  }
  if (const Status status = store->close(); !status.ok()) return "cannot be closed: " + status.message();
  store.reset();
  const std::string wrong = opens_as(fs, options, model);
  return wrong.empty() ? "" : "after one more write and a close: " + wrong;
}

}  // namespace ehub::crash
