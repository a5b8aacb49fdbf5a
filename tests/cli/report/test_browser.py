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
    "lanes-barrier",
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
# Of the samples' faults those that last: what each is called, from when to when.
WINDOWS = [
    ("1  cut slave-1", 3.02, 8.2),
    ("2  killed slave-0", 5.1, 7.0),
    ("3  paused slave-2", 9.0, 10.5),
    ("4  partition majority-ring slave-1", 11.0, 13.2),
    ("5  loss 10 % to slave-1 slave-0", 13.5, 14.6),
]
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


def column(browser: Chromium, mark: str, name: str) -> list[Any]:
    """What is drawn of a mark, in its order."""
    source = f"Bokeh.documents[0].get_model_by_name('{mark}').data_source"
    return list(browser.value(f"Array.from({source}.data.{name} ?? {source}.data['{name}'])"))


def x_range(browser: Chromium, figure: str) -> list[float]:
    """What a figure shows, in seconds."""
    asked = f"(r => [r.start, r.end])(Bokeh.documents[0].get_model_by_name('{figure}').x_range)"
    return list(browser.value(asked))


def shared_x_range(browser: Chromium, *figures: str) -> list[float]:
    """What all these figures show at one moment: between two questions a late step of a move may come."""
    names = json.dumps(figures)
    ranges = f"{names}.map(name => Bokeh.documents[0].get_model_by_name(name).x_range)"
    first, *others = browser.value(f"{ranges}.map(r => [r.start, r.end])")
    assert all(other == first for other in others)
    return list(first)


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


def test_each_fault_has_a_window_of_its_own_name(browser: Chromium, show: Show) -> None:
    """In each picture, from when it held to when it was healed; a signal, and a revival, have none."""
    show(failed_run(600))
    for mark in ("fault-bars", "latency-windows", "throughput-windows", "lanes-windows"):
        columns = (column(browser, mark, name) for name in ("name", "left", "right"))
        assert list(zip(*columns, strict=True)) == WINDOWS, mark


def test_each_fault_is_named_beside_its_bar(browser: Chromium, show: Show) -> None:
    """The early ones from their beginning on, the late ones before it."""
    show(failed_run(600))
    names = [text for side in ("left", "right") for text in column(browser, f"fault-names-{side}", "text")]
    assert names == [name for name, *_ in WINDOWS]


@pytest.mark.parametrize("figure", ["latency", "throughput", "lanes"])
def test_each_fault_is_shaded(browser: Chromium, show: Show, tmp_path: Path, figure: str) -> None:
    """Behind the marks the paper has another colour within each window than where there is no fault."""
    show(failed_run(600))
    middles = [(start + end) / 2 for _, start, end in WINDOWS]
    quiet, *rest = grounds(browser, tmp_path, figure, [1.0, 8.6, 15.2, *middles])
    assert rest[:2] == [quiet, quiet]
    assert [name for (name, *_), colour in zip(WINDOWS, rest[2:], strict=True) if colour == quiet] == []


def grounds(browser: Chromium, folder: Path, figure: str, times_s: list[float]) -> list[Any]:
    """The colour that most of a figure has at each of these times."""
    asked = f"""(() => {{
        const view = Bokeh.index.get_by_id(Bokeh.documents[0].get_model_by_name('{figure}').id);
        const box = view.el.getBoundingClientRect(), inner = view.frame.bbox;
        const x = {times_s}.map(at => box.left + scrollX + view.frame.x_scale.compute(at));
        return [x, box.top + scrollY + inner.top, inner.height];
    }})()"""
    places, top, height = browser.value(asked)
    picture = Image.open(io.BytesIO(browser.screenshot(folder / "page.png"))).convert("RGB")
    found = []
    for x in map(int, places):
        strip = picture.crop((x - 3, int(top) + 3, x + 4, int(top + height) - 3))
        found.append(max(strip.getcolors(maxcolors=100_000))[1])
    return found


def test_marks_stand_at_their_times(browser: Chromium, show: Show) -> None:
    """Kills, revivals, signals and ends; and each line of output, on the lane of its task."""
    made = failed_run(600)
    show(made)
    assert {name: column(browser, f"lanes-{name}", "x") for name in ("kill", "revive", "signal", "end")} == {
        "kill": [5.1], "revive": [7.0], "signal": [14.8], "end": [15.3],
    }  # fmt: skip
    lanes = [lane.task for lane in made.lanes]
    assert made.logs is not None
    lines = [pytest.approx((mark.at_s, lanes.index(mark.task) + 0.26), abs=1e-5) for mark in made.logs.lines]
    assert (
        list(zip(column(browser, "log-lines", "x"), column(browser, "log-lines", "y"), strict=True)) == lines
    )


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
    assert shared_x_range(browser, "latency", "lanes") != before
    assert browser.messages == []


def test_the_wheel_zooms_with_ctrl(browser: Chromium, show: Show) -> None:
    """About the time under the pointer, in all figures alike."""
    show(failed_run(600))
    before = x_range(browser, "latency")
    left, top, width, height = frame(browser, "latency")
    browser.move(left + width / 2, top + height / 2)
    browser.wheel(left + width / 2, top + height / 2, -120)
    browser.wait_for(f"Bokeh.documents[0].get_model_by_name('latency').x_range.start > {before[0]}")
    after = shared_x_range(browser, "latency", "throughput", "lanes", "faults")
    assert before[0] < after[0] < after[1] < before[1]
    assert browser.messages == []


def test_hovering_tells_a_name(browser: Chromium, show: Show) -> None:
    """The bar of a fault says which it is."""
    show(failed_run(600))
    assert "cut slave-1" in hovered(browser, "faults", "fault-bars", 5.0, 0)


def test_hovering_tells_what_became_of_a_barrier(browser: Chromium, show: Show) -> None:
    """The mark is on the lane of the member that has the sync server, where the round ended."""
    show(run(0))
    told = hovered(browser, "lanes", "lanes-barrier", 1.5, 4 - 0.12, "barrier")
    assert "barrier 'start' opened after 400 ms" in told


def test_hostile_texts_do_nothing(browser: Chromium, show: Show) -> None:
    """On the page and in a tooltip they are letters: no element is made, no script runs, nothing is said."""
    show(hostile_run(300))
    assert "<img src=x onerror=alert(2)>" in hovered(browser, "faults", "fault-bars", 5.0, 0)
    assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.messages == []
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}


def hovered(browser: Chromium, figure: str, mark: str, x: float, y: float, says: str = "fault") -> str:
    """What stands in the tooltips over a point of a figure, given in its own units, once one `says` this."""
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
    browser.wait_for(f"{tips}.some(tip => tip.shadowRoot.textContent.includes('{says}'))")
    assert browser.value(f"{tips}.every(tip => tip.shadowRoot.querySelector('img') === null)")
    return str(browser.value(f"{tips}.map(tip => tip.shadowRoot.textContent).join(' ')"))
