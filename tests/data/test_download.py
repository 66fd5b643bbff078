import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gnnrec.data.download import download
from gnnrec.errors import StorageError

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``breaks_after`` cuts the next answer short, ``ranges`` says whether it can resume."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks_after = None
        self.ranges = True
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        start = 0
        if server.ranges and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")):
            start = int(match.group(1))
        if self.path != "/file.zip" or start >= len(CONTENT):
            self.send_error(404 if self.path != "/file.zip" else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end, server.breaks_after = server.breaks_after, None
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server, tmp_path):
    path = download(server.url, tmp_path / "deep" / "file.zip", SHA256)
    assert path.read_bytes() == CONTENT
    download(server.url, path, SHA256)
    assert server.asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_if_the_server_can(server, tmp_path, ranges):
    server.breaks_after, server.ranges = 30_000, ranges
    with pytest.raises(StorageError, match="call again to go on"):
        download(server.url, tmp_path / "file.zip", SHA256)
    assert not (tmp_path / "file.zip").exists()
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:30_000]
    assert download(server.url, tmp_path / "file.zip", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-"]


def test_a_download_may_break_more_than_once(server, tmp_path):
    for stop in (30_000, 80_000):
        server.breaks_after = stop
        with pytest.raises(StorageError, match="call again to go on"):
            download(server.url, tmp_path / "file.zip", SHA256)
        assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:stop]
    assert download(server.url, tmp_path / "file.zip", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-", "bytes=80000-"]


def test_a_whole_part_needs_only_its_check(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "file.zip", SHA256).read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    with pytest.raises(StorageError, match="SHA-256"):
        download(server.url, tmp_path / "file.zip", "0" * 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file.zip.part").write_bytes(b"something else")
    with pytest.raises(StorageError, match="SHA-256"):
        download(server.url, tmp_path / "file.zip", SHA256)
    assert download(server.url, tmp_path / "file.zip", SHA256).read_bytes() == CONTENT


def test_absent_files_servers_and_other_schemes_are_errors(server, tmp_path):
    with pytest.raises(StorageError, match="404"):
        download(server.url.replace("file.zip", "none.zip"), tmp_path / "file.zip", SHA256)
    with pytest.raises(StorageError, match="only http"):
        download("file:///etc/hostname", tmp_path / "file.zip", SHA256)
    with pytest.raises(StorageError, match="cannot download"):
        download("http://127.0.0.1:9/file.zip", tmp_path / "file.zip", SHA256)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot download"):
        download(server.url, tmp_path / "file" / "file.zip", SHA256)
