"""A folder of JPEG photographs to normalised batches of 224 x 224 pixels: finetui's streaming, torchvision's
`ImageFolder` with a `DataLoader`, and a loop of Pillow on one core. No network trains: reading alone is measured.

The pictures, of 500 x 375 pixels, are generated: noise that varies over all lengths as photographs do, with edges.
All scale the shorter side to 256 and cut out the middle; finetui's pixels are checked to be torchvision's, to less than
half a level of 255 on average.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from PIL import Image, ImageDraw

from benchmarks.measuring import ROOT, Options, in_turn, table

COUNT = 3000
BATCH = 64
WIDTH, HEIGHT, SCALED, SIDE = 500, 375, 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOOK_SECONDS = 0.25
_PROFILED = 256


def write(root: Path, count: int = COUNT, *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write `count` JPEG files of quality 90 to train on, in two classes, and two to test on; some upright."""
    for number in range(count + 2):
        part = "train" if number < count else "test"
        path = root / part / "ab"[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, *((width, height) if number % 4 else (height, width))).save(path, quality=90)


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Return a picture with the spectrum of a photograph (1/f), and edges on it."""
    chance = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None])
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(np.fft.rfft2(chance.normal(size=(3, height, width))) / frequency, (height, width))
    image = Image.fromarray(
        np.clip(120 + 50 * values / values.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
    )
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = int(chance.integers(width)), int(chance.integers(height))
        colour = tuple(int(value) for value in chance.integers(0, 256, 3))
        draw.ellipse([left, top, left + width // 9, top + height // 9], fill=colour)
    return image


def run(options: Options) -> str:
    """Measure, and return tables."""
    with tempfile.TemporaryDirectory(prefix="photos-") as work:
        root = Path(work) / "photos"
        write(root)
        size = statistics.mean(path.stat().st_size for path in root.glob("train/*/*.jpg"))
        names = ["pil", *(f"torchvision {workers}" for workers in range(5)), *(f"finetui {n}" for n in (1, 2, 3, 4))]
        memory: dict[str, float] = {}
        results: dict[str, list[dict[str, list[float]]]] = {name: [] for name in names}

        def measured(name: str) -> Callable[[], float]:
            def measure() -> float:
                found, peak = _in_process(name, root)
                results[name].append(found)
                memory[name] = max(memory.get(name, 0), peak)
                return next(iter(found.values()))[0]

            return measure

        in_turn({name: measured(name) for name in names}, options.rounds)
        profile = _profile(sorted(root.glob("train/*/*.jpg"))[:_PROFILED])
    head = f"{COUNT:,} files of {WIDTH} x {HEIGHT} pixels, {size / 1e3:.0f} KB each, batches of {BATCH}:\n\n"
    return head + _table(results, memory) + "\n\nWhere the time of an image goes, one thread:\n\n" + profile


def _table(results: dict[str, list[dict[str, list[float]]]], memory: dict[str, float]) -> str:
    figures: dict[tuple[str, str], list[list[float]]] = {}
    for name, found in results.items():
        for each in found:
            for what, measured in each.items():
                figures.setdefault((name, what), []).append(measured)
    rates = {key: [rate for rate, _ in each] for key, each in figures.items()}
    medians = {key: statistics.median(each) for key, each in rates.items()}
    best, workers = max((rate, name[12:]) for (name, _), rate in medians.items() if name.startswith("torchvision"))
    rows = [
        [
            f"{_title(name)}{f', {what}' if what else ''}",
            f"{rate:.0f} ({min(rates[name, what]):.0f} to {max(rates[name, what]):.0f})",
            f"{rate / best:.2f} x",
            f"{rate / medians['pil', '']:.2f} x",
            f"{statistics.median(used for _, used in figures[name, what]):.2f} ms",
            f"{memory[name] / 1e6:.0f} MB",
        ]
        for (name, what), rate in medians.items()
    ]
    head = ["", "images a second", f"of DataLoader's best ({workers} workers)", "of one core", "processor", "memory"]
    return table(head, rows)


def _title(name: str) -> str:
    kind, _, workers = name.partition(" ")
    return {
        "pil": "Pillow in a loop, no batches",
        "torchvision": f"ImageFolder and DataLoader, {workers} workers",
        "finetui": f"finetui --loader stream --workers {workers}",
    }[kind]


def _in_process(name: str, root: Path) -> tuple[dict[str, list[float]], float]:
    """Return the images a second of a contender in a process of its own, and its largest memory, bytes.

    Each page is counted once, whoever of it and its workers shares it.
    """
    with tempfile.TemporaryDirectory(prefix="cache-") as cache:
        command = [sys.executable, "-m", "benchmarks.photos", *name.split(), "--root", str(root)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_CACHE_HOME": cache}
        ) as process:
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, _memory(process.pid))
                time.sleep(_LOOK_SECONDS)
            assert process.stdout is not None, "it is a pipe"
            printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    found: dict[str, list[float]] = json.loads(printed.splitlines()[-1])
    return found, peak


def _memory(pid: int) -> float:
    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += each.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0.0  # it is just ending
    return total


# -- the contenders, each in a process of its own --------------------------------------------------------------


def _measured(count: int, images: Iterable[object]) -> list[float]:
    """Return images a second, and the milliseconds of processor time that each took, with workers."""
    used, began = _processor_seconds(), time.perf_counter()
    for _ in images:
        pass
    return [count / (time.perf_counter() - began), (_processor_seconds() - used) / count * 1e3]


def _processor_seconds() -> float:
    process = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def pillow(root: Path, _workers: int) -> dict[str, list[float]]:
    """Decode, scale and cut out one after the other."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    cut = Compose([Resize(SCALED), CenterCrop(SIDE)])
    paths = sorted(root.glob("train/*/*.jpg"))
    return {"": _measured(len(paths), (np.asarray(cut(Image.open(path).convert("RGB"))) for path in paths))}


def torchvision(root: Path, workers: int) -> dict[str, list[float]]:
    """The second epoch of the usual loader: its workers are there."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    images = ImageFolder(str(root / "train"), _transform())
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    _measured(len(images), loader)
    return {"": _measured(len(images), loader)}


def _transform() -> Any:
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    return Compose([Resize(SCALED), CenterCrop(SIDE), ToTensor(), Normalize(MEAN, STD)])


def finetui(root: Path, workers: int) -> dict[str, list[float]]:
    """An epoch that decodes, one that also fills the cache, and one from it."""
    from finetui.engine.process.memory import keep_freed

    keep_freed()  # as the engine's process does
    import torch

    from finetui.engine.data import Transform, load
    from finetui.engine.data.choose_decoding import BY_IMAGES
    from finetui.engine.data.resident import epoch_order
    from finetui.engine.protocol.config import DataConfig

    decoding = msgspec.structs.replace(BY_IMAGES, channels=3, height=SIDE, width=SIDE, resize=SCALED)
    found: dict[str, list[float]] = {}
    for cache in ("off", "auto"):
        request = DataConfig(name=str(root), loader="stream", workers=workers, decoded_cache=cache)
        data = load(request, torch.device("cpu"), decoding=decoding)
        train = data.with_transform(Transform(mean=MEAN, std=STD)).train
        ours = next(train.batches(torch.tensor([0]), 1))[0]
        theirs = _transform()(Image.open(train.file(0)).convert("RGB"))
        levels = (ours[0] - theirs).abs() * torch.tensor(STD).view(3, 1, 1) * 255
        assert levels.mean() < 0.5, "other pixels than torchvision's"
        said = {"off": ["decoding"], "auto": ["decoding and filling the cache", "from the cache"]}[cache]
        for epoch, what in enumerate(said):
            order = epoch_order(len(train), 0, epoch)
            if "filling" in what:  # those that mean and deviation were computed from are there already
                order = order[~torch.isin(order, torch.linspace(0, len(train) - 1, data.sampled).long())]
                if not len(order):  # of a small folder that was all
                    continue
            found[what] = _measured(len(order), train.batches(order, BATCH))
        train.close()
    return found


def _profile(paths: list[Path]) -> str:
    """Return what each step takes, in milliseconds of processor time an image."""
    import torch

    from finetui.engine.data import Transform
    from finetui.engine.data.choose_decoding import BY_IMAGES
    from finetui.engine.data.image_files import decode
    from finetui.engine.data.jpeg import decoded_jpeg
    from finetui.engine.data.resizing import resized
    from finetui.engine.data.transform import InputTransform
    from finetui.engine.process.memory import keep_freed

    keep_freed()
    torch.set_num_threads(1)
    decoding = msgspec.structs.replace(BY_IMAGES, channels=3, height=SIDE, width=SIDE, resize=SCALED)
    before = msgspec.structs.replace(decoding, resampler="pillow")
    files = [path.read_bytes() for path in paths]
    headers = [Image.open(io.BytesIO(file)) for file in files]
    images = [Image.open(path).convert("RGB") for path in paths]
    small = [image.resize(_scaled(image), Image.Resampling.BILINEAR).crop((0, 0, SIDE, SIDE)) for image in images]
    pixels = [np.array(image) for image in images]
    arrays = [decode(str(path), decoding) for path in paths]
    batch = torch.empty((BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    finish = InputTransform(Transform(mean=MEAN, std=STD), torch.device("cpu"), one_thread=True)
    steps: dict[str, tuple[Callable[[int], object], int]] = {
        "read the file": (lambda at: paths[at].read_bytes(), 1),
        "look at the header": (lambda at: Image.open(io.BytesIO(files[at])), 1),
        "decode: simplejpeg, where it is installed": (lambda at: decoded_jpeg(files[at], headers[at]), 1),
        "scale and cut out: torch": (lambda at: resized(pixels[at], decoding), 1),
        "header, and decode: Pillow": (lambda at: Image.open(io.BytesIO(files[at])).load(), 1),
        "scale: Pillow": (lambda at: images[at].resize(_scaled(images[at]), Image.Resampling.BILINEAR), 1),
        "to an array, channels first, after Pillow": (
            lambda at: np.ascontiguousarray(np.array(small[at]).transpose(2, 0, 1)),
            1,
        ),
        "all of it: `decode` of a new run": (lambda at: decode(str(paths[at]), decoding), 1),
        "all of it: `decode` by Pillow, as before": (lambda at: decode(str(paths[at]), before), 1),
        "copy into the batch": (lambda at: np.copyto(batch.numpy()[at % BATCH], arrays[at]), 1),
        "to float32, minus mean, over deviation": (lambda _: finish(batch, None), BATCH),
    }
    rows = [
        [name, f"{_milliseconds(work, max(len(paths) // images, 1), images):.3f}"]
        for name, (work, images) in steps.items()
    ]
    return table(["step", "ms an image"], rows)


def _scaled(image: Image.Image) -> tuple[int, int]:
    longer = int(SCALED * max(image.size) / min(image.size))
    return (longer, SCALED) if image.width > image.height else (SCALED, longer)


def _milliseconds(work: Callable[[int], object], count: int, images: int) -> float:
    """Return the least of three times that `work` takes for each of `count`, of so many `images`, for one image."""
    found = []
    for _ in range(3):
        began = time.process_time()
        for at in range(count):
            work(at)
        found.append((time.process_time() - began) / count / images * 1e3)
    return min(found)


def main() -> None:
    """Measure one contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=["pil", "torchvision", "finetui"])
    parser.add_argument("workers", type=int, nargs="?", default=0)
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args()
    contender = {"pil": pillow, "torchvision": torchvision, "finetui": finetui}[options.contender]
    print(json.dumps(contender(options.root, options.workers)))


if __name__ == "__main__":
    main()
