// A service as its own OpenTelemetry sees it, unmodified: requests that ask flags and tell what happened.
//
// Standard input is one JSON line: {"host", "port", "token", "protocol", "flag", "units": [...]}.
// `protocol` is "json", "proto" or "grpc". Evaluations travel as log events, apart from the spans.
// Each unit makes one request, which fails for every fifth of those that were served `true` and
// every tenth of the others, and tracks a purchase.
// Standard output is {"served": {unit: true or false}, "failed": [...]}.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(new URL('../../target/clients/package.json', import.meta.url));
const { context, trace, SpanKind } = require('@opentelemetry/api');
const { logs } = require('@opentelemetry/api-logs');
const { AsyncLocalStorageContextManager } = require('@opentelemetry/context-async-hooks');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
const { OpenFeature } = require('@openfeature/server-sdk');
const { OFREPProvider } = require('@openfeature/ofrep-provider');
const { EventHook } = require('@openfeature/open-telemetry-hooks');

/** What packages call the signals and the protocols. */
const SIGNALS = { traces: 'trace', logs: 'logs', metrics: 'metrics' };
const PROTOCOLS = { json: 'http', proto: 'proto', grpc: 'grpc' };

/** The exporter of one signal, compressing. */
function exporter(job, signal, name) {
  const module = require(`@opentelemetry/exporter-${SIGNALS[signal]}-otlp-${PROTOCOLS[job.protocol]}`);
  const address = `http://${job.host}:${job.port}`;
  const authorization = `Bearer ${job.token}`;
  if (job.protocol === 'grpc') {
    const { Metadata } = require('@grpc/grpc-js');
    const metadata = new Metadata();
    metadata.set('authorization', authorization);
    return new module[name]({ url: address, metadata, compression: 'gzip' });
  }
  return new module[name]({ url: `${address}/v1/${signal}`, headers: { authorization }, compression: 'gzip' });
}

async function main(job) {
  const resource = resourceFromAttributes({ 'service.name': 'node-shop' });
  const spanProcessors = [new BatchSpanProcessor(exporter(job, 'traces', 'OTLPTraceExporter'))];
  const tracing = new BasicTracerProvider({ resource, spanProcessors });
  const processors = [new BatchLogRecordProcessor(exporter(job, 'logs', 'OTLPLogExporter'))];
  const logging = new LoggerProvider({ resource, processors });
  const reader = new PeriodicExportingMetricReader({ exporter: exporter(job, 'metrics', 'OTLPMetricExporter') });
  const meters = new MeterProvider({ resource, readers: [reader] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(tracing);
  logs.setGlobalLoggerProvider(logging);
  const requests = meters.getMeter('shop').createCounter('shop.requests');
  const logger = logs.getLogger('shop');

  const headers = [['authorization', `Bearer ${job.token}`]];
  const provider = new OFREPProvider({ baseUrl: `http://${job.host}:${job.port}`, headers });
  await OpenFeature.setProviderAndWait(provider);
  OpenFeature.addHooks(new EventHook());
  const client = OpenFeature.getClient();

  const served = {};
  const failed = [];
  const handle = async (number, unit, span) => {
    served[unit] = await client.getBooleanValue(job.flag, false, { targetingKey: unit });
    const fails = number % (served[unit] ? 5 : 10) === 0;
    if (fails) failed.push(unit);
    span.setAttribute('http.response.status_code', fails ? 500 : 200);
    logger.emit({ eventName: 'purchase', attributes: { 'tidegate.value': 12.5, 'client.address': '192.0.2.7' } });
    requests.add(1);
    span.end();
  };
  const tracer = trace.getTracer('shop');
  for (const [number, unit] of job.units.entries()) {
    const attributes = { 'http.request.method': 'POST', 'http.route': '/checkout' };
    const options = { kind: SpanKind.SERVER, attributes };
    await tracer.startActiveSpan('POST /checkout', options, (span) => handle(number, unit, span));
  }
  for (const part of [tracing, logging, meters]) {
    await part.forceFlush();
    await part.shutdown();
  }
  await OpenFeature.close();
  process.stdout.write(`${JSON.stringify({ served, failed })}\n`);
  process.exit(0);
}

for await (const line of createInterface({ input: process.stdin })) {
  await main(JSON.parse(line));
}
