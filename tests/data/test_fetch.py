"""Downloads against a server on loopback that honours ranges, lies or breaks off, as told."""

import argparse
import gzip
import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from conftest import seeds
from effml.data import catalogue, commands, places, transfer
from effml.data.catalogue import RemoteFile
from effml.data.fetch import download, fetch, missing
from effml.importing import commands as import_commands

DATA = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()
HASTY = {"TRIES": 3, "PAUSE": 0.002, "SILENCE": 0.25}


class Handler(BaseHTTPRequestHandler):
    """Each request takes the next word of the mirror's script, whose last word holds for ever;
    /mirror/file picks the mirror."""

    def do_GET(self):
        mirror = self.path.split("/")[-2]
        script = self.server.scripts.setdefault(mirror, ["good"])
        fault = script.pop(0) if len(script) > 1 else script[0]
        self.start = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
        self.server.asked.append((mirror, self.start, dict(self.headers)))
        self.close_connection = True
        try:
            getattr(self, fault)()
        except OSError:  # the client has heard enough
            pass

    def reply(self, status=200, body=b"", length=True, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        if length:
            self.send_header("Content-Length", str(len(body) if length is True else length))
        self.end_headers()
        self.write(body)

    def write(self, body):
        self.server.sent += len(body)  # before the client has them, and looks
        self.wfile.write(body)

    def rest(self, data=DATA, shift=0, upto=None, length=None):
        if not self.start:
            return self.reply(200, data[:upto], length or len(data))
        if self.start >= len(data):
            return self.reply(416, Content_Range=f"bytes */{len(data)}")
        self.reply(
            206,
            data[self.start : upto],
            length or len(data) - self.start,
            Content_Range=f"bytes {self.start + shift}-{len(data) - 1}/{len(data)}",
        )

    def good(self):
        self.rest()

    def no_ranges(self):
        self.reply(200, DATA)

    def wrong_range(self):
        self.rest(shift=-7)

    def other_bytes(self):
        self.rest(DATA if not self.start else OTHER)

    def damaged(self):
        self.rest(OTHER)

    def damaged_no_length(self):
        self.reply(200, OTHER, length=False)

    def no_length(self):
        self.reply(200, DATA, length=False)

    def busy(self):
        self.reply(503)

    def too_many(self):
        self.reply(429, Retry_After="9")

    def bad_gateway(self):
        self.reply(502, b"<html>bad gateway</html>", Content_Type="text/html")

    def forbidden(self):
        self.reply(403)

    def absent(self):
        self.reply(404)

    def gone(self):
        self.reply(410)

    def beyond(self):
        self.reply(416)

    def no_content(self):
        self.reply(204, length=False)

    def empty(self):
        self.reply(200)

    def login_page(self):
        self.reply(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8")

    def gzipped(self):
        self.reply(200, gzip.compress(DATA), Content_Encoding="gzip")

    def redirect(self):
        self.reply(302, Location="/elsewhere/file")

    def in_circles(self):
        self.reply(302, Location=self.path)

    def to_ftp(self):
        self.reply(302, Location="ftp://127.0.0.1/file")

    def to_file(self):
        self.reply(302, Location="file:///etc/hostname")

    def cut(self):
        self.rest(upto=self.start + 80_000)

    def cut_no_length(self):
        self.reply(200, DATA[:90_000], length=False)

    def short_length(self):
        self.reply(200, DATA[:70_000])

    def long_length(self):
        self.reply(200, DATA, length=len(DATA) + 1000)

    def absurd_length(self):
        self.reply(200, DATA, length=10**12)

    def no_words(self):
        self.wfile.write(b"\0\0nonsense\r\n\r\n")

    def silent(self):
        self.server.stop.wait(0.6)

    def chunked_cut(self):
        self.protocol_version = "HTTP/1.1"
        self.reply(
            200,
            b"10000\r\n" + DATA[:65536] + b"\r\n10000\r\n" + DATA[65536:70_000],
            length=False,
            Transfer_Encoding="chunked",
        )

    def reset(self):
        self.rest(upto=self.start + 40_000)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def stall(self):
        self.rest(upto=self.start + 50_000)
        self.wfile.flush()
        self.server.stop.wait(0.6)

    def endless(self):
        self.reply(200, length=False)
        while not self.server.stop.is_set():
            self.write(OTHER)

    def slow(self):
        self.rest(upto=self.start + 150_000)
        self.server.stop.wait(0.5)
        self.write(DATA[self.start + 150_000 :])

    def log_message(self, *_):
        pass


FAULTS = [
    name
    for name in vars(Handler)
    if name not in ("do_GET", "reply", "write", "rest", "log_message", "slow")
    and not name.startswith("_")
]


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them, so that no socket is left open

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stop, self.scripts, self.asked, self.sent = threading.Event(), {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def file(self, **scripts):
        """A file whose mirrors follow these scripts (words separated by blanks)."""
        self.scripts = {mirror: words.split() for mirror, words in scripts.items()}
        self.asked, self.sent = [], 0
        return RemoteFile(
            "set.npz", tuple(f"{self.url}/{mirror}/set.npz" for mirror in scripts), MD5, 313_600
        )

    def handle_error(self, *_):
        pass  # a client that hangs up


@pytest.fixture
def server(monkeypatch):
    for name in (
        "EFFML_OFFLINE",
        "EFFML_MIRROR",
        "EFFML_DATA",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in HASTY.items():
        monkeypatch.setattr(transfer, name, value)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def named(server, monkeypatch, tmp_path, no_data):
    """A data set `tiny`, with the server as its only source and nothing on this machine."""
    info = {
        "url": f"{server.url}/source/tiny.npz",
        "MD5": MD5,
        "url_64": f"{server.url}/source/tiny_64.npz",
        "MD5_64": "0" * 32,
        "n_samples": {"train": 200, "val": 100, "test": 100},
        "n_channels": 1,
        "task": "binary-class",
        "license": "CC0",
        "label": {"0": "a", "1": "b"},
    }
    monkeypatch.setattr("effml.data.catalogue.medmnist_info", lambda: {"tinymnist": info})
    monkeypatch.setattr("effml.data.places.ROOT", tmp_path)
    monkeypatch.setattr(download, "__kwdefaults__", {"quiet": True})
    return tmp_path / "data" / "tinymnist.npz"


def get(file, folder, **more):
    return download(file, folder, **{"quiet": True, **more})


def check(file, folder):
    """The right bytes under the final name (True), or one clear error and nothing under it."""
    try:
        assert get(file, folder).read_bytes() == DATA
        assert [path.name for path in folder.glob("set*")] == ["set.npz"]
        return True
    except ConnectionError as error:
        assert all(url in str(error) for url in file.urls)
        assert {path.name for path in folder.glob("set*")} <= {"set.npz.part"}
        return False


RIGHT = (
    "good no_ranges wrong_range other_bytes no_length redirect long_length absurd_length".split()
)  # the first answer is whole
LASTING = (
    "damaged forbidden absent gone no_content empty login_page gzipped to_ftp to_file "
    "short_length endless".split()
)  # nothing to be gained by asking again


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_then_a_good_answer_then_a_good_mirror_and_after_an_earlier_break(
    server, tmp_path, fault
):
    assert check(server.file(a=fault), tmp_path / "alone") == (fault in RIGHT)
    assert len(server.asked) == 1 or fault not in RIGHT + LASTING or fault == "redirect"
    assert check(server.file(a=f"{fault} good"), tmp_path / "again") == (fault not in LASTING)
    assert check(server.file(a=fault, b="good"), tmp_path / "other")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "set.npz.part").write_bytes(DATA[:100_000])
    assert check(server.file(a=fault, b="good"), tmp_path / "broken")


@pytest.mark.parametrize("seed", seeds(20, 80))
def test_random_faults_never_leave_a_damaged_file(server, tmp_path, seed):
    rng = random.Random(seed)
    quick = [fault for fault in FAULTS if fault not in ("stall", "silent")]
    scripts = {
        mirror: " ".join(rng.choices(quick if rng.random() < 0.7 else FAULTS, k=rng.randint(1, 3)))
        for mirror in "abc"
    }
    surely = rng.random() < 0.5
    if surely:
        scripts["d"] = "good"
    if rng.random() < 0.3:
        (tmp_path / "set.npz.part").write_bytes(
            rng.choice([DATA[:123_456], OTHER[:200_000], DATA, OTHER, bytes(2_000_000), b""])
        )
    if damaged := rng.random() < 0.3:
        (tmp_path / "set.npz").write_bytes(OTHER)
    file = server.file(**scripts)
    try:
        assert get(file, tmp_path).read_bytes() == DATA and len(list(tmp_path.glob("set*"))) == 1
    except ConnectionError as error:
        assert not surely and all(url in str(error) for url in file.urls)
        assert (
            not damaged
            and not (tmp_path / "set.npz").exists()
            or (tmp_path / "set.npz").read_bytes() == OTHER
        )
    server.asked.clear()
    (tmp_path / "set.npz").write_bytes(DATA)
    assert get(file, tmp_path).read_bytes() == DATA and not server.asked


def test_a_break_is_resumed_and_only_the_rest_is_sent(server, tmp_path):
    assert check(server.file(a="cut stall good"), tmp_path) and server.sent == len(DATA)
    assert [start for _, start, _ in server.asked] == [0, 80_000, 130_000]
    assert server.asked[0][2]["User-Agent"].startswith("effml/")
    (tmp_path / "set.npz").rename(tmp_path / "set.npz.part")
    with open(tmp_path / "set.npz.part", "r+b") as part:
        part.truncate(299_000)
    assert check(server.file(a="good"), tmp_path) and server.sent == 1000
    (tmp_path / "set.npz").rename(tmp_path / "set.npz.part")  # killed after the last byte
    assert check(server.file(a="good"), tmp_path) and server.sent == 0


def test_a_file_that_changed_meanwhile_is_sent_from_the_beginning(server, tmp_path):
    (tmp_path / "set.npz.part").write_bytes(OTHER[:80_000])
    assert check(server.file(a="good"), tmp_path) and server.sent == 220_000 + len(DATA)


def test_a_login_page_costs_no_bytes_that_are_here_and_wrong_ranges_are_not_believed(
    server, tmp_path, capsys
):
    (tmp_path / "set.npz.part").write_bytes(DATA[:200_000])
    with pytest.raises(
        ConnectionError, match="does this network want you to log in first(?s:.*)0.2 MB are kept"
    ):
        get(server.file(a="login_page"), tmp_path)
    assert get(server.file(a="wrong_range good"), tmp_path, quiet=False).read_bytes() == DATA
    assert (
        "from 200000 on, it sends Content-Range bytes 199993-299999/300000; again in 0 s"
        in capsys.readouterr().err
    )
    assert [start for _, start, _ in server.asked] == [200_000, 0]


def test_a_bad_line_may_break_often_as_long_as_it_brings_something(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "STEP", 30_000)
    assert check(server.file(a="cut"), tmp_path) and len(server.asked) == 4
    (tmp_path / "set.npz").unlink()
    assert (
        not check(server.file(a="cut_no_length"), tmp_path) and len(server.asked) == 3
    )  # brings the same again and again


@pytest.mark.parametrize(
    "fault, tries",
    [("absent", 1), ("forbidden", 1), ("busy", 3), ("too_many", 3), ("cut", 3)],
)
def test_only_what_may_pass_is_tried_again(server, tmp_path, fault, tries):
    assert not check(server.file(a=fault), tmp_path) and len(server.asked) == tries


def test_pauses_grow_with_jitter(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(transfer, "TRIES", 4)
    monkeypatch.setattr(transfer, "PAUSE", 1.0)
    with pytest.raises(ConnectionError, match="HTTP 503 .*4 tries"):
        get(server.file(a="busy"), tmp_path)
    assert len(slept) == 3
    assert all(low <= wait <= 3 * low for wait, low in zip(slept, (0.5, 1, 2)))


def test_mirrors_are_asked_in_order_and_yours_first_with_or_without_folders(
    server, tmp_path, monkeypatch, named
):
    file = server.file(a="good")
    nested = RemoteFile("MNIST/raw/set.npz", file.urls, MD5, 400_000)
    server.scripts = {"wifi": ["absent"], "raw": ["good"]}
    monkeypatch.setenv("EFFML_MIRROR", f"{server.url}/wifi/, {server.url}/lan")
    assert get(nested, tmp_path) == tmp_path / "MNIST" / "raw" / "set.npz"
    assert [mirror for mirror, *_ in server.asked] == ["wifi", "raw"]
    dead = socket.create_server(("127.0.0.1", 0))
    port = dead.getsockname()[1]
    dead.close()
    monkeypatch.setenv(
        "EFFML_MIRROR",
        f"http://127.0.0.1:{port}, 10.0.0.1:80, ftp://x/y, http://[bad, /no/such/folder",
    )
    assert get(file, tmp_path).read_bytes() == DATA
    (tmp_path / "set.npz").unlink()
    with pytest.raises(ConnectionError) as error:
        get(server.file(a="absent"), tmp_path)
    lines = str(error.value).splitlines()
    assert "refused" in lines[1] and "neither a file here nor" in lines[2] and "404" in lines[-1], (
        lines
    )


def test_a_stick_is_a_mirror_even_offline_and_with_a_blank_in_its_name(
    server, tmp_path, monkeypatch
):
    stick = tmp_path / "MY DISK"
    stick.mkdir()
    (stick / "set.npz").write_bytes(DATA)
    monkeypatch.setenv("EFFML_MIRROR", f" {stick}, http://192.168.1.5:8000")
    monkeypatch.setenv("EFFML_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    file = RemoteFile("set.npz", ("https://zenodo.org/set.npz",), MD5, 400_000)
    assert get(file, tmp_path).read_bytes() == DATA
    (stick / "set.npz").write_bytes(OTHER[:1000])
    (tmp_path / "set.npz").write_bytes(b"damaged")
    with pytest.raises(
        ConnectionError,
        match="MY DISK/set.npz: the MD5 .* must be (?s:.*)zenodo.*EFFML_OFFLINE is set: unset it",
    ):
        get(file, tmp_path)
    assert (tmp_path / "set.npz").read_bytes() == b"damaged"


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    file = RemoteFile("set.npz", ("http://no.such.host/data/set.npz",), MD5, 400_000)
    assert get(file, tmp_path).read_bytes() == DATA and server.asked[0][0] == "data"


def test_a_full_disk_and_a_folder_that_cannot_be_written_to_say_what_to_do(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    with pytest.raises(OSError, match="0.1 MB free, but set.npz needs 0.3 MB.*--root"):
        get(server.file(a="good"), tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(
        PermissionError, match="cannot be written to. Give another folder with --root"
    ):
        get(server.file(a="good"), tmp_path)


PROCESS = (
    "import sys\nfrom pathlib import Path\nfrom effml.data.fetch import RemoteFile, download\n"
    "download(RemoteFile('set.npz', (sys.argv[1],), sys.argv[2], 400_000), Path(sys.argv[3]))"
)


def test_threads_and_processes_that_want_the_same_file_get_it_once(server, tmp_path):
    file = server.file(a="slow")
    words = [sys.executable, "-c", PROCESS, file.urls[0], MD5, tmp_path]
    with ThreadPoolExecutor(4) as pool:
        others = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        while not server.asked:
            time.sleep(0.01)
        threads = list(pool.map(lambda _: get(file, tmp_path).read_bytes() == DATA, range(4)))
        said = [other.communicate(timeout=30)[1] for other in others]
    assert all(threads) and [other.returncode for other in others] == [0, 0], said
    assert server.sent == len(DATA) and [path.name for path in tmp_path.glob("set*")] == ["set.npz"]


def test_after_kill_9_the_rest_is_fetched(server, tmp_path):
    file = server.file(a="slow good")
    killed = subprocess.Popen([sys.executable, "-c", PROCESS, file.urls[0], MD5, tmp_path])
    part = tmp_path / "set.npz.part"
    while not part.exists() or part.stat().st_size < 100_000:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    have = part.stat().st_size
    assert not (tmp_path / "set.npz").exists() and 100_000 <= have < len(DATA)
    assert check(file, tmp_path) and server.asked[-1][1] == have


def test_progress_is_a_line_per_tenth_or_one_line_on_a_terminal(
    server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(transfer.Progress, "SHORT", 0.0)
    get(server.file(a="good"), tmp_path / "a", quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert lines[-1].startswith("set.npz: 0.3 of 0.3 MB, 0 s left, ")
    assert lines[-1].endswith("MB/s")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(server.file(a="cut no_length"), tmp_path / "b", quiet=False)
    assert "\r" in (text := capsys.readouterr().err)
    assert "the connection ended after 0.1 of 0.3 MB; again in 0 s" in text
    get(server.file(a="good"), tmp_path / "c")
    assert capsys.readouterr().err == ""
    assert [transfer._span(s) for s in (5, 600)] == ["5 s", "10 min"]


def test_a_named_set_lands_where_it_is_looked_for_and_a_local_copy_wins(
    server, named, tmp_path, monkeypatch, capsys
):
    assert fetch("tinymnist", dry_run=True) == [named]
    assert not named.exists()
    assert not named.parent.exists()
    assert f"at most 0.3 MB to get into {named.parent}" in capsys.readouterr().out
    assert fetch("tinymnist") == [named] == [places.find("tinymnist")]
    assert named.read_bytes() == DATA
    server.scripts, server.asked = {"source": ["busy"]}, []
    assert fetch("tinymnist") == fetch("tinymnist", root=tmp_path / "new") == [named]
    assert not server.asked
    named.write_bytes(OTHER)
    with pytest.raises(
        ConnectionError,
        match="HTTP 503(?s:.*)By hand:(?s:.*)1. Get(?s:.*)2. Check(?s:.*)3. Put(?s:.*)4. Say",
    ):
        fetch("tinymnist")
    assert named.read_bytes() == OTHER
    server.scripts = {}
    assert fetch("tinymnist") == [named] and named.read_bytes() == DATA
    with pytest.raises(ConnectionError, match=f"MD5 of what it sent is {MD5}, but must be 0000"):
        fetch("tinymnist", size=64)


def test_offline_opens_no_socket(named, monkeypatch):
    monkeypatch.setenv("EFFML_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(
        ConnectionError, match="EFFML_OFFLINE is set: unset it(?s:.*)1. Get(?s:.*)phantom-chest"
    ):
        fetch("tinymnist")
    named.parent.mkdir(exist_ok=True)
    named.write_bytes(DATA)
    assert fetch("tinymnist") == [named] and fetch("phantom-chest") == []


def test_unknown_sets_and_sizes(named):
    with pytest.raises(
        ValueError, match="Unknown public set 'nosuch'. Choose from: tinymnist, mnist"
    ):
        fetch("nosuch")
    with pytest.raises(ValueError, match="no variant of 50 px. Choose from: 28, 64"):
        fetch("tinymnist", size=50)


def test_mnist_is_four_files_and_a_damaged_one_is_replaced(server, named, tmp_path, monkeypatch):
    files = [
        replace(file, md5=MD5, md5_inside="", urls=(f"{server.url}/one/x", f"{server.url}/two/x"))
        for file in catalogue.remote_files("mnist")
    ]
    one = replace(catalogue.SETS["mnist"], files={28: files})
    monkeypatch.setitem(catalogue.SETS, "mnist", one)
    paths = fetch("mnist")
    assert len(paths) == 4
    assert places.find("mnist") == paths[0].parent == tmp_path / "data" / "MNIST" / "raw"
    paths[2].write_bytes(OTHER)
    server.asked.clear()
    assert missing("mnist")[0].path == f"MNIST/raw/{paths[2].name}" and fetch("mnist") == paths
    assert len(server.asked) == 1 and paths[2].read_bytes() == DATA


def cli(*words):
    parser = argparse.ArgumentParser()
    parser.set_defaults(command="data")
    import_commands.add(commands.add(parser))
    given = parser.parse_args([str(word) for word in words])
    return given.do(given)


def test_list_says_what_there_is_what_is_here_and_what_it_would_cost(server, named, capsys):
    named.parent.mkdir()
    named.write_bytes(b"whatever: the list reads no file")
    (named.parent / "ours.npz").write_bytes(b"")
    assert cli("list") == 0 and not server.asked
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert "always" in rows["phantom-chest"]
    assert " yes " in rows["ours"]
    assert " no " in rows["mnist"]
    assert (
        " ".join(rows["tinymnist"].split())
        == "tinymnist images, binary-class 400 28 64 28 CC0 nothing"
    )
    assert cli("list", "--size", 64) == 0 and not server.asked
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["tinymnist"].endswith(" 1.6 MB") and rows["mnist"].endswith("no such size")


def test_get_names_the_mb_first_and_goes_on_with_the_others(server, named, capsys):
    assert cli("get", "tinymnist", "phantom-skin", "--dry-run") == 0 and not named.exists()
    out = capsys.readouterr().out
    assert f"1 file, at most 0.3 MB to get into {named.parent}" in out
    assert "phantom-skin is drawn on this machine: nothing need" in out
    with pytest.raises(ValueError, match="Choose from"):
        cli("get", "tinymnist", "nosuch")
    assert not named.exists()  # names are checked before anything is fetched
    assert cli("get", "tinymnist", "tinymnist") == 0 and named.read_bytes() == DATA
    assert capsys.readouterr().out.splitlines()[-1] == str(named)
    assert cli("get", "tinymnist") == 0 and f"tinymnist is here: {named}" in capsys.readouterr().out
    catalogue.medmnist_info()["tinymnist"]["n_samples"] = {"train": 400}
    assert cli("get", "tinymnist", "--size", 64, "--root", named.parent / "b") == 1
    assert "effml: tinymnist_64.npz could not be fetched" in (err := capsys.readouterr().err)
    assert "4. Say python" in err


def test_get_offline_names_at_most_the_unpacked_size(named, capsys, monkeypatch):
    monkeypatch.setenv("EFFML_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    assert cli("get", "tinymnist", "--dry-run") == 0
    assert "1 file, at most 0.3 MB to get" in capsys.readouterr().out
    assert cli("get", "tinymnist") == 1 and "unset it to ask" in capsys.readouterr().err


def test_verify_finds_the_damaged_and_the_unofficial(named, capsys):
    named.parent.mkdir()
    (named.parent / "ours.npz").write_bytes(b"1")
    named.write_bytes(DATA)
    assert cli("verify", "--dry-run") == 0 and "0.3 MB to read, files: 1" in capsys.readouterr().out
    assert cli("verify") == 0
    out = capsys.readouterr().out
    assert f"ok            {named}" in out
    assert "ours.npz (no checksum known)" in out
    assert "1 ok, 0 damaged, 1 not official" in out
    named.write_bytes(OTHER)
    assert cli("verify", "tinymnist", "phantom-chest") == 1
    assert (
        f"not {MD5}. Get it again: python -m effml data get tinymnist --size 28"
        in capsys.readouterr().out
    )
    with pytest.raises(FileNotFoundError, match="mnist is not in .*data get mnist"):
        cli("verify", "mnist")


def test_import_reports_what_was_made_and_what_is_next(tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    lines = ["picture,patient,diagnosis"]
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
        lines.append(f"{i}.png,p{i // 2},{('ill', 'well')[i % 2]}")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "table.csv").write_text("\n".join([*lines, "broken.png,p99,ill"]))
    words = [
        "import",
        "in",
        "out.npz",
        "--table",
        "table.csv",
        "--columns",
        "file=picture,group=patient,label=diagnosis",
        "--size",
        16,
        "--positive",
        "ill",
        "--fractions",
        "0.5,0.25,0.25",
    ]
    assert cli(*words, "--dry-run") == 0 and not (tmp_path / "out.npz").exists()
    assert "pictures      25" in capsys.readouterr().out
    assert cli(*words) == 0
    out = capsys.readouterr().out
    assert "classes       train (ill 6, well 6), val (ill 3, well 3), test (ill 3, well 3)" in out
    assert "positive      ill" in out
    assert "data=out.npz" in out
    assert "refused       1; " in out and "(1×)" in out
    for wrong, words in (
        ("--columns=x", "give pairs"),
        ("--fractions=a,b", "give numbers, such as 0.7,0.1,0.2"),
    ):
        with pytest.raises(SystemExit):
            cli("import", "in", "out.npz", wrong)
        assert words in capsys.readouterr().err
