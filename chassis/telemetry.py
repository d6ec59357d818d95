"""Logs, metrics and traces of a process.

Logs are one JSON object a line (structlog). Traces are manual spans, and the sampling decision comes first:
without an OTLP endpoint, or for an unsampled request, a span costs nothing but the test.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from structlog.tracebacks import ExceptionDictTransformer

_enabled = False
_tracer = trace.get_tracer("authservice")


def configure_logging(level: str, style: str, *, process: str) -> None:
    """Send structlog and the standard library's loggers to standard error in one form."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add(process),
    ]
    # Never the locals of a frame: a password or a token is often among them.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = plain if console else structlog.processors.JSONRenderer()
    stack = ExceptionDictTransformer(show_locals=False)
    exceptions = [] if console else [structlog.processors.ExceptionRenderer(stack)]
    structlog.configure(
        processors=[*shared, *exceptions, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for chatty in ("uvicorn.access", "nats.aio.client", "alembic.runtime.plugins"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def configure_tracing(process: str) -> None:
    """Export spans when an OTLP endpoint is named by the standard OTEL_* variables; otherwise do nothing."""
    global _enabled
    if not (
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        return
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: f"authservice-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _enabled = True


def stop_tracing() -> None:
    """Send what is left."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def server_span(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Open the span of one incoming request, as a child of the caller's `traceparent` (W3C Trace Context)."""
    if not _enabled:
        yield
        return
    parent = propagate.extract(headers)
    with _tracer.start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER):
        yield


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the current span's `traceparent` to outgoing headers."""
    if _enabled:
        propagate.inject(headers)


def _add(process: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
        event["process"] = process
        return event

    return add
