"""The search for a browser, on machines that this one is not."""

import subprocess

import chromium
import pytest


@pytest.fixture
def bare(monkeypatch):
    """A machine without a browser on which every installation fails; returns what is run."""
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(
        chromium.shutil, "which", lambda name: "/bin/x" if name == "apt-get" else None
    )
    monkeypatch.setattr(chromium, "APPS", ())
    monkeypatch.setattr(chromium.subprocess, "run", run)
    return commands


def machine(monkeypatch, user: int, distribution: str) -> None:
    monkeypatch.setattr(chromium.os, "geteuid", lambda: user)
    monkeypatch.setattr(chromium.platform, "freedesktop_os_release", lambda: {"ID": distribution})


def test_without_any_browser_the_message_says_what_to_do(bare, monkeypatch):
    machine(monkeypatch, user=1000, distribution="debian")
    with pytest.raises(RuntimeError, match="apt-get install chromium") as error:
        chromium.find_browser("/nowhere")
    assert bare == [chromium.PLAYWRIGHT]
    assert "exit status 1: no network" in str(error.value)


def test_root_tries_the_likeliest_first(bare, monkeypatch):
    for distribution, first in (("debian", "apt-get"), ("ubuntu", "playwright")):
        bare.clear()
        machine(monkeypatch, user=0, distribution=distribution)
        with pytest.raises(RuntimeError):
            chromium.find_browser("/nowhere")
        assert len(bare) == 2
        assert first in " ".join(bare[0])


def test_a_browser_that_is_there_is_taken(bare, tmp_path):
    own = tmp_path / "chrome"
    own.touch()
    assert chromium.find_browser(str(own)) == str(own)
    assert bare == []


def test_a_browser_that_an_installation_brings_is_taken(bare, monkeypatch, tmp_path):
    machine(monkeypatch, user=1000, distribution="debian")
    own = tmp_path / "chrome"

    def run(command, **options):
        own.touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(chromium.subprocess, "run", run)
    assert chromium.find_browser(str(own)) == str(own)
