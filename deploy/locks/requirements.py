"""Print the requirements of the notebooks' environment: the base and every extra of settings.ini, torch pinned, and
what no extra can ask for."""

from configparser import ConfigParser
from pathlib import Path

config = ConfigParser(delimiters=["="])
config.read(Path(__file__).parents[2] / "settings.ini", encoding="utf-8")
wanted = {
    word
    for key, value in config["DEFAULT"].items()
    if key == "requirements" or key.endswith("_requirements")
    for word in value.split()
}
pinned = ["torch==2.14.1", "torchvision==0.29.1", "facenet-pytorch==2.6.0", "rapidocr-onnxruntime==1.4.4"]
print("\n".join([*sorted(wanted), *pinned]))
