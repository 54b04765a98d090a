"""Downloads from a server on this machine: whole files arrive, everything else leaves nothing behind."""

import hashlib
import http.server
import threading

import pytest

from switchgrad.data import download
from switchgrad.data.sources import SOURCES, RemoteFile
from switchgrad.errors import DataError

CONTENT = bytes(range(256)) * 3000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what = self.path.strip("/")
        if what == "missing":
            self.send_error(404)
            return
        body = {"good": CONTENT, "short": CONTENT[:-1], "long": CONTENT * 2, "other": CONTENT[::-1]}.get(what, CONTENT)
        if what == "moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        self.send_response(200)
        # "broken" promises more than it sends, as a connection that drops does.
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if what == "broken" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def remote(*urls):
    return RemoteFile("file.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), urls)


@pytest.mark.parametrize("path", ["good", "moved"])
def test_a_whole_file_arrives_and_is_the_only_one(tmp_path, server, path):
    seen = []
    target = download.fetch(remote(f"{server}/{path}"), tmp_path / "new" / "store", lambda *args: seen.append(args))
    assert target.read_bytes() == CONTENT
    assert [entry.name for entry in target.parent.iterdir()] == ["file.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT), "downloading file.bin")
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "answers 404"),
        ("short", "ended after 767,999 of 768,000 bytes"),
        ("long", "sends more than the 768,000 bytes"),
        ("other", "sends another file: SHA-256"),
        ("broken", "ended after 384,000 of 768,000 bytes"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(tmp_path, server, path, reason):
    with pytest.raises(DataError) as caught:
        download.fetch(remote(f"{server}/{path}"), tmp_path)
    assert reason in str(caught.value)
    assert f"{server}/{path}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_next_address_is_tried(tmp_path, server):
    target = download.fetch(remote(f"{server}/missing", "http://127.0.0.1:9/none", f"{server}/good"), tmp_path)
    assert target.read_bytes() == CONTENT


def test_without_a_network_every_address_and_reason_is_named(tmp_path):
    with pytest.raises(DataError, match=r"127.0.0.1:9/a: .*refused.*; http://127.0.0.1:9/b: "):
        download.fetch(remote("http://127.0.0.1:9/a", "http://127.0.0.1:9/b"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_said_before_it_is_full(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(DataError, match=r"has 1 MiB free, but file\.bin needs"):
        download.fetch(remote(f"{server}/good"), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, server):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write to .*set SWITCHGRAD_DATA"):
        download.fetch(remote(f"{server}/good"), tmp_path / "file" / "store")


def test_an_interrupted_download_leaves_nothing(tmp_path, server):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(remote(f"{server}/good"), tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_every_source_is_complete():
    for source in SOURCES.values():
        assert len(set(source.classes)) == len(source.classes)
        for file in source.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 1000
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
    assert [len(source.classes) for source in SOURCES.values()] == [10, 10, 10, 10, 47, 62, 47, 10, 26, 10, 10, 100]
    assert "".join(SOURCES["emnist-balanced"].classes) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
    assert list(SOURCES["cifar100"].classes) == sorted(SOURCES["cifar100"].classes)
