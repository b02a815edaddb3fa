"""A page of your own: a folder of pictures, a model of them, and its latent explorer in one file.

    python -m em2vae.page FOLDER PAGE.html

reads the pictures, trains a ConvVAE on them and writes a page that opens in any browser, with no
network and no server. It says how to use a model that you have trained, and more, with --help.
"""

import argparse
import json
import os
import sys
import warnings
from html import escape
from pathlib import Path
from string import Template

import torch
from comm import DummyComm
from ipywidgets.embed import dependency_state
from torch import Tensor

from em2vae.convolutional import ConvVAE
from em2vae.images import Images, load_images
from em2vae.interactive.latent_explorer import LatentExplorer
from em2vae.interactive.packing import host_script, pack_figures
from em2vae.pixels import bits_per_dim
from em2vae.saving import load_vae, save
from em2vae.training import fit
from em2vae.vae import VAE

MOST = 500  # pictures on a page: a map of more is hard to read, and each weighs a byte a number
STEPS = 2000  # of training, unless the epochs are given
BATCH = 64
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
:root {
  --pst-color-text-base: #222;
  --pst-color-background: #fff;
  --pst-color-surface: #f3f4f5;
  --pst-color-border: #c9c9c9;
}
:root[data-theme="dark"] {
  --pst-color-text-base: #d7dde3;
  --pst-color-background: #15191f;
  --pst-color-surface: #252c35;
  --pst-color-border: #4a5563;
  color-scheme: dark;
}
body {
  max-width: 60rem;
  margin: 0 auto;
  padding: 1rem;
  background: var(--pst-color-background);
  color: var(--pst-color-text-base);
  font: 1rem/1.5 system-ui, sans-serif;
}
h1 {
  font-size: 1.5rem;
  line-height: 1.2;
  overflow-wrap: anywhere;
}
</style>
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const choose = () => (document.documentElement.dataset.theme = dark.matches ? "dark" : "light");
dark.addEventListener("change", choose);
choose();
</script>
$state
<script>
$host</script>
</head>
<body>
<main>
<h1>$title</h1>
<p>$about</p>
<noscript><p>The figure needs JavaScript, which is switched off.</p></noscript>
<script type="application/vnd.jupyter.widget-view+json">$view</script>
</main>
</body>
</html>
""")
ABOUT = (
    "A variational autoencoder has learned to draw pictures like these {count} from {K} numbers. "
    "Your browser computes each picture as you move the numbers; nothing leaves this page."
)


class FileExplorer(LatentExplorer):
    """The explorer of a file: a notebook that writes one keeps no copy among its own figures."""

    _esm, _css = LatentExplorer._esm, LatentExplorer._css

    def open(self) -> None:
        self.comm = DummyComm(target_name="jupyter.widget")


def write_page(
    vae: VAE, images: Images, path: str | os.PathLike, title: str = "Latent explorer"
) -> None:
    """Write a page with the latent explorer of a model of your own pictures: one HTML file.

    It opens from a folder, offline, on a phone, too. It holds the model's weights, and the pictures
    as far as the model sees them; of more than 500 it holds 500, evenly chosen.

    Args:
        vae: a VAE or a ConvVAE of pictures of this shape.
        images: as from `load_images`.
        path: of the HTML file.
        title: of the page.

    Raises:
        TypeError, ValueError: the model or the pictures are not what LatentExplorer takes.
        OSError: the file cannot be written.
    """
    x, labels, names, shape = images
    chosen = torch.linspace(0, len(x) - 1, min(MOST, len(x))).round().long()
    explorer = FileExplorer(
        vae, x[chosen], None if labels is None else labels[chosen], shape=shape, names=names
    )
    page = PAGE.substitute(
        title=escape(title),
        about=ABOUT.format(count=len(chosen), K=vae.latent_dim),
        state=pack_figures(dependency_state([explorer], drop_defaults=False), shared=[]),
        host=host_script(),
        view=json.dumps({"model_id": explorer.model_id}),
    )
    explorer.close()
    Path(path).write_text(page, encoding="utf-8")


def train(images: Images, latent_dim: int, epochs: int | None, seed: int) -> ConvVAE:
    """A VAE of the pictures' 256 levels (chapter 17), after it has said what it makes of them.

    Every tenth picture is held out, to tell what the model has understood from what it knows by
    heart.
    """
    x = (255 * images.x).round() / 255  # pictures of 16 bits have more levels
    held_out = torch.arange(len(x)) % 10 == 9
    parts = {"trained on": x[~held_out], "held out": x[held_out]}
    vae = ConvVAE(latent_dim, shape=images.shape, likelihood="logistic", seed=seed)
    steps = -(-len(parts["trained on"]) // BATCH)  # an epoch
    epochs = epochs or -(-STEPS // steps)
    fit(vae, parts["trained on"], epochs, batch_size=BATCH, binarize="none", seed=seed)
    for name, part in parts.items():
        if len(part):
            bits = bits_per_dim(bound(vae, part), vae.data_dim)
            print(f"pictures {name} ({len(part)}): at most {bits:.2f} bits a value, of 8")
    return vae


@torch.no_grad()
def bound(vae: ConvVAE, x: Tensor) -> Tensor:
    """The mean ELBO of pictures x (N, D), one draw each, in nats."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat([vae.elbo(part, generator=generator).elbo for part in x.split(BATCH)]).mean()


def main(arguments: list[str] | None = None) -> None:
    """What `python -m em2vae.page` does."""
    given = _parser().parse_args(arguments)
    try:
        for path in filter(None, (given.page, given.save)):
            if not Path(path).resolve().parent.is_dir():  # before the training, not after it
                raise OSError(f"{path} cannot be written: there is no such folder")
        images = load_images(given.folder, given.size, given.color, given.background)
        print(f"{given.folder}: {len(images.x)} pictures of {images.shape[2]}x{images.shape[1]}")
        if given.model:
            vae = load_vae(given.model, images.shape)
        else:
            vae = train(images, given.latent_dim, given.epochs, given.seed)
        if given.save:
            save(vae, given.save)
        write_page(vae, images, given.page, given.title or Path(given.folder).resolve().name)
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{given.page}: {Path(given.page).stat().st_size / 1e6:.1f} MB. Open it in a browser")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m em2vae.page",
        description="From a folder of pictures to a page with sliders: reads the pictures, trains "
        "a variational autoencoder on them, and writes its latent explorer as one HTML file, which "
        "opens in any browser without a network. In brackets, what holds if you do not say.",
    )
    add = parser.add_argument
    add("folder", help="the pictures; the names of its subfolders, if any, are their labels")
    add("page", help="the HTML file to write")
    add(
        "--size",
        type=int,
        default=28,
        help="width and height to resize to, a multiple of 4 to be trained on (%(default)s)",
    )
    add("--color", action="store_true", help="keep the colours")
    add("--background", help="colour behind transparent pictures, which are refused without one")
    add("--title", help="of the page (the folder's name)")
    add("--model", help="a file of em2vae.save, to show that VAE; nothing is trained")
    add("--save", help="the file that keeps the model, for --model or em2vae.load")
    add("--latent-dim", type=int, default=8, help="numbers in a code, at least 2 (%(default)s)")
    add("--epochs", type=int, help=f"passes over the pictures (as many as make {STEPS} steps)")
    add("--seed", type=int, default=0, help="of weights, order and noise (%(default)s)")
    return parser


if __name__ == "__main__":
    torch.set_num_threads(1)  # as fast as two for small pictures, and ten times on a busy computer
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    main()
