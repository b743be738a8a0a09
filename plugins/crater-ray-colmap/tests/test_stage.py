"""Work is done once, goes on where it was cut, and is never mixed with that of other things."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crater_ray.errors import UserError
from crater_ray_colmap import database, stage
from crater_ray_colmap.stage import alone, key, once


def test_work_is_done_once(tmp_path: Path) -> None:
    calls = []

    def work(folder: Path) -> Mapping[str, Any]:
        calls.append(folder)
        return {"value": len(calls)}

    first = once(tmp_path / "a", "key", work)
    assert first["value"] == 1
    assert not first["resumed"]
    assert once(tmp_path / "a", "key", work) == first
    assert len(calls) == 1
    assert once(tmp_path / "a", "other", work)["value"] == 2


def test_what_was_cut_is_gone_on_with_and_what_was_made_otherwise_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "a"

    def cut(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    for made_of in ("key", "key", "other"):
        with pytest.raises(KeyboardInterrupt):
            once(folder, made_of, cut)
    (folder / "beside").mkdir()
    seen = once(folder, "other", lambda here: {"there": sorted(path.name for path in here.iterdir())})
    assert seen["resumed"]
    assert "half" in seen["there"]
    seen = once(folder, "third", lambda here: {"there": sorted(path.name for path in here.iterdir())})
    assert not seen["resumed"]
    assert seen["there"] == [stage.STARTED]


def test_a_marker_that_was_cut_is_no_marker(tmp_path: Path) -> None:
    once(tmp_path / "a", "key", lambda _: {"turn": 1})
    done = tmp_path / "a" / stage.DONE
    done.write_text(done.read_text()[:-5])
    assert once(tmp_path / "a", "key", lambda _: {"turn": 2})["turn"] == 2


def test_keys_follow_content() -> None:
    assert key("a", [1, (2, 3)], {"x": 1, "y": 2}) == key("a", [1, [2, 3]], {"y": 2, "x": 1})
    assert len({key("a"), key("b"), key("a", "b"), key(["a", "b"]), key()}) == 5


def test_a_second_run_is_refused_until_the_first_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PATIENCE", 0.0)
    code = (
        "import sys; from pathlib import Path; from crater_ray_colmap.stage import alone\n"
        "with alone(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run writes"), alone(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with alone(tmp_path):
            pass


def test_a_database_is_replaced_with_its_wal(tmp_path: Path) -> None:
    """A -wal that is left beside another database would be played into it."""
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    old = sqlite3.connect(target)  # held open, so that its -wal stays
    old.execute("PRAGMA journal_mode=WAL")
    old.execute("CREATE TABLE old (value)")
    old.executemany("INSERT INTO old VALUES (?)", [(number,) for number in range(1000)])
    old.commit()
    with closing(sqlite3.connect(source)) as new:
        new.execute("PRAGMA journal_mode=WAL")
        new.execute("CREATE TABLE new (value)")
        new.execute("INSERT INTO new VALUES (7)")
        new.commit()
        assert target.with_name("target.db-wal").stat().st_size > 0
        database.copy(source, target)  # while `new` is open: part of it lies in source's own -wal
    assert not target.with_name("target.db-wal").exists()
    assert not target.with_name("target.db-shm").exists()
    with closing(sqlite3.connect(target)) as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert found.execute("SELECT name FROM sqlite_master").fetchall() == [("new",)]
        assert found.execute("SELECT value FROM new").fetchall() == [(7,)]
    old.close()
    assert sorted(path.name for path in tmp_path.iterdir() if "target" in path.name) == ["target.db"]
