"""Download, unpacking and reading of data sets in each of the three archive formats."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest
import torch
from dataset_files import noise, shrunk, write_part

from thruway.data import DATASETS, Remote, load, obtain
from thruway.data.obtain import unpack
from thruway.errors import DatasetError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def published(tmp_path):
    """A folder and the address it is served at."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def remote(path, file):
    return Remote(path, file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())


def publish(entry, folder):
    """Write a small edition of the set to `folder`, packed as the real one; the remotes for it."""
    files = folder / "files"
    zipped = "ubyte" in entry.train.files[0]
    for train in (True, False):
        write_part(entry, files, train, zipped)
    if entry.name.startswith("emnist"):
        with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
            for file in files.iterdir():
                archive.write(file, f"gzip/{file.name}")
        return (remote("EMNIST/raw/gzip.zip", folder / "gzip.zip"),)
    if entry.name.startswith("cifar"):
        name = entry.remotes[0].path
        with tarfile.open(folder / name, "w:gz") as archive:
            archive.add(files, entry.folders[0])
        return (remote(name, folder / name),)
    for file in files.iterdir():
        file.rename(folder / file.name)
    return tuple(remote(old.path, folder / old.path.rsplit("/")[-1]) for old in entry.remotes)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "emnist-letters", "cifar10", "cifar100"])
def test_download_unpack_read(published, tmp_path, monkeypatch, name):
    folder, address = published
    entry = shrunk(DATASETS[name])
    entry = dataclasses.replace(entry, remotes=publish(entry, folder), mirrors=(address,))
    monkeypatch.setitem(DATASETS, name, entry)
    root = tmp_path / "root"
    seen = []
    for train in (True, False):
        got = load(name, root, train, download=True, progress=lambda file, *_: seen.append(file))
        images, labels = noise(entry, train)
        if name.startswith("emnist"):
            images = images.swapaxes(2, 3)
        assert torch.equal(got.images, torch.from_numpy(images).float() / 255)
        assert got.labels.tolist() == labels.tolist()
        assert got.source == str(root / entry.folders[0])
    assert set(seen) == {part.path.rsplit("/")[-1] for part in entry.remotes}
    assert not list(root.rglob("*.part"))
    # Existing files are not downloaded again.
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(entry, mirrors=("http://127.0.0.1:9/",)))
    assert len(load(name, root, download=True)) == len(noise(entry, True)[1])


def test_the_default_download_root_is_the_variable_or_the_cache(published, tmp_path, monkeypatch):
    folder, address = published
    entry = shrunk(DATASETS["mnist"])
    entry = dataclasses.replace(entry, remotes=publish(entry, folder), mirrors=(address,))
    assert obtain(entry) == tmp_path / "home/.cache/thruway/data/MNIST/raw"
    monkeypatch.setenv("THRUWAY_DATA", str(tmp_path / "named"))
    assert obtain(entry) == tmp_path / "named/MNIST/raw"
    assert len(list((tmp_path / "named/MNIST/raw").iterdir())) == 4


def test_a_set_without_a_download_is_refused(tmp_path):
    for name in ("digits", "folder"):
        with pytest.raises(DatasetError, match="cannot be downloaded"):
            obtain(DATASETS[name], tmp_path)


def tar_of(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def zip_of(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


@pytest.mark.parametrize(("name", "pack"), [("set.tar.gz", tar_of), ("set.zip", zip_of)])
def test_a_member_cannot_leave_its_folder(tmp_path, name, pack):
    pack(tmp_path / name, [("../../../a.bin", b"inside"), ("/b.bin", b"too"), ("../evil.bin", b"unwanted")])
    target = tmp_path / "deep/er/folder"
    unpack(tmp_path / name, {"a.bin", "b.bin"}, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.bin": b"inside", "b.bin": b"too"}
    assert not list(tmp_path.rglob("evil.bin"))


def test_a_link_is_not_followed(tmp_path):
    tar_of(tmp_path / "set.tar.gz", [("a.bin", None)])
    with pytest.raises(DatasetError, match=r"set\.tar\.gz: is missing a\.bin"):
        unpack(tmp_path / "set.tar.gz", {"a.bin"}, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("name", "pack"), [("set.tar.gz", tar_of), ("set.zip", zip_of)])
def test_a_damaged_archive_is_named(tmp_path, name, pack):
    archive = tmp_path / name
    pack(archive, [("a.bin", bytes(range(256)) * 100)])
    whole = archive.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>" * 100, gzip.compress(b"x" * 1000)):
        archive.write_bytes(content)
        with pytest.raises(DatasetError, match=name):
            unpack(archive, {"a.bin"}, tmp_path / "out")


def test_an_unwritable_folder_is_named(tmp_path):
    tar_of(tmp_path / "set.tar.gz", [("a.bin", b"x")])
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(DatasetError, match="cannot unpack"):
        unpack(tmp_path / "set.tar.gz", {"a.bin"}, tmp_path / "out")
