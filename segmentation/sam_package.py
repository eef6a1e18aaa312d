"""SAM by the segment-anything package: vit_b, vit_l, vit_h checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import ModelError
from .protocol import Remembering
from .sam import LOWER_RIGHT, UPPER_LEFT, EncodedSam, Frame

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor


@dataclass(frozen=True)
class PackageSam(Remembering):
    """A `segment_anything.modeling.Sam`, on the device that its weights are on."""

    name: str
    model: "Sam"

    def look(self, pixels: UInt8[np.ndarray, "H W 3"]) -> EncodedSam:
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


def load_checkpoint(path: Path, name: str, device: str = "cpu") -> PackageSam:
    """The model of a checkpoint file; its sizes (vit_b, vit_l, vit_h, or another) are read off its weights.

    The file is read with `weights_only`: a pickle with code in it is refused. Raises ModelError for that, and for a
    checkpoint of another kind.
    """
    from pickle import UnpicklingError

    import torch

    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(f"{path} is refused: it is no plain checkpoint, and unpickling it could run code.") from error
    except Exception as error:  # the unpickler meets other files with every kind of exception
        raise ModelError(f"{path} cannot be read as a checkpoint: {error}.") from error
    try:
        model = build(weights)
        model.load_state_dict(weights)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path} is a checkpoint of something else than Segment Anything.") from error
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit Segment Anything: {str(error).splitlines()[0]}.") from error
    return PackageSam(name, model.eval().requires_grad_(False).to(device))


def build(weights: "dict[str, Tensor]") -> "Sam":
    """An untrained `Sam` of the sizes that these weights have; as in segment_anything.build_sam."""
    from functools import partial

    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width, _, patch, _ = weights["image_encoder.patch_embed.proj.weight"].shape
    grid = weights["image_encoder.pos_embed"].shape[1]
    channels = weights["mask_decoder.iou_token.weight"].shape[1]
    depth = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("image_encoder.blocks."))
    offsets = [weights[f"image_encoder.blocks.{k}.attn.rel_pos_h"].shape for k in range(depth)]  # (2 window - 1, head)
    everywhere = tuple(k for k, (length, _) in enumerate(offsets) if length == 2 * grid - 1)
    windows = {(length + 1) // 2 for length, _ in offsets} - {grid}
    encoder = ImageEncoderViT(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=width // offsets[0][1],
        mlp_ratio=weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        out_chans=channels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=windows.pop() if windows else 0,
        global_attn_indexes=everywhere,
    )
    prompts = PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(grid * patch, grid * patch),
        mask_in_chans=weights["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )
    transformer = TwoWayTransformer(
        depth=1 + max(int(key.split(".")[3]) for key in weights if key.startswith("mask_decoder.transformer.layers.")),
        embedding_dim=channels,
        mlp_dim=weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        num_heads=8,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=weights["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        transformer=transformer,
        transformer_dim=channels,
        iou_head_hidden_dim=weights["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )
    return Sam(encoder, prompts, decoder)
