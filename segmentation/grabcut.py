"""GrabCut (Rother, Kolmogorov, Blake: "GrabCut", SIGGRAPH 2004) by OpenCV: no weights, always at hand."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..errors import UsageError
from .masks import iou, resize
from .protocol import Masks, Prompts, Remembering

LONGEST_SIDE = 320  # the graph that is cut grows with the photo: working at this size bounds time and memory


@dataclass(frozen=True)
class GrabCut(Remembering):
    """Foreground and background colours fitted by cuts; takes points, a box, an earlier mask."""

    name: str = "grabcut"
    rounds: int = 5

    def look(self, pixels: UInt8[np.ndarray, "H W 3"]) -> "EncodedGrabCut":
        """Nothing is learnt ahead; the photo is kept at working size."""
        import cv2

        scale = min(1.0, LONGEST_SIDE / max(pixels.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return EncodedGrabCut((pixels.shape[0], pixels.shape[1]), small, self.rounds)


@dataclass(frozen=True)
class EncodedGrabCut:
    """A photo at GrabCut's working size."""

    grid: ClassVar[int] = 6  # a click reaches a quarter of the photo

    size: tuple[int, int]
    small: UInt8[np.ndarray, "h w 3"]
    rounds: int

    def predict(self, prompts: Prompts) -> Masks:
        """One mask; its score is the IoU of the last two rounds' masks.

        Raises UsageError where the prompts leave no pixel to be the thing or none to be the rest.
        """
        import cv2

        trimap = self._trimap(prompts)
        if len(np.unique(trimap % 2)) < 2:
            raise UsageError("GrabCut needs pixels in and around the thing; give a smaller box or a point.")
        cv2.setRNGSeed(0)  # its colour clusters start at random
        outside, inside = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(self.small, trimap, (0, 0, 0, 0), outside, inside, self.rounds - 1, cv2.GC_INIT_WITH_MASK)
        before = self._under_points(trimap % 2 == 1, prompts)
        cv2.grabCut(self.small, trimap, (0, 0, 0, 0), outside, inside, 1, cv2.GC_EVAL)
        found = self._under_points(trimap % 2 == 1, prompts)
        return Masks(resize(found, self.size)[None], np.array([iou(before, found)], np.float32), "grabcut")

    def glance(self, point: Float[np.ndarray, "2"]) -> Masks:
        """The same as `predict`."""
        return self.predict(Prompts(point[None], np.array([1])))

    def _under_points(self, found: Bool[np.ndarray, "h w"], prompts: Prompts) -> Bool[np.ndarray, "h w"]:
        """The connected parts with a point that says "this" on them; all where there is no such point."""
        import cv2

        height, width = found.shape
        x, y = (
            np.floor(prompts.points[prompts.labels == 1] * (width / self.size[1], height / self.size[0])).astype(int).T
        )
        if not len(x):
            return found
        _, parts = cv2.connectedComponents(found.astype(np.uint8))
        return found & np.isin(parts, parts[y, x])

    def _trimap(self, prompts: Prompts) -> UInt8[np.ndarray, "h w"]:
        """Sure and probable foreground and background. A point says that the disk around it is sure and that the thing
        is probably within a quarter of the photo's shorter side."""
        import cv2

        height, width = self.small.shape[:2]
        scale = np.array([width / self.size[1], height / self.size[0]], np.float32)
        trimap = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
        sure = max(1, round(0.01 * min(height, width)))
        points = [(round(x), round(y)) for x, y in (prompts.points * scale).tolist()]
        if prompts.mask is not None:
            earlier = cv2.resize(prompts.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
            trimap[earlier > 0] = cv2.GC_PR_FGD
        elif prompts.box is None:
            for point, label in zip(points, prompts.labels, strict=True):
                if label == 1:
                    cv2.circle(trimap, point, max(2, min(height, width) // 4), cv2.GC_PR_FGD, -1)
        if prompts.box is not None:
            x0, y0, x1, y1 = np.round(prompts.box * np.tile(scale, 2)).astype(int)
            inside = np.zeros((height, width), bool)
            inside[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
            trimap[~inside] = cv2.GC_BGD
            if prompts.mask is None:
                trimap[inside] = cv2.GC_PR_FGD
                if inside.all():  # what lies around a thing that fills the photo shows at its rim
                    trimap[[0, -1]] = trimap[:, [0, -1]] = cv2.GC_PR_BGD
        for point, label in zip(points, prompts.labels, strict=True):
            cv2.circle(trimap, point, sure, cv2.GC_FGD if label == 1 else cv2.GC_BGD, -1)
        return trimap
