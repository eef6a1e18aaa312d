"""The Segment Anything family on tiny random models: the package, its ONNX export, transformers."""

import shutil
import warnings
from functools import partial
from hashlib import sha256

import numpy as np
import pytest
import torch
from inlay.errors import ModelError
from inlay.segmentation import Prompts
from inlay.segmentation.backends import load
from inlay.segmentation.sam import EncodedSam, Frame, Guess
from inlay.segmentation.sam_onnx import load_onnx
from inlay.segmentation.sam_package import load_checkpoint
from inlay.weights.catalogue import KnownModel, WeightFile

SIDE = 64


@pytest.fixture(scope="module")
def sam():
    """The package's own modules, 64 pixels a side."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=32,
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1,),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    decoder = MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(2, 32, 8, 64), iou_head_hidden_dim=32)
    return Sam(encoder, PromptEncoder(32, (8, 8), (SIDE, SIDE), 4), decoder).eval()


@pytest.fixture(scope="module")
def checkpoint(sam, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def onnx_folder(sam, tmp_path_factory):
    """Encoder and decoder as the package's export script writes them."""
    from segment_anything.utils.onnx import SamOnnxModel

    folder = tmp_path_factory.mktemp("onnx")
    example = {
        "image_embeddings": torch.randn(1, 32, 8, 8),
        "point_coords": torch.rand(1, 5, 2) * SIDE,
        "point_labels": torch.randint(0, 4, (1, 5)).float(),
        "mask_input": torch.randn(1, 1, 32, 32),
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([50.0, 70.0]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SamOnnxModel(sam, return_single_mask=True),
            tuple(example.values()),
            folder / "decoder.onnx",
            input_names=list(example),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "n"}, "point_labels": {1: "n"}},
            opset_version=17,
            dynamo=False,
        )
        torch.onnx.export(
            sam.image_encoder, torch.zeros(1, 3, SIDE, SIDE), folder / "encoder.onnx", opset_version=17, dynamo=False
        )
    return folder


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)


def test_a_checkpoint_gives_the_packages_own_masks(sam, checkpoint, photo):
    """Our frame, prompts and padding against the package's predictor, on the same resized pixels."""
    from segment_anything import SamPredictor
    from segment_anything.utils.transforms import ResizeLongestSide

    predictor = SamPredictor(sam)
    predictor.transform = ResizeLongestSide(SIDE)
    predictor.set_image(photo)
    encoded = load_checkpoint(checkpoint, "tiny").encode(photo)
    points, box = np.array([[20.0, 30.0], [60.0, 5.0]], np.float32), np.array([10, 5, 40, 45], np.float32)
    labels = np.array([1, 0])
    theirs, _, logits = predictor.predict(points, labels, box=box, multimask_output=False)
    scaled = np.vstack([points, box.reshape(2, 2)]) * encoded.frame.scale
    ours, _ = encoded.decode(scaled, np.array([1, 0, 2, 3]), None)
    assert np.allclose(ours[0], logits[0], atol=1e-3)
    assert (encoded.frame.mask(ours[0]) == theirs[0]).mean() > 0.99


def test_onnx_gives_what_the_package_gives(checkpoint, onnx_folder, photo):
    package, onnx = load_checkpoint(checkpoint, "tiny").encode(photo), load_onnx(onnx_folder, "tiny").encode(photo)
    for points, labels, mask in (
        ([[20, 30]], [1], False),
        ([[20, 30], [50, 10]], [1, 0], True),
        ([[5, 5], [40, 40]], [2, 3], False),
    ):
        previous = np.random.default_rng(1).normal(size=(32, 32)).astype(np.float32) if mask else None
        asked = np.array(points, np.float32), np.array(labels), previous
        for one, other in zip(package.decode(*asked), onnx.decode(*asked), strict=True):
            assert one.shape[0] == 4
            assert np.allclose(one, other, atol=1e-3)


@pytest.fixture(scope="module", params=["sam", "sam2"])
def transformers_folder(request, tmp_path_factory):
    import transformers as t

    torch.manual_seed(0)
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    if request.param == "sam":
        vision = t.SamVisionConfig(
            hidden_size=32, output_channels=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
            patch_size=16, window_size=3, global_attn_indexes=[1], mlp_dim=32, num_pos_feats=16,
        )  # fmt: skip
        model = t.SamModel(
            t.SamConfig(
                vision_config=vision,
                prompt_encoder_config={**prompts, "image_embedding_size": 4},
                mask_decoder_config=decoder,
            )
        )
    else:
        hiera = t.Sam2HieraDetConfig(
            hidden_size=8, num_attention_heads=1, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 4],
            window_size_per_stage=[2] * 4, window_positional_embedding_background_size=[2, 2],
            global_attention_blocks=[3],
        )  # fmt: skip
        vision = t.Sam2VisionConfig(
            backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=32,
        )  # fmt: skip
        model = t.Sam2Model(
            t.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
        )
    folder = tmp_path_factory.mktemp(request.param)
    model.eval().save_pretrained(folder)
    return folder


def test_transformers_models_answer_all_prompts(transformers_folder, photo):
    encoded = load(str(transformers_folder), offline=True).encode(photo)
    assert encoded.frame.stretched == ("sam2" in transformers_folder.name)
    earlier = np.zeros((50, 70), bool)
    earlier[10:30, 10:30] = True
    box = np.array([10, 5, 40, 45], np.float32)
    point = {"points": np.array([[20, 20]], np.float32), "labels": np.array([1])}
    for prompts in (Prompts(**point), Prompts(box=box), Prompts(mask=earlier), Prompts(**point, box=box)):
        found = encoded.predict(prompts)
        assert found.masks.shape == (4, 50, 70)
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        if prompts.box is not None:
            assert not found.masks[:, :5].any()
            assert not found.masks[:, :, 40:].any()


def test_auto_sees_what_came_meanwhile_and_falls_past_a_broken_model(onnx_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path))
    files = {file: sha256(file.read_bytes()).hexdigest() for file in onnx_folder.glob("*.onnx")}
    entries = tuple(WeightFile(file.name, file.stat().st_size, digest) for file, digest in files.items())
    large, small = (KnownModel(name, "", "MIT", entries, ()) for name in ("large", "small"))
    monkeypatch.setattr("inlay.segmentation.backends.KNOWN", (large, small))
    assert load().name == "grabcut"
    for model in (small, large):
        shutil.copytree(onnx_folder, model.folder)
        assert load().name == model.name
        assert load() is load()
    broken = large.folder / "decoder.onnx"
    broken.write_bytes(bytes(broken.stat().st_size))
    assert load().name == "small"
    with pytest.raises(ModelError, match="The weights of large are corrupt"):
        load("large")


def test_folders_of_one_name_have_segmenters_of_their_own(onnx_folder, tmp_path, photo):
    one, other = (shutil.copytree(onnx_folder, tmp_path / place / "sam") for place in ("a", "b"))
    first = load(str(one))
    assert load(str(one)) is first
    assert load(str(other)).encode(photo) is not first.encode(photo)
    (one / "decoder.onnx").touch()
    assert load(str(one)) is not first


def square(frame: Frame, *parts: tuple[int, int, int, int]) -> np.ndarray:
    logits = np.full((frame.side // 4,) * 2, -8, np.float32)
    for x0, y0, x1, y1 in parts:
        logits[y0:y1, x0:x1] = 8
    return logits


def drawn(frame: Frame, scores: list[float], *candidates: np.ndarray) -> tuple[EncodedSam, list]:
    """A photo whose decoder always draws these candidates, and what it was asked."""
    asked: list = []

    def decode(points, labels, previous):
        asked.append((points, labels, previous))
        return np.stack(candidates), np.array(scores, np.float32)

    return EncodedSam(frame, decode, "drawn"), asked


def test_one_click_takes_the_mask_whose_middle_it_is():
    frame = Frame((256, 256), side=256)
    whole, right = square(frame, (10, 10, 50, 50)), square(frame, (30, 10, 50, 50), (0, 0, 5, 5))
    encoded, _ = drawn(frame, [0.8, 0.9, 0.7, 0.6], whole, right, whole, right)
    middle = encoded.predict(Prompts(np.array([[122, 120]], np.float32), np.array([1])))
    assert middle.best[44:196, 44:196].all()
    beside = encoded.predict(Prompts(np.array([[160, 120]], np.float32), np.array([1])))
    assert beside.best[44:196, 124:196].all()
    assert not beside.best[:, 28:116].any()  # not the left half


def test_one_click_takes_the_mask_that_others_agree_with():
    frame = Frame((256, 256), side=256)
    whole, nearly, almost, lower = (square(frame, (10, top, 50, 50)) for top in (10, 11, 12, 28))
    encoded, _ = drawn(frame, [0.7, 0.7, 0.7, 0.9], whole, nearly, almost, lower)
    found = encoded.predict(Prompts(np.array([[60, 180]], np.float32), np.array([1])))  # off the middle of all
    assert found.best[52:196, 44:196].all()
    assert 0 < found.scores[0] < 1
    nowhere = encoded.predict(Prompts(np.array([[2, 2]], np.float32), np.array([1])))
    assert (nowhere.scores == 0).all()


def test_a_further_click_refines_the_mask_of_those_before_and_costs_one_decoder_run():
    frame = Frame((256, 256), side=256)
    encoded, asked = drawn(frame, [0.9] * 4, *[square(frame, (10, 10, 50, 50))] * 4)
    points, labels = np.array([[10, 10], [120, 120], [200, 20]], np.float32), np.array([0, 1, 0])
    for count in (2, 3):
        encoded.predict(Prompts(points[:count], labels[:count]))
    *first, second, third = asked
    assert [list(call[1]) for call in first] == [[1]] * 5  # the click and four around it
    assert all(call[2] is None for call in first)
    assert [list(second[1]), list(third[1])] == [[1, 0], [1, 0, 0]]
    assert (second[2] > 0).sum() == (third[2] > 0).sum() == 40 * 40


def test_a_glance_costs_one_decoder_run_and_scores_stability():
    frame = Frame((256, 256), side=256)
    firm = square(frame, (10, 10, 50, 50))
    vague = np.where(firm > 0, 0.5, -8).astype(np.float32)  # gone at a threshold of 1
    encoded, asked = drawn(frame, [0.8, 0.9, 1.5, 0.7], firm, vague, firm, firm)
    found = encoded.glance(np.array([120, 120], np.float32))
    assert len(asked) == 1
    assert np.allclose(found.scores, [0.8, 0, 1, 0.7])


def test_a_box_is_decoded_once_and_holds_its_mask():
    frame = Frame((256, 128), side=256)
    encoded, asked = drawn(frame, [0.9] * 4, *[square(frame, (0, 0, 32, 64))] * 4)
    found = encoded.predict(Prompts(box=np.array([20, 30, 100, 200], np.float32)))
    assert found.best.sum() == 80 * 170
    assert len(asked) == 1


@pytest.mark.parametrize("size", [(50, 70), (70, 50), (1, 9), (64, 64), (300, 200)])
@pytest.mark.parametrize("stretched", [False, True])
def test_the_frame_keeps_places(size, stretched):
    frame = Frame(size, side=256, stretched=stretched)
    mask = np.zeros(size, bool)
    mask[: -(-size[0] // 2), : -(-size[1] // 2)] = True
    again = frame.mask(frame.logits(mask))
    assert again.shape == size
    assert (again != mask).mean() < 0.06 or min(size) == 1
    assert frame.picture(np.full((*size, 3), 124, np.uint8)).shape == (3, 256, 256)


def test_candidates_come_best_first():
    logits = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 8, 8), np.float32)
    guess = Guess.single_first(logits, np.array([0.1, 0.5, 0.9, 0.7]))
    assert guess.logits[:, 0, 0].tolist() == [0, 2, 3, 1]


class Code:
    def __reduce__(self):
        return print, ("run by a pickle",)


def test_what_is_no_sam_is_refused(tmp_path, onnx_folder, sam, capsys):
    torch.save({"weights": Code()}, tmp_path / "code.pth")
    torch.save({"model": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({**sam.state_dict(), "mask_decoder.iou_token.weight": torch.zeros(2, 32)}, tmp_path / "bent.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    (tmp_path / "one.onnx").write_bytes(b"junk")
    for name, said in (
        ("code.pth", "is refused"),
        ("other.pth", "something else than Segment Anything"),
        ("bent.pth", "does not fit"),
        ("junk.pth", "junk.pth"),
        ("one.onnx", "folder with the encoder and its decoder"),
    ):
        with pytest.raises(ModelError, match=said):
            load(str(tmp_path / name))
    assert "run by a pickle" not in capsys.readouterr().out


@pytest.mark.parametrize("sides", [("height", "width"), (SIDE, 2 * SIDE)])
def test_an_encoder_of_no_fixed_square_is_refused(tmp_path, onnx_folder, sides):
    import onnx

    model = onnx.load(onnx_folder / "encoder.onnx")
    for side, said in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], sides, strict=True):
        setattr(side, "dim_param" if isinstance(said, str) else "dim_value", said)
    onnx.save(model, tmp_path / "encoder.onnx")
    shutil.copy(onnx_folder / "decoder.onnx", tmp_path)
    with pytest.raises(ModelError, match=r"export it for a fixed square|not an ONNX model that onnxruntime can run"):
        load(tmp_path)


def test_an_encoder_without_its_decoder_is_refused(tmp_path, onnx_folder):
    (tmp_path / "encoder.onnx").write_bytes((onnx_folder / "encoder.onnx").read_bytes())
    with pytest.raises(ModelError, match="0 SAM decoders"):
        load(str(tmp_path))
    (tmp_path / "sam.onnx").write_bytes((onnx_folder / "encoder.onnx").read_bytes())
    with pytest.raises(ModelError, match="not the decoder"):
        load(str(tmp_path))
    (tmp_path / "sam.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match="not an ONNX file"):
        load(str(tmp_path))
