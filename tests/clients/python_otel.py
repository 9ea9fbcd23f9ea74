"""A service as its own OpenTelemetry sees it, unmodified: requests that ask flags and tell what happened.

Standard input is one JSON line: {"host", "port", "token", "protocol", "flag", "units": [...]}.
`protocol` is "http" (protobuf, gzip) or "grpc" (gzip).
Each unit makes one request, which fails for every fifth of those that were served `true` and
every tenth of the others, and tracks a purchase.
Standard output is {"served": {unit: true or false}, "failed": [...]}.
"""

import json
import logging
import sys

from openfeature import api
from openfeature.contrib.hook.opentelemetry import TracingHook
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind


def exporters(job):
    """The exporters of traces, logs and metrics, all compressing."""
    address = f"http://{job['host']}:{job['port']}"
    headers = {"authorization": f"Bearer {job['token']}"}
    if job["protocol"] == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        common = {"insecure": True, "headers": headers, "compression": Compression.Gzip}
        classes = (OTLPSpanExporter, OTLPLogExporter, OTLPMetricExporter)
        return [exporter(endpoint=address, **common) for exporter in classes]
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    common = {"headers": headers, "compression": Compression.Gzip}
    classes = {"traces": OTLPSpanExporter, "logs": OTLPLogExporter, "metrics": OTLPMetricExporter}
    return [
        exporter(endpoint=f"{address}/v1/{signal}", **common)
        for signal, exporter in classes.items()
    ]


def main():
    logging.disable(logging.CRITICAL)
    job = json.loads(sys.stdin.readline())
    spans, logs, metrics = exporters(job)
    resource = Resource.create({"service.name": "python-shop"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(spans))
    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(logs))
    meters = MeterProvider([PeriodicExportingMetricReader(metrics)], resource=resource)
    tracer, logger = tracing.get_tracer("shop"), logger_provider.get_logger("shop")
    requests = meters.get_meter("shop").create_counter("shop.requests")

    headers = {"authorization": f"Bearer {job['token']}"}
    address = f"http://{job['host']}:{job['port']}"
    api.set_provider_and_wait(OFREPProvider(address, headers_factory=lambda: headers))
    api.add_hooks([TracingHook()])
    client = api.get_client()

    served, failed = {}, []
    for number, unit in enumerate(job["units"]):
        attributes = {"http.request.method": "POST", "http.route": "/checkout"}
        with tracer.start_as_current_span("POST /checkout", kind=SpanKind.SERVER, attributes=attributes) as span:
            served[unit] = client.get_boolean_value(job["flag"], False, EvaluationContext(unit))
            fails = number % (5 if served[unit] else 10) == 0
            if fails:
                failed.append(unit)
            span.set_attribute("http.response.status_code", 500 if fails else 200)
            logger.emit(event_name="purchase", attributes={"tidegate.value": 12.5, "client.address": "192.0.2.7"})
            requests.add(1)
    for provider in (tracing, logger_provider, meters):
        provider.force_flush()
        provider.shutdown()
    api.shutdown()
    print(json.dumps({"served": served, "failed": failed}), flush=True)


main()
