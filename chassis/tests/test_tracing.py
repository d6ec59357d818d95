"""Traces: a request's span joins the caller's trace, and goes on to the next service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
PROGRAM = f"""
from chassis import telemetry
telemetry.configure_tracing("example")
headers = {{}}
with telemetry.server_span("/api/things", {{"traceparent": "00-{TRACE}-{PARENT}-01"}}):
    telemetry.inject(headers)
with telemetry.server_span("/api/unsampled", {{"traceparent": "00-{TRACE}-{PARENT}-00"}}):
    pass
telemetry.stop_tracing()
print(headers.get("traceparent", "none"))
"""


class Collector(BaseHTTPRequestHandler):
    """An OTLP collector that keeps what it is sent."""

    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in http.server
        """Say nothing."""


def run(**environment: str) -> str:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return printed.stdout.strip()


def test_span_is_exported_as_a_child_and_passed_on() -> None:
    Collector.received = []
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        passed_on = run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    batches = [ExportTraceServiceRequest.FromString(body) for body in Collector.received]
    resources = [resource for batch in batches for resource in batch.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["/api/things"]
    assert (spans[0].trace_id.hex(), spans[0].parent_span_id.hex()) == (TRACE, PARENT)
    assert passed_on == f"00-{TRACE}-{spans[0].span_id.hex()}-01"
    names = {attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert "authservice-example" in names


def test_tracing_is_off_without_an_endpoint() -> None:
    assert run(OTEL_EXPORTER_OTLP_ENDPOINT="") == "none"
