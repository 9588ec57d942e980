# The C++ API that _store.pyx binds.
#
# Engine calls are declared as they are: they return a Status or a Result. `take` moves a Result's
# value out and hands back its Status; it carries `except +` for the call within it, too, for the one
# thing that the C++ library throws: bad_alloc.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.atomic cimport atomic
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.map cimport map as cmap
from libcpp.optional cimport optional
from libcpp.set cimport set as cset
from libcpp.string cimport string
from libcpp.utility cimport pair
from libcpp.vector cimport vector

cdef extern from "<string_view>" namespace "std" nogil:
    cppclass string_view:
        string_view()
        string_view(const char*, size_t)
        const char* data()
        size_t size()

cdef extern from "base/crc32c.h" namespace "ehub" nogil:
    uint32_t crc32c(uint32_t crc, const void* data, size_t size)

cdef extern from "base/status.h" namespace "ehub" nogil:
    enum class Code "ehub::Code":
        kOk
        kNotFound
        kExists
        kInvalidArgument
        kDimension
        kInvalidVector
        kInvalidKey
        kFrozen
        kReadOnly
        kLocked
        kCorruption
        kFormat
        kClosed
        kConflict
        kDeadline
        kIo
        kOutOfMemory

    cppclass Status:
        cbool ok()
        Code code()
        int error_number()
        const string& message()

    cppclass Result[T]:
        cbool ok()
        const Status& status()
        T& value()

cdef extern from "base/limits.h" namespace "ehub" nogil:
    const size_t kKeyBytesMax

cdef extern from "base/durations.h" namespace "ehub" nogil:
    cppclass DurationCounts:
        vector[pair[double, uint64_t]] counts
        double seconds

cdef extern from "base/metric.h" namespace "ehub" nogil:
    enum class Metric "ehub::Metric":
        kL2
        kInnerProduct
        kCosine

cdef extern from "io/posix_file.h" namespace "ehub" nogil:
    cppclass FileSystem:
        pass
    FileSystem& posix_file_system()

cdef extern from "kernels/dispatch.h" namespace "ehub" nogil:
    cppclass KernelTable:
        const char* name
    const KernelTable& kernels()
    Status select_kernels(const char* name) except +

cdef extern from "kernels/scan.h" namespace "ehub" nogil:
    cppclass Neighbor:
        float distance
        uint64_t row
    size_t first_invalid_row(
        const KernelTable& kernels, Metric metric, const float* rows, size_t n, size_t dims
    )

cdef extern from "hnsw/parameters.h" namespace "ehub::hnsw" nogil:
    cppclass GraphParameters:
        uint32_t M
        uint32_t ef_construction
        uint32_t ef
        float target_recall

    cppclass GraphView:
        uint32_t rows
        uint32_t link_stride
        const uint32_t* links

cdef extern from "hnsw/given_links.h" namespace "ehub::hnsw" nogil:
    cppclass GivenLinks:
        pass

cdef extern from "hnsw/graph_file.h" namespace "ehub::hnsw" nogil:
    cppclass GraphFile:
        const GraphView& view()

cdef extern from "store/types.h" namespace "ehub" nogil:
    enum class KeyType "ehub::KeyType":
        kString
        kInteger

    enum class Durability "ehub::Durability":
        kFull
        kNormal
        kOff

    cppclass Schema:
        uint32_t dims
        Metric metric
        KeyType key_type
        GraphParameters index

cdef extern from "store/view.h" namespace "ehub" nogil:
    ctypedef uint64_t Ordinal
    Ordinal kNoOrdinal

    cppclass Selection:
        uint64_t row_count

    cppclass SearchOptions:
        size_t k
        size_t ef
        cbool exact
        float distance_max
        const Selection* filter
        const Ordinal* excluded
        const atomic[cbool]* stopped

    cppclass CTableState "ehub::TableState":
        pass

    cppclass CView "ehub::View":
        uint64_t seq()
        const Schema& schema()
        Result[uint64_t] row_count()
        Status locate(const string_view* keys, size_t n, Ordinal* out) except +
        Result[cbool] get(string_view key, float* out)
        Status gather(const Ordinal* rows, size_t n, float* out) except +
        Result[string_view] key(Ordinal row)
        Selection select(const Ordinal* rows, size_t n) except +
        Result[vector[vector[Neighbor]]] nearest(
            const float* queries, size_t m, const SearchOptions& options
        )
        Result[vector[uint64_t]] partition_counts(uint32_t partitions)
        shared_ptr[const GraphFile] sole_graph() except +
        const shared_ptr[const CTableState]& state()
        shared_ptr[const CView] over(shared_ptr[const CTableState] state) except +
        Result[vector[Ordinal]] rows_not_in(const CView& other)
        Status births(const Ordinal* rows, size_t n, uint64_t* out) except +

    # std::shared_ptr<const void>, which Cython has no way to spell.
    cppclass Pin "std::shared_ptr<const void>":
        pass

    cppclass ScanBatch "ehub::ScanCursor::Batch":
        vector[Ordinal] rows
        const float* vectors
        Pin owner

    cppclass ScanCursor:
        ScanCursor(shared_ptr[const CView] view) except +
        Result[ScanBatch] next(size_t rows_max)

cdef extern from "store/probe.h" namespace "ehub" nogil:
    cppclass KeyList:
        KeyList()
        KeyList(const int64_t* integers, const string_view* views)

cdef extern from "store/group_average.h" namespace "ehub" nogil:
    cppclass Groups:
        const Ordinal* rows
        const double* weights
        const uint64_t* begins
        size_t count
        KeyList keys
        cbool needs_all
    uint64_t kNoMember

    enum class MeanState "ehub::MeanState":
        kOk
        kEmpty
        kNoWeight
        kZero
        kTooLarge

    Status average_groups(
        const CView& view,
        const Groups& groups,
        cbool normalize,
        unsigned int threads,
        float* out,
        int64_t* found,
        MeanState* states,
        uint64_t* missing,
    ) except +
    Status average_partitions(
        const CView& view,
        uint32_t partitions,
        cbool normalize,
        float* out,
        int64_t* found,
        MeanState* states,
    ) except +

cdef extern from "store/kmeans.h" namespace "ehub" nogil:
    cppclass KMeansOptions:
        size_t k
        uint64_t seed
        uint64_t sample

    cppclass CKMeans "ehub::KMeans":
        @staticmethod
        Result[unique_ptr[CKMeans]] start(shared_ptr[const CView] view, const KMeansOptions& options)
        Result[uint64_t] step()
        size_t k()
        size_t dims()
        uint64_t row_count()
        const float* centroids()
        vector[int64_t] counts() except +
        double inertia()

cdef extern from "store/store.h" namespace "ehub" nogil:
    cppclass CTable "ehub::Table":
        pass

    cppclass CSubIndex "ehub::SubIndex":
        pass

    cppclass StoreOptions:
        cbool read_only
        Durability durability
        uint64_t large_batch_bytes
        uint64_t log_bytes_max
        uint64_t fresh_rows_max
        uint64_t segment_bytes_max
        uint64_t carry_bytes_max
        uint64_t carry_total_bytes_max
        uint32_t graph_rows_min
        uint64_t old_searches_min
        cbool background

    enum class WriteKind "ehub::WriteBatch::Kind":
        kSet
        kDelete
        kDeleteAll

    cppclass NoteChange:
        string name
        optional[string] text

    ctypedef vector[NoteChange] NoteChanges

    cppclass WriteBatch:
        WriteKind kind
        shared_ptr[CTable] table
        vector[string_view] keys
        const float* vectors
        vector[string_view] partition_names
        const uint32_t* row_partitions
        cbool is_bound
        vector[uint32_t] bounds
        NoteChanges notes
        cbool is_derived
        const atomic[cbool]* stop

    cppclass WriteResult:
        uint64_t rows_deleted

    cppclass CSegmentStats "ehub::SegmentStats":
        uint64_t id
        uint64_t rows
        uint64_t rows_dead
        uint64_t bytes

    cppclass TableStats:
        uint64_t rows
        vector[CSegmentStats] segments

    cppclass CIndexStats "ehub::IndexStats":
        uint64_t rows
        uint64_t rows_indexed
        uint64_t rows_scanned
        uint64_t rows_waiting
        uint64_t segments
        uint64_t bytes
        uint64_t subsets
        uint64_t unreachable
        uint64_t rebuilds
        uint64_t rows_building
        double rows_per_second
        uint64_t rows_built
        uint64_t rows_due
        uint32_t ef
        uint32_t code_bits

    cppclass CWorkStats "ehub::WorkStats":
        uint64_t rows_rewritten
        uint64_t bytes_checked
        double build_rate

    cppclass CWriteStats "ehub::WriteStats":
        uint64_t log_writes
        uint64_t log_bytes
        uint64_t log_bytes_due
        uint64_t rows_unsealed
        uint64_t snapshots
        DurationCounts syncs
        DurationCounts checkpoints
        cbool is_poisoned

    cppclass CSnapshot "ehub::Snapshot":
        const shared_ptr[const CView]& view()

    cppclass CFinding "ehub::Finding":
        string path
        string what

    cppclass CVerifyReport "ehub::VerifyReport":
        uint64_t files
        uint64_t bytes
        uint64_t rows
        vector[CFinding] findings

    cppclass CRepairReport "ehub::RepairReport":
        uint64_t rows_kept
        uint64_t rows_dropped
        uint64_t batches_dropped
        vector[CFinding] dropped

    cppclass CErasure "ehub::Erasure":
        shared_ptr[CTable] table
        vector[string_view] keys
        cbool drops_dead

    cppclass CStoredRows "ehub::StoredRows":
        uint64_t rows
        uint64_t rows_live
        vector[string] tags
        uint64_t snapshots
        vector[uint64_t] segments

    cppclass CFileRecord "ehub::FileRecord":
        string path
        uint64_t bytes
        uint32_t crc

    cppclass CErasureReport "ehub::ErasureReport":
        vector[CStoredRows] parts
        vector[CFileRecord] written
        vector[CFileRecord] removed
        vector[string] held
        cbool done

    cppclass CStoredFile "ehub::StoredFile":
        string path
        uint64_t bytes
        uint64_t row_bytes
        uint64_t segment
        string stamp
        cbool derived

    cppclass CStoredFiles "ehub::StoredFiles":
        uint64_t manifest
        uint64_t seq
        uint64_t hash_seed
        string current
        vector[CStoredFile] files

    cppclass CStore "ehub::Store":
        @staticmethod
        Result[unique_ptr[CStore]] open(
            FileSystem& fs, const string& root, const StoreOptions& options
        )

        @staticmethod
        Result[CRepairReport] repair(FileSystem& fs, const string& root)
        Result[shared_ptr[CTable]] create_version(
            const string& space, const string& version, const Schema& schema, const NoteChanges& notes
        )
        Result[shared_ptr[CTable]] space(const string& name)
        Result[shared_ptr[CTable]] version(const string& space, const string& version)
        vector[string] spaces() except +
        vector[shared_ptr[CTable]] versions(const string& space) except +
        Status drop_space(const string& name, const NoteChanges& notes) except +
        Status drop_version(const CTable& table, const NoteChanges& notes) except +
        Status freeze(const CTable& table, const NoteChanges& notes) except +
        cmap[string, string] notes(const string& prefix) except +
        optional[string] note(const string& name) except +
        uint64_t names_changes()
        Status set_notes(const NoteChanges& notes) except +
        Result[shared_ptr[const CSnapshot]] snapshot(const CTable& table)
        Status set_tag(
            const CTable& table, const string& tag, const CSnapshot* snapshot, const NoteChanges& notes
        ) except +
        Status remove_tag(const CTable& table, const string& tag, const NoteChanges& notes) except +
        cmap[string, uint64_t] tags(const CTable& table) except +
        Result[shared_ptr[const CSnapshot]] at(const CTable& table, const string& tag)
        Status restore(
            const CTable& table, const CSnapshot& snapshot, const NoteChanges& notes
        ) except +
        Result[shared_ptr[CTable]] fork(
            const CSnapshot& snapshot, const string& version, const NoteChanges& notes
        )
        Result[CStoredRows] stored_rows(const CTable& table, const vector[string_view]& keys)
        Result[uint64_t] missing_keys(
            const vector[shared_ptr[CTable]]& tables, const vector[string_view]& keys
        )
        Result[vector[string]] stored_keys(const CTable& table)
        Result[vector[string]] held_manifests()
        Result[CErasureReport] erase(const vector[CErasure]& parts, const NoteChanges& notes)
        Result[CErasureReport] finish_erasure()
        Result[WriteResult] write(const WriteBatch& batch)
        Result[WriteResult] replace(const WriteBatch& batch, const vector[string_view]& gone)
        Status write_all(const vector[WriteBatch]& batches) except +
        Result[WriteResult] delete_within(
            const WriteBatch& batch, const vector[uint32_t]& partitions
        )
        Result[cbool] write_linked(const WriteBatch& batch, const GivenLinks& links)
        Result[shared_ptr[const CView]] view(const CTable& table)
        Result[shared_ptr[CSubIndex]] subindex(const CTable& table, const CTable& keys)
        Result[shared_ptr[const CView]] view_of(const CTable& table, CSubIndex& subindex)
        Result[uint64_t] row_count(const CTable& table)
        TableStats stats(const CTable& table) except +
        Status sync() except +
        Status checkpoint(const atomic[cbool]* stop) except +
        Status compact(const CTable& table, const atomic[cbool]* stop) except +
        Status wait_indexed(const CTable& table, const atomic[cbool]* stop) except +
        Status optimize(const CTable& table, const atomic[cbool]* stop) except +
        CIndexStats index_stats(const CTable& table) except +
        CWriteStats write_stats() except +
        CWorkStats work_stats() except +
        void note_search(const CTable& table)
        Status refresh() except +
        Result[CVerifyReport] verify(const atomic[cbool]* stop)
        Result[CStoredFiles] files()
        Result[vector[CFinding]] damage_of(const cset[uint64_t]& segments)
        Status close() except +
        cbool closed()
        cbool is_read_only()
        uint64_t visible_seq()

    uint64_t table_id(const CTable& table)
    const string& table_space(const CTable& table)
    const string& table_version(const CTable& table)
    cbool table_frozen(const CTable& table)
    const Schema& table_schema(const CTable& table)
    vector[string] partition_names(const CTable& table) except +
    uint32_t find_partition(const CTable& table, string_view name) except +

cdef extern from "<memory_resource>" namespace "std::pmr" nogil:
    cppclass monotonic_buffer_resource:
        void* allocate(size_t bytes, size_t alignment) except +

cdef extern from *:
    """
    #include <memory>
    #include <mutex>
    #include <utility>
    #include <vector>

    #include "base/status.h"
    #include "hnsw/given_links.h"
    #include "store/view.h"

    // The rows of a view that are in some partitions.
    inline std::shared_ptr<const ehub::View> view_within(const ehub::View& view,
                                                         std::vector<uint32_t> partitions) {
      return view.within(std::move(partitions));
    }

    // Moves the value of a Result to `out`; the reason instead if there is none.
    template <typename T>
    ehub::Status take(ehub::Result<T> result, T* out) {
      if (!result.ok()) return result.status();
      *out = std::move(result.value());
      return {};
    }

    inline ehub::hnsw::GivenLinks given_links(const uint64_t* begins, size_t begin_count,
                                              const uint32_t* targets, size_t target_count) {
      return {{begins, begin_count}, {targets, target_count}};
    }

    // The cursor's next batch; threads that share a cursor wait here for one another.
    inline ehub::Status next_batch(std::mutex& mutex, ehub::ScanCursor& cursor, size_t rows_max,
                                   ehub::ScanCursor::Batch* out) {
      const std::lock_guard lock(mutex);
      return take(cursor.next(rows_max), out);
    }
    """
    cppclass mutex "std::mutex":
        pass
    Status take[T](Result[T] result, T* out) except + nogil
    # The same once more: Cython cannot deduce a T that has `const` in it.
    Status take_view "take"(
        Result[shared_ptr[const CView]] result, shared_ptr[const CView]* out
    ) except + nogil
    Status take_snapshot "take"(
        Result[shared_ptr[const CSnapshot]] result, shared_ptr[const CSnapshot]* out
    ) except + nogil
    shared_ptr[const CView] view_within(
        const CView& view, vector[uint32_t] partitions
    ) except + nogil
    GivenLinks given_links(
        const uint64_t* begins, size_t begin_count, const uint32_t* targets, size_t target_count
    ) nogil
    Status next_batch(
        mutex& mutex, ScanCursor& cursor, size_t rows_max, ScanBatch* out
    ) except + nogil
