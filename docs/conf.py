"""Configuration of Sphinx (`make docs`)."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import typer
from numpydoc.xref import DEFAULT_LINKS
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

import modgraph
from modgraph.cli import app as command_line

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads are slower on networks this small

project = "modgraph"
author = "The modgraph developers"
project_copyright = "The modgraph developers"
release = version = modgraph.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",  # runs docs/figures/*.py at every build
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates", "figures", "paper", "about/reproduction", "api/generated/command-line.md"]
templates_path = ["_templates"]
smartquotes = False  # would turn the dashes of options into an en dash
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"([A-Z]\w+\.)?\w+"),  # fields and arguments are not link targets
    ("py:class", r"(collections|numpy)\..*"),  # parts of type aliases
]

# --- Markdown ---------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# --- The reference ----------------------------------------------------------------------------------------------------

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # types are in the docstrings, with shapes and ranges
autodoc_member_order = "bysource"
default_role = "autolink"  # `name` becomes a link if the reference has it, else it is emphasised
add_module_names = False
toc_object_entries = False

numpydoc_show_class_members = False  # the template for classes lists them
numpydoc_class_members_toctree = False
numpydoc_validation_checks: set[str] = set()  # tests/test_surface.py checks the docstrings


def public(package: str) -> dict[str, str]:
    """Map each public name of a package to its full name in the reference."""
    return {name: f"{package}.{name}" for name in importlib.import_module(package).__all__}


# Types of modgraph in docstrings link to the reference.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    name: place
    for package in ("modgraph.experiments", "modgraph.sculpt", "modgraph.functions", "modgraph.cluster", "modgraph")
    for name, place in public(package).items()
    if name[0].isupper() and not name.isupper()
}

# --- Other libraries' pages -------------------------------------------------------------------------------------------

# Builds need no network. DOCS_ONLINE=1 make docs adds links to the pages of other libraries.
if os.environ.get("DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_timeout = 10
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "networkx": ("https://networkx.org/documentation/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
else:
    DEFAULT_LINKS.clear()  # no links from int, sequence, ndarray … to the pages of Python and NumPy

# --- Code and pictures ------------------------------------------------------------------------------------------------

doctest_test_doctest_blocks = ""  # pytest runs the docstrings
# Every page runs in a new, empty folder.
doctest_global_setup = """
import os, tempfile
_folder = tempfile.TemporaryDirectory()
os.chdir(_folder.name)
"""

plot_formats = ["svg"]
plot_include_source = False
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.dpi": 100, "font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "modgraph"}
plot_apply_rcparams = True

sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "abort_on_example_error": True,
    "backreferences_dir": "api/generated/examples",
    "doc_module": ("modgraph",),
    "reference_url": {"modgraph": None},
    "matplotlib_animations": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,  # times of one machine are not useful
    "min_reported_time": 1e9,
}

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

# --- Look -------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "modgraph"
html_static_path = ["_static"]
html_css_files = ["modgraph.css"]
html_show_sourcelink = False
html_sidebars: dict[str, list[str]] = {page: [] for page in ("index", "install", "quickstart", "concepts")}
html_theme_options = {
    "logo": {"text": "modgraph"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}


def write_command_line(app: Sphinx) -> None:
    """Write the reference of the ``modgraph`` command from its parser; `api/command-line.md` includes it."""
    command = typer.main.get_command(command_line)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="modgraph", indent=1)
    folder = Path(app.srcdir) / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "command-line.md").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("builder-inited", write_command_line)
