"""Runs that end before they are done, and those that go on from there."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import draw_crops, write_crops
from .tiny_bundle import write_bundle

FILES = ["predictions.csv", "predictions.h5", "quarantine.csv", "summary.json"]
PROGRAM = Path(sys.executable).with_name("cytodino-batch")
DRIVER = Path(__file__).with_name("kill_driver.py")


def command(tmp_path, out, *args):
    parts = [PROGRAM, "classify", tmp_path / "s.h5", "--bundle", tmp_path / "bundle"]
    return [str(part) for part in (*parts, "--out", tmp_path / out, *args)]


def results(folder):
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(found.pop("summary.json"))
    run = summary.pop("run")
    return found, summary, run


@pytest.fixture
def slow_enough(tmp_path):
    """An archive and a bundle that keep the installed program busy for a second or so."""
    write_crops(tmp_path / "s.h5", draw_crops(6000), damaged=[5, 3000])
    write_bundle(tmp_path / "bundle")


def wait_for_journal(process, journal, size):
    """Wait until a journal has so many bytes; tell whether the process still runs."""
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size >= size:
            return True
        time.sleep(0.0005)
    return False


@pytest.mark.parametrize(
    "count", [20, pytest.param(1000, marks=pytest.mark.slow)], ids=["20 moments", "every moment"]
)
def test_a_run_killed_at_any_call_to_the_system_ends_as_if_it_had_not_been(tmp_path, count):
    done = subprocess.run(
        [sys.executable, DRIVER, tmp_path, "4", str(count)],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["moments"]) == min(count, found["total"])
    assert found["total"] > 40
    assert all(found["equal"]), found


@pytest.mark.slow
def test_the_installed_program_killed_from_outside_goes_on(tmp_path, slow_enough):
    sizes = [str(size) for size in (8, 32)]
    subprocess.run(command(tmp_path, "whole", "--batch-size", sizes[0]), capture_output=True)
    whole = results(tmp_path / "whole/s")
    chance, killed = random.Random(7), 0
    for turn in range(20):
        started = command(tmp_path, f"out{turn}", "--batch-size", "8")
        with subprocess.Popen(started, stderr=subprocess.PIPE) as process:
            journal = tmp_path / f"out{turn}/s/classify.journal"
            if wait_for_journal(process, journal, chance.randrange(3000, 650_000)):
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate()
        again = subprocess.run(started, capture_output=True, text=True)
        assert again.returncode == 3, again.stderr
        assert results(tmp_path / f"out{turn}/s")[:2] == whole[:2]
    assert killed >= 15


def test_ctrl_c_finishes_the_block_and_the_same_command_goes_on(tmp_path, slow_enough):
    started = command(tmp_path, "out", "--batch-size", "8")
    journal = tmp_path / "out/s/classify.journal"
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True) as process:
        assert wait_for_journal(process, journal, 20_000)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "finishing the block in hand; a second signal stops at once" in said
    assert said.splitlines()[-2:] == [
        "stopped in s; 0 of 1 archives were finished before it; the same command goes on from here",
        "interrupted",
    ]
    assert [path.name for path in (tmp_path / "out/s").iterdir()] == ["classify.journal"]
    again = subprocess.run(started, capture_output=True, text=True)
    assert "s: going on at row " in again.stderr
    subprocess.run(command(tmp_path, "whole", "--batch-size", "8"), capture_output=True)
    files, summary, run = results(tmp_path / "out/s")
    assert (files, summary) == results(tmp_path / "whole/s")[:2]
    assert 0 < run["resumed_rows"] < 6000


def test_sigterm_does_the_same_with_its_own_exit_code(tmp_path, slow_enough):
    journal = tmp_path / "out/s/classify.journal"
    with subprocess.Popen(command(tmp_path, "out"), stderr=subprocess.PIPE, text=True) as process:
        assert wait_for_journal(process, journal, 20_000)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "terminated"
    assert journal.exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, slow_enough):
    def little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    started = command(tmp_path, "out", "--batch-size", "8")
    full = subprocess.run(started, capture_output=True, text=True, preexec_fn=little_room)
    assert full.returncode == 3
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("s: failed")]
    assert line.startswith("s: failed: File too large")
    assert line.endswith("what was done is kept, and the same command goes on")
    assert "Traceback" not in full.stderr
    again = subprocess.run(started, capture_output=True, text=True)
    assert again.returncode == 3, again.stderr
    assert "damaged bytes" not in again.stderr
    assert results(tmp_path / "out/s")[2]["resumed_rows"] > 500


def test_a_second_run_on_the_same_archive_and_folder_refuses(tmp_path, slow_enough):
    started = command(tmp_path, "out", "--batch-size", "8")
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True) as first:
        assert wait_for_journal(first, tmp_path / "out/s/classify.journal", 5000)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(started, capture_output=True, text=True)
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert second.returncode == 3
    assert f"another run is at work here (process {first.pid} on" in second.stderr
    assert first.returncode == 3
    assert sorted(path.name for path in (tmp_path / "out/s").iterdir()) == FILES
