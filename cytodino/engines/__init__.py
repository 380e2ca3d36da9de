"""One interface, three engines: ONNX Runtime, OpenVINO, and PyTorch as the reference."""

from cytodino.engines.base import Engine, EngineDescription
from cytodino.engines.selection import open_engine

__all__ = ["Engine", "EngineDescription", "open_engine"]
