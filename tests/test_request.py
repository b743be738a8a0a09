"""A search request checks itself; filters and boxes as the command line writes them."""

from __future__ import annotations

from typing import Any

import pytest

from crater_ray import SearchRequest, open_index
from crater_ray.errors import QueryError
from crater_ray.request import (
    Box,
    Filter,
    Near,
    Place,
    parse_box,
    parse_crop,
    parse_filter,
    parse_near,
    parse_place,
)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image": b"x", "id": "a"}, "one image or one id"),
        ({"id": "a", "place": Place(lat=0, lon=0, km=9)}, "one image or one id or one place"),
        ({"place": (0, 0, 9)}, "place is a crater_ray.Place"),
        ({"top": 0}, "top and candidates must be 1 or more, not 0 and None"),
        ({"candidates": 0}, "not 10 and 0"),
        ({"expand": -1}, "expand is 0 to 100 hits, not -1"),
        ({"expand": 10**9}, "expand is 0 to 100 hits"),
        ({"top": "10"}, "top is a whole number, not '10'"),
        ({"top": True}, "top is a whole number, not True"),
        ({"candidates": 2.5}, "candidates is a whole number, not 2.5"),
        ({"expand": None}, "expand is a whole number, not None"),
        ({"version": "1"}, "version is a whole number"),
        ({"mode": "both"}, "mode 'both' is not one of exact, shortlist, shortlist-only"),
        ({"mode": "exact", "candidates": 5}, "mode exact scores every image"),
        ({"mode": "shortlist-only", "candidates": 5}, "mode shortlist-only ranks by one vector an image"),
        ({"mode": "shortlist-only", "explain": True}, "explain: mode shortlist-only .* leave explain out"),
    ],
)
def test_what_cannot_be_searched_is_refused_when_it_is_asked(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        SearchRequest(**options)


def test_a_place_and_a_window_as_the_command_line_writes_them() -> None:
    assert parse_place("-43.3,-11.4,85") == Place(lat=-43.3, lon=-11.4, km=85)
    assert parse_place("1,2,3, moon").body == "moon"
    assert parse_place("1,2,3,moon").in_words() == "1,2,3,moon"
    assert parse_crop("0,10,300,200") == (0, 10, 300, 200)


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        (parse_place, "1,2", "place '1,2': write lat,lon,km or lat,lon,km,body"),
        (parse_place, "1,2,3,moon,5", "write lat,lon,km or"),
        (parse_place, "-175,-15,20", "latitude comes first: did you mean -15,-175,20"),
        (parse_place, "1,2,0", "km: "),
        (parse_place, "nan,2,9", "lat: "),
        (parse_crop, "0,0,9", "crop '0,0,9': write x,y,width,height in whole pixels"),
        (parse_crop, "0,0,9.5,9", "in whole pixels"),
        (parse_crop, "-1,0,9,9", "x and y count from 0, width and height from 1"),
        (parse_crop, "0,0,0,9", "width and height from 1"),
    ],
)
def test_a_place_or_a_window_that_is_none_says_how_it_is_written(parse: Any, text: str, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        parse(text)


def test_at_least_as_many_are_reranked_as_are_given_back() -> None:
    assert SearchRequest(top=300).described() == {
        "mode": "shortlist",
        "candidates": 300,
        "expand": 0,
        "top": 300,
        "filters": [],
        "box": None,
        "near": None,
    }
    first = SearchRequest(top=3, candidates=4, expand=7, explain=True).first_pass()
    assert (first.top, first.candidates, first.expand, first.explain) == (7, 7, 0, False)
    assert SearchRequest(mode="exact", expand=2).first_pass().shortlisted is None
    alone = SearchRequest(mode="shortlist-only", top=3, expand=2)
    assert (alone.described()["candidates"], alone.shortlisted, alone.first_pass().shortlisted) == (
        None,
        3,
        2,
    )
    assert alone.in_words() == "shortlist-only, expanded by 2"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("body=moon,mars", Filter(column="body", any_of=["moon", "mars"])),
        ("km=5:20", Filter(column="km", min=5, max=20)),
        ("km=:20.5", Filter(column="km", max=20.5)),
        ("km=5:", Filter(column="km", min=5)),
        ("km>=5", Filter(column="km", min=5)),
        ("km <= 20.5", Filter(column="km", max=20.5)),
        ("id=moon:a", Filter(column="id", any_of=["moon:a"])),
        ("id=a=b>c", Filter(column="id", any_of=["a=b>c"])),
    ],
)
def test_a_filter_of_the_command_line(text: str, found: Filter) -> None:
    assert parse_filter(text) == found
    assert parse_filter(found.in_words()) == found


def test_a_box_and_a_place_of_the_command_line() -> None:
    assert parse_near("-43.3,-11.4,200") == Near(lat=-43.3, lon=-11.4, km=200)
    assert parse_box("-30,-20,30.5,20") == Box(west=-30, south=-20, east=30.5, north=20)


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_filter, "body", "write column=value,value or column=min:max or column>=min"),
        (parse_filter, "km=:", "write column="),
        (parse_filter, "km=nan:", "finite"),
        (parse_box, "1,2,3", "write west,south,east,north"),
        (parse_box, "0,20,1,10", "south lies above north"),
        (parse_box, "0,20,1,100", "north: .* less than or equal to 90"),
        (parse_near, "1,2", "write lat,lon,km"),
        (parse_near, "91,0,5", "lat: .* less than or equal to 90"),
        (parse_near, "9,0,0", "km: .* greater than 0"),
        (parse_filter, "body>=a", "an end of a range is a number, not 'a'; text is column=a,b"),
        (parse_filter, "km>=nan", "an end of a range is a finite number, not 'nan'"),
        (parse_filter, "km=5:inf", "an end of a range is a finite number, not 'inf'; or leave it out"),
        (parse_filter, "body!=moon", "a filter names what passes, and has no !=; write column=value"),
        (parse_filter, "km=>5", "write km>=5; ends are included"),
        (parse_filter, "km=<5", "write km<=5; ends are included"),
        (parse_filter, "km > 5", "write km>=5; ends are included"),
        (parse_filter, "km<5", "write km<=5; ends are included"),
        (parse_filter, "km==5", "write km=5; ends"),
        (parse_filter, "=5", "write column="),
        (parse_near, "-177.6,-21.4,500", "latitude comes first: did you mean -21.4,-177.6,500?"),
        (parse_box, "-40,170,0,-170", "south: .*; write west,south,east,north"),
    ],
)
def test_one_line_says_what_is_wrong(parse: Any, text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as told:
        parse(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filters": Filter(column="body", any_of=["moon"])}, "filters is a tuple"),
        ({"filters": ("body=moon",)}, "filters is a tuple"),
        ({"box": (0, 20, 50, 40)}, "box is a crater_ray.Box"),
        (
            {"image": "photo.png"},
            r"an image is bytes or an array, not str; of a file: Path\(...\).read_bytes",
        ),
    ],
)
def test_what_python_passes_by_mistake_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        SearchRequest(**options)


def test_a_range_that_holds_nothing_is_refused() -> None:
    with pytest.raises(QueryError, match="min lies above max"):
        parse_filter("diameter_km=5:1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": 5}, "id is the text of an item's id, not 5"),
        ({"filters": None}, "filters is a tuple"),
        ({"filters": {"body": "moon"}}, "filters is a tuple"),
        ({"explain": "no"}, "explain is True or False"),
        ({"mode": None}, "mode None is not one of"),
        ({"top": "5"}, "top is a whole number"),
    ],
)
def test_an_argument_of_another_type_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        SearchRequest(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None,), "root is the path of an index, not None"),
        ((b"index",), "root is the path of an index"),
        (("index", "3"), "version is a whole number, not '3'"),
        (("index", True), "version is a whole number, not True"),
    ],
)
def test_what_opens_an_index_is_named_where_its_type_is_another(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        open_index(*given)
