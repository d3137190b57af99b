import errno
import multiprocessing
import os
import signal
import time

import pytest

from datamodules.cache import Cache, CacheUnwritableError
from handful.errors import UserError

#: Seconds that a process has on however busy a machine.
PATIENCE = 60


def make_slowly(tmp_path, seconds):
    def make(draft):
        with (tmp_path / "log").open("a") as file:
            file.write("made\n")
        (draft / "half").write_text("x")
        time.sleep(seconds)
        (draft / "whole").write_text("x")

    assert Cache(tmp_path / "cache").entry("key", make) == tmp_path / "cache/key"


def maker(tmp_path, seconds):
    process = multiprocessing.get_context("fork").Process(target=make_slowly, args=(tmp_path, seconds), daemon=True)
    process.start()
    return process


def finished(process):
    process.join(PATIENCE)
    return process.exitcode == 0


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_processes_make_an_entry_once(tmp_path):
    makers = [maker(tmp_path, 0.3) for _ in range(3)]
    assert all(map(finished, makers))
    assert (tmp_path / "log").read_text() == "made\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]
    assert sorted(path.name for path in (tmp_path / "cache/key").iterdir()) == ["half", "whole"]


def test_drafts_of_killed_processes_are_swept_and_those_at_work_are_not(tmp_path):
    cache = tmp_path / "cache"
    killed = maker(tmp_path, 600)
    wait_for(lambda: list(cache.glob(".draft-*/half")))
    at_work = Cache(cache).entry("other", lambda draft: (draft / "a").write_text("x") and None)
    assert len(list(cache.glob(".draft-*"))) == 1  # of a process at work
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert at_work.is_dir()
    Cache(cache).entry("third", lambda draft: None)
    assert not list(cache.glob(".draft-*"))
    old = cache / ".draft-abcdefg"  # of a version without locks
    old.mkdir()
    os.utime(old, (0, 0))
    Cache(cache).entry("fourth", lambda draft: None)
    assert not old.exists()
    assert finished(maker(tmp_path, 0))


def test_a_failed_attempt_leaves_nothing(tmp_path):
    def fail(draft):
        (draft / "half").write_text("x")
        raise UserError("bad data")

    with pytest.raises(UserError, match="bad data"):
        Cache(tmp_path / "cache").entry("key", fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_and_a_missing_home(tmp_path, monkeypatch):
    def fill(draft):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")

    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        Cache(tmp_path / "cache").entry("key", fill)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert Cache("/dev/full/cache").value("key", lambda: (1, [2.5])) == [1, [2.5]]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr("handful.cache_home._settled", {})
    with pytest.warns(UserWarning, match=r"The cache folder ~/\.cache cannot be used \(there is no home folder\)"):
        assert Cache().folder.parent.name.startswith("handful-")


def open_missing(_draft, path="/photos/owl.jpg"):
    open(path).close()


def open_in_draft(draft):
    (draft / "missing" / "file").write_text("x")


def fails(error):
    def make(_draft):
        raise error

    return make


CANNOT_READ = {
    "a missing image": (open_missing, r"\A/photos/owl\.jpg cannot be read: No such file or directory\.\Z"),
    "a folder": (lambda draft: open_missing(draft, "/tmp"), r"\A/tmp cannot be read: Is a directory\.\Z"),
    "a damaged disk": (fails(OSError(errno.EIO, "I/O error")), "An image cannot be read: I/O error"),
    "a lost share": (fails(OSError(errno.ESTALE, "Stale file", "/nas/a.png")), r"/nas/a\.png cannot be read: Stale"),
    "a name in bytes": (fails(OSError(errno.EACCES, "Permission denied", b"/a/\xe9.png")), r"/a/\\xe9\.png cannot be"),
    "a truncated image": (fails(OSError("image file is truncated")), "An image cannot be read: image file is trunc"),
    "a closed connection": (fails(ConnectionResetError(104, "Connection reset by peer")), "An image cannot be read"),
}


@pytest.mark.parametrize("case", CANNOT_READ)
def test_images_that_cannot_be_read_are_no_fault_of_the_cache(tmp_path, case):
    make, sentence = CANNOT_READ[case]
    with pytest.raises(UserError, match=sentence) as refusal:
        Cache(tmp_path / "cache").entry("key", make)
    assert "cache" not in str(refusal.value)
    with pytest.raises(UserError, match=sentence), Cache(tmp_path / "cache").gradually("key") as entry:
        entry.finish(make)
    assert list((tmp_path / "cache").iterdir()) == []


CANNOT_WRITE = {
    "a file in the draft": open_in_draft,
    "no room": fails(OSError(errno.ENOSPC, "No space left on device")),
    "a quota": fails(OSError(errno.EDQUOT, "Disk quota exceeded")),
    "a file too large": fails(OSError(errno.EFBIG, "File too large")),
}


@pytest.mark.parametrize("case", CANNOT_WRITE)
def test_a_draft_that_cannot_be_written_is_the_fault_of_the_cache(tmp_path, case):
    with pytest.raises(CacheUnwritableError, match=r"cannot be written .*: choose another place with data\.cache_dir"):
        Cache(tmp_path / "cache").entry("key", CANNOT_WRITE[case])


@pytest.mark.parametrize("content", [{}, {"statistics.json": "[1]"}, {"value.json": "[1,"}])
def test_an_entry_of_an_earlier_version_or_a_damaged_one_is_worked_out_again(tmp_path, content):
    cache = Cache(tmp_path / "cache")
    (cache.folder / "key").mkdir(parents=True)
    for name, text in content.items():
        (cache.folder / "key" / name).write_text(text)
    assert cache.value("key", lambda: [2]) == [2]
    assert cache.value("key", lambda: [3]) == [2]


def read_value(folder, start, results):
    start.wait()
    results.put(Cache(folder).value("key", lambda: time.sleep(0.01) or [7]))


@pytest.mark.parametrize("left", ["nothing", "an entry without a value", "a damaged value", "a file", "a link"])
def test_many_processes_that_need_the_same_value_at_once(tmp_path, left):
    context = multiprocessing.get_context("fork")
    for round_number in range(5):
        folder = tmp_path / str(round_number)
        if left == "a file":
            folder.mkdir()
            (folder / "key").write_text("x")
        elif left == "a link":
            (tmp_path / "elsewhere").mkdir(exist_ok=True)
            folder.mkdir()
            (folder / "key").symlink_to(tmp_path / "elsewhere")
        elif left != "nothing":
            (folder / "key").mkdir(parents=True)
            if left == "a damaged value":
                (folder / "key/value.json").write_text("[")
        start, results = context.Event(), context.Queue()
        processes = [context.Process(target=read_value, args=(folder, start, results)) for _ in range(8)]
        for process in processes:
            process.start()
        start.set()
        assert [finished(process) for process in processes] == [True] * 8
        assert [results.get(timeout=PATIENCE) for _ in processes] == [[7]] * 8
        assert [path.name for path in folder.iterdir()] == ["key"]
        assert Cache(folder).value("key", lambda: [8]) == [7]


def test_makers_without_locks_may_finish_at_the_same_time(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("datamodules.cache.fcntl.flock", no_locks)
    cache = Cache(tmp_path)

    def make(draft):
        (draft / "made").write_text("second")
        if not (tmp_path / "key").exists():
            (tmp_path / "key").mkdir()
            (tmp_path / "key/made").write_text("first")

    assert (cache.entry("key", make) / "made").read_text() == "first"
    assert not list(tmp_path.glob(".draft-*"))
