from cytodino_batch import progress
from cytodino_batch.progress import show_progress


def test_a_terminal_gets_count_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "interactive", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("slide [red]", 10) as advance:
        advance(4)
        advance(6)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "slide [red]" in seen.err
    assert "10/10" in seen.err
    assert "crops/s" in seen.err
    assert "0:00:00" in seen.err


def test_a_file_gets_nothing(capsys):
    with show_progress("slide", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
