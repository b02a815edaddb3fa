"""Which browsers the tests use, and where they are; what is missing is fetched."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    "firefox": ("firefox-esr", "firefox"),
    "webkit": ("WebKitWebDriver",),
}
APPS = {
    "chromium": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
    "firefox": ("/Applications/Firefox.app/Contents/MacOS/firefox",),
    "webkit": (),
}
PACKAGES = {"chromium": "chromium", "firefox": "firefox-esr", "webkit": "webkit2gtk-driver xvfb"}
PLAYWRIGHT = [sys.executable, "-m", "playwright", "install", "chromium"]
HELP = """The site's tests need {engine}, and it was not found and could not be installed.
{advice}
{other}
What was tried:
"""
ADVICE = {
    "chromium": "Install Chrome or Chromium (Debian: sudo apt-get install chromium; macOS: brew "
    "install --cask chromium; anywhere: python -m playwright install --with-deps chromium).",
    "firefox": "Install Firefox (Debian: sudo apt-get install firefox-esr; macOS: brew install "
    "--cask firefox).",
    "webkit": "Install WebKitGTK's driver and a virtual screen (Debian, Ubuntu: sudo apt-get "
    "install webkit2gtk-driver xvfb). There is none for macOS and Windows.",
}
GO_WITHOUT = "Or go without: set EM2VAE_ENGINES={} in the environment and run the tests again."


def wanted() -> list[str]:
    """The engines to test in: those that EM2VAE_ENGINES lists between commas, else all three.

    Raises:
        ValueError: a name is unknown; the message lists the known ones.
    """
    names = [name.strip() for name in os.environ.get("EM2VAE_ENGINES", "").split(",")]
    names = [name for name in names if name]
    if unknown := set(names) - set(NAMES):
        known = ", ".join(NAMES)
        raise ValueError(f"EM2VAE_ENGINES names {', '.join(sorted(unknown))}; there are {known}.")
    return names or list(NAMES)


def find_browser(engine: str, playwrights_own: str = "") -> str:
    """Path of an engine's browser (of WebKit its driver): one that is there, else fetched now.

    Raises:
        RuntimeError: there is none and none can be had; the message says what to do.
    """
    if browser := installed(engine, playwrights_own):
        return browser
    tried = []
    for command in ways_to_install(engine):
        tried.append(f"{' '.join(command)}: {install(command)}")
        if browser := installed(engine, playwrights_own):
            return browser
    other = GO_WITHOUT.format(",".join(name for name in wanted() if name != engine) or "...")
    text = HELP.format(engine=engine, advice=ADVICE[engine], other=other)
    raise RuntimeError(text + ("\n".join(tried) or "nothing: only root may install packages"))


def installed(engine: str, playwrights_own: str = "") -> str | None:
    """A browser on PATH, among macOS's applications, or Playwright's own."""
    if engine == "webkit" and not shutil.which("Xvfb"):
        return None
    on_path = (shutil.which(name) for name in NAMES[engine])
    files = (path for path in (*APPS[engine], playwrights_own) if Path(path).is_file())
    return next((path for path in (*on_path, *files) if path), None)


def ways_to_install(engine: str) -> list[list[str]]:
    """The likeliest first: Debian's own package needs root; Ubuntu's is a snap and comes last."""
    may_install = shutil.which("apt-get") and os.geteuid() == 0
    if engine != "chromium":
        return [apt(engine)] if may_install else []
    if not may_install:
        return [PLAYWRIGHT]
    if platform.freedesktop_os_release().get("ID") == "debian":
        return [apt(engine), PLAYWRIGHT]
    return [[*PLAYWRIGHT, "--with-deps"], apt(engine)]


def apt(engine: str) -> list[str]:
    """Waits for another apt-get that is at work."""
    get = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
    return ["sh", "-c", f"{get} update && {get} install -y {PACKAGES[engine]}"]


def install(command: list[str]) -> str:
    """Run it and say how it ended."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return f"exit status {run.returncode}: {run.stderr.strip()[-500:]}"
