"""The page in a real browser: pointing, painting, editing, and what it keeps."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inlay import Photo
from inlay.editing.job import EditJob, GenerateJob
from inlay.photos.read import read_settings
from inlay.ui.history import History
from PIL import Image

from .conftest import Serve, Served, keep, numbered, whereabouts

pytestmark = pytest.mark.browser


class Browser:
    """A page that is open, what it asked for, and shorthands for what a person does."""

    def __init__(self, tab: Any, address: str) -> None:
        self.tab = tab
        self.asked: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        tab.on("request", self._listen)
        tab.goto(address)
        tab.wait_for_selector("html[data-ready]")

    def _listen(self, request: Any) -> None:
        if request.method == "POST" and request.url.endswith("/mask"):
            self.asked.append(json.loads(request.post_data))

    def button(self, name: str) -> Any:
        return self.tab.get_by_role("button", name=name, exact=True)

    def items(self, list_: str) -> Any:
        return self.tab.get_by_role("listbox", name=list_).get_by_role("option")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.tab.get_by_label(name.capitalize(), exact=True).filter(visible=True).fill(value)

    def evaluate(self, code: str, *arguments: Any) -> Any:
        """Code that sees what lies on the desk."""
        return self.tab.evaluate(
            "async (given) => { const { desk, board } = await import('/page/desk.js'); "
            f"return ((given) => {code})(given) }}",
            list(arguments),
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the photo is seen in the window."""
        left, top, density, px, py = self.evaluate(
            "{ const { left, top, width } = desk.view.canvas.getBoundingClientRect();"
            " return [left, top, desk.view.canvas.width / width, ...desk.view.window(given[0], given[1])] }",
            x,
            y,
        )
        return left + px / density, top + py / density

    def click(self, x: float, y: float, **how: Any) -> None:
        """A click on the middle of a pixel of the photo."""
        self.tab.mouse.click(*self.place(x + 0.5, y + 0.5), **how)

    def drag(self, *points: tuple[float, float]) -> None:
        self.tab.mouse.move(*self.place(*points[0]))
        self.tab.mouse.down()
        for point in points[1:]:
            self.tab.mouse.move(*self.place(*point), steps=5)
        self.tab.mouse.up()

    def drawn(self) -> None:
        """Until the canvas shows what lies on the desk."""
        self.tab.wait_for_function("async () => !(await import('/page/desk.js')).desk.view.asked")

    def mode(self, name: str) -> None:
        self.tab.get_by_role("radio", name=name, exact=True).check(force=True)

    def settle(self) -> None:
        """Until the segmenter has answered every click."""
        self.tab.wait_for_function("document.getElementById('busy').hidden")

    def covers(self, x: int, y: int) -> bool:
        return bool(self.evaluate("board().covers(board().active, given[0], given[1])", x, y))

    def size(self) -> list[int]:
        return list(self.evaluate("[desk.view.width, desk.view.height]"))

    def open(self, path: Path) -> None:
        self.tab.set_input_files("#file", str(path))
        named = "(stem) => document.getElementById('photo-name').textContent.includes(stem)"
        self.tab.wait_for_function(named, arg=path.stem)

    def result(self) -> Any:
        """Wait for a result."""
        self.tab.wait_for_selector("#result:not([hidden])")
        self.tab.wait_for_function("!document.querySelector('.run')")


@pytest.fixture
def look(chromium: Any) -> Iterator[Any]:
    """Opens a served page: window size and density -> Browser. No error of a script goes unseen."""
    contexts, opened = [], []

    def at(served: Served, width: int = 1024, height: int = 700, density: float = 1, **more: Any) -> Browser:
        viewport = {"width": width, "height": height}
        # playwright waits by evaluating text, which the page's policy forbids; `test_the_policy_holds` keeps it
        more = {"bypass_csp": True} | more
        context = chromium.new_context(viewport=viewport, device_scale_factor=density, **more)
        context.set_default_timeout(60_000)
        contexts.append(context)
        opened.append(Browser(context.new_page(), served.page.address))
        return opened[-1]

    yield at
    for context in contexts:
        context.close()
    assert [error for one in opened for error in one.wrong] == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bright disc, small and at 12 megapixels; a phone's portrait; a photo that numbers its pixels."""
    folder = tmp_path_factory.mktemp("photos")

    def disc(width: int, height: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        inside = np.hypot(x - width / 2, y - height / 2) < min(width, height) / 4
        return np.where(inside[..., None], (240, 200, 60), (20, 40, 70)).astype(np.uint8)

    Photo.from_image(disc(160, 120)).save(folder / "disc.png")
    Photo.from_image(disc(4000, 3000)).save(folder / "large.jpg")
    exif = Image.Exif()
    exif[274] = 6  # shown turned to the right
    pixels = disc(400, 300)
    pixels[:20, :20] = (255, 0, 0)  # upper left as stored, upper right as shown
    Image.fromarray(pixels).save(folder / "portrait.jpg", exif=exif, quality=95)
    numbered(900, 640).save(folder / "numbered.png")
    return {file.stem: file for file in folder.iterdir()}


@pytest.fixture(scope="module")
def disc(serve: Serve, photos: dict[str, Path]) -> Served:
    """A page that begins with the small photo."""
    return serve(photos["disc"])


def test_everything_has_the_name_that_screen_readers_say(look: Any, disc: Served) -> None:
    page = look(disc)
    for name in ("Edit", "Undo", "Redo", "Clear mask", "Invert mask"):
        assert page.button(name).is_visible()
    assert page.tab.get_by_role("img", name="Photo").is_visible()
    assert page.tab.get_by_role("textbox", name="Prompt", exact=True).is_visible()
    for name in ("Grow", "Feather"):
        assert page.tab.get_by_role("slider", name=name, exact=True).is_visible()
    for hidden in ("Candidates", "History"):
        assert page.tab.locator(f"[role=listbox][aria-label={hidden}]").count() == 1
    nameless = page.tab.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter((one) => one.checkVisibility() && "
        "!one.ariaLabel && !one.labels?.length && !one.textContent.trim()).map((one) => one.outerHTML)"
    )
    assert nameless == []
    assert page.tab.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight"
    )


def test_every_control_is_reached_by_the_tab_key(look: Any, disc: Served) -> None:
    page = look(disc)
    reached = set()
    for _ in range(80):
        page.tab.keyboard.press("Tab")
        reached.add(page.tab.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {
        "open",
        "mode",
        "tool",
        "invert",
        "show-mask",
        "canvas",
        "grow",
        "feather",
        "edit-prompt",
        "go-edit",
    } <= reached


def test_the_keyboard_alone_points(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.get_by_role("img", name="Photo").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "Enter", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+Enter"):
        page.tab.keyboard.press(key)
    page.settle()
    assert page.asked[-1]["points"] == [[79, 59, 1], [99, 59, 0]]
    assert page.covers(79, 59)


def test_large_and_turned_photos_are_shown_as_they_are_seen(look: Any, served: Served, photos: dict[str, Path]) -> None:
    page = look(served)
    assert page.tab.get_by_role("heading", name="Open a photo").is_visible()
    page.open(photos["large"])
    assert page.size() == [4000, 3000]
    page.click(2000, 1500)
    page.settle()
    assert page.covers(2000, 1500)
    assert not page.covers(100, 100)
    page.open(photos["portrait"])
    assert page.size() == [300, 400]
    corner = page.place(290, 10)
    red, green, _ = colour_at(page, *corner)
    assert red > 200 > 100 > green


def colour_at(page: Browser, x: float, y: float, density: float = 1) -> tuple[int, int, int]:
    """The colour that is seen at a point of the window."""
    page.drawn()
    clip = {"x": int(x), "y": int(y), "width": 1, "height": 1}
    shown = np.asarray(Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB"))
    return tuple(shown[int((y - int(y)) * density), int((x - int(x)) * density)])


@pytest.mark.parametrize("density", [1, 2])
@pytest.mark.parametrize("zoom", ["1:1", "wheel"])
def test_a_click_means_the_very_pixel_that_is_seen(
    look: Any, served: Served, photos: dict[str, Path], density: int, zoom: str
) -> None:
    page = look(served, density=density)
    page.open(photos["numbered"])
    page.button("Fit").click()
    page.tab.keyboard.press("1")
    if zoom == "wheel":
        page.tab.mouse.move(401, 333)
        page.tab.mouse.wheel(0, -540)  # does not wait for the page
        page.tab.wait_for_function("async () => (await import('/page/desk.js')).desk.view.scale > 1")
    page.tab.mouse.move(5, 5)
    spots = [(350.0, 300.0), (351.5, 402.5), (523.0, 287.5), (590.5, 511.0)]
    seen = [whereabouts(colour_at(page, x, y, density)) for x, y in spots]
    for x, y in spots:
        page.tab.mouse.click(x, y)
        page.settle()
        page.tab.keyboard.press("m")  # hide what was found, not to click on a point
        page.tab.keyboard.press("m")
    points = [(x, y) for x, y, _ in page.asked[-1]["points"]]
    assert points == seen


def test_ten_quick_clicks_all_arrive_and_a_click_on_a_point_takes_it_away(look: Any, disc: Served) -> None:
    page = look(disc)
    spots = [(70 + 4 * k, 45 + 3 * k) for k in range(10)]
    page.tab.keyboard.press("+")
    page.tab.keyboard.press("+")
    for spot in spots:
        page.click(*spot)
    page.settle()
    assert page.asked[-1]["points"] == [[*spot, 1] for spot in spots]
    page.click(*spots[4])
    page.settle()
    assert page.asked[-1]["points"] == [[*spot, 1] for spot in spots if spot != spots[4]]


def test_a_negative_click_and_a_box(look: Any, disc: Served) -> None:
    page = look(disc)
    page.drag((40, 20), (120, 100))
    page.settle()
    assert page.asked[-1]["box"] == [40, 20, 120, 100]
    assert page.covers(80, 60)
    page.click(80, 60, button="right")
    page.settle()
    assert page.asked[-1]["points"] == [[80, 60, 0]]
    assert not page.covers(80, 60)
    page.tab.keyboard.down("Shift")
    page.click(60, 60)
    page.tab.keyboard.up("Shift")
    page.settle()
    assert page.asked[-1]["points"] == [[80, 60, 0], [60, 60, 0]]


def test_brush_eraser_invert_clear_and_their_undoing(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.keyboard.press("b")
    page.drag((20, 20), (60, 20))
    page.tab.keyboard.press("e")
    page.drag((40, 10), (40, 30))
    assert [page.covers(x, 20) for x in (25, 40, 55)] == [True, False, True]
    page.button("Invert mask").click()
    assert [page.covers(x, 20) for x in (25, 40, 55)] == [False, True, False]
    page.button("Clear mask").click()
    assert not page.covers(40, 20)
    for _ in range(2):
        page.button("Undo").click()
    assert [page.covers(x, 20) for x in (25, 40, 55)] == [True, False, True]
    page.tab.keyboard.press("Control+z")
    assert page.covers(40, 20)
    page.tab.keyboard.press("Control+Shift+z")
    assert not page.covers(40, 20)
    page.button("Redo").click()
    assert page.covers(40, 20)


def test_a_stroke_stays_where_a_click_finds_more_and_a_click_brings_back_what_was_erased(
    look: Any, disc: Served
) -> None:
    page = look(disc)
    page.tab.keyboard.press("b")
    page.drag((10, 110), (30, 110))
    page.tab.keyboard.press("p")
    page.click(80, 60)
    page.settle()
    assert page.covers(80, 60)
    assert page.covers(20, 110)
    page.tab.keyboard.press("e")
    page.drag((60, 60), (100, 60))
    assert not page.covers(70, 60)
    page.tab.keyboard.press("p")
    page.click(70, 60)
    page.settle()
    assert page.covers(70, 60)


@pytest.mark.parametrize("meanwhile", ["an answer", "an undoing"])
def test_a_stroke_stays_whole_whatever_comes_while_it_is_painted(look: Any, disc: Served, meanwhile: str) -> None:
    page = look(disc)
    held: list[Any] = []
    page.tab.route("**/mask", lambda route: held.append(route))
    if meanwhile == "an answer":
        page.click(80, 60)
    page.tab.keyboard.press("b")
    page.drag((20, 100), (60, 100))
    page.tab.mouse.move(*page.place(20, 20))
    page.tab.mouse.down()
    page.tab.mouse.move(*page.place(60, 20), steps=5)
    if meanwhile == "an answer":
        held[0].continue_()
        page.settle()
    else:
        page.tab.keyboard.press("Control+z")
    page.drawn()
    assert page.covers(20, 20)
    page.tab.mouse.move(*page.place(120, 20), steps=5)
    page.tab.mouse.up()
    assert [page.covers(x, 20) for x in (20, 60, 120)] == [True] * 3
    assert page.covers(40, 100) == page.covers(80, 60) == (meanwhile == "an answer")


def test_a_click_whose_answer_failed_is_asked_again(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.route("**/mask", lambda route: route.fulfill(status=400, body='{"error": "Not now."}'), times=1)
    page.click(80, 60)
    page.tab.get_by_text("Not now.").wait_for()
    page.click(80, 60)  # takes the point away
    page.click(80, 60)
    page.settle()
    assert page.asked == [{"points": [[80, 60, 1]], "box": None, "text": ""}] * 2
    assert page.covers(80, 60)


def test_the_brush_changes_its_size_and_the_mask_grows_under_ones_eyes(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.keyboard.press("b")
    size = page.tab.get_by_role("slider", name="Brush size")
    widths = [float(size.input_value())]
    for key in ("[", "]", "]"):
        page.tab.keyboard.press(key)
        widths.append(float(size.input_value()))
    assert widths[1] < widths[0] < widths[3]
    page.drag((20, 20), (60, 20))
    radius = page.evaluate("board().active.acts[0].radius")
    spot = page.place(40, 20 + radius + 4)
    page.tab.mouse.move(5, 5)
    before = colour_at(page, *spot)
    grow = page.tab.get_by_role("slider", name="Grow", exact=True)
    grow.fill("8")
    assert colour_at(page, *spot) != before
    grow.fill("0")
    assert colour_at(page, *spot) == before


def mask_of(page: Browser, served: Served) -> np.ndarray:
    """The mask of the active place as the server keeps it."""
    name = page.tab.evaluate("async () => (await (await import('/page/desk.js')).sentPlaces())[0].mask")
    return np.asarray(Image.open(served.folder / "masks" / f"{name}.png")) > 127


def test_the_mask_that_is_sent_is_the_one_that_is_seen(look: Any, disc: Served) -> None:
    page = look(disc)
    page.drag((40, 20), (120, 100))
    page.settle()
    mask = mask_of(page, disc)
    answer = disc.ask(
        "POST", f"/photos/{page.evaluate('desk.photo.photo')}/mask", json.dumps({"box": [40, 20, 120, 100]})
    )
    where = json.loads(answer.headers["inlay-mask"])
    found = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGBA"))[..., 3] > 127
    expected = np.zeros((120, 160), bool)
    expected[where["top"] :, where["left"] :][: found.shape[0], : found.shape[1]] = found
    np.testing.assert_array_equal(mask, expected)


@pytest.fixture
def edited(look: Any, serve: Serve, photos: dict[str, Path], tmp_path: Path) -> tuple[Browser, Served]:
    """A page on which a result of three candidates has just come."""
    served = serve(photos["disc"], tmp_path / "history")
    page = look(served)
    page.click(80, 60)
    page.settle()
    page.fill(prompt="a red apple", steps="3", seed="5", images="3")
    page.tab.get_by_role("slider", name="Grow", exact=True).fill("4")
    page.button("Edit").click()
    page.result()
    return page, served


def test_an_edit_is_the_command_lines_own(edited: Any, inlay_command: Any, tmp_path: Path) -> None:
    page, _ = edited
    assert page.items("History").count() == 1
    assert page.items("Candidates").count() == 3
    page.tab.keyboard.press("ArrowRight")
    page.tab.wait_for_function("document.querySelectorAll('#candidates li')[1].ariaSelected === 'true'")
    with page.tab.expect_download() as download:
        page.button("Download").click()
    got = tmp_path / "got.png"
    download.value.save_as(got)
    assert download.value.suggested_filename == "disc-2.png"
    settings = read_settings(got)
    assert settings is not None
    # the whole run again, by hand: the very bytes
    job = settings["job"]
    mask, photo = job["mask"][0], job["photo"]
    fields = ("--prompt", "a red apple", "--steps", 3, "--seed", 5, "-n", 3, "--mask-grow", 4, "--model", job["model"])
    made = inlay_command("edit", photo, "--mask", mask, *fields, "-o", tmp_path / "disc.png")
    assert made.code == 0, made.err
    assert (tmp_path / "disc-2.png").read_bytes() == got.read_bytes()
    # this candidate again, by the copied command: the same picture
    page.button("Copy as…").click()
    page.tab.wait_for_selector("#recipe-box[open]")
    command = page.tab.get_by_label("As a command").input_value()
    again = shlex.split(command)
    assert again[:2] == ["inlay", "edit"]
    assert again[-2:] == ["--output", "disc-2-edit.png"]
    made = inlay_command(*again[1:-1], tmp_path / "again.png")
    assert made.code == 0, made.err
    # alone in its batch it may be rounded another way
    np.testing.assert_allclose(Photo.open(tmp_path / "again.png").pixels, Photo.open(got).pixels.astype(int), atol=1)
    row = json.loads(page.tab.get_by_label("As a row").input_value())
    assert (row["prompt"], row["seed"], row["mask"], row["output"]) == ("a red apple", 6, [mask], "disc-2.png")
    # and outside the grown mask nothing moved
    before, after = Photo.open(photo).pixels, Photo.open(got).pixels
    changed = (before != after).any(-1)
    assert changed.any()
    assert not changed[:10].any()


def test_the_history_outlives_the_server(edited: Any, look: Any, serve: Serve) -> None:
    _, served = edited
    page = look(serve(folder=served.folder))
    page.tab.wait_for_function("document.querySelectorAll('#history li').length === 1", timeout=60_000)
    page.items("History").first.click()
    page.result()
    assert page.size() == [160, 120]
    assert page.tab.get_by_role("textbox", name="Prompt", exact=True).input_value() == "a red apple"
    assert page.tab.get_by_role("spinbutton", name="Seed").input_value() == "5"
    assert page.tab.get_by_role("slider", name="Grow", exact=True).input_value() == "4"
    page.tab.keyboard.press("Backspace")
    assert page.covers(80, 60)
    assert not page.covers(5, 5)
    page.fill(steps="2", images="1")
    page.tab.keyboard.press("Control+Enter")
    page.tab.wait_for_function("document.querySelectorAll('#history li').length === 2", timeout=60_000)


def test_more_like_this_goes_on_with_the_next_seeds_and_a_result_becomes_a_photo(edited: Any) -> None:
    page, served = edited
    page.button("More like this").click()
    page.tab.wait_for_function("document.querySelectorAll('#history li').length === 2", timeout=60_000)
    entries = json.loads(served.ask("GET", "/history").body)
    assert [[one["seed"] for one in entry["pictures"]] for entry in entries] == [[8, 9, 10], [5, 6, 7]]
    page.button("Edit this").click()
    page.tab.wait_for_function("document.getElementById('result').hidden")
    assert not page.covers(80, 60)
    assert "disc" in page.tab.locator("#photo-name").inner_text()


def test_of_two_candidates_the_one_chosen_last_is_looked_at(edited: Any) -> None:
    """Also where the first one's picture comes after the second's."""
    page, _ = edited
    held: list[Any] = []
    page.tab.route("**/results/*/2", lambda route: held.append(route))
    page.items("Candidates").nth(2).click()
    page.items("Candidates").nth(1).click()
    page.tab.wait_for_function("document.getElementById('notes').textContent.startsWith('Seed 6')")
    assert len(held) == 1
    with page.tab.expect_response("**/results/*/2"):
        held[0].continue_()
    page.tab.wait_for_timeout(300)  # long enough to be decoded
    assert page.evaluate("desk.result.number") == 1
    chosen = page.items("Candidates").evaluate_all("all => all.map((one) => one.ariaSelected)")
    assert chosen == ["false", "true", "false"]


def test_a_result_that_comes_before_the_answer_to_its_request_is_shown(look: Any, serve: Serve, photos: Any) -> None:
    page = look(serve(photos["disc"]))
    page.click(80, 60)
    page.settle()
    page.fill(prompt="a red apple", steps="1")
    held: list[Any] = []
    page.tab.route("**/runs", lambda route: held.append(route))
    page.button("Edit").click()
    while not held:
        page.tab.wait_for_timeout(20)
    answer = held[0].fetch()
    page.items("History").first.wait_for()
    held[0].fulfill(response=answer)
    page.result()


def test_a_page_opens_over_a_history_that_cannot_be_listed(look: Any, disc: Served) -> None:
    """And hears of its runs."""
    page = look(disc)
    page.tab.route("**/history", lambda route: route.fulfill(status=500, body="{}"), times=1)
    page.tab.reload()
    page.tab.wait_for_selector("#said .wrong")
    page.click(80, 60)
    page.settle()
    page.fill(prompt="a red apple", steps="1")
    page.button("Edit").click()
    page.result()


def test_a_page_opens_over_a_photo_that_cannot_be_shown(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.route(re.compile(r"/photos/\w+$"), lambda route: route.fulfill(status=400, body='{"error": "Too large."}'))
    page.tab.reload()
    page.tab.get_by_text("Too large.").wait_for()
    page.tab.wait_for_selector("#edit-method-list option", state="attached")
    assert page.tab.get_by_role("heading", name="Open a photo").is_visible()


def test_a_result_whose_photo_is_gone_is_looked_at_all_the_same(look: Any, serve: Serve, tmp_path: Path) -> None:
    history = History(tmp_path)
    photo, mask = (str(folder / "gone-0123456789abcdef.png") for folder in (history.photos, history.masks))
    keep(history, EditJob(prompt="a cat", photo=photo, mask=(mask,)))
    page = look(serve(folder=tmp_path))
    page.items("History").first.click()
    page.result()
    assert page.tab.locator("#said .wrong").count() == 1


def test_the_kind_of_file_comes_back_with_a_result(look: Any, serve: Serve, tmp_path: Path) -> None:
    keep(History(tmp_path), GenerateJob(prompt="a cat", quality=80), "a.jpg")
    page = look(serve(folder=tmp_path))
    page.items("History").first.click()
    page.result()
    saved = page.tab.locator("#generate-save-as")
    assert (page.tab.locator("#generate-quality").input_value(), saved.input_value()) == ("80", ".jpg")


def test_attention_is_shown_on_demand(edited: Any) -> None:
    page, _ = edited
    page.button("Attention").click()
    page.tab.wait_for_selector("#attention-pictures img", timeout=60_000)
    names = page.tab.eval_on_selector_all("#attention-pictures figcaption", "all => all.map((one) => one.textContent)")
    assert "apple" in names
    assert names[-1] == "step by step"


def test_holding_a_key_shows_what_was_there_before(edited: Any) -> None:
    page, _ = edited
    x, y = page.place(80, 60)
    after = colour_at(page, x, y)
    page.tab.keyboard.down("o")
    assert np.abs(np.subtract(colour_at(page, x, y), (240, 200, 60))).max() < 4
    page.tab.keyboard.up("o")
    page.tab.get_by_role("slider", name="Compare").fill("100")
    assert np.abs(np.subtract(colour_at(page, x, y), (240, 200, 60))).max() < 4
    page.tab.get_by_role("slider", name="Compare").fill("0")
    assert colour_at(page, x, y) == after


def test_a_run_shows_its_steps_and_its_picture_and_can_be_cancelled(
    look: Any, serve: Serve, photos: dict[str, Path]
) -> None:
    served = serve(photos["disc"])
    page = look(served)
    page.click(80, 60)
    page.settle()
    page.fill(prompt="a cat", steps="900", images="8")  # lasts longer than it is looked at
    page.button("Edit").click()
    page.tab.wait_for_function("document.querySelector('.run')?.textContent.includes('step')", timeout=60_000)
    page.tab.wait_for_function("document.querySelector('progress')?.value > 0")
    page.tab.wait_for_function("async () => (await import('/page/desk.js')).desk.preview", timeout=60_000)
    page.fill(steps="2", prompt="a dog", images="1")
    page.button("Edit").click()  # waits for its turn
    page.tab.wait_for_function("document.querySelectorAll('.run').length === 2")
    page.button("Cancel").first.click()
    page.result()
    page.fill(steps="900", images="8")
    page.tab.keyboard.press("Control+Enter")
    page.tab.wait_for_selector(".run")
    page.tab.keyboard.press("Escape")  # leaves the field
    page.tab.keyboard.press("Escape")
    page.tab.wait_for_selector(".run", state="detached")
    entries = json.loads(served.ask("GET", "/history").body)
    assert [entry["prompt"] for entry in entries] == ["a dog"]


def test_escape_leaves_a_field_before_it_cancels(look: Any, disc: Served) -> None:
    page = look(disc)
    cancelled: list[str] = []
    page.tab.route("**/cancel", lambda route: (cancelled.append(route.request.url), route.fulfill(body="{}")))
    run = {"run": 99, "action": "edit", "prompt": "a cat", "state": "waiting", "total": 0, "preview": None}
    page.tab.evaluate("async (run) => (await import('/page/runs.js')).started(run)", run)
    page.tab.get_by_role("textbox", name="Prompt", exact=True).focus()
    page.tab.keyboard.press("Escape")
    with page.tab.expect_response("**/cancel"):
        page.tab.keyboard.press("Escape")
    assert len(cancelled) == 1


def test_places_with_words_of_their_own_and_a_refusal_in_words(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.keyboard.press("b")
    page.drag((30, 30), (50, 30))
    page.tab.get_by_label("Words of place 1").fill("apple")
    page.button("Add a place").click()
    page.drag((110, 90), (130, 90))
    page.tab.get_by_label("Words of place 2").fill("cat")
    page.fill(prompt="a red apple", steps="2")
    page.button("Edit").click()
    page.tab.wait_for_selector("#said .wrong", timeout=60_000)
    assert "cat" in page.tab.locator("#said").inner_text()
    page.fill(prompt="a red apple and a cat")
    page.button("Edit").click()
    page.result()
    entry = json.loads(disc.ask("GET", "/history").body)[0]
    assert [place["words"] for place in entry["places"]] == ["apple", "cat"]


def test_a_layout_is_drawn_and_generated_and_brought_back(look: Any, serve: Serve) -> None:
    served = serve()
    page = look(served)
    stage = "document.getElementById('canvas').getBoundingClientRect().height"
    height = page.tab.evaluate(stage)
    page.mode("New picture")
    page.drag((100, 100), (500, 900))
    page.tab.get_by_label("Words of place 1").fill("apple")
    page.button("Add a place").click()
    page.drag((600, 100), (900, 900))
    page.tab.get_by_label("Words of place 2").fill("cat")
    page.tab.get_by_text("More", exact=True).click()
    page.fill(prompt="an apple and a cat", steps="2", size="64x64")
    page.tab.get_by_role("button", name="Generate").click()
    page.result()
    assert page.tab.evaluate(stage) == height  # the first result takes no room from what is being drawn upon
    entry = json.loads(served.ask("GET", "/history").body)[0]
    assert (entry["pictures"][0]["width"], entry["pictures"][0]["height"]) == (64, 64)
    layout = json.loads(next((served.folder / "masks").glob("*.json")).read_text())
    assert [region["words"] for region in layout["regions"]] == ["apple", "cat"]
    mask = np.asarray(Image.open(served.folder / "masks" / layout["regions"][0]["mask"])) > 127
    rows, columns = np.nonzero(mask)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx((100, 100, 500, 900), abs=2)  # a pixel of the screen is larger than one of the layout
    fresh = look(served)
    fresh.items("History").first.click()
    fresh.result()
    fresh.tab.keyboard.press("Backspace")
    assert fresh.tab.get_by_label("Words of place 2").input_value() == "cat"
    assert fresh.covers(300, 500)


def test_a_control_is_shown_a_picture_that_the_page_sends(look: Any, served: Served, photos: dict[str, Path]) -> None:
    page = look(served)
    page.mode("New picture")
    page.tab.get_by_text("More", exact=True).click()
    page.fill(control="./net:0.5")
    for field, said in (("control", r"\./net=disc-[0-9a-f]{16}\.png:0\.5"), ("reference", r"disc-[0-9a-f]{16}\.png")):
        with page.tab.expect_file_chooser() as chosen:
            page.tab.get_by_label(f"Picture for {field}").filter(visible=True).click()
        chosen.value.set_files({"name": "disc.png", "mimeType": "image/png", "buffer": photos["disc"].read_bytes()})
        box = page.tab.get_by_label(field.capitalize(), exact=True).filter(visible=True)
        page.tab.wait_for_function("(box) => /[0-9a-f]{16}/.test(box.value)", arg=box.element_handle())
        assert re.fullmatch(said, box.input_value())
    assert page.evaluate("desk.photo") is None


def test_a_finger_points_and_two_fingers_zoom(look: Any, disc: Served) -> None:
    page = look(disc, has_touch=True)
    page.tab.touchscreen.tap(*page.place(80.5, 60.5))
    page.settle()
    assert page.asked[-1]["points"] == [[80, 60, 1]]
    before = page.evaluate("desk.view.scale")
    wire = page.tab.context.new_cdp_session(page.tab)
    x, y = page.place(80, 60)

    def touch(kind: str, apart: float) -> None:
        fingers = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers if kind != "touchEnd" else []})

    touch("touchStart", 40)
    for apart in (50, 60, 70, 80):
        touch("touchMove", apart)
    touch("touchEnd", 80)
    assert page.evaluate("desk.view.scale") == pytest.approx(2 * before, rel=0.1)
    assert page.asked[-1]["points"] == [[80, 60, 1]]


def test_a_removal_needs_no_words(edited: Any, look: Any, inlay_command: Any, tmp_path: Path) -> None:
    page, served = edited
    page.mode("Remove")  # the mask is still there
    assert page.covers(80, 60)
    grow = page.tab.get_by_role("slider", name="Grow", exact=True)
    assert grow.get_attribute("aria-valuetext") == "automatic"
    page.fill(steps="2", seed="7")
    page.button("Remove").click()
    page.tab.wait_for_function("document.querySelectorAll('#history li').length === 2")
    page.result()
    with page.tab.expect_download() as download:
        page.button("Download").click()
    download.value.save_as(tmp_path / "got.png")
    page.button("Copy as…").click()
    page.tab.wait_for_selector("#recipe-box[open]")
    again = shlex.split(page.tab.get_by_label("As a command").input_value())
    assert again[:2] == ["inlay", "remove"]
    assert "--prompt" not in again
    made = inlay_command(*again[1:-1], tmp_path / "again.png")
    assert made.code == 0, made.err
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "got.png").read_bytes()
    row = json.loads(page.tab.get_by_label("As a row").input_value())
    assert (row["action"], row["seed"]) == ("remove", 7)
    fresh = look(served)
    fresh.items("History").first.click()
    fresh.result()
    assert fresh.tab.get_by_role("radio", name="Remove", exact=True).is_checked()
    assert fresh.tab.get_by_role("spinbutton", name="Seed").filter(visible=True).input_value() == "7"
    fresh.tab.keyboard.press("Backspace")
    assert fresh.covers(80, 60)


def test_a_photo_is_extended_by_dragging_its_frame(
    look: Any, serve: Serve, photos: dict[str, Path], inlay_command: Any, tmp_path: Path
) -> None:
    served = serve(photos["disc"], tmp_path / "history")
    page = look(served)
    page.mode("Extend")
    page.button("Extend").click()
    page.tab.wait_for_selector("#said .wrong")
    assert "Nothing is added" in page.tab.get_by_role("alert").inner_text()
    page.mode("Remove")  # what was said is over
    assert page.tab.locator("#said .wrong").count() == 0
    page.mode("Extend")
    page.drag((160, 60), (180, 60), (200, 60))
    page.fill(left="25%", steps="2")
    assert page.tab.get_by_label("Right", exact=True).input_value() == "40"
    page.button("Extend").click()
    page.result()
    assert page.size() == [240, 120]
    with page.tab.expect_download() as download:
        page.button("Download").click()
    download.value.save_as(tmp_path / "got.png")
    got, before = Photo.open(tmp_path / "got.png").pixels, Photo.open(photos["disc"]).pixels
    np.testing.assert_array_equal(got[:, 80:160], before[:, 40:120])
    page.tab.get_by_role("slider", name="Compare").fill("100")  # the photo stands where it stood
    assert np.abs(np.subtract(colour_at(page, *page.place(120, 60)), (240, 200, 60))).max() < 4
    page.button("Copy as…").click()
    page.tab.wait_for_selector("#recipe-box[open]")
    again = shlex.split(page.tab.get_by_label("As a command").input_value())
    assert again[:2] == ["inlay", "extend"]
    made = inlay_command(*again[1:-1], tmp_path / "again.png")
    assert made.code == 0, made.err
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "got.png").read_bytes()
    fresh = look(served)
    fresh.items("History").first.click()
    fresh.result()
    assert fresh.tab.get_by_label("Left", exact=True).input_value() == "25%"
    assert fresh.tab.get_by_label("Right", exact=True).input_value() == "40"


def test_a_finger_drags_a_corner_of_the_frame(look: Any, disc: Served) -> None:
    page = look(disc, has_touch=True)
    page.mode("Extend")
    wire = page.tab.context.new_cdp_session(page.tab)
    for kind, at in (("touchStart", (0, 0)), ("touchMove", (-10, -8)), ("touchMove", (-20, -16)), ("touchEnd", None)):
        fingers = [] if at is None else [dict(zip("xy", page.place(*at), strict=True))]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    sides = [page.tab.get_by_label(side, exact=True).input_value() for side in ("Left", "Top", "Right", "Bottom")]
    assert sides == ["20", "16", "", ""]


def test_what_is_no_photo_is_refused_on_the_page(look: Any, disc: Served, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "waves.gif", save_all=True, append_images=frames[1:])
    page = look(disc)
    for name, said in (("broken.png", "broken.png"), ("waves.gif", "the page opens files of a single picture")):
        page.tab.set_input_files("#file", str(tmp_path / name))
        page.tab.locator("#said .wrong").filter(has_text=said).wait_for()
    assert page.size() == [160, 120]


def test_a_photo_is_dropped_onto_the_page(look: Any, served: Served, photos: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no photo")
    page = look(served)
    wire = page.tab.context.new_cdp_session(page.tab)

    def drop(file: Path) -> None:
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            wire.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})

    drop(tmp_path / "words.txt")
    page.tab.wait_for_selector("#said .wrong")
    assert "words.txt" in page.tab.get_by_role("alert").inner_text()
    drop(photos["portrait"])
    page.tab.wait_for_function("document.getElementById('photo-name').textContent.includes('portrait')")
    assert page.size() == [300, 400]
    assert not page.tab.locator("main.over").count()
    page.click(150, 200)
    page.settle()
    assert page.covers(150, 200)


def test_a_picture_is_copied_and_pasted(look: Any, disc: Served) -> None:
    page = look(disc, permissions=["clipboard-read", "clipboard-write"])
    page.tab.get_by_role("img", name="Photo").focus()
    page.tab.keyboard.press("Control+c")
    page.tab.get_by_text("Picture copied.").wait_for()
    first = page.evaluate("desk.photo.photo")
    page.tab.keyboard.press("Control+v")
    page.tab.wait_for_function("document.getElementById('photo-name').textContent.includes('image')")
    assert page.size() == [160, 120]
    pasted = page.evaluate("desk.photo.photo")
    assert pasted != first
    (file,) = (disc.folder / "photos").glob(f"*-{pasted}*")
    (original,) = (disc.folder / "photos").glob(f"*-{first}*")
    np.testing.assert_array_equal(Photo.open(file).pixels, Photo.open(original).pixels)


def test_text_that_has_a_picture_beside_it_is_pasted_into_a_field_as_text(look: Any, disc: Served) -> None:
    page = look(disc)
    taken = page.tab.evaluate(
        "['edit-prompt', 'canvas'].map((id) => {"
        " const clipboardData = new DataTransfer();"
        " clipboardData.setData('text/plain', 'a cat');"
        " clipboardData.items.add(new File(['none'], 'cells.png', { type: 'image/png' }));"
        " const pasted = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true });"
        " return !document.getElementById(id).dispatchEvent(pasted) })"
    )
    assert taken == [False, True]


def test_of_two_photos_the_one_sent_last_stays_though_the_first_takes_longer(
    look: Any, served: Served, photos: dict[str, Path]
) -> None:
    page = look(served)
    held: list[Any] = []
    page.tab.route("**/photos?name=disc.png", lambda route: held.append(route))
    page.tab.set_input_files("#file", str(photos["disc"]))
    page.open(photos["portrait"])
    with page.tab.expect_response("**/photos?name=disc.png"):
        held[0].continue_()
    page.tab.wait_for_timeout(300)  # long enough to be decoded
    assert page.size() == [300, 400]


def test_a_thing_is_found_by_its_name(
    look: Any, serve: Serve, photos: dict[str, Path], clipseg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inlay.segmentation import text
    from inlay.ui import server

    load = text.load_detector
    monkeypatch.setattr(text, "load_detector", lambda *_: load(clipseg, True, "cpu"))
    monkeypatch.setattr(server, "finds_text", lambda: True)
    served = serve(photos["disc"])
    page = look(served)
    field = page.tab.get_by_role("textbox", name="Find", exact=True)
    field.fill("disc")
    field.press("Enter")
    page.settle()
    assert page.asked == [{"points": [], "box": None, "text": "disc"}]
    answer = served.ask("POST", f"/photos/{page.evaluate('desk.photo.photo')}/mask", json.dumps({"text": "disc"}))
    found = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGBA"))[..., 3] > 127
    assert mask_of(page, served).sum() == found.sum() > 0
    page.mode("New picture")
    assert not field.is_visible()


def test_masks_are_sent_as_bits(look: Any, disc: Served) -> None:
    page = look(disc)
    page.tab.keyboard.press("b")
    page.drag((20, 20), (60, 20))
    assert 0 < page.evaluate("board().packed(board().active).then((bits) => bits.size)") < 160 * 120 / 8


def test_the_policy_holds(look: Any, disc: Served) -> None:
    page = look(disc, bypass_csp=False)
    assert page.tab.evaluate("document.readyState") == "complete"
    broken = page.tab.evaluate(
        "new Promise((done) => {"
        " document.addEventListener('securitypolicyviolation', (event) => done(event.blockedURI));"
        " const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        " document.body.append(script); setTimeout(() => done('nothing'), 20_000) })"
    )
    assert broken == "inline"
    assert page.tab.evaluate("window.ran") is None
