"""The page in a real browser: nothing to complain of, every mark there, and it moves."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from syndicate.cli.report.page import page
from syndicate.cli.report.run import Run

from tests.cli.report.chromium import Chromium
from tests.cli.report.samples import failed_run, hostile_run, run

pytestmark = pytest.mark.system

FAULTS = {"fault-bars", "fault-names-left", "fault-names-right", "lanes-windows"}
TASKS = {
    "lanes-runs",
    "lanes-cut",
    "lanes-paused",
    "lanes-degraded",
    "lanes-start",
    "lanes-kill",
    "lanes-revive",
    "lanes-signal",
    "lanes-end",
    "log-lines",
}
OPERATIONS = {
    "latency-windows",
    "latency-ok-0",
    "latency-ok-1",
    "latency-ok-2",
    "latency-fail",
    "latency-info",
    "latency-bad",
    "throughput-windows",
    "throughput-ok",
    "throughput-fail",
    "throughput-info",
}
BANDS = {f"latency-{word}-{place}" for word in ("band", "median", "most") for place in range(3)}
WIDE, NARROW = (1280, 900), (360, 740)
Show = Callable[..., None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One for all tests: it takes a second to start."""
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def show(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Show:
    """Opens the page of a run; each is made once."""
    made, folder = functools.cache(page), tmp_path_factory.mktemp("pages")

    def opened(run: Run, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        path = folder / "report.html"
        path.write_text(made(run), "utf-8")
        browser.messages.clear()
        browser.requests.clear()
        browser.screen(*size, dark=dark)
        browser.open(path)

    return opened


def drawn(browser: Chromium) -> dict[str, int]:
    """Of each mark that has a name: how many of it are drawn."""
    asked = """JSON.stringify(Object.fromEntries([...Bokeh.documents[0].all_models]
        .filter(model => model.name !== null && model.data_source !== undefined)
        .map(model => [model.name, Bokeh.documents[0].get_model_by_name(model.name).data_source.length])))"""
    return dict(json.loads(browser.value(asked)))


def x_range(browser: Chromium, figure: str) -> list[float]:
    """What a figure shows, in seconds."""
    asked = f"(r => [r.start, r.end])(Bokeh.documents[0].get_model_by_name('{figure}').x_range)"
    return list(browser.value(asked))


def frame(browser: Chromium, figure: str) -> Any:
    """Where a figure is in the window, after it was scrolled to."""
    asked = f"""(place => {{ place.scrollIntoView({{block: 'center'}});
        const box = place.getBoundingClientRect();
        return [box.left, box.top, box.width, box.height]; }})(document.getElementById('figure-{figure}'))"""
    return browser.value(asked)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (failed_run(600), FAULTS | TASKS | OPERATIONS),
        (run(0), FAULTS | TASKS),
        (run(20_000), FAULTS | TASKS | BANDS),
    ],
    ids=["points", "no-history", "bands"],
)
def test_every_mark_is_there_and_the_console_is_silent(
    browser: Chromium, show: Show, made: Run, names: set[str]
) -> None:
    """All marks by their names, none of them empty; no message, and nothing asked of a network."""
    show(made)
    found = drawn(browser)
    assert names <= found.keys()
    assert not [name for name in names if not found[name]]
    assert browser.messages == []
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_page_fits_its_window_and_its_readers_taste(
    browser: Chromium, show: Show, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    """Nothing reaches out at the side; paper and the ink of names are as light or dark as is wished for."""
    show(failed_run(600), size, dark=dark)
    assert browser.value("document.documentElement.scrollWidth") <= size[0]
    picture = Image.open(io.BytesIO(browser.screenshot(tmp_path / "page.png"))).convert("L")
    assert (picture.getpixel((2, 2)) < 64) is dark
    left, top, _, height = frame(browser, "lanes")
    offset = browser.value("scrollY")
    top += offset
    names = picture.crop((int(left), int(top + 40), int(left + 60), int(top + height - 40)))
    darkest, lightest = names.getextrema()
    assert lightest - darkest > 140
    assert browser.messages == []


def test_figures_move_together(browser: Chromium, show: Show) -> None:
    """Who drags one moves the time of all."""
    show(failed_run(600))
    before = x_range(browser, "latency")
    left, top, width, height = frame(browser, "throughput")
    start = left + width / 2, top + height / 2
    browser.drag([start, (start[0] + 40, start[1]), (start[0] + 80, start[1])])
    browser.wait_for(f"Bokeh.documents[0].get_model_by_name('throughput').x_range.start !== {before[0]}")
    assert x_range(browser, "latency") == x_range(browser, "lanes") != before
    assert browser.messages == []


def test_hovering_tells_a_name(browser: Chromium, show: Show) -> None:
    """The bar of a fault says which it is."""
    show(failed_run(600))
    assert "cut slave-1" in hovered(browser, "faults", "fault-bars", 5.0, 0)


def test_hostile_texts_do_nothing(browser: Chromium, show: Show) -> None:
    """On the page and in a tooltip they are letters: no element is made, no script runs, nothing is said."""
    show(hostile_run(300))
    assert "<img src=x onerror=alert(2)>" in hovered(browser, "faults", "fault-bars", 5.0, 0)
    assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.messages == []
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}


def hovered(browser: Chromium, figure: str, mark: str, x: float, y: float) -> str:
    """What stands in the tooltip over a point of a figure, given in its own units."""
    frame(browser, figure)
    asked = f"""(() => {{
        const view = Bokeh.index.get_by_id(Bokeh.documents[0].get_model_by_name('{figure}').id);
        const box = view.el.getBoundingClientRect(), frame = view.frame;
        return [box.left + frame.x_scale.compute({x}), box.top + frame.y_scale.compute({y})];
    }})()"""
    left, top = browser.value(asked)
    browser.move(left - 3, top)
    browser.move(left, top)
    tips = """(function all(root) {
        return [...root.querySelectorAll('*')].flatMap(one => [
            ...(one.matches('.bk-Tooltip') ? [one] : []), ...(one.shadowRoot ? all(one.shadowRoot) : [])]);
    })(document)"""
    browser.wait_for(f"{tips}.some(tip => tip.shadowRoot.textContent.includes('fault'))")
    assert browser.value(f"{tips}.every(tip => tip.shadowRoot.querySelector('img') === null)")
    return str(browser.value(f"{tips}.map(tip => tip.shadowRoot.textContent).join(' ')"))
