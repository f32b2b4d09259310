"""A child process that says what Python's json makes of a message. Both ways it
speaks frames: four bytes of length, big-endian, and as many bytes.

Its views of the body:
  bytes    json.loads of the bytes, which guesses UTF-16 and UTF-32
  lenient  json.loads of repaired text, with raw control characters let through
"""
import json
import struct
import sys


class Number(str):
    """A number as it was written."""



KEEP = {"parse_int": Number, "parse_float": Number, "parse_constant": Number}

VIEWS = {
    "bytes": lambda body: json.loads(body, **KEEP),
    "lenient": lambda body: json.loads(body.decode("utf-8", "replace"), strict=False, **KEEP),
}


def tagged(value):
    if value is None:
        return {"z": True}
    if isinstance(value, Number):
        return {"n": str(value)}
    if isinstance(value, str):
        return {"s": value}
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, list):
        return {"a": [tagged(item) for item in value]}
    return {"o": [[name, tagged(member)] for name, member in value.items()]}


def see(message):
    if not isinstance(message, dict):
        return {"refused": "not an object"}
    seen = {}

    def put(name, holder, member):
        if isinstance(holder, dict) and member in holder:
            seen[name] = tagged(holder[member])

    for name in ("method", "id", "result", "error", "params"):
        put(name, message, name)
    params = message.get("params")
    for name in ("name", "uri", "arguments", "taskId"):
        put(name, params, name)
    ref = params.get("ref") if isinstance(params, dict) else None
    put("refName", ref, "name")
    put("refURI", ref, "uri")
    return seen


def answer(body):
    out = {}
    for name, view in VIEWS.items():
        try:
            out[name] = see(view(body))
        except (ValueError, RecursionError) as error:
            out[name] = {"refused": str(error)}
    return json.dumps(out).encode("ascii")


def main():
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(4)) == 4:
        reply = answer(source.read(struct.unpack(">I", head)[0]))
        sink.write(struct.pack(">I", len(reply)) + reply)
        sink.flush()


main()
