"""The report in a real browser: charts, filters, keys, themes, sizes; no errors, requests or accessibility errors."""

import json
import socket

import pytest

from shards.report.write import write_report

pytestmark = pytest.mark.slow
WIDTHS = (390, 1440)
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def url(hostile_dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(hostile_dataset.url, str(path))
    return path.as_uri()


def visible(page, selector=".photo"):
    return page.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility()).length"
    )


def drawn(page, which=".plot"):
    """Scroll through, so that these charts have their turn."""
    for plot in page.query_selector_all(which):
        plot.scroll_into_view_if_needed()
        page.wait_for_function("plot => plot.dataset.drawn === 'true'", arg=plot)
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_charts_are_drawn_nothing_is_asked_for_and_all_can_use_it(open_page, url, artefacts, width, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(url, width, theme)
    drawn(page)
    bars = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.bars path').length)")
    assert len(bars) == 10, "flow, reasons, six distributions, two people"
    assert all(bars)
    page.add_style_tag(content=".person { content-visibility: visible !important; }")  # or the screenshot has gaps
    page.screenshot(path=artefacts / f"report-{width}-{theme}.png", full_page=True)
    found = Axe().run(page).response["violations"]
    assert not found, [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found]
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing hangs over the edge"
    assert page.said == [], "no errors, and nothing hostile has run"
    assert [asked for asked in page.asked if not asked.startswith(("file:", "data:"))] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(246, 247, 249)"
    assert dark == (theme == "dark")


def test_the_policy_stops_what_would_get_in(open_page, url):
    """If an escape were missing somewhere, the page still could not run or load anything."""
    page = open_page(url)
    with socket.create_server(("127.0.0.1", 0)) as outside:
        there = f"http://127.0.0.1:{outside.getsockname()[1]}"
        page.evaluate(
            """there => {
                const script = document.createElement("script");
                script.textContent = "window.owned = 1";
                const image = new Image();
                image.src = `${there}/x`;
                document.body.append(script, image);
            }""",
            there,
        )
        assert page.evaluate("window.owned") is None
        assert page.evaluate("there => fetch(there).then(() => 'came', () => 'blocked')", there) == "blocked"
        outside.settimeout(0.5)
        with pytest.raises(TimeoutError):
            outside.accept()
    assert any("Content Security Policy" in said for said in page.said)


def test_filters(open_page, url, hostile):
    page = open_page(url)
    assert page.inner_text("#shown") == "17 of 17 photos"
    page.select_option("#by-reason", "reason:not_this_person")
    assert visible(page) == 2
    assert visible(page, ".person") == 1
    page.fill("#by-least", "0.3")
    assert visible(page) == 1
    assert page.inner_text("#shown") == "1 of 17 photos"
    page.select_option("#by-reason", "group:kept")
    page.fill("#by-least", "0.6")
    page.fill("#by-most", "0.65")
    assert visible(page) == 3, "0.60 and 0.65 of one, 0.60 of the other"
    page.fill("#by-name", hostile.names[hostile.star])
    assert visible(page) == 1
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('shown').textContent === '17 of 17 photos'")
    page.uncheck("#show-overlay")
    assert visible(page, ".overlay") == 0
    assert page.said == []


def test_a_bar_of_a_chart_is_a_filter(open_page, url):
    page = open_page(url)
    drawn(page, '[data-chart="reasons"]')
    page.click('[data-chart="reasons"] .bars .point:first-child path', force=True)
    assert page.input_value("#by-reason") == "reason:not_this_person"
    assert visible(page) == 2


def test_everything_by_keyboard(open_page, url, hostile):
    page = open_page(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "by-name"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("n")
    first = page.evaluate("document.activeElement.id")
    page.keyboard.press("n")
    second = page.evaluate("document.activeElement.id")
    assert first.startswith("person-")
    assert second.startswith("person-")
    assert first != second
    page.keyboard.press("p")
    assert page.evaluate("document.activeElement.id") == first
    page.focus(f"#person-{hostile.ada} .photo .open")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.is_visible("#photo-dialog")
    before = page.inner_text(".dialog-text")
    assert hostile.caption.split("<")[0] in before
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".dialog-text") != before
    page.keyboard.press("Escape")
    assert not page.is_visible("#photo-dialog")
    assert page.evaluate("document.activeElement.className") == "open"
    page.keyboard.press("?")
    assert page.is_visible("#keys-dialog")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") is None, "single keys are off"
    assert page.said == []


def test_an_open_photo_is_accessible_and_its_links_are_safe(open_page, url, hostile, artefacts):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(url)
    page.click(f"#person-{hostile.ada} .photo[data-group=kept] .open")
    page.screenshot(path=artefacts / "photo.png")
    found = Axe().run(page, context="#photo-dialog").response["violations"]
    assert not found, [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found]
    links = page.evaluate("[...document.querySelectorAll('#photo-dialog a')].map(a => [a.protocol, a.rel, a.target])")
    assert links == [["https:", "noopener noreferrer", "_blank"]]
    assert hostile.page_url in page.inner_text("#photo-dialog"), "shown, as text"


def test_light_and_dark_by_the_button(open_page, url):
    page = open_page(url, theme="light")
    drawn(page, '[data-chart="funnel"]')
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate(ink)
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_function(f"{ink} !== {json.dumps(light)}")


def test_without_scripts_everything_is_still_to_be_read(browser, url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator(".photo img").count() == 11, "8 kept, one rejected, a pair"
    assert "not_this_person" in page.locator("#flow").inner_text()
    context.close()
