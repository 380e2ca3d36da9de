from pathlib import Path

from pydantic import BaseModel

from cytodino.paths import PrintableText, printable


class Named(BaseModel):
    name: PrintableText


def test_a_name_that_can_be_held_stays_as_it_is() -> None:
    assert printable(Path("Zellen ä/ß\n=1.h5")) == "Zellen ä/ß\n=1.h5"


def test_what_no_file_can_hold_is_escaped() -> None:
    assert printable("a\0\udcff") == r"a\x00\udcff"
    assert Named(name=Path("\udcff.h5")).model_dump_json() == r'{"name":"\\udcff.h5"}'
