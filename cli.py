"""The command line `inlay`: parse, call one library function, save, report.

The options of a job are the fields of its record in `inlay.editing.job`, where each is declared once; here stand only
those of the command line itself. An option that is not given is None, so the record's defaults and the settings of
`--from` hold. Nothing heavy is imported before a command runs.
"""

import errno
import inspect
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from . import __version__
from .editing.job import (
    Contrast,
    EditJob,
    ExtendJob,
    Frozen,
    GenerateJob,
    Job,
    Kind,
    MaskJob,
    Method,
    RemoveJob,
    Setup,
    Shell,
    checked,
    merged,
    says,
)
from .errors import BatchError, InlayError, ModelError, OutOfMemoryError, UsageError
from .evaluation.job import AnyEvaluation, EditEvaluation, GenerateEvaluation, RemoveEvaluation
from .jobs.batching import Batching, Rows

if TYPE_CHECKING:
    from .jobs.rows import Outcome

OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
OPTIONS |= {"context_settings": {"help_option_names": ["-h", "--help"]}}
app = typer.Typer(help="Edit real photos: point at a thing, say what should be there, keep the rest.", **OPTIONS)
models = typer.Typer(help="List, download and verify model weights.", **OPTIONS)
evaluation = typer.Typer(help="Measure methods on a dataset, as the papers do.", **OPTIONS)
app.add_typer(models, name="models")
app.add_typer(evaluation, name="evaluate")


def opt(names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names.split(), help=help, metavar=metavar, show_default=False)


class Writing(Frozen):
    """What the command line writes, and whether it may."""

    output: Annotated[
        Path,
        says("PNG, JPEG, WebP or TIFF; with several images OUT-1, OUT-2, ...; - for standard output, a PNG."),
        Shell("-o", "OUT"),
    ]
    save_attention: Annotated[Path | None, says("Write where each word looks, as pictures."), Shell(metavar="DIR")] = (
        None
    )
    from_result: Annotated[
        Path | None,
        says("Take the settings stored in a result; other options override them."),
        Shell("--from", metavar="RESULT"),
    ] = None
    overwrite: Annotated[bool, says("Replace files that exist.")] = False


class Previewing(Frozen):
    """What an edit writes beside its pictures."""

    preview: Annotated[bool, says("Also write a sheet: photo, mask, candidates.")] = False


class Masking(Frozen):
    """What `inlay mask` writes."""

    output: Annotated[
        Path,
        says("PNG or TIFF (white = edit), or COCO run lengths (JSON); - for standard output, a PNG."),
        Shell("-o", "MASK"),
    ]
    overlay: Annotated[Path | None, says("Also write the photo with the mask in colour."), Shell(metavar="FILE")] = None
    candidates: Annotated[bool, says("Write all candidates: MASK-1, MASK-2, ..., best first.")] = False
    everything: Annotated[bool, says("Every mask of the photo: a label map, or JSON for COCO.")] = False
    overwrite: Annotated[bool, says("Replace files that exist.")] = False


class Saying(Frozen):
    """What the command line says, and how."""

    as_json: Annotated[
        bool, says("Print a record for each result, one line each, in place of its path."), Shell("--json")
    ] = False
    quiet: Annotated[bool, says("No progress, no notes; errors alone."), Shell("-q")] = False
    verbose: Annotated[bool, says("Say each step, also where there is no terminal.")] = False
    debug: Annotated[bool, says("Show where an error came from.")] = False


class Together(Frozen):
    """What `inlay batch` reads and writes."""

    sources: Annotated[
        tuple[str, ...],
        says("JSONL, CSV or Parquet with a row a line, - for standard input; or photos, folders, patterns in quotes."),
        Shell(metavar="SOURCE..."),
    ] = ()
    output: Annotated[Path, says("Folder for pictures, ledger.jsonl, report.html, errors.jsonl."), Shell("-o", "DIR")]
    merge: Annotated[bool, says("Only join the ledgers of shards: SOURCE, or those in DIR.")] = False


class Serving(Frozen):
    """What `inlay ui` shows, and where."""

    photo: Annotated[Path | None, says("The photo to begin with.")] = None
    model: Annotated[
        str, says("The model to begin with: as for edit, or any name that --model takes there."), Shell("-m", "MODEL")
    ] = "toybox"
    segmenter: Annotated[str, says("Who makes masks: auto, grabcut, sam, or weights.")] = "auto"
    adapter: Annotated[
        tuple[str, ...],
        says(
            "A LoRA, embedding, autoencoder or control that the page may use, beside those on this machine. Repeatable."
        ),
        Shell(metavar="FILE_OR_ID"),
    ] = ()
    folder: Annotated[
        Path | None,
        says("Where photos, masks and results are kept."),
        Shell(metavar="DIR", default="inlay-history beside the photo"),
    ] = None
    port: Annotated[int, says("Where to listen.", ge=0, le=65535), Shell(default="a free one")] = 0
    host: Annotated[str, says("Another address than this machine's own opens the page to others, by its token.")] = (
        "127.0.0.1"
    )
    browser: Annotated[bool, says("Open the page in the browser.")] = True


def takes(job: type[Frozen], *others: type[Frozen]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the fields of records as options. None of `job` is required, and its switches can be set back,
    since `--from` may have settings of its own."""

    def dressed(command: Callable[..., None]) -> Callable[..., None]:
        derived = {
            name: parameter(name, field, stored=kind is job)
            for kind in (job, *others)
            for name, field in kind.model_fields.items()
            if name != "action" or len(get_args(field.annotation)) > 1  # what can be but one thing is no option
        }
        if "sources" in derived:
            del derived["photo"]
        command.__signature__ = inspect.Signature(list(derived.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: one.annotation for name, one in derived.items()}
        return command

    return dressed


def parameter(name: str, field: FieldInfo, stored: bool) -> inspect.Parameter:
    """A field as a parameter of a command: None where it is not given. A photo is an argument, all else an option."""
    shell = next((one for one in field.metadata if isinstance(one, Shell)), Shell())
    kind = next(
        (one for one in get_args(field.annotation) if type(None) in get_args(field.annotation)), field.annotation
    )
    two = tuple[str, str] if kind == Contrast else str
    taken: Any = bool if kind is bool else list[str] if repeats(kind) else two
    help, required = f"{field.description}{default_of(field, shell)}", field.is_required() and not stored
    if name in ("photo", "sources"):
        option: Any = typer.Argument(metavar=shell.metavar or "PHOTO", help=help, show_default=False)
    else:
        long = shell.name if shell.name.startswith("--") else f"--{name.replace('_', '-')}"
        names = [f"{long}/--no-{long[2:]}" if kind is bool and stored else long]
        if shell.name and long != shell.name:
            names.append(shell.name)
        metavar = None if kind is bool else shell.metavar or written_as(kind)
        option = typer.Option(*names, help=help, show_default=False, metavar=metavar)
    default = inspect.Parameter.empty if required else None
    annotation: Any = Annotated[taken if required else taken | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def repeats(kind: Any) -> bool:
    """Whether an option may be given several times."""
    return get_origin(kind) is dict or (get_args(kind)[1:] == (...,) and get_args(kind)[0] is not Method)


def default_of(field: FieldInfo, shell: Shell) -> str:
    """What holds where an option is not given, in brackets."""
    if shell.default or field.default is True:
        return f" [{shell.default or 'yes'}]"
    return (
        ""
        if field.is_required() or field.default in (None, "", (), {}) or field.default is False
        else f" [{field.default}]"
    )


def written_as(kind: Any) -> str:
    """What stands for a value in the help."""
    return "|".join(get_args(kind)) if get_origin(kind) is Literal else {int: "N", float: "NUMBER"}.get(kind, "TEXT")


Offline = Annotated[bool, opt("--offline", "Use what is on this machine alone.")]
Json = Annotated[bool, opt("--json", "Print a record for each result, one line each, in place of its path.")]
Quiet = Annotated[bool, opt("--quiet -q", "No progress, no notes; errors alone.")]
Debug = Annotated[bool, opt("--debug", "Show where an error came from.")]


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inlay {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
@takes(EditJob, Setup, Writing, Previewing, Saying)
def edit(**options: Any) -> None:
    """Paint a place in a photo anew; all else stays as it was.

    inlay edit coffee.png --box 170,15,425,330 -p "a strawberry" -o strawberry.png
    """
    make(EditJob, options)


@app.command()
@takes(RemoveJob, Setup, Writing, Previewing, Saying)
def remove(**options: Any) -> None:
    """Take a thing out of a photo; what is behind it is continued, all else stays as it was.

    inlay remove coffee.png --box 322,222,410,330 -o gone.png
    """
    make(RemoveJob, options)


@app.command()
@takes(ExtendJob, Setup, Writing, Saying)
def extend(**options: Any) -> None:
    """Make a photo larger: what lies beyond its sides is painted.

    inlay extend coffee.png --left 20% --top 100 -o wider.png
    """
    make(ExtendJob, options)


@app.command()
@takes(GenerateJob, Setup, Writing, Saying)
def generate(**options: Any) -> None:
    """Make a picture from a prompt, or from a layout.

    inlay generate -p "a red apple on grass" -o apple.png
    """
    make(GenerateJob, options)


@app.command("mask")
@takes(MaskJob, Setup, Masking, Saying)
def make_mask(**options: Any) -> None:
    """Make a mask by pointing, or from two prompts, to look at before the edit.

    inlay mask coffee.png --point 290,200 -o cup.png --overlay look.png
    """
    from .jobs.make_masks import make_masks, map_everything

    job, setup = parsed(MaskJob, options), parsed(Setup, options)
    to, how = parsed(Masking, options), parsed(Saying, options)
    say, write = speaker(how.quiet), teller(to.output, how)
    if to.everything:
        if to.candidates or job.model_fields_set - {"photo", "frame", "segmenter"}:
            raise UsageError("--everything stands alone: leave out --candidates and what makes or changes one mask.")
        with progress(how, "looking at the photo") as on_progress:
            found = map_everything(job, to.output, setup, to.overlay, to.overwrite, on_progress)
        say(f"{found.path}: {found.count} masks by {found.backend}, {found.share:.1%} of the photo")
        write(found.path, lambda: json.dumps(asdict(found), default=str))
        return
    for one in make_masks(job, to.output, setup, to.overlay, to.candidates, to.overwrite):
        score = "" if one.score is None else f" by {one.backend}, score {one.score:.2f}"
        say(f"{one.path}: {one.share:.1%} of the photo{score}")
        write(one.path, partial(json.dumps, asdict(one), default=str))


@app.command("batch")
@takes(Rows, Setup, Batching, Together, Saying)
def do_batch(**options: Any) -> None:
    """Do row after row into a folder; started again, it does what is left.

    A row says what differs from the options given here: {"photo": "a.jpg", "mask": "m.png", "prompt": "a fox"}, and its
    id and output if it likes. Defaults in brackets are those of inlay edit.

    inlay batch photos/ --masks masks/ -p "a red door" -o out
    """
    from .jobs.batch import batch, merge_ledgers

    to, how = parsed(Together, options), parsed(Saying, options)
    asked = {name: value for kind in (Rows, Setup, Batching) for name, value in given(kind, options).items()}
    outcomes = merge_ledgers(to.sources, to.output) if to.merge else batch(to.sources, to.output, **asked)
    failed, ended, say = 0, "no row", speaker(how.quiet)
    try:
        with tally(how) as count, closing(outcomes):
            for outcome in outcomes:
                ended = f"{outcome.number} of {outcome.total} rows"
                failed += outcome.state == "failed"
                count(outcome.state, outcome.total)
                tell_row(outcome, to.output, how)
    except (KeyboardInterrupt, SystemExit):
        say(f"Broken off after {ended}; the same command goes on from there.")
        raise
    if failed:
        batching = parsed(Batching, options)
        where = "" if batching.dry_run else f"; they stand in {to.output} in errors{batching.mark}.jsonl"
        raise BatchError(f"{failed} of {outcome.total} rows failed{where}.")


def tell_row(outcome: "Outcome", folder: Path, how: Saying) -> None:
    """Say what became of a row: its record or its pictures to stdout, what went wrong and notes to stderr."""
    if how.as_json:
        typer.echo(json.dumps(asdict(outcome)))
    elif outcome.state == "failed":
        typer.echo(f"inlay: {outcome.id}: {outcome.error}", err=True)
    else:
        typer.echo("\n".join(str(folder / name) for name in outcome.outputs))
    for note in outcome.notes:
        speaker(how.quiet)(f"{outcome.id}: {note}")


def make(kind: type[Job], options: dict[str, Any]) -> None:
    """Parse, check the outputs, do the job, save its pictures, best first, and report them."""
    from .jobs.headers import check_headers, never_seen
    from .jobs.outputs import Outputs
    from .jobs.stored import read_stored

    setup, to, how = parsed(Setup, options), parsed(Writing, options), parsed(Saying, options)
    stored = read_stored(to.from_result, kind, to.output, setup.max_pixels) if to.from_result else None
    job = checked(kind, **merged(stored.fields if stored else {}, given(kind, options)))
    attention = to.save_attention
    outputs = Outputs(to.output, job, to.overwrite, bool(options.get("preview")), attention)
    outputs.check()
    say, write = speaker(how.quiet), teller(to.output, how)
    for note in stored.notes if stored else ():
        say(note)
    outputs.check(check_headers(job, setup.max_pixels))
    if unknown := never_seen(job):
        say(unknown)
    from .jobs.perform import perform  # brings PyTorch: what can be refused without it has been

    with progress(how, "loading the model") as on_step:
        before = stored.record if stored else None
        performed = perform(job, setup, before=before, attention=attention is not None, on_step=on_step)
    written = outputs.save(performed)
    notes = [*performed.notes, *(note for one in written for note in one.warnings)]
    for note in dict.fromkeys(notes):
        if note != unknown:
            say(note)
    for one in written:
        write(one.path, one.record)


def given(kind: type[Frozen], options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that the command line gave."""
    return {name: options[name] for name in kind.model_fields if options.get(name) not in (None, [])}


def parsed(kind: type[Kind], options: dict[str, Any]) -> Kind:
    """A record as the command line gave it."""
    return checked(kind, **given(kind, options))


@app.command("ui")
@takes(Serving, Setup, Saying)
def show_page(**options: Any) -> None:
    """Point, brush, preview and edit in the browser.

    inlay ui coffee.png
    """
    from .ui.serve import page, show

    asked, how = parsed(Serving, options), parsed(Saying, options)
    shown = page(**asked.model_dump(exclude={"browser"}), setup=parsed(Setup, options))
    typer.echo(json.dumps({"address": shown.address}) if how.as_json else shown.address)
    sys.stdout.flush()
    if shown.warning:
        speaker(how.quiet)(shown.warning)
    if asked.browser:
        show(shown)
    shown.serve()


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """What is on this machine, and what can be fetched."""
    from .weights.at_hand import weights_at_hand

    for one in weights_at_hand():
        typer.echo(json.dumps(asdict(one), default=str) if as_json else one)


@models.command("download")
def download_model(
    name: Annotated[
        str,
        typer.Argument(help="sam, another name of `inlay models list`, or a hub id: owner/name, owner/name/file."),
    ],
    offline: Offline = False,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Also formats that can run code.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch weights, or what is missing of them, and check them."""
    from .weights.at_hand import download

    with progress(Saying(quiet=quiet), f"fetching {name}") as on_progress:
        folder = download(name, offline=offline, allow_pickle=allow_pickle, on_progress=on_progress)
    typer.echo(folder)


@models.command("verify")
def verify_model(
    name: Annotated[str | None, typer.Argument(help="Default: all that are on this machine.")] = None,
    debug: Debug = False,
) -> None:
    """Read weights whole and compare them with their published hashes."""
    from .weights.at_hand import verify

    found = verify(name)
    for file, state in (pair for states in found.values() for pair in states.items()):
        typer.echo(f"{file}: {state}")
    if bad := [one for one, states in found.items() if not set(states.values()) <= {"ready"}]:
        raise ModelError(f"Not whole: {', '.join(bad)}; for each run: inlay models download NAME.")


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from .weights.doctor import examine

    findings = examine()
    typer.echo(json.dumps(findings) if as_json else "\n".join(f"{name:13} {found}" for name, found in findings.items()))


class Reporting(Frozen):
    """Where an evaluation is written."""

    output: Annotated[Path, says("Folder for images, results.json and report.md."), Shell("-o", "DIR")]


@evaluation.command("generate")
@takes(GenerateEvaluation, Setup, Reporting, Saying)
def evaluate_generate(**options: Any) -> None:
    """Generate every scene's layout with each method, and score it."""
    measure(GenerateEvaluation, options)


@evaluation.command("edit")
@takes(EditEvaluation, Setup, Reporting, Saying)
def evaluate_edit(**options: Any) -> None:
    """Edit every scene's picture with each method, and score it."""
    measure(EditEvaluation, options)


@evaluation.command("remove")
@takes(RemoveEvaluation, Setup, Reporting, Saying)
def evaluate_remove(**options: Any) -> None:
    """Take a thing out of every scene's picture with each method, and compare with what is behind it."""
    measure(RemoveEvaluation, options)


def measure(kind: type[AnyEvaluation], options: dict[str, Any]) -> None:
    """Run an evaluation and print where its report is."""
    from .evaluation.run import measure

    how, output = parsed(Saying, options), parsed(Reporting, options).output
    measure(parsed(kind, options), output, parsed(Setup, options), progress=not how.quiet and sys.stderr.isatty())
    rows = json.loads((output / "results.json").read_text(encoding="utf-8"))["rows"]
    typer.echo("\n".join(json.dumps(row) for row in rows) if how.as_json else output / "report.md")


def speaker(quiet: bool) -> Callable[[str], None]:
    """Writes notes to stderr, or nowhere."""
    return lambda text: None if quiet else typer.echo(f"inlay: {text}", err=True)


def teller(output: Path, how: Saying) -> Callable[[Path, Callable[[], str]], None]:
    """Writes a result's path, or its record, to stdout; nothing where the picture itself goes there.

    Raises:
        UsageError: a record is asked for where the picture goes.
    """
    if output != Path("-"):
        return lambda path, record: typer.echo(record() if how.as_json else path)
    if how.as_json:
        raise UsageError("Standard output takes the picture or its record: name a file, or leave out --json.")
    return lambda path, record: None


@contextmanager
def progress(how: Saying, doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, with steps or bytes and the time left; elsewhere lines where asked for, else None."""
    if how.quiet or not (how.verbose or sys.stderr.isatty()):
        yield None
        return
    if not sys.stderr.isatty():
        yield lambda done, total: typer.echo(f"inlay: {done} of {total}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(doing, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total, description="working")


@contextmanager
def tally(how: Saying) -> Iterator[Callable[[str, int], None]]:
    """Counts rows by how they ended: done, failed, left, rows a minute and the time left.

    On a terminal with a bar, elsewhere by lines where asked for.
    """
    counts, start = Counter[str](), monotonic()

    def counted(state: str, total: int) -> str:
        counts[state] += 1
        left, pace = total - counts.total(), 60 * counts["done"] / (monotonic() - start)
        said = f"{counts['done'] + counts['skipped']} done, {counts['failed']} failed, {left} left"
        return said + (f", {pace:.1f} rows a minute, {left / pace:.0f} min to go" if pace else "")

    if how.quiet or not (how.verbose or sys.stderr.isatty()):
        yield lambda state, total: None
        return
    if not sys.stderr.isatty():
        yield lambda state, total: typer.echo(f"inlay: {counted(state, total)}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("looking at the rows", total=None)

        def count(state: str, total: int) -> None:
            said = counted(state, total)
            bars.update(bar, completed=counts.total(), total=total, description=said)

        yield count


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
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        error = UsageError(f"{str(error.filename)[:60]}... is longer than the name of a file can be.")
    if isinstance(error, InlayError):
        typer.echo(f"inlay: {error}", err=True)
        return error.exit_code
    typer.echo(f"inlay: unexpected {type(error).__name__}: {error}; --debug shows where.", err=True)
    return 1
