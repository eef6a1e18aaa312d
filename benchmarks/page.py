"""How fast the page is: until it is ready, and from a click to the mask on the screen, beyond the segmenter's own time.

    python benchmarks/page.py [--clicks 15] [--loads 9]

Prints medians, with the fastest and the slowest, at 12 megapixels in Debian's chromium, which draws without a GPU here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from inlay import Photo
from inlay.ui.serve import page
from PIL import Image

WATCH = """async () => {
  const { desk } = await import("/page/desk.js");
  const clicked = () => { window.clicked = performance.now(); window.drawn = null; };
  desk.view.canvas.addEventListener("pointerup", clicked, true);
  const seen = () => {
    if (window.clicked && !window.drawn && document.getElementById("busy").hidden) {
      const message = new MessageChannel();  // answers once the frame is drawn
      message.port1.onmessage = () => { window.drawn ??= performance.now(); };
      message.port2.postMessage(null);
    }
    requestAnimationFrame(seen);
  };
  requestAnimationFrame(seen);
}"""


def photo(folder: Path) -> Path:
    """A photo of a cup, at 4000 x 3000."""
    import skimage.data

    large = Image.fromarray(skimage.data.coffee()).resize((4000, 3000), Image.Resampling.LANCZOS)
    return Photo.from_image(large).save(folder / "cup.jpg").path


def load(browser: Any, address: str, loads: int) -> list[float]:
    """Milliseconds from the address to a page that shows its photo."""
    took = []
    for _ in range(loads):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        tab = context.new_page()
        tab.goto(address, wait_until="commit")
        tab.wait_for_selector("html[data-ready]")
        took.append(tab.evaluate("performance.now()"))
        context.close()
    return took


def click(browser: Any, address: str, clicks: int) -> tuple[list[float], list[float]]:
    """Milliseconds from a click to the mask, and those of the segmenter in them."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector("html[data-ready]")
    tab.evaluate(WATCH)
    took, segmenter = [], []
    for number in range(clicks + 1):
        with tab.expect_response("**/mask") as answer:
            tab.mouse.click(480 + 15 * number, 330 + 9 * number)
        tab.wait_for_function("window.drawn")
        took.append(tab.evaluate("drawn - clicked"))
        segmenter.append(1000 * json.loads(answer.value.headers["inlay-mask"])["seconds"])
        tab.keyboard.press("Control+z")
    context.close()
    return took[1:], segmenter[1:]  # the first waits for the photo to be encoded


def said(name: str, took: list[float]) -> str:
    return f"{name:40} {statistics.median(took):6.0f} ms ({min(took):.0f} to {max(took):.0f}, {len(took)} times)"


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--clicks", type=int, default=15)
    parser.add_argument("--loads", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        served = page(photo(Path(folder)))
        thread = threading.Thread(target=served.serve)
        thread.start()
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        took, segmenter = click(browser, served.address, asked.clicks)
        print(said("click to mask", took))
        print(said("  of which the segmenter", segmenter))
        print(said("  beyond the segmenter", [all_ - own for all_, own in zip(took, segmenter, strict=True)]))
        print(said("page ready, photo shown", load(browser, served.address, asked.loads)))
        browser.close()
        served.server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
