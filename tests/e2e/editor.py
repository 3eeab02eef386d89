"""Opens compose.yaml of a folder in yaml-language-server, with the schema beside it, and checks what it answers."""

import json
import os
import subprocess
import sys

folder = os.path.realpath(sys.argv[1])
uri = f"file://{folder}/compose.yaml"
settings = {
    "schemas": {f"file://{folder}/conlink.schema.json": "compose.yaml"},
    "schemaStore": {"enable": False},
    "completion": True,
    "hover": True,
    "validate": True,
}
server = subprocess.Popen(
    [f"{folder}/node_modules/.bin/yaml-language-server", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
problems = None


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    server.stdin.flush()


def read():
    """The next message of the server; what it asks for is answered, and its diagnostics are kept."""
    global problems
    length = 0
    while line := server.stdout.readline().strip():
        name, value = line.decode().split(": ")
        length = int(value) if name == "Content-Length" else length
    message = json.loads(server.stdout.read(length))
    match message.get("method"):
        case "workspace/configuration":
            answer = [settings if it["section"] == "yaml" else {} for it in message["params"]["items"]]
            send({"id": message["id"], "result": answer})
        case "textDocument/publishDiagnostics":
            problems = message["params"]["diagnostics"]
        case str() if "id" in message:
            send({"id": message["id"], "result": None})
    return message


def request(method, params, ids=iter(range(1000))):
    number = next(ids)
    send({"id": number, "method": method, "params": params})
    while True:
        message = read()
        if message.get("id") == number and "method" not in message:
            return message["result"]


def at(line, column):
    return {"textDocument": {"uri": uri}, "position": {"line": line - 1, "character": column - 1}}


request("initialize", {"processId": None, "rootUri": f"file://{folder}", "capabilities": {"workspace": {"configuration": True}}})
send({"method": "initialized", "params": {}})
send({"method": "workspace/didChangeConfiguration", "params": {"settings": {"yaml": settings}}})
with open(f"{folder}/compose.yaml", encoding="utf-8") as file:
    text = file.read()
document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
while problems is None:
    read()

messages = {(it["range"]["start"]["line"] + 1, it["message"]) for it in problems}
completion = request("textDocument/completion", at(16, 12))
offered = {it["label"] for it in completion["items"]}
hover = request("textDocument/hover", at(15, 12))["contents"]["value"]
server.kill()

failed = []
for expected in [
    (6, "Property brige is not allowed."),
    (7, "expected an address with a prefix length, such as `10.0.1.1/24`"),
    (8, "expected a unicast MAC address, such as `02:00:00:00:00:01`"),
    (10, "Value is below the minimum of 68."),
    (11, "expected an IPv4 or IPv6 address without a prefix length, such as `10.0.1.1`"),
    (12, "expected `OUTER:INNER/tcp` or `OUTER:INNER/udp`, such as `8080:80/tcp`"),
    (13, 'Value is not accepted. Valid values: "conlink", "host", "local".'),
    (15, "expected the address of a host, found an unspecified, loopback, multicast or broadcast address"),
    (19, "missing property `service` or `container`"),
    (20, "expected `service` or `container`, found both"),
    (24, "Property stp is not allowed."),
]:
    if expected not in messages:
        failed.append(f"line {expected[0]} has no message {expected[1]!r}")
for line, message in messages:
    if "pattern of" in message or "OfService" in message or "schema that is not" in message:
        failed.append(f"line {line}: {message!r} is for the writer of the schema")
for name in ["nat", "netem", "netem-in", "route", "mtu"]:
    if name not in offered:
        failed.append(f"{name} is not offered in a link of a service, only {sorted(offered)}")
if "Address with a prefix length" not in hover:
    failed.append(f"the description of `ip` is {hover!r}")
for it in failed:
    print("FAIL editor:", it)
print(f"{0 if failed else 1} passed, {1 if failed else 0} failed")
sys.exit(1 if failed else 0)
