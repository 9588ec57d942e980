"""PosixFileSystem keeps the promises of file.h: in one process, in several, and after fork."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from held_up import held_up, is_waited_for

from ehub._native import _testing as native

Mode = native.Mode
StatusError = native.StatusError
fs = native.PosixFileSystem()

# Newer Pythons warn of what these children do not do: take locks that another thread held.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a test may make a file."""
    return str(tmp_path / "file")


def make(path: str, content: bytes = b"") -> native.File:
    file = fs.open(path, Mode.CREATE)
    file.write(0, content)
    return file


def assert_fails(code: str, number: int, call, *arguments) -> StatusError:
    with pytest.raises(StatusError) as raised:
        call(*arguments)
    assert (raised.value.code, raised.value.errno) == (code, number)
    return raised.value


def in_child(work) -> None:
    """Run `work` in a forked child and fail if it fails."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # the child may not go on as a second pytest
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_written_bytes_are_read_back(path):
    file = make(path, b"hello world")
    file.write(6, b"there")
    assert file.read(0, 11) == b"hello there"
    assert file.read(4, 3) == b"o t"
    assert file.size() == 11
    assert Path(path).read_bytes() == b"hello there"


def test_a_write_beyond_the_end_leaves_zeros_between(path):
    file = make(path, b"ab")
    file.write(5, b"c")
    assert file.read(0, 6) == b"ab\0\0\0c"


def test_truncate_cuts_and_grows_with_zeros(path):
    file = make(path, b"abcdef")
    file.truncate(2)
    file.truncate(4)
    assert file.read(0, 4) == b"ab\0\0"


def test_a_read_beyond_the_end_is_corruption_and_says_where_the_file_ends(path):
    file = make(path, b"12345")
    error = assert_fails("Corruption", 0, file.read, 2, 4)
    assert "damaged at byte 5" in str(error)
    assert_fails("Corruption", 0, file.read, 9, 1)
    assert file.read(9, 0) == b""


def test_modes_make_keep_or_empty_the_file(path):
    assert_fails("NotFound", 0, fs.open, path, Mode.READ)
    assert_fails("NotFound", 0, fs.open, path, Mode.WRITE)
    fs.open(path, Mode.OPEN_OR_CREATE).write(0, b"kept")
    assert fs.open(path, Mode.OPEN_OR_CREATE).read(0, 4) == b"kept"
    assert fs.open(path, Mode.WRITE).size() == 4
    assert fs.open(path, Mode.CREATE).size() == 0


def test_a_file_open_for_reading_refuses_changes(path):
    make(path, b"x")
    file = fs.open(path, Mode.READ)
    assert_fails("Io", errno.EBADF, file.write, 0, b"y")
    assert_fails("Io", errno.EINVAL, file.truncate, 0)
    assert file.read(0, 1) == b"x"


@pytest.mark.parametrize("mode", [Mode.READ, Mode.WRITE, Mode.CREATE, Mode.OPEN_OR_CREATE])
def test_a_directory_is_not_a_file(tmp_path, mode):
    assert_fails("Io", errno.EISDIR, fs.open, str(tmp_path), mode)


def without_rights(work) -> None:
    """Run `work` as somebody who may not do everything."""
    if os.geteuid() != 0:
        return work()
    os.seteuid(65534)
    try:
        return work()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [Mode.READ, Mode.WRITE, Mode.CREATE, Mode.OPEN_OR_CREATE])
@pytest.mark.parametrize(
    ("make_it", "number"), [(os.mkfifo, errno.ENXIO), (os.mkdir, errno.EISDIR)]
)
def test_what_is_no_file_is_none_even_where_one_may_not_open_it(
    tmp_path, monkeypatch, make_it, number, mode
):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    make_it("other", 0)
    without_rights(lambda: assert_fails("Io", number, fs.open, "other", mode))
    (tmp_path / "other").chmod(0o700)


def test_no_graph_takes_the_place_of_what_cannot_be_moved(tmp_path, monkeypatch):
    rows = np.random.default_rng(1).standard_normal((100, 8), dtype=np.float32)
    graph, stamp = native.build_graph(rows, 0), native.GraphStamp(7, 1234, 100, 8, 0)
    place = Path(native.graph_path("index", 7))
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    Path("index").mkdir()
    os.mkfifo(place)
    Path("index").chmod(0o333)  # names in it may be changed, but not listed
    call = native.write_graph
    without_rights(lambda: assert_fails("Io", errno.EACCES, call, fs, "index", stamp, graph))
    Path("index").chmod(0o700)
    assert place.is_fifo()
    assert [file.name for file in Path("index").iterdir()] == [place.name]


def test_what_is_missing_is_not_found_and_named(tmp_path):
    missing = str(tmp_path / "no" / "thing")
    for call in [fs.list, fs.remove, fs.sync_directory]:
        assert missing in str(assert_fails("NotFound", 0, call, missing))
    for mode in [Mode.READ, Mode.WRITE, Mode.CREATE, Mode.OPEN_OR_CREATE]:
        assert missing in str(assert_fails("NotFound", 0, fs.open, missing, mode))
    assert missing in str(assert_fails("NotFound", 0, fs.rename, missing, str(tmp_path / "x")))


def test_files_and_directories_are_private(tmp_path, path):
    old = os.umask(0)
    try:
        make(path)
        fs.make_directory(str(tmp_path / "a" / "b"))
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@linux_only
def test_descriptors_are_closed_on_exec(path):
    file = make(path)
    links = {link: link.resolve() for link in Path("/proc/self/fd").iterdir()}
    [descriptor] = [link.name for link, target in links.items() if target == Path(path).resolve()]
    assert fcntl.fcntl(int(descriptor), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    file.close()


def test_sync_and_writeback_succeed_and_change_nothing(tmp_path, path):
    file = make(path, b"abc")
    file.start_writeback(0, 3)
    file.start_writeback(0, 0)
    file.start_writeback(1 << 40, 10)
    file.sync()
    fs.sync_directory(str(tmp_path))
    assert Path(path).read_bytes() == b"abc"
    assert_fails("Io", errno.ENOTDIR, fs.sync_directory, path)


def test_a_short_write_is_continued_until_the_kernel_says_why(path):
    def write_beyond_the_limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        assert_fails("Io", errno.EFBIG, file.write, 0, b"x" * 1500)

    file = make(path)
    in_child(write_beyond_the_limit)
    assert file.size() == 1000


@linux_only
def test_an_interrupted_call_is_made_again(path):
    make(path)
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    parent = os.getpid()
    ready, telling = os.pipe()
    child = os.fork()
    if child == 0:
        with held_up(path) as lease:
            os.write(telling, b"!")
            while not is_waited_for(lease):
                time.sleep(0.01)
            time.sleep(0.1)  # the parent sleeps in open()
            os.kill(parent, signal.SIGUSR1)
            time.sleep(0.1)
        os._exit(0)
    os.read(ready, 1)
    try:
        fs.open(path, Mode.READ)
    finally:
        signal.signal(signal.SIGUSR1, old)
        os.kill(child, signal.SIGKILL)  # it waits for ever if open() gave up
        os.waitpid(child, 0)


def test_make_directory_makes_parents_and_accepts_what_exists(tmp_path):
    deep = str(tmp_path / "a" / "b" / "c")
    fs.make_directory(deep)
    fs.make_directory(deep)
    fs.make_directory(deep + "/")
    fs.make_directory("/")
    assert Path(deep).is_dir()


def test_make_directory_understands_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fs.make_directory("a/b")
    fs.make_directory("c")
    assert fs.list(".") == ["a", "c"]
    assert fs.list("a") == ["b"]


def test_make_directory_refuses_a_file_in_the_way(path):
    make(path)
    assert_fails("Io", errno.ENOTDIR, fs.make_directory, path)
    assert_fails("Io", errno.ENOTDIR, fs.make_directory, path + "/below")


def test_list_is_sorted_and_without_dots(tmp_path):
    for name in ["b", "a", ".hidden", "B", "c10", "c9"]:
        make(str(tmp_path / name))
    assert fs.list(str(tmp_path)) == [".hidden", "B", "a", "b", "c10", "c9"]
    assert_fails("Io", errno.ENOTDIR, fs.list, str(tmp_path / "a"))


def test_rename_replaces_and_remove_removes(tmp_path, path):
    make(path, b"new")
    target = str(tmp_path / "target")
    make(target, b"old")
    fs.rename(path, target)
    assert fs.list(str(tmp_path)) == ["target"]
    assert fs.open(target, Mode.READ).read(0, 3) == b"new"
    fs.remove(target)
    assert fs.list(str(tmp_path)) == []


def test_only_empty_directories_can_be_removed(tmp_path):
    fs.make_directory(str(tmp_path / "a" / "b"))
    assert_fails("Io", errno.ENOTEMPTY, fs.remove, str(tmp_path / "a"))
    fs.remove(str(tmp_path / "a" / "b"))
    fs.remove(str(tmp_path / "a"))
    assert fs.list(str(tmp_path)) == []


def test_a_mapping_beyond_the_end_shows_later_growth(path):
    file = make(path, b"first")
    mapping = file.map(1 << 20)
    assert mapping.size_bytes == 1 << 20
    assert mapping.bytes(0, 5) == b"first"
    file.write(5, b" second")
    file.write(100_000, b"far")
    assert mapping.bytes(0, 12) == b"first second"
    assert mapping.bytes(99_999, 4) == b"\0far"


def test_a_mapping_outlives_its_name_and_its_file(path):
    file = make(path, b"still here")
    mapping = file.map(10)
    fs.remove(path)
    file.close()
    assert mapping.bytes(0, 10) == b"still here"


def test_an_empty_mapping_is_no_error(path):
    assert make(path).map(0).size_bytes == 0


def test_a_file_is_linked_until_its_name_is_removed_or_replaced(tmp_path, path):
    file = make(path)
    assert file.linked()
    make(str(tmp_path / "other"))
    fs.rename(str(tmp_path / "other"), path)
    assert not file.linked()

    file = fs.open(path, Mode.READ)
    assert file.linked()
    fs.remove(path)
    assert not file.linked()
    make(path)
    assert not file.linked()


def test_a_file_whose_name_has_gone_to_another_is_not_linked(tmp_path, path):
    file = make(path)
    fs.rename(path, str(tmp_path / "elsewhere"))
    other = make(path)
    assert not file.linked()
    assert other.linked()


def test_a_file_renamed_or_below_a_replaced_directory_is_not_linked(tmp_path):
    fs.make_directory(str(tmp_path / "a"))
    inner = make(str(tmp_path / "a" / "x"))
    fs.rename(str(tmp_path / "a" / "x"), str(tmp_path / "y"))
    assert not inner.linked()
    fs.remove(str(tmp_path / "a"))
    make(str(tmp_path / "a"))
    assert not inner.linked()


def test_locks_exclude_each_other_between_open_files(path):
    first = make(path)
    second = fs.open(path, Mode.READ)
    assert first.try_lock(True)
    assert not second.try_lock(True)
    assert not second.try_lock(False)
    first.unlock()
    assert second.try_lock(False)
    assert first.try_lock(False)
    third = fs.open(path, Mode.WRITE)
    assert not third.try_lock(True)
    first.close()
    second.close()
    assert third.try_lock(True)


def test_unlock_without_a_lock_does_nothing(path):
    file = make(path)
    file.unlock()
    assert file.try_lock(True)
    file.unlock()
    file.unlock()


HOLD_LOCK = """
import os, sys
from ehub._native import _testing as native
file = native.PosixFileSystem().open(sys.argv[1], native.Mode.WRITE)
assert file.try_lock(True)
child = int(sys.argv[2]) and os.fork()  # 0 also in a process that does not fork
if child == 0:
    os.write(1, b"ready\\n")
os.read(0, 1)
os._exit(0)
"""


def lock_holder(path: str, *, forks: bool) -> subprocess.Popen:
    """Another process that holds a lock, maybe with a child of its own, until it is killed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    command = [sys.executable, "-c", HOLD_LOCK, path, str(int(forks))]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert holder.stdout.readline() == b"ready\n"
    return holder


def test_a_lock_of_another_process_ends_when_it_is_killed(path):
    file = make(path)
    with lock_holder(path, forks=False) as holder:
        assert not file.try_lock(False)
        holder.kill()
        holder.wait()
        assert file.try_lock(True)


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(path):
    file = make(path)
    with lock_holder(path, forks=True) as holder:
        assert not file.try_lock(False)
        holder.kill()
        os.waitpid(holder.pid, 0)
        holder.returncode = -signal.SIGKILL
        # The grandchild lives: it waits for its standard input, which is still open.
        assert file.try_lock(True)


def test_in_a_forked_child_a_locked_file_fails_and_the_parent_keeps_the_lock(path):
    def use_it_in_the_child():
        assert_fails("Io", errno.EBADF, file.read, 0, 1)
        assert_fails("Io", errno.EBADF, file.write, 0, b"x")
        assert_fails("Io", errno.EBADF, file.truncate, 0)
        assert_fails("Io", errno.EBADF, file.sync)
        assert_fails("Io", errno.EBADF, file.size)
        assert_fails("Io", errno.EBADF, file.map, 1)
        assert_fails("Io", errno.EBADF, file.linked)
        assert_fails("Io", errno.EBADF, file.try_lock, True)
        file.start_writeback(0, 1)
        file.unlock()
        assert not fs.open(path, Mode.WRITE).try_lock(True)

    file = make(path, b"abc")
    assert file.try_lock(True)
    in_child(use_it_in_the_child)
    assert not fs.open(path, Mode.WRITE).try_lock(False)
    assert file.read(0, 3) == b"abc"


def test_in_a_forked_child_a_locked_file_does_not_touch_a_recycled_descriptor(tmp_path, path):
    def recycle():
        recycled = make(str(tmp_path / "recycled"), b"mine")
        assert_fails("Io", errno.EBADF, file.write, 0, b"his")
        file.close()
        assert recycled.read(0, 4) == b"mine"

    file = make(path, b"abc")
    assert file.try_lock(True)
    in_child(recycle)


def test_in_a_forked_child_files_without_a_lock_and_mappings_still_work(path):
    def use_them():
        assert plain.read(0, 3) == b"abc"
        assert mapping.bytes(0, 3) == b"abc"
        assert plain.try_lock(True)
        plain.close()
        assert fs.open(path, Mode.READ).try_lock(True)

    locked = make(path, b"abc")
    assert locked.try_lock(True)
    mapping = locked.map(3)
    plain = fs.open(path, Mode.READ)
    locked.unlock()
    in_child(use_them)


def test_there_is_a_limit_to_the_files_locked_at_once(path):
    wanted = native.LOCKED_FILES_MAX + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    make(path)
    files = [fs.open(path, Mode.READ) for _ in range(native.LOCKED_FILES_MAX + 1)]
    *locked, beyond = files
    for file in locked:
        assert file.try_lock(False)
    assert_fails("Io", errno.ENOLCK, beyond.try_lock, False)
    locked[0].unlock()
    assert beyond.try_lock(False)
    for file in files:
        file.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
