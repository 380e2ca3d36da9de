import json
import shutil
from contextlib import nullcontext

import pytest

from cytodino.errors import InputError
from cytodino_batch import finishing, job
from cytodino_batch.journal import read_header
from cytodino_batch.merge import run_merge
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.shards import Shard

from .conftest import PixelEngine, draw_crops, write_crops

FILES = ["predictions.csv", "predictions.h5", "quarantine.csv", "summary.json"]


@pytest.fixture
def run(tmp_path, make_session, monkeypatch):
    """Run classify on `in`, or one shard of it, with fakes for bundle and engine."""

    def classify(out, shard=None, engine=None, **changes):
        session = make_session(engine, batch_size=changes.pop("batch_size", 4))
        if changes.get("parity") == "live":
            session = make_session(engine, reference=PixelEngine())
        monkeypatch.setattr(job, "open_session", lambda _: nullcontext(session))
        options = ClassifyOptions(
            archives=(tmp_path / "in",),
            bundle=tmp_path / "bundle",
            out=tmp_path / out,
            shard=Shard.parse(shard) if shard else None,
            **{"batch_size": 4, **changes},
        )
        return job.run_job(options)

    return classify


@pytest.fixture
def archives(tmp_path):
    for name, cells in (("a", 150), ("deep/b", 300), ("c", 64)):
        ids = [f"{name}-{row}" for row in range(cells)]
        coords = [[row, -row] for row in range(cells)]
        crops = draw_crops(cells, seed=cells)
        damaged = [row for row in (1, 63, 64, 200) if row < cells]
        write_crops(tmp_path / f"in/{name}.h5", crops, damaged=damaged, ids=ids, coords=coords)


def results(folder):
    """Every file below a folder; summaries without their section `run`, and that beside them."""
    files, runs = {}, {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            files[name] = path.read_bytes()
            if path.name == "summary.json":
                files[name] = json.loads(files[name])
                runs[name.removesuffix("/summary.json")] = files[name].pop("run")
    return files, runs


@pytest.mark.parametrize("parity", ["golden", "live"])
@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_merged_shards_are_one_run_to_the_byte(tmp_path, archives, run, of, parity, capsys):
    options = {"parity": parity, "parity_sample": 40}
    assert run("whole", **options) == 3
    whole, _ = results(tmp_path / "whole")
    assert sorted(whole) == sorted(
        f"{name}/{file}" for name in ("a", "deep/b", "c") for file in FILES
    )
    capsys.readouterr()
    for index in range(of, 0, -1):
        assert run("out", f"{index}/{of}", **options) in (0, 3)
    assert run_merge(tmp_path / "out") == 3
    merged, runs = results(tmp_path / "out")
    assert merged == whole
    assert sum(entry["shards"] for entry in runs.values()) >= of
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [str(tmp_path / "out" / name) for name in ("a", "c", "deep/b")]


def test_missing_and_unfinished_shards_are_named_and_the_whole_archives_merged(
    tmp_path, archives, run, capsys
):
    run("out", "1/4")
    run("out", "4/4")
    with pytest.raises(KeyboardInterrupt):
        run("out", "3/4", engine=PixelEngine(fail_from=19))
    capsys.readouterr()
    assert run_merge(tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "a: missing: shard 2/4 is missing: run classify with --shard 2/4" in said
    assert "deep/b: missing: shard 3/4 stopped at row 64 of 128: give its command again" in said
    assert not (tmp_path / "out/a/summary.json").exists()
    run("out", "2/4")
    run("out", "3/4")
    assert run_merge(tmp_path / "out") == 3
    run("whole")
    assert results(tmp_path / "out")[0] == results(tmp_path / "whole")[0]


def test_a_damaged_part_is_named_and_done_again(tmp_path, archives, run, capsys):
    for shard in ("1/2", "2/2"):
        run("out", shard)
    part = tmp_path / "out/deep/b/shard-2-of-2.part"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert run_merge(tmp_path / "out") == 1
    assert "shard 2/2 is damaged: run classify with --shard 2/2" in capsys.readouterr().err
    run("out", "2/2")
    assert run_merge(tmp_path / "out") == 3
    run("whole")
    assert results(tmp_path / "out")[0] == results(tmp_path / "whole")[0]


def test_a_shard_that_is_done_is_left_as_it_is_unless_it_is_asked_otherwise(
    tmp_path, archives, run, capsys
):
    run("out", "1/2")
    part = tmp_path / "out/a/shard-1-of-2.part"
    before = read_header(part).started
    assert run("out", "1/2") == 3
    assert "a: finished before" in capsys.readouterr().err
    assert read_header(part).started == before
    assert run("out", "1/2", review_below=0.9) == 3
    assert "holds the finished results of another run: --review-below differ" in (
        capsys.readouterr().err
    )
    run("out", "1/2", review_below=0.9, restart=True)
    assert read_header(part).started != before


def test_shards_that_do_not_agree_are_refused(tmp_path, archives, run, capsys):
    run("out", "1/3")
    run("out", "2/3")
    run("out", "3/3", review_below=0.9)
    capsys.readouterr()
    assert run_merge(tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert "does not agree with" in said
    assert "--review-below differs; do one of them again, with --restart" in said


@pytest.mark.parametrize("other", [{"shard": "2/3"}, {"shard": "2/2", "batch_size": 40}])
def test_shards_of_another_cutting_are_refused(tmp_path, archives, run, other):
    run("out", "1/2")
    run("out", **other)
    with pytest.raises(InputError, match="is of another run than"):
        run_merge(tmp_path / "out")


def test_shards_that_are_there_twice_are_named_and_the_other_archives_merged(
    tmp_path, archives, run, capsys
):
    for shard in ("1/2", "2/2"):
        run("out", shard)
    shutil.copytree(tmp_path / "out/a", tmp_path / "out/a.bak")
    assert run_merge(tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert f"{tmp_path / 'out/a'}: holds shards of a, and so does {tmp_path / 'out/a.bak'}" in said
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("summary.json")) == [
        "b",
        "c",
    ]
    shutil.rmtree(tmp_path / "out/a.bak")
    assert run_merge(tmp_path / "out") == 3
    run("whole")
    assert results(tmp_path / "out")[0] == results(tmp_path / "whole")[0]


def test_shards_gathered_from_several_folders_are_not_called_missing(
    tmp_path, archives, run, capsys
):
    for index in range(1, 5):
        run(f"out/node{index % 2}", f"{index}/4")
    assert run_merge(tmp_path / "out") == 3
    assert "put the shards of one run into one folder" in capsys.readouterr().err


def test_merged_shards_with_parquet_are_one_run_to_the_byte(tmp_path, archives, run):
    for shard in ("2/3", "1/3", "3/3"):
        run("out", shard, parquet=True)
    assert run_merge(tmp_path / "out") == 3
    run("whole", parquet=True)
    merged, whole = results(tmp_path / "out")[0], results(tmp_path / "whole")[0]
    assert sum(name.endswith("predictions.parquet") for name in whole) == 3
    assert merged == whole


def test_merging_without_the_library_of_parquet_keeps_the_parts(
    tmp_path, archives, run, monkeypatch, capsys
):
    for shard in ("1/2", "2/2"):
        run("out", shard, parquet=True)
    before = results(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr("cytodino_batch.parquet.find_spec", lambda _: None)
        assert run_merge(tmp_path / "out") == 3
    assert "pyarrow is not installed; run: pip install 'cytodino[parquet]'" in (
        capsys.readouterr().err
    )
    assert results(tmp_path / "out") == before
    assert run_merge(tmp_path / "out") == 3
    assert len(list((tmp_path / "out").rglob("predictions.parquet"))) == 3


def refusal(folder):
    with pytest.raises(InputError) as caught:
        run_merge(folder)
    return str(caught.value).removeprefix(f"{folder}: holds no finished shard, but ")


def test_a_folder_that_was_merged_says_so(tmp_path):
    mend = "give another folder, or do it again with classify --shard I/N --restart"
    for name, found in (("a", "the results of 1 archive"), ("b", "the results of 2 archives")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
        assert refusal(tmp_path) == f"{found}; {mend}"


def test_shards_of_which_none_is_whole_are_counted_once_each(tmp_path, run):
    for name in ("a", "b", "c"):
        write_crops(tmp_path / f"in/{name}.h5", draw_crops(100))
    mend = "give the commands of these shards again: classify --shard I/N"
    with pytest.raises(KeyboardInterrupt):
        run("out", "2/2", engine=PixelEngine(fail_from=1))
    assert refusal(tmp_path / "out") == f"1 unfinished; {mend}"
    run("out", "1/2")
    parts = list((tmp_path / "out").rglob("shard-1-of-2.part"))
    assert len(parts) > 1
    for part in parts:
        part.write_bytes(b"")
    (tmp_path / "out/a/summary.json").write_text("{}")
    assert refusal(tmp_path / "out") == f"1 unfinished and 1 damaged; {mend}"


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished shard"):
        run_merge(tmp_path)


def test_an_archive_that_cannot_be_opened_is_reported_by_one_shard_and_by_merge(
    tmp_path, archives, run, capsys
):
    (tmp_path / "in/b.h5").write_bytes(b"text")
    codes = [run("out", f"{index}/3") for index in (1, 2, 3)]
    assert codes.count(3) >= 1
    assert capsys.readouterr().err.count("b: failed: ") == 1
    assert run_merge(tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert "b: failed: could not be opened when the work was cut into shards" in said
    assert (tmp_path / "out/deep/b/summary.json").exists()


def test_a_shard_without_work_says_so(tmp_path, run, capsys):
    write_crops(tmp_path / "in/a.h5", draw_crops(10))
    assert [run("out", f"{index}/2") for index in (1, 2)] == [0, 0]
    assert "there are fewer blocks of rows than shards" in capsys.readouterr().err
    assert run_merge(tmp_path / "out") == 0


def test_a_merge_that_was_ended_before_it_cleared_up_is_finished(
    tmp_path, archives, run, monkeypatch
):
    for shard in ("1/2", "2/2"):
        run("out", shard)
    shutil.copytree(tmp_path / "out", tmp_path / "parts")
    run_merge(tmp_path / "out")
    before = results(tmp_path / "out")
    shutil.copytree(tmp_path / "parts", tmp_path / "out", dirs_exist_ok=True)
    assert run_merge(tmp_path / "out") == 3
    assert results(tmp_path / "out") == before


def test_a_full_disk_keeps_the_parts(tmp_path, archives, run, monkeypatch, capsys):
    for shard in ("1/2", "2/2"):
        run("out", shard)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device", "out")

    with monkeypatch.context() as patched:
        patched.setattr(finishing, "write_results", refuse)
        assert run_merge(tmp_path / "out") == 3
    assert "No space left on device" in capsys.readouterr().err
    assert run_merge(tmp_path / "out") == 3
    assert len(list((tmp_path / "out").rglob("summary.json"))) == 3


def test_results_that_another_run_finished_are_not_overwritten(tmp_path, archives, run, capsys):
    run("out", review_below=0.9)
    for path in (tmp_path / "out").rglob("summary.json"):
        path.rename(path.with_suffix(".aside"))
    for shard in ("1/2", "2/2"):
        run("out", shard)
    for path in (tmp_path / "out").rglob("summary.aside"):
        path.rename(path.with_suffix(".json"))
    assert run_merge(tmp_path / "out") == 3
    assert "holds the finished results of another run: --review-below differ" in (
        capsys.readouterr().err
    )


def test_merge_asks_for_nothing_but_the_folder(tmp_path, archives, run):
    for shard in ("1/2", "2/2"):
        run("out", shard)
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert run_merge(tmp_path / "moved") == 3
