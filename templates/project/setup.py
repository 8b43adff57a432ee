"Package metadata lives in settings.ini; this file hands it to setuptools."

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

setup(
    name=settings["dist_name"],
    version=settings["version"],
    description=settings["description"],
    author=settings["author"],
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={"dev": settings["dev_requirements"].split()},
    packages=[settings["lib_name"]],
    classifiers=["Private :: Do Not Upload", "Programming Language :: Python :: 3"],
)
