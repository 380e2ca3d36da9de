import os
import signal
import threading

import pytest

from cytodino.console import Terminated
from cytodino_batch.interruption import deferred_interrupts


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_the_first_signal_waits_for_the_next_check(number, kind, capsys):
    with deferred_interrupts() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        assert "finishing the block in hand" in capsys.readouterr().err
        with pytest.raises(kind) as caught:
            interruption.check()
        assert caught.type is kind


def test_the_second_signal_stops_at_once():
    with deferred_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_nothing_is_deferred():
    checked = []

    def work():
        with deferred_interrupts() as interruption:
            interruption.check()
            checked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert checked == [True]
