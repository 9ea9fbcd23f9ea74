"""Asks flags through an unmodified OpenFeature provider.

Standard input is one JSON line: {"provider", "host", "port", "questions": [...], "watch"?}.
A question is {"flag", "type", "default", "context"}.
Standard output is {"answers": [...]} and, once the watched flag has the awaited value, {"saw": value}.
"""

import json
import logging
import sys
import time

from openfeature import api
from openfeature.evaluation_context import EvaluationContext


def provider(job):
    if job["provider"] == "ofrep":
        from openfeature.contrib.provider.ofrep import OFREPProvider

        return OFREPProvider(f"http://{job['host']}:{job['port']}")
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType

    return FlagdProvider(
        host=job["host"],
        port=job["port"],
        resolver_type=ResolverType(job["provider"]),
        deadline_ms=20_000,
    )


def ask(client, question):
    method = getattr(client, f"get_{question['type']}_details")
    attributes = dict(question["context"])
    key = attributes.pop("targetingKey", None)
    details = method(question["flag"], question["default"], EvaluationContext(key, attributes))
    return {
        "value": details.value,
        "variant": details.variant,
        "reason": str(details.reason),
        "error": details.error_code and str(details.error_code),
        "message": details.error_message,
    }


def say(document):
    print(json.dumps(document), flush=True)


def main():
    # The OFREP provider logs a traceback for each answer without a variant; the answer says enough.
    logging.disable(logging.CRITICAL)
    job = json.loads(sys.stdin.readline())
    api.set_provider_and_wait(provider(job))
    client = api.get_client()
    say({"answers": [ask(client, question) for question in job["questions"]]})
    watch = job.get("watch")
    while watch:
        value = ask(client, watch)["value"]
        if value == watch["until"]:
            say({"saw": value})
            break
        time.sleep(0.05)
    api.shutdown()


main()
