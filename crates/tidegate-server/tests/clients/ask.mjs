// Asks a server through the unmodified JavaScript providers and prints what they say, as JSON
// lines. Standard input and output are those of ask.py.

import { readFileSync } from "node:fs";
import { OpenFeature } from "@openfeature/server-sdk";
import { OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { FlagdProvider } from "@openfeature/flagd-provider";
import { FlagdWebProvider } from "@openfeature/flagd-web-provider";

const task = JSON.parse(readFileSync(0, "utf8"));
const [host, port] = task.address.split(":");
const methods = {
  boolean: "getBooleanDetails",
  string: "getStringDetails",
  integer: "getNumberDetails",
  float: "getNumberDetails",
  object: "getObjectDetails",
};

function said(answer) {
  return {
    value: answer.value,
    reason: answer.reason ?? null,
    variant: answer.variant ?? null,
    error: answer.errorCode ?? null,
  };
}

const lines = [];
function print(client, answers) {
  lines.push(JSON.stringify({ client, answers }) + "\n");
}

const address = { host, port: Number(port) };
const servers = {
  "node-ofrep": new OFREPProvider({ baseUrl: `http://${task.address}` }),
  "node-flagd-rpc": new FlagdProvider({ ...address, resolverType: "rpc", deadlineMs: 10_000 }),
  "node-flagd-in-process": new FlagdProvider({ ...address, resolverType: "in-process" }),
};
for (const [name, provider] of Object.entries(servers)) {
  await OpenFeature.setProviderAndWait(name, provider);
  const client = OpenFeature.getClient(name);
  const answers = [];
  for (const question of task.questions) {
    const method = methods[question.type];
    answers.push(said(await client[method](question.flag, question.default, question.context)));
  }
  print(name, answers);
}

// Web clients hold one context at a time, so questions are asked context by context.
const web = {
  "web-ofrep": new OFREPWebProvider({ baseUrl: `http://${task.address}`, changeDetection: "none" }),
  "web-flagd": new FlagdWebProvider({ ...address, tls: false }),
};
for (const [name, provider] of Object.entries(web)) {
  let current = JSON.stringify(task.questions[0].context);
  await WebOpenFeature.setContext(JSON.parse(current));
  await WebOpenFeature.setProviderAndWait(provider);
  const client = WebOpenFeature.getClient();
  const answers = [];
  for (const question of task.questions) {
    const wanted = JSON.stringify(question.context);
    if (wanted !== current) {
      await WebOpenFeature.setContext(question.context);
      current = wanted;
    }
    answers.push(said(client[methods[question.type]](question.flag, question.default)));
  }
  print(name, answers);
}
// Providers keep streams open; leave once everything is written.
process.stdout.write(lines.join(""), () => process.exit(0));
