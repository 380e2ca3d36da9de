import os

import pytest

from cytodino.locking import try_lock


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_holds_it_until_it_is_closed(tmp_path, kind):
    path = tmp_path
    if kind == "file":
        path = tmp_path / "x"
        path.write_text("x")
    first, second = (os.open(path, os.O_RDONLY) for _ in range(2))
    assert try_lock(first)
    assert not try_lock(second)
    os.close(first)
    assert try_lock(second)
    os.close(second)


def test_what_knows_no_locks_is_an_error():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError):
        try_lock(read)
