"""What all Segment Anything models share: the square frame they see, and a photo encoded in it.

Kirillov et al.: "Segment Anything", 2023. A backend brings an encoder and a decoder; the rest is here.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from . import masks
from .protocol import Masks, Prompts

MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of RGB bytes, as SAM was trained
STD = np.array([58.395, 57.12, 57.375], np.float32)

_SURE = np.float32(10)  # the size of logits about as large as SAM's own ever are

_AROUND = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], np.float32) * 12 / 1024  # of the frame's side

THIS, NOT_THIS, UPPER_LEFT, LOWER_RIGHT = 1, 0, 2, 3  # SAM's point labels; a box is two points


class Decode(Protocol):
    """A mask decoder bound to one encoded photo."""

    def __call__(
        self,
        points: Float[np.ndarray, "n 2"],
        labels: Int[np.ndarray, " n"],
        previous: Float[np.ndarray, "h w"] | None,
    ) -> tuple[Float[np.ndarray, "4 h w"], Float[np.ndarray, "4"]]:
        """Mask logits on the frame and predicted IoUs: first SAM's single mask, then its three (part to whole).

        `points` are in the frame's pixels, `labels` SAM's; `previous` are logits of an earlier mask.
        """


@dataclass(frozen=True)
class Frame:
    """How a photo lies in the square that a model sees: its longest side fills it and the rest is padding (SAM), or
    both sides are stretched to fill it (SAM 2)."""

    size: tuple[int, int]
    """Height and width of the photo."""
    side: int = 1024
    stretched: bool = False

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the photo inside the square."""
        if self.stretched:
            return self.side, self.side
        longest = max(self.size)
        return max(1, round(self.size[0] * self.side / longest)), max(1, round(self.size[1] * self.side / longest))

    @property
    def scale(self) -> Float[np.ndarray, "2"]:
        """The frame's pixels per pixel of the photo, in x and y."""
        return np.array([self.inner[1] / self.size[1], self.inner[0] / self.size[0]], np.float32)

    def picture(self, pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "3 side side"]:
        """The photo as the encoder takes it: resized, normalised, padded with zeros."""
        from PIL import Image

        height, width = self.inner
        resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), np.float32)
        square = np.zeros((3, self.side, self.side), np.float32)
        square[:, :height, :width] = ((resized - MEAN) / STD).transpose(2, 0, 1)
        return square

    def logits(self, mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "low low"]:
        """A mask as logits on the decoder's grid, a quarter of the frame's side, to start from."""
        import cv2

        low = self.side // 4
        height, width = (max(1, side // 4) for side in self.inner)
        covered = np.zeros((low, low), np.float32)
        covered[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return _SURE * (2 * covered - 1)

    def emptied(self, logits: Float[np.ndarray, "n low low"]) -> Float[np.ndarray, "n low low"]:
        """The logits with nothing in the padding."""
        height, width = (-(-side * logits.shape[-1] // self.side) for side in self.inner)
        padding = np.ones(logits.shape[1:], bool)
        padding[:height, :width] = False
        return np.where(padding, -_SURE, logits)

    def mask(self, logits: Float[np.ndarray, "low low"]) -> Bool[np.ndarray, "H W"]:
        """The mask at the photo's size, logits interpolated twice as SAM does."""
        import cv2

        height, width = self.inner
        square = cv2.resize(logits, (self.side, self.side), interpolation=cv2.INTER_LINEAR)[:height, :width]
        return cv2.resize(square, (self.size[1], self.size[0]), interpolation=cv2.INTER_LINEAR) > 0


@dataclass(frozen=True)
class Guess:
    """Candidate masks as logits on the decoder's grid, best first, and their predicted IoUs."""

    logits: Float[np.ndarray, "n low low"]
    scores: Float[np.ndarray, " n"]

    @classmethod
    def single_first(cls, logits: Float[np.ndarray, "4 low low"], scores: Float[np.ndarray, "4"]) -> "Guess":
        """A decoder's masks where the prompts say enough: SAM's single mask, then its three by predicted IoU."""
        order = np.array([0, *(1 + np.argsort(-scores[1:], kind="stable"))])
        return cls(logits[order], np.clip(scores[order], 0, 1))

    @classmethod
    def agreed_first(
        cls,
        logits: Float[np.ndarray, "n 4 low low"],
        scores: Float[np.ndarray, "n 4"],
        clicks: Float[np.ndarray, "n 2"],
    ) -> "Guess":
        """The masks of the first click; those of the clicks around it help to rank. `clicks` in cells of the grid.

        A click may mean a part or the whole, and predicted IoU favours neat parts. So every mask of every click counts
        as meant with a weight: predicted IoU x centrality, for people rather point to the middle (a click's distance to
        the mask's outline over the largest such distance in the connected part under it). The rank is agreement x
        stability: the mean IoU with all masks, so weighed, and with what this candidate is for the clicks around.
        """
        found = logits > 0
        weights = scores.clip(0, 1) * [
            [_centrality(one, *cell) for one in four] for four, cell in zip(found, clicks.astype(int), strict=True)
        ]
        overlaps = np.array([[[masks.iou(one, other) for other in four] for four in found] for one in found[0]])
        agreement = (overlaps * weights).sum(axis=(1, 2)) / max(weights.sum(), 1e-6)
        stability = overlaps[:, 1:].mean(axis=1).diagonal()
        ranks = (agreement * stability).astype(np.float32)
        order = np.argsort(-ranks, kind="stable")
        return cls(logits[0, order], ranks[order])


def _centrality(mask: Bool[np.ndarray, "h w"], x: int, y: int) -> float:
    """How central (x, y) is in the connected part under it: 1 in its middle, 0 outside of the mask."""
    import cv2

    if not mask[y, x]:
        return 0.0
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    part = np.pad(parts == parts[y, x], 1).astype(np.uint8)
    depth = cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(depth[y + 1, x + 1] / depth.max())


@dataclass(frozen=True)
class EncodedSam:
    """A photo in a SAM model's frame, with its decoder bound to it."""

    grid: ClassVar[int] = 16

    frame: Frame
    decode: Decode
    name: str
    _after: dict[bytes, Guess] = field(default_factory=dict, repr=False)
    """What earlier clicks gave: a person adds one click at a time, and pays for that one."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo."""
        return self.frame.size

    def predict(self, prompts: Prompts) -> Masks:
        """Four candidates, best first; scores are predicted IoUs, for a single click its rank."""
        points, labels = prompts.points * self.frame.scale, prompts.labels
        if prompts.box is not None:
            return self._in_box(points, labels, prompts.box, prompts.mask)
        if prompts.mask is not None:
            guess = self._from_mask(points, labels, prompts.mask)
        else:
            first = int(np.argmax(labels == THIS))  # a click that says "not this" cannot come first
            order = [first, *(index for index in range(len(points)) if index != first)]
            guess = self._clicks(points[order], labels[order])
        return self._masks(guess)

    def glance(self, point: Float[np.ndarray, "2"]) -> Masks:
        """One pass of the decoder; scores are predicted IoU x stability, as SAM's own generator sees it: the share of a
        mask that is left when its threshold is raised from -1 to 1."""
        logits, scores = self.decode((point * self.frame.scale)[None], np.array([THIS]), None)
        logits = self.frame.emptied(logits)
        sure, likely = (np.count_nonzero(logits > level, axis=(1, 2)) for level in (1, -1))
        return self._masks(Guess(logits, (scores.clip(0, 1) * sure / np.maximum(likely, 1)).astype(np.float32)))

    def _clicks(self, points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"]) -> Guess:
        """One click is ambiguous, so its candidates are ranked; each further click refines the mask of those before."""
        key = points.tobytes() + labels.tobytes()
        if key not in self._after:
            self._after[key] = (
                Guess.single_first(*self.decode(points, labels, self._clicks(points[:-1], labels[:-1]).logits[0]))
                if len(points) > 1
                else self._one_click(points, labels)
            )
        return self._after[key]

    def _one_click(self, point: Float[np.ndarray, "1 2"], label: Int[np.ndarray, "1"]) -> Guess:
        """The candidates of a click, ranked; it and four clicks around it are decoded."""
        height, width = self.frame.inner
        clicks = np.clip(point + self.frame.side * _AROUND, 0, np.array([width - 1, height - 1], np.float32))
        clicks[0] = point
        answers = [self.decode(click[None], label, None) for click in clicks]
        logits = np.stack([self.frame.emptied(found) for found, _ in answers])
        cells = clicks * logits.shape[-1] / self.frame.side
        return Guess.agreed_first(logits, np.stack([scores for _, scores in answers]), cells)

    def _in_box(
        self,
        points: Float[np.ndarray, "n 2"],
        labels: Int[np.ndarray, " n"],
        box: Float[np.ndarray, "4"],
        mask: Bool[np.ndarray, "H W"] | None,
    ) -> Masks:
        """One pass, cut to the box: what a person draws a box around is inside it."""
        corners = box.reshape(2, 2) * self.frame.scale
        points, labels = np.vstack([points, corners]), np.append(labels, (UPPER_LEFT, LOWER_RIGHT))
        previous = None if mask is None else self.frame.logits(mask)
        found = self._masks(Guess.single_first(*self.decode(points, labels, previous)))
        (x0, y0), (x1, y1) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        inside = np.zeros(self.size, bool)
        inside[y0:y1, x0:x1] = True
        return Masks(found.masks & inside, found.scores, self.name)

    def _from_mask(
        self, points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], mask: Bool[np.ndarray, "H W"]
    ) -> Guess:
        """An earlier mask, corrected by the points; without one that says "this", its middle is one."""
        if not (labels == THIS).any():
            middle = np.array([masks.inner_point(mask)], np.float32) * self.frame.scale
            points, labels = np.vstack([points, middle]), np.append(labels, THIS)
        return Guess.single_first(*self.decode(points, labels, self.frame.logits(mask)))

    def _masks(self, guess: Guess) -> Masks:
        """The candidates at the photo's size."""
        return Masks(np.stack([self.frame.mask(one) for one in guess.logits]), guess.scores, self.name)
