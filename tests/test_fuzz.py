"""The command line under hostile input: photos, masks, run lengths, layouts, stored settings, manifests, options and
output names, all at once and in one process.

Whatever it is given, it ends in good time and memory with a documented exit code, says what it says in sentences of its
own, and writes where it was told to and nowhere else. `pytest -m slow tests/test_fuzz.py` gives it 10,000 inputs.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from inlay import cli
from inlay.editing.job import EditJob, ExtendJob, Frozen, GenerateJob, MaskJob, RemoveJob, Setup
from inlay.jobs.batching import Batching
from inlay.tests.jobs.conftest import Here
from inlay.tests.jobs.test_hostile_manifests import as_csv, manifests
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

LONGEST = 10
"""Seconds of the processor that an input may take; other work on the machine does not count."""
LONGEST_WAIT = 90
"""Seconds in all, so that waiting for what never comes is found, too."""
LARGEST = 2 * 2**30
"""Bytes by which the most that the process ever held may grow; a suite's earlier tests count for nothing."""
CODES = {"batch": {0, 1, 2, 3, 4, 5}}
"""Documented exit codes; 3 is a batch's alone."""
SIZE = (48, 40)


def seldom(one_in: int) -> st.SearchStrategy[bool]:
    """True once in so many draws; Hypothesis likes the ends of a range, so it is not one of these."""
    return st.integers(0, one_in).map(lambda drawn: drawn == (one_in + 1) // 2)


# ---- pictures


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    picture = Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8) // 2)
    ImageDraw.Draw(picture).rectangle((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), (250, 240, 200))
    return picture


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def every_photo() -> list[bytes]:
    """Whole photos of every format, mode and odd size."""
    rgb, turned = scene(), Image.Exif()
    turned[274] = 6
    clear = rgb.copy()
    clear.putalpha(rgb.convert("L"))
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    film: dict[str, Any] = {"save_all": True, "append_images": [scene(), rgb.rotate(90)]}
    found = [encoded(rgb.convert(mode), "PNG") for mode in ("RGB", "L", "1", "P", "LA")]
    found += [encoded(picture, "PNG") for picture in (clear, deep, clear.quantize(16))]
    found += [encoded(scene(size), "PNG") for size in ((1, 1), (1, 60), (60, 1), (47, 33), (300, 200))]
    found += [encoded(rgb, "JPEG", exif=turned), encoded(rgb.convert("CMYK"), "JPEG"), encoded(rgb, "JPEG", quality=5)]
    found += [
        encoded(clear, "WEBP"),
        encoded(rgb, "BMP"),
        encoded(rgb, "TGA"),
        encoded(rgb, "PPM"),
        encoded(rgb, "AVIF"),
    ]
    found += [encoded(rgb.convert(mode), "TIFF") for mode in ("RGB", "CMYK", "LAB", "F", "I", "YCbCr")]
    found += [encoded(rgb, "GIF", **film), encoded(rgb, "TIFF", **film), encoded(rgb, "JPEG2000")]
    return found


def every_mask() -> list[bytes]:
    """Masks that can be used, and pictures that are none."""
    white = Image.new("L", SIZE)
    ImageDraw.Draw(white).rectangle((10, 8, 30, 28), 255)
    labels = Image.new("L", SIZE)
    for number in range(4):
        labels.paste(80 * number, (12 * number, 0, 12 * number + 12, 40))
    alpha = white.convert("RGB")
    alpha.putalpha(white)
    pictures = [white, white.convert("1"), white.convert("RGB"), alpha, labels, labels.quantize(4), scene()]
    pictures += [white.resize(size) for size in ((1, 1), (47, 33), (300, 200))]
    pictures += [Image.new("L", SIZE, level) for level in (0, 100, 255)]
    return [encoded(picture, "PNG") for picture in pictures]


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its pixels do not have."""
    png = bytearray(encoded(scene(), "PNG"))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    return bytes(png)


PHOTOS, MASKS = every_photo(), every_mask()
NO_PICTURES = [
    b"",
    b"no picture",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"%!PS-Adobe EPSF",
    b"\0\0\0\x18ftypheic",
    b"{}",
]


@st.composite
def broken(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """One of `whole`, mostly as it is; else cut, with bytes that differ, with a header that lies, or no picture."""
    content = draw(st.sampled_from(whole))
    how = draw(st.sampled_from(["whole"] * 8 + ["cut", "changed", "claims", "other", "longer"]))
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if how == "changed":
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 8))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    if how == "claims":
        sides = st.sampled_from([0, 1, 40, 48, 5000, 2**16, 2**31 - 1, 2**32 - 1])
        return claiming(draw(sides), draw(sides))
    if how == "other":
        return draw(st.sampled_from(NO_PICTURES) | st.binary(max_size=64))
    return content + draw(st.binary(max_size=16)) if how == "longer" else content


# ---- texts

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**62,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "a",
    "€",
    [],
    [[]],
    {},
    [None],
]
TEXTS = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "1e400",
    "nan",
    "inf",
    "٣",
    "1,2",
    "12,12",
    "10,8,30,28",
    "-5,0,9,9",
    "1e9,2",
]
TEXTS += [
    "12,12,0",
    "red=cat",
    "#ff0000=cup",
    "a cat",
    "a cup and a cat",
    "cat",
    "\udcff",
    "x" * 3000,
    "a\nb",
    "--",
    "%",
    "5%",
]
TEXTS += ["best", "largest", "all", "keep", "auto", "grabcut", "/etc/passwd", "/dev/null", "../in", "", "true", "é"]


@st.composite
def run_lengths(draw: st.DrawFn) -> Any:
    """COCO run lengths as a list or text, right or not, or something else that JSON holds."""
    numbers = st.integers(-3, 2000) | st.sampled_from([2**31, 2**62, 2**80, 1920, 1e9, float("nan")])
    good = {"size": [40, 48], "counts": [900, 60, 960]}
    if not draw(seldom(2)):
        return good
    counts = draw(st.lists(numbers, max_size=6) | st.text(max_size=12) | st.sampled_from(["o" * 5000, "8240:", *ODD]))
    size = draw(st.lists(numbers, max_size=3) | st.sampled_from([[40, 48], [10**5, 10**5], *ODD]))
    return draw(st.sampled_from([{"size": size, "counts": counts}, good | {"counts": counts}, counts, [good]]))


@st.composite
def layouts(draw: st.DrawFn) -> Any:
    """A layout with up to three regions, some of whose values are odd."""
    numbers = (
        st.floats(0, 1)
        if not draw(seldom(3))
        else st.sampled_from([0.2, 0.7, -1, 2, 30, 1e9, 1e308, float("nan"), float("inf"), "a", None])
    )
    pairs = st.lists(numbers, min_size=2, max_size=2)
    shapes = st.one_of(
        st.fixed_dictionaries({"box": st.just([0.1, 0.1, 0.6, 0.8]) | st.lists(numbers, max_size=5)}),
        st.fixed_dictionaries({"polygon": st.lists(pairs, max_size=5)}),
        st.fixed_dictionaries({"points": st.lists(pairs, max_size=4), "radius": numbers}),
        st.fixed_dictionaries({"mask": st.sampled_from(["mask.png", "gone.png", "..", "photo", "mask.json", ""])}),
    )
    regions = []
    for _ in range(draw(st.integers(0, 3))):
        words = draw(
            st.sampled_from(["dog", "", *ODD]) if draw(seldom(6)) else st.sampled_from(["cat", "cup", "a cat"])
        )
        region = {"words": words, **draw(shapes)}
        for name in draw(st.lists(st.sampled_from(["weight", "fraction", "occurrence", "prompt", "more"]), max_size=2)):
            region[name] = draw(st.sampled_from([0.5, 1, 2, *ODD]))
        regions.append(region)
    layout: dict[str, Any] = {
        "prompt": draw(st.sampled_from(["", *ODD]) if draw(seldom(9)) else st.just("a cat and a cup")),
        "regions": regions,
    }
    if draw(seldom(5)):
        layout["size"] = draw(st.sampled_from([[48, 40], [40, 48], [0, 0], [20000, 20000], [10**9, 10**9], *ODD]))
    return layout


@st.composite
def texts_of(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """JSON of a value, at times cut, deep, or no text."""
    content = json.dumps(draw(values)).encode()
    how = draw(st.sampled_from(["whole"] * 6 + ["cut", "deep", "bytes"]))
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    return {"deep": b"[" * 50_000, "bytes": b"\xff\xfe" + content}.get(how, content)


FACTS = {"inlay": "1", "torch": "1", "diffusers": "1", "weights": "w", "device": "cpu", "dtype": "float32"}


@st.composite
def stored(draw: st.DrawFn) -> bytes:
    """A picture with settings of a result in it, some of which are odd."""
    kind = draw(st.sampled_from([EditJob, EditJob, GenerateJob, RemoveJob, ExtendJob]))
    job: dict[str, Any] = {"action": kind.model_fields["action"].default, "prompt": "a cat", "steps": 1}
    if kind is not GenerateJob:
        job["photo"] = draw(st.sampled_from(["../in/photo", "photo", "-", "/etc/passwd", "/dev/zero", ""]))
    if kind in (EditJob, RemoveJob):
        job["box"] = [[10, 8, 30, 28]]
    for name in draw(st.lists(st.sampled_from([*kind.model_fields, "more"]), max_size=2)):
        job[name] = draw(st.sampled_from([*ODD, *TEXTS]))
    record: Any = {"job": job, "facts": FACTS | {"image_seed": 3, "size": [40, 48]}}
    if draw(seldom(8)):
        record[draw(st.sampled_from(["job", "facts", "more"]))] = draw(st.sampled_from(ODD))
    said = PngInfo()
    if not draw(seldom(10)):
        said.add_text("inlay", json.dumps(record).encode("utf-8", "replace").decode("utf-8"))
    else:
        said.add_text("inlay", draw(st.sampled_from(["", "{", "[" * 9999, "null", "x" * 10000])))
    return encoded(scene(), "PNG", pnginfo=said)


# ---- commands

FITTING: dict[str, list[str]] = {
    "prompt": ["a cat", "a cup and a cat", "a cat on grass " * 20],
    "steps": ["1", "2"],
    "num_images": ["1", "2", "1001", "1000000000"],
    "size": ["16x16", "48x40", "33x47", "1x1", "0x5", "40000x40000", "99999999999x9"],
    "method": [
        *("plain", "masked-attention", "zest", "paint-with-words", "attention-swapping:layers=1", "multidiffusion"),
        *("zest+paint-with-words", "removal", "directed-diffusion", "segmenter", "masked-attention:alpha=nan"),
        *("zest:strength=1e20", "zest:fraction=0", "masked-attention:layers=1,2", "zest:", "+", ":", "zest:x=1"),
    ],
    "scheduler": ["ddim", "ddpm", "euler", "euler-a", "dpm++2m", "deis", "lms", "lcm", "tcd", "pndm", "x"],
    "layout": ["../in/layout.json", "../in/photo", "../in/gone.json"],
    "colour": ["#000000=cat", "#fffefa=cup", "red=cat", "x=y", "="],
    "mask": ["../in/mask.png", "../in/mask.png", "../in/mask.json", "../in/photo", "../in/pipe", "-"],
    "point": ["14,14", "14,14", "14,14", "2,2,0", "47,39", "48,40", "14,14,2", "14"],
    "box": ["10,8,30,28", "10,8,30,28", "10,8,30,28", "0,0,48,40", "30,28,10,8", "1,1,1,1", "0,0,300,200"],
    "select": ["cat"],
    "segmenter": ["grabcut", "auto", "sam", "magic", "/etc/passwd"],
    "left": ["10", "20%", "10", "20%", "0", "99999999999", "500%", "-3"],
    "words": ["cat", "cup", "a cat", "dog"],
    "difference": [],
    "model": ["toybox", "toybox", "gone/model", "old.ckpt", "../in", "../in/photo", "owner/name"],
    "output": [
        *("out.png", "out.png", "out.png", "o.jpg", "o.webp", "o.tif", "deep/er/o.png", "é ü.png", "-", "./-.png"),
        *("o.bmp", "", ".", "..", "/", ".png", "o.PNG", "x" * 300 + ".png", "/proc/o.png", "/dev/full", "a\udcff.png"),
        *("../in/kept.png", "o.json", "a\nb.png", "o.png/p.png", "../in/link/o.png"),
    ],
    "overlay": ["look.png", "look.jpg", "out.png", "x.gif"],
    "save_attention": ["words", "words", "../in/photo", "."],
    "config": ["../in", "gone"],
    "ranker": ["../in", "owner/name"],
    "max_pixels": ["1", "1000", "100000", "0"],
    "device": ["cpu", "auto", "cuda", "tpu", "cuda:99"],
    "dtype": ["float32", "auto", "float16", "int8"],
    "frame": ["0", "1", "7", "-1"],
    "workers": ["1", "2", "0"],
    "shard": ["1/1", "1/2", "3/2", "0/0"],
    "masks": ["../in", "gone"],
    "seed": ["0", "7", str(2**62), str(2**63)],
    "quality": ["1", "80", "100", "101"],
    "context": ["0", "0.5", "2"],
    "feather": ["0", "3", "1e9"],
    "mask_grow": ["0", "3", "-2", "-99", "1e12"],
    "mask_soften": ["0", "4", "1e12"],
}
FITTING |= {side: FITTING["left"] for side in ("top", "right", "bottom")}
LEFT_OUT = {"action", "photo", "from_result", "overwrite", "debug", "sources", "engine", "address", "merge", "output"}
"""What the strategies below say by themselves, and what would need a cluster."""
TAKES: dict[str, tuple[type[Frozen], ...]] = {
    "edit": (EditJob, Setup, cli.Writing, cli.Previewing, cli.Saying),
    "remove": (RemoveJob, Setup, cli.Writing, cli.Previewing, cli.Saying),
    "extend": (ExtendJob, Setup, cli.Writing, cli.Saying),
    "generate": (GenerateJob, Setup, cli.Writing, cli.Saying),
    "mask": (MaskJob, Setup, cli.Masking, cli.Saying),
    "batch": (EditJob, Setup, Batching, cli.Saying),
}


@dataclass(frozen=True)
class Input:
    """Files by their names in the folder `in`, what stands on standard input, and the arguments."""

    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(repr=False)
    piped: bytes = field(default=b"", repr=False)


@st.composite
def options(draw: st.DrawFn, command: str) -> list[str]:
    """Up to three options of a command, nearly all with a value that fits, and a single step."""
    fields = {name: one for kind in TAKES[command] for name, one in kind.model_fields.items() if name not in LEFT_OUT}
    written = ["--steps", "1"] if "steps" in fields else []
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
        values, switch = FITTING.get(name) or choices(fields[name].annotation), fields[name].annotation is bool
        option = {"as_json": "--json"}.get(name, f"--{name.replace('_', '-')}")
        if switch or name == "difference":
            written += [option] if switch else [option, "a cat", draw(st.sampled_from(["a cup", "a cat", ""]))]
        else:
            written += [option, draw(texts() if draw(seldom(8)) else st.sampled_from(values))]
    return written


def choices(kind: Any) -> list[str]:
    """Values of an option that has no list of its own: those of its type, or numbers and words."""
    return [str(one) for one in get_args(kind)] if get_origin(kind) is Literal else ["0", "0.5", "1", "cat", "best"]


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(TEXTS) | st.text(st.characters(exclude_characters="\0"), max_size=8)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    """One run of the command line and all that it may read."""
    files = {"photo": draw(broken(PHOTOS))}
    command = draw(
        st.sampled_from(["edit"] * 4 + ["mask", "mask", "batch", "batch", "remove", "extend", "generate", "generate"])
    )
    more = draw(options(command))
    if any("mask.png" in one for one in more) or command == "batch":
        files["mask.png"] = draw(broken(MASKS))
    if "../in/mask.json" in more:
        files["mask.json"] = draw(texts_of(run_lengths()))
    if command == "batch":
        return draw(batches(files, more))
    arguments = [command]
    if command != "mask" and draw(seldom(6)):
        files["stored"] = draw(stored())
        arguments += ["--from", "../in/stored"]
    elif command not in ("mask", "extend") or draw(seldom(20)):
        arguments += ["--prompt", draw(texts()) if draw(seldom(8)) else "a cup and a cat"]
    if command in ("edit", "remove", "mask"):
        arguments += draw(pointing(files, "--from" in arguments))
    if command == "extend":
        arguments += ["--left", draw(st.sampled_from(FITTING["left"]))]
    if command == "generate" and draw(st.booleans()):
        arguments += ["--layout", "../in/layout.json"]
        files |= {"layout.json": draw(texts_of(layouts())), "mask.png": draw(broken(MASKS))}
    piped = b""
    if command != "generate" and "--from" not in arguments:
        arguments.append(
            draw(st.sampled_from(["../in/photo"] * 16 + ["-", "../in", "../in/gone", "../in/pipe", "/dev/zero"]))
        )
        piped = files["photo"] if arguments[-1] == "-" else b""
    output = draw(st.sampled_from(FITTING["output"]) if draw(seldom(4)) else st.just("out.png"))
    return Input((*arguments, "--output", output, *more), files, piped)


@st.composite
def pointing(draw: st.DrawFn, files: dict[str, bytes], optional: bool) -> list[str]:
    """A way to point at something, most of the time."""
    way = draw(st.sampled_from(["box"] * 4 + ["point", "mask", "mask", "runs", "runs", "layout", "layout", "none"]))
    if way == "mask":
        files["mask.png"] = draw(broken(MASKS))
        return ["--mask", "../in/mask.png"]
    if way == "runs":
        files["mask.json"] = draw(texts_of(run_lengths()))
        return ["--mask", "../in/mask.json"]
    if way == "layout":
        files |= {"layout.json": draw(texts_of(layouts())), "mask.png": draw(broken(MASKS))}
        return ["--layout", "../in/layout.json"]
    return [] if optional or way == "none" else [f"--{way}", draw(st.sampled_from(FITTING[way]))]


@st.composite
def batches(draw: st.DrawFn, files: dict[str, bytes], more: list[str]) -> Input:
    """A batch over a manifest, a folder, a pattern, or what is piped in."""
    rows = draw(manifests())
    kind = draw(st.sampled_from(["rows.jsonl", "rows.csv", "-", "../in", "../in/*", "../in/gone.jsonl", ""]))
    if kind.startswith("rows"):
        files[kind] = rows if kind.endswith("l") else as_csv(rows)
        kind = f"../in/{kind}"
    files |= {"a.png": files["photo"], "m.png": files["mask.png"], "b.jpg": PHOTOS[15]}
    asked = [
        "batch",
        kind,
        "--prompt",
        "a cat",
        "--output",
        draw(st.sampled_from(["made", "made", ".", "é", "../in/photo"])),
    ]
    return Input((*asked, *more), files, rows if kind == "-" else b"")


# ---- the run


class Hung(BaseException):
    """An input takes too long. No handler of errors is to catch it."""


def most_held() -> int:
    """The most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class House:
    """A folder with `in`, what may be read; `out`, where the command runs; and `tmp`, for temporary files."""

    root: Path
    ends: Counter[int] = field(default_factory=Counter)
    held: int = field(default_factory=most_held)

    def check(self, given: Input) -> None:
        """Run an input, and hold it to every law."""
        shutil.rmtree(self.root / "out")
        (self.root / "out").mkdir()
        os.chdir(self.root / "out")
        self.lay_out(given.files)
        before = self.seen()
        code, out, err = self.run(given)
        said, allowed = f"{given.arguments}\n{err}", CODES.get(given.arguments[0], {0, 1, 2, 4, 5})
        assert code in allowed, f"exit code {code}: {said}"
        assert "Traceback" not in err, said
        assert "nexpected" not in err, said
        assert all(
            line.startswith(("inlay: ", "Usage: ", "Try '", "Error: ", "   ")) for line in first_lines(err, given)
        ), said
        assert most_held() - self.held < LARGEST, f"memory: {said}"
        after = self.seen()
        asked = tuple(self.named(given.arguments))
        ours = {path for path in before.keys() | after.keys() if not path.startswith("out/")}
        ours -= {path for path in after.keys() - before.keys() if path.startswith(asked)}
        assert {path: after.get(path) for path in ours} == {path: before.get(path) for path in ours}, f"wrote: {said}"
        assert not [path for path in after if path.endswith(".part")], f"left a part: {said}"
        if code and given.arguments[0] != "batch":
            assert not [path for path in after if path.startswith("out/")], f"failed and wrote {list(after)}: {said}"
        if (
            "-" in given.arguments[given.arguments.index("--output") + 1 :][:1]
            and code == 0
            and given.arguments[0] != "batch"
        ):
            assert out.startswith(b"\x89PNG"), said
        self.ends[code] += 1

    def lay_out(self, files: dict[str, bytes]) -> None:
        folder = self.root / "in"
        for path in folder.iterdir():
            if path.name not in files and path.name not in ("pipe", "link", "kept.png"):
                path.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def named(self, arguments: Sequence[str]) -> Iterator[str]:
        """Where the command says that its picture goes, be it by a link that leads elsewhere; without the ending. Rows
        of a batch may not."""
        for option, value in pairwise(arguments):
            if option != "--output" or arguments[0] == "batch":
                continue
            with suppress(ValueError):  # no file can have such a name
                yield os.path.relpath(os.path.splitext(os.path.realpath(value))[0], os.path.realpath(self.root))

    def seen(self) -> dict[str, tuple[int, int]]:
        """Every file below the root: its size and time."""
        found = {}
        for path in self.root.rglob("*"):
            if not path.is_dir():
                about = path.lstat()
                found[path.relative_to(self.root).as_posix()] = about.st_size, about.st_mtime_ns
        return found

    def run(self, given: Input) -> tuple[int, bytes, str]:
        """Exit code, standard output, and standard error with the warnings that would stand there."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2))
        arguments, stdin = sys.argv, sys.stdin
        sys.argv, sys.stdin = ["inlay", *given.arguments], io.TextIOWrapper(io.BytesIO(given.piped))
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(record=True) as heard, limited():
                warnings.simplefilter("default")
                for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                    warnings.simplefilter("ignore", quiet)
                cli.main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv, sys.stdin = arguments, stdin
        out.flush()
        err.flush()
        loud = "".join(f"{one.filename}:{one.lineno}: {one.message}\n" for one in heard)
        return code, out.buffer.getvalue(), err.buffer.getvalue().decode("utf-8", "surrogateescape") + loud  # type: ignore[attr-defined]


def first_lines(err: str, given: Input) -> list[str]:
    """What each message begins with: lines, where no argument brings line breaks of its own."""
    broken_up = any("\n" in one or "\r" in one for one in given.arguments) or "batch" in given.arguments
    return [] if broken_up else [line for line in err.split("\n") if line.strip()]


@contextmanager
def limited() -> Iterator[None]:
    """Raise `Hung` in what takes longer than an input may."""

    def hung(number: int, _: Any) -> None:
        raise Hung(f"it took {LONGEST} s of work" if number == signal.SIGPROF else f"it waited {LONGEST_WAIT} s")

    kept = [(number, signal.signal(number, hung)) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in kept:
            signal.signal(number, handler)


@pytest.fixture
def house(tmp_path: Path, models: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house in which the embedded models are a tiny one that is loaded already, and batches need no processes."""
    from inlay.diffusion.model import Model
    from inlay.weights.device import pick_device, pick_dtype

    tiny, load = models("sd1"), Model.from_pretrained

    def loaded(name: Any, *, device: str = "auto", dtype: str = "auto", **how: Any) -> Any:
        if str(name) != "toybox":
            return load(name, device=device, dtype=dtype, **how)
        pick_dtype(dtype, pick_device(device))
        return tiny

    for folder in ("in", "out", "tmp", "cache"):
        (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "cache")
    (tmp_path / "in" / "kept.png").write_bytes(b"a file that nobody may replace")
    monkeypatch.setattr(Model, "from_pretrained", loaded)
    monkeypatch.setattr(cli, "app", typer.main.get_command(cli.app))  # which typer derives anew for each run
    monkeypatch.setattr("inlay.jobs.batch.Processes", Here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache" / "inlay"))
    monkeypatch.chdir(tmp_path / "out")
    terminated = signal.getsignal(signal.SIGTERM)
    yield House(tmp_path)
    signal.signal(signal.SIGTERM, terminated)


def fuzz(house: House, count: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def check(one: Input) -> None:
        house.check(one)

    begun = time.monotonic()
    check()
    print(
        f"seed {number}: {house.ends.total()} inputs in {time.monotonic() - begun:.0f} s, exit codes {dict(house.ends)}"
    )
    assert house.ends.total() >= count
    assert house.ends[0] > count / 20, "hostile input alone shows nothing"


def test_a_few_hostile_inputs(house: House) -> None:
    fuzz(house, 40, 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 11))
def test_ten_thousand_hostile_inputs(house: House, number: int) -> None:
    fuzz(house, 1000, number)
