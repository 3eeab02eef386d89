"""The campaign's command line: chooses rounds by seeds, counts checks, and keeps a log of each round that failed.

Started by run.sh, in namespaces of its own.
"""

import argparse
import os
import platform
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import labs
import measure
import rounds
import world as worlds
from world import Failed, World

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / f"target/{platform.machine()}-unknown-linux-gnu/debug/conlink"


def arguments():
    parser = argparse.ArgumentParser(prog="tests/campaign/run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=200, help="number of rounds [default: 200]")
    parser.add_argument("pattern", nargs="?", default="", help="only kinds of rounds and measurements with this in their name")
    parser.add_argument("--seed", type=int, help="seed of the first round; each further one has the next number")
    parser.add_argument("--binary", type=Path, default=BINARY, help="the conlink to test [default: the debug build]")
    parser.add_argument("--slack", type=float, default=1.0, help="multiplies limits of time, for a busy machine [default: 1]")
    parser.add_argument("--logs", type=Path, default=ROOT / "target/campaign", help="folder for logs of failed rounds")
    parser.add_argument("--list", action="store_true", help="print the names of kinds of rounds and measurements")
    return parser.parse_args()


def chosen(names, pattern):
    """The rounds whose names contain the pattern; an exact name selects only that round."""
    return [pattern] if pattern in names else [it for it in names if pattern in it]


def perform(kind, function, seed, options, found):
    """Runs one round and returns it. An exception counts as a failed check."""
    folder = Path("/run/campaign") / "round"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World(str(options.binary), found, folder, seed, options.slack)
    it = rounds.Round(kind, seed, random.Random(seed), world)
    try:
        function(it)
    except Failed as error:
        it.check("the round goes on to its end", False, str(error))
    except Exception:  # pylint: disable=broad-except
        it.check("the round goes on to its end", False, traceback.format_exc())
    finally:
        it.engine_log = world.log()
        world.close()
    return it


def keep(it, options):
    """Writes the log of a failed round and returns its path."""
    path = options.logs / f"{it.name.replace('/', '-')}-{it.seed}.log"
    text = f"repeat: tests/campaign/run.sh 1 {it.name} --seed {it.seed}\n"
    text += "".join(f"note: {note}\n" for note in it.notes)
    for what, detail in it.failed:
        text += f"\nFAIL {what}\n{detail}\n"
    path.write_text(f"{text}\n--- the log of conlink\n{it.engine_log}")
    return path


def main():
    options = arguments()
    options.binary = options.binary.resolve()
    found = worlds.features()
    kinds, skipped = rounds.kinds(found)
    kinds.update(labs.KINDS)
    if options.list:
        print("\n".join([*kinds, *measure.SCENARIOS]))
        return 0
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"error: no program at {options.binary}: build it with `cargo build`, or name one with --binary")
    options.logs.mkdir(parents=True, exist_ok=True)
    names = chosen(list(kinds), options.pattern)
    scenarios = chosen(list(measure.SCENARIOS), options.pattern)
    if not names and not scenarios:
        sys.exit(f"error: no round and no measurement has `{options.pattern}` in its name (see --list)")
    for name, reason in skipped.items():
        if options.pattern in name:
            print(f"SKIP {name}: {reason}")
    seed = options.seed if options.seed is not None else int(time.time()) % 1_000_000
    done, checks, failed, by_check = 0, 0, 0, Counter()
    print(f"seed {seed}, {options.binary}", flush=True)
    for number in range(options.rounds if names else 0):
        # Each kind once before any is repeated.
        kind = names[(seed + number) % len(names)]
        begin = time.monotonic()
        it = perform(kind, kinds[kind], seed + number, options, found)
        done, checks, failed = done + 1, checks + it.checks, failed + len(it.failed)
        by_check.update(what for what, _ in it.failed)
        verdict = f"FAIL {len(it.failed)} of {it.checks}" if it.failed else f"ok {it.checks}"
        print(f"{number + 1:4} {kind} (seed {it.seed}): {verdict}, {time.monotonic() - begin:.1f} s", flush=True)
        for what, detail in it.failed:
            print(f"       {what}: {detail.strip().splitlines()[0][:200] if detail.strip() else 'no'}", flush=True)
        if it.failed:
            print(f"       see {keep(it, options)}", flush=True)
    if by_check:
        print("\nfailed checks by what they say:")
        for what, count in by_check.most_common():
            print(f"{count:5} {what}")
    missed = 0
    for name in scenarios:
        missed += not measure.perform(name, options, found)
    if scenarios:
        print(f"{len(scenarios)} measurements, {missed} missed")
    if names:
        print(f"{done} rounds, {checks} checks, {failed} failed")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
