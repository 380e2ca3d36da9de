import hashlib

import pytest

from cytodino_batch import digest
from cytodino_batch.digest import FileDigest


@pytest.mark.parametrize("at_once", [0, 1 << 20], ids=["in a thread", "at once"])
@pytest.mark.parametrize("size", [1, 1000, 4096])
def test_the_hash_is_that_of_the_whole_file(tmp_path, monkeypatch, at_once, size):
    monkeypatch.setattr(digest, "AT_ONCE_BYTES", at_once)
    monkeypatch.setattr(digest, "BUFFER_BYTES", 7)
    data = bytes(range(256)) * 16
    (tmp_path / "f").write_bytes(data[:size])
    with FileDigest(tmp_path / "f") as found:
        assert found.result() == hashlib.sha256(data[:size]).hexdigest()
        assert found.ready


def test_a_file_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "AT_ONCE_BYTES", 0)
    (tmp_path / "f").write_bytes(b"x")

    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(digest.Path, "open", refuse)
    with FileDigest(tmp_path / "f") as found, pytest.raises(OSError, match="Input/output"):
        found.result()


def test_leaving_early_stops_the_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(digest, "BUFFER_BYTES", 1)
    (tmp_path / "f").write_bytes(bytes(3_000_000))
    with FileDigest(tmp_path / "f") as found:
        pass
    found._thread.join(10)
    assert found.ready
