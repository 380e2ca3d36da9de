import subprocess
import sys

from cytodino_bench.peak_memory import PeakMemory

MIB = 2**20

CHILD = "import time; held = bytearray(64 << 20); time.sleep(0.5)"


def peak_of(program: str) -> float:
    """Largest sum seen while a program runs, MiB."""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        watch = PeakMemory(process.pid, every=0.01)
        process.wait()
        return watch.stop() / MIB


def test_what_a_program_starts_is_counted_with_it() -> None:
    alone = peak_of(CHILD)
    both = peak_of(
        "import subprocess, sys; held = bytearray(64 << 20); "
        f"subprocess.run([sys.executable, '-c', {CHILD!r}])"
    )
    assert 64 < alone < 110
    assert both > alone + 60


def test_what_started_it_is_not() -> None:
    held = bytearray(256 * MIB)
    assert peak_of("import time; time.sleep(0.1)") < 100
    assert len(held) == 256 * MIB
