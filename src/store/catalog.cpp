// Names: of spaces and their versions, of tags and notes. Each change is a batch of its own in the log, so that it has
// a place in the hub's order.

#include <algorithm>

#include "base/limits.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

constexpr const char* kFirstVersion = "initial";

// A name that somebody gave, in a message: whole if it can be one.
std::string quoted(const std::string& name) {
  if (name.size() <= kNameBytesMax) return "'" + name + "'";
  return "'" + name.substr(0, kNameBytesMax) + "...'";
}

Status check_name(const std::string& what, const std::string& name) {
  if (name.empty()) return invalid_argument(what + " needs a name; '' was given");
  if (name.size() <= kNameBytesMax) return {};
  return invalid_argument("the name of " + what + " has at most " + std::to_string(kNameBytesMax) + " bytes; " +
                          std::to_string(name.size()) + " were given");
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

Status check_notes(const NoteChanges& changes) {
  for (const NoteChange& change : changes) {
    const size_t text_bytes = change.text ? change.text->size() : 0;
    if (!change.name.empty() && change.name.size() <= kNoteNameBytesMax && text_bytes <= kNoteBytesMax) continue;
    return invalid_argument("a note has a name of 1 to " + std::to_string(kNoteNameBytesMax) + " bytes and at most " +
                            std::to_string(kNoteBytesMax) + " bytes of text; " + std::to_string(change.name.size()) +
                            " and " + std::to_string(text_bytes) + " were given");
  }
  return {};
}

namespace {

LogOp op_on(LogOp::Kind kind, TableId table) {
  LogOp op;
  op.kind = kind;
  op.table = table;
  return op;
}

bool is_older(const std::shared_ptr<Table>& a, const std::shared_ptr<Table>& b) { return a->id < b->id; }

}  // namespace

LogOp notes_op(const NoteChanges& changes) {
  LogOp op = op_on(LogOp::Kind::kNotes, 0);
  for (const NoteChange& change : changes) op.notes.emplace_back(change.name, change.text);
  return op;
}

Result<std::shared_ptr<Table>> Store::Impl::find_space(const std::string& name) const {
  const std::lock_guard lock(catalog_mutex);
  const auto found = spaces.find(name);
  if (found == spaces.end()) return not_found("there is no space " + quoted(name) + " in hub '" + root + "'");
  const Versions& versions = found->second;
  const auto first = versions.find(kFirstVersion);
  if (first != versions.end()) return first->second;
  const auto oldest = std::min_element(versions.begin(), versions.end(),
                                       [](const auto& a, const auto& b) { return is_older(a.second, b.second); });
  return oldest->second;
}

Result<std::shared_ptr<Table>> Store::Impl::find_version(const std::string& space, const std::string& version) const {
  const std::lock_guard lock(catalog_mutex);
  const auto found = spaces.find(space);
  if (found == spaces.end()) return not_found("there is no space " + quoted(space) + " in hub '" + root + "'");
  const auto table = found->second.find(version);
  if (table == found->second.end()) return not_found("space '" + space + "' has no version " + quoted(version));
  return table->second;
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

PreparedTable::PreparedTable(const std::shared_ptr<Table>& table)
    : space_(table->space), by_name_{{table->space, {{table->version, table}}}}, by_id_{{table->id, table}} {}

PreparedNotes::PreparedNotes(const NoteChanges& changes) : changes_(changes) { change_notes(changes, texts_); }

void change_notes(const NoteChanges& changes, Notes& notes) {
  for (const NoteChange& change : changes) {
    if (change.text) {
      notes[change.name] = *change.text;
    } else {
      notes.erase(change.name);
    }
  }
}

void Store::Impl::add_table(PreparedTable prepared) {
  const std::lock_guard lock(catalog_mutex);
  const auto space = spaces.find(prepared.space_);
  if (space == spaces.end()) {
    spaces.merge(prepared.by_name_);
  } else {
    space->second.merge(prepared.by_name_.begin()->second);
  }
  tables.merge(prepared.by_id_);
  ++names_changes;
}

void Store::Impl::remove_table(const Table& table) {
  const std::lock_guard lock(catalog_mutex);
  ++names_changes;
  const auto space = spaces.find(table.space);
  if (space != spaces.end() && space->second.erase(table.version) != 0 && space->second.empty()) spaces.erase(space);
  tables.erase(table.id);
}

Status Store::Impl::commit_op(const LogOp* op, const NoteChanges& changes) {
  std::vector<LogOp> ops;
  if (op != nullptr) ops.push_back(*op);
  return commit_ops(std::move(ops), changes);
}

Status Store::Impl::commit_ops(std::vector<LogOp> ops, const NoteChanges& changes) {
  if (poisoned) return read_only(poison);
  if (closed_for_writes) return ehub::closed("the hub is closed");
  EHUB_RETURN_IF_ERROR(check_notes(changes));
  if (!changes.empty()) ops.push_back(notes_op(changes));
  ByteWriter payload;
  for (const LogOp& op : ops) encode_op(op, payload);
  PreparedNotes prepared(changes);
  EHUB_RETURN_IF_ERROR(append_to_log({&payload, 1}));
  if (options.durability == Durability::kFull) EHUB_RETURN_IF_ERROR(sync_files());
  apply_notes(std::move(prepared));
  return {};
}

Status Store::Impl::commit_notes(const NoteChanges& changes) {
  EHUB_RETURN_IF_ERROR(commit_op(nullptr, changes));
  publish();
  return {};
}

void Store::Impl::apply_notes(PreparedNotes prepared) {
  const std::lock_guard lock(catalog_mutex);
  ++names_changes;
  for (const NoteChange& change : prepared.changes_) {
    const auto same = [&](const NoteChange& other) { return other.name == change.name; };
    if (forking != nullptr) std::erase_if(forking->notes, same);
    notes.erase(change.name);
  }
  notes.merge(prepared.texts_);
}

Status Store::Impl::check_new_version(const std::string& space, const std::string& version) const {
  EHUB_RETURN_IF_ERROR(check_name("a space", space));
  EHUB_RETURN_IF_ERROR(check_name("a version", version));
  if (!find_version(space, version).ok()) return {};
  if (version == kFirstVersion) return exists("space '" + space + "' exists already in hub '" + root + "'");
  return exists("space '" + space + "' has a version '" + version + "' already");
}

Result<std::shared_ptr<Table>> Store::Impl::create(const std::string& space, const std::string& version,
                                                   const Schema& schema, const NoteChanges& changes) {
  EHUB_RETURN_IF_ERROR(check_schema(schema));
  EHUB_RETURN_IF_ERROR(check_new_version(space, version));
  LogOp op = op_on(LogOp::Kind::kCreateTable, next_table);
  op.space = space;
  op.version = version;
  op.schema = schema;
  const auto table = std::make_shared<Table>(next_table, space, version, schema, last_seq + 1);
  PreparedTable prepared(table);
  EHUB_RETURN_IF_ERROR(commit_op(&op, changes));
  ++next_table;
  add_table(std::move(prepared));
  publish();
  return table;
}

Status Store::Impl::drop(const std::vector<std::shared_ptr<Table>>& dropped, const NoteChanges& changes) {
  std::vector<LogOp> ops;
  for (const auto& table : dropped) {
    // A view may outlive the version, but the next checkpoint removes its files: map them while they have names.
    for (const SealedRef& sealed : table->sealed()) (void)sealed.segment->born(0);
    ops.push_back(op_on(LogOp::Kind::kDropTable, table->id));
  }
  Status logged = commit_ops(ops, changes);
  // To drop a space is how a full disk gets room.
  if (logged.is_full_disk() && reserve.give_up()) logged = commit_ops(ops, changes);
  EHUB_RETURN_IF_ERROR(logged);
  for (const auto& table : dropped) {
    table->set_dropped();
    remove_table(*table);
    for (const FreshRef& fresh : table->fresh()) fresh_rows.fetch_sub(fresh.segment->row_count());
  }
  publish();
  return {};
}

Status Store::Impl::set_tag(const Table& table, const std::string& tag, Seq then, const NoteChanges& changes) {
  EHUB_RETURN_IF_ERROR(check_name("a tag", tag));
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  if (table.pins().tag(tag)) {
    return exists("version '" + table.version + "' of space '" + table.space + "' has a tag '" + tag + "' already");
  }
  LogOp op = op_on(LogOp::Kind::kTag, table.id);
  op.tag = tag;
  op.then = then;
  PreparedTag prepared(tag, then);
  EHUB_RETURN_IF_ERROR(commit_op(&op, changes));
  table.pins().add_tag(std::move(prepared));
  publish();
  return {};
}

Status Store::Impl::remove_tag(const Table& table, const std::string& tag, const NoteChanges& changes) {
  if (!table.pins().tag(tag)) {
    return not_found("version '" + table.version + "' of space '" + table.space + "' has no tag " + quoted(tag));
  }
  LogOp op = op_on(LogOp::Kind::kUntag, table.id);
  op.tag = tag;
  EHUB_RETURN_IF_ERROR(commit_op(&op, changes));
  table.pins().remove_tag(tag);
  publish();
  return {};
}

// --- the public calls ---

Status Store::Impl::in_turn(const std::function<Status()>& work) {
  EHUB_RETURN_IF_ERROR(check_writable());
  EHUB_RETURN_IF_ERROR(queue.run_alone([&] { return whole_or_poisoned(work); }));
  after_commit();
  return {};
}

Result<std::shared_ptr<Table>> Store::create_space(const std::string& name, const Schema& schema,
                                                   const NoteChanges& notes) {
  return create_version(name, kFirstVersion, schema, notes);
}

Result<std::shared_ptr<Table>> Store::create_version(const std::string& space, const std::string& version,
                                                     const Schema& schema, const NoteChanges& notes) {
  std::shared_ptr<Table> table;
  EHUB_RETURN_IF_ERROR(impl_->in_turn([&] {
    Result<std::shared_ptr<Table>> created = impl_->create(space, version, schema, notes);
    if (created.ok()) table = created.value();
    return created.status();
  }));
  return table;
}

Result<std::shared_ptr<Table>> Store::space(const std::string& name) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->find_space(name);
}

Result<std::shared_ptr<Table>> Store::version(const std::string& space, const std::string& version) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->find_version(space, version);
}

std::vector<std::string> Store::spaces() const {
  const std::lock_guard lock(impl_->catalog_mutex);
  std::vector<std::string> names;
  for (const auto& [name, versions] : impl_->spaces) names.push_back(name);
  return names;
}

std::vector<std::shared_ptr<Table>> Store::versions(const std::string& space) const {
  std::vector<std::shared_ptr<Table>> versions;
  const std::lock_guard lock(impl_->catalog_mutex);
  const auto found = impl_->spaces.find(space);
  if (found == impl_->spaces.end()) return versions;
  for (const auto& [name, table] : found->second) versions.push_back(table);
  std::sort(versions.begin(), versions.end(), is_older);
  return versions;
}

Status Store::drop_space(const std::string& name, const NoteChanges& notes) {
  return impl_->in_turn([&] {
    const Status found = impl_->find_space(name).status();
    return found.ok() ? impl_->drop(versions(name), notes) : found;
  });
}

Status Store::drop_version(const Table& table, const NoteChanges& notes) {
  return impl_->in_turn([&] {
    const std::shared_ptr<Table> shared = impl_->shared_table(table);
    return shared == nullptr ? not_found("version '" + table.version + "' of space '" + table.space + "' was deleted")
                             : impl_->drop({shared}, notes);
  });
}

Status Store::freeze(const Table& table, const NoteChanges& notes) {
  return impl_->in_turn([&]() -> Status {
    const std::shared_ptr<Table> shared = impl_->shared_table(table);
    if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
    if (shared->frozen() && notes.empty()) return {};
    const LogOp op = op_on(LogOp::Kind::kFreeze, table.id);
    EHUB_RETURN_IF_ERROR(impl_->commit_op(&op, notes));
    shared->set_frozen(true);
    impl_->publish();
    return {};
  });
}

Notes Store::notes(const std::string& prefix) const {
  const std::lock_guard lock(impl_->catalog_mutex);
  Notes found;
  for (auto note = impl_->notes.lower_bound(prefix); note != impl_->notes.end(); ++note) {
    if (note->first.compare(0, prefix.size(), prefix) != 0) break;
    if (note->first != kErasureMark) found.insert(*note);
  }
  return found;
}

std::optional<std::string> Store::note(const std::string& name) const {
  const std::lock_guard lock(impl_->catalog_mutex);
  const auto found = impl_->notes.find(name);
  return found == impl_->notes.end() ? std::nullopt : std::optional(found->second);
}

uint64_t Store::names_changes() const { return impl_->names_changes.load(std::memory_order_acquire); }

Status Store::set_notes(const NoteChanges& notes) {
  if (notes.empty()) return {};
  return impl_->in_turn([&] { return impl_->commit_notes(notes); });
}

Status Store::set_tag(const Table& table, const std::string& tag, const Snapshot* snapshot, const NoteChanges& notes) {
  return impl_->in_turn([&] {
    const Seq then = snapshot == nullptr ? impl_->last_seq : snapshot->view()->seq();
    return impl_->set_tag(table, tag, then, notes);
  });
}

Status Store::remove_tag(const Table& table, const std::string& tag, const NoteChanges& notes) {
  return impl_->in_turn([&] { return impl_->remove_tag(table, tag, notes); });
}

std::map<std::string, Seq> Store::tags(const Table& table) const { return table.pins().tags(); }

}  // namespace ehub
