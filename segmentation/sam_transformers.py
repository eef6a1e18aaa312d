"""SAM and SAM 2 through transformers, from a local folder or the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import ModelError
from ..weights.hub import from_pretrained
from .protocol import Remembering
from .sam import LOWER_RIGHT, UPPER_LEFT, EncodedSam, Frame

_CLASSES = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}


@dataclass(frozen=True)
class TransformersSam(Remembering):
    """A transformers `SamModel` or `Sam2Model`."""

    name: str
    model: Any

    def look(self, pixels: UInt8[np.ndarray, "H W 3"]) -> EncodedSam:
        """Runs the vision encoder once. SAM pads the photo to a square, SAM 2 stretches it."""
        import torch

        model, second = self.model, type(self.model).__name__ == "Sam2Model"
        side = model.config.prompt_encoder_config.image_size
        frame = Frame((pixels.shape[0], pixels.shape[1]), side=side, stretched=second)
        picture = torch.from_numpy(frame.picture(pixels)[None]).to(model.device, model.dtype)
        with torch.no_grad():
            embeddings = model.get_image_embeddings(picture)

        @torch.no_grad()
        def decode(
            points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], previous: Float[np.ndarray, "h w"] | None
        ) -> tuple[Float[np.ndarray, "4 h w"], Float[np.ndarray, "4"]]:
            corner = (labels == UPPER_LEFT) | (labels == LOWER_RIGHT)
            xy = torch.from_numpy(points).to(model.device, model.dtype)
            prompts: dict[str, Any] = {"image_embeddings": embeddings}
            if not corner.all():
                prompts["input_points"] = xy[~corner][None, None]
                prompts["input_labels"] = torch.from_numpy(labels[~corner])[None, None].to(model.device)
            if corner.any():
                prompts["input_boxes"] = xy[corner].reshape(1, 1, 4)
            if previous is not None:
                prompts["input_masks"] = torch.from_numpy(previous)[None, None].to(model.device, model.dtype)
            both = [model(**prompts, multimask_output=many) for many in (False, True)]
            logits = torch.cat([found.pred_masks[0, 0] for found in both])
            quality = torch.cat([found.iou_scores[0, 0] for found in both])
            return logits.float().cpu().numpy(), quality.float().cpu().numpy()

        return EncodedSam(frame, decode, self.name)


def load_transformers(folder: Path, name: str, device: str = "cpu") -> TransformersSam:
    """SAM or SAM 2 from a folder; safetensors only. Raises ModelError for any other model."""
    import transformers

    config = from_pretrained(transformers.AutoConfig, str(folder), True)
    kind = _CLASSES.get(config.model_type)
    if kind is None:
        raise ModelError(f"{name} is a {config.model_type} model; SAM or SAM 2 is needed here.")
    model = from_pretrained(getattr(transformers, kind), str(folder), True)
    return TransformersSam(name, model.eval().requires_grad_(False).to(device))
