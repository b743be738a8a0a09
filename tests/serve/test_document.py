"""The service is what its OpenAPI document says: judged by schemathesis, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

Rigs = Callable[..., Any]
CASES = 12  # of each route, of each mode
ROUTES = [
    ("POST", "/v1/search"),
    ("POST", "/v1/search/batch"),
    ("GET", "/v1/items"),
    ("GET", "/v1/items/{id}"),
    ("GET", "/v1/items/{id}/image"),
    ("GET", "/v1/items/{id}/tokens"),
    ("GET", "/v1/index"),
    ("PUT", "/v1/index/version"),
    ("GET", "/v1/basemap"),
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda m: m.value)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_is_answered_is_what_the_document_says(
    rig: Rigs, method: str, path: str, mode: GenerationMode
) -> None:
    made = rig(shards=2, max_bytes=100_000)
    schema = schemathesis.openapi.from_asgi("/openapi.json", made.client.app)
    try:
        asked = schema[path][method].as_strategy(generation_mode=mode)
    except ValueError:
        pytest.skip("nothing can be said wrongly there")

    @given(case=asked)
    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def judge(case: Any) -> None:
        # asking again without the token would send it again; and which columns and cursors there are to be
        # named is the index's affair, not the document's
        case.call_and_validate(
            headers={"authorization": made.client.headers["authorization"]},
            excluded_checks=[ignored_auth, positive_data_acceptance],
        )

    judge()


def test_every_route_is_judged_and_says_how_it_refuses(rig: Rigs) -> None:
    told = rig().client.get("/openapi.json").json()
    routes = [(method.upper(), path) for path, methods in told["paths"].items() for method in methods]
    assert sorted(routes) == sorted(ROUTES)
    assert {"SearchBody", "BatchBody", "Filter", "Box", "Problem"} <= set(told["components"]["schemas"])
    for methods in told["paths"].values():
        for route in methods.values():
            assert {"401", "429", "500", "503", "504"} <= set(route["responses"])
            assert route["summary"]
