"""What each container is told is what its process accepts, by Compose and by Kubernetes alike."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from contracts.topology import GATEWAY, SERVICES
from deploy.secret_files import main
from deploy.tests.environments import addresses_wanted, load_settings
from deploy.tests.manifests import DEPLOY, K8S, Manifest, Manifests, container

PROCESSES = (GATEWAY, *SERVICES)
# Written by the image, for whoever runs it.
FROM_THE_IMAGE = {"HOST": "0.0.0.0", "PORT": "8080", "GRPC_PORT": "9090", "PROBE_PORT": "8081"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets of a deployment."""
    made = tmp_path_factory.mktemp("deployment") / "secrets"
    assert main([str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def example() -> Manifests:
    return Manifests.rendered(K8S / "overlays/example")


def told_by_compose(process: str, folder: Path) -> dict[str, str]:
    """The environment of a service in compose.yaml, with its files where they are here."""
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][process]
    environment = {}
    for name, value in service["environment"].items():
        text = str(value)
        if text.startswith("/run/secrets/"):
            secret = text.removeprefix("/run/secrets/")
            assert secret in service["secrets"], f"{process} is not given {secret}"
            text = str(folder / secret)
        elif text.startswith("${"):
            text = text.removeprefix("${").removesuffix("}").partition(":-")[2]
        environment[name] = text
    return FROM_THE_IMAGE | environment


def told_by_kubernetes(process: str, manifests: Manifests, secrets: Path) -> dict[str, str]:
    """The environment of a Deployment's pods, with their Secrets' files written into a folder here."""
    template = manifests.kind("Deployment")[process]["spec"]["template"]
    (source,) = container(template)["envFrom"]
    environment: dict[str, str] = dict(manifests.kind("ConfigMap")[source["configMapRef"]["name"]]["data"])
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    secret: Manifest = manifests.kind("Secret")[volumes["secrets"]["secret"]["secretName"]]
    for key, value in secret["data"].items():
        (secrets / key).write_bytes(base64.b64decode(value))
    for each in container(template)["env"]:
        environment[each["name"]] = each["value"].replace("/run/secrets/authservice", str(secrets))
    return environment


@pytest.mark.parametrize("process", PROCESSES)
def test_process_when_told_as_compose_tells_it_then_accepts(process: str, folder: Path) -> None:
    done = load_settings(process, told_by_compose(process, folder))
    assert done.returncode == 0, done.stderr
    assert addresses_wanted(process) <= set(done.stdout.split())


@pytest.mark.parametrize("process", PROCESSES)
def test_process_when_told_as_the_example_tells_it_then_refuses_its_placeholders(
    process: str, example: Manifests, tmp_path: Path
) -> None:
    done = load_settings(process, told_by_kubernetes(process, example, tmp_path))
    assert done.returncode == 2, done.stdout
    assert "is a default, an example or too short for production" in done.stderr


@pytest.mark.parametrize("process", PROCESSES)
def test_process_when_told_as_the_example_tells_it_with_real_secrets_then_accepts(
    process: str, example: Manifests, tmp_path: Path, folder: Path
) -> None:
    environment = told_by_kubernetes(process, example, tmp_path)
    for file in tmp_path.iterdir():
        own, shared = folder / f"{process}_{file.name.lower()}", folder / file.name.lower()
        file.write_text((own if own.exists() else shared).read_text())
    done = load_settings(process, environment)
    assert done.returncode == 0, done.stderr
    assert addresses_wanted(process) <= set(done.stdout.split())
    assert {"internal_tls_cert", "internal_tls_key", "internal_tls_ca"} <= set(done.stdout.split())


@pytest.mark.parametrize("process", [GATEWAY, "identity", "token"])
@pytest.mark.parametrize(
    "change", [{"BASE_URL": ""}, {"BASE_URL": "http://auth.example.com"}, {"COOKIE_SECURE": "false"}]
)
def test_process_when_its_cookie_would_be_insecure_then_production_refuses(
    process: str, change: dict[str, str], example: Manifests, tmp_path: Path, folder: Path
) -> None:
    environment = told_by_kubernetes(process, example, tmp_path)
    for file in tmp_path.iterdir():
        own, shared = folder / f"{process}_{file.name.lower()}", folder / file.name.lower()
        file.write_text((own if own.exists() else shared).read_text())
    done = load_settings(process, environment | change)
    assert (done.returncode, "BASE_URL" in done.stderr) == (2, True)
