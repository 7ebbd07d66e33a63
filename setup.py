"""Maps the top-level folders to packages below `marginalia`. Everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

FOLDERS = ("schemas", "scoring", "annotation", "pipeline")
# namespace packages, because folders of data files (guards, templates) have no __init__.py
packages = find_namespace_packages(
    include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)], exclude=["*.__pycache__", "*.__pycache__.*"]
)

setup(
    packages=["marginalia", *(f"marginalia.{name}" for name in packages)],
    package_dir={f"marginalia.{folder}": folder for folder in FOLDERS},
)
