"""Asks a server through the unmodified Python providers and prints what they say, as JSON lines.

Standard input: one JSON object {"address": "127.0.0.1:1234", "questions": [{"flag", "type",
"default", "context"}]}. Standard output: for each provider one line {"client", "answers"}.
"""

import json
import sys
import threading

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent


def providers(address):
    host, port = address.rsplit(":", 1)
    yield "python-ofrep", OFREPProvider(f"http://{address}")
    for name, kind in (
        ("python-flagd-rpc", ResolverType.RPC),
        ("python-flagd-in-process", ResolverType.IN_PROCESS),
    ):
        yield name, FlagdProvider(
            resolver_type=kind, host=host, port=int(port), deadline_ms=10_000
        )


def ask(client, question):
    attributes = dict(question["context"])
    context = EvaluationContext(attributes.pop("targetingKey", None), attributes)
    method = getattr(client, f"get_{question['type']}_details")
    answer = method(question["flag"], question["default"], context)
    return {
        "value": answer.value,
        "reason": str(answer.reason) if answer.reason else None,
        "variant": answer.variant,
        "error": answer.error_code.value if answer.error_code else None,
    }


def main():
    task = json.load(sys.stdin)
    for name, provider in providers(task["address"]):
        ready = threading.Event()
        # In this order: a handler added before would be told that the default provider is ready.
        api.set_provider(provider, name)
        client = api.get_client(name)
        client.add_handler(ProviderEvent.PROVIDER_READY, lambda _: ready.set())
        if not ready.wait(20):
            raise SystemExit(f"{name} did not become ready")
        answers = [ask(client, question) for question in task["questions"]]
        print(json.dumps({"client": name, "answers": answers}), flush=True)
        provider.shutdown()


main()
