"""The Kubernetes manifests: valid by schema, and free of the faults that no schema sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chassis.settings import parse_duration
from contracts.topology import CALLS, GATEWAY, SERVICES
from deploy.tests.manifests import K8S, NAME, Manifest, Manifests, container

PROCESSES = {GATEWAY, *SERVICES}
MIGRATIONS = {f"{service}-migrate" for service in SERVICES}
PORTS = {"http": 8080, "grpc": 9090, "probes": 8081}
FROM_CERT_MANAGER = {"Issuer", "Certificate"}


@pytest.fixture(scope="module", params=["base", "overlays/example"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.rendered(K8S / request.param)


@pytest.fixture(scope="module")
def example() -> Manifests:
    return Manifests.rendered(K8S / "overlays/example")


def test_manifests_pass_the_schemas_strictly(manifests: Manifests, tmp_path: Path) -> None:
    known = [each for each in manifests.all if each["kind"] not in FROM_CERT_MANAGER]
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(known))
    command = [str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(known) > 40


def test_every_process_has_all_its_parts(manifests: Manifests) -> None:
    for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler"):
        assert set(manifests.kind(kind)) == PROCESSES, kind
    assert set(manifests.kind("Service")) == PROCESSES | {f"{service}-grpc" for service in SERVICES}
    assert set(manifests.kind("Job")) == MIGRATIONS | {"provision"}
    assert set(manifests.kind("NetworkPolicy")) > PROCESSES


def test_names_are_unique_within_a_kind(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.all]
    assert len(names) == len(set(names))


def test_pods_may_do_nothing_they_need_not(manifests: Manifests) -> None:
    for name, template in manifests.workloads():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 10000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert container(template)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert "hostPath" not in yaml.safe_dump(pod["volumes"]), name


def test_service_links_are_off_since_they_would_set_our_port_variables(manifests: Manifests) -> None:
    for name, template in manifests.workloads():
        assert template["spec"]["enableServiceLinks"] is False, name


def test_resources_are_asked_for_and_memory_is_bounded(manifests: Manifests) -> None:
    for name, template in manifests.workloads():
        resources = container(template)["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}, name
        assert "memory" in resources["limits"], name


def test_images_and_commands_are_those_of_the_process(manifests: Manifests) -> None:
    for name, template in manifests.workloads():
        process = "orgs" if name == "provision" else name.removesuffix("-migrate")
        image = container(template)["image"]
        assert image.rpartition("/")[2].partition(":")[0] == f"authservice-{process}", name
        assert not image.endswith(":latest"), name
        if name != "provision":
            assert container(template)["args"] == ["migrate" if name in MIGRATIONS else "serve"], name


def test_selectors_match_exactly_their_own_pods(manifests: Manifests) -> None:
    for kind in ("Deployment", "PodDisruptionBudget"):
        for name, manifest in manifests.kind(kind).items():
            assert manifests.selected(manifest["spec"]["selector"]) == {name}, (kind, name)
    for name, manifest in manifests.kind("Service").items():
        selected = manifests.selected({"matchLabels": manifest["spec"]["selector"]})
        assert selected == {name.removesuffix("-grpc")}, name
    for name, manifest in manifests.kind("Deployment").items():
        for spread in manifest["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert manifests.selected(spread["labelSelector"]) == {name}, name


def test_ports_are_named_once_and_every_reference_is_to_a_port_that_exists(manifests: Manifests) -> None:
    for name, manifest in manifests.kind("Deployment").items():
        process = container(manifest["spec"]["template"])
        assert {port["name"]: port["containerPort"] for port in process["ports"]} == PORTS, name
        for probe, path in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", "readyz")):
            assert process[f"{probe}Probe"]["httpGet"] == {"path": f"/{path}", "port": "probes"}, name
    for name, manifest in manifests.kind("Service").items():
        for port in manifest["spec"]["ports"]:
            assert port["targetPort"] in PORTS, name
            assert port["port"] == PORTS[port["targetPort"]], name
            assert port["name"] == port["targetPort"], name
    settings = manifests.one("ConfigMap", "authservice")["data"]
    assert {name: int(settings[f"{name.upper()}_PORT"]) for name in ("grpc",)} == {"grpc": PORTS["grpc"]}
    assert (int(settings["PORT"]), int(settings["PROBE_PORT"])) == (PORTS["http"], PORTS["probes"])


def test_addresses_in_the_settings_are_services_that_exist(manifests: Manifests) -> None:
    settings = manifests.one("ConfigMap", "authservice")["data"]
    services = manifests.kind("Service")
    for service in SERVICES:
        assert settings[f"{service.upper()}_URL"] == f"https://{service}:8080"
        assert settings[f"{service.upper()}_GRPC"] == f"{service}-grpc:9090"
        assert "clusterIP" not in services[service]["spec"]
        # gRPC spreads its calls itself; an address of the Service's own would send all to one pod.
        assert services[f"{service}-grpc"]["spec"]["clusterIP"] == "None"


def test_autoscalers_own_the_number_of_pods_and_budgets_let_one_go(manifests: Manifests) -> None:
    deployments = manifests.kind("Deployment")
    for name, manifest in manifests.kind("HorizontalPodAutoscaler").items():
        spec = manifest["spec"]
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert spec["scaleTargetRef"] == target
        assert "replicas" not in deployments[name]["spec"], "an apply would undo the autoscaler"
        # Two at least: a budget of one pod away must leave one that answers.
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"], name
        resources = {metric["resource"]["name"] for metric in spec["metrics"] if metric["type"] == "Resource"}
        assert resources == {"cpu"}, f"{name} has no metric that every cluster has"
    for name, manifest in manifests.kind("PodDisruptionBudget").items():
        bounds = {
            key: manifest["spec"][key]
            for key in ("minAvailable", "maxUnavailable")
            if key in manifest["spec"]
        }
        assert bounds == {"maxUnavailable": 1}, name


def test_grace_is_longer_than_the_drain(manifests: Manifests) -> None:
    settings = manifests.one("ConfigMap", "authservice")["data"]
    drain = parse_duration(settings["DRAIN_DELAY"]) + parse_duration(settings["DRAIN_TIMEOUT"])  # type: ignore[operator]  # durations, by their form
    for name, manifest in manifests.kind("Deployment").items():
        grace = manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > drain.total_seconds() + 5, name
        assert manifest["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, name


def test_mounts_have_volumes_and_files_named_in_variables_are_mounted(example: Manifests) -> None:
    for name, template in example.workloads():
        process = container(template)
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in process["volumeMounts"]}
        assert set(mounts.values()) == set(volumes), name
        files = mounted_files(example, volumes[mounts["/run/secrets/authservice"]])
        variables = {each["name"]: each["value"] for each in process["env"]}
        for variable, path in variables.items():
            if variable.endswith("_FILE"):
                assert path.removeprefix("/run/secrets/authservice/") in files, (name, variable)
        wanted = {path for variable, path in variables.items() if variable.endswith("_FILE")}
        assert wanted == {f"/run/secrets/authservice/{file}" for file in files}, f"{name} reads not all"


def mounted_files(manifests: Manifests, volume: Manifest) -> set[str]:
    """The paths of the files in a volume of Secrets."""
    if "secret" in volume:
        return secret_keys(manifests, volume["secret"]["secretName"])
    found: set[str] = set()
    for source in volume["projected"]["sources"]:
        keys = secret_keys(manifests, source["secret"]["name"])
        items = source["secret"].get("items", [{"key": key, "path": key} for key in sorted(keys)])
        assert {item["key"] for item in items} <= keys
        found |= {item["path"] for item in items}
    return found


def secret_keys(manifests: Manifests, name: str) -> set[str]:
    """The keys of a Secret."""
    return set(manifests.kind("Secret")[name]["data"])


def test_certificates_name_the_caller_and_every_name_it_is_reached_by(example: Manifests) -> None:
    certificates = example.kind("Certificate")
    secrets = {each["spec"]["secretName"]: each["spec"] for each in certificates.values()}
    services = example.kind("Service")
    for name, manifest in example.kind("Deployment").items():
        volumes = {volume["name"]: volume for volume in manifest["spec"]["template"]["spec"]["volumes"]}
        issued = secrets[volumes["tls"]["secret"]["secretName"]]
        assert issued["commonName"] == name, "the RPC server knows its callers by this name"
        assert set(issued["dnsNames"]) == {each for each in services if each.removesuffix("-grpc") == name}
        assert {"server auth", "client auth"} <= set(issued["usages"])


def test_everything_is_in_the_namespace_of_the_overlay(example: Manifests) -> None:
    places = {each["metadata"].get("namespace") for each in example.all if each["kind"] != "Namespace"}
    assert places == set(example.kind("Namespace")) == {"authservice"}


def test_calls_are_admitted_exactly_as_the_topology_names_them(
    manifests: Manifests,
) -> None:
    policies = manifests.kind("NetworkPolicy")
    for process in PROCESSES:
        spec = policies[process]["spec"]
        assert manifests.selected(spec["podSelector"]) == {process}
        callers = {
            (peer, port)
            for rule in spec["ingress"]
            for peer in peers(manifests, rule.get("from", []))
            for port in ports(rule)
        }
        expected = {(caller, 9090) for caller, callees in CALLS.items() if process in callees}
        expected |= {(GATEWAY, 8080)} if process in CALLS[GATEWAY] else set()
        assert callers == expected, f"who may call {process}"
        callees = {
            (peer, port)
            for rule in spec["egress"]
            for peer in peers(manifests, rule["to"])
            for port in ports(rule)
        }
        ours = {9090, 8080} if process == GATEWAY else {9090}
        assert callees == {(callee, port) for callee in CALLS[process] for port in ours}, (
            f"whom {process} may call"
        )


def test_the_world_reaches_the_gateway_alone_and_probes_are_for_monitoring(manifests: Manifests) -> None:
    for process in PROCESSES:
        rules = manifests.kind("NetworkPolicy")[process]["spec"]["ingress"]
        open_ports = {port for rule in rules if not rule.get("from") for port in ports(rule)}
        assert open_ports == ({8080, 9090} if process == GATEWAY else set()), process
        (monitoring,) = [rule for rule in rules if 8081 in ports(rule)]
        (peer,) = monitoring["from"]
        assert peer == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def test_everything_else_is_denied_and_stores_are_for_those_who_use_them(manifests: Manifests) -> None:
    policies = manifests.kind("NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    others = {"default-deny", "names", "to-postgres", "to-nats", "to-redis", "outside"}
    assert set(policies) == PROCESSES | others
    outside = policies["outside"]["spec"]
    assert manifests.selected(outside["podSelector"]) == {"identity", "orgs", "federation"}
    (rule,) = outside["egress"]
    assert {port["port"] for port in rule["ports"]} == {443, 465, 587}
    block = rule["to"][0]["ipBlock"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])
    users = {
        "to-postgres": (5432, set(SERVICES) | MIGRATIONS | {"provision"}),
        "to-nats": (4222, PROCESSES),
        "to-redis": (6379, PROCESSES),
    }
    for name, (port, expected) in users.items():
        spec = policies[name]["spec"]
        assert manifests.selected(spec["podSelector"]) == expected, name
        assert [ports(rule) for rule in spec["egress"]] == [{port}], name


def test_example_narrows_the_stores(example: Manifests) -> None:
    for name in ("to-postgres", "to-nats", "to-redis"):
        assert example.kind("NetworkPolicy")[name]["spec"]["egress"][0]["to"], name


def peers(manifests: Manifests, listed: list[Manifest]) -> set[str]:
    """The workloads of our own that a rule's peers name; each must name exactly one."""
    found = set()
    for peer in listed:
        if "podSelector" in peer:
            assert set(peer["podSelector"]["matchLabels"]) == {NAME}
            (name,) = manifests.selected(peer["podSelector"])
            found.add(name)
    return found


def ports(rule: Manifest) -> set[int]:
    """The ports of a rule; TCP, by number."""
    return {port["port"] for port in rule["ports"]}
