"""Downloads from a local server that simulates the failures of real servers."""

import hashlib
import http.server
import threading
import time

import pytest

from thruway.data import Remote, download, fetch
from thruway.errors import DatasetError

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes, several reads long
REMOTE = Remote("set/raw/file.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
CUT = 200_000


class Mirror(http.server.BaseHTTPRequestHandler):
    """The first part of the path selects the behaviour."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        wanted = self.headers.get("Range")
        self.server.asked.append((kind, wanted))
        getattr(self, kind)(int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0)

    def send(self, body, start, *, length=None, status=None, headers=()):
        self.send_response(status or (206 if start else 200))
        if start and not status:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def good(self, start):
        self.send(CONTENT[start:], start)

    def cuts(self, start):
        self.send(CONTENT[start : start + CUT], start, length=len(CONTENT) - start)

    def stalls(self, start):
        self.cuts(start)
        self.wfile.flush()
        self.server.release.wait(5)

    def html(self, start):
        self.send(b"<html>please log in</html>", 0, headers=[("Content-Type", "text/html; charset=utf-8")])

    def page(self, start):
        self.send(b"<html>without saying so</html>", 0)

    def fails(self, start):
        self.send_error(500)

    def gone(self, start):
        self.send_error(404)

    def other(self, start):  # correct size, wrong bytes
        self.send(bytes(len(CONTENT) - start), start)

    def whole(self, start):  # does not support ranges
        self.send(CONTENT, 0)

    def endless(self, start):  # sends no length and too much data
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT + bytes(1000))

    def shifted(self, start):  # answers with a different range than requested
        where = f"bytes {start - 1}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.send(CONTENT[start - 1 :], 0, status=206, headers=[("Content-Range", where)])

    def unsatisfiable(self, start):
        self.send_error(416 if start else 500)

    def garbles(self, start):
        self.wfile.write(b"\x00\x01 nonsense\r\n\r\n")

    def log_message(self, *_args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass  # clients disconnect on purpose here


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Mirror) as server:
        server.asked, server.release = [], threading.Event()
        # A short poll, since shutdown() waits for one.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def mirrors(server, *kinds):
    return [f"http://127.0.0.1:{server.server_port}/{kind}/" for kind in kinds]


def get(server, tmp_path, *kinds, remote=REMOTE, **options):
    return fetch(mirrors(server, *kinds), remote, tmp_path, timeout=0.3, **options)


def kinds_asked(server):
    return [kind for kind, _range in server.asked]


def only_file(tmp_path):
    (found,) = (path for path in tmp_path.rglob("*") if path.is_file())
    return found


def test_a_good_mirror_delivers_the_file_and_reports_progress(server, tmp_path):
    seen = []
    path = get(server, tmp_path, "good", progress=lambda *now: seen.append(now))
    assert path == tmp_path / "set/raw/file.bin" == only_file(tmp_path)
    assert path.read_bytes() == CONTENT
    assert [name for name, _done, _all in seen] == ["file.bin"] * len(seen)
    assert seen[-1][1:] == (len(CONTENT), len(CONTENT))
    assert [done for _name, done, _all in seen] == sorted({done for _name, done, _all in seen})


def test_a_correct_file_is_not_downloaded_again(server, tmp_path):
    get(server, tmp_path, "good")
    get(server, tmp_path, "good")
    assert len(server.asked) == 1


def test_a_wrong_file_is_replaced(server, tmp_path):
    path = get(server, tmp_path, "good")
    path.write_bytes(CONTENT[:-1] + b"!")
    assert get(server, tmp_path, "good").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("bad", "answer"),
    [
        ("cuts", "stopped after 200000 of 512000 bytes"),
        ("stalls", "timed out"),
        ("html", "a web page instead of the file"),
        ("page", "offers 30 bytes, expected 512000"),
        ("fails", "status 500"),
        ("gone", "status 404"),
        ("other", "SHA-256 is"),
        ("garbles", "nonsense"),
    ],
)
def test_a_bad_mirror_is_skipped_and_alone_leaves_no_file(server, tmp_path, bad, answer):
    path = get(server, tmp_path, bad, "good")
    assert kinds_asked(server) == [bad, "good"]
    assert path.read_bytes() == CONTENT
    assert only_file(tmp_path) == path

    with pytest.raises(DatasetError) as caught:
        get(server, tmp_path / "other", bad)
    message = str(caught.value)
    assert answer in message
    assert mirrors(server, bad)[0] + "file.bin" in message
    assert not (tmp_path / "other/set/raw/file.bin").exists()


def test_an_interrupted_download_is_resumed_by_the_next_mirror_and_the_next_call(server, tmp_path):
    with pytest.raises(DatasetError, match="stopped after 200000 of 512000 bytes"):
        get(server, tmp_path, "cuts")
    part = only_file(tmp_path)
    assert part.name == "file.bin.part"
    assert part.read_bytes() == CONTENT[: 2 * CUT]  # two rounds
    path = get(server, tmp_path, "good")
    assert server.asked == [("cuts", None), ("cuts", "bytes=200000-"), ("good", "bytes=400000-")]
    assert path.read_bytes() == CONTENT
    assert only_file(tmp_path) == path


@pytest.mark.parametrize("mirror", ["whole", "endless"])
def test_a_mirror_without_ranges_starts_over(server, tmp_path, mirror):
    assert get(server, tmp_path, "cuts", mirror).read_bytes() == CONTENT
    assert server.asked == [("cuts", None), (mirror, "bytes=200000-")]


@pytest.mark.parametrize("mirror", ["shifted", "unsatisfiable", "html", "page"])
def test_received_data_survives_a_wrong_answer_of_a_mirror(server, tmp_path, mirror):
    assert get(server, tmp_path, "cuts", mirror, "good").read_bytes() == CONTENT
    assert server.asked == [("cuts", None), (mirror, "bytes=200000-"), ("good", "bytes=200000-")]


def test_a_corrupted_part_file_is_restarted(server, tmp_path):
    """Bytes of a wrong file, completed by a correct mirror, have the correct size and a wrong checksum."""
    part = tmp_path / "set/raw/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"wrong" * 100)
    assert get(server, tmp_path, "good").read_bytes() == CONTENT
    assert server.asked == [("good", "bytes=500-"), ("good", None)]


@pytest.mark.parametrize("left", [len(CONTENT), len(CONTENT) + 7])
def test_a_part_file_that_is_complete_or_too_long_is_handled(server, tmp_path, left):
    part = tmp_path / "set/raw/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((CONTENT + bytes(7))[:left])
    assert get(server, tmp_path, "good").read_bytes() == CONTENT
    assert len(server.asked) == (left > len(CONTENT))


def test_a_silent_mirror_costs_one_timeout(server, tmp_path):
    begun = time.monotonic()
    get(server, tmp_path, "stalls", "good")
    assert time.monotonic() - begun < 2  # timeout 0.3 s; the server would stay silent for 5


def test_concurrent_downloads_fetch_the_file_once(server, tmp_path):
    paths, errors = [], []

    def one():
        try:
            paths.append(get(server, tmp_path, "good"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert only_file(tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_completed_by_another_process_is_used(server, tmp_path, monkeypatch):
    path = get(server, tmp_path, "good")
    answers = iter([False, True])  # absent at the first check, present once the lock is held
    monkeypatch.setattr(download, "_is_right", lambda *_: next(answers))
    assert get(server, tmp_path, "good") == path == only_file(tmp_path)
    assert len(server.asked) == 1


def test_an_unwritable_folder_is_named(server, tmp_path):
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(DatasetError, match=r"cannot write .*file\.bin\.part: .* Choose another data root"):
        get(server, tmp_path, "good")
    assert server.asked == []


def test_no_mirror_at_all_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"could not download file\.bin"):
        fetch(["http://127.0.0.1:9/nobody/"], REMOTE, tmp_path, timeout=0.3)
