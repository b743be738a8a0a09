"""Objects made only where there is none, against a real server; and what is said where there is no server."""

from __future__ import annotations

import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError

from crater_ray.errors import ConfigError, StorageError
from crater_ray.index import s3
from crater_ray.index.lock import DriverLock
from crater_ray.index.s3 import Bucket
from crater_ray.index.store import store_at
from crater_ray.index.versions import latest
from crater_ray.jobfile import told, url_of


def test_the_server_refuses_a_put_where_there_is_an_object(place):
    here = Bucket(told(place))
    obstore.put(here._store, "x", b"first", mode="create")
    with pytest.raises(AlreadyExistsError, match="412 Precondition Failed"):
        obstore.put(here._store, "x", b"second", mode="create")
    assert here.get("x") == b"first"


def test_of_many_that_create_an_object_at_once_one_wins(place):
    here = Bucket(told(place))
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: here.create("x", b"%d" % n), range(8)))
    assert sum(won) == 1
    assert here.get("x") == b"%d" % won.index(True)


def test_a_create_whose_answer_is_lost_has_won_and_one_that_was_disturbed_is_tried_again(place, monkeypatch):
    here, put = Bucket(told(place)), obstore.put
    calls = []

    def lost(*arguments, **more):
        calls.append(arguments[1])
        put(*arguments, **more)
        raise GenericError("connection reset")

    def disturbed(*arguments, **more):
        calls.append(arguments[1])
        if len(calls) == 1:
            raise AlreadyExistsError("409 ConditionalRequestConflict")
        return put(*arguments, **more)

    here.names()  # it has answered before
    monkeypatch.setattr(obstore, "put", lost)
    assert here.create("lost", b"mine")
    assert calls == ["lost"]
    calls.clear()
    monkeypatch.setattr(obstore, "put", disturbed)
    assert here.create("disturbed", b"mine")
    assert calls == ["disturbed"] * 2
    assert here.get("disturbed") == b"mine"


def test_storage_that_overwrites_is_refused_before_anything_is_written(place, monkeypatch):
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda *arguments, mode=None, **more: put(*arguments, **more))
    with pytest.raises(ConfigError, match="this storage overwrites an object"):
        DriverLock(store_at(place)).__enter__()
    assert list(Bucket(told(place)).keys("")) == []


def test_a_file_of_many_pieces_is_whole_or_refused(place, monkeypatch):
    monkeypatch.setattr(s3, "_PIECE", 1000)
    here = Bucket(told(place))
    content = os.urandom(2500)
    here.put("x", content)
    assert b"".join(here.pieces("x", 2500)) == content
    here.put("x", content[:2000])  # as long as two pieces
    assert b"".join(here.pieces("x", 2500)) == content[:2000]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, r"cannot be reached at http://127\.0\.0\.1:9"),
        ({"AWS_ENDPOINT_URL": ""}, "AWS_ENDPOINT_URL is ''; set it to an address such as https://host"),
        ({"AWS_ALLOW_HTTP": None}, "which is not https; set AWS_ALLOW_HTTP=true"),
        (
            {
                "AWS_ENDPOINT_URL": None,
                "AWS_ACCESS_KEY_ID": None,
                "AWS_SECRET_ACCESS_KEY": None,
                "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
            },
            "there are no credentials for it; set AWS_ACCESS_KEY_ID",
        ),
    ],
)
def test_storage_out_of_reach_is_the_users_to_mend(place, monkeypatch, changes, says):
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says):
        latest(store_at(place))


def test_a_missing_bucket_and_other_addresses(place):
    with pytest.raises(ConfigError, match="no such bucket; make it"):
        latest(store_at("s3://nobody-has-this/moon"))
    with pytest.raises(ConfigError, match="no such bucket; make it"):
        DriverLock(store_at("s3://nobody-has-this/moon")).__enter__()
    with pytest.raises(ConfigError, match="names no bucket"):
        Bucket("s3://")
    with pytest.raises(ConfigError, match=r"not on gs://"):
        latest(store_at("gs://bucket/moon"))
    assert url_of(Path("maps/moon")) is None
    assert url_of(Path("/data/moon")) is None


def test_refused_credentials_are_said(storage, place):
    def guard(after):
        asked = urllib.request.Request(
            f"{storage}/moto-api/reset-auth", after, {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(asked).close()

    guard(b"0")
    try:
        with pytest.raises(ConfigError, match=r"refuses these credentials \(\w+\); check AWS_ACCESS_KEY_ID"):
            latest(store_at(place))
    finally:
        guard(b"1000000000")


def test_a_file_larger_than_a_piece_is_sent_in_several(place, tmp_path):
    content = os.urandom(9 << 20)
    (tmp_path / "large").write_bytes(content)
    here = Bucket(told(place))
    here.upload("large", tmp_path / "large")
    assert b"".join(here.pieces("large", len(content))) == content


def test_a_place_for_copies_that_cannot_be_written_is_named(place, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CRATER_RAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"file/indexes cannot be written .*; set CRATER_RAY_CACHE"):
        DriverLock(store_at(place)).__enter__()


def test_storage_that_stops_answering_is_no_mistake_of_the_users(place, monkeypatch):
    here = Bucket(told(place))
    here.put("x", b"1")

    def down(*arguments, **more):
        raise GenericError("connection reset")

    monkeypatch.setattr(obstore, "get", down)
    with pytest.raises(StorageError, match="x: the storage does not answer: connection reset"):
        here.get("x")
    assert issubclass(StorageError, OSError)  # so a job tries the part again
