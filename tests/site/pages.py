"""The pages of the built site, read from the table of contents."""

from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
DOCNAMES = list(parse_toc_yaml(ROOT / "_toc.yml"))
PAGES = [*DOCNAMES, "search"]
