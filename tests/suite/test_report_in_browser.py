"""A report as a browser shows it, opened from the disk: ``pytest -m browser``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser, browsing
from made_up_runs import PUBLISHED, fill, fill_sweep
from selenium.webdriver.common.keys import Keys

from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.report import read_report_data, read_sweeps, write_images, write_page
from synthkern.suite.report.figures import figures
from synthkern.suite.report.sweeps import sweep_figure
from synthkern.suite.summary import summarize_directory
from synthkern.suite.view import ViewOptions

if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs Chromium and chromedriver", allow_module_level=True)

pytestmark = pytest.mark.browser

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nRuntimeError: <b>no</b> & out\n'
NASTY = (
    "</script><script>alert(1)</script>",
    "$x$ <b>'\"</b>",
    "__proto__",
    "長い名前 " + "n" * 120,
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> RunDatabase:
    """Two worlds and L0s, 60 runs: one failed, one running, one pending."""
    directory = tmp_path_factory.mktemp("reported")
    database = fill(directory, worlds=("synth-sae-bench-1k", "other"), seeds=range(5))
    lower = {**PUBLISHED[0], "sae": "Standard L1", "mean": 0.5}
    database.add("made-up", {"name": "made-up", "published": [*PUBLISHED, lower]}, [])
    runs = database.runs()
    database.start(runs[3].key, "0.1.0", 1, {"gpu": "H200"})
    database.fail(runs[3].key, TRACEBACK)
    database.start(runs[10].key, "0.1.0", 1, {"gpu": "H200"})
    database.reset(runs[20].key)
    write_page(read_report_data(directory), directory / "report.html")
    return database


@pytest.fixture
def page(database: RunDatabase, browser: Browser) -> Iterator[Browser]:
    """The report of these, in a wide window; nothing may be complained about or asked for."""
    browser.window(1400)
    browser.open(database.path.parent / "report.html")
    yield browser
    assert browser.complaints() == []
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file", "data", "blob"}


def sideways(page: Browser) -> int:
    """How far the page could be scrolled to the right."""
    return page.run(
        "const { scrollWidth, clientWidth } = document.documentElement;"
        "return scrollWidth - clientWidth"
    )


def column(page: Browser, heading: str) -> list[str]:
    """The runs' texts in a column."""
    number = page.texts("#runs thead th").index(heading)
    return page.run(
        "return [...document.querySelectorAll('#runs tbody tr')]"
        ".map((row) => row.cells[arguments[0]] ? row.cells[arguments[0]].innerText : null)",
        number,
    )


def choose(page: Browser, label: str, shown: str) -> None:
    """Choose from the list of options that has a label."""
    page.run(
        "const label = [...document.querySelectorAll('label')]"
        ".find((each) => each.firstChild.textContent.trim() === arguments[0]);"
        "const select = label.querySelector('select');"
        "select.selectedIndex = [...select.options].findIndex(({ text }) => text === arguments[1]);"
        "select.dispatchEvent(new Event('change'))",
        label,
        shown,
    )


def search(page: Browser, text: str) -> str:
    """Type into the search of runs; gives how many there are then."""
    field = page.driver.find_element("css selector", ".dt-search input")
    field.send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    field.send_keys(text)
    return count(page)


def count(page: Browser) -> str:
    (shown,) = page.texts(".dt-info")
    return shown


def sort(page: Browser, heading: str, table: str = "runs") -> None:
    """Sort as who has no mouse does."""
    number = page.texts(f"#{table} thead th").index(heading)
    heading_at = page.driver.find_elements("css selector", f"#{table} thead th")[number]
    before = heading_at.get_attribute("aria-sort")
    heading_at.find_element("css selector", "[role=button]").send_keys(Keys.ENTER)
    page.until(lambda: heading_at.get_attribute("aria-sort") != before)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 400])
def test_everything_is_shown_in_any_window(page: Browser, width: int, dark: bool) -> None:
    page.window(width, dark=dark)
    page.run("location.reload()")
    page.until_drawn()
    # Nothing but the tables in their boxes is wider than the window.
    assert page.run("return innerWidth") == width
    assert sideways(page) == 0
    ground, text = (
        sum(map(int, color[color.index("(") + 1 : -1].split(",")[:3]))
        for color in page.run(
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('#metrics .xtick text')).fill]"
        )
    )
    assert (ground < 150 and text > 600) if dark else (ground > 700 and text < 300)
    kinds = page.run(
        "return [...document.querySelectorAll('#figures section')].map((section) => [section.id,"
        " [...section.querySelectorAll('.plot .cartesianlayer > .subplot')].map((plot) => ["
        "  plot.querySelectorAll('.scatterlayer .trace').length,"
        "  plot.querySelectorAll('.scatterlayer .trace .point').length,"
        "  plot.querySelectorAll('.heatmaplayer image').length,"
        "  plot.getBoundingClientRect().right <= innerWidth])])"
    )
    # Traces, points, heatmaps, within the window.
    assert dict(kinds) == {
        # 3 SAEs at 2 L0s; the MCC of two is published at one.
        "metrics": [[3, 6, 0, True]] + [[5, 8, 0, True]] + [[3, 6, 0, True]] * 3,
        # Each SAE a mean and two ends of a band.
        "curves": [[9, 0, 0, True]] * 4,
        "precision-recall": [[1, 1, 1, True]] * 3,
        "throughput": [[1, 3, 0, True]],
    }
    # One panel below another where there is no room beside it.
    tops = page.run(
        "return [...document.querySelectorAll('#curves .annotation')]"
        ".map((title) => title.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == (2 if width == 1400 else 4)
    # Figures end above what comes next.
    assert page.run(
        "return [...document.querySelectorAll('.plot')].every((plot) =>"
        " plot.querySelector('.main-svg').getBoundingClientRect().bottom"
        "   <= plot.getBoundingClientRect().bottom)"
    )


def test_figures_are_those_of_python(page: Browser, database: RunDatabase) -> None:
    of_place = [
        figure
        for figure in figures(read_report_data(database.path.parent))
        if figure.world == "synth-sae-bench-1k" and figure.l0 in (6.0, None)
    ]
    assert page.texts("#figures h2") == [figure.title for figure in of_place]
    for figure in of_place:
        shown = page.run(
            "return document.querySelector(`#${arguments[0]} .plot`).data"
            ".map(({ visible, ...own }) => own)",
            figure.kind.name,
        )
        assert shown == json.loads(json.dumps(figure.plot()["data"]))


def test_tables_are_the_summaries(page: Browser, database: RunDatabase) -> None:
    group, other, *_ = summarize_directory(database)
    rows = page.run(
        "return [...document.querySelector('#results tbody').rows].map((row) =>"
        " [...row.cells].map((cell) => cell.innerText))"
    )
    for row, sae, sign, mean in (
        (rows[0], "BatchTopK", "\u2212", 0.7574),
        (rows[1], "Standard L1", "+", 0.5),
    ):
        figure = group.saes[sae]["mcc"]
        assert figure.difference is not None
        assert row[3].split("\n") == [
            f"{figure.mean:.4f} ± {figure.std:.4f}",
            f"{sign}{abs(figure.difference):.1f}\u03c3 {mean:.4f} ± 0.0003",
        ]
    far = [abs(group.saes[sae]["mcc"].difference or 0) > 3 for sae in ("BatchTopK", "Standard L1")]
    assert far == [False, True]
    assert page.texts("#results .difference.far") == [
        rows[1][3].split("\n")[1].split("\u03c3")[0] + "\u03c3"
    ]
    assert [row[:2] for row in rows] == [
        [sae, l0] for l0 in ("6", "10") for sae in ("BatchTopK", "Standard L1", "JumpReLU")
    ]
    assert [row[8] for row in rows[:3]] == ["4\n1 failed", "5", "4\n1 running"]
    sort(page, "F1", "results")
    by_f1 = sorted(
        (
            (figures_["classification/f1_score"].mean, sae)
            for each in (group, other)
            for sae, figures_ in each.saes.items()
        ),
        reverse=True,
    )
    assert page.texts("#results td .name") == [sae for _, sae in by_f1]


def test_runs_are_sorted(page: Browser, database: RunDatabase) -> None:
    runs = database.runs()
    done = [run for run in runs if run.state == "done"]
    assert len(column(page, "MCC")) == 50
    sort(page, "MCC")
    greatest = sorted((run.metrics["mcc"] for run in done), reverse=True)
    assert column(page, "MCC") == [f"{value:.4f}" for value in greatest[:50]]
    assert page.run("return document.querySelector('#runs th[aria-sort]').ariaSort") == "descending"
    sort(page, "MCC")
    assert column(page, "MCC") == [f"{value:.4f}" for value in reversed(greatest[7:])]
    # What has none is last in either order.
    page.click("#runs_wrapper button.next")
    assert count(page) == "51 to 60 of 60"
    assert sorted(column(page, "state")[-3:]) == ["failed", "pending", "running"]
    sort(page, "SAE")
    assert column(page, "SAE") == sorted(run.sae for run in runs)[:50]
    assert count(page) == "1 to 50 of 60"


def test_runs_are_filtered(page: Browser) -> None:
    assert count(page) == "1 to 50 of 60"
    assert search(page, "batch other").startswith("1 to 10 of 10")
    assert set(column(page, "SAE")) == {"BatchTopK"}
    # A key is found that no column shows, and a word of an error.
    assert search(page, "made-up-other-jumprelu-10.0-3").startswith("1 to 1 of 1")
    assert search(page, "runtimeerror").startswith("1 to 1 of 1")
    assert column(page, "error") == ["RuntimeError: <b>no</b> & out"]
    assert "of 0" in search(page, "nothing at all")
    assert search(page, "") == "1 to 50 of 60"
    choose(page, "SAE", "JumpReLU")
    choose(page, "L0 asked for", "10")
    choose(page, "seed", "3")
    assert count(page) == "1 to 2 of 2 (60 in all)"
    assert column(page, "world") == ["synth-sae-bench-1k", "other"]
    choose(page, "world", "other")
    choose(page, "state", "failed")
    assert "of 0" in count(page)


def open_run(page: Browser, run: Run) -> None:
    search(page, run.key)
    page.click("#runs tbody tr")
    assert page.run("return document.getElementById('details').open")


def test_a_run_shows_its_traceback_and_its_configuration(
    page: Browser, database: RunDatabase
) -> None:
    run = database.runs()[3]
    open_run(page, run)
    assert page.texts("#details-title") == ["BatchTopK, L0 = 6, seed 3"]
    error, config, hardware = page.texts("#details pre")
    assert error == TRACEBACK
    assert json.loads(config) == run.config
    assert json.loads(hardware) == {"gpu": "H200"}
    page.click("#details button")
    assert not page.run("return document.getElementById('details').open")
    done = database.runs()[0]
    open_run(page, done)
    error, config, _ = page.texts("#details pre")
    assert error == ""
    assert json.loads(config) == done.config


def test_choices_change_tables_and_figures(page: Browser) -> None:
    before = page.texts("#results tbody")
    choose(page, "World", "other")
    page.until(lambda: page.texts("#results tbody") != before)
    assert len(page.texts("#results tbody tr")) == 6
    choose(page, "L0 of curves and latents", "10")
    titles = page.texts("#figures h2")
    assert titles == [
        "Metrics against L0",
        "Training curves at L0 = 10",
        "Latents as detectors of their features at L0 = 10",
        "Throughput",
    ]
    values = "return document.querySelector('#curves .plot').data.find((e) => e.xaxis === 'x2').y"
    assert set(page.run(values)) == {10}
    # Another world keeps the L0 that it has too.
    choose(page, "World", "synth-sae-bench-1k")
    page.until(lambda: page.texts("#results tbody") == before)
    assert page.texts("#figures h2") == titles


def test_a_name_in_the_legend_hides_what_is_of_it(page: Browser) -> None:
    hidden = (
        "return document.querySelector('#metrics .plot').data"
        ".filter((each) => !each.visible).map(({ name }) => name)"
    )
    drawn = "return document.querySelectorAll('#metrics .scatterlayer .trace').length"
    assert page.texts("#metrics .legend button") == ["BatchTopK", "Standard L1", "JumpReLU"]
    assert page.run(drawn) == 17
    page.click("#metrics .legend button")
    # Its means in all panels, and what is published of it.
    assert page.run(hidden) == ["BatchTopK"] * 6
    assert page.run(drawn) == 11
    assert page.run("return document.querySelector('.legend button').ariaPressed") == "false"
    page.click("#metrics .legend button")
    assert page.run(hidden) == []


def test_colours_follow_their_user(page: Browser) -> None:
    color = "return getComputedStyle(document.querySelector('#metrics .xtick text')).fill"
    before = page.run(color)
    page.window(1400, dark=True)
    page.until(lambda: page.run(color) != before)


def opened(browser: Browser, directory: Path) -> Browser:
    write_page(read_report_data(directory), directory / "report.html")
    browser.open(directory / "report.html")
    return browser


@pytest.mark.parametrize("width", [1400, 400])
def test_names_are_shown_as_they_are(browser: Browser, tmp_path: Path, width: int) -> None:
    database = fill(
        tmp_path, suite=NASTY[0], worlds=NASTY[:2], saes=NASTY, l0s=(6.0, 10.0), seeds=(0,)
    )
    first = database.runs()[0]
    config = {**first.config, "__proto__": {NASTY[0]: NASTY[1]}}
    database.add(NASTY[0], {}, [replace(first, config=config)])
    database.start(first.key, NASTY[1], 1, {"cpu": NASTY[3]})
    database.fail(first.key, NASTY[0])
    browser.window(width)
    opened(browser, tmp_path)
    assert set(column(browser, "SAE")) == set(NASTY)
    assert sideways(browser) == 0
    assert set(browser.texts("#results .name")) == set(NASTY)
    assert set(browser.texts("#curves .legend button")) == set(NASTY[1:])
    browser.click("#runs tbody tr")
    error, shown, _ = browser.texts("#details pre")
    assert error == NASTY[0]
    assert json.loads(shown) == config
    lines = "return document.querySelector('#details button').clientHeight / 20"
    assert browser.run(lines) < 2, "the word is on one line beside any name"
    browser.click("#details button")
    other = database.runs()[1]
    browser.click("#runs tbody tr", 1)
    # The others have nothing where this one has more.
    assert json.loads(browser.texts("#details pre")[1]) == other.config
    browser.click("#details button")
    # As a world of eight runs, and as an SAE of two more.
    assert search(browser, "$x$ <b>") == "1 to 10 of 10 (16 in all)"
    choose(browser, "SAE", NASTY[1])
    assert set(column(browser, "SAE")) == {NASTY[1]}
    assert browser.complaints() == []


def test_directories_with_little_in_them(browser: Browser, tmp_path: Path) -> None:
    browser.window(1400)
    RunDatabase(tmp_path / "empty", create=True)
    opened(browser, tmp_path / "empty")
    assert browser.texts("#runs tbody td") == ["There are no runs."]
    database = fill(tmp_path / "begun", saes=("BatchTopK",), seeds=(0,))
    for run in database.runs():
        database.reset(run.key)
    opened(browser, tmp_path / "begun")
    assert browser.run("return document.querySelectorAll('.js-plotly-plot').length") == 0
    assert column(browser, "state") == ["pending", "pending"]
    fill(tmp_path / "one", saes=("BatchTopK",), l0s=(None,), seeds=(0,))
    opened(browser, tmp_path / "one")
    assert browser.texts("#figures h2")[1] == "Training curves"
    assert browser.run("return document.querySelectorAll('.js-plotly-plot').length") == 4
    assert not browser.run("return document.getElementById('choices').checkVisibility()")
    assert browser.complaints() == []


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_images_are_pictures(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("kaleido")
    fill(tmp_path, l0s=(6.0,), seeds=(0, 1))
    paths = write_images(read_report_data(tmp_path), tmp_path / "figures", ending)
    assert len(paths) == 4
    for path in paths:
        content = path.read_bytes()
        if ending == "png":
            assert content.startswith(b"\x89PNG\r\n\x1a\n")
            # Two pixels of the file for one.
            assert int.from_bytes(content[16:20], "big") == 2160
        else:
            root = ElementTree.fromstring(content)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert "BatchTopK" in "".join(root.itertext())


def test_any_view_of_a_sweep_is_the_one_of_python(browser: Browser, tmp_path: Path) -> None:
    fill_sweep(tmp_path, lrs=(0.0001, 0.02), saes=("<b>x</b>", "$y$"))
    contents = read_report_data(tmp_path)
    write_page(contents, tmp_path / "report.html", read_sweeps(contents, ViewOptions()))
    browser.window(1400)
    browser.open(tmp_path / "report.html")
    tables = ("f1", "mcc", "uniqueness", "explained variance", "dead latents")
    for x, y, colour, facet in (
        ("hidden_dim", tables, "SAE", "none"),
        ("lr", ("mcc",), "hidden_dim", "SAE"),
        ("SAE", ("L0",), "lr", "hidden_dim"),
        ("L0", ("F1",), "MCC", "lr"),
        ("hidden_dim", ("MCC",), "none", "none"),
    ):
        for label, shown in (
            ("x", x),
            ("y", "the tables' metrics" if len(y) > 1 else y[0].upper()),
            ("colour", colour),
            ("facet", facet),
        ):
            choose(browser, label, shown)
        names = {"L0": "sae_l0", "SAE": "sae"}
        options = ViewOptions(
            names.get(x, x),
            tuple(names.get(name, name) for name in y),
            names.get(colour, colour),
            names.get(facet, facet),
        )
        (report,) = read_sweeps(contents, options)
        expected = json.loads(json.dumps(sweep_figure(report).plot()))
        data, titles, axis = browser.run(
            "const plot = document.querySelector('#sweep .plot');"
            "return [plot.data.map(({ visible, ...own }) => own),"
            " plot.layout.annotations.map(({ text }) => text), plot.layout.xaxis.title.text]"
        )
        assert data == expected["data"], options
        assert titles == [each["text"] for each in expected["layout"]["annotations"]]
        assert axis == expected["layout"]["xaxis"]["title"]["text"]
    assert browser.texts("#best-table tbody tr td:first-child") == [str(n) for n in range(1, 11)]
    assert (
        "highest mcc where l0 within 5% of the L0 asked for: 12 of 12"
        in browser.texts("#search")[0]
    )
    # Of WebGL without a graphics card a browser complains.
    complaints = [text for text in browser.complaints() if "GL" not in text]
    assert complaints == []
    assert browser.run("return document.querySelectorAll('#parallel .axis-title').length") == 9
