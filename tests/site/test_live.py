"""Figures in a running notebook: JupyterLab in the browser, a kernel behind it."""

import re
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

EXPLORER = [
    """
import torch
from em2vae import VAE, load_digits
from em2vae.interactive.latent_explorer import LatentExplorer

vae = VAE(2, (8,))
with torch.no_grad():
    vae.encoder.heads.weight *= 20  # both dimensions active
x, labels = load_digits("test")
explorer = LatentExplorer(vae, x[:20], labels[:20])
explorer
""",
    "print('python reads', explorer.z)",
    "explorer.z = [-2.0, 0.25]",
    "explorer.digit = 3\nprint('digit', explorer.digit)",
]
TRAINING = [
    """
import torch
from em2vae import load_digits
from em2vae.interactive.vae_lab import VaeLab

(x, labels), (x_test, labels_test) = load_digits("train"), load_digits("test")
lab = VaeLab(x[:200], labels[:200], x_test[:200], labels_test[:200], images=100, batch=10)
lab
""",
    "lab.settings = lab.settings | {'latent': 3}",
    """
bound = lab.vae.elbo(x_test[:200].bernoulli()).elbo.mean()
print("latent dimensions", lab.vae.latent_dim, "bound", bound.item())
""",
]
NOTEBOOKS = {"explorer": EXPLORER, "training": TRAINING}


@pytest.fixture
def lab_url(tmp_path):
    """A JupyterLab on the loopback address whose folder holds the notebooks."""
    for name, cells in NOTEBOOKS.items():
        notebook = new_notebook(cells=[new_code_cell(cell.strip()) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3 (ipykernel)",
        }
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    log = tmp_path / "log.txt"
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token=live", "--port=0"]
    options += [f"--ServerApp.root_dir={tmp_path}", "--LabApp.news_url=None"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with log.open("w") as out:
        lab = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield wait_for(log, lab)
        finally:
            lab.terminate()
            lab.wait(timeout=30)


def wait_for(log, lab) -> str:
    """The server's address, once it answers."""
    for _ in range(300):
        found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        if found and lab.poll() is None:
            urllib.request.urlopen(f"{found[0]}api", timeout=30).close()
            return found[0]
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


def test_traits_are_in_sync_both_ways(browser, lab_url):
    page, figure = open_notebook(browser, lab_url, "explorer")

    figure.locator(".em2vae-slider").filter(has_text="z₁").locator("input").fill("1.5")
    figure.locator(".em2vae-slider").filter(has_text="z₂").locator("input").fill("-0.5")
    run(page, 1)
    page.get_by_text("python reads [1.5, -0.5]").wait_for(timeout=30_000)

    run(page, 2)
    figure.locator("output").filter(has_text="z₁ = −2.00, z₂ = 0.25").wait_for(timeout=30_000)

    run(page, 3)
    figure.get_by_text("Original: a 3").wait_for(timeout=30_000)
    page.close()


def test_a_model_trained_in_the_figure_is_one_in_python(browser, lab_url):
    page, figure = open_notebook(browser, lab_url, "training")
    run(page, 1)
    figure.get_by_text("latent dimensions: 3").first.wait_for(timeout=30_000)
    figure.get_by_role("button", name="Ten epochs").click()
    said = figure.locator(".em2vae-said").filter(has_text="after 10 epochs")
    said.wait_for(timeout=60_000)
    figure.get_by_text("paused").wait_for(timeout=30_000)
    run(page, 2)
    printed = page.get_by_text(re.compile(r"latent dimensions 3 bound -\d+")).last
    printed.wait_for(timeout=30_000)
    bounds = [re.search(r"bound [−-]([\d.]+)", text.inner_text())[1] for text in (said, printed)]
    in_page, in_python = map(float, bounds)
    assert in_python == pytest.approx(in_page, abs=3)  # each with its own draws
    page.close()


def open_notebook(browser, lab_url: str, name: str):
    """The notebook's page, and the figure that its first cell shows."""
    page = browser.new_page(viewport={"width": 1400, "height": 1600})
    page.goto(f"{lab_url}doc/tree/{name}.ipynb?token=live")
    page.locator(".jp-Cell .cm-content").first.click(timeout=60_000)
    page.keyboard.press("Shift+Enter")
    figure = page.locator("figure.em2vae[data-state=ready]")
    figure.wait_for(timeout=60_000)
    return page, figure


def run(page, index: int) -> None:
    page.locator(".jp-Cell .cm-content").nth(index).click()
    page.keyboard.press("Shift+Enter")
