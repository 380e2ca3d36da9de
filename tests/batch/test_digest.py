import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from cytodino.errors import ArchiveError
from cytodino.paths import stamp_of
from cytodino_batch import digest, digest_process
from cytodino_batch.digest import FileDigest


@pytest.fixture
def beside(monkeypatch):
    """Hash files of any length in a process."""
    monkeypatch.setattr(digest, "AT_ONCE_BYTES", -1)


def fill(path, size):
    data = (bytes(range(256)) * (1 + size // 256))[:size]
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("at_once", [-1, 1 << 30], ids=["in a process", "at once"])
@pytest.mark.parametrize("size", [0, 1, digest_process.BUFFER_BYTES, 3_000_000])
def test_the_hash_is_that_of_the_whole_file(tmp_path, monkeypatch, at_once, size):
    monkeypatch.setattr(digest, "AT_ONCE_BYTES", at_once)
    expected = fill(tmp_path / "f", size)
    with FileDigest(tmp_path / "f") as found:
        assert found.result() == expected
        assert found.ready
        assert found.result() == expected


def test_a_file_that_cannot_be_read_is_an_error(tmp_path, beside, monkeypatch):
    """A folder opens, and gives no bytes."""
    fill(tmp_path / "f", 10)
    with FileDigest(tmp_path / "f") as found:
        unreadable = os.open(tmp_path, os.O_RDONLY)
        os.dup2(unreadable, found._file.fileno())
        os.close(unreadable)
        found._process.kill()
        with pytest.raises(OSError, match="directory"):
            found.result()


def test_a_process_that_is_killed_is_done_without(tmp_path, beside):
    expected = fill(tmp_path / "f", 3_000_000)
    with FileDigest(tmp_path / "f") as found:
        found._process.kill()
        assert found.result() == expected


def test_another_file_than_the_one_that_was_opened_is_an_error(tmp_path, beside):
    fill(tmp_path / "f", 10)
    with (tmp_path / "f").open() as file:
        opened = stamp_of(file.fileno())
    (tmp_path / "g").write_bytes(b"other")
    (tmp_path / "g").replace(tmp_path / "f")
    with FileDigest(tmp_path / "f", opened) as found, pytest.raises(ArchiveError, match="changed"):
        found.result()


def test_leaving_early_ends_the_process(tmp_path, beside):
    with (tmp_path / "f").open("wb") as file:
        file.truncate(100 << 30)  # hours of work, and no room on the disk
    with FileDigest(tmp_path / "f") as found:
        assert not found.ready
    assert found._process.returncode == -signal.SIGKILL


def test_signals_are_the_parents_and_its_end_is_the_end(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        file.truncate(100 << 30)
    program = """
import os, subprocess, sys, time
with open(sys.argv[2], "rb") as file:
    words = [sys.executable, sys.argv[1], str(os.getpid())]
    child = subprocess.Popen(words, stdin=file, stdout=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""
    words = [sys.executable, "-c", program, digest_process.__file__, str(tmp_path / "f")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        # Both: what starts the tests may ignore some, and children inherit that.
        wait_for(lambda: all(ignores(child, n) for n in (signal.SIGINT, signal.SIGTERM)))
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGTERM)
        time.sleep(0.5)
        assert is_running(child)
        parent.kill()
    wait_for(lambda: not is_running(child))


def test_a_process_that_cannot_start_is_done_without(tmp_path, beside, monkeypatch):
    expected = fill(tmp_path / "f", 3_000_000)

    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(digest.subprocess, "Popen", refuse)
    with FileDigest(tmp_path / "f") as found:
        assert found.ready
        assert found.result() == expected


def wait_for(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to pass")


def ignores(process, number):
    with open(f"/proc/{process}/status") as file:
        (mask,) = [line.split()[1] for line in file if line.startswith("SigIgn")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
