import json

import h5py
import numpy as np
import pytest

from cytodino.taxonomy import CODES
from cytodino_batch import finishing
from cytodino_batch.lock import hold
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import plan_archives
from cytodino_batch.runner import classify_archives
from cytodino_batch.task import Task, work_file

from .conftest import PixelEngine, write_crops

FILES = ["predictions.csv", "predictions.h5", "quarantine.csv", "summary.json"]


@pytest.fixture
def run(tmp_path, make_session):
    """Classify archives below tmp_path with a session of fakes."""

    def classify(*paths, out="out", session=None, **options):
        asked = ClassifyOptions(
            archives=paths, bundle=tmp_path / "bundle", out=tmp_path / out, **options
        )
        tasks = [Task(planned) for planned in plan_archives(asked.archives, asked.out)]
        return classify_archives(tasks, session or make_session(), asked)

    return classify


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_an_archive_becomes_a_folder_of_four_files(tmp_path, run, crops):
    (outcome,) = run(write_crops(tmp_path / "slide.h5", crops))
    assert outcome.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out/slide").iterdir()) == FILES
    assert outcome.sentence().startswith("slide: 150 of 150 crops classified in ")


def test_the_summary_says_what_was_counted_checked_and_used(tmp_path, run, crops):
    run(write_crops(tmp_path / "slide.h5", crops, damaged=[7]), batch_size=4)
    summary = summary_of(tmp_path / "out/slide")
    assert summary["archive"]["rows"] == 150
    assert summary["archive"]["slide"] == "S-7"
    assert summary["counts"] == summary["counts"] | {
        "rows": 150,
        "classified": 149,
        "quarantined": 1,
    }
    differential = summary["differential"]
    apart = sum(entry["count"] for entry in differential["apart"])
    assert apart > 0
    assert differential["counted"] == 149 - apart
    assert differential["unclassified"] == 1
    for part in (differential["classes"], differential["lineages"]):
        assert sum(entry["count"] for entry in part) == 149 - apart
        assert sum(entry["percent"] for entry in part) == pytest.approx(100, abs=0.01)
    assert summary["parity"]["golden"]["cells"] == 32
    assert summary["parity"]["statement"].startswith("golden check within the limits on 32 cells")
    provenance = summary["provenance"]
    assert provenance["bundle_sha256"] == "b" * 64
    assert provenance["engine"]["provider"] == "CPUExecutionProvider"
    assert (provenance["batch_size"], provenance["batch_size_chosen"]) == (4, "user")
    assert set(provenance["files"]) == set(FILES[:3])
    assert summary["run"]["crops_per_second"] > 0


def test_counts_are_those_of_the_predictions(tmp_path, run, crops):
    run(write_crops(tmp_path / "slide.h5", crops))
    summary = summary_of(tmp_path / "out/slide")
    with h5py.File(tmp_path / "out/slide/predictions.h5") as file:
        counts = np.bincount(file["probabilities"][:].argmax(axis=1), minlength=21)
    differential = summary["differential"]
    told = {e["code"]: e["count"] for e in differential["classes"] + differential["apart"]}
    assert [told[code] for code in CODES] == counts.tolist()
    csv = (tmp_path / "out/slide/predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert summary["counts"]["review"] == sum(line.endswith(",1") for line in csv)
    assert summary["review"]["total"] == summary["counts"]["review"]
    assert summary["counts"]["critical"] == sum(line.split(",")[-2] == "1" for line in csv)


def test_everything_outside_the_section_run_is_the_same_again(tmp_path, run, crops):
    path = write_crops(tmp_path / "slide.h5", crops, damaged=[7])
    run(path, out="one")
    run(path, out="two")
    for name in FILES[:3]:
        assert (tmp_path / "one/slide" / name).read_bytes() == (
            tmp_path / "two/slide" / name
        ).read_bytes()
    one, two = summary_of(tmp_path / "one/slide"), summary_of(tmp_path / "two/slide")
    assert one.pop("run") != two.pop("run")
    assert one == two


def test_nothing_checked_is_said(tmp_path, run, make_session, crops):
    run(write_crops(tmp_path / "slide.h5", crops), session=make_session(golden=None), parity="off")
    parity = summary_of(tmp_path / "out/slide")["parity"]
    assert parity["golden"] is None
    assert parity["statement"].startswith("nothing was checked")


def test_quarantined_rows_end_with_exit_3(tmp_path, run, crops):
    (outcome,) = run(write_crops(tmp_path / "slide.h5", crops, damaged=[7, 9]))
    assert outcome.exit_code == 3
    assert "148 of 150 crops classified, 2 quarantined" in outcome.sentence()


def test_a_bad_archive_does_not_stop_the_next(tmp_path, run, crops):
    bad = tmp_path / "a.h5"
    bad.write_bytes(b"no HDF5 at all")
    whole = write_crops(tmp_path / "b.h5", crops)
    cut = tmp_path / "c.h5"
    cut.write_bytes(whole.read_bytes()[:2000])
    empty = tmp_path / "d.h5"
    h5py.File(empty, "w").close()
    outcomes = run(bad, whole, cut, empty)
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "failed", "failed"]
    assert [outcome.exit_code for outcome in outcomes] == [3, 0, 3, 3]
    assert "is not an HDF5 file" in outcomes[0].sentence()
    assert "truncated" in outcomes[2].reason
    assert "no crops" in outcomes[3].reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_a_full_disk_fails_the_archive_and_keeps_what_was_done(tmp_path, run, crops, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device", "out/slide")

    path = write_crops(tmp_path / "slide.h5", crops)
    with monkeypatch.context() as patched:
        patched.setattr(finishing, "write_results", refuse)
        (outcome,) = run(path)
    assert outcome.reason == (
        "No space left on device out/slide; what was done is kept, and the same command goes on"
    )
    assert [path.name for path in (tmp_path / "out/slide").iterdir()] == ["classify.journal"]
    (outcome,) = run(path)
    assert outcome.summary.run.resumed_rows == 150
    assert sorted(path.name for path in (tmp_path / "out/slide").iterdir()) == FILES


def test_what_nobody_foresaw_is_recorded_and_the_next_archive_begins(
    tmp_path, run, crops, monkeypatch
):
    build = finishing.build_summary
    monkeypatch.setattr(
        finishing,
        "build_summary",
        lambda archive, *a, **k: {}["odd"] if archive.name == "a" else build(archive, *a, **k),
    )
    paths = [write_crops(tmp_path / name, crops[:5]) for name in ("a.h5", "b.h5")]
    first, second = run(*paths)
    assert first.reason == "unexpected KeyError: 'odd'"
    assert second.status == "done"


def test_an_interrupt_says_how_to_go_on_and_keeps_what_was_done(
    tmp_path, run, make_session, crops, capsys
):
    paths = [write_crops(tmp_path / name, crops) for name in ("a.h5", "b.h5")]
    with pytest.raises(KeyboardInterrupt):
        run(*paths, session=make_session(PixelEngine(fail_from=65)))
    assert (
        "stopped in b; 1 of 2 archives were finished before it; the same command goes on from here"
    ) in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out/b").iterdir()] == ["classify.journal"]
    assert [outcome.status for outcome in run(*paths)] == ["done", "done"]


def test_a_run_with_restart_says_that_it_goes_on_without(
    tmp_path, run, make_session, crops, capsys
):
    path = write_crops(tmp_path / "a.h5", crops)
    with pytest.raises(KeyboardInterrupt):
        run(path, session=make_session(PixelEngine(fail_from=20)), restart=True)
    assert "the same command without --restart goes on from here" in capsys.readouterr().err
    (outcome,) = run(path)
    assert outcome.summary.run.resumed_rows > 0


def test_a_restart_stopped_in_the_first_archive_goes_on_with_the_others_too(
    tmp_path, run, make_session, crops
):
    paths = [write_crops(tmp_path / name, crops) for name in ("a.h5", "b.h5", "c.h5")]
    run(*paths, review_below=0.9)
    with hold(work_file(tmp_path / "out/c", "lock")), pytest.raises(KeyboardInterrupt):
        session = make_session(PixelEngine(fail_from=20))
        run(*paths, session=session, restart=True)
    assert not (tmp_path / "out/b").exists()
    a, b, c = run(*paths)
    assert a.summary.run.resumed_rows > 0
    assert b.status == "done"
    assert b.summary.run.resumed_rows == 0
    assert "--review-below differ" in c.reason  # another run was at work on it


def test_a_restart_leaves_what_another_run_is_at_work_on(tmp_path, run, crops):
    paths = [write_crops(tmp_path / name, crops[:5]) for name in ("a.h5", "b.h5")]
    run(*paths)
    with hold(work_file(tmp_path / "out/a", "lock")):
        before = (tmp_path / "out/a/summary.json").read_bytes()
        first, second = run(*paths, restart=True)
    assert "another run is at work here" in first.reason
    assert (tmp_path / "out/a/summary.json").read_bytes() == before
    assert second.status == "done"


def test_live_parity_is_measured_on_the_archive_and_recorded(tmp_path, run, make_session, crops):
    session = make_session(reference=PixelEngine(), reference_sha256="c" * 64)
    (outcome,) = run(
        write_crops(tmp_path / "slide.h5", crops),
        session=session,
        parity="live",
        parity_sample=20,
        reference=tmp_path,
    )
    assert outcome.exit_code == 0
    summary = summary_of(tmp_path / "out/slide")
    assert summary["parity"]["live"]["cells"] == 20
    assert "; live check within the limits on 20 cells" in summary["parity"]["statement"]
    assert summary["provenance"]["parity_sample"] == 20
    assert summary["provenance"]["reference_sha256"] == "c" * 64


def test_an_engine_that_strays_on_an_archive_gets_nothing_written(
    tmp_path, run, make_session, crops
):
    engine = PixelEngine(shift=1.0)
    (outcome,) = run(
        write_crops(tmp_path / "slide.h5", crops),
        session=make_session(engine, reference=PixelEngine()),
        parity="live",
        parity_sample=20,
    )
    assert sum(batch[0] for batch in engine.batches) == 20  # not one crop beyond the sample
    assert (outcome.status, outcome.exit_code) == ("refused", 4)
    assert not (tmp_path / "out").exists()


def test_an_archive_of_damaged_rows_alone_still_has_its_results(tmp_path, run, crops):
    (outcome,) = run(write_crops(tmp_path / "slide.h5", crops[:3], damaged=[0, 1, 2]))
    assert outcome.exit_code == 3
    differential = summary_of(tmp_path / "out/slide")["differential"]
    assert (differential["counted"], differential["unclassified"]) == (0, 3)
    assert {entry["percent"] for entry in differential["classes"]} == {None}
    quarantine = (tmp_path / "out/slide/quarantine.csv").read_text(encoding="utf-8")
    assert quarantine.count("\n") == 4
