"Package metadata lives in settings.ini; this file hands it to setuptools."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
extras = {
    key.removesuffix("_requirements"): value.split() for key, value in settings.items() if key.endswith("_requirements")
}
extras["all"] = sorted({requirement for group in extras.values() for requirement in group})

setup(
    name=settings["dist_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    license=settings["license"],
    keywords=settings["keywords"].split(),
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    packages=[*find_packages(include=["cvkit", "cvkit.*"]), "cvkit.templates"],
    package_dir={"cvkit.templates": "templates"},
    package_data={
        "cvkit": ["*.css", "*.yaml", "reports/*.css", "reports/templates/*"],
        "cvkit.templates": ["*.ipynb", "project/**"],
    },
    exclude_package_data={"cvkit.templates": ["project/.ruff_cache/**"]},
    entry_points={
        "console_scripts": ["cvkit=cvkit.commands.cli:main"],
        "jupyter_client.kernel_provisioners": ["cvkit-forked=cvkit.pipeline.kernels:ForkProvisioner"],
    },
    classifiers=["Private :: Do Not Upload", "Programming Language :: Python :: 3"],
)
