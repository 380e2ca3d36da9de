import pytest

from cytodino.run_manifest import EpochRecord
from cytodino.training import terminal
from cytodino.training.terminal import TerminalObserver

RECORD = EpochRecord(
    epoch=3,
    train_loss=1.23456,
    validation_loss=0.5,
    weighted_f1=0.61,
    macro_f1=0.4,
    accuracy=0.7,
)


@pytest.mark.parametrize("shown", [True, False])
def test_lines_go_to_stderr_and_the_header_comes_once(capsys, monkeypatch, shown):
    monkeypatch.setattr(terminal, "interactive", lambda: shown)
    with TerminalObserver() as observer:
        observer.advance()
        observer.begin("checking", 2)
        observer.advance(2)
        observer.begin("training", 5)
        observer.say("warning: [not markup]")
        observer.epoch(RECORD, best=True)
        observer.epoch(RECORD, best=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("weighted F1") == 1
    assert "warning: [not markup]" in err
    lines = [line for line in err.splitlines() if "1.2346" in line]
    assert len(lines) == 2
    assert lines[0].rstrip().endswith("*") and not lines[1].rstrip().endswith("*")
    assert "0.6100" in lines[0] and "0.7000" in lines[0]
