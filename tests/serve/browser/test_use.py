"""The page by keyboard, small, dark, refused, behind a token, without a shard, with odd items and many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TAB, DOWN, UP, END, LEFT, ENTER = "\ue004", "\ue015", "\ue013", "\ue010", "\ue012", "\ue007"
FOCUS = "document.activeElement.id || document.activeElement.dataset.id || document.activeElement.tagName"
COLOUR = """
const [selector, name] = arguments;
return getComputedStyle(document.querySelector(selector))[name].match(/\\d+/g).map(Number);
"""
ODD = "../odd 'id' \"of\" 9% <b>/é.jpg"


def test_by_keyboard(page: Any) -> None:
    page.open("?id=i0016&body=moon")
    page.rows()
    page.script("document.body.tabIndex = -1; document.body.focus()")
    reached = []
    for _ in range(60):
        page.keys(TAB)
        reached.append(page.script(f"return {FOCUS}"))
        seen = page.script(
            "const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);"
            "const label = document.activeElement.nextElementSibling;"
            "const beside = label ? getComputedStyle(label).outlineStyle : 'none';"
            "return outlineStyle !== 'none' || beside !== 'none'"
        )
        assert seen, f"the focus on {reached[-1]} cannot be seen"
        if reached[-1] == "i0017":
            break
    order = ["copy-link", "file", "id", "search", "top", "map", "zoom-in", "next", "show-heat", "i0017"]
    assert [one for one in reached if one in order] == order
    page.keys(DOWN)
    page.keys(DOWN)
    rows = page.rows()
    assert [row["chosen"] for row in rows[:4]] == ["false", "false", "true", "false"]
    assert page.script(f"return {FOCUS}") == rows[2]["id"]
    page.until("document.getElementById('compare-which').textContent === 'hit 3 of 10, shortlist'")
    page.until("location.search.includes(arguments[0])", f"hit={rows[2]['id']}")
    page.keys(END)
    page.until("document.getElementById('compare-which').textContent.startsWith('hit 10 of 10')")
    assert page.script("return document.getElementById('next').disabled")
    page.keys(UP)
    page.until("document.getElementById('compare-which').textContent.startsWith('hit 9 of 10')")


def test_the_map_by_keyboard(page: Any) -> None:
    page.open("?body=moon")
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    page.script("document.getElementById('zoom-out').focus()")
    page.script("document.getElementById('map').focus({ focusVisible: true })")
    for _ in range(3):
        page.keys("+")
    page.keys(LEFT)
    page.until("document.getElementById('map-here').textContent.includes(' km')")
    nearest = page.text("#map-here").split(" ")[0]
    page.keys(ENTER)
    page.rows()
    assert page.text("#query-card-name") == nearest


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_readable(page: Any, window: Callable[..., None], width: int, scheme: str) -> None:
    window(width, 844 if width < 600 else 900, scheme)
    page.open("?id=i0016&top=6")
    page.rows()
    page.until("document.getElementById('stage').dataset.drawn === '6'")
    assert page.script("return document.documentElement.scrollWidth") <= width
    beyond = page.script(
        "return [...document.querySelectorAll('main *')].filter(one => one.checkVisibility()"
        " && !one.closest('.hidden') && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    assert beyond == []
    ink, paper, soft = (
        page.script(COLOUR, *of)
        for of in (("#hits", "color"), ("#hits", "backgroundColor"), (".where", "color"))
    )
    assert (sum(ink) < sum(paper)) == (scheme == "light")
    assert contrast(ink, paper) > 7
    assert contrast(soft, paper) > 4.5
    page.shot(f"page-{width}-{scheme}")
    if width < 600:
        for name in ("compare", "hits"):
            page.script("document.getElementById(arguments[0]).scrollIntoView()", name)
            page.shot(f"page-{width}-{scheme}-{name}")


def contrast(one: list[int], other: list[int]) -> float:
    """Of two colours, as WCAG 2.2 has it."""

    def luminance(colour: list[int]) -> float:
        parts = [channel / 255 for channel in colour[:3]]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_empty(page: Any) -> None:
    page.open()
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    assert page.text("#hits-empty").startswith("No query yet")
    assert page.text("#about").startswith("craters, version 2: 43 views")
    page.shot("empty-1280-light")
    assert page.errors() == []


def test_errors_are_shown_in_words(page: Any) -> None:
    page.open("?id=nobody")
    page.until("!document.getElementById('problem').hidden")
    assert page.text("#problem").startswith("Not Found: no item 'nobody' in version 2")
    page.shot("problem-1280-light")
    page.script("document.getElementById('id').value = 'i0016'")
    page.find("#search").click()
    page.rows()
    assert page.script("return document.getElementById('problem').hidden")
    top = page.find("#top")
    top.clear()
    top.send_keys("-1", TAB)
    page.until("!document.getElementById('problem').hidden")
    assert page.text("#problem").startswith("Unprocessable")
    assert "top: Input should be greater than or equal to 1" in page.text("#problem")
    assert page.script("return document.querySelectorAll('#lists li').length") == 0


def test_no_item_passes(page: Any) -> None:
    page.open('?id=i0016&filters=[{"column":"diameter_km","min":4000}]')
    page.until("document.getElementById('hits-empty').textContent === 'No item passes the filters.'")


def test_odd_ids_and_lost_images(page: Any) -> None:
    page.open("?top=3")
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    page.script("document.getElementById('id').value = arguments[0]", ODD)
    page.find("#search").click()
    page.until("document.getElementById('query-card-name').textContent === arguments[0]", ODD)
    page.until("document.getElementById('query-card-image').naturalWidth === 64")
    page.until("document.getElementById('stage').dataset.drawn === '6'")
    assert page.script("return document.querySelectorAll('main b').length") == 0
    page.open("?id=i0007&top=3")
    page.rows()
    page.until("document.getElementById('query-card-image').classList.contains('missing')")
    page.until("document.getElementById('compare-note').textContent.includes('the tape is lost')")


def test_a_token_is_asked_for_once(visit: Any, rig: Any) -> None:
    token = "a token of more than sixteen"
    page = visit(rig(token=True).client.app).open("?id=i0016")
    page.until("document.getElementById('token-dialog').open")
    page.shot("token-1280-light")
    page.find("#token").send_keys("not the right one at all", ENTER)
    page.until(
        "document.getElementById('token-dialog').open && !document.getElementById('token-refused').hidden"
    )
    page.find("#token").send_keys(token, ENTER)
    assert len(page.rows()) == 10
    assert page.script("return sessionStorage.getItem('crater-ray token')") == token
    page.until("document.getElementById('hit-image').naturalWidth === 64")
    page.open("?id=i0020")
    assert len(page.rows()) == 10


def test_below_a_prefix_the_page_is_whole_and_has_a_token_of_its_own(visit: Any, rig: Any, maps: Any) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    token = "a token of more than sixteen"
    page = visit(Starlette(routes=[Mount("/maps/moon", rig(basemaps=maps).client.app)]))
    page.open("maps/moon?id=i0016&body=moon")  # without the slash
    page.until("document.getElementById('token-dialog').open")
    page.find("#token").send_keys(token, ENTER)
    assert len(page.rows()) == 10
    page.until("document.getElementById('hit-image').naturalWidth === 64")
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    page.until("performance.getEntriesByType('resource').some(one => one.name.includes('/v1/basemap'))")
    assert "base map cannot" not in page.text("#map-here")
    fetched = page.script(
        "return performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)"
    )
    assert all(path.startswith("/maps/moon/") for path in fetched if path.startswith("/")), fetched
    assert page.script("return location.pathname") == "/maps/moon/"
    assert page.script("return Object.keys(sessionStorage)") == ["crater-ray token/maps/moon"]
    assert [line for line in page.errors() if "401" not in line] == []


def test_a_token_that_is_not_given(visit: Any, rig: Any) -> None:
    page = visit(rig(token=True).client.app).open()
    page.until("document.getElementById('token-dialog').open")
    page.find("#token-cancel").click()
    page.until("document.getElementById('problem').textContent.startsWith('Unauthorized')")


def test_missing_shards_are_shown(visit: Any, rig: Any) -> None:
    served = rig(token=False, shards=3, retries=0)
    served.shards[2].failing["search"] = [ConnectionError("gone")] * 50
    page = visit(served.client.app).open("?id=i0016")
    page.until("!document.getElementById('partial').hidden")
    assert page.text("#partial") == "Only 2 of 3 shards answered: better hits may be missing."
    assert "2 of 3 shards" in page.text("#status")
    page.find("#strict").click()
    page.until("!document.getElementById('problem').hidden")
    assert page.text("#problem").startswith("Service Unavailable: 2 of 3 shards answered")


def test_a_hundred_thousand_craters_are_drawn_in_a_frame(page: Any) -> None:
    page.open()
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    took = page.browser.execute_async_script("""
        const done = arguments[arguments.length - 1];
        const run = async () => {
          const { Points } = await import('./points.js');
          const { draw } = await import('./map_drawing.js');
          const [lat, lon, diameter] = [{ name: 'lat' }, { name: 'lon' }, { name: 'diameter_km' }];
          const role = { lat, lon, body: null, diameter };
          const points = new Points(role);
          points.total = 100000;
          points.room(100000);
          for (let page = 0; page < 10; page++) {
            const rows = Array.from({ length: 10000 }, (_, row) => {
              const at = 10000 * page + row;
              const [down, across] = [(at * 7919 % 16000) / 100 - 80, (at * 104729 % 36000) / 100 - 180];
              return [`i${at}`, `c${at}`, down, across, at % 90];
            });
            points.take({ columns: ['id', 'group', 'lat', 'lon', 'diameter_km'], rows });
          }
          const canvas = new OffscreenCanvas(1000, 500);
          const context = canvas.getContext('2d');
          const scene = {
            view: { lon: 0, lat: 0, scale: 1000 / 360 }, size: { width: 1000, height: 500 }, points, body: 0,
            radius: 1737, passes: () => true, base: null, box: null, query: null, hits: [], chosen: null };
          draw(context, scene);
          const start = performance.now();
          draw(context, scene);
          context.getImageData(0, 0, 1, 1);
          return [points.marks.length, performance.now() - start];
        };
        run().then(done, (error) => done([String(error), 0]));
    """)
    assert took[0] == 100_000
    assert took[1] < 2_000  # a tenth of this on a quiet machine
