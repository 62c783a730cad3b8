"""What requests need beside their schema, so that some of them get past the rules behind it.

A text that fits its schema is exchanged for another one that fits; what does not fit stays
as it is, and is refused.
"""

import hashlib
import json

import schemathesis

PASSWORD = "correct horse battery staple"  # of the person that the examples show


def digest(of):
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=repr).encode("utf-8", "replace")).hexdigest()[:16]


def fits(value, longest):
    return isinstance(value, str) and 0 < len(value) <= longest


def register(case, body):
    # A made-up text is no address, and "00000000" is a common password.
    if fits(body.get("email"), 254) and fits(body.get("username"), 77):
        body["email"] = digest(body["username"]) + "@example.com"
    if fits(body.get("password"), 1000) and len(body["password"]) >= 8:
        body["password"] += digest(body["password"])


def login(case, body):
    # Wrong passwords for one account are soon throttled: each is for another account.
    for name in ("email", "username"):
        if fits(body.get(name), 254) and body.get("password") != PASSWORD:
            body[name] = digest(body.get("password")) + "@example.com"


def execute(case, body):
    # Most inputs are what stoa~summarizer takes; a key is for one request alone.
    if "input" in body and digest(body)[0] < "d":
        body["input"] = {"text": "The ferry runs again. Tickets are sold on board.", "max_sentences": 1}
        if str(case.path_parameters["package_id"]).startswith("stoa~"):
            case.path_parameters["package_id"] = "stoa~summarizer"
        if fits(body.get("version"), 128):
            body["version"] = "^1"
        for name in [name for name in case.headers or {} if name.lower() in ("idempotency-key", "cancel-after")]:
            del case.headers[name]


def publish(case, body):
    # Most manifests are some that can be published.
    if "manifest" in body and digest(body)[0] < "d":
        body["manifest"] = {
            "schema": "stoa/v1", "name": "ada/p" + digest(body), "version": "1.0.0", "license": "Apache-2.0",
            "title": "Echo", "summary": "Says it again.", "runtime": {"type": "prompt", "instructions": "Say it again."},
            "input": {"type": "object"}, "pricing": {"model": "free"},
        }
        if case.query:  # belongs to archives
            case.query.pop("visibility", None)


NEEDS = {
    "/api/v1/auth/register": register,
    "/api/v1/auth/login": login,
    "/api/v1/agents/{package_id}/execute": execute,
    "/api/v1/packages": publish,
}


@schemathesis.hook
def before_call(context, case, kwargs):
    need = NEEDS.get(case.operation.path)
    if need and case.method.upper() == "POST" and isinstance(case.body, dict):
        need(case, case.body)
