"""SAM by the segment-anything package: vit_b, vit_l, vit_h checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import ModelError
from .sam import LOWER_RIGHT, UPPER_LEFT, EncodedSam, Frame

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # of the image encoder's tokens


@dataclass(frozen=True)
class PackageSam:
    """A `segment_anything.modeling.Sam`, on the device that its weights are on."""

    name: str
    model: "Sam"

    def encode(self, pixels: UInt8[np.ndarray, "H W 3"]) -> EncodedSam:
        """Runs the image encoder once."""
        import torch

        model, device = self.model, self.model.device
        frame = Frame((pixels.shape[0], pixels.shape[1]), side=model.image_encoder.img_size)
        with torch.no_grad():
            embedding = model.image_encoder(torch.from_numpy(frame.picture(pixels)[None]).to(device))

        @torch.no_grad()
        def decode(
            points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], previous: Float[np.ndarray, "h w"] | None
        ) -> tuple[Float[np.ndarray, "4 h w"], Float[np.ndarray, "4"]]:
            xy, marks = torch.from_numpy(points).to(device, torch.float32), torch.from_numpy(labels).to(device)
            corner = (marks == UPPER_LEFT) | (marks == LOWER_RIGHT)
            sparse, dense = model.prompt_encoder(
                points=(xy[None, ~corner], marks[None, ~corner]) if (~corner).any() else None,
                boxes=xy[corner].reshape(1, 4) if corner.any() else None,
                masks=None if previous is None else torch.from_numpy(previous)[None, None].to(device),
            )
            logits, quality = model.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
            return logits[0].float().cpu().numpy(), quality[0].float().cpu().numpy()

        return EncodedSam(frame, decode, self.name)


def load_checkpoint(path: Path, name: str | None = None, device: str = "cpu") -> PackageSam:
    """The model of a checkpoint file; vit_b, vit_l or vit_h is told by its weights.

    The file is read with `weights_only`: a pickle with code in it is refused. Raises ModelError for that, and for a
    checkpoint of another kind.
    """
    from pickle import UnpicklingError

    import torch
    from segment_anything import sam_model_registry

    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(f"{path} is refused: it is no plain checkpoint, and unpickling it could run code.") from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as a checkpoint: {error}.") from error
    first = weights.get("image_encoder.patch_embed.proj.weight") if isinstance(weights, dict) else None
    kind = _WIDTHS.get(first.shape[0]) if isinstance(first, torch.Tensor) else None
    if kind is None:
        raise ModelError(f"{path} is a checkpoint of something else than Segment Anything vit_b, vit_l or vit_h.")
    model = sam_model_registry[kind]()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit Segment Anything {kind}: {str(error).splitlines()[0]}.") from error
    return PackageSam(name or path.stem, model.eval().requires_grad_(False).to(device))
