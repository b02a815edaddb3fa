"""The search for browsers, on machines that this one is not."""

import subprocess

import browsers
import pytest

ENGINES = list(browsers.NAMES)


@pytest.fixture
def bare(monkeypatch):
    """A machine without a browser on which every installation fails; returns what is run."""
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(
        browsers.shutil, "which", lambda name: "/bin/x" if name == "apt-get" else None
    )
    monkeypatch.setattr(browsers, "APPS", dict.fromkeys(ENGINES, ()))
    monkeypatch.setattr(browsers.subprocess, "run", run)
    monkeypatch.delenv("EM2VAE_ENGINES", raising=False)
    return commands


def machine(monkeypatch, user: int, distribution: str) -> None:
    monkeypatch.setattr(browsers.os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(browsers.platform, "freedesktop_os_release", lambda: {"ID": distribution})


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_browser_the_message_says_what_to_do(bare, monkeypatch, engine):
    machine(monkeypatch, user=1000, distribution="debian")
    with pytest.raises(RuntimeError) as error:
        browsers.find_browser(engine, "/nowhere")
    assert f"apt-get install {browsers.PACKAGES[engine]}" in str(error.value)
    others = ",".join(name for name in ENGINES if name != engine)
    assert f"EM2VAE_ENGINES={others} " in str(error.value)


def test_only_root_installs_packages_and_playwright_comes_without(bare, monkeypatch):
    machine(monkeypatch, user=1000, distribution="debian")
    for engine, tried in (("chromium", [browsers.PLAYWRIGHT]), ("firefox", []), ("webkit", [])):
        bare.clear()
        with pytest.raises(RuntimeError, match="no network" if tried else "only root"):
            browsers.find_browser(engine, "/nowhere")
        assert bare == tried


def test_root_tries_the_likeliest_first(bare, monkeypatch):
    for distribution, first in (("debian", "apt-get"), ("ubuntu", "playwright")):
        bare.clear()
        machine(monkeypatch, user=0, distribution=distribution)
        with pytest.raises(RuntimeError):
            browsers.find_browser("chromium", "/nowhere")
        assert len(bare) == 2
        assert first in " ".join(bare[0])


@pytest.mark.parametrize("engine", ["firefox", "webkit"])
def test_root_installs_the_other_engines_packages(bare, monkeypatch, engine):
    machine(monkeypatch, user=0, distribution="debian")
    with pytest.raises(RuntimeError, match="no network"):
        browsers.find_browser(engine)
    [[*_, command]] = bare
    assert command.endswith(f"apt-get -o DPkg::Lock::Timeout=300 install -y "
                            f"{browsers.PACKAGES[engine]}")  # fmt: skip


def test_without_apt_nothing_is_installed_but_by_playwright(bare, monkeypatch):
    monkeypatch.setattr(browsers.shutil, "which", lambda name: None)
    monkeypatch.delattr(browsers.os, "geteuid")  # as on Windows
    for engine, tried in (("chromium", [browsers.PLAYWRIGHT]), ("firefox", []), ("webkit", [])):
        bare.clear()
        with pytest.raises(RuntimeError, match="EM2VAE_ENGINES"):
            browsers.find_browser(engine, "/nowhere")
        assert bare == tried


def test_a_browser_that_is_there_is_taken(bare, monkeypatch, tmp_path):
    own = tmp_path / "chrome"
    own.touch()
    assert browsers.find_browser("chromium", str(own)) == str(own)
    monkeypatch.setattr(browsers.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert browsers.find_browser("firefox") == "/usr/bin/firefox-esr"
    assert browsers.find_browser("webkit") == "/usr/bin/WebKitWebDriver"
    assert bare == []


def test_webkit_needs_a_screen_too(bare, monkeypatch):
    machine(monkeypatch, user=1000, distribution="debian")
    monkeypatch.setattr(browsers.shutil, "which", lambda name: None if name == "Xvfb" else "/x")
    with pytest.raises(RuntimeError, match="xvfb"):
        browsers.find_browser("webkit")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_browser_that_an_installation_brings_is_taken(bare, monkeypatch, engine):
    machine(monkeypatch, user=0, distribution="debian")
    here = set()

    def run(command, **options):
        here.update(("Xvfb", *browsers.NAMES[engine]))
        return subprocess.CompletedProcess(command, 0, "", "")

    found = browsers.NAMES[engine][0]
    monkeypatch.setattr(
        browsers.shutil, "which", lambda n: f"/bin/{n}" if n in here or n == "apt-get" else None
    )
    monkeypatch.setattr(browsers.subprocess, "run", run)
    assert browsers.find_browser(engine) == f"/bin/{found}"


def test_the_engines_to_test_in(monkeypatch):
    for text, names in (("", ENGINES), ("chromium", ["chromium"]),
                        ("firefox, webkit", ["firefox", "webkit"])):  # fmt: skip
        monkeypatch.setenv("EM2VAE_ENGINES", text)
        assert browsers.wanted() == names
    monkeypatch.delenv("EM2VAE_ENGINES")
    assert browsers.wanted() == ENGINES
    monkeypatch.setenv("EM2VAE_ENGINES", "chromium,opera")
    with pytest.raises(ValueError, match=r"names opera; there are chromium, firefox, webkit"):
        browsers.wanted()
