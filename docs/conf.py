"Sphinx settings of the documentation; docs/build.py writes the pages and calls Sphinx."

from cvkit import __version__ as release

project, author, copyright = "cvkit", "PropertyAI", "PropertyAI, Apache-2.0"
version = release
extensions = ["myst_nb"]
nb_execution_mode = "off"  # the stored outputs are the outputs
nb_merge_streams = True
nb_ipywidgets_js = {}  # nothing is fetched from a network
nb_code_prompt_show, nb_code_prompt_hide = "source", "hide the source"
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3  # `[words](page.md#heading)`
# a short chapter has definitions, which are third headings, right below its title
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
html_theme = "pydata_sphinx_theme"
html_title = "cvkit"
html_static_path = ["static"]  # and the folder in which docs/build.py writes reports.css
html_favicon = "static/icon.svg"
html_css_files = ["cvkit.css", "reports.css"]
html_js_files = ["cvkit.js"]
html_use_index = False  # the rooms' pages and the search are the index
html_sidebars = {"index": [], "overview": [], "tutorials/*": []}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_show_sourcelink = html_copy_source = False
html_theme_options = {
    "logo": {"text": "cvkit"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
