import pytest
from dataset_files import shrunk, write_part

from thruway.data import DATASETS, data_roots, load, search_roots
from thruway.errors import DatasetError


@pytest.fixture
def fashion(monkeypatch, tmp_path):
    """A small Fashion-MNIST, and Debian's folder moved below tmp_path."""
    entry = shrunk(DATASETS["fashion-mnist"])
    monkeypatch.setitem(DATASETS, "fashion-mnist", entry)
    monkeypatch.setattr(data_roots, "DEBIAN", str(tmp_path / "debian"))
    return entry


def test_the_order_of_the_roots(monkeypatch, tmp_path):
    cache = tmp_path / "home/.cache/thruway/data"
    debian = "/usr/share/datasets"
    assert [str(root) for root in search_roots()] == [str(cache), debian]
    monkeypatch.setenv("THRUWAY_DATA", "~/mine")
    assert [str(root) for root in search_roots()] == [str(tmp_path / "home/mine"), str(cache), debian]
    assert search_roots(tmp_path) == [tmp_path]
    assert search_roots("~/x") == [tmp_path / "home/x"]


def test_the_first_root_that_contains_the_set_is_used(fashion, monkeypatch, tmp_path):
    monkeypatch.setenv("THRUWAY_DATA", str(tmp_path / "variable"))
    explicit, variable = tmp_path / "explicit/FashionMNIST/raw", tmp_path / "variable/FashionMNIST/raw"
    cache, debian = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw", tmp_path / "debian/fashion-mnist"
    for folder in (debian, cache, variable):  # each precedes the one written before it
        write_part(fashion, folder, train=True, zipped=folder == debian)
        assert load("fashion-mnist").source == str(folder)
    with pytest.raises(DatasetError, match="explicit"):  # only the explicit root is searched
        load("fashion-mnist", tmp_path / "explicit")
    write_part(fashion, explicit, train=True)
    assert load("fashion-mnist", tmp_path / "explicit").source == str(explicit)


def test_an_incomplete_folder_is_skipped(fashion, tmp_path):
    cache, debian = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw", tmp_path / "debian/fashion-mnist"
    for folder in (cache, debian):
        write_part(fashion, folder, train=True)
    (cache / "train-labels-idx1-ubyte").unlink()
    assert load("fashion-mnist").source == str(debian)


def test_the_gzipped_file_is_preferred(fashion, tmp_path):
    """Interrupted unpacking leaves an incomplete plain file beside a complete gzipped one."""
    folder = tmp_path / "root/FashionMNIST/raw"
    write_part(fashion, folder, train=True, zipped=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"incomplete")
    assert len(load("fashion-mnist", tmp_path / "root")) == 20


def test_the_error_names_the_folders_and_the_ways_to_get_the_data(fashion, tmp_path):
    folder = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte.gz").touch()
    with pytest.raises(DatasetError) as caught:
        load("fashion-mnist", train=False)
    message = str(caught.value)
    for expected in (
        "Fashion-MNIST (test part) was not found",
        f"{folder} (missing t10k-labels-idx1-ubyte)",
        f"{tmp_path / 'debian/fashion-mnist'} (no such folder)",
        "download it (31 MB",
        "download=True",
        "apt install dataset-fashion-mnist",
        "--data-root",
        "$THRUWAY_DATA",
    ):
        assert expected in message


def test_a_set_with_the_same_file_names_is_not_used(fashion, tmp_path):
    """MNIST and Fashion-MNIST have the same file names and differ only in the folder."""
    write_part(fashion, tmp_path / "FashionMNIST/raw", train=True)
    write_part(fashion, tmp_path, train=True)
    with pytest.raises(DatasetError, match=r"MNIST \(training part\) was not found"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(("name", "pickled"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_pickled_cifar_is_not_opened(tmp_path, name, pickled):
    (tmp_path / pickled).mkdir()
    with pytest.raises(DatasetError, match=f"{pickled} is there, but it is a pickle.*get the binary version"):
        load(name, tmp_path)


def test_a_set_without_a_download_does_not_suggest_one(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load("folder", tmp_path, download=True)
    assert "Image folder (training part) was not found" in str(caught.value)
    assert "download=True" not in str(caught.value)
