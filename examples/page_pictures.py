"""Take the pictures of the page that README shows: a mask, and a result beside what was there before.

python examples/page_pictures.py
"""

import io
import tempfile
import threading
from pathlib import Path
from typing import Any

import skimage.data
from inlay import Photo
from inlay.ui.serve import page
from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parent / "pictures"


WHERE = """async ([x, y]) => {
  const { desk: { view } } = await import("/page/desk.js");
  const box = view.canvas.getBoundingClientRect();
  return view.window(x, y).map((at, k) => at * box.width / view.canvas.width + (k ? box.top : box.left));
}"""


def place(tab: Any, x: float, y: float) -> list[float]:
    """Where a point of the photo is seen in the window."""
    return tab.evaluate(WHERE, [x, y])


def keep(shot: bytes, name: str) -> None:
    """Write a picture as a JPEG that is small enough for a README."""
    Image.open(io.BytesIO(shot)).convert("RGB").save(PICTURES / name, quality=82, optimize=True)


with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
    photo = Photo.from_image(skimage.data.coffee()).save(Path(folder) / "coffee.png").path
    served = page(photo)
    thread = threading.Thread(target=served.serve)
    thread.start()
    browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    for scheme in ("light", "dark"):
        window = {"width": 1120, "height": 720}
        tab = browser.new_context(viewport=window, color_scheme=scheme, bypass_csp=True).new_page()
        tab.goto(served.address)
        tab.wait_for_selector("html[data-ready]")
        if scheme == "light":
            tab.mouse.move(*place(tab, 170, 15))
            tab.mouse.down()
            tab.mouse.move(*place(tab, 425, 330), steps=4)
            tab.mouse.up()
            tab.mouse.click(*place(tab, 290, 200))
            tab.wait_for_function("document.getElementById('busy').hidden", timeout=60_000)
            tab.get_by_role("textbox", name="Prompt", exact=True).fill("a strawberry")
            tab.get_by_role("slider", name="Grow", exact=True).fill("6")
            keep(tab.screenshot(), "page-mask.jpg")
            tab.get_by_role("spinbutton", name="Images").fill("4")
            tab.get_by_role("button", name="Edit", exact=True).click()
            tab.wait_for_selector("#result:not([hidden])", timeout=300_000)
        else:
            tab.get_by_role("listbox", name="History").get_by_role("option").first.click()
            tab.wait_for_selector("#result:not([hidden])")
            tab.get_by_role("slider", name="Compare").fill("40")
            tab.wait_for_timeout(500)
            keep(tab.screenshot(), "page-result.jpg")
    browser.close()
    served.server.should_exit = True
    thread.join()
