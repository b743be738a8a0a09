"""Search by link, by a click on the map and by a dropped image; what is then on the screen."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from crater_ray.index.store import store_at
from crater_ray.plugins import registry

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
PIXEL = """
const [canvas, lon, lat] = [document.getElementById('map'), ...arguments];
const scale = canvas.clientWidth / 360;  // the whole body is in view
return [canvas.clientWidth / 2 + lon * scale, canvas.clientHeight / 2 - lat * scale];
"""
COLOUR = """
const [canvas, x, y] = [document.getElementById('map'), ...arguments];
return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)];
"""
INKED = """
const canvas = document.querySelectorAll('canvas.heat')[arguments[0]];
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
return data.filter((value, at) => at % 4 === 3 && value > 40).length / (data.length / 4);
"""


def link_of(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.browser.current_url).query)


def test_by_link(page: Any, index: Any) -> None:
    page.open("?id=i0016&top=5")
    rows = page.rows()
    wanted = index.search(id="i0016", top=5)
    assert [row["id"] for row in rows] == [hit.id for hit in wanted]
    assert [row["score"] for row in rows] == [f"{hit.score:.4f}" for hit in wanted]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["id"] == "i0017"
    assert rows[0]["text"] == "Moon · 22 km|23.00° S 75.00° E"
    assert rows[0]["tags"] == "same group"
    assert rows[0]["chosen"] == "true"
    page.until("document.getElementById('stage').dataset.drawn === '6'")
    explanation = index.search(id="i0016", top=1, explain=True)[0].explanation
    lines = page.script("return [...document.querySelectorAll('#lines g')].map(one => one.dataset.token)")
    assert sorted(lines) == sorted(str(pair.query_token) for pair in explanation)
    images = "[...document.querySelectorAll('#stage img')]"
    page.until(f"{images}.every(one => one.complete && one.naturalWidth === 64)")
    for side in (0, 1):
        page.until(f"(() => {{ {INKED} }})() > 0.02", side)
    assert page.text("#facts").startswith("Query and hit comparedi0016i0017BodyMoonMoon")
    assert "Score " + rows[0]["score"] in page.text("#sum")
    assert link_of(page)["id"] == ["i0016"]
    assert page.text("#status").startswith("5 hits, shortlist in")
    assert "1 of 1 shard, version 2" in page.text("#status")
    page.shot("link-1280-light")
    assert page.errors() == []


def test_the_map_marks_query_and_hits(page: Any) -> None:
    page.open("?id=i0016&top=3")
    page.rows()
    page.until("document.getElementById('map-count').textContent.includes('place')")
    hit = page.script("return getComputedStyle(document.documentElement).getPropertyValue('--hit')")
    red, green, blue = (int(hit.strip()[at : at + 2], 16) for at in (1, 3, 5))
    x, y = page.script(PIXEL, 75.0, -23.0)  # of i0017
    page.until(f"(() => {{ {COLOUR} }})().join() === arguments[2]", x + 7, y + 7, f"{red},{green},{blue}")
    west, east = (
        page.script(COLOUR, *page.script(PIXEL, -150, 40)),
        page.script(COLOUR, *page.script(PIXEL, 150, 40)),
    )
    assert east[0] - west[0] > 50  # the base map lies below


def test_by_click_on_the_map(page: Any, index: Any) -> None:
    page.open()
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    page.script(
        "document.getElementById('bodies').value = 'moon';"
        "document.getElementById('bodies').dispatchEvent(new Event('change'))"
    )
    page.until("document.getElementById('map-title').textContent === 'Map of Moon'")
    frame = page.script(
        "const f = document.getElementById('map').getBoundingClientRect();return [f.width, f.height]"
    )
    x, y = page.script(PIXEL, -180.0 + 15 * 20, -20.0)  # of i0020
    canvas = page.find("#map")
    chain = ActionChains(page.browser)
    chain.move_to_element_with_offset(canvas, x - frame[0] / 2, y - frame[1] / 2).perform()
    page.until("document.getElementById('map-here').textContent.startsWith('i0020')")
    chain.click().perform()
    assert page.rows()[0]["id"] == index.search(id="i0020", top=1)[0].id
    assert link_of(page)["id"] == ["i0020"]
    assert page.text("#query-card-name") == "i0020"
    # two views of that crater: the other one is a choice away
    assert page.script("return [...document.getElementById('views').options].map(one => one.value)") == [
        "i0020",
        "i0021",
    ]
    page.browser.back()
    page.until("document.querySelectorAll('#lists li').length === 0")


def test_by_drop(page: Any, root: Any, index: Any) -> None:
    from crater_ray.index.versions import latest

    reader = registry().build(latest(store_at(root)).readers[0])
    image = reader.load("16")
    page.open()
    page.until("document.getElementById('map-count').textContent.endsWith(' places')")
    page.script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), one => one.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], 'sample.png', { type: 'image/png' }));
        for (const kind of ['dragenter', 'dragover', 'drop'])
          document.getElementById('drop').dispatchEvent(
            new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried }));
    """,
        base64.b64encode(image).decode(),
    )
    rows = page.rows()
    wanted = index.search(image, top=10)
    assert [(row["id"], row["score"]) for row in rows] == [(hit.id, f"{hit.score:.4f}") for hit in wanted]
    assert page.text("#query-card-name") == "sample.png"
    assert "id" not in link_of(page)  # an image does not travel in a link
    page.until("document.getElementById('stage').dataset.drawn === '6'")
    assert page.script("return document.querySelectorAll('#lines g').length") == 6
    page.until(f"(() => {{ {INKED} }})() > 0.02", 0)
    page.shot("drop-1280-light")
    assert page.errors() == []


def test_side_by_side(page: Any, index: Any) -> None:
    page.open("?id=i0016&mode=both&candidates=4&top=8")
    staged, exact = page.rows("shortlist"), page.rows("exact")
    assert [row["id"] for row in exact] == [hit.id for hit in index.search(id="i0016", top=8, mode="exact")]
    shared = len({row["id"] for row in staged} & {row["id"] for row in exact})
    assert page.text("#agreement").startswith(f"{shared} of 8 exact hits are in the two-stage list")
    assert page.text("#lists h3").startswith("Shortlist")
    page.shot("side-by-side-1280-light")


def test_one_vector_alone(page: Any, index: Any) -> None:
    page.open("?id=i0016&mode=shortlist-only&top=5")
    wanted = index.search(id="i0016", mode="shortlist-only", top=5)
    rows = page.rows("shortlist-only")
    assert [(row["id"], row["score"]) for row in rows] == [(hit.id, f"{hit.score:.4f}") for hit in wanted]
    assert page.find("input[value=shortlist-only]").is_selected()
    assert not page.find("#candidates").is_enabled()
    assert page.text("#status").startswith("5 hits, shortlist-only in")
    page.until("document.getElementById('sum').textContent.includes('one vector of each image (mean)')")
    assert page.script("return document.querySelectorAll('#lines g').length") == 0
    page.shot("shortlist-only-1280-light")
    page.script("document.querySelector('input[name=mode][value=shortlist]').click()")
    page.rows("shortlist")
    assert page.find("#candidates").is_enabled()
    page.until("document.querySelectorAll('#lines g').length === 6")
    assert page.errors() == []


def test_first_hits_join_the_query(page: Any, index: Any) -> None:
    page.open("?id=i0016&mode=exact&expand=2")
    wanted = index.search(id="i0016", mode="exact", expand=2)
    assert [(row["id"], row["score"]) for row in page.rows("exact")] == [
        (hit.id, f"{hit.score:.4f}") for hit in wanted
    ]
    assert page.find("#expand").get_attribute("value") == "2"
    assert page.errors() == []


def test_filters_travel_in_the_link_and_change_the_hits(page: Any, index: Any) -> None:
    page.open("?id=i0016")
    page.rows()
    page.script("document.querySelector('[data-filter=\"body mars\"]').click()")
    page.until(
        "[...document.querySelectorAll('#lists .where:first-of-type')].length && "
        "document.querySelector('#lists .what .where').textContent.startsWith('Mars')"
    )
    assert all(row["text"].startswith("Mars") for row in page.rows())
    least = page.find('[data-filter="diameter_km min"]')
    least.send_keys("30", "\ue007")
    page.until(
        "[...document.querySelectorAll('#lists .what .where:first-child')]"
        ".every(one => parseFloat(one.textContent.split(' · ')[1]) >= 30) && "
        "document.getElementById('filters-set').textContent === '2 set'"
    )
    assert all(float(row["text"].split(" · ")[1].split(" km")[0]) >= 30 for row in page.rows())
    address = page.browser.current_url
    rows = page.rows()
    page.open("?id=i0001")
    page.rows()
    page.browser.get(address)
    assert page.rows() == rows
    assert page.script("return document.querySelector('[data-filter=\"diameter_km min\"]').value") == "30"
    page.find("#filters-clear").click()
    page.until("document.getElementById('filters-set').textContent === ''")
    page.until("document.querySelectorAll('#lists li strong')[0].textContent === 'i0017'")


def test_a_box_drawn_on_the_map(page: Any) -> None:
    page.open("?id=i0016")
    page.rows()
    canvas = page.find("#map")
    width, height = canvas.size["width"], canvas.size["height"]
    page.find("#draw-box").click()
    start, end = page.script(PIXEL, -7, -10), page.script(PIXEL, 52, -36)
    ActionChains(page.browser).move_to_element_with_offset(
        canvas, start[0] - width / 2, start[1] - height / 2
    ).click_and_hold().move_to_element_with_offset(
        canvas, end[0] - width / 2, end[1] - height / 2
    ).release().perform()
    page.until("location.search.includes('box=')")
    west, south, east, north = (float(side) for side in link_of(page)["box"][0].split(","))
    assert (west, north) == pytest.approx((-7, -10), abs=1.5)  # two pixels
    assert (east, south) == pytest.approx((52, -36), abs=1.5)
    page.until("document.querySelectorAll('#lists li').length === 4")
    assert {row["id"] for row in page.rows()} == {f"i00{number}" for number in (12, 13, 14, 15)}
