BIN := .venv/bin
PYTHON ?= python3

.PHONY: book test lab bench zip clean

# A build that failed on a warning would pass when it is repeated on its own leftovers: the next
# one starts without them. Without index.html the tests build again.
book: .venv/stamp
	$(BIN)/jupyter-book build . -W -n --keep-going || { rm -rf _build/.doctrees _build/html/index.html; exit 1; }
	@echo "Open $(CURDIR)/_build/html/index.html"

# Chapters run once, for nbval and for the site; one that fails here fails its tests.
test: .venv/stamp
	-$(BIN)/python book/_ext/execute.py
	$(BIN)/pytest -n 2 --dist loadfile

lab: .venv/stamp
	$(BIN)/jupyter-lab --notebook-dir book

bench: .venv/stamp
	for script in benchmarks/chapters.py benchmarks/quality.py benchmarks/site.py benchmarks/training.py; do $(BIN)/python $$script || exit 1; done

zip: book
	cd _build && rm -rf em2vae-book em2vae-book.zip && cp -R html em2vae-book
	cd _build && ../$(BIN)/python -m zipfile -c em2vae-book.zip em2vae-book

clean:
	rm -rf _build

.venv/stamp: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@
