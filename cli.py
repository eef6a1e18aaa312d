"""The command line `inlay`: parse, call one library function, save, report.

Options are declared once, as Annotated types. A command's parameters are named as the fields of `Job` and `Setup`, and
None means that an option was not given, so the library's defaults and the settings of `--from` hold. Nothing heavy is
imported before a command runs.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import __version__
from .errors import InlayError, ModelError, OutOfMemoryError, UsageError

if TYPE_CHECKING:
    from .editing.job import Job
    from .jobs.perform import Setup

OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
OPTIONS |= {"context_settings": {"help_option_names": ["-h", "--help"]}, "add_completion": False}
app = typer.Typer(help="Edit real photos: point at a thing, say what should be there, keep the rest.", **OPTIONS)
models = typer.Typer(help="List, download and verify model weights.", **OPTIONS)
evaluation = typer.Typer(help="Measure methods on a dataset, as the papers do.", **OPTIONS)
app.add_typer(models, name="models")
app.add_typer(evaluation, name="evaluate")


def opt(names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names.split(), help=help, metavar=metavar, show_default=False)


Flag = bool | None
Text = str | None
Texts = list[str] | None
File = Path | None

PhotoFile = Annotated[File, typer.Argument(metavar="PHOTO", help="The photo to edit.", show_default=False)]
Point = Annotated[Texts, opt("--point", "A pixel of the thing; with ,0 one of what it is not. Repeatable.", "X,Y[,0]")]
Box = Annotated[Texts, opt("--box", "A box around the thing. Repeatable.", "X0,Y0,X1,Y1")]
Select = Annotated[Text, opt("--select", "Find the thing by what it is.", "TEXT")]
Pick = Annotated[Text, opt("--pick", "Which of several candidates: best, largest, all, or a number from 1. [best]")]
Mask = Annotated[Texts, opt("--mask", "Mask file, white = edit: PNG, TIFF, or COCO run lengths (JSON).", "FILE")]
MaskRead = Annotated[
    Text, opt("--mask-read", "threshold: half white and more; opacity: grey blends; alpha: FILE's alpha. [threshold]")
]
MaskFit = Annotated[Text, opt("--mask-fit", "exact refuses a mask of another size, resize brings it to it. [exact]")]
MaskGrow = Annotated[float | None, opt("--mask-grow", "Grow the mask by so many pixels; below 0 shrinks. [0]")]
MaskFeather = Annotated[float | None, opt("--mask-feather", "Soften the mask over so many pixels outside it. [0]")]
MaskInvert = Annotated[Flag, opt("--mask-invert/--no-mask-invert", "Edit everything else.")]
MaskFillHoles = Annotated[Flag, opt("--mask-fill-holes/--no-mask-fill-holes", "Close holes in the mask.")]
Segmenter = Annotated[Text, opt("--segmenter", "Who makes masks: auto, grabcut, sam, or weights. [auto]")]
Layout = Annotated[Text, opt("--layout", "Places and their words: layout.json, or a picture with --colour.", "FILE")]
Colour = Annotated[Texts, opt("--colour", "What a colour of the layout picture means. Repeatable.", "#RRGGBB=WORDS")]
Prompt = Annotated[Text, opt("--prompt -p", "What should be there.", "TEXT")]
Negative = Annotated[Text, opt("--negative-prompt", "What should not.", "TEXT")]
Words = Annotated[
    Texts,
    opt(
        "--words",
        "Words of the prompt that belong in the mask; once for each --box or --mask. "
        "[with a --method all but stop words]",
        "TEXT",
    ),
]
Method = Annotated[
    Text,
    opt(
        "--method",
        "plain, or guidance by name: masked-attention:alpha=0.3:fraction=0.5 sets two parameters, "
        "zest+paint-with-words joins two. [masked-attention where there is a --layout or --words, else plain]",
        "METHOD",
    ),
]
Seed = Annotated[int | None, opt("--seed", "Image k is made from seed + k alone. [0]")]
Count = Annotated[int | None, opt("--num-images -n", "How many candidates. [1]")]
Steps = Annotated[int | None, opt("--steps", "Denoising steps. [50]")]
Scale = Annotated[float | None, opt("--guidance-scale", "Strength of classifier-free guidance. [the model's own]")]
Scheduler = Annotated[
    Text, opt("--scheduler", "ddim, ddpm, euler, euler-a, dpm++2m, deis, lms, lcm or tcd. [ddim]", "NAME")
]
Strength = Annotated[float | None, opt("--strength", "Above 0, to 1: how much is painted anew. [1]")]
Invert = Annotated[Flag, opt("--invert/--no-invert", "Start from the photo's DDIM inversion in place of noise.")]
Source = Annotated[Text, opt("--source-prompt", "What the photo shows now, for --invert.", "TEXT")]
Shrink = Annotated[Flag, opt("--shrink/--no-shrink", "Begin with a grown mask, for thin places.")]
Background = Annotated[Text, opt("--background", "composite, or decoder: also tune the decoder. [composite]")]
Composite = Annotated[Text, opt("--composite", "feather or poisson. [feather]")]
Feather = Annotated[
    float | None, opt("--feather", "Pixels outside the mask over which the edit fades. [half a latent cell]")
]
MatchColour = Annotated[Flag, opt("--match-colour/--no-match-colour", "Bring the edit to the tone around it.")]
Context = Annotated[
    float | None, opt("--context", "How much of the surroundings the model sees, in mask lengths. [0.5]")
]
Split = Annotated[Flag, opt("--split/--no-split", "Edit distant places in windows of their own. [yes]")]
Frame = Annotated[int | None, opt("--frame", "Which picture of an animation or multi-page file, from 0.")]
MaxPixels = Annotated[int | None, opt("--max-pixels", "Refuse larger photos. [178956970]")]
Size = Annotated[Text, opt("--size", "Size of the picture. [the model's own]", "WIDTHxHEIGHT")]
ModelName = Annotated[
    Text,
    opt("--model -m", "toybox, toybox-256, a diffusers folder, .safetensors file or hub id. [toybox]", "MODEL"),
]
Config = Annotated[File, opt("--config", "Configurations that a single file lacks.", "DIR")]
Device = Annotated[Text, opt("--device", "auto, cpu, cuda, cuda:1, mps. [auto]")]
Dtype = Annotated[Text, opt("--dtype", "auto, float32, float16, bfloat16. [auto]")]
Offline = Annotated[Flag, opt("--offline", "Use what is on this machine alone.")]
Pickle = Annotated[Flag, opt("--allow-pickle", "Also load weights in formats that can run code.")]
Ranker = Annotated[File, opt("--ranker", "CLIP weights that rank the candidates. [toybox ranks its own]", "DIR")]
Output = Annotated[Path, opt("--output -o", "PNG, JPEG, WebP or TIFF; with several images OUT-1, OUT-2, ...", "OUT")]
From = Annotated[File, opt("--from", "Take the settings stored in a result; other options override them.", "RESULT")]
Preview = Annotated[bool, opt("--preview", "Also write a sheet: photo, mask, candidates.")]
Attention = Annotated[File, opt("--save-attention", "Write where each word looks, as pictures.", "DIR")]
Overwrite = Annotated[bool, opt("--overwrite", "Replace files that exist.")]
Json = Annotated[bool, opt("--json", "Print a record for each result, one line each, in place of its path.")]
Quiet = Annotated[bool, opt("--quiet -q", "No progress, no notes; errors alone.")]
Debug = Annotated[bool, opt("--debug", "Show where an error came from.")]


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inlay {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True)] = False) -> None:
    pass


@app.command()
def edit(
    ctx: typer.Context,
    output: Output,
    photo: PhotoFile = None,
    prompt: Prompt = None,
    point: Point = None,
    box: Box = None,
    select: Select = None,
    pick: Pick = None,
    mask: Mask = None,
    layout: Layout = None,
    colour: Colour = None,
    negative_prompt: Negative = None,
    seed: Seed = None,
    num_images: Count = None,
    steps: Steps = None,
    guidance_scale: Scale = None,
    strength: Strength = None,
    method: Method = None,
    words: Words = None,
    scheduler: Scheduler = None,
    invert: Invert = None,
    source_prompt: Source = None,
    shrink: Shrink = None,
    background: Background = None,
    composite: Composite = None,
    feather: Feather = None,
    match_colour: MatchColour = None,
    context: Context = None,
    split: Split = None,
    mask_grow: MaskGrow = None,
    mask_feather: MaskFeather = None,
    mask_invert: MaskInvert = None,
    mask_fill_holes: MaskFillHoles = None,
    mask_read: MaskRead = None,
    mask_fit: MaskFit = None,
    frame: Frame = None,
    max_pixels: MaxPixels = None,
    segmenter: Segmenter = None,
    model: ModelName = None,
    config: Config = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = None,
    allow_pickle: Pickle = None,
    ranker: Ranker = None,
    preview: Preview = False,
    save_attention: Attention = None,
    from_result: From = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Paint a place in a photo anew; all else stays as it was.

    inlay edit coffee.png --box 170,15,425,330 -p "a red apple" -o apple.png
    """
    make("edit", ctx.params)


@app.command()
def generate(
    ctx: typer.Context,
    output: Output,
    prompt: Prompt = None,
    layout: Layout = None,
    colour: Colour = None,
    size: Size = None,
    negative_prompt: Negative = None,
    seed: Seed = None,
    num_images: Count = None,
    steps: Steps = None,
    guidance_scale: Scale = None,
    method: Method = None,
    scheduler: Scheduler = None,
    model: ModelName = None,
    config: Config = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = None,
    allow_pickle: Pickle = None,
    save_attention: Attention = None,
    from_result: From = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a picture from a prompt, or from a layout.

    inlay generate -p "a red apple on grass" -o apple.png
    """
    make("generate", ctx.params)


@app.command("mask")
def make_mask(
    ctx: typer.Context,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photo.", show_default=False)],
    output: Annotated[Path, opt("--output -o", "PNG or TIFF (white = edit), or COCO run lengths (JSON).", "MASK")],
    point: Point = None,
    box: Box = None,
    select: Select = None,
    pick: Pick = None,
    mask: Mask = None,
    mask_grow: MaskGrow = None,
    mask_feather: MaskFeather = None,
    mask_invert: MaskInvert = None,
    mask_fill_holes: MaskFillHoles = None,
    mask_read: MaskRead = None,
    mask_fit: MaskFit = None,
    frame: Frame = None,
    max_pixels: MaxPixels = None,
    segmenter: Segmenter = None,
    offline: Offline = None,
    overlay: Annotated[File, opt("--overlay", "Also write the photo with the mask in colour.", "FILE")] = None,
    candidates: Annotated[bool, opt("--candidates", "Write all candidates: MASK-1, MASK-2, ..., best first.")] = False,
    everything: Annotated[bool, opt("--everything", "Every mask of the photo: a label map, or JSON for COCO.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a mask by pointing, to look at before the edit.

    inlay mask coffee.png --point 290,200 -o cup.png --overlay look.png
    """
    from .editing.job import Selection, checked
    from .jobs.make_masks import make_masks, map_everything

    say = speaker(quiet)
    opening = {name: value for name in ("frame", "max_pixels") if (value := ctx.params[name]) is not None}
    files: dict[str, Any] = {"overlay": overlay, "overwrite": overwrite, "offline": bool(offline), **opening}
    given = selection_of(ctx.params, {})
    if everything:
        if candidates or given.keys() - {"backend"}:
            raise UsageError("--everything stands alone: leave out --candidates and what makes or changes one mask.")
        with progress(quiet, "looking at the photo") as on_progress:
            found = map_everything(photo, output, **files, **given, on_progress=on_progress)
        say(f"{found.path}: {found.count} masks by {found.backend}, {found.share:.1%} of the photo")
        typer.echo(json.dumps(asdict(found), default=str) if as_json else found.path)
        return
    for one in make_masks(photo, checked(Selection, **given), output, candidates=candidates, **files):
        score = "" if one.score is None else f" by {one.backend}, score {one.score:.2f}"
        say(f"{one.path}: {one.share:.1%} of the photo{score}")
        typer.echo(json.dumps(asdict(one), default=str) if as_json else one.path)


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """What is on this machine, and what can be fetched."""
    from .weights.at_hand import weights_at_hand

    for one in weights_at_hand():
        typer.echo(json.dumps(asdict(one), default=str) if as_json else one)


@models.command("download")
def download_model(
    name: Annotated[str, typer.Argument(help="sam, another name of `inlay models list`, or a hub id like owner/name.")],
    offline: Offline = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch weights, or what is missing of them, and check them."""
    from .weights.at_hand import download

    with progress(quiet, f"fetching {name}") as on_progress:
        folder = download(name, offline=bool(offline), on_progress=on_progress)
    typer.echo(folder)


@models.command("verify")
def verify_model(
    name: Annotated[str | None, typer.Argument(help="Default: all that are on this machine.")] = None,
    debug: Debug = False,
) -> None:
    """Read weights whole and compare them with their published hashes."""
    from .weights.at_hand import verify

    states = verify(name)
    for file, state in states.items():
        typer.echo(f"{file}: {state}")
    if bad := sorted({file.partition("/")[0] for file, state in states.items() if state != "ready"}):
        raise ModelError(f"Not whole: {', '.join(bad)}; for each run: inlay models download NAME.")


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from .weights.doctor import examine

    findings = examine()
    typer.echo(json.dumps(findings) if as_json else "\n".join(f"{name:13} {found}" for name, found in findings.items()))


Dataset = Annotated[str, opt("--dataset", "A folder or instances file in COCO format, or toybox.")]
Methods = Annotated[str, opt("--methods", "Methods between commas, as for --method.")]
Sweep = Annotated[Text, opt("--sweep", "A method with a list as one value, as masked-attention:alpha=0.01,0.04.")]
Folders = Annotated[Texts, opt("--images", "Score images made elsewhere. Repeatable.", "NAME=DIR")]
Protocol = Annotated[Text, opt("--protocol", "Which scenes, and their prompts. [all, or same to edit]")]
Judge = Annotated[str, opt("--segmenter", "judge, guide, a transformers model, or a folder of label maps. [judge]")]
Features = Annotated[str, opt("--features", "Network of the Frechet distance: judge, inception or clip. [judge]")]
Limit = Annotated[int | None, opt("--limit", "How many scenes at most.")]
Seeds = Annotated[str, opt("--seeds", "Seeds between commas, one image each. [0]")]
Folder = Annotated[Path, opt("--output -o", "Folder for images, results.json and report.md.", "DIR")]


@evaluation.command("generate")
def evaluate_generate(
    ctx: typer.Context,
    output: Folder,
    dataset: Dataset = "toybox",
    methods: Methods = "",
    sweep: Sweep = None,
    images: Folders = None,
    protocol: Protocol = None,
    segmenter: Judge = "judge",
    features: Features = "judge",
    limit: Limit = None,
    seeds: Seeds = "0",
    steps: Annotated[int, opt("--steps", "Denoising steps. [25]")] = 25,
    guidance_scale: Scale = None,
    size: Size = None,
    model: ModelName = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Generate every scene's layout with each method, and score it."""
    measure("generate", ctx.params)


@evaluation.command("edit")
def evaluate_edit(
    ctx: typer.Context,
    output: Folder,
    dataset: Dataset = "toybox",
    methods: Methods = "",
    sweep: Sweep = None,
    images: Folders = None,
    protocol: Protocol = None,
    segmenter: Judge = "judge",
    features: Features = "judge",
    limit: Limit = None,
    seeds: Seeds = "0",
    steps: Annotated[int, opt("--steps", "Denoising steps. [25]")] = 25,
    guidance_scale: Scale = None,
    model: ModelName = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Edit every scene's picture with each method, and score it."""
    measure("edit", ctx.params)


def measure(task: Literal["generate", "edit"], options: dict[str, Any]) -> None:
    """Run an evaluation and print where its report is."""
    from .evaluation import evaluate
    from .jobs.perform import editor_for

    model = options["model"] or "toybox"
    evaluate(
        task,
        options["dataset"],
        output=options["output"],
        methods=[name for name in options["methods"].split(",") if name],
        sweep=options["sweep"],
        folders={name: Path(folder) for name, folder in map(pair, options["images"] or ())},
        editor=editor_for(model, setup_of(options)) if options["methods"] or options["sweep"] else None,
        protocol=options["protocol"],
        segmenter=options["segmenter"],
        features=options["features"],
        limit=options["limit"],
        seeds=[whole(seed) for seed in options["seeds"].split(",")],
        steps=options["steps"],
        guidance_scale=options["guidance_scale"],
        size=size(options["size"]) if options.get("size") else None,
        progress=not options["quiet"] and sys.stderr.isatty(),
    )
    typer.echo(options["output"] / "report.md")


def make(action: Literal["edit", "generate"], options: dict[str, Any]) -> None:
    """Parse, check the outputs, do the job, save its pictures, best first, and report them."""
    from .diffusion.startup import import_lightly
    from .jobs.outputs import Outputs
    from .jobs.perform import perform

    say = speaker(options["quiet"])
    job = job_of(action, options)
    preview, attention = options.get("preview", False), options["save_attention"]
    outputs = Outputs(options["output"], job.num_images, options["overwrite"], preview, attention, job.seed)
    outputs.check()
    with progress(options["quiet"], "loading the model") as on_step:
        import_lightly()
        performed = perform(job, setup_of(options), attention=attention is not None, on_step=on_step)
    written = outputs.save(performed)
    for note in dict.fromkeys([*performed.notes, *(note for one in written for note in one.warnings)]):
        say(note)
    for one in written:
        typer.echo(one.record() if options["as_json"] else one.path)


SELECTION = {
    "text": "select",
    "pick": "pick",
    "files": "mask",
    "read": "mask_read",
    "fit": "mask_fit",
    "backend": "segmenter",
    "fill_holes": "mask_fill_holes",
    "grow": "mask_grow",
    "invert": "mask_invert",
    "feather": "mask_feather",
}
"""Which option gives a field of `Selection`."""
ABSENT: tuple[Any, ...] = (None, (), [])


def job_of(action: Literal["edit", "generate"], options: dict[str, Any]) -> "Job":
    """The stored settings of `--from`, if given, under what the command line says."""
    from .editing.job import POINTING, Job, checked, parse_methods, stored_job

    before: dict[str, Any] = stored_job(options["from_result"], action) if options["from_result"] else {}
    given = {name: value for name in Job.model_fields if (value := options.get(name)) not in ABSENT}
    if options["method"] is not None:
        given["methods"] = parse_methods(options["method"])
    if options.get("size"):
        given["size"] = size(options["size"])
    if options["colour"]:
        given["colours"] = dict(pair(text) for text in options["colour"])
    if "photo" in given:
        given["photo"] = str(given["photo"])
    if action == "edit":
        selection = selection_of(options, {} if options["layout"] else before.get("selection") or {})
        given["selection"] = selection
        if selection.keys() & set(POINTING):
            before.pop("layout", None)
    fields = {"action": action, **before, **given}
    if fields.get("layout"):
        fields.setdefault("prompt", "")
    if "prompt" not in fields:
        raise UsageError("Say what should be there: --prompt TEXT.")
    return checked(Job, **fields)


def selection_of(options: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `Selection`. What points replaces all stored pointing; what changes the mask, its own field."""
    from .editing.job import POINTING

    given = {field: value for field, name in SELECTION.items() if (value := options[name]) not in ABSENT}
    if options["point"]:
        points = [point(text) for text in options["point"]]
        given |= {"points": [(x, y) for x, y, _ in points], "labels": [label for _, _, label in points]}
    if options["box"]:
        given["boxes"] = [numbers(text, (4,), "X0,Y0,X1,Y1") for text in options["box"]]
    if given.keys() & set(POINTING):
        before = {field: value for field, value in before.items() if field not in POINTING}
    return before | given


def setup_of(options: dict[str, Any]) -> "Setup":
    """Where and with which permissions to run."""
    from .jobs.perform import Setup

    names = Setup.__dataclass_fields__
    return Setup(**{name: value for name in names if (value := options.get(name)) is not None})


def numbers(text: str, counts: tuple[int, ...], form: str) -> tuple[float, ...]:
    """Numbers between commas, as many as one of `counts`."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in counts:
        raise UsageError(f"{text!r} is not {form}.")
    return values


def point(text: str) -> tuple[float, float, int]:
    x, y, *label = numbers(text, (2, 3), "a point X,Y or X,Y,0")
    if label not in ([], [0], [1]):
        raise UsageError(f"The third number of {text!r} is 1 for this thing or 0 for not this.")
    return x, y, int(label[0]) if label else 1


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as (height, width)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r} is not WIDTHxHEIGHT, such as 512x384.")
    return int(height), int(width)


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not of the form A=B.")
    return name.strip(), value.strip()


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a whole number.") from error


def speaker(quiet: bool) -> Callable[[str], None]:
    """Writes notes to stderr, or nowhere."""
    return lambda text: None if quiet else typer.echo(f"inlay: {text}", err=True)


@contextmanager
def progress(quiet: bool, doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, with steps or bytes and the time left; None elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(doing, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total, description="working")


def main() -> None:
    """Run the command line and exit with its code; errors meant for the user are one sentence on stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(prog_name="inlay")
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(explained(error))


def explained(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    if not isinstance(error, InlayError) and (isinstance(error, MemoryError) or "out of memory" in str(error)):
        error = OutOfMemoryError("Memory ran out; choose a smaller photo, --size or model.")
    if isinstance(error, InlayError):
        typer.echo(f"inlay: {error}", err=True)
        return error.exit_code
    typer.echo(f"inlay: unexpected {type(error).__name__}: {error}; --debug shows where.", err=True)
    return 1
