"""Options that the chosen mode does not use are refused by every command, table and request with them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from crater_ray.cli import main
from crater_ray.config import NeighboursTable
from crater_ray.serve.models import SearchRequest


@pytest.mark.parametrize(
    "words",
    [
        ["query", "index", "--id", "a", "--mode", "exact"],
        ["neighbours", "index", "--out", "n.parquet", "--mode", "exact"],
        ["evaluate", "job.toml"],  # exact by default
    ],
)
def test_candidates_without_a_shortlist_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--candidates", "30"])
    assert end.value.code == 2
    assert "--candidates = 30: mode exact scores every image" in capsys.readouterr().err


def test_a_table_and_a_request_refuse_them_too() -> None:
    with pytest.raises(ValidationError, match="mode exact scores every image"):
        NeighboursTable(mode="exact", candidates=30)
    with pytest.raises(ValidationError, match="mode exact scores every image"):
        SearchRequest(id="a", mode="exact", candidates=30)
    assert NeighboursTable(mode="exact").deep is None
    assert (SearchRequest(id="a").deep, SearchRequest(id="a", top=300).deep) == (200, 300)
