import hashlib
from datetime import UTC, datetime

import pytest

from cytodino.bundle import open_bundle
from cytodino.engines.tuned import Choice, Configuration, record_choice
from cytodino.errors import BundleError, EngineError, InputError, ParityError
from cytodino.machine import describe_machine
from cytodino_batch import session as session_module
from cytodino_batch.batch_size import CANDIDATES, BatchChoice, fixed_batch_size
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.session import open_session
from cytodino_batch.shards import Shard

from .conftest import PixelEngine
from .tiny_bundle import reference_logits, write_bundle

EMPTY_SHA256 = hashlib.sha256(b"{}").hexdigest()


class Numpy(PixelEngine):
    """Stands for PyTorch: what the graph computes, in numpy."""

    name = "pytorch"

    def _infer(self, crops):
        return reference_logits(list(crops)) + self._shift


@pytest.fixture
def options(tmp_path):
    def build(**changes):
        bundle = changes.pop("bundle", None) or write_bundle(tmp_path / "bundle")
        return ClassifyOptions(archives=(), bundle=bundle, out=tmp_path / "out", **changes)

    return build


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_bytes(b"{}")
    return tmp_path / "run"


@pytest.fixture
def pytorch(monkeypatch):
    """Open `reference` where PyTorch is asked for, and the real engine otherwise."""
    opened = []
    real = session_module.open_engine

    def use(reference):
        def open_engine(bundle, *, engine="auto", **rest):
            if engine == "pytorch":
                opened.append(rest)
                return reference
            return real(bundle, engine=engine, **rest)

        monkeypatch.setattr(session_module, "open_engine", open_engine)
        return opened

    return use


def test_the_engine_is_held_against_32_golden_cells(options):
    with open_session(options()) as session:
        assert session.engine.describe().provider == "CPUExecutionProvider"
        assert session.batch_size in CANDIDATES["cpu"]
        assert session.batch_size in dict(session.batch.rates)
        assert session.golden is not None
        assert session.golden.cells == 32
        assert session.golden.verdict == "unproven"
        assert session.statement.startswith("golden check within the limits on 32 cells: 0 flips")
        assert session.reference is None


def test_an_engine_that_strays_is_refused_before_the_first_crop(options, tmp_path):
    bundle = write_bundle(tmp_path / "drifted", drift=0.5)
    with (
        pytest.raises(ParityError, match="onnxruntime fp32 on cpu strays") as caught,
        open_session(options(bundle=bundle)),
    ):
        pass
    assert caught.value.exit_code == 4
    assert "cytodino-export verify" in str(caught.value)


def test_without_parity_nothing_is_checked_and_that_is_said(options, tmp_path):
    bundle = write_bundle(tmp_path / "drifted", drift=0.5)
    with open_session(options(bundle=bundle, parity="off")) as session:
        assert session.golden is None
        assert "nothing was checked" in session.statement


@pytest.mark.parametrize("verdict", ["failed", "unproven"])
@pytest.mark.parametrize("variant", ["auto", "fp32"])
def test_only_what_passed_is_taken(options, tmp_path, verdict, variant):
    bundle = write_bundle(tmp_path / "unfit", verdict=verdict)
    with (
        pytest.raises(ParityError, match="passed on any engine here"),
        open_session(options(bundle=bundle, variant=variant, device="cpu", parity="off")),
    ):
        pass


def test_a_changed_bundle_is_refused(options, tmp_path):
    bundle = write_bundle(tmp_path / "changed")
    model = bundle / "model.fp32.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match="changed"), open_session(options(bundle=bundle)):
        pass


def test_live_parity_opens_the_reference_and_checks_that_it_fits_the_bundle(
    options, pytorch, run, tmp_path
):
    opened = pytorch(Numpy())
    bundle = write_bundle(tmp_path / "named", run=EMPTY_SHA256)
    asked = options(bundle=bundle, parity="live", reference=run, device="cpu")
    with open_session(asked) as session:
        assert session.reference is not None
        assert session.reference_sha256 == EMPTY_SHA256
    assert opened == [{"device": "cpu", "reference": run}]


def test_weights_that_the_bundle_was_not_made_from_are_refused(options, pytorch, run):
    reference = Numpy()
    reference.logits = lambda crops: -reference_logits(list(crops))
    pytorch(reference)
    with (
        pytest.raises(ParityError, match=r"pytorch fp32.*give the run that the bundle was"),
        open_session(options(parity="live", reference=run)),
    ):
        pass


def test_a_run_of_another_name_than_the_bundle_gives_is_refused(options, run, tmp_path):
    bundle = write_bundle(tmp_path / "other", run="0" * 64)
    with (
        pytest.raises(InputError, match="is not the run that the bundle was exported from"),
        open_session(options(bundle=bundle, parity="off", engine="pytorch", reference=run)),
    ):
        pass


def test_a_reference_that_is_no_run_is_refused(options, tmp_path):
    with (
        pytest.raises(InputError, match=r"holds no run\.json"),
        open_session(options(parity="live", reference=tmp_path)),
    ):
        pass


def test_live_parity_without_a_run_is_refused(options):
    with (
        pytest.raises(EngineError, match="give --reference RUN"),
        open_session(options(parity="live")),
    ):
        pass


def test_shards_take_a_batch_size_that_no_clock_decides(options):
    with open_session(options(shard=Shard(index=1, of=2))) as session:
        assert session.batch == BatchChoice(8)


def test_a_batch_size_that_was_given_is_kept(options):
    with open_session(options(batch_size=3)) as session:
        assert session.batch_size == 3


@pytest.fixture
def tuned(options, tmp_path, monkeypatch):
    """Record a choice for the options' bundle, on a machine that differs by `changes`."""
    for module in ("cytodino.engines.tuned", "cytodino.bundle.verdicts"):
        monkeypatch.setattr(f"{module}.cache_folder", lambda: tmp_path / "cache")

    def record(asked, **changes):
        bundle = open_bundle(asked.bundle)
        choice = Choice(
            bundle_sha256=bundle.sha256,
            machine=describe_machine().model_copy(update=changes),
            configuration=Configuration(engine="onnxruntime", variant="fp32", threads=1),
            batch_size=5,
            goal="throughput",
            images_per_second=98.0,
            p50_ms=50.0,
            golden_cells=40,
            created=datetime(2025, 3, 4, tzinfo=UTC),
        )
        record_choice(bundle, choice)
        return choice

    return record


def test_what_was_tuned_is_used_and_said(options, tuned, capsys):
    asked = options()
    choice = tuned(asked)
    with open_session(asked) as session:
        assert session.engine.describe().options["threads"] == 1
        assert session.batch == BatchChoice(5)
        assert session.tuned == choice
    assert choice.sentence() in capsys.readouterr().err


@pytest.mark.parametrize(
    "asked_for", [{"engine": "onnxruntime"}, {"variant": "fp32"}], ids=["engine", "variant"]
)
def test_what_is_asked_for_stands_above_what_was_tuned(options, tuned, capsys, asked_for):
    asked = options(**asked_for)
    tuned(asked)
    with open_session(asked) as session:
        assert session.tuned is None
    assert "tuned" not in capsys.readouterr().err


def test_a_batch_size_that_was_asked_for_stands_above_the_tuned_one(options, tuned):
    asked = options(batch_size=3)
    tuned(asked)
    with open_session(asked) as session:
        assert session.batch == BatchChoice(3)
        assert session.tuned is not None


def test_shards_keep_the_batch_size_that_all_agree_on(options, tuned):
    asked = options(shard=Shard(index=1, of=2))
    tuned(asked)
    with open_session(asked) as session:
        assert session.batch.size == fixed_batch_size("cpu")


def test_a_choice_of_another_machine_is_said_to_be_stale_and_ignored(options, tuned, capsys):
    asked = options()
    tuned(asked, cores=999)
    with open_session(asked) as session:
        assert session.tuned is None
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "stale" in line]
    assert "cores 999 is now" in line


def test_a_choice_that_does_not_open_is_said_and_another_is_taken(
    options, tuned, capsys, monkeypatch
):
    asked = options()
    tuned(asked)

    def refuse(*_, **__):
        raise EngineError("out of memory")

    monkeypatch.setattr("cytodino.engines.tuned.open_configuration", refuse)
    with open_session(asked) as session:
        assert session.tuned is None
        assert session.engine.name == "onnxruntime"
    assert "out of memory" in capsys.readouterr().err
