"""Keep libraries from talking over the program's own progress and messages."""

import importlib
import logging
import warnings
from typing import Any


def quiet_libraries() -> None:
    """Silence the Hub's, transformers', PEFT's and accelerate's bars, notices and warnings.

    What matters of them is checked and said by this package in its own words: weights that were
    not placed, adapters that did not match, devices that are not there.
    """
    # Through Any: what these modules declare to a type checker differs between their versions.
    notices: Any = importlib.import_module("transformers.utils.logging")
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    hub: Any = importlib.import_module("huggingface_hub.utils")
    hub.disable_progress_bars()
    for name in ("huggingface_hub", "accelerate", "peft", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("transformers", "peft", "accelerate", "huggingface_hub", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
