import pytest

from cytodino.limits import LIMITS, change_limits


def test_a_limit_is_changed_and_all_others_stay() -> None:
    changed = change_limits(["int8.margin=0.15", "int8.agreement=none", "fp16.min_cells = 50"])
    assert changed["int8"].model_dump() == LIMITS["int8"].model_dump() | {
        "margin": 0.15,
        "agreement": None,
    }
    assert changed["fp16"].min_cells == 50
    assert {name: changed[name] for name in ("fp32", "bf16", "int8-bf16")} == {
        name: LIMITS[name] for name in ("fp32", "bf16", "int8-bf16")
    }
    assert LIMITS["int8"].margin == 0.10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fp4.margin=1", "none of the variants"),
        ("int8.colour=1", "none of the limits"),
        ("int8=1", "none of the limits"),
        ("int8.margin", "number"),
        ("int8.margin=none", "number"),
        ("int8.margin=nan", "from 0 up"),
        ("int8.margin=inf", "from 0 up"),
        ("int8.margin=-1", "from 0 up"),
        ("int8.min_cells=2.5", "integer"),
    ],
)
def test_what_is_no_limit_is_refused_with_the_change_itself(change: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        change_limits([change])
    assert repr(change) in str(caught.value)
