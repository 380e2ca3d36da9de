"""Make the files that peers run: a plain export, and what each library's quantiser makes of it.

    python -m cytodino_bench.peer_preparation PREPARATION RUN FOLDER CALIBRATION.npy

In a process of its own for each: quantisers take gigabytes, and some crash.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.openvino_library import import_openvino, openvino_core
from cytodino.errors import InputError
from cytodino.paths import whole_folder

__all__ = ["model_file", "prepare"]

Crops = NDArray[np.uint8]


def model_file(folder: Path, preparation: str) -> Path:
    """Name the file that a preparation leaves in a folder."""
    ending = "xml" if preparation == "nncf" else "onnx"
    return folder / preparation.replace(" ", "-") / f"model.{ending}"


def prepare(preparation: str, run: Path, folder: Path, crops: Crops) -> None:
    """Make one of the files, from the run or from the plain export.

    Parameters
    ----------
    preparation : str
        One of `Preparation`.
    run : Path
    folder : Path
        Holds a folder for each preparation.
    crops : uint8, (n, h, w, 3)
        To calibrate on.

    Raises
    ------
    InputError
        If there is no such preparation.
    """
    if preparation not in _MAKERS:
        raise InputError(f"there is no preparation {preparation}", mend="use one of them")
    target = model_file(folder, preparation)
    source = run if preparation == "plain" else model_file(folder, "plain")
    with whole_folder(target.parent) as beside:  # killed midway, nothing is there to be trusted
        _MAKERS[preparation](source, beside / target.name, crops)


def _export_plain(run: Path, target: Path, crops: Crops) -> None:
    from cytodino.modeling.loading import load_run
    from cytodino_export.onnx_graph import write_graph

    model = load_run(run)
    write_graph(model, target, image_size=model.preprocess.image_size, metadata={})
    backbone: Any = model.backbone
    backbone.config.save_pretrained(target.parent)  # optimum asks for one beside the model


def _quantise_dynamic(source: Path, target: Path, crops: Crops) -> None:
    from onnxruntime import quantization

    quantization.quantize_dynamic(
        source, target, per_channel=True, weight_type=quantization.QuantType.QInt8
    )


def _quantise_static(source: Path, target: Path, crops: Crops) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inferred = target.with_name("inferred.onnx")
    quant_pre_process(source, inferred)
    quantization.quantize_static(
        inferred,
        target,
        _reader(crops),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        nodes_to_exclude=_resizes(inferred),
    )


def _quantise_by_optimum(source: Path, target: Path, crops: Crops, *, is_static: bool) -> None:
    from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

    quantizer = ORTQuantizer.from_pretrained(source.parent, file_name=source.name)
    config = AutoQuantizationConfig.avx512_vnni(
        is_static=is_static, per_channel=True, nodes_to_exclude=_resizes(source)
    )
    ranges = _calibrate_by_optimum(quantizer, config, target, crops) if is_static else None
    quantizer.quantize(
        save_dir=target.parent,
        quantization_config=config,
        file_suffix=None,
        calibration_tensors_range=ranges,
    )


def _calibrate_by_optimum(quantizer: Any, config: Any, target: Path, crops: Crops) -> Any:
    from onnxruntime.quantization import CalibrationMethod
    from optimum.onnxruntime.configuration import CalibrationConfig

    calibration = CalibrationConfig(
        dataset_name="crops",
        dataset_config_name="",
        dataset_split="",
        dataset_num_samples=len(crops),
        method=CalibrationMethod.MinMax,
    )
    return quantizer.fit(
        # It makes a batch of one by a list around each value, which onnxruntime takes as lists.
        dataset=[{"crops": crop.tolist()} for crop in crops],
        calibration_config=calibration,
        onnx_augmented_model_name=target.with_name("augmented.onnx"),
        operators_to_quantize=config.operators_to_quantize,
    )


def _quantise_by_nncf(source: Path, target: Path, crops: Crops) -> None:
    openvino = import_openvino()  # first, or its telemetry comes with nncf
    import nncf

    model = openvino_core().read_model(source)
    quantised = nncf.quantize(
        model,
        nncf.Dataset([crop[None] for crop in crops]),
        subset_size=len(crops),
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(types=["Interpolate"], validate=False),
    )
    openvino.save_model(quantised, target)


_MAKERS: dict[str, Any] = {
    "plain": _export_plain,
    "onnxruntime dynamic": _quantise_dynamic,
    "onnxruntime static": _quantise_static,
    "optimum dynamic": lambda *given: _quantise_by_optimum(*given, is_static=False),
    "optimum static": lambda *given: _quantise_by_optimum(*given, is_static=True),
    "nncf": _quantise_by_nncf,
}


def _resizes(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return [node.name for node in graph.node if node.op_type == "Resize"]


def _reader(crops: Crops) -> Any:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.waiting: Iterator[Crops] = iter(crops)

        def get_next(self) -> dict[str, Crops] | None:
            crop = next(self.waiting, None)
            return None if crop is None else {"crops": crop[None]}

    return Reader()


def main(arguments: list[str]) -> int:
    """Make what the arguments name."""
    preparation, run, folder, crops = arguments
    prepare(preparation, Path(run), Path(folder), np.load(crops, allow_pickle=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
