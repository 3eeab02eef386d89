#!/usr/bin/env python3
"""expect.py COMPOSE: writes what that docker-compose binary (2.40.3) answers into each line of the cases here.

A line is JSON. `split.jsonl`: a command's text. `services.jsonl`: a service, what else is in its file, the environment,
other files. `projects.jsonl`: the files of a folder, where in it compose is called, the environment. `answer` is
compose's, brought into the one form that the test brings ours into; null where it refuses. No engine is needed.
"""
import json, os, re, subprocess, sys, tempfile

COMPOSE = os.path.realpath(sys.argv[1])
HERE = os.path.dirname(os.path.realpath(__file__))
UNITS = {"h": 3600e9, "m": 60e9, "s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1}


def config(files, env, cwd="."):
    """What `config` says in a folder with these files, with the folder as /p; None where it refuses."""
    with tempfile.TemporaryDirectory() as root:
        folder = os.path.join(root, "p")
        os.makedirs(os.path.join(folder, cwd))
        for path, text in files.items():
            path = os.path.join(folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", newline="") as file:
                file.write(text)
        run = subprocess.run(
            [COMPOSE, "config", "--format", "json"], cwd=os.path.join(folder, cwd), env={"HOME": "/home/u", **env},
            capture_output=True, text=True, timeout=20)
        if run.returncode:
            return None
        return json.loads(run.stdout.replace(folder, "/p").replace("$$", "$"))


def nanoseconds(text):
    """Of a duration as Go prints it."""
    return text and round(sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", text)))


def volume(it):
    create = it.get("bind", {}).get("create_host_path", False)
    return [it["type"], it.get("source"), it["target"], it.get("read_only", False), create]


def test(words):
    return words[1:] if words[0] == "CMD" else ["/bin/sh", "-c", *words[1:]]


def of_service(it):
    health = it.get("healthcheck", {})
    off = health.get("disable") or health.get("test", ["NONE"])[0] == "NONE"
    times = [(key, default * 10**9) for key, default in
             (("interval", 30), ("timeout", 30), ("start_period", 0), ("start_interval", 5))]
    return {
        "argv": (it.get("entrypoint") or []) + (it.get("command") or []),
        "environment": {name: value for name, value in it.get("environment", {}).items() if value is not None},
        "extra_hosts": sorted(it.get("extra_hosts", [])),
        "healthcheck": None if off else [
            test(health["test"]), health.get("retries", 3),
            *(nanoseconds(health.get(key)) or default for key, default in times)],
        "replicas": it.get("scale", it.get("deploy", {}).get("replicas", 1)),
        "restart": it.get("restart", "no").replace("unless-stopped", "always"),
        "stop": nanoseconds(it.get("stop_grace_period", "10s")),
        "sysctls": it.get("sysctls", {}),
        "depends_on": sorted([name, on["condition"], on["required"]] for name, on in it.get("depends_on", {}).items()),
        "volumes": [volume(it) for it in it.get("volumes", [])],
        "names": [it.get(key) for key in ("container_name", "working_dir", "hostname", "domainname", "user")],
    }


def split(case):
    # What `config` prints of a command has its dollars doubled.
    found = config({"compose.yaml": json.dumps({"services": {"a": {"image": "x", "command": case["text"].replace("$", "$$")}}})}, {})
    return found and (found["services"]["a"]["command"] or [])


def services(case):
    document = {**case.get("more", {})}
    document["services"] = {"a": {"image": "x", **case["service"]}, **document.get("services", {})}
    found = config({"compose.yaml": json.dumps(document), **case.get("files", {})}, case.get("env", {}))
    return found and of_service(found["services"]["a"])


def projects(case):
    found = config(case["files"], case.get("env", {}), case.get("cwd", "."))
    return found and {"name": found["name"], "services": {name: it.get("environment", {}) for name, it in found["services"].items()}}


for answer in (split, services, projects):
    path = os.path.join(HERE, answer.__name__ + ".jsonl")
    with open(path) as file:
        cases = [json.loads(line) for line in file]
    with open(path, "w") as file:
        for case in cases:
            case["answer"] = answer(case)
            file.write(json.dumps(case, ensure_ascii=False) + "\n")
