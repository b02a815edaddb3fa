"""Finds Chrome or Chromium, or gets one."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PLAYWRIGHT = [sys.executable, "-m", "playwright", "install", "chromium"]
APT = ["sh", "-c", "apt-get update && apt-get install -y chromium"]
HELP = """The browser tests need Chrome or Chromium, and none was found or could be installed.
Install one (Debian: sudo apt-get install chromium; macOS: brew install --cask chromium;
anywhere: python -m playwright install --with-deps chromium) and run the tests again.
What was tried:
"""


def find_browser(playwrights_own: str) -> str:
    """Path of a browser: one that is there, else one that is fetched now.

    Raises:
        RuntimeError: there is none and none can be had; the message says what to do.
    """
    if browser := installed(playwrights_own):
        return browser
    tried = []
    for command in ways_to_install():
        tried.append(f"{' '.join(command)}: {install(command)}")
        if browser := installed(playwrights_own):
            return browser
    raise RuntimeError(HELP + "\n".join(tried))


def installed(playwrights_own: str) -> str | None:
    """A browser on PATH, macOS's applications, or Playwright's own."""
    on_path = (shutil.which(name) for name in NAMES)
    files = (path for path in (*APPS, playwrights_own) if Path(path).is_file())
    return next((path for path in (*on_path, *files) if path), None)


def ways_to_install() -> list[list[str]]:
    """The likeliest first: Debian's own package needs root; Ubuntu's is a snap and comes last."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return [PLAYWRIGHT]
    if platform.freedesktop_os_release().get("ID") == "debian":
        return [APT, PLAYWRIGHT]
    return [[*PLAYWRIGHT, "--with-deps"], APT]


def install(command: list[str]) -> str:
    """Run it and say how it ended."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return f"exit status {run.returncode}: {run.stderr.strip()[-500:]}"
