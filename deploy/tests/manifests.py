"""The rendered manifests, as tests look at them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent
K8S = DEPLOY / "k8s"
NAME = "app.kubernetes.io/name"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifests:
    """What `kubectl kustomize` makes of one folder."""

    text: str
    all: tuple[Manifest, ...]

    @classmethod
    def rendered(cls, folder: Path) -> Manifests:
        """Render a folder; skips the test on a machine without kubectl."""
        if shutil.which("kubectl") is None:
            pytest.skip("kubectl is not installed: the manifests cannot be rendered")
        done = subprocess.run(
            ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, f"kustomize warns: {done.stderr}"
        return cls(done.stdout, tuple(yaml.safe_load_all(done.stdout)))

    def kind(self, kind: str) -> dict[str, Manifest]:
        """The manifests of a kind, by name."""
        return {each["metadata"]["name"]: each for each in self.all if each["kind"] == kind}

    def one(self, kind: str, name: str) -> Manifest:
        """One manifest; kustomize may have added a hash of the content to its name."""
        named = self.kind(kind)
        (found,) = [key for key in named if key == name or _without_hash(key) == name]
        return named[found]

    def workloads(self) -> Iterator[tuple[str, Manifest]]:
        """Name and pod template of every Deployment and Job."""
        for kind in ("Deployment", "Job"):
            for name, manifest in self.kind(kind).items():
                yield name, manifest["spec"]["template"]

    def pods(self) -> dict[str, Mapping[str, str]]:
        """The labels of every workload's pods, by the workload's name."""
        return {name: template["metadata"]["labels"] for name, template in self.workloads()}

    def selected(self, selector: Manifest) -> set[str]:
        """The workloads that a label selector matches."""
        return {name for name, labels in self.pods().items() if _matches(selector, labels)}


def _without_hash(name: str) -> str:
    base, _, last = name.rpartition("-")
    return base if len(last) == 10 else name


def _matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def container(template: Manifest) -> Manifest:
    """The only container of a pod."""
    (only,) = template["spec"]["containers"]
    found: Manifest = only
    return found
