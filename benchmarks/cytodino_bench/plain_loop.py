"""An archive classified as a lab would write it: slices of h5py, Pillow, PyTorch, a CSV.

    python -m cytodino_bench.plain_loop RUN ARCHIVE OUT.csv COUNT

Prints the crops a second from the end of the first batch on, as a number.
"""

import csv
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytodino.taxonomy import CODES

BATCH_SIZE = 8


def read_crops(path: Path, count: int) -> Iterator[list[Image.Image]]:
    """Yield batches of pictures from an archive of pixels or of files' bytes."""
    with h5py.File(path, "r") as file:
        if "crops" in file:
            crops = file["crops"]
            end = min(count, len(crops))
            for start in range(0, end, BATCH_SIZE):
                stop = min(start + BATCH_SIZE, end)
                yield [Image.fromarray(crop) for crop in crops[start:stop]]
            return
        content, offsets = file["bytes"], file["offsets"][:]
        rows = range(min(count, len(offsets) - 1))
        for start in range(0, len(rows), BATCH_SIZE):
            parts = (content[offsets[r] : offsets[r + 1]] for r in rows[start : start + BATCH_SIZE])
            yield [Image.open(io.BytesIO(part.tobytes())).convert("RGB") for part in parts]


def to_pixels(
    pictures: list[Image.Image], size: int, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Resize and normalise pictures to float32 (n, 3, size, size)."""
    resized = [one.resize((size, size), Image.Resampling.BILINEAR) for one in pictures]
    pixels = np.stack([np.asarray(one, dtype=np.float32) for one in resized]) / 255
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


def main(arguments: list[str]) -> int:
    """Classify the first crops of an archive."""
    import torch

    from cytodino.machine import cores_available
    from cytodino.modeling.loading import load_run

    run, archive, out, count = arguments
    torch.set_num_threads(cores_available())
    model = load_run(Path(run))
    preprocess = model.preprocess
    mean, std = (value.numpy().reshape(3) for value in (preprocess.mean, preprocess.std))
    done, began = 0, 0.0
    with Path(out).open("w", newline="", encoding="utf-8") as file, torch.inference_mode():
        rows = csv.writer(file)
        for pictures in read_crops(Path(archive), int(count)):
            pixels = torch.from_numpy(to_pixels(pictures, preprocess.image_size, mean, std))
            best = model.classify(pixels).softmax(dim=1).max(dim=1)
            rows.writerows(
                (CODES[label], f"{confidence:.4f}")
                for label, confidence in zip(
                    best.indices.tolist(), best.values.tolist(), strict=True
                )
            )
            if began:
                done += len(pictures)
            else:
                began = time.perf_counter()
    print(done / (time.perf_counter() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
