"""Order, padding, skipped images, retries and bounds of the decode threads."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from crater_ray.encode.batches import AHEAD, batches
from crater_ray.errors import BadImage, CraterRayError
from crater_ray.types import Item

torch.set_num_threads(1)


def items(count):
    return [Item(f"id-{number}", f"id-{number}", str(number)) for number in range(count)]


def load(uri):
    return np.full((16, 16, 3), int(uri), np.uint8)


def preprocess(image):
    return torch.from_numpy(image[:4, :4].transpose(2, 0, 1).astype(np.float32))


def run(listed, load=load, preprocess=preprocess, **options):
    settings = {"batch": 4, "decoders": 3, "max_pixels": 1000, "pauses": (0.0, 0.0)} | options
    return list(batches(listed, load, preprocess, **settings))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])
@pytest.mark.parametrize("decoders", [1, 4])
def test_items_come_in_order_and_the_last_batch_is_padded(count, decoders):
    found = run(iter(items(count)), decoders=decoders)
    assert [item for batch in found for item in batch.items] == items(count)
    assert [len(batch.items) for batch in found] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    for batch in found:
        assert batch.images.shape == (4, 3, 4, 4)
        values = [float(item.uri) for item in batch.items] + [0.0] * (4 - len(batch.items))
        assert batch.images[:, 0, 0, 0].tolist() == values
        assert batch.bad == {}


def test_a_bad_image_keeps_its_slot_and_its_neighbours_bytes():
    good = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(good, "JPEG")
    odd = {"1": b"", "2": b"not an image", "3": good.getvalue()[:200], "5": np.zeros((64, 64, 3), np.uint8)}

    def some(uri):
        if uri == "6":
            raise BadImage("nodata in the window")
        return odd.get(uri, load(uri))

    def fragile(image):
        if image[0, 0, 0] == 7:
            raise ZeroDivisionError("a bug in a decoder")
        return preprocess(image)

    found = run(items(9), some, fragile)
    assert {batch.items[slot].uri for batch in found for slot in batch.bad} == {"1", "2", "3", "5", "6", "7"}
    assert found[1].bad[2] == "nodata in the window"
    assert found[1].bad[3] == "ZeroDivisionError while decoding: a bug in a decoder"
    plain = run(items(9))
    for batch, whole in zip(found, plain, strict=True):
        for slot in range(4):
            expected = torch.zeros(3, 4, 4) if slot in batch.bad else whole.images[slot]
            assert torch.equal(batch.images[slot], expected)


def test_storage_gets_more_chances_and_then_the_job_hears_of_it():
    calls = []

    def flaky(uri):
        calls.append(uri)
        if calls.count(uri) < 3:
            raise TimeoutError("the share is slow")
        return load(uri)

    assert [batch.bad for batch in run(items(2), flaky)] == [{}]
    assert calls.count("0") == calls.count("1") == 3

    def gone(uri):
        raise FileNotFoundError(2, "No such file", uri)

    with pytest.raises(FileNotFoundError):
        run(items(2), gone)


def test_a_bug_of_a_reader_is_not_taken_for_a_bad_image():
    with pytest.raises(KeyError):
        run(items(2), lambda uri: {}[uri])


def test_no_memory_is_not_taken_for_a_bad_image():
    def greedy(image):
        if image.any():
            raise MemoryError
        return preprocess(image)

    with pytest.raises(MemoryError):
        run(items(3), preprocess=greedy)


def test_a_preprocess_of_changing_shape_is_named():
    with pytest.raises(CraterRayError, match=r"preprocess gives \(3, 2, 4\) for 'id-3'"):
        run(
            items(4),
            preprocess=lambda image: preprocess(image)[:, :2] if image[0, 0, 0] == 3 else preprocess(image),
        )


def test_no_more_is_loaded_than_a_few_batches_ahead():
    taken, before = [], set(threading.enumerate())

    def listed():
        for item in items(100):
            taken.append(item)
            yield item

    walk = batches(listed(), load, preprocess, batch=4, decoders=2, max_pixels=1000)
    next(walk)
    assert len(taken) <= 4 * AHEAD
    next(walk)
    assert len(taken) <= 4 * (AHEAD + 1)
    walk.close()
    left = set(threading.enumerate()) - before  # other tests may have left some of theirs
    assert not [thread for thread in left if thread.name.startswith("decode")]


def test_senseless_numbers_are_refused():
    for wrong in ({"batch": 0}, {"decoders": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            run(items(1), **wrong)


@pytest.mark.parametrize("decoders", [1, 4])
def test_images_loaded_many_at_a_time_give_the_same_batches(decoders):
    asked, fails = [], [True]

    def some(uri):
        if uri == "6":
            raise BadImage("nodata in the window")
        return load(uri)

    def many(uris):
        asked.append(list(uris))
        if uris[0] == "4" and fails.pop():
            fails.append(False)
            raise OSError("the storage is away")
        return [BadImage("nodata in the window") if uri == "6" else load(uri) for uri in uris]

    alone = run(items(23), load=some, decoders=decoders)
    together = run(items(23), load=None, load_many=many, decoders=decoders)
    assert [batch.items for batch in together] == [batch.items for batch in alone]
    assert [batch.bad for batch in together] == [batch.bad for batch in alone]
    assert alone[1].bad == {2: "nodata in the window"}
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone, together, strict=True))
    assert sorted(map(len, asked)) == [3, 4, 4, 4, 4, 4, 4]  # a call a batch, and one again after an OSError


def test_load_many_must_give_an_image_a_uri():
    with pytest.raises(CraterRayError, match="load_many gives 1 images for 4 uris"):
        run(items(4), load_many=lambda uris: [load(uris[0])])
