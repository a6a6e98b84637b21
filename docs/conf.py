"""How Sphinx makes the site of these pages: `python -m sphinx -W -b html docs site`."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]

project = _PROJECT["name"]
version = release = _PROJECT["version"]
copyright = f"the authors of {project}, {_PROJECT['license']} licence"  # noqa: A001 - Sphinx's name for it

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["README.md"]
nitpicky = False  # annotations name much of redis-py's and asyncio's, which is documented elsewhere

# Pages are written for GitHub, too, so links lead to headings as they do there.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autoclass_content = "both"  # what the arguments of a class mean is said in its __init__
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88  # longer ones have a line for each argument
autodoc_preserve_defaults = True
napoleon_use_rtype = False
default_role = (
    "py:obj"  # docstrings have backticks like Markdown; what has a name here becomes a link
)

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def _for_the_site(text: str, up: str) -> str:
    """Lead links out of docs/ to what is there; the page of the benchmarks has a place in the site."""
    text = text.replace("](benchmarks/README.md", "](docs/benchmarks/index.md")
    text = text.replace("](../../benchmarks/README.md", "](../benchmarks/index.md")
    text = text.replace("](../../README.md", "](../index.md").replace(
        "](../README.md", "](index.md"
    )
    return re.sub(r"\]\((?=(tests|aiopool|benchmarks)/)", f"]({up}", text)


class Notebook(MystParser):
    """Reads a notebook as the page that it looks like: text, code, and what the code has said."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Make a page of Markdown, and read that."""
        super().parse("\n\n".join(_markdown(json.loads(inputstring))), document)


def _markdown(notebook: dict) -> Iterator[str]:
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
        else:
            yield f"```python\n{source}\n```"
            for output in cell["outputs"]:
                yield f"```text\n{''.join(output['text'])}```"


def setup(app: Sphinx) -> None:
    """Read all pages so."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(Notebook)

    def included(_app: Sphinx, path: Path, _page: str, text: list[str]) -> None:
        # README is included by docs/index.md, that of the benchmarks by a page one folder further down.
        text[0] = _for_the_site(text[0], "../../" if "benchmarks" in path.parts else "../")

    def read(_app: Sphinx, _page: str, text: list[str]) -> None:
        text[0] = _for_the_site(text[0], "../")

    app.connect("include-read", included)
    app.connect("source-read", read)
