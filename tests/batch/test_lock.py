import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cytodino.errors import InputError
from cytodino_batch.lock import hold

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom cytodino_batch.lock import hold\n"
    "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "s/w.lock"], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_is_at_work(tmp_path, holder):
    with (
        pytest.raises(InputError, match=rf"another run is at work here \(process {holder.pid} on"),
        hold(tmp_path / "s/w.lock"),
    ):
        pass


def test_a_lock_does_not_outlive_its_process(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "s/w.lock").exists()
    with hold(tmp_path / "s/w.lock"):
        pass
    assert not (tmp_path / "s/w.lock").exists()


def test_two_places_in_one_process_exclude_each_other(tmp_path):
    with (
        hold(tmp_path / "w.lock"),
        pytest.raises(InputError, match=rf"process {os.getpid()}"),
        hold(tmp_path / "w.lock"),
    ):
        pass


def test_other_locks_in_the_folder_are_free(tmp_path):
    with hold(tmp_path / "a.lock"), hold(tmp_path / "b.lock"):
        pass


def test_a_folder_that_was_made_for_the_lock_goes_with_it_if_nothing_is_in_it(tmp_path):
    with hold(tmp_path / "a/b/w.lock"):
        pass
    assert not (tmp_path / "a").exists()
    with hold(tmp_path / "a/b/w.lock"):
        (tmp_path / "a/result").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result"]


def test_never_two_at_once_though_the_file_comes_and_goes(tmp_path):
    inside, most, done = [], [], []

    def work():
        while len(done) < 200:
            try:
                with hold(tmp_path / "s/w.lock"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
            except InputError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_a_folder_that_another_run_removes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    calls = []

    def mkdir(self, *args, _mkdir=Path.mkdir, **kwargs):
        calls.append(self)
        if len(calls) == 1:
            raise FileExistsError(17, "File exists")
        _mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with hold(tmp_path / "s/w.lock"):
        assert len(calls) == 2


def test_a_folder_that_can_never_be_made_is_an_error_and_no_endless_wait(tmp_path):
    (tmp_path / "s").symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError), hold(tmp_path / "s/deep/w.lock"):
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that takes no folders")
def test_a_folder_that_takes_no_folders_is_an_error_and_no_endless_wait():
    with pytest.raises(FileNotFoundError), hold(Path("/proc/nothing/w.lock")):
        pass


@pytest.mark.parametrize("what", ["file", "link to nothing"])
def test_what_is_in_the_folder_s_place_is_an_error(tmp_path, what):
    place = tmp_path / "s"
    if what == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError), hold(place / "w.lock"):
        pass
