import numpy as np
import pytest
import torch
from dataset_files import noise, shrunk, write_part
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway.data import DATASETS, read_cifar_binary
from thruway.data.cifar import read_cifar
from thruway.errors import DatasetError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_records_come_back_in_order_with_the_fine_label(tmp_path, name, train, zipped):
    entry = shrunk(DATASETS[name])
    write_part(entry, tmp_path, train, zipped)
    images, labels = noise(entry, train)
    raw = read_cifar(entry, tmp_path, train)
    assert torch.equal(raw.images, torch.from_numpy(images))
    assert raw.labels.tolist() == labels.tolist()


def test_a_pixel_is_at_the_position_of_the_format(tmp_path):
    record = bytearray(3073)
    record[0], record[1 + 1 * 1024 + 5 * 32 + 7] = 3, 200  # label 3; green, row 5, column 7
    path = tmp_path / "one.bin"
    path.write_bytes(record)
    images, labels = read_cifar_binary(path, count=1)
    assert labels.tolist() == [[3]]
    assert images.nonzero().tolist() == [[0, 1, 5, 7]]


@pytest.mark.parametrize(("change", "complaint"), [(-1, "only 30729"), (1, "more"), (-30730, "only 0")])
def test_a_wrong_length_is_refused(tmp_path, change, complaint):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(bytes(10 * 3073 + change))
    with pytest.raises(
        DatasetError, match=rf"data_batch_1.bin: expected 30730 bytes \(10 records of 3073\), got {complaint}"
    ):
        read_cifar_binary(path, count=10)


@pytest.mark.parametrize(
    ("name", "offset", "value", "allowed"), [("cifar10", 0, 10, 9), ("cifar100", 0, 20, 19), ("cifar100", 1, 100, 99)]
)
def test_labels_out_of_range_are_refused(tmp_path, name, offset, value, allowed):
    entry = shrunk(DATASETS[name])
    write_part(entry, tmp_path, train=False)
    path = tmp_path / entry.test.files[0]
    content = bytearray(path.read_bytes())
    content[offset] = value
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"contains label {value}, allowed: 0 to {allowed}"):
        read_cifar(entry, tmp_path, train=False)


def test_a_removed_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"test_batch\.bin\[\.gz\] has been removed"):
        read_cifar(shrunk(DATASETS["cifar10"]), tmp_path, train=False)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 3072), value=st.integers(0, 255), length=st.one_of(st.just(3073), st.integers(0, 4000)))
def test_fuzzed_files_are_read_exactly_or_refused(tmp_path, position, value, length):
    content = bytearray(np.random.default_rng(0).integers(0, 256, 3073, dtype=np.uint8).tobytes())
    content[position] = value
    content = (content + bytes(1000))[:length]
    path = tmp_path / "fuzzed.bin"
    path.write_bytes(content)
    if length != 3073:
        with pytest.raises(DatasetError):
            read_cifar_binary(path, count=1)
        return
    images, labels = read_cifar_binary(path, count=1)
    assert bytes(labels.flatten().tolist() + images.flatten().tolist()) == content
