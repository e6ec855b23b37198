from __future__ import annotations

import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.app.listen import opened_socket
from anomalib_xray.cli import main
from anomalib_xray.errors import XrayError


def test_without_a_bundle_it_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app"]) == 2
    assert "Give a bundle with --bundle FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(
    package: str, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["app", "--bundle", str(bundles[0])]) == 2
    assert f"The viewer needs {package}: pip install 'anomalib-xray[app]'" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_used_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--port", "0", "--bundle", str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert "nowhere" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_others_are_kept_out_unless_they_are_allowed(host: str) -> None:
    with pytest.raises(XrayError, match=r"Other machines could reach the viewer .* add --allow_remote true"):
        opened_socket(host, 0, allow_remote=False)


def test_letting_others_in_prints_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with opened_socket("0.0.0.0", 0, allow_remote=True) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"
    assert capsys.readouterr().err.startswith("warning: the viewer at 0.0.0.0 has no login and no encryption")


def test_loopback_prints_none(capsys: pytest.CaptureFixture[str]) -> None:
    with opened_socket("127.0.0.1", 0, allow_remote=False) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        socket.create_connection(listening.getsockname(), 5).close()  # before any server runs
    assert capsys.readouterr().err == ""


def test_a_port_in_use_and_an_impossible_one_are_sentences() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(XrayError, match=f"cannot listen on 127.0.0.1, port {port}: "):
            opened_socket("127.0.0.1", port, allow_remote=False)
    with pytest.raises(XrayError, match="no port 70000"):
        opened_socket("127.0.0.1", 70000, allow_remote=False)


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(bundles: list[Path]) -> None:
    command = [Path(sysconfig.get_path("scripts")) / "anomalib-xray", "app", "--port", "0", "--bundle", bundles[0]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{NOTICE}\n"
        label, _, rest = process.stdout.readline().partition(": open ")
        assert label == "Cae"
        address = rest.partition(" ")[0]
        assert address.startswith("http://127.0.0.1:")
        assert NOTICE in httpx.get(address, timeout=30).text
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", None)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
