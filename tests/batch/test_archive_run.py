"""What an archive's run makes of what earlier runs left."""

import dataclasses
import json
import os
import signal

import pytest

from cytodino.paths import hash_file
from cytodino_batch import archive_run
from cytodino_batch.batch_size import BatchChoice
from cytodino_batch.digest import FileDigest
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.plan import plan_archives
from cytodino_batch.runner import classify_archives
from cytodino_batch.task import Task

from .conftest import PixelEngine, draw_crops, write_crops


class Upgraded(PixelEngine):
    def describe(self):
        return super().describe().model_copy(update={"version": "2.0"})


class Threaded(PixelEngine):
    def describe(self):
        return super().describe().model_copy(update={"options": {"threads": 2}})


@pytest.fixture
def archive(tmp_path):
    return write_crops(tmp_path / "s.h5", draw_crops(300), damaged=[7])


@pytest.fixture
def run(tmp_path, make_session, archive):
    """Classify the archive; with `calls`, the engine is interrupted after so many."""

    def classify(*, out="out", calls=None, engine=None, session=None, given=archive, **options):
        engine = engine or PixelEngine(fail_from=calls)
        asked = ClassifyOptions(
            archives=(given,), bundle=tmp_path / "bundle", out=tmp_path / out, **options
        )
        (planned,) = plan_archives(asked.archives, asked.out)
        opened = make_session(engine, batch_size=options.get("batch_size") or 4)
        opened = dataclasses.replace(opened, **(session or {}))
        return classify_archives([Task(planned)], opened, asked)[0]

    return classify


@pytest.fixture
def stopped(run):
    """A run that was stopped with two of its five blocks done."""
    with pytest.raises(KeyboardInterrupt):
        run(calls=40)


def summary_of(tmp_path, out="out"):
    summary = json.loads((tmp_path / out / "s/summary.json").read_text(encoding="utf-8"))
    return summary, summary.pop("run")


def test_a_run_goes_on_where_it_was(tmp_path, run, stopped, capsys):
    engine = PixelEngine()
    run(engine=engine)
    assert "s: going on at row 128, batches of 4\n" in capsys.readouterr().err
    assert sum(batch[0] for batch in engine.batches) == 300 - 128
    run(out="whole")
    (summary, facts), (whole, _) = summary_of(tmp_path), summary_of(tmp_path, "whole")
    assert summary == whole
    assert facts["resumed_rows"] == 128
    for name in ("predictions.csv", "predictions.h5", "quarantine.csv"):
        assert (tmp_path / "out/s" / name).read_bytes() == (
            tmp_path / "whole/s" / name
        ).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine": Upgraded()}, "the engine's version"),
        ({"engine": Threaded()}, "the engine's options"),
        ({"batch_size": 5}, "the batch size"),
    ],
)
def test_changed_conditions_start_again_and_say_so(run, stopped, capsys, change, says):
    outcome = run(**change)
    assert f"s: starting again, for {says} changed\n" in capsys.readouterr().err
    assert outcome.summary.run.resumed_rows == 0


def test_a_changed_bundle_and_a_changed_archive_start_again(
    tmp_path, run, stopped, make_session, capsys
):
    bundle = make_session().bundle
    bundle.sha256 = "f" * 64
    write_crops(tmp_path / "s.h5", draw_crops(299))
    run(session={"bundle": bundle})
    assert "starting again, for the archive, the bundle and the rows changed" in (
        capsys.readouterr().err
    )


def test_what_is_applied_at_the_end_may_change(tmp_path, run, stopped, capsys):
    run(review_below=0.9)
    run(out="whole", review_below=0.9)
    assert "going on" in capsys.readouterr().err
    assert summary_of(tmp_path)[0] == summary_of(tmp_path, "whole")[0]


def test_an_automatic_batch_size_gives_way_to_the_one_recorded(tmp_path, run, stopped, capsys):
    run(session={"batch": BatchChoice(16)})
    assert "going on at row 128, batches of 4" in capsys.readouterr().err
    assert summary_of(tmp_path)[0]["provenance"]["batch_size"] == 4
    assert run(session={"batch": BatchChoice(32)}).reason.startswith("finished before")


def test_restart_forgets_the_journal(run, stopped, capsys):
    assert run(restart=True).summary.run.resumed_rows == 0
    assert "going on" not in capsys.readouterr().err


def test_a_damaged_journal_is_done_again_from_the_damage_on(tmp_path, run, stopped, capsys):
    journal = tmp_path / "out/s/classify.journal"
    data = bytearray(journal.read_bytes())
    data[-3] ^= 1
    journal.write_bytes(data)
    run()
    said = capsys.readouterr().err
    assert "s: going on at row 64, batches of 4; " in said
    assert "damaged bytes are dropped" in said


def test_a_journal_that_is_none_is_begun_again(tmp_path, run, capsys):
    (tmp_path / "out/s").mkdir(parents=True)
    (tmp_path / "out/s/classify.journal").write_bytes(b"text")
    assert run().status == "done"
    assert "s: the journal is unreadable; starting again" in capsys.readouterr().err


def test_a_summary_of_another_version_is_not_overwritten(tmp_path, run):
    (tmp_path / "out/s").mkdir(parents=True)
    (tmp_path / "out/s/summary.json").write_text("{}", encoding="utf-8")
    outcome = run()
    assert outcome.status == "failed"
    assert "of another run: the version of cytodino differs; give --restart" in outcome.reason
    assert run(restart=True).status == "done"


def test_finished_results_that_are_no_longer_whole_are_not_called_finished(tmp_path, run):
    run()
    (tmp_path / "out/s/predictions.csv").unlink()
    with (tmp_path / "out/s/quarantine.csv").open("a", encoding="utf-8") as file:
        file.write("299,,lost\n")
    outcome = run()
    assert outcome.exit_code == 3
    assert outcome.reason.endswith(
        "no longer whole: predictions.csv is gone and quarantine.csv was changed; "
        "give --restart to do it again, or choose another --out"
    )
    assert run(restart=True).tally.classified == 299
    assert run().reason.startswith("finished before")


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path, run, stopped):
    (tmp_path / "out/s/.predictions.csv.1234.partial").touch()
    run()
    assert len(list((tmp_path / "out/s").iterdir())) == 4


def test_live_parity_asks_pytorch_once_and_judges_all_rows(tmp_path, run):
    live = {"parity": "live", "parity_sample": 50}
    with pytest.raises(KeyboardInterrupt):
        run(calls=50, session={"reference": PixelEngine()}, **live)
    reference = PixelEngine()
    run(session={"reference": reference}, **live)
    assert reference.batches == []
    run(out="whole", session={"reference": PixelEngine()}, **live)
    assert summary_of(tmp_path)[0] == summary_of(tmp_path, "whole")[0]


def test_a_sample_of_another_size_is_drawn_again(tmp_path, run):
    with pytest.raises(KeyboardInterrupt):
        run(calls=50, session={"reference": PixelEngine()}, parity="live", parity_sample=10)
    run(session={"reference": PixelEngine()}, parity="live", parity_sample=50)
    assert summary_of(tmp_path)[0]["parity"]["live"]["cells"] == 50


def test_live_parity_may_be_asked_of_a_run_that_began_without(tmp_path, run, stopped):
    run(session={"reference": PixelEngine()}, parity="live", parity_sample=50)
    assert summary_of(tmp_path)[0]["parity"]["live"]["cells"] in (49, 50)


def test_an_engine_that_strays_only_at_the_end_keeps_its_journal_and_writes_nothing(
    tmp_path, run, monkeypatch
):
    monkeypatch.setattr(archive_run, "require_agreement", lambda *_, **__: None)
    outcome = run(
        engine=PixelEngine(shift=1.0), session={"reference": PixelEngine()}, parity="live"
    )
    assert outcome.status == "refused"
    assert [path.name for path in (tmp_path / "out/s").iterdir()] == ["classify.journal"]


class Later(FileDigest):
    """Has the hash only when it is waited for."""

    ready = False


class Overwriting(PixelEngine):
    """Writes another file over the archive at its tenth call, as `cp` does."""

    def __init__(self, archive, data):
        super().__init__()
        self._archive, self._data = archive, data

    def _infer(self, crops):
        if len(self.batches) == 10:
            with self._archive.open("r+b") as file:
                file.write(self._data)
        return super()._infer(crops)


@pytest.mark.parametrize("at_once", [0, 1 << 30], ids=["hashed beside", "hashed before"])
def test_an_archive_that_changes_during_the_run_has_no_results(
    tmp_path, run, archive, monkeypatch, at_once
):
    monkeypatch.setattr("cytodino_batch.digest.AT_ONCE_BYTES", at_once)
    other = write_crops(tmp_path / "other.h5", draw_crops(300, seed=3)).read_bytes()
    outcome = run(engine=Overwriting(archive, other))
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert "s.h5: was changed while it was read; see that nothing writes to it" in outcome.reason
    assert not (tmp_path / "out/s/summary.json").exists()
    assert run().status == "done"
    run(out="whole")
    assert summary_of(tmp_path)[0] == summary_of(tmp_path, "whole")[0]


def test_an_archive_that_is_replaced_before_it_is_hashed_has_no_results(
    tmp_path, run, archive, monkeypatch
):
    def replace_first(path, *given):
        write_crops(tmp_path / "new.h5", draw_crops(5)).replace(path)
        return FileDigest(path, *given)

    monkeypatch.setattr(archive_run, "FileDigest", replace_first)
    outcome = run()
    assert (outcome.status, "was changed while" in outcome.reason) == ("failed", True)


def test_a_hash_that_comes_last_is_in_the_results(tmp_path, run, archive, monkeypatch):
    monkeypatch.setattr(archive_run, "FileDigest", Later)
    run()
    assert summary_of(tmp_path)[0]["archive"]["sha256"] == hash_file(archive)
    assert run().reason.startswith("finished before")


@pytest.fixture
def stopped_early(run, monkeypatch):
    """A run that was stopped before the archive's hash was known."""
    with monkeypatch.context() as patched:
        patched.setattr(archive_run, "FileDigest", Later)
        with pytest.raises(KeyboardInterrupt):
            run(calls=40)


def test_a_run_stopped_before_the_hash_was_known_goes_on(
    tmp_path, run, archive, stopped_early, capsys
):
    outcome = run()
    assert "s: going on at row" in capsys.readouterr().err
    assert outcome.summary.run.resumed_rows > 0
    assert summary_of(tmp_path)[0]["archive"]["sha256"] == hash_file(archive)


def test_it_starts_again_where_the_file_is_not_the_same(run, archive, stopped_early, capsys):
    os.utime(archive, (1, 1))
    outcome = run()
    assert "s: starting again, for the archive changed" in capsys.readouterr().err
    assert outcome.summary.run.resumed_rows == 0


def test_a_signal_after_the_last_block_is_heeded_and_nothing_is_lost(run, archive, monkeypatch):
    """The hash comes last here, and somebody asks to stop while it is waited for."""

    class Asked(FileDigest):
        ready = False

        def result(self):
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the signal was put off")

    with monkeypatch.context() as patched:
        patched.setattr(archive_run, "FileDigest", Asked)
        with pytest.raises(KeyboardInterrupt):
            run()
    outcome = run()
    counts = outcome.summary.counts
    assert outcome.summary.run.resumed_rows == counts.classified + counts.quarantined


@pytest.mark.parametrize("hashed", [True, False])
def test_unfinished_work_on_another_archive_of_the_name_is_not_thrown_away(
    tmp_path, run, archive, monkeypatch, hashed
):
    with monkeypatch.context() as patched:
        if not hashed:
            patched.setattr(archive_run, "FileDigest", Later)
        with pytest.raises(KeyboardInterrupt):
            run(calls=40)
    journal = tmp_path / "out/s/classify.journal"
    kept = journal.read_bytes()
    (tmp_path / "other").mkdir()
    other = write_crops(tmp_path / "other/s.h5", draw_crops(5))

    outcome = run(given=other)
    assert f"holds unfinished work on another archive, {archive}; finish" in outcome.reason
    assert journal.read_bytes() == kept

    archive.rename(tmp_path / "elsewhere.h5")
    assert run(given=other).summary.run.resumed_rows == 0
