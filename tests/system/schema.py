"""What the protocol promises, checked by somebody else's JSON Schema.

The document is what `banger internal protocol --format json` prints, which is what rpc.discover
answers (a test compares). A reply or notification that does not fit raises AssertionError.
"""

import functools
import json
import os
import pathlib
import subprocess

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("BANGER_BUILD", "build")


class Schema:
    """An OpenRPC document, and validators made of it."""

    def __init__(self, document):
        self.document = document
        self.methods = {m["name"]: m for m in document["methods"]}
        self.notifications = {n["name"]: n for n in document["x-notifications"]}
        self.errors = {name: e["code"] for name, e in document["components"]["errors"].items()}
        self.validators = {}

    def validator(self, schema):
        """Of a schema of the document; its references lead to the document's components."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            whole = {"allOf": [schema], "components": self.document["components"]}
            jsonschema.Draft7Validator.check_schema(whole)
            self.validators[key] = jsonschema.Draft7Validator(whole)
        return self.validators[key]

    def check(self, what, schema, value):
        error = jsonschema.exceptions.best_match(self.validator(schema).iter_errors(value))
        assert error is None, \
            f"{what}: {'.'.join(map(str, error.absolute_path))}: {error.message[:2000]}"

    def component(self, name):
        return {"$ref": f"#/components/schemas/{name}"}

    def params_schema(self, method):
        """The params of a method as one schema."""
        params = self.methods[method]["params"]
        return {"type": "object", "additionalProperties": False,
                "properties": {p["name"]: p["schema"] for p in params},
                "required": [p["name"] for p in params if p["required"]]}

    def check_params(self, method, params):
        assert method in self.methods, f"there is no method {method}"
        self.check(f"params of {method}", self.params_schema(method), params)

    def check_error(self, what, error):
        self.check(f"error of {what}", self.component("Error"), error)
        name = error["data"]["code"]
        assert error["code"] == self.errors.get(name), f"error of {what}: {error['code']} is {name}"

    def check_reply(self, method, reply):
        """A whole reply to a request of a method; None for one whose method is unknown."""
        assert set(reply) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), reply
        assert reply["jsonrpc"] == "2.0", reply
        if "error" in reply:
            self.check_error(method, reply["error"])
        else:
            assert method in self.methods, f"{method} has a result, and is no method"
            self.check(f"result of {method}", self.methods[method]["result"]["schema"],
                       reply["result"])

    def check_notification(self, message):
        assert set(message) == {"jsonrpc", "method", "params"}, message
        name = message["method"]
        assert name in self.notifications, f"there is no notification {name}"
        self.check(f"notification {name}", self.notifications[name]["params"], message["params"])


@functools.lru_cache(maxsize=None)
def protocol():
    """The schema of the programs under test."""
    done = subprocess.run([BUILD / "banger", "internal", "protocol", "--format", "json"],
                          stdout=subprocess.PIPE, check=True)
    return Schema(json.loads(done.stdout))
