import subprocess
import sys

import pytest

THREADS = """
import sys, threading
import numpy as np
from cytodino_batch.heap import share_one_heap

if sys.argv[1] == "one":
    share_one_heap()
def work():
    for _ in range(3):
        kept = [np.zeros(60_000, np.uint8) for _ in range(100)]
for _ in range(2):
    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
starts = [int(line.split("-")[0], 16) for line in open("/proc/self/maps")]
print(sum(start % (64 << 20) == 0 for start in starts))
"""


def count_heaps(how: str) -> int:
    """Heaps of threads begin at multiples of 64 MB."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_threads_share_one_heap():
    assert count_heaps("one") < count_heaps("many")
