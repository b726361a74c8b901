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


def test_the_roots_in_order(monkeypatch, tmp_path):
    cache = tmp_path / "home/.cache/thruway/data"
    debian = "/usr/share/datasets"
    assert [str(root) for root in search_roots()] == [str(cache), debian]
    monkeypatch.setenv("THRUWAY_DATA", "~/mine")
    assert [str(root) for root in search_roots()] == [str(tmp_path / "home/mine"), str(cache), debian]
    assert search_roots(tmp_path) == [tmp_path]
    assert search_roots("~/x") == [tmp_path / "home/x"]


def test_the_first_root_that_has_the_set_wins(fashion, monkeypatch, tmp_path):
    monkeypatch.setenv("THRUWAY_DATA", str(tmp_path / "variable"))
    given, variable = tmp_path / "given/FashionMNIST/raw", tmp_path / "variable/FashionMNIST/raw"
    cache, debian = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw", tmp_path / "debian/fashion-mnist"
    for folder in (debian, cache, variable):  # each found before the one that was there already
        write_part(fashion, folder, train=True, zipped=folder == debian)
        assert load("fashion-mnist").source == str(folder)
    with pytest.raises(DatasetError, match="given"):  # a named root is the only one
        load("fashion-mnist", tmp_path / "given")
    write_part(fashion, given, train=True)
    assert load("fashion-mnist", tmp_path / "given").source == str(given)


def test_a_folder_that_lacks_a_file_is_passed_over(fashion, tmp_path):
    cache, debian = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw", tmp_path / "debian/fashion-mnist"
    for folder in (cache, debian):
        write_part(fashion, folder, train=True)
    (cache / "train-labels-idx1-ubyte").unlink()
    assert load("fashion-mnist").source == str(debian)


def test_the_zipped_file_is_read_where_both_are_there(fashion, tmp_path):
    """An interrupted unpacking leaves a torn plain file beside a whole zipped one."""
    folder = tmp_path / "root/FashionMNIST/raw"
    write_part(fashion, folder, train=True, zipped=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"torn")
    assert len(load("fashion-mnist", tmp_path / "root")) == 20


def test_the_error_says_where_and_how(fashion, tmp_path):
    folder = tmp_path / "home/.cache/thruway/data/FashionMNIST/raw"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte.gz").touch()
    with pytest.raises(DatasetError) as caught:
        load("fashion-mnist", train=False)
    message = str(caught.value)
    for said in (
        "Fashion-MNIST (test part) is not here",
        f"{folder} (lacks t10k-labels-idx1-ubyte)",
        f"{tmp_path / 'debian/fashion-mnist'} (no such folder)",
        "download=True (31 MB",
        "apt install dataset-fashion-mnist",
        "--data-root",
        "$THRUWAY_DATA",
    ):
        assert said in message


def test_another_set_in_the_same_files_is_not_taken(fashion, tmp_path):
    """MNIST and Fashion-MNIST name their files alike; only the folder tells them apart."""
    write_part(fashion, tmp_path / "FashionMNIST/raw", train=True)
    write_part(fashion, tmp_path, train=True)
    with pytest.raises(DatasetError, match=r"MNIST \(training part\) is not here"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(("name", "pickled"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_pickled_cifar_is_not_opened_but_explained(tmp_path, name, pickled):
    (tmp_path / pickled).mkdir()
    with pytest.raises(DatasetError, match=f"{pickled} is a pickle, which can run code: the binary edition is needed"):
        load(name, tmp_path)


def test_a_set_without_a_download_offers_none(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load("folder", tmp_path, download=True)
    assert "Image folder (training part) is not here" in str(caught.value)
    assert "download=True" not in str(caught.value)
