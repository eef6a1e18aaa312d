"""SAM as a pair of ONNX files, encoder and decoder, through onnxruntime: MobileSAM and other exports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import ModelError
from .protocol import Remembering
from .sam import LOWER_RIGHT, EncodedSam, Frame

_DECODER_INPUTS = {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"}


@dataclass(frozen=True)
class OnnxSam(Remembering):
    """The sessions of an encoder (1 3 S S, normalised) and of SAM's decoder."""

    name: str
    encoder: Any
    decoder: Any

    def look(self, pixels: UInt8[np.ndarray, "H W 3"]) -> EncodedSam:
        """Runs the encoder once."""
        entry = self.encoder.get_inputs()[0]
        frame = Frame((pixels.shape[0], pixels.shape[1]), side=int(entry.shape[-1]))
        (embedding,) = self.encoder.run(None, {entry.name: frame.picture(pixels)[None]})

        def decode(
            points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], previous: Float[np.ndarray, "h w"] | None
        ) -> tuple[Float[np.ndarray, "4 h w"], Float[np.ndarray, "4"]]:
            if LOWER_RIGHT not in labels:  # the exported prompt encoder expects a padding point where there is no box
                points, labels = np.vstack([points, np.zeros((1, 2))]), np.append(labels, -1)
            side = 4 * embedding.shape[-1]
            given = np.zeros((side, side), np.float32) if previous is None else previous
            logits, quality = self.decoder.run(
                None,
                {
                    "image_embeddings": embedding,
                    "point_coords": points[None].astype(np.float32),
                    "point_labels": labels[None].astype(np.float32),
                    "mask_input": given[None, None],
                    "has_mask_input": np.array([previous is not None], np.float32),
                },
            )
            return logits[0], quality[0]

        return EncodedSam(frame, decode, self.name)


def load_onnx(folder: Path, name: str, device: str = "auto") -> OnnxSam:
    """The pair in a folder: the encoder is the file with "encoder" in its name, the decoder the other one.

    Raises ModelError where one is missing, cannot be read, or is no part of a Segment Anything model.
    """
    files = sorted(folder.glob("*.onnx"))
    encoders = [file for file in files if "encoder" in file.stem.lower()]
    decoders = [file for file in files if file not in encoders]
    for kind, found in (("encoder", encoders), ("decoder", decoders)):
        if len(found) != 1:
            raise ModelError(
                f"{folder} holds {len(found)} SAM {kind}s as ONNX; one encoder and its decoder are needed."
            )
    encoder = _session(encoders[0].read_bytes(), encoders[0], device)
    decoder = _session(_all_masks(decoders[0]), decoders[0], device)
    entries, wanted = encoder.get_inputs(), {entry.name for entry in decoder.get_inputs()}
    outputs = encoder.get_outputs()
    if len(entries) != 1 or len(outputs) != 1 or len(entries[0].shape) != 4 or wanted != _DECODER_INPUTS:
        raise ModelError(f"The ONNX files in {folder} are not an encoder and a decoder of Segment Anything.")
    height, width = entries[0].shape[2:]
    if not isinstance(width, int) or height != width:
        raise ModelError(f"{encoders[0]} takes pictures of {height} x {width}; export it for a fixed square.")
    return OnnxSam(name, encoder, decoder)


def _session(model: bytes, path: Path, device: str) -> Any:
    """An onnxruntime session on the CPU, or on CUDA where that is asked for, or is there and nothing is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would starve others
    cuda = (
        device.partition(":")[0] in ("auto", "cuda")
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    )
    providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime has one class for each status, and no common base
        raise ModelError(f"{path} is not an ONNX model that onnxruntime can run: {error}.") from error


def _all_masks(path: Path) -> bytes:
    """The decoder's graph with all four masks at low resolution as its outputs.

    SAM's export picks one mask by its predicted IoU (an ArgMax, then two Flatten and Gather, of masks and of IoUs) and
    resizes it to the photo. Both steps are cut off here: the candidates are what ranking works on, and a photo's size
    is reached without holding all of them.
    """
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error class is private
        raise ModelError(f"{path} is not an ONNX file.") from error
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    flattened = [node.input[0] for node in graph.node if node.op_type == "Flatten"]
    wanted = flattened if len(flattened) == 2 else ["low_res_masks", "iou_predictions"]
    if any(output not in made_by for output in wanted):
        raise ModelError(f"{path} is not the decoder of Segment Anything as its export script writes it.")
    needed, names = [], list(wanted)
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in made_by and name not in seen:
            needed.append(made_by[name])
            seen.update(made_by[name].output)
            names.extend(made_by[name].input)
    kept = {id(node) for node in needed}
    nodes = [node for node in graph.node if id(node) in kept]
    used = {name for node in nodes for name in node.input}
    pruned = onnx.helper.make_graph(
        nodes,
        graph.name,
        [entry for entry in graph.input if entry.name in used],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    return onnx.helper.make_model(
        pruned, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString()
