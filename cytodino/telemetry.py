"""Libraries that report their use to their makers are told not to: a laboratory's box is silent.

onnxruntime does so on Linux from 1.29 on (microsoft/onnxruntime#27379): it keeps an identifier of
the machine below `~/.cache/Microsoft` and sends names and hashes of models. openvino's reports are
hidden from it where it is imported, see `cytodino.engines.openvino_library`.
"""

import os

__all__ = ["OPT_OUTS", "refuse_telemetry"]

OPT_OUTS = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime; read once, before its first session
    "ORT_TELEMETRY_DISABLED": "1",  # its name in microsoft/onnxruntime#29843
    "NNCF_CI": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers, peft and accelerate ask it
}
"""Environment variable by variable, what each library takes for a no."""


def refuse_telemetry() -> None:
    """Say no for this process and its children; who has set a variable keeps what it says."""
    for name, value in OPT_OUTS.items():
        os.environ.setdefault(name, value)
