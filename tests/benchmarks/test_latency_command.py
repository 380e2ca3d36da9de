import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cytodino.errors import MissingPathError
from cytodino_bench.cli import main
from cytodino_bench.latency import measure_latency
from cytodino_bench.latency_report import LatencyReport
from tests.batch.tiny_bundle import GOLDEN_CELLS, write_bundle
from tests.benchmarks.latency_bench import (
    Bench,
    offline,
)


@pytest.fixture
def command(bench: Bench) -> Callable[..., Any]:
    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(main, ["latency", str(bench.path), *map(str, arguments)])

    return invoke


def test_the_command_prints_speed_and_parity_and_writes_json(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "latency.json"

    result = command("--batch-sizes", "1,2,1", "--rounds", 3, "--json", file)

    assert result.exit_code == 0, result.output
    words_wanted = ("onnxruntime (cpu)", "int8", "images/s", "p50 ms", "100.00% of 11", "unproven")
    for words in (*words_wanted, "single stream", "offline", "peak MiB"):
        assert words in result.stdout
    assert str(file) in result.stdout.replace("\n", "")
    assert "without pytorch" in result.stderr
    report = LatencyReport.model_validate_json(file.read_text())
    assert [timing.batch_size for timing in offline(report)[1]] == [1, 2]
    assert json.loads(file.read_text())["machine"]["cores"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["latency.json"]


def test_a_start_says_the_scenario_that_it_was_for(command: Callable[..., Any]) -> None:
    result = command("--rounds", 1)
    _, starts = result.stdout.split("first result s")
    purposes = [re.split(r"  +", line)[3] for line in starts.splitlines() if "(cpu)" in line]
    assert sorted(purposes) == ["offline", "offline", "single stream", "single stream"]


@pytest.mark.parametrize("sizes", ["0", "one", "1,,2", "4,-1", "8,1025"])
def test_batch_sizes_that_are_none_are_refused(command: Callable[..., Any], sizes: str) -> None:
    result = command("--batch-sizes", sizes)
    assert result.exit_code == 2
    assert "--batch-sizes" in result.stderr


def test_the_command_writes_a_chart_and_a_page(command: Callable[..., Any], tmp_path: Path) -> None:
    chart, page = tmp_path / "latency.svg", tmp_path / "latency.html"

    result = command("--rounds", 1, "--chart", chart, "--html", page)

    assert result.exit_code == 0, result.output
    assert "onnxruntime fp32, batch 8" in chart.read_text()
    assert "onnxruntime fp32, batch 8" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latency.html", "latency.svg"]


def test_a_chart_of_another_kind_is_refused_before_anything_is_measured(
    command: Callable[..., Any], bench: Bench, tmp_path: Path
) -> None:
    result = command("--chart", tmp_path / "latency.pdf")
    assert result.exit_code == 2
    assert "end it in .png or .svg" in result.stderr
    assert not bench.calls


def test_pytorch_by_name_needs_its_run(command: Callable[..., Any], bench: Bench) -> None:
    result = command("--engine", "pytorch")
    assert result.exit_code == 2
    assert "give --reference RUN" in result.stderr
    assert not bench.calls


def test_a_missing_bundle_is_one_line_and_exit_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["latency", str(tmp_path / "absent")])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(MissingPathError):
        measure_latency(tmp_path / "absent")


def test_the_installed_program_times_a_real_bundle(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle, file = write_bundle(tmp_path / "bundle"), tmp_path / "latency.json"
    command = ["latency", str(bundle), "--batch-sizes", "1,4", "--rounds", "2", "--device", "cpu"]

    done = subprocess.run(
        [Path(sys.executable).with_name("cytodino-bench"), *command, "--json", file],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "onnxruntime (cpu)" in done.stdout
    single, one = LatencyReport.model_validate_json(file.read_text()).loaded
    assert [found.description.options["goal"] for found in (single, one)] == [
        "latency",
        "throughput",
    ]
    assert one.parity_n == GOLDEN_CELLS
    assert one.agreement == 1.0
    assert one.description.provider == "CPUExecutionProvider"
    assert 0 < one.start.load_s < one.start.first_result_s
    assert one.start.load_again_s is None  # onnxruntime keeps nothing compiled
    assert one.start.peak_memory is None or one.start.peak_memory > 2**20
