import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway.data import ImageFolder, folder, load
from thruway.errors import DatasetError

Image = pytest.importorskip("PIL.Image")


def pixels(seed, height=4, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def pets(tmp_path):
    """train/{cat,dog} with three and two images, test/{cat,dog} with one each."""
    for seed, name in enumerate(
        [
            "train/cat/a.png",
            "train/cat/b.bmp",
            "train/cat/deep/c.png",
            "train/dog/a.png",
            "train/dog/b.ppm",
            "test/cat/a.png",
            "test/dog/a.png",
        ]
    ):
        write(tmp_path / name, pixels(seed))
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    return tmp_path


def test_items_are_the_images_in_sorted_order(pets):
    got = ImageFolder(pets / "train")
    assert (got.classes, got.class_to_idx, got.targets) == (["cat", "dog"], {"cat": 0, "dog": 1}, [0, 0, 0, 1, 1])
    for seed, (image, _label) in enumerate(got):
        assert np.array_equal(image, pixels(seed))


def test_transforms_are_applied(pets):
    got = ImageFolder(pets / "train", transform=np.sum, target_transform=str)
    assert got[3] == (pixels(3).sum(), "1")


def test_load_gives_both_parts_as_tensors(pets):
    train, test = load("folder", pets), load("folder", pets, train=False)
    assert torch.equal(train.images[4], torch.from_numpy(pixels(4)).permute(2, 0, 1).float() / 255)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])
    assert train.classes == test.classes == ("cat", "dog")
    assert train.source == str(pets / "train")


def test_grey_and_palette_images_become_rgb(tmp_path):
    grey = pixels(0)[:, :, 0]
    write(tmp_path / "a/grey.png", grey)
    image, _label = ImageFolder(tmp_path)[0]
    assert np.array_equal(image, np.stack([grey] * 3, axis=2))


def test_parts_with_other_classes_are_refused(pets):
    write(pets / "test/bird/a.png", pixels(0))
    with pytest.raises(DatasetError, match=r"classes bird, cat, dog, but .*train has cat, dog"):
        load("folder", pets, train=False)


def test_images_of_different_sizes_are_refused(pets):
    write(pets / "train/dog/z.png", pixels(0, 5, 6))
    with pytest.raises(DatasetError, match=r"z\.png is 6 x 5 pixels, but .*a\.png is 6 x 4"):
        load("folder", pets)


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="contains no folders"):
        ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DatasetError, match=r"cat contains no images\. Supported suffixes: \.png"):
        ImageFolder(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        ImageFolder(tmp_path / "absent")


def test_an_image_larger_than_allowed_is_refused_by_its_header(tmp_path, monkeypatch):
    write(tmp_path / "a/big.png", pixels(0, 40, 60))
    monkeypatch.setattr(folder, "MAX_PIXELS", 2399)
    with pytest.raises(DatasetError, match=r"big\.png: .*claims 60 x 40 pixels, allowed: 2399 in total"):
        ImageFolder(tmp_path)[0]
    monkeypatch.setattr(folder, "MAX_PIXELS", 2400)
    assert np.array_equal(ImageFolder(tmp_path)[0][0], pixels(0, 40, 60))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "a/bomb.png", pixels(0, 40, 60))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow warns above this, and raises above twice this
    with pytest.raises(DatasetError, match="DecompressionBomb"):
        ImageFolder(tmp_path)[0]


def test_without_pillow_the_extra_is_named(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DatasetError, match=r"pip install 'thruway\[images\]'"):
        ImageFolder(pets / "train")[0]


def test_a_wrong_checksum_inside_a_png_is_found(tmp_path):
    """The pixels are stored uncompressed, so that only the checksums detect the change."""
    path = tmp_path / "a.png"
    Image.fromarray(pixels(0)).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    place = content.index(pixels(0)[1, 0].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.png: not a readable image"):
        folder.read_image(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3),
    length=st.one_of(st.just(-1), st.integers(0, 1 << 16)),
)
def test_fuzzed_png_files_give_correct_pixels_or_are_refused(tmp_path, edits, length):
    path = tmp_path / "fuzzed.png"
    write(path, pixels(0))
    whole = path.read_bytes()
    content = bytearray(whole)
    for position, value in edits:
        content[position % len(content)] = value
    content = content[: length % (len(content) + 1)]
    path.write_bytes(content)
    try:
        got = folder.read_image(path)
    except DatasetError:
        assert bytes(content) != whole
    else:
        assert np.array_equal(got, pixels(0))
