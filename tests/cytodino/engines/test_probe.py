import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cytodino.engines import probe as probe_module
from cytodino.engines.probe import Probe, main, probe

CPU = {"engine": "onnxruntime", "variant": "fp32", "device": "cpu"}


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run other code than the probe."""
    run = subprocess.run

    def replaced(command: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", code], **options)

    monkeypatch.setattr(probe_module.subprocess, "run", replaced)


def test_a_sound_model_has_nothing_to_say(model_path: Path) -> None:
    assert probe(model_path, **CPU) is None


def test_a_model_that_does_not_open_says_why(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    reason = probe(path, **CPU)
    assert reason is not None
    assert "cannot open the model" in reason


def test_a_crash_is_a_reason_and_not_an_end(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert "crashed" in str(probe(model_path, **CPU))
    assert "SIGKILL" in str(probe(model_path, **CPU))
    assert os.getpid()


def test_a_child_that_hangs_is_ended(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "import time; time.sleep(60)")
    assert "within 0.5 s" in str(probe(model_path, **CPU, timeout=0.5))


def test_a_child_that_ends_without_a_word(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, "raise SystemExit(7)")
    assert "exit code 7" in str(probe(model_path, **CPU))


def test_the_childs_own_words(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([json.dumps(asdict(Probe(str(model_path), **CPU)))]) == 0
    assert main([json.dumps(asdict(Probe(str(tmp_path / "none"), **CPU)))]) == 1
    assert "no such file" in capsys.readouterr().out


def test_an_unknown_signal_keeps_its_number() -> None:
    assert probe_module._signal_name(250) == "signal 250"
