"""Mean and deviation of images, which inputs are normalised by."""

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput


def mean_and_std(images: npt.NDArray[np.uint8], location: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of `images`, uint8 `[N, C, H, W]`, scaled to [0, 1].

    Exact: bytes have 256 values, so counting them is enough. Raises `BadInput` when all pixels are the same.
    """
    means, deviations = [], []
    values = np.arange(256) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), 4096):
            counts += np.bincount(images[start : start + 4096, channel].ravel(), minlength=256)
        mean = float((counts * values).sum() / counts.sum())
        means.append(mean)
        deviations.append(float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())))
    if not any(deviations):
        raise BadInput(f"all training images in {location} are one and the same color; check its files")
    # A channel without any variation tells nothing; it must not be divided by 0.
    return tuple(means), tuple(deviation or 1.0 for deviation in deviations)
