"""One interface, several engines: ONNX Runtime, and PyTorch as the reference."""

from cytodino.engines.base import Engine, EngineDescription
from cytodino.engines.selection import open_engine

__all__ = ["Engine", "EngineDescription", "open_engine"]
