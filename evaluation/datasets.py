"""Datasets in COCO format: pictures with captions and masks.

A dataset is a folder with `instances*.json` and `captions*.json` (at its top or in `annotations/`) and its pictures in
`images/`, or in a folder named as the annotation file is (`instances_val2017.json` → `val2017/`). COCO-Stuff's
`stuff*.json` beside them adds its classes. Annotations may mix polygons, uncompressed and compressed RLE. Beside the
pictures' folder, `without/ID.png` or `.webp` shows what is behind the instance whose annotation has that id.
"""

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from ..errors import UsageError
from ..photos.mask_files import decode_rle, encode_rle
from ..weights.catalogue import BENCHMARK

Json = dict[str, Any]


class Rle(TypedDict):
    """pycocotools' run-length encoding of a mask."""

    size: list[int]
    counts: bytes | str


@dataclass(frozen=True)
class Segment:
    """Where a category is: one instance, a crowd, or all of a class."""

    category: str
    rle: Rle
    crowd: bool = False
    behind: Path | None = None
    """A picture of what stands behind it, where the dataset has one: transparent where the whole picture shows it."""

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        return coco_mask.decode(self.rle).astype(bool)

    @property
    def share(self) -> float:
        """Its part of the picture's area, in [0, 1]."""
        height, width = self.rle["size"]
        return float(coco_mask.area(self.rle)) / (height * width)


def union(segments: list[Segment]) -> Segment:
    """The union of segments of one category."""
    return Segment(segments[0].category, coco_mask.merge([segment.rle for segment in segments]))


@dataclass(frozen=True)
class Picture:
    """An image of a dataset and what is known of it. The file need not exist where only the layout is used."""

    id: int
    file: Path
    name: str
    """What images that are made of it are called; see `names_of`."""
    captions: tuple[str, ...]
    instances: tuple[Segment, ...]
    stuff: tuple[Segment, ...]
    ground: str = ""
    """What everything stands on, in a word."""


@dataclass(frozen=True)
class Dataset:
    """Pictures in the order of their ids, and how many were unusable, by reason.

    `categories`: ids by name; `spellings`: how captions may say a category: its name, and synonyms as LVIS lists them.
    """

    name: str
    pictures: tuple[Picture, ...]
    categories: Mapping[str, int]
    spellings: Mapping[str, tuple[str, ...]]
    skipped: Mapping[str, int]


def open_dataset(path: str | Path) -> Dataset:
    """Read a dataset folder or its instances file; the name `toybox` means the embedded benchmark.

    Raises UsageError where there is no instances file, more than one, a broken one, or one without masks.
    """
    instances_file = _find_instances(BENCHMARK if path == "toybox" else Path(path))
    things = _read(instances_file, "images", "annotations", "categories")
    captions = _sibling(instances_file, "captions")
    stuff = _sibling(instances_file, "stuff")
    things_by_picture, stuff_by_picture, captions_by_picture = map(_by_picture, (things, stuff, captions))
    listed = things["categories"] + stuff.get("categories", [])
    names = {category["id"]: category["name"] for category in listed}
    folder = _image_folder(instances_file)
    without = folder.with_name("without")
    behind = {file.stem: file for kind in ("webp", "png") for file in without.glob(f"*.{kind}")}
    pictures, skipped, named = [], Counter[str](), names_of([image["file_name"] for image in things["images"]])
    for image in sorted(things["images"], key=lambda image: image["id"]):
        try:
            pictures.append(
                Picture(
                    image["id"],
                    folder / image["file_name"],
                    named[image["file_name"]],
                    tuple(found["caption"] for found in captions_by_picture[image["id"]]),
                    tuple(_segment(found, image, names, behind) for found in things_by_picture[image["id"]]),
                    tuple(_segment(found, image, names, behind) for found in stuff_by_picture[image["id"]]),
                    image.get("ground", ""),
                )
            )
        except _NoMaskError as error:
            skipped[str(error)] += 1
    if not any(picture.instances or picture.stuff for picture in pictures):
        raise UsageError(f"{instances_file} has no masks; give a dataset whose annotations have `segmentation`.")
    categories = {name: number for number, name in names.items()}
    spellings = {category["name"]: (category["name"], *category.get("synonyms", ())) for category in listed}
    name = "toybox" if path == "toybox" else instances_file.parent.name
    return Dataset(name, tuple(pictures), categories, spellings, dict(skipped))


def names_of(files: Sequence[str]) -> dict[str, str]:
    """What pictures are called: as their files, without the ending; where files share a name with the folders, too, and
    where they still do with the ending. No name leads out of a folder."""
    parts = {file: PurePosixPath(posixpath.normpath(file)).parts for file in files}
    inside = {file: PurePosixPath(*[part for part in path if part not in ("/", "..")]) for file, path in parts.items()}
    bare = {file: path.stem for file, path in inside.items()}
    placed = {file: str(path.with_suffix("")) for file, path in inside.items()}
    whole = {file: str(path) for file, path in inside.items()}
    return next((names for names in (bare, placed) if len(set(names.values())) == len(names)), whole)


class _NoMaskError(Exception):
    """An annotation that says where something is without a usable mask."""


def _segment(annotation: Json, image: Json, names: Mapping[int, str], behind: Mapping[str, Path]) -> Segment:
    if annotation.get("category_id") not in names:
        raise _NoMaskError("an instance of an unknown category")
    if not annotation.get("segmentation"):
        raise _NoMaskError("an instance without a mask")
    rle = _rle(annotation["segmentation"], image["height"], image["width"])
    segment = Segment(
        names[annotation["category_id"]],
        rle,
        bool(annotation.get("iscrowd")),
        behind.get(str(annotation.get("id"))),
    )
    if not segment.share:
        raise _NoMaskError("an instance with an empty mask")
    return segment


def _rle(outline: Any, height: int, width: int) -> Rle:
    """Of polygons or run lengths. Both are looked at first: pycocotools crashes at some, and invents what runs lack."""
    try:
        if isinstance(outline, list):
            within = [_clipped(polygon, height, width) for polygon in outline]
            return coco_mask.merge(coco_mask.frPyObjects(within, height, width))
        if list(outline["size"]) != [height, width]:
            raise _NoMaskError("a mask of another size than its picture")
        rle: Any = encode_rle(decode_rle(outline))
        return rle
    except (UsageError, TypeError, ValueError, KeyError) as error:
        raise _NoMaskError("a mask that cannot be decoded") from error


def _clipped(polygon: Sequence[float], height: int, width: int) -> list[float]:
    """A polygon that reaches beyond its picture by the picture's sides at most.

    Raises:
        ValueError: it has fewer than three points, or numbers that are none.
    """
    points = np.asarray(polygon, float).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError
    return np.clip(points, (-width, -height), (2 * width, 2 * height)).ravel().tolist()


def _find_instances(path: Path) -> Path:
    if path.is_file():
        return path
    found = [*path.glob("instances*.json"), *path.glob("annotations/instances*.json")]
    if not found:
        raise UsageError(f"{path} has no instances*.json; give a folder in COCO format, its file, or `toybox`.")
    if len(found) > 1:
        raise UsageError(f"{path} has several instances files; name one: {', '.join(map(str, sorted(found)))}.")
    return found[0]


def _sibling(instances_file: Path, kind: str) -> Json:
    file = instances_file.with_name(instances_file.name.replace("instances", kind))
    return _read(file, "annotations") if file != instances_file and file.is_file() else {"annotations": []}


def _image_folder(instances_file: Path) -> Path:
    folder = instances_file.parent
    root = folder.parent if folder.name == "annotations" else folder
    split = root / instances_file.stem.removeprefix("instances").strip("_")
    return split if split != root and split.is_dir() else root / "images"


def _read(file: Path, *fields: str) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON ({error}); give an annotation file in COCO format.") from error
    missing = [field for field in fields if not isinstance(content, dict) or not isinstance(content.get(field), list)]
    if missing:
        raise UsageError(f"{file} lacks the list `{missing[0]}`; give an annotation file in COCO format.")
    return content


def _by_picture(content: Json) -> defaultdict[int, list[Json]]:
    grouped = defaultdict[int, list[Json]](list)
    for annotation in content["annotations"]:
        grouped[annotation["image_id"]].append(annotation)
    return grouped
