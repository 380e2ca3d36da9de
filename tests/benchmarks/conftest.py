from pathlib import Path
from types import SimpleNamespace

import pytest

from cytodino.limits import LIMITS
from cytodino_bench import latency, subjects
from tests.benchmarks.latency_bench import Bench, golden, targets


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    bundle = SimpleNamespace(
        path=tmp_path, sha256="c" * 64, manifest=SimpleNamespace(limits=LIMITS)
    )
    monkeypatch.setattr(latency, "open_bundle", lambda _: bundle)
    monkeypatch.setattr(latency, "open_subject", bench.open_subject)
    monkeypatch.setattr(latency, "measure_cold_start", bench.cold_start)
    usable = {"cpu": ("fp32", "int8"), "cuda": ("fp32",)}
    monkeypatch.setattr(subjects, "usable_here", lambda _b, _e, provider: usable[provider])
    monkeypatch.setattr(latency, "load_golden", lambda _: golden())
    monkeypatch.setattr("cytodino.bundle.golden.load_golden", lambda *_, **__: golden())
    monkeypatch.setattr(subjects, "require_its_run", lambda *_: "d" * 64)
    monkeypatch.setattr(subjects, "targets_found", targets("cpu"))
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.1, 0.1))
    return bench
