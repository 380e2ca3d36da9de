"""What every part of `summary.json` is: fixed once it is made, and of known fields only."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of `summary.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
