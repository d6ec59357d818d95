"""The validators of other languages pass their own tests, among them the vectors that all share."""

from __future__ import annotations

import re

from local.service_process import REPOSITORY
from tests.other_languages import install_node_packages, needs, run

NODE = REPOSITORY / "sdks" / "node-validator"
GO = REPOSITORY / "sdks" / "go-validator"
# Go proves offline that it needs nothing: no module is looked for, and no C compiler.
OFFLINE = {"GOFLAGS": "-mod=readonly", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def test_node_validator_when_its_tests_run_then_they_pass() -> None:
    node = needs("node")
    install_node_packages(NODE)
    said = run([node, "--test", "--test-reporter=tap"], NODE)
    # The vectors were really read: fewer tests would mean that some were lost on the way.
    passed = re.search(r"^# pass (\d+)$", said, re.MULTILINE)
    assert passed is not None, said[-2000:]
    assert int(passed[1]) >= 600
    assert re.search(r"^# skipped 0$", said, re.MULTILINE)


def test_node_validator_when_its_types_are_used_with_express_then_they_fit() -> None:
    node = needs("node")
    install_node_packages(NODE)
    run([node, "node_modules/typescript/bin/tsc", "-p", "test/types"], NODE)


def test_go_validator_when_its_tests_run_then_they_pass() -> None:
    go = needs("go")
    run([go, "vet", "./..."], GO, **OFFLINE)
    said = run([go, "test", "-count=1", "-v", "./..."], GO, **OFFLINE)
    assert said.count("--- PASS") >= 500
    assert "--- SKIP" not in said


def test_validators_when_their_manifests_are_read_then_they_depend_on_nothing() -> None:
    assert "require" not in (GO / "go.mod").read_text()
    assert '"dependencies"' not in (NODE / "package.json").read_text()
