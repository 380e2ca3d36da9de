"""The peers: what people would use instead, each as its own documentation says it is used.

One plain graph for all of them: the merged classifier as transformers and PyTorch have it, without
a single fold, exported by `torch.onnx.export(dynamo=True)` with preprocessing inside. Outside, they
would resize and normalise in Python, which costs more; so being inside is to their advantage. The
resize is kept out of what their quantisers quantise, as it would be if it stood outside.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["PEERS", "Peer", "Preparation"]

Preparation = Literal[
    "plain",
    "optimum dynamic",
    "optimum static",
    "onnxruntime dynamic",
    "onnxruntime static",
    "nncf",
]
"""Files that are made once, each in a process of its own; all the others start from `plain`."""


@dataclass(frozen=True)
class Peer:
    """One way to run the weights."""

    name: str
    library: Literal["pytorch", "optimum", "onnxruntime", "openvino", "cytodino"]
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    """Whose limits its answers are held against."""
    needs: Preparation | None = None
    compiled: bool = False
    """`torch.compile`, for pytorch."""
    adapted: bool = False
    """The adapter beside the weights, as training leaves them, for pytorch; else merged."""
    throughput: bool = False
    """OpenVINO's THROUGHPUT hint, with an AsyncInferQueue of as many requests as it advises."""
    one_a_request: bool = False
    """One crop a request instead of a batch."""
    static: bool = False
    """The crops of a request are fixed before openvino compiles: it has one kernel for one shape,
    and who knows the number can say it. The other peers leave it open, as the file does."""


PEERS = (
    Peer("PyTorch eager fp32", "pytorch", "fp32"),
    Peer("PyTorch eager fp32 as trained", "pytorch", "fp32", adapted=True),
    Peer("PyTorch eager bf16", "pytorch", "bf16"),
    Peer("PyTorch compiled fp32", "pytorch", "fp32", compiled=True),
    Peer("PyTorch compiled bf16", "pytorch", "bf16", compiled=True),
    Peer("onnxruntime fp32", "onnxruntime", "fp32", "plain"),
    Peer("onnxruntime dynamic INT8", "onnxruntime", "int8", "onnxruntime dynamic"),
    Peer("onnxruntime static INT8", "onnxruntime", "int8", "onnxruntime static"),
    Peer("optimum fp32", "optimum", "fp32", "plain"),
    Peer("optimum dynamic INT8", "optimum", "int8", "optimum dynamic"),
    Peer("optimum static INT8", "optimum", "int8", "optimum static"),
    # Left alone it computes in bf16 where the CPU has it.
    Peer("OpenVINO", "openvino", "bf16", "plain"),
    Peer("OpenVINO THROUGHPUT", "openvino", "bf16", "plain", throughput=True),
    Peer("OpenVINO THROUGHPUT, static", "openvino", "bf16", "plain", throughput=True, static=True),
    Peer("OpenVINO NNCF", "openvino", "int8", "nncf"),
    Peer("OpenVINO NNCF THROUGHPUT", "openvino", "int8", "nncf", throughput=True),
    Peer(
        "OpenVINO NNCF THROUGHPUT, batch 1",
        "openvino",
        "int8",
        "nncf",
        throughput=True,
        one_a_request=True,
    ),
    Peer(
        "OpenVINO NNCF THROUGHPUT, static",
        "openvino",
        "int8",
        "nncf",
        throughput=True,
        static=True,
    ),
)
"""The first is what all the others are measured by."""
