import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from dataset_files import idx_bytes, shrunk, write_part
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway.data import DATASETS, read_idx
from thruway.data.idx import read_idx_pair
from thruway.errors import DatasetError

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(VALUES)


def read(path):
    return read_idx(path, counts=(2,), item=(3, 4))


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_values_come_back_as_written(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(GOOD) if name.endswith(".gz") else GOOD)
    assert torch.equal(read(path), torch.from_numpy(VALUES))


DAMAGED = {
    "empty": (b"", "starts with bytes (none)"),
    "web page": (b"<!DOCTYPE html>", "starts with bytes 3c 21 44 4f"),
    "labels instead of images": (idx_bytes(VALUES[:, 0, 0]), "starts with bytes 00 00 08 01"),
    "floats": (bytes([0, 0, 13, 3]) + GOOD[4:], "starts with bytes 00 00 0d 03"),
    "cut in the header": (GOOD[:11], "ends inside its header"),
    "cut in the body": (GOOD[:-1], "expected 40 bytes after decompression, got only 39"),
    "too long": (GOOD + b"\0", "got more"),
    "negative axis": (GOOD[:4] + struct.pack(">i", -2) + GOOD[8:], "has shape (-2, 3, 4) in its header"),
    "huge axis": (GOOD[:4] + struct.pack(">i", 2**31 - 1) + GOOD[8:], "has shape (2147483647, 3, 4) in its header"),
    "other image size": (idx_bytes(VALUES.reshape(2, 4, 3)), "has shape (2, 4, 3) in its header, allowed: (2, 3, 4)"),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("zipped", [False, True])
def test_the_error_names_the_damage_the_file_and_the_remedy(tmp_path, case, zipped):
    content, complaint = DAMAGED[case]
    path = tmp_path / ("broken.gz" if zipped else "broken")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DatasetError) as caught:
        read(path)
    message = str(caught.value)
    assert complaint in message
    assert str(path) in message
    assert "download=True" in message


BROKEN = {
    "cut": gzip.compress(GOOD)[:-3],
    "not gzip at all": b"not gzip at all",
    "with a tail": gzip.compress(GOOD) + b"tail",
}


@pytest.mark.parametrize("case", BROKEN)  # not the bytes as id: a gzip file contains the time of its creation
def test_invalid_gzip_is_refused(tmp_path, case):
    path = tmp_path / "broken.gz"
    path.write_bytes(BROKEN[case])
    with pytest.raises(DatasetError, match=r"broken.gz: incomplete or invalid gzip file"):
        read(path)


def test_unreadable_paths_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read(path)


def test_a_gzip_bomb_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(GOOD + bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="got more"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20  # the 41 bytes read, and gzip's own buffers of 128 KiB


def damage(content, edits, length):
    damaged = bytearray(content)
    for position, value in edits:
        damaged[position % len(damaged)] = value
    return bytes(damaged[: length % (len(damaged) + 1)])


EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, length=st.one_of(st.just(len(GOOD)), st.integers(0, 1 << 16)))
def test_fuzzed_plain_files_are_read_exactly_or_refused(tmp_path, edits, length):
    content = damage(GOOD, edits, length)
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    try:
        got = read(path)
    except DatasetError:
        assert content[:16] != GOOD[:16] or len(content) != len(GOOD)  # an intact file is never refused
    else:
        assert idx_bytes(got.numpy()) == content


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, length=st.one_of(st.just(-1), st.integers(0, 1 << 16)))
def test_fuzzed_gzip_files_give_correct_values_or_are_refused(tmp_path, edits, length):
    zipped = gzip.compress(GOOD, mtime=0)
    content = damage(zipped, edits, length % (len(zipped) + 1))
    path = tmp_path / "fuzzed.gz"
    path.write_bytes(content)
    try:
        got = read(path)
    except DatasetError:
        assert content != zipped
    else:
        assert torch.equal(got, torch.from_numpy(VALUES))  # gzip's checksum detects any wrong value


def small_pair(tmp_path):
    entry = shrunk(DATASETS["mnist"])
    write_part(entry, tmp_path, train=False)
    return entry, tmp_path / "t10k-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"


def test_labels_out_of_range_are_refused(tmp_path):
    entry, _images, labels = small_pair(tmp_path)
    labels.write_bytes(labels.read_bytes()[:-1] + bytes([10]))
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte: contains label 10, allowed: 0 to 9"):
        read_idx_pair(entry, tmp_path, train=False)


def test_images_and_labels_must_have_the_same_number(tmp_path):
    import dataclasses

    entry, _images, labels = small_pair(tmp_path)
    entry = dataclasses.replace(entry, test=dataclasses.replace(entry.test, counts=(10, 7)))
    labels.write_bytes(idx_bytes(np.zeros(7, dtype=np.uint8)))
    with pytest.raises(DatasetError, match="contains 7 labels, but t10k-images-idx3-ubyte contains 10 images"):
        read_idx_pair(entry, tmp_path, train=False)
