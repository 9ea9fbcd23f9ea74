// Asks flags through an unmodified OpenFeature provider.
//
// Standard input is one JSON line: {"provider", "host", "port", "questions": [...], "watch"?}.
// A question is {"flag", "type", "default", "context"}.
// Standard output is {"answers": [...]} and, once the watched flag has the awaited value, {"saw": value}.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(new URL('../../target/clients/package.json', import.meta.url));

/** Server side: the context comes with each question. */
async function forServer(job) {
  const { OpenFeature } = require('@openfeature/server-sdk');
  await OpenFeature.setProviderAndWait(serverProvider(job));
  const client = OpenFeature.getClient();
  return {
    ask: (question, method) => client[method](question.flag, question.default, question.context),
    close: () => OpenFeature.close(),
  };
}

function serverProvider(job) {
  if (job.provider === 'ofrep') {
    const { OFREPProvider } = require('@openfeature/ofrep-provider');
    return new OFREPProvider({ baseUrl: `http://${job.host}:${job.port}` });
  }
  const { FlagdProvider } = require('@openfeature/flagd-provider');
  const { host, port, provider: resolverType } = job;
  return new FlagdProvider({ host, port, resolverType, deadlineMs: 20_000 });
}

/** Browser side: the context is set once and all flags are fetched for it. */
async function forBrowser(job) {
  globalThis.EventSource = require('eventsource').EventSource;
  const { OpenFeature } = require('@openfeature/web-sdk');
  let current = JSON.stringify(job.questions[0].context);
  await OpenFeature.setContext(JSON.parse(current));
  await OpenFeature.setProviderAndWait(browserProvider(job));
  const client = OpenFeature.getClient();
  const ask = async (question, method) => {
    const context = JSON.stringify(question.context);
    if (context !== current) {
      await OpenFeature.setContext(question.context);
      current = context;
    }
    return client[method](question.flag, question.default);
  };
  return { ask, close: () => OpenFeature.close() };
}

function browserProvider(job) {
  if (job.provider === 'ofrep-web') {
    const { OFREPWebProvider } = require('@openfeature/ofrep-web-provider');
    return new OFREPWebProvider({ baseUrl: `http://${job.host}:${job.port}` });
  }
  const { FlagdWebProvider } = require('@openfeature/flagd-web-provider');
  return new FlagdWebProvider({ host: job.host, port: job.port, tls: false });
}

const METHODS = {
  boolean: 'getBooleanDetails',
  string: 'getStringDetails',
  integer: 'getNumberDetails',
  float: 'getNumberDetails',
  object: 'getObjectDetails',
};

async function answer(client, question) {
  const details = await client.ask(question, METHODS[question.type]);
  return {
    value: details.value,
    variant: details.variant ?? null,
    reason: details.reason ?? null,
    error: details.errorCode ?? null,
    message: details.errorMessage ?? null,
  };
}

function say(document) {
  process.stdout.write(`${JSON.stringify(document)}\n`);
}

async function main(job) {
  const isBrowser = job.provider.endsWith('-web');
  const client = await (isBrowser ? forBrowser(job) : forServer(job));
  const answers = [];
  for (const question of job.questions) {
    answers.push(await answer(client, question));
  }
  say({ answers });
  while (job.watch) {
    const { value } = await answer(client, job.watch);
    if (value === job.watch.until) {
      say({ saw: value });
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await client.close();
  process.exit(0);
}

for await (const line of createInterface({ input: process.stdin })) {
  await main(JSON.parse(line));
}
