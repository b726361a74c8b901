"""Properties of every entry of the table of data sets."""

import re

import pytest
from dataset_files import IN_FILES

from thruway.data import DATASETS, dataset
from thruway.errors import ConfigError


@pytest.mark.parametrize("name", DATASETS)
def test_the_key_is_the_name_and_the_origin_is_stated(name):
    entry = DATASETS[name]
    assert entry.name == name
    assert re.search(r"\d{4}|user", entry.origin)
    assert len(set(entry.classes)) == len(entry.classes)


@pytest.mark.parametrize("name", IN_FILES)
def test_there_are_two_mirrors_and_every_file_has_a_checksum(name):
    entry = DATASETS[name]
    assert len(set(entry.mirrors)) >= 2
    assert all(re.fullmatch(r"https?://[^ ]+/", mirror) for mirror in entry.mirrors)
    assert all(re.fullmatch("[0-9a-f]{64}", remote.sha256) and remote.size > 0 for remote in entry.remotes)
    assert all(not remote.path.startswith("/") and ".." not in remote.path for remote in entry.remotes)
    assert not any("python" in remote.path for remote in entry.remotes)  # the pickled versions


@pytest.mark.parametrize("name", IN_FILES)
def test_the_downloaded_files_are_the_files_read(name):
    """Each file of both parts comes from its own remote, or all of them from one archive."""
    entry = DATASETS[name]
    files = {f"{entry.folders[0]}/{file}" for part in (entry.train, entry.test) for file in part.files}
    direct = {remote.path.removesuffix(".gz") for remote in entry.remotes}
    assert direct == files or (len(entry.remotes) == 1 and entry.remotes[0].path.endswith((".zip", ".tar.gz")))


def test_no_two_sets_share_a_file():
    owned = [f"{e.folders[0]}/{file}" for n in IN_FILES for e in [DATASETS[n]] for file in e.train.files + e.test.files]
    assert len(owned) == len(set(owned))


# As published: EMNIST by Cohen et al. 2017, the others by their authors.
CLASSES = {
    "digits": 10,
    "mnist": 10,
    "fashion-mnist": 10,
    "kmnist": 10,
    "emnist-byclass": 62,
    "emnist-bymerge": 47,
    "emnist-balanced": 47,
    "emnist-letters": 27,  # 26, and the unused label 0
    "emnist-digits": 10,
    "emnist-mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "shapeset": 9,
    "folder": 0,
}


def test_the_numbers_of_classes_are_as_published():
    assert {name: len(entry.classes) for name, entry in DATASETS.items()} == CLASSES


def test_merged_letters_are_those_whose_cases_look_alike():
    """Cohen et al. 2017: C, I, J, K, L, M, O, P, S, U, V, W, X, Y and Z are merged."""
    lower = {name for name in DATASETS["emnist-balanced"].classes if name.islower()}
    assert set("abcdefghijklmnopqrstuvwxyz") - lower == set("cijklmopsuvwxyz")


def test_cifar100_is_in_alphabetical_order():
    classes = DATASETS["cifar100"].classes
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[99]) == ("apple", "worm")


@pytest.mark.parametrize("name", ["fashion_mnist", "", None, ["cifar10"]])
def test_an_unknown_name_lists_the_known_names(name):
    with pytest.raises(ConfigError, match=r"unknown data set .*fashion-mnist"):
        dataset(name)
