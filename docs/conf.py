"""How the documentation is built: `make docs`."""

import os
import tempfile

# Airflow reads its home when it is imported, and autodoc imports it: leave the reader's own home alone.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="redox-docs-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from airflow_provider_redox import __version__

project = "airflow-provider-redox"
author = "the authors of airflow-provider-redox"
version = release = __version__
html_title = f"{project} {release}"
html_theme = "furo"  # decision 30
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#51b2ff", "color-brand-content": "#51b2ff"},
}
html_show_copyright = False
html_show_sphinx = False

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "decisions/README.md"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"  # the docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
