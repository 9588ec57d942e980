// Spaces made and dropped: batches of their own in the log, so that they have a place in the hub's order.

#include "base/limits.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

constexpr const char* kFirstVersion = "initial";

Status check_name(const std::string& name) {
  if (name.empty()) return invalid_argument("a space needs a name; '' was given");
  if (name.size() > kNameBytesMax) {
    return invalid_argument("a space's name has at most " + std::to_string(kNameBytesMax) + " bytes; " +
                            std::to_string(name.size()) + " were given");
  }
  return {};
}

Status check_schema(const Schema& schema) {
  if (!schema.index.is_sound()) {
    return invalid_argument(
        "M is 2 to 512, ef_construction 2 to 10,000, ef at most 1,000,000, target_recall between 0 and 1");
  }
  if (schema.dims >= 1 && schema.dims <= kDimsMax) return {};
  return invalid_argument("dims must be from 1 to " + std::to_string(kDimsMax) + "; " + std::to_string(schema.dims) +
                          " was given");
}

}  // namespace

Result<std::shared_ptr<Table>> Store::Impl::find_space(const std::string& name) const {
  const std::lock_guard lock(catalog_mutex);
  const auto found = spaces.find(name);
  if (found == spaces.end()) return not_found("there is no space '" + name + "' in hub '" + root + "'");
  return found->second;
}

std::vector<std::shared_ptr<Table>> Store::Impl::all_tables() const {
  const std::lock_guard lock(catalog_mutex);
  std::vector<std::shared_ptr<Table>> all;
  all.reserve(tables.size());
  for (const auto& [id, table] : tables) all.push_back(table);
  return all;
}

std::shared_ptr<Table> Store::Impl::shared_table(const Table& table) const {
  const std::lock_guard lock(catalog_mutex);
  const auto found = tables.find(table.id);
  return found == tables.end() || found->second.get() != &table ? nullptr : found->second;
}

Status Store::Impl::commit_op(const LogOp& op) {
  if (poisoned) return read_only(poison);
  if (closed_for_writes) return ehub::closed("the hub is closed");
  ByteWriter payload;
  encode_op(op, payload);
  EHUB_RETURN_IF_ERROR(append_to_log({&payload, 1}));
  return options.durability == Durability::kFull ? sync_files() : Status();
}

Result<std::shared_ptr<Table>> Store::Impl::create(const std::string& name, const Schema& schema) {
  EHUB_RETURN_IF_ERROR(check_name(name));
  EHUB_RETURN_IF_ERROR(check_schema(schema));
  if (find_space(name).ok()) return exists("space '" + name + "' exists already in hub '" + root + "'");
  LogOp op;
  op.kind = LogOp::Kind::kCreateTable;
  op.table = next_table;
  op.space = name;
  op.version = kFirstVersion;
  op.schema = schema;
  // All memory is taken before the log has the space.
  auto table = std::make_shared<Table>(next_table, name, kFirstVersion, schema, last_seq + 1);
  std::map<std::string, std::shared_ptr<Table>> by_name = {{name, table}};
  std::map<TableId, std::shared_ptr<Table>> by_id = {{table->id, table}};
  EHUB_RETURN_IF_ERROR(commit_op(op));
  ++next_table;
  {
    const std::lock_guard lock(catalog_mutex);
    spaces.merge(by_name);
    tables.merge(by_id);
  }
  publish();
  return table;
}

Status Store::Impl::drop(const std::string& name) {
  Result<std::shared_ptr<Table>> found = find_space(name);
  if (!found.ok()) return found.status();
  Table& table = *found.value();
  // A view may outlive the space, but the next checkpoint removes its files: map them while they have names.
  for (const SealedRef& sealed : table.sealed()) (void)sealed.segment->born(0);
  LogOp op;
  op.kind = LogOp::Kind::kDropTable;
  op.table = table.id;
  Status logged = commit_op(op);
  // To drop a space is how a full disk gets room.
  if (logged.is_full_disk() && reserve.give_up()) logged = commit_op(op);
  EHUB_RETURN_IF_ERROR(logged);
  table.set_dropped();
  {
    const std::lock_guard lock(catalog_mutex);
    spaces.erase(name);
    tables.erase(table.id);
  }
  for (const FreshRef& fresh : table.fresh()) fresh_rows.fetch_sub(fresh.segment->row_count());
  publish();
  return {};
}

}  // namespace ehub
