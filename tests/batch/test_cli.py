import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cytodino.errors import BundleError
from cytodino_batch import job
from cytodino_batch.cli import main

from .conftest import PixelEngine, write_crops


def batch(*args: object):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def opened(monkeypatch, make_session):
    """Replace bundle and engine by fakes; gives the options that they were asked for with."""
    asked = []

    def use(session=None):
        @contextmanager
        def open_session(options):
            asked.append(options)
            yield session or make_session(batch_size=options.batch_size or 8)

        monkeypatch.setattr(job, "open_session", open_session)
        return asked

    return use


def classify(tmp_path, *args):
    return batch("classify", *args, "--bundle", tmp_path / "bundle", "--out", tmp_path / "out")


def test_one_archive_ends_with_the_differential_the_verdict_and_the_files(tmp_path, opened, crops):
    opened()
    result = classify(tmp_path, write_crops(tmp_path / "slide.h5", crops))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "150 of 150 crops classified, 0 quarantined"
    assert lines[-5].startswith("parity: golden check within the limits on 32 cells: 0 flips")
    assert lines[-4:] == [
        str(tmp_path / "out/slide" / name)
        for name in ("predictions.csv", "predictions.h5", "quarantine.csv", "summary.json")
    ]
    classes = [line for line in lines if re.match(r"  [A-Z]{3} ", line)]
    apart = next(line for line in lines if line.startswith("apart, in no percentage: "))
    counted = sum(int(line.split("%")[0].split()[-2]) for line in classes)
    assert counted + sum(map(int, re.findall(r"\d+", apart))) == 150
    assert "KSC smudge cell (critical)" in apart
    assert f"flag: {counted} cells counted: a precise percentage takes at least 500" in (
        result.stdout
    )
    assert "of sampling alone" in result.stdout
    assert "onnxruntime 1.0 on cpu (CPUExecutionProvider), variant fp32, batches of 8" in (
        result.stderr
    )
    assert "slide: 150 of 150 crops classified" in result.stderr


def test_several_archives_end_with_their_folders_and_a_closing_table(tmp_path, opened, crops):
    opened()
    write_crops(tmp_path / "in/a.h5", crops)
    write_crops(tmp_path / "in/b.h5", crops, damaged=[1])
    (tmp_path / "in/c.h5").write_bytes(b"text")
    result = classify(tmp_path, tmp_path / "in")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [str(tmp_path / "out" / name) for name in "ab"]
    table = result.stderr.splitlines()[-4:]
    assert table[0].split() == ["archive", "status", "classified", "quarantined", "reason"]
    assert table[1].split() == ["a", "done", "150", "0"]
    assert table[2].split() == ["b", "done", "149", "1"]
    assert table[3].split()[:4] == ["c", "failed", "-", "-"]
    assert "is not an HDF5 file" in table[3]


def test_warnings_of_the_engine_are_shown(tmp_path, opened, make_session, crops):
    class Warned(PixelEngine):
        def describe(self):
            return super().describe().model_copy(update={"warnings": ("CUDA did not load",)})

    opened(make_session(Warned()))
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", crops[:4]))
    assert "warning: CUDA did not load" in result.stderr


def test_a_single_bad_archive_is_one_line_and_exit_3(tmp_path, opened):
    opened()
    (tmp_path / "c.h5").write_bytes(b"text")
    result = classify(tmp_path, tmp_path / "c.h5")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.count("is not an HDF5 file") == 1
    assert not (tmp_path / "out").exists()


def test_a_dry_run_opens_everything_and_writes_nothing(tmp_path, opened, crops):
    opened()
    write_crops(tmp_path / "in/a.h5", crops)
    (tmp_path / "in/b.h5").write_bytes(b"text")
    result = classify(tmp_path, tmp_path / "in", "--dry-run")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        f"{tmp_path}/in/a.h5: 150 crops, cytodino encoded -> {tmp_path}/out/a"
    ]
    assert "is not an HDF5 file" in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "in/b.h5").unlink()
    assert classify(tmp_path, tmp_path / "in", "--dry-run").exit_code == 0


def test_a_dry_run_goes_on_after_an_archive_that_went_away(tmp_path, opened, crops, monkeypatch):
    opened()
    for name in "ab":
        write_crops(tmp_path / f"in/{name}.h5", crops)

    def go_away(tasks, *_, _plan=job.plan_archives):
        planned = _plan(tasks, *_)
        (tmp_path / "in/a.h5").unlink()
        return planned

    monkeypatch.setattr(job, "plan_archives", go_away)
    result = classify(tmp_path, tmp_path / "in", "--dry-run")
    assert (result.exit_code, len(result.stdout.splitlines())) == (3, 1)
    assert f"{tmp_path}/in/a.h5: no such file or folder" in result.stderr


def test_a_finished_archive_is_left_as_it_is(tmp_path, opened, crops):
    opened()
    path = write_crops(tmp_path / "slide.h5", crops)
    assert classify(tmp_path, path).exit_code == 0
    before = (tmp_path / "out/slide/summary.json").read_bytes()
    result = classify(tmp_path, path)
    assert result.exit_code == 0
    assert "slide: finished before; give --restart to do it again" in result.stderr
    assert result.stdout.splitlines()[0] == "150 of 150 crops classified, 0 quarantined"
    assert (tmp_path / "out/slide/summary.json").read_bytes() == before


def test_results_that_another_command_finished_are_refused(tmp_path, opened, crops):
    opened()
    path = write_crops(tmp_path / "slide.h5", crops)
    assert classify(tmp_path, path).exit_code == 0
    result = classify(tmp_path, path, "--review-below", "0.25")
    assert result.exit_code == 3
    assert (
        f"slide: failed: {tmp_path}/out/slide: holds the finished results of another run: "
        "--review-below differs; give --restart to do it again, or choose another --out"
    ) in result.stderr
    assert classify(tmp_path, path, "--review-below", "0.25", "--restart").exit_code == 0
    summary = json.loads((tmp_path / "out/slide/summary.json").read_text(encoding="utf-8"))
    assert summary["provenance"]["review_below"] == 0.25


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["gone.h5"], "no such file or folder"),
        (["here.h5", "--batch-size", "0"], "neither auto nor a number"),
        (["here.h5", "--batch-size", "many"], "neither auto nor a number"),
        (["here.h5", "--batch-size", "1025"], "from 1 to 1024"),
        (["here.h5", "--shard", "0/2"], "I counts from 1 to N"),
        (["here.h5", "--shard", "3/2"], "I counts from 1 to N"),
        (["here.h5", "--shard", "2"], "not of the form I/N"),
        (["here.h5", "--parity", "live"], "--parity live needs the run itself"),
        (["here.h5", "--engine", "pytorch"], "--engine pytorch needs the run itself"),
        (["here.h5", "--review-below", "2"], "--review-below"),
        (["here.h5", "--review-below", "nan"], "--review-below"),
        (["here.h5", "--review-sheet", "--shard", "1/2"], "--review-sheet needs a whole archive"),
        (["here.h5", "--reference", "gone"], "does not exist"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_2(tmp_path, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    Path("here.h5").touch()
    result = batch("classify", *args, "--bundle", "bundle", "--out", "out")
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_bundle_that_is_not_there_is_exit_2(tmp_path, crops):
    result = classify(tmp_path, write_crops(tmp_path / "slide.h5", crops))
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path}/bundle: no such file or folder\n"


def test_a_bundle_that_cannot_be_used_is_exit_1_and_one_line(tmp_path, monkeypatch, crops):
    def refuse(_):
        raise BundleError("changed", where="bundle", mend="copy it again")

    monkeypatch.setattr(job, "open_session", refuse)
    result = classify(tmp_path, write_crops(tmp_path / "slide.h5", crops))
    assert (result.exit_code, result.stderr) == (1, "error: bundle: changed; copy it again\n")


def test_parity_off_says_that_nothing_was_checked(tmp_path, opened, make_session, crops):
    opened(make_session(golden=None))
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", crops[:4]), "--parity", "off")
    assert result.exit_code == 0
    assert "nothing was checked" in result.stderr
    assert "parity: nothing was checked" in result.stdout


def test_an_archive_refused_by_live_parity_is_exit_4(tmp_path, opened, make_session, crops):
    opened(make_session(PixelEngine(shift=1.0), reference=PixelEngine()))
    result = classify(
        tmp_path, write_crops(tmp_path / "s.h5", crops), "--parity=live", "--reference", tmp_path
    )
    assert result.exit_code == 4
    assert "refused: onnxruntime fp32 strays from PyTorch" in result.stderr


def test_an_interrupt_is_exit_130(tmp_path, opened, make_session, crops):
    opened(make_session(PixelEngine(fail_from=3)))
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", crops))
    assert result.exit_code == 130
    assert "stopped in s; 0 of 1 archives were finished before it" in result.stderr
    assert [path.name for path in (tmp_path / "out/s").iterdir()] == ["classify.journal"]


def test_options_reach_the_run(tmp_path, opened, crops):
    asked = opened()
    args = "--device cpu --engine onnxruntime --variant fp32 --batch-size 5 --review-below 0.25"
    classify(tmp_path, write_crops(tmp_path / "s.h5", crops[:4]), *args.split())
    options = asked[0]
    assert (options.device, options.engine, options.variant) == ("cpu", "onnxruntime", "fp32")
    assert (options.batch_size, options.review_below) == (5, 0.25)
    summary = json.loads((tmp_path / "out/s/summary.json").read_text(encoding="utf-8"))
    assert summary["provenance"]["batch_size_chosen"] == "user"


@pytest.mark.parametrize(
    ("option", "name"), [("--parquet", "predictions.parquet"), ("--review-sheet", "review.png")]
)
def test_a_further_file_is_listed_and_hashed_with_the_others(tmp_path, opened, crops, option, name):
    opened()
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", crops[:4]), option)
    assert result.exit_code == 0
    assert str(tmp_path / "out/s" / name) in result.stdout.splitlines()
    summary = json.loads((tmp_path / "out/s/summary.json").read_text(encoding="utf-8"))
    assert name in summary["provenance"]["files"]


@pytest.mark.parametrize("option", ["--parquet", "--review-sheet"])
def test_finished_results_without_a_file_that_is_asked_for_are_refused(
    tmp_path, opened, crops, option
):
    opened()
    path = write_crops(tmp_path / "s.h5", crops[:4])
    assert classify(tmp_path, path).exit_code == 0
    result = classify(tmp_path, path, option)
    assert result.exit_code == 3
    assert f"holds the finished results of another run: {option} differ" in result.stderr
    assert classify(tmp_path, path, option, "--restart").exit_code == 0


def test_parquet_without_its_library_is_said_before_any_work(tmp_path, opened, monkeypatch, crops):
    asked = opened()
    monkeypatch.setattr("cytodino_batch.parquet.find_spec", lambda _: None)
    result = classify(tmp_path, write_crops(tmp_path / "s.h5", crops[:4]), "--parquet")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: pyarrow is not installed; run: pip install 'cytodino[parquet]'\n"
    )
    assert not asked


HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "h5py", "numpy", "pydantic", "rich")


def modules_after(*args: object) -> set[str]:
    """Run the command in a process of its own and list the modules that it loaded."""
    code = (
        "import sys\nfrom cytodino_batch.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    sys.stderr.write('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "args", [["--help"], ["classify", "--help"], ["merge", "--help"], ["inspect", "--help"]]
)
def test_help_loads_nothing_heavy(args):
    assert modules_after(*args).isdisjoint(HEAVY)


def test_the_installed_program_answers():
    program = Path(sys.executable).with_name("cytodino-batch")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "classify" in done.stdout
    assert "inspect" in done.stdout
