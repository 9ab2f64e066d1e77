"""Tiny wheels in a folder that pip finds through the user's own settings."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cohabit.sources.wheel_store import sha256_of


@dataclass(frozen=True)
class Index:
    """A folder of wheels, and the folders that a config and its weights would have."""

    wheels: Path
    weights: Path
    base: Path

    def wheel(self, name: str, files: Mapping[str | zipfile.ZipInfo, bytes], version: str = "1.0") -> Path:
        """Put a wheel there, in place of an earlier one."""
        path = self.wheels / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in files.items():
                archive.writestr(entry, content)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        return path

    def fetched(self) -> list[str]:
        """All files below the folder of weights but the locks."""
        found = (path.relative_to(self.weights) for path in self.weights.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.suffix != ".lock")

    def sha256(self, wheel: Path) -> str:
        """For the fragment of a source."""
        return sha256_of(wheel)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Nothing on it yet. No network: what is found here is found because pip reads the user's settings."""
    found = Index(tmp_path / "wheels", tmp_path / "weights", tmp_path / "config")
    found.wheels.mkdir()
    found.base.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(found.wheels))
    return found
